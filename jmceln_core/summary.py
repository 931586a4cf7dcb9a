"""How large a network is, and how much it computes:

    python -m jmceln_core.summary --model paper image_size=320 lsran=false

prints for every part its parameters, how many of them learn, and its multiply-accumulates (MACs): those that run once
per image and those that run for every sentence about it. `--json` prints one JSON object with the same numbers.

A MAC is one multiplication and the addition of its product in a convolution or matrix product, the two products inside
attention included (PyTorch's FlopCounterMode, which counts each as two operations). Norms, activations, softmax,
interpolation and element-wise products are not counted. The sentence is as long as the text encoder's `tokens`: shorter
ones cost less where the encoder does not pad. No weights are loaded and nothing but the text encoder is computed: the
rest runs on shapes alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from jmceln_core import markdown
from jmceln_core.config import ConfigError, ModelConfig, load_model_config
from jmceln_core.model import TextFeatures, build_model

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A part of a network, for one image and one sentence."""

    name: str
    parameters: int
    learning: int  # of the parameters, those that are trained
    macs_per_image: int  # once per image, however many sentences there are about it
    macs_per_sentence: int


def summarise(config: ModelConfig) -> list[Part]:
    """The parts of a network in the order in which they run; `total` adds them up."""
    with torch.device("meta"):
        model = build_model(config).eval()
    stages = [f"stages.{i}" for i in range(len(model.stages))]
    colours = [] if model.colour_path is None else ["colour_path"]
    modules = ["image_encoder", "text_encoder", "neck", *colours, "lsran", *stages, "head"]
    sizes = {name: _size(list(model.get_submodule(name).parameters())) for name in modules}
    whole = _size(list(model.parameters()))
    sizes["others"] = tuple(a - sum(some) for a, *some in zip(whole, *sizes.values(), strict=True))

    model.requires_grad_(False)
    image, per_image = count(model, model.encode_image, _picture(config), parts=modules)
    per_image["image_encoder"] += per_image.pop("")  # what its methods compute outside any layer
    # Text encoders look at the values of their masks, so theirs must be real.
    encoder: Any = _materialise(model.text_encoder)  # type: ignore[arg-type]
    tokens_1L, mask_1L = encoder.tokenize(["a " * config.text_encoder.tokens])
    text, per_text = count(encoder, encoder.encode, tokens_1L, mask_1L)
    text = TextFeatures(*(x.to("meta") for x in (text.words, text.sentence, text.mask)))
    _, per_sentence = count(model, model.decode, image, text, parts=modules)
    per_sentence["text_encoder"] += per_text[""]
    per_sentence["others"] = per_sentence.pop("")
    names = {"lsran": "LSRAN", **{stage: f"stage {i + 1}" for i, stage in enumerate(stages)}}
    return [
        Part(names.get(name, name.replace("_", " ")), *size, per_image.get(name, 0), per_sentence.get(name, 0))
        for name, size in sizes.items()
    ]


def total(parts: Sequence[Part]) -> Part:
    """The sum of all parts."""
    columns = zip(*(list(asdict(part).values())[1:] for part in parts), strict=True)
    return Part("total", *map(sum, columns))


def count(
    model: nn.Module, function: Callable[..., T], *inputs: Any, parts: Sequence[str] = ()
) -> tuple[T, dict[str, int]]:
    """What `function(*inputs)`, a method of `model`, returns, and the MACs of each submodule named in `parts`.

    "" has those of none of them. No gradients are counted: the parameters must not ask for any.
    """
    # PyTorch's fused attention on a CPU is unknown to the counter; the plain one is two matrix products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = _Method(model)(function, *inputs)
    flops = {name: sum(of_name.values()) for name, of_name in counter.get_flop_counts().items()}
    root = f"{_Method.__name__}.model"
    macs = {part: _outermost(flops, f"{root}.{part}") // 2 for part in parts}
    macs[""] = flops.get("Global", 0) // 2 - sum(macs.values())
    return result, macs


class _Method(nn.Module):
    """Calls a model's method as a module's forward, which makes the counter know every layer by its full name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., T], *inputs: Any) -> T:
        return function(*inputs)


def _outermost(flops: dict[str, int], module: str) -> int:
    """The sum over a module or, if it was not called itself, over those inside it that were, each counted once."""
    inside = [name for name in flops if f"{name}.".startswith(f"{module}.")]
    return sum(flops[a] for a in inside if not any(a != b and a.startswith(f"{b}.") for b in inside))


def _size(parameters: Sequence[nn.Parameter]) -> tuple[int, int]:
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _picture(config: ModelConfig) -> torch.Tensor:
    return torch.zeros(1, 3, config.image_size, config.image_size, device="meta")


def _materialise(module: nn.Module) -> nn.Module:
    """A module of the meta device on the CPU, all zeros."""
    module.to_empty(device="cpu")
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        tensor.zero_()
    return module


def as_table(parts: Sequence[Part]) -> str:
    """A Markdown table: millions of parameters and of MACs."""
    rows = []
    for part in [*parts, total(parts)]:
        name, parameters, learning, *macs = asdict(part).values()
        sizes = [f"{value / 1e6:,.3f}" for value in (parameters, learning)]
        rows.append((name, *sizes, *(f"{value / 1e6:,.1f}" for value in macs)))
    header = ("part", "parameters (M)", "that learn (M)", "MACs per image (M)", "MACs per sentence (M)")
    return "\n".join(markdown.table(header, rows, align="lrrrr"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.summary", description="Parameters and multiply-accumulates of a network, by part."
    )
    parser.add_argument("--model", default="bundled", help="a preset (paper, base, bundled) or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="for example lsran=false image_size=320")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_intermixed_args(arguments)
    try:
        config = load_model_config(args.model, args.overrides)
        parts = summarise(config)
    except (ConfigError, ValueError) as error:
        print(f"summary: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"model": config.name, "parts": [asdict(p) for p in parts], "total": asdict(total(parts))}))
    else:
        side, tokens = config.image_size, config.text_encoder.tokens
        print(f"{config.name}: one image of {side} x {side}, one sentence of {tokens} tokens\n\n{as_table(parts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
