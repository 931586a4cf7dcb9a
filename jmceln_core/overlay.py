"""An answer drawn into its picture: tint, outline, anchor, and a line with the sentence, the status and the score."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from jmceln_core.answer import Segmentation

#: RGB by status name: green may be acted upon, amber is a guess, grey is nothing.
_COLOURS = {
    "FOUND": (0, 200, 83),
    "LOW_CONFIDENCE": (255, 179, 0),
    "AMBIGUOUS": (255, 111, 0),
    "NOT_PRESENT": (158, 158, 158),
}
_TRUTH = (255, 0, 170)  # magenta: on none of the above, and rare in photographs
_TINT = 0.4  # share of the colour in the masked pixels
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(
    rgb: np.ndarray, segmentation: Segmentation, text: str | None, *, truth: np.ndarray | None = None
) -> np.ndarray:
    """A copy of the (H, W, 3) uint8 RGB picture with the segmentation's mask (H, W) and `text` drawn into it.

    Of several instances each has its anchor and its number, from 1; a single one has the answer's anchor.
    `text` None leaves out the title; `truth`, the (H, W) bool true mask where it is known, is outlined in magenta. Line
    widths and letters scale with the picture. Letters beyond ASCII lose their accents or become question marks:
    OpenCV's fonts have no others. Raises ValueError if a mask and the picture differ in size.
    """
    height, width = rgb.shape[:2]
    mask = segmentation.mask
    for what in (mask, truth):
        if what is not None and what.shape != (height, width):
            raise ValueError(
                f"mask is {what.shape[1]}x{what.shape[0]}, the picture {width}x{height}; they must be the same"
            )
    picture = np.array(rgb[..., :3], order="C")
    colour = _COLOURS[segmentation.status.name]
    unit = max(1, round(min(height, width) / 240))  # 2 at 640x480
    if mask.any():
        shade(picture, mask, colour, unit)
    if truth is not None:
        outline(picture, truth, _TRUTH, unit)
    if len(segmentation.instances) > 1:
        for number, instance in enumerate(segmentation.instances, start=1):
            point = _dot(picture, instance.anchor, colour, unit)
            place = (point[0] + 5 * unit, point[1] + 3 * unit)
            cv2.putText(picture, str(number), place, FONT, 0.35 * unit, (255, 255, 255), unit, cv2.LINE_AA)
    elif segmentation.anchor is not None:
        _dot(picture, segmentation.anchor, colour, unit)
    if text is not None:
        title(picture, f"{text}: {segmentation.status.value} {segmentation.score:.2f}", unit)
    return picture


def _dot(picture: np.ndarray, place: tuple[float, float], colour: tuple[int, int, int], unit: int) -> tuple[int, int]:
    """Marks a place, and returns its pixel."""
    point = (round(place[0]), round(place[1]))
    cv2.circle(picture, point, 4 * unit, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(picture, point, 3 * unit, colour, -1, cv2.LINE_AA)
    return point


def shade(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], unit: int) -> None:
    """Tints the pixels of a (H, W) bool mask in the (H, W, 3) uint8 picture, and outlines them."""
    picture[mask] = np.rint((1 - _TINT) * picture[mask] + _TINT * np.array(colour)).astype(np.uint8)
    outline(picture, mask, colour, unit)


def outline(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], unit: int) -> None:
    """Draws the outline of a (H, W) bool mask into the picture, `unit` pixels wide."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, unit, cv2.LINE_AA)


def title(picture: np.ndarray, text: str, unit: int) -> None:
    """White letters on a darkened bar along the top edge; a long line is made smaller, then cut at the edge."""
    letters = plain(text)
    scale = 0.32 * unit
    (wide, _), _ = cv2.getTextSize(letters, FONT, scale, max(1, unit // 2))
    scale *= max(0.5, min(1.0, (picture.shape[1] - 8 * unit) / wide))
    (_, tall), below = cv2.getTextSize(letters, FONT, scale, max(1, unit // 2))
    bar = picture[: tall + below + 6 * unit]
    bar[:] = bar // 3
    origin = (4 * unit, tall + 3 * unit)
    cv2.putText(picture, letters, origin, FONT, scale, (255, 255, 255), max(1, unit // 2), cv2.LINE_AA)


def plain(text: str) -> str:
    """What OpenCV's fonts can write of a text: letters beyond ASCII lose their accents or become question marks."""
    letters = unicodedata.normalize("NFKD", text)
    letters = "".join(c for c in letters if not unicodedata.combining(c))
    return letters.encode("ascii", "replace").decode()
