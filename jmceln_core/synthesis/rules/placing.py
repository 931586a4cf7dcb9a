"""Where the things of a photograph stand, from their masks: places, order, sizes and relations that nobody doubts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from jmceln_core.data.grounding import Instance
from jmceln_core.synthesis import vocabulary

CLEARLY = 0.05  # of the picture's width (height): a difference in position nobody argues about
BIGGER = 1.8  # ratio of areas, likewise
SMALLEST_SHARE = 0.001  # of the picture: smaller things are never a target, only something to be confused with


def kinds(text: str) -> frozenset[str]:
    """The categories of a list with commas."""
    return frozenset(kind.strip() for kind in text.split(","))


# Things that stand on the ground, for which lower in the picture and larger means closer.
STANDING = kinds(
    """person, bicycle, car, motorcycle, bus, truck, fire hydrant, parking meter, bench, cat, dog, horse, sheep, cow,
    elephant, bear, zebra, giraffe, suitcase, chair, couch, potted plant, deer, tiger, train"""
)
_RIDDEN = kinds("horse, motorcycle, bicycle, elephant, skateboard, surfboard, snowboard")
_SAT_ON = kinds("bench, couch, chair, bed")
_CARRIED = kinds(
    """umbrella, tennis racket, baseball bat, frisbee, cell phone, handbag, backpack, suitcase, surfboard, skateboard,
    snowboard, baseball glove, tie, laptop, remote, kite, sports ball, skis, book"""
)
_ON_TABLE = kinds(
    """bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, pizza, donut, cake, vase,
    laptop, book, cell phone, plate, mug, scissors, hot dog, potted plant"""
)
_SURFACES = kinds("dining table, bed, plate")  # other things are on them, never beside them
# Things that stand upright wherever they are: what hides a part of one is in front of it, not on top of it.
_UPRIGHT = STANDING | kinds(
    """bird, stop sign, bottle, wine glass, cup, mug, vase, teddy bear, tv, laptop, refrigerator, oven, toilet, otter,
    microwave, toaster, umbrella, surfboard, rhesus monkey, backpack, handbag, boat, airplane"""
)


@dataclass(frozen=True, eq=False)
class Thing:
    """One instance with what is measured of it. Positions are shares of the picture's width and height, areas of its
    area."""

    instance: Instance
    mask: np.ndarray  # (H, W) bool
    area: float
    x0: float
    y0: float
    x1: float
    y1: float
    cx: float  # centroid
    cy: float
    names: vocabulary.Names

    @property
    def key(self) -> int:
        """Its instance's id."""
        return self.instance.id

    @property
    def category(self) -> str:
        return self.instance.category


class Scene(Protocol):
    """What a photograph measures between two things."""

    def covers(self, front: Thing, back: Thing) -> bool:
        """Whether `front` is known to hide a part of `back`."""

    def distance(self, one: Thing, other: Thing) -> float:
        """The gap between two masks, in shares of the picture's long side; 0 where they touch."""


def _clear_left(a: Thing, b: Thing) -> bool:
    """Whether nobody would doubt that `a` is left of `b`: centroid and both edges agree."""
    return b.cx - a.cx > CLEARLY and b.x0 - a.x0 > -0.01 and b.x1 - a.x1 > -0.01


def _clear_above(a: Thing, b: Thing) -> bool:
    return b.cy - a.cy > CLEARLY and b.y0 - a.y0 > -0.01 and b.y1 - a.y1 > -0.01


def _clear_right(a: Thing, b: Thing) -> bool:
    return _clear_left(b, a)


def _clear_below(a: Thing, b: Thing) -> bool:
    return _clear_above(b, a)


def in_row(things: Sequence[Thing]) -> bool:
    """Whether things stand side by side, so that counting from the left is what people would do."""
    mean = sum(t.y1 - t.y0 for t in things) / len(things)
    areas = [t.area for t in things]
    return max(t.cy for t in things) - min(t.cy for t in things) < 0.9 * mean and min(areas) > 0.06 * max(areas)


def _in_column(things: Sequence[Thing]) -> bool:
    mean = sum(t.x1 - t.x0 for t in things) / len(things)
    areas = [t.area for t in things]
    return max(t.cx for t in things) - min(t.cx for t in things) < 0.9 * mean and min(areas) > 0.1 * max(areas)


