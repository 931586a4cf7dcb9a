"""A network with every part and no knowledge, small enough to be made in a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from jmceln_core import checkpoint
from jmceln_core.config import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from jmceln_core.model import build_model

TINY = ModelConfig(
    name="tiny",
    image_size=64,
    image_encoder=ImageEncoderConfig(name="tiny", channels=16),
    text_encoder=TextEncoderConfig(name="tiny", tokens=12),
    channels=16,
    stages=2,
    queries=4,
    heads=2,
    window=4,
    head_channels=(8, 8, 8),
)
TINIER = replace(TINY, image_size=32, stages=1, queries=3, presence_head=True)


def write(path: Path, config: ModelConfig = TINY, *, seed: int = 0) -> Path:
    """Saves such a network with random weights; returns the path."""
    torch.manual_seed(seed)
    return checkpoint.save(path, build_model(config).state_dict(), config)
