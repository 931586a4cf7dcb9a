"""A contact sheet: pictures with the masks of their things and, below each, its sentences in the things' colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from jmceln_core import overlay
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Picture

COLUMNS = 4
SIDE = 420  # of the square that a picture is made to fit into, in pixels
LINES = 9  # sentences below a picture
_LINE, _MARGIN = 18, 8  # pixels
_BLACK, _GREY = (0, 0, 0), (130, 130, 130)


def draw(data: GroundingData, heading: str, *, count: int) -> list[np.ndarray]:
    """Cells, (H, W, 3) uint8 RGB of one width, of `count` pictures at most, spread over the data evenly; those with
    sentences come first. A thing that is meant is tinted and numbered, another outlined in grey."""
    said = data.by_picture()
    keys = sorted(data.pictures, key=lambda key: (not said[key], key))
    keys = [key for key in keys if said[key]] or keys
    chosen = [keys[i] for i in np.linspace(0, len(keys) - 1, min(count, len(keys))).round().astype(int)]
    return [_cell(data.pictures[key], said[key], f"{heading} {data.pictures[key].path.name}") for key in chosen]


def together(cells: Sequence[np.ndarray]) -> np.ndarray:
    """The cells, one or more, in rows of COLUMNS on white."""
    rows = []
    for start in range(0, len(cells), COLUMNS):
        row = list(cells[start : start + COLUMNS])
        row += [np.full_like(row[0], 255)] * (min(COLUMNS, len(cells)) - len(row))
        tall = max(len(cell) for cell in row)
        rows.append(np.hstack([np.pad(c, ((0, tall - len(c)), (0, 0), (0, 0)), constant_values=255) for c in row]))
    return np.vstack(rows)


def _cell(picture: Picture, sentences: Sequence[Expression], heading: str) -> np.ndarray:
    numbers = {target: n for n, target in enumerate(dict.fromkeys(t for e in sentences for t in e.targets), start=1)}
    try:
        drawn = _drawn(picture, numbers)
        lines = [(heading, _BLACK)]
    except DataError as error:
        drawn = np.full((_LINE, 1, 3), 255, np.uint8)
        lines = [(str(error), (200, 0, 0))]
    for e in sentences[:LINES]:
        marks = "+".join(str(numbers[t]) for t in e.targets) or "none"
        lines.append((f"{marks}: {e.text}", _colour(numbers[e.targets[0]]) if e.targets else _GREY))
    if len(sentences) > LINES:
        lines.append((f"... {len(sentences) - LINES} more", _GREY))
    height, width = drawn.shape[:2]
    cell = np.full((height + _LINE * len(lines) + 3 * _MARGIN, SIDE + 2 * _MARGIN, 3), 255, np.uint8)
    cell[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width] = drawn
    for n, (text, colour) in enumerate(lines, start=1):
        place = (_MARGIN, height + _MARGIN + n * _LINE)
        cv2.putText(cell, overlay.plain(text), place, overlay.FONT, 0.4, colour, 1, cv2.LINE_AA)
    return cell


def _drawn(picture: Picture, numbers: dict[int, int]) -> np.ndarray:
    """The picture, small, with its things. Raises DataError if it cannot be read."""
    scale = SIDE / max(picture.height, picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = cv2.resize(picture.load(), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    places = []
    for thing in sorted(picture.instances, key=lambda i: i.id in numbers):
        mask = cv2.resize(
            thing.mask(picture.height, picture.width).astype(np.uint8), size, interpolation=cv2.INTER_AREA
        )
        if thing.id in numbers:
            overlay.shade(small, mask.astype(bool), _colour(numbers[thing.id]), 1)
            _, _, _, place = cv2.minMaxLoc(cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3))
            places.append((str(numbers[thing.id]), (place[0] - 5, place[1] + 4)))
        else:
            overlay.outline(small, mask.astype(bool), _GREY, 1)
    for number, place in places:
        for colour, thick in ((_BLACK, 3), ((255, 255, 255), 1)):
            cv2.putText(small, number, place, overlay.FONT, 0.45, colour, thick, cv2.LINE_AA)
    return small


def _colour(number: int) -> tuple[int, int, int]:
    """Dark enough to be read on white; neighbours in number are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1, 1.0, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)
