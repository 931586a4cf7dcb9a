"""The one way of the project from a picture of any size into the network's square, and of every answer back.

Coordinates follow OpenCV and ROS: x (u) to the right, y (v) down, and the integer (u, v) is the *centre* of a pixel.
A box is (x, y, w, h) on pixel *edges*: pixel i covers [i, i + 1), so a box around columns 3 and 4 is x = 3, w = 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

# About the mean colour of photographs (ImageNet's): the padding is near zero once an encoder has normalised it.
PAD_COLOUR = (124, 116, 104)

# How a picture fills the square: padded, its aspect kept, or stretched over all of it, as the paper does it.
Resize = Literal["letterbox", "squash"]

# Rows unwarped at a time: the temporaries of a block stay in the processor's cache, however large the picture.
_BLOCK_ROWS = 64


@dataclass(frozen=True)
class Letterbox:
    """Keeps the aspect ratio: the longer side fills the square of `size` pixels, the shorter one is centred.

    The shorter side is rounded half up to whole pixels and never below one (a 1 x 5000 picture keeps one row). The
    padding is whole pixels as well; an odd pixel of it goes to the right or the bottom. Because of the rounding, the
    shorter axis may be scaled by slightly more or less than `scale`; points, boxes and maps use each axis's exact
    factor, so that they agree with the resized pixels.

    With `resize` "squash" the picture is stretched over the whole square instead: no padding, and an axis of its own
    scale each. All else is the same.

    Raises ValueError if height, width or size is not a positive whole number.
    """

    height: int
    width: int
    size: int
    resize: Resize = "letterbox"

    def __post_init__(self) -> None:
        for name in ("height", "width", "size"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"Letterbox {name} must be a positive whole number of pixels, not {value!r}")

    @property
    def scale(self) -> float:
        """Pixels of the square per picture pixel, along the longer side."""
        return self.size / max(self.height, self.width)

    @cached_property
    def content(self) -> tuple[int, int]:
        """(width, height) of the picture inside the square, in pixels of the square."""
        if self.resize == "squash":
            return self.size, self.size
        longer = max(self.height, self.width)
        width, height = (max(1, (2 * side * self.size + longer) // (2 * longer)) for side in (self.width, self.height))
        return width, height

    @cached_property
    def pad(self) -> tuple[int, int]:
        """(left, top) padding in pixels of the square."""
        width, height = self.content
        return (self.size - width) // 2, (self.size - height) // 2

    @cached_property
    def _factors(self) -> np.ndarray:
        return np.array([self.content[0] / self.width, self.content[1] / self.height])

    def image(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (size, size, 3) uint8, padded with PAD_COLOUR. Area averages shrink, bilinear enlarges."""
        if rgb.shape != (self.height, self.width, 3) or rgb.dtype != np.uint8:
            raise ValueError(
                f"expected a ({self.height}, {self.width}, 3) uint8 picture, not {rgb.shape} {rgb.dtype}: "
                "make a Letterbox for this picture's own size"
            )
        content = self._resized(rgb, cv2.INTER_LINEAR)
        (left, top), (width, height) = self.pad, self.content
        right, bottom = self.size - left - width, self.size - top - height
        return cv2.copyMakeBorder(content, top, bottom, left, right, cv2.BORDER_CONSTANT, value=PAD_COLOUR)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """(H, W) bool -> (size, size) bool; the padding is false.

        When shrinking, a pixel is true if more than half of its area was; something much thinner than a pixel of the
        square can vanish. When enlarging, it is the nearest pixel's value.
        """
        if mask.shape != (self.height, self.width):
            raise ValueError(
                f"expected a ({self.height}, {self.width}) mask, not {mask.shape}: "
                "make a Letterbox for this picture's own size"
            )
        share = self._resized(mask.astype(np.float32), cv2.INTER_NEAREST_EXACT)
        square = np.zeros((self.size, self.size), bool)
        square[self._window] = share.reshape(self.content[::-1]) > 0.5
        return square

    def unwarp(self, square: np.ndarray) -> np.ndarray:
        """(h, w) map that covers the whole square, at any resolution -> (H, W) float32 at the picture's own size.

        Bilinear, sampled at the exact place of every picture pixel. Map pixels that lie in the padding alone are never
        mixed in: at the picture's border the outermost map pixel touching the picture is repeated.
        """
        if square.ndim != 2 or 0 in square.shape:
            raise ValueError(f"expected a (h, w) map of the whole square, not shape {square.shape}")
        values = np.asarray(square, np.float32)
        top, bottom, y = self._samples(axis=1, resolution=values.shape[0])
        left, right, x = self._samples(axis=0, resolution=values.shape[1])
        picture = np.empty((self.height, self.width), np.float32)
        for start in range(0, self.height, _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            weight = y[block, None]
            rows = values[top[block]] * (1 - weight) + values[bottom[block]] * weight
            target = picture[block]
            np.multiply(rows.take(left, axis=1), 1 - x, out=target)
            target += rows.take(right, axis=1) * x
        return picture

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) pixel centres in the picture -> (N, 2) float64 in the square."""
        return (np.asarray(xy, np.float64) + 0.5) * self._factors + self.pad - 0.5

    def points_back(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) pixel centres in the square -> (N, 2) float64 in the picture; not clipped to it."""
        return (np.asarray(xy, np.float64) + 0.5 - self.pad) / self._factors - 0.5

    def box(self, xywh: np.ndarray) -> np.ndarray:
        """(..., 4) boxes (x, y, w, h) in the picture -> (..., 4) float64 in the square."""
        xywh = np.asarray(xywh, np.float64)
        return np.concatenate([xywh[..., :2] * self._factors + self.pad, xywh[..., 2:] * self._factors], axis=-1)

    def box_back(self, xywh: np.ndarray) -> np.ndarray:
        """(..., 4) boxes (x, y, w, h) in the square -> (..., 4) float64 in the picture; not clipped to it."""
        xywh = np.asarray(xywh, np.float64)
        return np.concatenate([(xywh[..., :2] - self.pad) / self._factors, xywh[..., 2:] / self._factors], axis=-1)

    def _resized(self, pixels: np.ndarray, enlarge: int) -> np.ndarray:
        """The picture at the size of `content`: what shrinks by area averages, then what grows by the method given."""
        pixels = np.ascontiguousarray(pixels)
        least = min(self.content[0], self.width), min(self.content[1], self.height)
        if least != (self.width, self.height):
            pixels = cv2.resize(pixels, least, interpolation=cv2.INTER_AREA)
        return pixels if least == self.content else cv2.resize(pixels, self.content, interpolation=enlarge)

    @property
    def _window(self) -> tuple[slice, slice]:
        (left, top), (width, height) = self.pad, self.content
        return slice(top, top + height), slice(left, left + width)

    def _samples(self, axis: int, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every picture pixel along an axis (0 = x, 1 = y): its two map pixels, and the weight of the second."""
        pixels = (self.width, self.height)[axis]
        pad, content = self.pad[axis], self.content[axis]
        first = pad * resolution // self.size
        last = -(-(pad + content) * resolution // self.size) - 1  # ceil: the last map pixel that touches the picture
        place = ((np.arange(pixels) + 0.5) * (content / pixels) + pad) * (resolution / self.size) - 0.5
        place = place.clip(first, last)
        before = np.floor(place).astype(np.intp)
        return before, np.minimum(before + 1, last), (place - before).astype(np.float32)
