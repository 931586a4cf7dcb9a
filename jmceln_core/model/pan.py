"""PAN, the Progressive Alignment Network (section 3.4.2, Fig. 2c): the previous output gates the current one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from jmceln_core.model.layers import GroupNorm
from jmceln_core.model.switch_norm import SwitchNorm

Gates = Literal["product", "bounded"]

GAIN = 0.2  # of a bounded PAN's SwitchNorm at first
LIVE = 0.05  # the spatial standard deviation from which on a channel counts as live


class PAN(nn.Module):
    """Three gates, each wider than the one before.

    F' is projected to C/4 + C/2 + C channels by a 1x1 convolution, filtered by a 7x7 depthwise one and split into F1,
    F2, F3. The previous output, projected to C/4, gates F1; a 3x3 convolution of that gates F2; a 3x3 convolution of
    that gates F3; SwitchNorm; plus the previous output. `projection` adds a 1x1 convolution after SwitchNorm (HorNet
    has one; the paper does not).

    gates="product" is the paper's: a gate is the convolution's output itself. Nothing bounds a product of three, and
    training lets a few channels grow by orders of magnitude: they overflow fp16 and leave the other channels nothing
    of SwitchNorm's variance. gates="bounded" (beyond the paper) keeps every factor near 1:

    - F1, F2, F3 are normalised, in groups of C/4 channels (one, two and four, so that none is of two filters). The
      scale of the convolutions before them is without effect then, so that no gradient makes them grow.
    - A gate is 2 sigmoid(.): 1 at 0, so that a fresh PAN lets F' pass as it is, and between 0 and 2 however large the
      convolution's output is; even an infinite one in fp16 is no more than an open or a shut gate.
    - SwitchNorm mixes the logarithms of variances and starts with GAIN, so that a network trained without this PAN
      goes on from nearly what it was.
    """

    def __init__(self, channels: int, *, projection: bool = False, gates: Gates = "product") -> None:
        super().__init__()
        self.widths = (channels // 4, channels // 2, channels)
        total = sum(self.widths)
        self.bounded = gates == "bounded"
        self.project = nn.Conv2d(channels, total, 1)
        self.depthwise = nn.Conv2d(total, total, 7, padding=3, groups=total)
        self.filter_norm = GroupNorm(7, total) if self.bounded else nn.Identity()
        self.gate1 = nn.Conv2d(channels, self.widths[0], 1)
        self.gate2 = nn.Conv2d(self.widths[0], self.widths[1], 3, padding=1)
        self.gate3 = nn.Conv2d(self.widths[1], self.widths[2], 3, padding=1)
        self.norm = SwitchNorm(channels, mix="log", gain=GAIN) if self.bounded else SwitchNorm(channels)
        self.out = nn.Conv2d(channels, channels, 1) if projection else nn.Identity()

    def forward(self, current_BCHW: Tensor, previous_BCHW: Tensor) -> Tensor:
        """F' of Eq. 4 and the previous stage's output, (B, C, H, W) each -> this stage's output (B, C, H, W)."""
        filters = self.filter_norm(self.depthwise(self.project(current_BCHW))).split(self.widths, dim=1)
        x = previous_BCHW
        for gate, filtered in zip((self.gate1, self.gate2, self.gate3), filters, strict=True):
            x = (2 * gate(x).sigmoid() if self.bounded else gate(x)) * filtered
        return self.out(self.norm(x)) + previous_BCHW


class LiveChannels:
    """How many of the channels that a network's PANs add are live.

    `with LiveChannels(model) as live:` watches the PANs' SwitchNorms; `live.add()` counts the prediction made last, and
    `live_share(live.sums)` is the result.
    """

    def __init__(self, model: nn.Module) -> None:
        self.pans = [module for module in model.modules() if isinstance(module, PAN)]
        channels = self.pans[0].widths[-1] if self.pans else 0
        # (P, C + 1), of P PANs: each channel's spatial standard deviation, added up over samples; how many samples
        self.sums = torch.zeros(len(self.pans), channels + 1, dtype=torch.float64)
        self._outputs: dict[nn.Module, Tensor] = {}

    def __enter__(self) -> LiveChannels:
        self._hooks = [pan.norm.register_forward_hook(self._keep) for pan in self.pans]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, norm: nn.Module, _: object, output: Tensor) -> None:
        self._outputs[norm] = output.detach()

    def add(self) -> None:
        """Count the last prediction's samples."""
        for sums, pan in zip(self.sums, self.pans, strict=True):
            x = self._outputs[pan.norm].float()
            deviation_NC = (x - x.mean((2, 3), keepdim=True)).square().mean((2, 3)).sqrt()
            sums[:-1] += deviation_NC.double().sum(0).cpu()
            sums[-1] += len(x)


def live_share(sums: Tensor) -> float:
    """From `LiveChannels.sums`, or the sum of several processes': the share of channels whose spatial standard
    deviation is LIVE or more in the mean over samples, and the mean of that over the PANs. A channel that is not live
    adds the same value everywhere."""
    return float((sums[:, :-1] / sums[:, -1:] >= LIVE).double().mean())
