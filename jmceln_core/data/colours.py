"""Colour words measured in pixels: the basic colour terms of English, named only where there is no doubt.

Berlin and Kay's eleven basic terms, as regions of CIE L*C*h (D65) with gaps between them: a pixel in a gap has no name.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

NAMES = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
UNNAMED = 255  # a pixel between two colours

# (name, lightness from, to, chroma from, to, hue in degrees from, to); lightness 0..100, first match wins.
_REGIONS = (
    ("black", 0, 20, 0, 12, 0, 360),
    ("black", 0, 12, 0, 30, 0, 360),
    ("white", 78, 100, 0, 10, 0, 360),
    ("white", 88, 100, 0, 14, 0, 360),
    ("gray", 34, 68, 0, 7, 0, 360),
    ("red", 20, 60, 36, 200, 8, 44),
    ("orange", 54, 85, 46, 200, 48, 76),
    ("yellow", 68, 100, 38, 200, 82, 108),
    ("green", 18, 95, 18, 200, 116, 178),
    ("blue", 15, 85, 20, 200, 232, 300),
    ("purple", 12, 65, 20, 200, 306, 340),
    ("pink", 58, 92, 18, 200, 340, 376),
    ("pink", 45, 80, 40, 200, 340, 365),
    ("brown", 16, 48, 14, 46, 40, 80),
)
_BITS = 5  # per channel of the look-up table


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """(2^15,) uint8: the index into NAMES of every colour at 5 bits a channel."""
    steps = (np.arange(1 << _BITS, dtype=np.float32) + 0.5) / (1 << _BITS)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(1, -1, 3)
    lightness, a, b = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0].T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    table = np.full(lightness.size, UNNAMED, np.uint8)
    for name, l0, l1, c0, c1, h0, h1 in reversed(_REGIONS):
        turn = ((hue >= h0) & (hue <= h1)) | ((hue + 360 >= h0) & (hue + 360 <= h1))
        table[(lightness >= l0) & (lightness <= l1) & (chroma >= c0) & (chroma <= c1) & turn] = NAMES.index(name)
    return table


def name_pixels(rgb: np.ndarray) -> np.ndarray:
    """The colour of each pixel: rgb (..., 3) uint8 -> (...) uint8, an index into NAMES or UNNAMED."""
    coded = (rgb >> (8 - _BITS)).astype(np.uint16)
    return _table()[(coded[..., 0] << 2 * _BITS) | (coded[..., 1] << _BITS) | coded[..., 2]]


def shares(named: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(11,) float: the share of the mask's pixels that has each colour of NAMES; zeros for an empty mask.

    `named` (H, W) comes from `name_pixels`, `mask` (H, W) is bool. The rest to one is unnamed.
    """
    inside = named[mask]
    counts = np.bincount(inside[inside != UNNAMED], minlength=len(NAMES))
    return counts / max(inside.size, 1)
