"""Colour words measured in pixels: the basic colour terms of English, named only where there is no doubt.

Berlin and Kay's eleven basic terms, as regions of CIE L*C*h (D65) with gaps between them: a pixel in a gap has no name.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

NAMES = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
UNNAMED = 255  # a pixel between two colours

CHROMATIC = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
TRACE = {c: 0.06 if c in CHROMATIC else 0.12 for c in NAMES}  # of the pixels: what has less of a colour has none of it
BASIC = {"grey": "gray", "light blue": "blue", "dark blue": "blue"}  # other words of annotations for basic terms

# (name, lightness from, to, chroma from, to, hue in degrees from, to); lightness 0..100, first match wins.
_REGIONS = (
    ("black", 0, 20, 0, 12, 0, 360),
    ("black", 0, 12, 0, 30, 0, 360),
    ("white", 78, 100, 0, 10, 0, 360),
    ("white", 88, 100, 0, 14, 0, 360),
    ("gray", 34, 68, 0, 7, 0, 360),
    ("red", 18, 60, 32, 200, 6, 44),
    ("orange", 54, 85, 46, 200, 48, 76),
    ("yellow", 68, 100, 38, 200, 82, 108),
    ("green", 18, 95, 16, 200, 114, 180),
    ("blue", 15, 85, 21, 200, 235, 300),
    ("blue", 12, 60, 58, 200, 290, 312),
    ("purple", 12, 65, 20, 200, 306, 340),
    ("pink", 58, 92, 18, 200, 340, 376),
    ("pink", 45, 80, 40, 200, 340, 365),
    ("brown", 16, 48, 14, 46, 40, 80),
)
# How much further a colour's region reaches for a generous eye: in lightness, chroma (grays), chroma (a factor), hue.
_SLACK = (14, 7, 0.45, 16)
_BITS = 5  # per channel of the look-up tables


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For every colour at 5 bits a channel: (2^15,) uint8 the index into NAMES of its name or UNNAMED, and (2^15,)
    uint16 the bits of all names a generous eye might give it."""
    steps = (np.arange(1 << _BITS, dtype=np.float32) + 0.5) / (1 << _BITS)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(1, -1, 3)
    lightness, a, b = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0].T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360

    def region(l0: float, l1: float, c0: float, c1: float, h0: float, h1: float) -> np.ndarray:
        turn = ((hue >= h0) & (hue <= h1)) | ((hue + 360 >= h0) & (hue + 360 <= h1))
        return (lightness >= l0) & (lightness <= l1) & (chroma >= c0) & (chroma <= c1) & turn

    strict = np.full(lightness.size, UNNAMED, np.uint8)
    loose = np.zeros(lightness.size, np.uint16)
    light, gray, factor, turn = _SLACK
    for name, l0, l1, c0, c1, h0, h1 in reversed(_REGIONS):
        k = NAMES.index(name)
        strict[region(l0, l1, c0, c1, h0, h1)] = k
        wide = region(l0 - light, l1 + light, factor * c0, c1 + gray, h0 - turn, h1 + turn)
        loose |= wide.astype(np.uint16) << np.uint16(k)
    return strict, loose


def _codes(rgb: np.ndarray) -> np.ndarray:
    coded = (rgb >> (8 - _BITS)).astype(np.uint16)
    return (coded[..., 0] << 2 * _BITS) | (coded[..., 1] << _BITS) | coded[..., 2]


def name_pixels(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The colours of each pixel of rgb (..., 3) uint8.

    Returns the sure name, (...) uint8 index into NAMES or UNNAMED, and (...) uint16 with bit k set where NAMES[k] is
    possible at all.
    """
    strict, loose = _tables()
    codes = _codes(rgb)
    return strict[codes], loose[codes]


def by_word(shares: np.ndarray) -> dict[str, float]:
    """(11,) shares of each colour, by its word."""
    return dict(zip(NAMES, shares.tolist(), strict=True))


def shares(named: np.ndarray) -> np.ndarray:
    """(11,) float: the share of some pixels that surely has each colour; from the first output of `name_pixels`."""
    counts = np.bincount(named[named != UNNAMED], minlength=len(NAMES))
    return counts / max(named.size, 1)


def possible_shares(possible: np.ndarray) -> np.ndarray:
    """(11,) float: the share that might have each colour (they overlap); from the second output of `name_pixels`."""
    bits = (possible.reshape(-1, 1) >> np.arange(len(NAMES), dtype=np.uint16)) & 1
    return bits.sum(0) / max(possible.size, 1)
