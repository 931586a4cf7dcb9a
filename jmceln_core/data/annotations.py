"""Values of COCO's json, checked one by one. Each function raises ValueError in words for what it cannot take."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Box = tuple[float, float, float, float]  # (x, y, w, h) in pixels

_FARTHEST = 1_000_000  # pixels from the picture's corner that a polygon's point may be


def loads(text: str, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """json, without the NaN and Infinity that Python's would take."""
    try:
        return json.loads(text, object_hook=object_hook, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of json's")


def whole(value: Any, what: str, *, least: int = 0) -> int:
    """A whole number from `least` on; 7.0 and "7" are 7, which some exports write."""
    number = value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        number = int(value)
    if isinstance(value, float) and value.is_integer():
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number < 2**63:
        raise ValueError(f"{what} is {value!r}, must be a whole number from {least} on")
    return number


def flag(value: Any, what: str) -> bool:
    """A truth value, or COCO's 0 and 1."""
    if value not in (0, 1):
        raise ValueError(f"{what} is {value!r}, must be 0 or 1")
    return bool(value)


def text(value: Any, what: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r}, must be a text")
    return value


def box(value: Any, height: int, width: int) -> Box | None:
    """A box; None if there is none, it has no area or lies outside the picture."""
    if value is None:
        return None
    try:
        x, y, w, h = map(float, value)
    except (TypeError, ValueError):
        raise ValueError(f"bbox is {value!r}, must be [x, y, width, height]") from None
    if not all(map(math.isfinite, (x, y, w, h))):
        raise ValueError(f"bbox {value!r} is not finite")
    inside = w > 0 and h > 0 and x < width and y < height and x + w > 0 and y + h > 0
    return (x, y, w, h) if inside else None


def outline(value: Any, height: int, width: int) -> tuple[Any, int]:
    """COCO's compressed RLE of an outline, a tenth of a polygon's memory, and how many polygons are left out of it.

    Left out are polygons of less than three points, which pycocotools takes for boxes, and those outside the picture.
    An outline that covers no pixel is [].
    """
    left_out = 0
    if not value:
        return [], 0
    if isinstance(value, list):
        try:
            polygons = [np.asarray(polygon, np.float64) for polygon in value]
        except (TypeError, ValueError):
            raise ValueError("its segmentation has what is no number") from None
        if any(p.ndim != 1 or not np.isfinite(p).all() for p in polygons):
            raise ValueError("its segmentation must be a list of polygons [x, y, x, y, ...] of finite numbers, or RLE")
        drawn = [p for p in polygons if len(p) >= 6 and len(p) % 2 == 0 and _touches(p, height, width)]
        if any(np.abs(p).max() > _FARTHEST for p in drawn):  # where pycocotools takes the process down
            raise ValueError(f"its segmentation has a point more than {_FARTHEST:,} pixels away")
        left_out = len(polygons) - len(drawn)
        if not drawn:
            return [], left_out
        rle = coco_mask.merge(coco_mask.frPyObjects([p.tolist() for p in drawn], height, width))
    elif not isinstance(value, dict) or not {"size", "counts"} <= value.keys():
        raise ValueError("its segmentation is neither a list of polygons nor RLE with size and counts")
    elif value["size"] != [height, width]:
        raise ValueError(f"a mask of size {value['size']} in a picture of {[height, width]}")
    elif isinstance(value["counts"], list):
        counts = [whole(n, "a run of its RLE") for n in value["counts"]]
        _check_runs(counts, height * width)
        rle = coco_mask.frPyObjects(value, height, width)
    else:
        rle = value | {"counts": text(value["counts"], "counts of its RLE").encode()}
        _check_runs(_runs(rle["counts"]), height * width)
    if not int(coco_mask.area(rle)):
        return [], left_out
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}, left_out


def _runs(counts: bytes) -> list[int]:
    """The lengths in a compressed RLE, as COCO writes them: digits of five bits from "0" on, the lowest first, the
    sixth bit for "more", the last digit's fifth for the sign; from the fourth length on less the last but one."""
    runs: list[int] = []
    value = digits = 0
    for character in counts:
        digit = character - 48
        value |= (digit & 31) << 5 * digits
        digits += 1
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << 5 * digits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = digits = 0
    if digits:
        raise ValueError("its RLE is cut off")
    return runs


def _check_runs(runs: list[int], pixels: int) -> None:
    if min(runs, default=0) < 0 or sum(runs) != pixels:
        raise ValueError(f"the runs of its RLE are {sum(runs)} pixels, the picture has {pixels}")


def _touches(polygon: np.ndarray, height: int, width: int) -> bool:
    x, y = polygon[0::2], polygon[1::2]
    return bool(x.min() < width and x.max() > 0 and y.min() < height and y.max() > 0)
