"""DINOv2 ViT-S/14 (timm) with a small feature pyramid: strides 4 (fine), 14, 28 and 56.

A plain ViT has one resolution; the pyramid makes three of it, and a fine level that also sees the image itself.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jmceln_core.model.encoders.base import Levels, imagenet_statistics, normalise
from jmceln_core.model.layers import conv_block


class DinoV2ImageEncoder(nn.Module):
    """`blocks` (counted from 1) are the transformer blocks whose normed outputs feed the pyramid of width `channels`.

    Without `fine` there is no stride-4 level (c2); `fine_layers` convolutions of it see the image alone, before the
    pyramid joins them. The image side must be a multiple of 56, so that every level of the pyramid is whole.
    """

    net: Any  # timm's VisionTransformer
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        blocks: tuple[int, ...] = (8, 12),
        channels: int = 192,
        fine: bool = True,
        fine_channels: int = 32,
        fine_layers: int = 1,
    ) -> None:
        super().__init__()
        # dynamic_img_size resizes the 37 x 37 position table to the grid at hand
        self.net = timm.create_model(
            "vit_small_patch14_dinov2", pretrained=False, img_size=518, dynamic_img_size=True, num_classes=0
        )
        self.blocks = [b - 1 for b in blocks]
        width = len(blocks) * self.net.embed_dim
        self.to_c3 = nn.Conv2d(width, channels, 1)
        self.to_c4 = conv_block(channels, channels, 3, stride=2, norm="group")
        self.to_c5 = conv_block(channels, channels, 3, stride=2, norm="group")
        self.has_fine = fine
        if fine:
            self.stem = _stem(fine_channels, fine_layers)
            self.to_fine = nn.Conv2d(channels, fine_channels, 1)
            self.fine = conv_block(fine_channels, fine_channels, 3, norm="group")
        self.channels = (fine_channels, channels, channels, channels)
        imagenet_statistics(self)

    @property
    def trunk_module(self) -> nn.Module:
        return self.net

    def tuned_modules(self, blocks: int) -> list[nn.Module]:
        """The last `blocks` transformer blocks and the norm after them: what learns of an otherwise frozen network."""
        return [*self.net.blocks[len(self.net.blocks) - blocks :], self.net.norm]

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        side = image_B3SS.shape[-1]
        if side % 56 or image_B3SS.shape[-2] % 56:
            raise ValueError(f"image_size={side}: DINOv2's pyramid needs a multiple of 56, for example 448")
        return tuple(
            self.net.forward_intermediates(
                normalise(image_B3SS, self.mean, self.std), indices=self.blocks, norm=True, intermediates_only=True
            )
        )

    def levels(self, image_B3SS: Tensor, features: tuple[Tensor, ...]) -> Levels:
        c3 = self.to_c3(torch.cat(features, dim=1))
        c4 = self.to_c4(c3)
        return Levels(self._fine(image_B3SS, c3) if self.has_fine else None, c3, c4, self.to_c5(c4))

    def _fine(self, image_B3SS: Tensor, c3: Tensor) -> Tensor:
        stem = self.stem(normalise(image_B3SS, self.mean, self.std))
        coarse = F.interpolate(self.to_fine(c3), stem.shape[-2:], mode="bilinear", align_corners=False)
        return self.fine(stem + coarse)


def _stem(channels: int, layers: int) -> nn.Module:
    """From the image to stride 4: one convolution, or two of stride 2 and further ones behind them."""
    if layers == 1:
        return conv_block(3, channels, 5, stride=4, norm="group")
    return nn.Sequential(
        conv_block(3, channels // 2, 3, stride=2, norm="group"),
        conv_block(channels // 2, channels, 3, stride=2, norm="group"),
        *(conv_block(channels, channels, 3, norm="group") for _ in range(layers - 2)),
    )
