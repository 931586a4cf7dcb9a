"""The neck: one sentence vector and three image levels become the multi-modal map F_m (Eq. 1 and 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jmceln_core.model.layers import Norm, conv_block


class Neck(nn.Module):
    """Top-down fusion.

    Eq. 1: F_m2 = s(F_s W_s) * s(F_v3 W_v3), the sentence repeated over all positions.
    Eq. 2: F_m(i-1) = s(W_mi [Up(F_mi), s(F_vi W_vi)]), i = 2, 1, with Up bilinear x2.
    s is the norm with LeakyReLU. Kernels: 1 for W_v3, 3 for the others (not in the paper).

    `in_channels` are those of c3, c4, c5. Without `sentence_channels` the map is the image's alone (fusion: queries):
    the sentence's factor in Eq. 1 is left out.
    """

    def __init__(
        self,
        in_channels: tuple[int, int, int],
        channels: int,
        *,
        sentence_channels: int | None = None,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        c3, c4, c5 = in_channels
        self.sentence: nn.Module | None = None
        if sentence_channels is not None:
            self.sentence = nn.Sequential(
                nn.Linear(sentence_channels, channels, bias=False),
                # a vector has no positions to normalise over: layer norm where the maps have group norm
                nn.BatchNorm1d(channels) if norm == "batch" else nn.LayerNorm(channels),
                nn.LeakyReLU(0.01),
            )
        self.v3 = conv_block(c5, channels, 1, norm=norm)
        self.v2 = conv_block(c4, channels, 3, norm=norm)
        self.v1 = conv_block(c3, channels, 3, norm=norm)
        # W_m2 and W_m1 of Eq. 2
        self.m2 = conv_block(2 * channels, channels, 3, norm=norm)
        self.m1 = conv_block(2 * channels, channels, 3, norm=norm)

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor, sentence_BC: Tensor | None = None) -> Tensor:
        """Levels (B, c, h, w) and sentences (B, sentence_channels) -> F_m (B, C, H, W) at c3's resolution."""
        if (sentence_BC is None) != (self.sentence is None):
            raise ValueError("this neck " + ("takes no sentence" if self.sentence is None else "needs a sentence"))
        fused = self.v3(c5)
        if self.sentence is not None:
            fused = fused * self.sentence(sentence_BC)[:, :, None, None]
        for image, mix in ((self.v2(c4), self.m2), (self.v1(c3), self.m1)):
            # to the next level's own size: x2, also where a level has an odd side
            up = F.interpolate(fused, image.shape[-2:], mode="bilinear", align_corners=False)
            fused = mix(torch.cat([up, image], dim=1))
        return fused
