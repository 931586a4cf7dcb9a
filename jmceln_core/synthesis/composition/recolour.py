"""Things in another colour: what is left of the old one is its light and shade."""

from __future__ import annotations

import cv2
import numpy as np

from jmceln_core.synthesis import colours

# Hue in degrees, saturation and value in [0, 1] of a colour word's typical shade.
SHADES: dict[str, tuple[float, float, float]] = {
    "black": (0, 0.08, 0.10), "white": (40, 0.04, 0.93), "gray": (210, 0.03, 0.50), "red": (357, 0.85, 0.72),
    "orange": (27, 0.92, 0.93), "yellow": (52, 0.85, 0.95), "green": (128, 0.68, 0.55), "blue": (219, 0.78, 0.72),
    "purple": (283, 0.58, 0.55), "pink": (336, 0.42, 0.95), "brown": (21, 0.62, 0.38),
}  # fmt: skip
_SPREAD = 0.3  # so much of the pixels' own differences in hue is kept
_CONTRAST = 0.75  # and of their contrast in value, as an exponent
SURE = 0.5  # share of the pixels that must have the colour's name for the word to be certain


def dyed(rgb: np.ndarray, mask: np.ndarray, colour: str, rng: np.random.Generator) -> np.ndarray:
    """The pixels of `rgb` (h, w, 3) uint8 brought to a shade of the colour, around the median of those in `mask`
    (h, w) bool. The whole picture is changed: paste it by the mask."""
    hue, saturation, value = SHADES[colour]
    lively = colour in colours.CHROMATIC or colour == "brown"
    h, s, v = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL).astype(np.float32) / np.float32(255))
    inside = mask if mask.any() else np.ones_like(mask)
    angle = 2 * np.pi * h[inside]
    weight = s[inside] * v[inside]
    middle = np.arctan2((weight * np.sin(angle)).sum(), (weight * np.cos(angle)).sum()) / (2 * np.pi)
    off = (h - middle + 0.5) % 1 - 0.5
    hue = (hue + rng.uniform(-5, 5)) / 360 + _SPREAD * np.clip(off, -0.05, 0.05)
    usual = float(np.median(v[inside])) + 1e-3
    level = (value * rng.uniform(0.92, 1.08)) * np.clip(v / usual, 0.15, 2.2) ** _CONTRAST
    # a highlight is white on everything: what was far brighter than the rest and pale stays pale
    glint = np.clip((v / usual - 1.3) * 2, 0, 1) * np.clip(1 - 3 * s, 0, 1) if lively else np.zeros_like(v)
    depth = saturation * rng.uniform(0.9, 1.05) * (1 - 0.8 * glint)
    made = cv2.merge([hue % 1, np.clip(depth, 0, 1).astype(np.float32) + 0 * v, np.clip(level, 0, 1)])
    return cv2.cvtColor((made * 255 + 0.5).astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)


def colour_facts(rgb: np.ndarray, mask: np.ndarray, known: str | None) -> dict[str, bool]:
    """Which colour words are surely true or false of what `mask` (H, W) bool shows of a picture (H, W, 3) uint8.

    `known` is the colour it was given, or has by its annotation: true if at least SURE of the pixels may be called so.
    A word that hardly any pixel could be called by is false; all others are in doubt, and left out.
    """
    _, possible = colours.name_pixels(rgb[mask])
    shares = colours.by_word(colours.possible_shares(possible))
    found = {c: False for c, share in shares.items() if share < colours.TRACE[c]}
    if known in shares and shares[known] >= SURE:
        found[known] = True
        # black, white, gray and brown shade into each other and into everything; a lively colour is none of them
        if known in colours.CHROMATIC:
            found |= {c: False for c in colours.NAMES if c != known and shares[c] < 0.3}
    return found
