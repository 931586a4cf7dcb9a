"""Views of a picture: the letterboxed square the network sees, plain or varied in ways that keep every sentence true.

View 0 is the picture as the Segmenter would see it. Views 1, 2, ... are drawn from (picture id, view): the picture is
put, smaller, somewhere in a larger frame (a crop could cut away what a sentence speaks of; a frame cannot), brightness
and contrast change for all colours alike (colour words stay true), and every second one is mirrored (its sentences then
go through `mirror_text`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from jmceln_core.data.grounding import Picture
from jmceln_core.geometry import PAD_COLOUR, Letterbox

LARGEST_FRAME = 1.5  # longest side of the frame over the picture's longest side


@dataclass(frozen=True)
class View:
    """Where the picture goes: (left, top, right, bottom) border in picture pixels, mirrored or not, gain and gamma."""

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

    def letterbox(self, picture: Picture, size: int) -> Letterbox:
        """The letterbox of the framed picture."""
        left, top, right, bottom = self.border
        return Letterbox(picture.height + top + bottom, picture.width + left + right, size)

    def image(self, picture: Picture, rgb: np.ndarray, size: int) -> np.ndarray:
        """(H, W, 3) uint8 picture -> (size, size, 3) uint8 square."""
        left, top, right, bottom = self.border
        if self.mirrored:
            rgb = rgb[:, ::-1]
        if (self.gain, self.gamma) != (1.0, 1.0):
            table = 255 * np.clip(self.gain * (np.arange(256) / 255) ** self.gamma, 0, 1)
            rgb = cv2.LUT(np.ascontiguousarray(rgb), table.round().astype(np.uint8))
        framed = cv2.copyMakeBorder(
            np.ascontiguousarray(rgb), top, bottom, left, right, cv2.BORDER_CONSTANT, value=PAD_COLOUR
        )
        return self.letterbox(picture, size).image(framed)

    def mask(self, picture: Picture, mask: np.ndarray, size: int) -> np.ndarray:
        """(H, W) bool mask -> (size, size) bool, in step with `image`."""
        left, top, right, bottom = self.border
        if self.mirrored:
            mask = mask[:, ::-1]
        return self.letterbox(picture, size).mask(np.pad(mask, ((top, bottom), (left, right))))
