"""The neck: one sentence vector and three image levels become the multi-modal map F_m (Eq. 1 and 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jmceln_core.model.layers import Norm, conv_block, repeat


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
        self.sentence: nn.Sequential | None = None
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

    def project(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """s(F_vi W_vi) of Eq. 1 and 2, i = 1, 2, 3: what no sentence changes. (B, c, h, w) -> (B, C, h, w) each."""
        return self.v1(c3), self.v2(c4), self.v3(c5)

    def fuse(self, projected: tuple[Tensor, Tensor, Tensor], sentence_NC: Tensor | None = None) -> Tensor:
        """The rest of Eq. 1 and 2 -> F_m (N, C, H, W) at c3's resolution.

        `projected` is of B images, B dividing N, the sentences of an image together; without sentences N is B.
        """
        if (sentence_NC is None) != (self.sentence is None):
            raise ValueError("this neck " + ("takes no sentence" if self.sentence is None else "needs a sentence"))
        v1, v2, fused = projected
        if self.sentence is not None and sentence_NC is not None:
            count = sentence_NC.shape[0]
            if count == 1 and self.training and isinstance(self.sentence[1], nn.BatchNorm1d):
                raise ValueError("batch norm cannot train on one sentence: take two or more a step, or norm=group")
            v1, v2 = repeat(v1, count), repeat(v2, count)
            fused = repeat(fused, count) * self.sentence(sentence_NC)[:, :, None, None]
        for image, mix in ((v2, self.m2), (v1, self.m1)):
            # to the next level's own size: x2, also where a level has an odd side
            up = F.interpolate(fused, image.shape[-2:], mode="bilinear", align_corners=False)
            fused = mix(torch.cat([up, image], dim=1))
        return fused

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor, sentence_NC: Tensor | None = None) -> Tensor:
        """Levels (B, c, h, w) and sentences (N, sentence_channels) -> F_m (N, C, H, W)."""
        return self.fuse(self.project(c3, c4, c5), sentence_NC)
