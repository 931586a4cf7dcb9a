"""Encoders by name. CLIP, timm and transformers are imported only when their encoder is built."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from torch import nn

from jmceln_core.config import ConfigError, ImageEncoderConfig, TextEncoderConfig
from jmceln_core.extras import require
from jmceln_core.model.encoders.base import ImageEncoder, Levels, TextEncoder, TextFeatures, load_weights

__all__ = [
    "SIDES",
    "ImageEncoder",
    "Levels",
    "TextEncoder",
    "TextFeatures",
    "build_image_encoder",
    "build_text_encoder",
]

# What an image's side must be a multiple of, so that every level is whole.
SIDES = {"clip_rn101": 32, "dinov2_vits14": 56, "tiny_vit_5m": 32}


def build_image_encoder(config: ImageEncoderConfig, *, pretrained: bool | str, fine: bool = True) -> ImageEncoder:
    """The image encoder `config.name`; `pretrained` loads its published or bundled weights, or a file's.

    Without `fine` an encoder that needs layers of their own for the fine level c2 leaves them out.
    """
    encoder: nn.Module
    if config.name == "clip_rn101":
        require("train", "open_clip")
        from jmceln_core.model.encoders.clip import ClipImageEncoder

        encoder = ClipImageEncoder(pretrained=pretrained, c5=config.c5)
    elif config.name == "dinov2_vits14":
        from jmceln_core.model.encoders.dinov2 import DinoV2ImageEncoder

        encoder = DinoV2ImageEncoder(
            blocks=config.blocks,
            channels=config.channels,
            fine=fine,
            fine_channels=config.fine_channels,
            fine_layers=config.fine_layers,
        )
        if pretrained:
            _load(encoder.net, config.name, pretrained)
    elif config.name == "tiny_vit_5m":
        from jmceln_core.model.encoders.tiny_vit import TinyViTImageEncoder

        encoder = TinyViTImageEncoder()
        if pretrained:
            _load(encoder.net, config.name, pretrained)
    elif config.name == "tiny":
        from jmceln_core.model.encoders.tiny import TinyImageEncoder

        encoder = TinyImageEncoder(channels=config.channels)
    else:
        raise ConfigError(f"image_encoder.name={config.name!r}: no such encoder")
    return cast(ImageEncoder, encoder)


def build_text_encoder(config: TextEncoderConfig, *, pretrained: bool | str) -> TextEncoder:
    """The text encoder `config.name`; `pretrained` loads its published or bundled weights, or a file's."""
    encoder: nn.Module
    if config.name == "clip_rn101":
        require("train", "open_clip")
        from jmceln_core.model.encoders.clip import ClipTextEncoder

        encoder = ClipTextEncoder(pretrained=pretrained, tokens=config.tokens)
    elif config.name in ("minilm_l6", "minilm_l2"):
        from jmceln_core.model.encoders.minilm import MiniLMTextEncoder

        encoder = MiniLMTextEncoder(tokens=config.tokens, layers=int(config.name[-1]))
        if pretrained:
            _load(encoder.net, config.name, pretrained)
    elif config.name == "tiny":
        from jmceln_core.model.encoders.tiny import TinyTextEncoder

        encoder = TinyTextEncoder(tokens=config.tokens)
    else:
        raise ConfigError(f"text_encoder.name={config.name!r}: no such encoder")
    return cast(TextEncoder, encoder)


def _load(net: nn.Module, name: str, file: bool | str) -> None:
    """The weights that come with the package (True), or those of a safetensors file."""
    from jmceln_core.checkpoint import CheckpointError, load_tensors
    from jmceln_core.config import resource

    path = Path(file) if isinstance(file, str) else resource(f"weights/{name}.safetensors")
    try:
        load_weights(net, load_tensors(path), path)
    except CheckpointError as error:
        raise ConfigError(f"pretrained: {error}") from None