def places(t: Thing, others: Sequence[Thing], *, aspect: float, sure: bool) -> Iterator[tuple[str, float]]:
    """The rules of the places that single `t` out among it and `others`, with factors of their weights. `others` may be
    empty: then a place is said only where the thing plainly is there. `aspect`: the picture's width over its height.
    `sure`: the others are rivals indeed."""
    crowd = len(others) + 1
    for side, beats, here in (
        ("left", _clear_left, t.cx),
        ("right", _clear_right, 1 - t.cx),
        ("top", _clear_above, t.cy),
        ("bottom", _clear_below, 1 - t.cy),
    ):
        if not all(beats(t, u) for u in others):
            continue
        limit = 0.33 if crowd == 1 else 0.58 if crowd == 2 and sure else 0.5
        if here < limit:
            yield side, 0.5 if crowd == 1 else 1.0
        if side in ("left", "right") and (crowd > 2 or here < 0.2):
            yield f"far {side}", 1.0 if crowd > 2 and here < 0.4 else 0.5 if here < 0.3 else 0.0
    for v, y in (("top", t.cy), ("bottom", 1 - t.cy)):
        for h, x in (("left", t.cx), ("right", 1 - t.cx)):
            if max(x, y) > 0.42:
                continue
            rivals = [(u.cx if h == "left" else 1 - u.cx, u.cy if v == "top" else 1 - u.cy) for u in others]
            # a rival must be plainly elsewhere: out of the quarter, and no nearer to the corner
            if all((ux > 0.5 or uy > 0.5) and ux + uy > x + y + 2 * CLEARLY for ux, uy in rivals):
                yield f"{v} {h}", 1.0
                edge_x = t.x0 if h == "left" else 1 - t.x1
                edge_y = t.y0 if v == "top" else 1 - t.y1
                if max(edge_x, edge_y) < 0.03 and max(x, y) < 0.3:
                    yield f"{v} {h} corner", 1.0
    if crowd not in (3, 5) or not sure:
        return
    wide = aspect * (max(u.cx for u in (t, *others)) - min(u.cx for u in (t, *others)))
    high = max(u.cy for u in (t, *others)) - min(u.cy for u in (t, *others))
    for clear, after, fits, weight in (
        (_clear_left, _clear_right, in_row([t, *others]) and wide > 2.5 * high and 0.25 < t.cx < 0.75, 1.0),
        (_clear_above, _clear_below, _in_column([t, *others]) and high > 2.5 * wide, 0.625),
    ):
        if fits and sum(clear(u, t) for u in others) == sum(after(u, t) for u in others) == crowd // 2:
            yield "middle", weight


def ranks(t: Thing, others: Sequence[Thing]) -> Iterator[tuple[int, str, float]]:
    """How many are ahead of `t` counted from an end (left, right, top, bottom), with the factor of what it weighs. Only
    in a row (column) where each other is clearly before or after."""
    if not 2 <= len(others) <= 6:
        return
    row, column = in_row([t, *others]), _in_column([t, *others])
    for end, before, after, fits in (
        ("left", _clear_left, _clear_right, row),
        ("right", _clear_right, _clear_left, row),
        ("top", _clear_above, _clear_below, column),
        ("bottom", _clear_below, _clear_above, column),
    ):
        ahead = sum(bool(before(u, t)) for u in others)
        if not fits or ahead + sum(after(u, t) for u in others) != len(others) or ahead > 4:
            continue
        if ahead != len(others):  # the last one is the far right one
            yield ahead, end, 0.25 if ahead == 0 else 1.0 if 2 * ahead <= len(others) else 0.3


def _whole(t: Thing) -> bool:
    return t.x0 > 0.005 and t.x1 < 0.995 and t.y0 > 0.005 and t.y1 < 0.995


