"""LSRAN, the Long-Short Relation-Aware Network (section 3.3, Fig. 2b)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jmceln_core.model.layers import Norm, conv_block


class WindowAttention(nn.Module):
    """Multi-head self-attention inside non-overlapping square windows, with a learned bias for every relative offset
    (Liu et al., 2021), and a residual: (B, C, H, W) -> (B, C, H, W).

    A map whose side is no multiple of the window is padded at the right and the bottom; padded positions are no keys.
    """

    offset: Tensor  # (window^2, window^2): which entry of a head's bias belongs to a query and a key

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        offset = place[:, :, None] - place[:, None, :] + window - 1  # (2, w*w, w*w), each in [0, 2w - 2]
        self.register_buffer("offset", offset[0] * (2 * window - 1) + offset[1], persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        b, _, h, w = x_BCHW.shape
        side = self.window
        pad_h, pad_w = -h % side, -w % side
        rows, columns = (h + pad_h) // side, (w + pad_w) // side

        def windows(x: Tensor) -> Tensor:  # (B, c, H, W) -> (B * rows * columns, side * side, c)
            x = F.pad(x, (0, pad_w, 0, pad_h)).unflatten(2, (rows, side)).unflatten(4, (columns, side))
            return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)

        q, k, v = self.to_qkv(windows(x_BCHW)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.bias[:, self.offset].to(q.dtype)[None]  # (1, heads, side * side, side * side)
        if pad_h or pad_w:
            real = windows(x_BCHW.new_ones(1, 1, h, w)).squeeze(-1) > 0  # (rows * columns, side * side)
            bias = bias.masked_fill(~real[:, None, None], float("-inf")).repeat(b, 1, 1, 1)
        out = F.scaled_dot_product_attention(q, k, v, bias)
        out = self.to_out(out.transpose(1, 2).flatten(2))
        out = out.unflatten(0, (b, rows, columns)).unflatten(3, (side, side))
        return x_BCHW + out.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)[:, :, :h, :w]


class LSRAN(nn.Module):
    """F_mt = Mix1x1([Conv(3, d1), ..., Conv(3, d4)](WindowAttention(F_m))) * Conv3x3(F_m).

    Window attention gathers what belongs together (short relations), the dilated branches, C / 4 wide each, relate
    what is apart (long relations), the last factor brings the boundaries back. (B, C, H, W) -> (B, C, H, W).

    Not in the paper's text: window, dilations, widths, and that every branch, the mix and the boundary factor end in
    norm and LeakyReLU.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        window: int = 13,
        dilations: tuple[int, ...] = (1, 6, 12, 18),
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.attention = WindowAttention(channels, heads, window)
        self.branches = nn.ModuleList(conv_block(channels, channels // 4, 3, dilation=d, norm=norm) for d in dilations)
        self.mix = conv_block(len(dilations) * (channels // 4), channels, 1, norm=norm)
        self.boundary = conv_block(channels, channels, 3, norm=norm)

    def forward(self, memory_BCHW: Tensor) -> Tensor:
        x = self.attention(memory_BCHW)
        relations = self.mix(torch.cat([branch(x) for branch in self.branches], dim=1))
        return relations * self.boundary(memory_BCHW)
