"""Heads: the mask at full size (section 3.5), a stage's coarse mask, presence and predicted IoU."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jmceln_core.model.layers import Norm, conv_block


class MaskHead(nn.Module):
    """Progressive upsampling to two classes (background, target): (N, C, H, W) -> (N, 2, 8H, 8W) with three steps.

    Each step is a 3x3 convolution, norm, LeakyReLU and x2 bilinear upsampling; a 1x1 convolution ends it. The paper
    gives neither the steps nor their widths.

    With `fine_channels` (beyond the paper) the last step reads a fine level of the image as well, added after a 1x1
    convolution, and the output has that level's size.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], *, fine_channels: int | None = None, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(conv_block(a, b, 3, norm=norm) for a, b in pairwise((in_channels, *widths)))
        before_last = (in_channels, *widths)[-2]
        self.fine = nn.Conv2d(fine_channels, before_last, 1) if fine_channels else None
        self.classify = nn.Conv2d(widths[-1], 2, 1)

    def forward(self, x_NCHW: Tensor, fine_BCHW: Tensor | None = None) -> Tensor:
        """`fine_BCHW` is (B, c, h, w) with B dividing N, sentences of an image together."""
        *first, last = self.steps
        for step in first:
            x_NCHW = _up(step(x_NCHW))
        if self.fine is None:
            return self.classify(_up(last(x_NCHW)))
        if fine_BCHW is None:
            raise ValueError("this head reads a fine level: give it fine_BCHW")
        fine = self.fine(fine_BCHW)
        if x_NCHW.shape[-2:] != fine.shape[-2:]:
            x_NCHW = F.interpolate(x_NCHW, fine.shape[-2:], mode="bilinear", align_corners=False)
        x_NCHW = (x_NCHW.unflatten(0, (fine.shape[0], -1)) + fine[:, None]).flatten(0, 1)
        return self.classify(last(F.leaky_relu(x_NCHW, 0.01)))


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class CoarseMask(nn.Module):
    """A stage's coarse mask (beyond the paper): the mean query, projected, against every position of F_mt, projected.

    forward: queries (N, Q, C), pixels (B, C, H, W) or (N, C, H, W) from `pixels` -> logits (N, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels))
        self.pixel = nn.Conv2d(channels, channels, 1)
        self.bias = nn.Parameter(torch.tensor([-2.0]))  # few pixels belong to a target; FSDP takes no scalars

    def pixels(self, x_BCHW: Tensor) -> Tensor:
        """What the queries are compared with; the same for all sentences of an image if F_mt is."""
        return self.pixel(x_BCHW)

    def forward(self, queries_NQC: Tensor, pixels_BCHW: Tensor) -> Tensor:
        b, c, h, w = pixels_BCHW.shape
        query = self.query(queries_NQC.mean(1)).reshape(b, -1, c)  # (B, S, C)
        logits = query @ pixels_BCHW.flatten(2) * c**-0.5
        return logits.reshape(-1, h, w) + self.bias


class QueryHead(nn.Module):
    """One logit from the mean query (N, Q, C) -> (N,): presence, or predicted IoU (both beyond the paper)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, 1)
        )

    def forward(self, queries_NQC: Tensor) -> Tensor:
        return self.net(queries_NQC.mean(1)).squeeze(-1)