def sizes(t: Thing, others: Sequence[Thing]) -> Iterator[str]:
    """The rules that hold of largest, smallest, closest, farthest; by areas, extents and feet that differ plainly."""
    if not others:
        return
    two = len(others) == 1

    def extent(u: Thing) -> float:
        return max(u.x1 - u.x0, u.y1 - u.y0)

    if all(t.area > BIGGER * u.area and extent(t) > 1.15 * extent(u) for u in others):
        yield "bigger" if two else "biggest"
    if _whole(t) and all(u.area > BIGGER * t.area and extent(u) > 1.15 * extent(t) for u in others):
        yield "smaller" if two else "smallest"
    if all(u.category in STANDING for u in (t, *others)):
        if all(t.area > BIGGER * u.area and t.y1 > u.y1 + CLEARLY for u in others):
            yield "closest"
        if all(u.area > BIGGER * t.area and u.y1 > t.y1 + CLEARLY and t.y1 < 0.9 for u in others):
            yield "farthest"
    larger = [u for u in others if u.area > BIGGER * t.area and extent(u) > 1.15 * extent(t)]
    smaller = [u for u in others if t.area > BIGGER * u.area and extent(t) > 1.15 * extent(u)]
    if not two and len(larger) + len(smaller) == len(others):
        if len(larger) == 1:
            yield "second biggest"
        if (
            len(smaller) == 1 and len(others) > 2 and _whole(t) and smaller[0].area >= SMALLEST_SHARE
        ):  # a speck is no first
            yield "second smallest"


def _overlap(a0: float, a1: float, b0: float, b1: float) -> float:
    """The share of the shorter of two intervals that they have in common."""
    return max(0.0, min(a1, b1) - max(a0, b0)) / max(min(a1 - a0, b1 - b0), 1e-6)


def _near_enough(s: Scene, t: Thing, a: Thing) -> bool:
    if t.category in _SURFACES or a.category in _SURFACES:
        return False
    reach = max(t.x1 - t.x0, t.y1 - t.y0, a.x1 - a.x0, a.y1 - a.y0)
    return s.distance(t, a) < max(0.08, 0.6 * reach)


def _left_of(s: Scene, t: Thing, a: Thing) -> bool:
    beside = _overlap(t.y0, t.y1, a.y0, a.y1) > 0.5
    return beside and t.x1 < a.x0 + 0.02 and t.cx < a.cx - CLEARLY and _near_enough(s, t, a)


def _above(s: Scene, t: Thing, a: Thing) -> bool:
    over = _overlap(t.x0, t.x1, a.x0, a.x1) > 0.6 and "person" not in (t.category, a.category)
    apart = not s.covers(t, a) and not s.covers(a, t)  # what hides a part of something is on it, not above it
    return apart and over and t.y1 < a.y0 + 0.03 and t.cy < a.cy - CLEARLY and _near_enough(s, t, a)


def _next_to(s: Scene, t: Thing, a: Thing) -> bool:
    small = min(max(t.x1 - t.x0, t.y1 - t.y0), max(a.x1 - a.x0, a.y1 - a.y0))
    beside = _overlap(t.y0, t.y1, a.y0, a.y1) > 0.4 and _overlap(t.x0, t.x1, a.x0, a.x1) < 0.35
    alike = max(t.area, a.area) < 12 * min(t.area, a.area)
    return beside and alike and s.distance(t, a) < min(0.04, 0.4 * small)


def _far_from(s: Scene, t: Thing, a: Thing) -> bool:
    return s.distance(t, a) > 0.12


def _riding(s: Scene, t: Thing, a: Thing) -> bool:
    if t.category != "person" or a.category not in _RIDDEN:
        return False
    within = a.x0 < t.cx < a.x1 and t.cy < a.cy - 0.02
    seat = a.y0 - 0.02 < t.y1 < (a.y1 + 0.03 if a.category.endswith("board") else a.y0 + 0.85 * (a.y1 - a.y0))
    return within and seat and s.distance(t, a) == 0


def _on_seat(s: Scene, t: Thing, a: Thing) -> bool:
    if t.category not in ("person", "cat", "dog", "teddy bear") or a.category not in _SAT_ON:
        return False
    inside = a.x0 - 0.02 < t.x0 and t.x1 < a.x1 + 0.02 and a.y0 < t.y1 < a.y0 + 0.85 * (a.y1 - a.y0)
    return inside and t.cy < a.cy and s.distance(t, a) == 0


def _carrying(s: Scene, t: Thing, a: Thing) -> bool:
    return t.category == "person" and a.category in _CARRIED and a.area < t.area and s.distance(t, a) < 0.004


