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


class ColourTerm(nn.Module):
    """What the sentence says about colour, as a term of the mask's logit (beyond the paper).

    A deep encoder's features know what a thing is better than which colour it has. Here the picture's own colours meet
    the sentence: agreement c = v . g(colours) / sqrt(D) + v0, with v and v0 from the words (weighed by attention) and
    the mean final query, and g a small network on every pixel alone. The logit gets a c + b c', where c' is the mean of
    c over the `REACH` pixels around, weighed by the mask's probability (the thing's colour, not the pixel's); the
    presence logit gets d times the mean of c over the whole mask. At first c is 0 everywhere.
    """

    REACH = 15  # side of the square of c', in pixels of the mask
    SCALES = (1, 5)  # sides of the squares whose mean colours g sees

    def __init__(self, channels: int, word_channels: int, *, width: int = 32) -> None:
        super().__init__()
        self.colours = nn.Sequential(nn.Conv2d(3 * len(self.SCALES), 64, 1), nn.GELU(), nn.Conv2d(64, width, 1))
        self.words = nn.LayerNorm(word_channels)
        self.attend = nn.Linear(word_channels, 1)
        self.value = nn.Linear(word_channels, width + 1)
        self.query = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width + 1))
        self.weight = nn.Parameter(torch.tensor([0.5, 0.5, 0.5]))  # a, b, d
        for layer in (self.value, self.query[1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @classmethod
    def pooled(cls, image_B3SS: Tensor, size: tuple[int, int]) -> Tensor:
        """RGB in [0, 1] -> mean colours (B, 3 * len(SCALES), h, w) in [-1, 1], at a mask's size."""
        small = 2 * F.adaptive_avg_pool2d(image_B3SS, size) - 1
        return torch.cat([_mean_around(small, side) for side in cls.SCALES], dim=1)

    def forward(
        self, colours_BKhw: Tensor, words_NLC: Tensor, mask_NL: Tensor, queries_NQC: Tensor, logit_Nhw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`colours` from `pooled`, the encoder's words, the final queries and the mask's logit without this term ->
        the logit with it (N, h, w), and what the presence logit gets (N,). N is a multiple of B."""
        words = self.words(words_NLC)
        share = self.attend(words)[..., 0].masked_fill(~mask_NL, float("-inf")).softmax(-1)
        wanted = torch.einsum("nl,nlc->nc", share, self.value(words)) + self.query(queries_NQC.mean(1))
        wanted, offset = wanted[:, :-1] * (wanted.shape[-1] - 1) ** -0.5, wanted[:, -1, None, None]
        shown = self.colours(colours_BKhw)
        agreement = (
            torch.einsum("bsd,bdhw->bshw", wanted.unflatten(0, (shown.shape[0], -1)), shown).flatten(0, 1) + offset
        )
        p = logit_Nhw.detach().sigmoid()
        near = _mean_around((p * agreement)[:, None], self.REACH) / _mean_around(p[:, None], self.REACH).clamp_min(1e-4)
        whole = (p * agreement).sum((1, 2)) / p.sum((1, 2)).clamp_min(1e-4)
        a, b, d = self.weight
        return logit_Nhw + a * agreement + b * near[:, 0], d * whole


def _mean_around(x_BCHW: Tensor, side: int) -> Tensor:
    """The mean over a square of `side` pixels around each, of those inside the map."""
    return x_BCHW if side == 1 else F.avg_pool2d(x_BCHW, side, stride=1, padding=side // 2, count_include_pad=False)
