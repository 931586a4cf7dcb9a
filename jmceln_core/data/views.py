"""Views of a picture: the letterboxed square the network sees, plain or varied in ways that keep every sentence true.

Two families. `View.draw` numbers the views whose features are cached: view 0 is the picture as the Segmenter would see
it; views 1, 2, ... are drawn from (picture id, view): the picture is put, smaller, somewhere in a larger frame (a crop
could cut away what a sentence speaks of; a frame cannot), brightness and contrast change for all colours alike (colour
words stay true), and every second one is mirrored (its sentences then go through `mirror_text`).

`View.random` draws a view anew each time, for encoders that run in every step: a crop or a frame, brightness and
contrast. A crop cuts no annotated thing, and crop and frame leave each on its side of the middle, so that "the mug on
the left" stays on the left; that something stays in a corner, or in the very middle, is not promised. There is no blur:
people do say "the blurry one".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from jmceln_core.data.grounding import Instance, Picture
from jmceln_core.geometry import PAD_COLOUR, Letterbox, Resize

LARGEST_FRAME = 1.5  # longest side of the frame over the picture's longest side
SMALLEST_CROP = 0.5  # of each side, what a crop keeps at least


@dataclass(frozen=True)
class View:
    """Where the picture goes: (left, top, right, bottom) border in picture pixels (negative: so much is cut away),
    mirrored or not, gain and gamma."""

    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    mirrored: bool = False
    gain: float = 1.0
    gamma: float = 1.0

    @staticmethod
    def draw(picture: Picture, index: int) -> View:
        """The `index`-th view of a picture; 0 is the plain one."""
        if index == 0:
            return View()
        rng = np.random.default_rng([picture.id, index])
        longest = max(picture.height, picture.width)
        spare = longest * (rng.uniform(1.0, LARGEST_FRAME) - 1)
        # the frame need not be square: the letterbox pads the rest
        across, down = (round(spare * rng.uniform(0.3, 1.0)) for _ in range(2))
        left, top = round(across * rng.uniform()), round(down * rng.uniform())
        return View(
            (left, top, across - left, down - top), index % 2 == 1, rng.uniform(0.75, 1.2), rng.uniform(0.8, 1.25)
        )

    @staticmethod
    def random(picture: Picture, rng: np.random.Generator, *, crop: float, photometric: float) -> View:
        """A view drawn anew, not mirrored: with probability `crop` a crop or, as likely, a frame; with probability
        `photometric` another brightness and contrast, alike for all colours.

        A crop keeps at least half of each side and all of every annotated instance, crowd regions included. A picture
        that is not annotated completely is framed only: a crop could cut away what a sentence speaks of.
        """
        border = (0, 0, 0, 0)
        if rng.random() < crop:
            cut = rng.random() < 0.5 and picture.complete
            (left, right), (top, bottom) = (_margins(picture, axis, rng, cut=cut) for axis in (0, 1))
            border = (-left, -top, -right, -bottom) if cut else (left, top, right, bottom)
        gain, gamma = 1.0, 1.0
        if rng.random() < photometric:
            gain, gamma = rng.uniform(0.75, 1.2), rng.uniform(0.8, 1.25)
        return View(border, False, gain, gamma)

    def letterbox(self, picture: Picture, size: int, resize: Resize = "letterbox") -> Letterbox:
        """The way of the cropped or framed picture into the square."""
        left, top, right, bottom = self.border
        return Letterbox(picture.height + top + bottom, picture.width + left + right, size, resize)

    def image(self, picture: Picture, rgb: np.ndarray, size: int, resize: Resize = "letterbox") -> np.ndarray:
        """(H, W, 3) uint8 picture -> (size, size, 3) uint8 square."""
        rgb = self._cut(rgb)
        if (self.gain, self.gamma) != (1.0, 1.0):
            table = 255 * np.clip(self.gain * (np.arange(256) / 255) ** self.gamma, 0, 1)
            rgb = cv2.LUT(np.ascontiguousarray(rgb), table.round().astype(np.uint8))
        if any(self._padding):
            left, top, right, bottom = self._padding
            rgb = cv2.copyMakeBorder(
                np.ascontiguousarray(rgb), top, bottom, left, right, cv2.BORDER_CONSTANT, value=PAD_COLOUR
            )
        return self.letterbox(picture, size, resize).image(rgb)

    def mask(self, picture: Picture, mask: np.ndarray, size: int, resize: Resize = "letterbox") -> np.ndarray:
        """(H, W) bool mask -> (size, size) bool, in step with `image`."""
        mask = self._cut(mask)
        if any(self._padding):
            left, top, right, bottom = self._padding
            mask = np.pad(mask, ((top, bottom), (left, right)))
        return self.letterbox(picture, size, resize).mask(mask)

    @property
    def _padding(self) -> tuple[int, ...]:
        return tuple(max(0, b) for b in self.border)

    def _cut(self, pixels: np.ndarray) -> np.ndarray:
        """Mirrored, without what is cut away."""
        if self.mirrored:
            pixels = pixels[:, ::-1]
        left, top, right, bottom = (max(0, -b) for b in self.border)
        height, width = pixels.shape[:2]
        return pixels[top : height - bottom, left : width - right]


def _margins(picture: Picture, axis: int, rng: np.random.Generator, *, cut: bool) -> tuple[int, int]:
    """How much to cut away (or to add) before and after the picture along an axis, 0 for x and 1 for y."""
    side = (picture.width, picture.height)[axis]
    edges = [extent(i, picture.height, picture.width) for i in picture.instances]
    spans = [(e[axis], e[axis + 2]) for e in edges]
    if cut:
        room = min((a for a, _ in spans), default=side), min((side - b for _, b in spans), default=side)
        most = side - math.ceil(SMALLEST_CROP * side)
        before, after = (int(rng.integers(free + 1)) for free in room)
        if before + after > most:
            before = before * most // (before + after)
            after = min(after, most - before)
        # what is cut after moves the middle towards the start, as what is added before does
        after, before = _balanced(after, before, side, spans)
    else:
        spare = (LARGEST_FRAME - 1) * max(picture.height, picture.width) * rng.uniform()
        before, after = (int(spare / 2 * rng.uniform()) for _ in range(2))
        before, after = _balanced(before, after, side, spans)
    return before, after


def _balanced(back: int, forth: int, side: int, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Two margins, the first of which moves the middle towards the start and the second towards the end, the larger one
    made smaller until no span's centre has come to the other side of the middle."""
    twice = [a + b - side for a, b in spans]  # twice the centre's distance from the middle
    forth = min(forth, back + min((d for d in twice if d >= 0), default=side))
    back = min(back, forth + min((-d for d in twice if d <= 0), default=side))
    return back, forth


def extent(instance: Instance, height: int, width: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) edges, whole pixels inside the picture, that hold the instance's box and outline."""
    x, y, w, h = instance.box
    boxes = [(x, y, x + w, y + h)]
    outline = instance.segmentation
    if isinstance(outline, list):
        for polygon in outline:
            xs, ys = polygon[0::2], polygon[1::2]
            boxes.append((min(xs), min(ys), max(xs), max(ys)))
    elif outline:
        rle = outline if not isinstance(outline["counts"], list) else coco_mask.frPyObjects(outline, height, width)
        x, y, w, h = coco_mask.toBbox(rle)
        boxes.append((x, y, x + w, y + h))
    left, top, right, bottom = np.array(boxes).T
    # a pixel more: rasterising a polygon rounds
    return (
        max(0, math.floor(left.min()) - 1),
        max(0, math.floor(top.min()) - 1),
        min(width, math.ceil(right.max()) + 1),
        min(height, math.ceil(bottom.max()) + 1),
    )
