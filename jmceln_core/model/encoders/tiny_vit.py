"""TinyViT-5M (timm; Wu et al., ECCV 2022): four stages that are a pyramid already, at strides 4, 8, 16 and 32."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from jmceln_core.model.encoders.base import Levels, imagenet_statistics, normalise


class TinyViTImageEncoder(nn.Module):
    """C2 to C5 are the outputs of the four stages; nothing is added to them. The image side is a multiple of 32.

    Batch norms are folded into the convolutions before them: the network is used as it was published, and is not
    meant to learn along.
    """

    net: Any  # timm's TinyVit
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=0)
        self.net.head = nn.Identity()
        fold_norms(self.net)
        self.channels = (64, 128, 160, 320)
        imagenet_statistics(self)

    @property
    def trunk_module(self) -> nn.Module:
        return self.net

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        side = image_B3SS.shape[-1]
        if side % 32 or image_B3SS.shape[-2] % 32:
            raise ValueError(f"image_size={side}: TinyViT's levels need a multiple of 32, for example 320")
        return tuple(
            self.net.forward_intermediates(normalise(image_B3SS, self.mean, self.std), intermediates_only=True)
        )

    def levels(self, image_B3SS: Tensor, features: tuple[Tensor, ...]) -> Levels:
        return Levels(*features)


def fold_norms(module: nn.Module) -> None:
    """Replace every convolution with a batch norm behind it (timm's ConvNorm) by the one convolution that does both."""
    for name, child in module.named_children():
        fuse: Any = getattr(child, "fuse", None)
        if fuse is not None:
            setattr(module, name, fuse())
        else:
            fold_norms(child)
