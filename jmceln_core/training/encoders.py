"""Write the bundled frozen encoders: `python -m jmceln_core.training.encoders PRETRAINED --out config/weights`.

PRETRAINED holds `dinov2_vits14.safetensors` (timm's names) and `all-MiniLM-L6-v2/model.safetensors` (transformers'
names). Both are stored as int8 rows; training caches its features from what was stored, so that what a checkpoint
learned on and what it runs on are the same numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file

from jmceln_core.checkpoint import save_tensors
from jmceln_core.config import ImageEncoderConfig, TextEncoderConfig
from jmceln_core.model.encoders import build_image_encoder, build_text_encoder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="store the bundled model's frozen encoders")
    parser.add_argument("pretrained", type=Path)
    parser.add_argument("--out", type=Path, default=Path("config/weights"))
    arguments = parser.parse_args()
    image = build_image_encoder(ImageEncoderConfig(name="dinov2_vits14"), pretrained=False).trunk_module
    text = build_text_encoder(TextEncoderConfig(name="minilm_l6"), pretrained=False).trunk_module
    sources = (("dinov2_vits14", "dinov2_vits14", image), ("all-MiniLM-L6-v2/model", "minilm_l6", text))
    for source, name, module in sources:
        wanted = module.state_dict()
        state = {k: v for k, v in load_file(arguments.pretrained / f"{source}.safetensors").items() if k in wanted}
        module.load_state_dict(state)  # a missing key or a wrong shape is an error here, not in use
        path = arguments.out / f"{name}.safetensors"
        save_tensors(path, state, storage="int8")
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
