"""Small layers shared by the parts of the network."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group"]


class GroupNorm(nn.GroupNorm):
    """Group norm in the input's own number format, also under autocast, which would return float32 and double the
    traffic of all that follows; the kernels take the statistics in float32 as it is."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == self.weight.dtype:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
            return F.group_norm(input, self.num_groups, weight, bias, self.eps)


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """Batch norm, or group norm with 8 groups (fewer where 8 does not divide the channels)."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)


def conv_block(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, norm: Norm = "batch"
) -> nn.Sequential:
    """Convolution, norm, LeakyReLU (the paper's sigma around a convolution); size kept at stride 1."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            dilation=dilation,
            padding=dilation * (kernel // 2),
            bias=False,
        ),
        norm_layer(norm, out_channels),
        nn.LeakyReLU(0.01, inplace=True),
    )


class MultiHeadAttention(nn.Module):
    """softmax(q k^T / sqrt(d_k)) v with `heads` heads and projections (Vaswani et al., 2017).

    forward: query (B, Lq, C), key (B, Lk, Ck), value (B, Lk, Ck), optional mask (B, Lk) bool, true where a key counts
    -> (B, Lq, C). No residual.
    """

    def __init__(self, channels: int, heads: int, *, key_channels: int | None = None) -> None:
        super().__init__()
        key_channels = key_channels or channels
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(key_channels, channels)
        self.to_v = nn.Linear(key_channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        def split(x_BLC: Tensor) -> Tensor:
            return x_BLC.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.to_q(query)), split(self.to_k(key)), split(self.to_v(value))
        out = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])
        return self.to_out(out.transpose(1, 2).flatten(2))


def repeat(x: Tensor, count: int) -> Tensor:
    """(B, ...) -> (count, ...): each entry count / B times in a row, as the sentences of an image stand."""
    return x if x.shape[0] == count else torch.repeat_interleave(x, count // x.shape[0], dim=0)


def sine_positions(height: int, width: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """(channels, H, W) sine-cosine positions over the unit square: a quarter of the channels each for sin and cos of y
    and of x, wavelengths from twice the square's side to 1/16 of it. `channels` must be divisible by 4."""
    count = channels // 4
    frequency = 2 * torch.pi * 32 ** (torch.arange(count, device=device) / max(count - 1, 1)) / 2
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    angle_y = (frequency[:, None] * y)[:, :, None].expand(-1, -1, width)
    angle_x = (frequency[:, None] * x)[:, None, :].expand(-1, height, -1)
    return torch.cat([angle_y.sin(), angle_y.cos(), angle_x.sin(), angle_x.cos()])
