"""PAN, the Progressive Alignment Network (section 3.4.2, Fig. 2c): the previous output gates the current one."""

from __future__ import annotations

from torch import Tensor, nn

from jmceln_core.model.switch_norm import SwitchNorm


class PAN(nn.Module):
    """Three gates, each wider than the one before.

    F' is projected to C/4 + C/2 + C channels by a 1x1 convolution, filtered by a 7x7 depthwise one and split into F1,
    F2, F3. The previous output, projected to C/4, gates F1; a 3x3 convolution of that gates F2; a 3x3 convolution of
    that gates F3; SwitchNorm; plus the previous output. `projection` adds a 1x1 convolution after SwitchNorm (HorNet
    has one; the paper does not).
    """

    def __init__(self, channels: int, *, projection: bool = False) -> None:
        super().__init__()
        self.widths = (channels // 4, channels // 2, channels)
        total = sum(self.widths)
        self.project = nn.Conv2d(channels, total, 1)
        self.depthwise = nn.Conv2d(total, total, 7, padding=3, groups=total)
        self.gate1 = nn.Conv2d(channels, self.widths[0], 1)
        self.gate2 = nn.Conv2d(self.widths[0], self.widths[1], 3, padding=1)
        self.gate3 = nn.Conv2d(self.widths[1], self.widths[2], 3, padding=1)
        self.norm = SwitchNorm(channels)
        self.out = nn.Conv2d(channels, channels, 1) if projection else nn.Identity()

    def forward(self, current_BCHW: Tensor, previous_BCHW: Tensor) -> Tensor:
        """F' of Eq. 4 and the previous stage's output, (B, C, H, W) each -> this stage's output (B, C, H, W)."""
        f1, f2, f3 = self.depthwise(self.project(current_BCHW)).split(self.widths, dim=1)
        x = self.gate1(previous_BCHW) * f1
        x = self.gate2(x) * f2
        x = self.gate3(x) * f3
        return self.out(self.norm(x)) + previous_BCHW
