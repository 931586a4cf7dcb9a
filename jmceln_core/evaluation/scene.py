"""A picture as its masks are compared: at its own size, in the network's square, or squashed to another."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from jmceln_core.data.grounding import Instance, Picture
from jmceln_core.evaluation import metrics
from jmceln_core.evaluation.protocol import SQUASHED, Size
from jmceln_core.geometry import Letterbox, Resize
from jmceln_core.segmenter import Segmenter


class Region:
    """A (H, W) bool mask and, made when first asked for, its boundary."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    @cached_property
    def boundary(self) -> np.ndarray:
        """(H, W) bool, `metrics.boundary` of the mask."""
        return metrics.boundary(self.mask)


class Truth(NamedTuple):
    """What a sentence means in a scene."""

    region: Region  # empty if it means nothing
    area: int  # in pixels of the picture's own size, however the masks are compared


class Scene:
    """A picture of H x W pixels for an evaluation in a square of `side` pixels (None: at the picture's own size).

    Into the square it goes by `resize`, as the network's: a Segmenter that is given the square, as `pixels` makes it,
    sees what it would have seen of the picture, and the answer stays in the square. Or it is `squashed`: then the
    Segmenter gets the picture, and its answer is squashed (`warp`).
    """

    def __init__(
        self, picture: Picture, side: int | None = None, resize: Resize = "letterbox", *, squashed: bool = False
    ) -> None:
        self.picture = picture
        self._letterbox = self._square = None
        if side is not None and squashed:
            self._square = side, side
        elif side is not None:
            self._letterbox = Letterbox(picture.height, picture.width, side, resize)
        self._truths: dict[tuple[int, ...], Truth] = {}

    def pixels(self) -> np.ndarray:
        """(H, W, 3) or (side, side, 3) uint8 RGB, for the Segmenter. Raises DataError for a picture that cannot be
        read."""
        rgb = self.picture.load()
        return self._letterbox.image(rgb) if self._letterbox else rgb

    def warp(self, answered: np.ndarray) -> np.ndarray:
        """What is given about `pixels`, a (H, W) float32 map or the pixels themselves, as it is compared."""
        return cv2.resize(answered, self._square, interpolation=cv2.INTER_LINEAR) if self._square else answered

    def place(self, mask: np.ndarray) -> np.ndarray:
        """A (H, W) bool mask of the picture as it is compared; squashed: the pixel nearest to each centre."""
        if self._square:
            return cv2.resize(mask.view(np.uint8), self._square, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
        return self._letterbox.mask(mask) if self._letterbox else mask

    @cached_property
    def things(self) -> list[tuple[Instance, np.ndarray]]:
        """The picture's instances, crowd regions left out, each with its mask as it is compared; made once."""
        height, width = self.picture.height, self.picture.width
        return [(i, self.place(i.mask(height, width))) for i in self.picture.instances if not i.crowd]

    def truth(self, targets: tuple[int, ...]) -> Truth:
        """The union of the masks of the instances with these ids; made once."""
        if targets not in self._truths:
            height, width = self.picture.height, self.picture.width
            mask = np.zeros((height, width), bool)
            for target in targets:
                mask |= self.picture.instance(target).mask(height, width)
            self._truths[targets] = Truth(Region(self.place(mask)), int(np.count_nonzero(mask)))
        return self._truths[targets]


def side_of(segmenter: Segmenter | None, size: Size) -> int | None:
    """The `side` of scenes for a comparison at that size. Raises ValueError for input size without a network."""
    if size != "input":
        return SQUASHED if size == "squashed" else None
    if segmenter is None:
        raise ValueError("size 'input' is that of a network's square: it needs a checkpoint; use 'original'")
    return segmenter.config.image_size
