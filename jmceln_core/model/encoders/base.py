"""What an image encoder and a text encoder must offer: two small protocols.

Shapes: B images, N sentences, S image side, L tokens, H W feature height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from jmceln_core.config import ConfigError


class Levels(NamedTuple):
    """Feature levels of an image: (B, channels, h, w) each. c4 has half of c3's resolution, c5 a quarter.

    c3 is where the network reasons (stride 8 with CLIP, 14 with DINOv2); c2 is the fine level for the head's skip.
    """

    c2: Tensor | None
    c3: Tensor
    c4: Tensor
    c5: Tensor


@dataclass(frozen=True)
class TextFeatures:
    """Encoded sentences: words (N, L, Ct), sentence (N, Cs), mask (N, L) bool, true at real tokens and special ones."""

    words: Tensor
    sentence: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.words.shape[0]

    def select(self, indices: Tensor | slice) -> TextFeatures:
        """The sentences at these positions, in this order."""
        return TextFeatures(self.words[indices], self.sentence[indices], self.mask[indices])

    def to(self, device: torch.device) -> TextFeatures:
        """The same on another device."""
        return TextFeatures(self.words.to(device), self.sentence.to(device), self.mask.to(device))

    @staticmethod
    def stack(features: list[TextFeatures]) -> TextFeatures:
        """All sentences of several batches, in order; shorter batches are padded to the longest L."""
        length = max(f.words.shape[1] for f in features)

        def pad(x: Tensor) -> Tensor:
            return torch.cat([x, x.new_zeros(x.shape[0], length - x.shape[1], *x.shape[2:])], dim=1)

        return TextFeatures(
            torch.cat([pad(f.words) for f in features]),
            torch.cat([f.sentence for f in features]),
            torch.cat([pad(f.mask) for f in features]),
        )


@runtime_checkable
class ImageEncoder(Protocol):
    """`levels(image, trunk(image))` is the encoder; a frozen encoder's cached features are those of `trunk`."""

    channels: tuple[int, int, int, int]  # of c2, c3, c4, c5
    trunk_module: nn.Module  # what `frozen` freezes

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the pretrained part; the image is RGB in [0, 1]."""

    def levels(self, image_B3SS: Tensor, features: tuple[Tensor, ...]) -> Levels:
        """The learned pyramid on top of `trunk`'s features."""


@runtime_checkable
class TextEncoder(Protocol):
    """Tokenises and encodes sentences."""

    channels: int  # Ct
    sentence_channels: int  # width of `sentence`; may differ from Ct
    trunk_module: nn.Module  # what `frozen` freezes

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids (N, L) int64 and their mask (N, L) bool; too long sentences are cut before their end token."""

    def encode(self, tokens_NL: Tensor, mask_NL: Tensor) -> TextFeatures:
        """Features of tokenised sentences."""


def load_weights(net: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy a file's tensors into a network. Raises ConfigError naming the file and a key that does not fit."""
    own = net.state_dict()
    problems = [f"{key} is missing" for key in own if key not in tensors]
    problems += [f"{key} is unknown" for key in tensors if key not in own]
    problems += [f"{k} has another shape" for k, v in own.items() if k in tensors and tensors[k].shape != v.shape]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise ConfigError(f"pretrained: {path}: not the weights of this encoder: {problems[0]}{more}")
    net.load_state_dict(tensors)


def imagenet_statistics(module: nn.Module) -> None:
    """Register ImageNet's mean and deviation of RGB in [0, 1], (3,) each, as the module's `mean` and `std`."""
    module.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)), persistent=False)
    module.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)), persistent=False)


def normalise(image_B3SS: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract a (3,) mean and divide by a (3,) deviation."""
    return (image_B3SS - mean[:, None, None]) / std[:, None, None]