def _on_table(s: Scene, t: Thing, a: Thing) -> bool:
    if t.category not in _ON_TABLE or a.category != "dining table":
        return False
    inside = a.x0 < t.cx < a.x1 and a.y0 + 0.01 < t.y1 < a.y1 - 0.02
    return inside and s.distance(t, a) == 0


def _in_bowl(s: Scene, t: Thing, a: Thing) -> bool:
    if a.category not in ("bowl", "plate") or "food" not in t.names.wider:
        return False
    inside = a.x0 - 0.01 <= t.x0 and t.x1 <= a.x1 + 0.01 and a.y0 - 0.03 <= t.cy and t.y1 <= a.y1 + 0.01
    return inside and t.area < 0.8 * max(a.area, 1e-6) + 0.02 and s.distance(t, a) == 0


def _not_left_of(s: Scene, t: Thing, a: Thing) -> bool:
    return t.cx > a.cx


def _elsewhere(s: Scene, t: Thing, a: Thing) -> bool:
    return _overlap(t.x0, t.x1, a.x0, a.x1) == 0 and s.distance(t, a) > 0.15


def _not_above(s: Scene, t: Thing, a: Thing) -> bool:
    return (t.cy > a.cy and not s.covers(t, a)) or _elsewhere(s, t, a)


def _apart(s: Scene, t: Thing, a: Thing) -> bool:
    return s.distance(t, a) > 0.03


def _upright(*things: Thing) -> bool:
    return all(t.category in _UPRIGHT for t in things)


def _lying(*things: Thing) -> bool:
    return not any(t.category in _UPRIGHT or t.category in _SURFACES for t in things)


def _behind(s: Scene, t: Thing, a: Thing) -> bool:
    return s.covers(a, t) and _upright(t, a)


def _not_behind(s: Scene, t: Thing, a: Thing) -> bool:
    return s.covers(t, a) or _elsewhere(s, t, a)


def _under(s: Scene, t: Thing, a: Thing) -> bool:
    return s.covers(a, t) and _lying(t, a)


Test = Callable[[Scene, Thing, Thing], bool]


class Measured(NamedTuple):
    """A relation of a thing to an anchor: where it plainly holds, where it plainly fails."""

    holds: Test
    fails: Test


def _turned(test: Test) -> Test:
    """The same of the anchor to the thing."""
    return lambda scene, thing, anchor: test(scene, anchor, thing)


# By the names of their rules.
RELATIONS = {
    "left of": Measured(_left_of, _not_left_of),
    "right of": Measured(_turned(_left_of), _turned(_not_left_of)),
    "above": Measured(_above, _not_above),
    "below": Measured(_turned(_above), _turned(_not_above)),
    "next to": Measured(_next_to, _far_from),
    "riding": Measured(_riding, _apart),
    "on a seat": Measured(_on_seat, _apart),
    "with": Measured(_carrying, _apart),
    "on": Measured(_on_table, _apart),
    "in": Measured(_in_bowl, _apart),
    "behind": Measured(_behind, _not_behind),
    "in front of": Measured(_turned(_behind), _turned(_not_behind)),
    "under": Measured(_under, _apart),
    "on top of": Measured(_turned(_under), _apart),
}


def amid(t: Thing, a: Thing, b: Thing) -> bool:
    """Whether `t` stands between `a` on the left and `b` on the right, not far apart, in a row with both."""
    row = min(_overlap(t.y0, t.y1, a.y0, a.y1), _overlap(t.y0, t.y1, b.y0, b.y1)) > 0.4
    return row and _clear_left(a, t) and _clear_left(t, b) and a.x1 < t.cx < b.x0 and b.cx - a.cx <= 0.6


def not_amid(t: Thing, a: Thing, b: Thing) -> bool:
    """Whether `t` plainly is on one side of both."""
    return t.cx < a.cx or t.cx > b.cx


def piled(scene: Scene, t: Thing, other: Thing) -> Iterator[str]:
    """The rules that tell `t` from the only other one of its kind, where one is known to hide a part of the other."""
    for front, back in ((t, other), (other, t)):
        odd = back.area > BIGGER * front.area and back.y1 > front.y1 + CLEARLY  # looks closer all the same
        if scene.covers(front, back) and not odd:
            if _upright(t, other):
                yield "in front" if front is t else "behind the other"
            elif _lying(t, other):
                yield "on top of the other" if front is t else "under the other"
