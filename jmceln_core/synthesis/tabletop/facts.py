"""What is true in a rendered scene, as one picture shows it: the measurements that `rules.logic` asks a world for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jmceln_core.synthesis import colours
from jmceln_core.synthesis.rules.logic import (
    ANYTHING,
    Claim,
    Colour,
    Corner,
    Empty,
    Extreme,
    Lying,
    Material,
    Middle,
    Most,
    Not,
    Ordinal,
    Part,
    Relation,
    Selector,
    Truth,
    negated,
)
from jmceln_core.synthesis.tabletop.scene import TABLE, Placed, Scene

GAP = 0.05  # of the picture's width or height: a difference in place that nobody argues about
_FARTHER = 0.07  # metres along the ground, likewise
_BIGGER = 1.25  # ratio of true sizes; the seen areas must agree by
_SEEN_BIGGER = 1.3
_TALLER = 1.25
_STANDING = {"bottle", "cup", "can", "jar", "milk"}  # nouns of what is made to stand
_SAMPLES = 300  # points of a thing's surface that distances are measured between
_NEAR, _APART = 0.035, 0.11  # metres between two things that are next to each other, that are not


@dataclass(frozen=True, eq=False)
class Seen:
    """A thing of the scene and how the picture shows it: centroid and box as shares of width and height, area as share
    of the picture, `visible`: the share of it (inside the frame) that nothing hides."""

    index: int
    placed: Placed
    area: float
    visible: float
    cx: float
    cy: float
    x0: float
    y0: float
    x1: float
    y1: float
    middle: np.ndarray  # (3,) metres, of its bounding box in the world
    height: float  # metres, its upper end less its lower
    colours: dict[str, Truth]

    @property
    def key(self) -> int:
        """Its index in the scene."""
        return self.index

    @property
    def clear(self) -> bool:
        """Whether nobody overlooks it; otherwise nothing is counted that it is among."""
        return self.area > 0.0005 and self.visible > 0.3


class Facts:
    """A scene as one picture of it shows it. `things` are those of which anything is seen."""

    def __init__(self, scene: Scene, rgb: np.ndarray, instances: np.ndarray, whole: np.ndarray) -> None:
        """`rgb` (H, W, 3) uint8, `instances` (H, W) index of the thing or -1, `whole` (things,) its pixels unhidden."""
        self.scene = scene
        self.above = scene.camera.elevation > 62
        self._distances: dict[tuple[int, int], float] = {}
        self._surfaces: dict[int, np.ndarray] = {}
        _, possible = colours.name_pixels(rgb)
        self.things = [
            self._measure(k, placed, instances == k, possible, whole[k])
            for k, placed in enumerate(scene.things)
            if (instances == k).any()
        ]
        self.by_index = {thing.index: thing for thing in self.things}
        away = scene.camera.axes()[2][:2]
        self.away = away / max(np.linalg.norm(away), 1e-6)  # on the ground, straight away from the camera

    def _measure(self, index: int, placed: Placed, mask: np.ndarray, possible: np.ndarray, whole: float) -> Seen:
        height, width = mask.shape
        ys, xs = np.nonzero(mask)
        world = placed.world()
        low, high = world.min(0), world.max(0)
        shares = colours.possible_shares(possible[mask])
        return Seen(
            index, placed, len(xs) / mask.size, min(1.0, len(xs) / max(whole, 1.0)),
            (xs.mean() + 0.5) / width, (ys.mean() + 0.5) / height,
            xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height,
            (low + high) / 2, float(high[2] - low[2]),
            {name: self._colour(placed, name, float(shares[k])) for k, name in enumerate(colours.NAMES)},
        )  # fmt: skip

    @staticmethod
    def _colour(placed: Placed, name: str, share: float) -> Truth:
        """The catalogue's word, unless the light makes it doubtful."""
        words = placed.item.words
        if name in words.colours:
            return True if share > 0.4 else None
        return None if name in words.maybe_colours or share > 0.3 else False

    def distance(self, first: int, second: int) -> float:
        """Metres between the surfaces of two things, to about a centimetre and never less than it is."""
        pair = (min(first, second), max(first, second))
        if pair not in self._distances:
            a, b = (self._surface(index) for index in pair)
            self._distances[pair] = float(np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1).min()))
        return self._distances[pair]

    def _surface(self, index: int) -> np.ndarray:
        if index not in self._surfaces:
            placed = self.scene.things[index]
            points = placed.item.mesh.surface_points(_SAMPLES)[:_SAMPLES]
            self._surfaces[index] = placed.scale * points @ placed.rotation.T + placed.position
        return self._surfaces[index]

    def called(self, thing: Seen, noun: str) -> Truth:
        """Whether a listener takes the word for the thing."""
        words = thing.placed.item.words
        if noun in ANYTHING:
            return None if thing.index == self.scene.bin else True
        if noun in words.nouns or noun in words.groups:
            return True
        return None if noun in words.maybe_nouns else False

    def holds(self, thing: Seen, claim: Claim) -> Truth:
        """Whether the claim is true of the thing."""
        words = thing.placed.item.words
        match claim:
            case Not(other):
                return negated(self.holds(thing, other))
            case Colour(name):
                return thing.colours[name]
            case Material(name):
                if words.material == name:
                    return True
                return None if name in words.maybe_materials or (not words.material and not words.colours) else False
            case Part(name):
                return _has_part(thing, name)
            case Lying():
                if not _STANDING & set(words.nouns) or self.scene.bin != TABLE:
                    return None
                up = thing.placed.rotation[2, 2]
                return True if abs(up) < 0.2 else False if up > 0.95 else None
            case Empty():
                if not thing.placed.item.opening or self.scene.bin != TABLE or not thing.placed.upright:
                    return None
                return not any(thing.index in (other.inside, other.on) for other in self.scene.things)
            case Relation(name, landmarks):
                if thing.index in landmarks:
                    return False
                return _RELATIONS[name](self, thing, *(self.by_index[k] for k in landmarks))
        raise TypeError(claim)

    def choice(self, selector: Selector, group: Sequence[Seen]) -> Seen | None:
        """The one of the group that is surely meant, None if that is in doubt."""
        match selector:
            case Most(side):
                return _most(self, group, side)
            case Corner(sides):
                one, other = (_most(self, group, side) for side in sides)
                return one if one is other else None
            case Ordinal(number, side):
                return _ranked(self, group, number, side)
            case Middle():
                if len(group) == 1:
                    central = abs(group[0].cx - 0.5) < 0.1 and abs(group[0].cy - 0.5) < 0.15
                    return group[0] if central else None
                return _ranked(self, group, len(group) // 2 + 1, "left") if len(group) in (3, 5) else None
            case Extreme(by):
                return _extreme(self, group, by)
        raise TypeError(selector)


def _has_part(thing: Seen, name: str) -> Truth:
    words = thing.placed.item.words
    if name in words.parts:
        return True
    if name in words.lacks:
        return False
    noun = name.split()[-1]  # another cap, in another colour, is known not to be this one
    colours_of = [p.split()[1] for p in words.parts if p.split()[-1] == noun and len(p.split()) == 3]
    return False if colours_of and len(name.split()) == 3 else None


# ---- relations of a thing to another, by the names of their rules


def _on(facts: Facts, thing: Seen, other: Seen) -> Truth:
    """Stands or lies on it."""
    placed = thing.placed
    if facts.scene.bin != TABLE:
        return None
    if placed.on == other.index:
        return True
    chain, at = set(), placed.on
    while at != TABLE:
        chain.add(at)
        at = facts.scene.things[at].on
    return None if other.index in chain or placed.inside == other.index else False


def _inside(facts: Facts, thing: Seen, other: Seen) -> Truth:
    """Is in it (a bowl, a box), or on it (a plate, a tray)."""
    if thing.placed.inside == other.index:
        return True
    return None if _on(facts, thing, other) is not False else False


def _beside(facts: Facts, thing: Seen, other: Seen, sign: int) -> Truth:
    """Left (-1) or right (1) of it in the picture, at about its height."""
    ahead = sign * (thing.cx - other.cx)
    if ahead < -0.02:
        return False
    clear = thing.x1 < other.x0 + 0.01 if sign < 0 else thing.x0 > other.x1 - 0.01
    level = abs(thing.cy - other.cy) < min(0.22, 0.8 * ahead)
    return True if ahead > GAP and clear and level else None


def _beyond(facts: Facts, thing: Seen, other: Seen, sign: int) -> Truth:
    """Behind (1) it as seen from the camera, or in front (-1)."""
    if facts.above:
        return None
    deeper = sign * float((thing.middle - other.middle)[:2] @ facts.away)
    if deeper < -0.02 or abs(thing.cx - other.cx) > 0.45:
        return False
    apart = deeper > _FARTHER and sign * (other.cy - thing.cy) > 0.02
    return True if apart and abs(thing.cx - other.cx) < 0.14 else None


def _next_to(facts: Facts, thing: Seen, other: Seen) -> Truth:
    """Close to it, side by side."""
    a, b = thing.placed, other.placed
    if a.on == other.index or b.on == thing.index or a.inside != b.inside:
        return None
    apart = facts.distance(thing.index, other.index)
    if apart > _APART:
        return False
    gap = max(thing.x0 - other.x1, other.x0 - thing.x1, thing.y0 - other.y1, other.y0 - thing.y1)
    return True if apart < _NEAR and gap < 0.04 else None


def _between(facts: Facts, thing: Seen, first: Seen, second: Seen) -> Truth:
    """Between the two in the picture."""
    aspect = facts.scene.camera.height / facts.scene.camera.width
    p, q, r = (np.array((t.cx, t.cy * aspect)) for t in (first, second, thing))
    span = q - p
    length = float(np.linalg.norm(span))
    along = float((r - p) @ span) / max(length**2, 1e-9)
    off = abs(float(span[0] * (r - p)[1] - span[1] * (r - p)[0])) / max(length, 1e-9)
    if along < -0.05 or along > 1.05 or off > 0.5 * length:
        return False
    return True if 0.25 < along < 0.75 and off < 0.12 * length and length > 0.15 else None


_RELATIONS: dict[str, Callable[..., Truth]] = {
    "on top of": _on,
    "in": _inside,
    "under": lambda facts, thing, other: _on(facts, other, thing),
    "holding": lambda facts, thing, other: _inside(facts, other, thing),
    "left of": lambda facts, thing, other: _beside(facts, thing, other, -1),
    "right of": lambda facts, thing, other: _beside(facts, thing, other, 1),
    "behind": lambda facts, thing, other: _beyond(facts, thing, other, 1),
    "in front of": lambda facts, thing, other: _beyond(facts, thing, other, -1),
    "next to": _next_to,
    "between": _between,
}


# ---- one of a group


def _measure(facts: Facts, thing: Seen, by: str) -> float:
    """The larger, the more it is the one that `by` asks for."""
    if by in ("left", "right"):
        return thing.cx if by == "right" else -thing.cx
    if by in ("top", "bottom"):
        return thing.cy if by == "bottom" else -thing.cy
    depth = float(thing.middle[:2] @ facts.away)
    return depth if by == "back" else -depth


def _most(facts: Facts, group: Sequence[Seen], side: str) -> Seen | None:
    """The one farthest to a side, by a margin; or the only one, where it plainly is at that side."""
    if side in ("front", "back") and facts.above:
        return None
    ordered = sorted(group, key=lambda thing: -_measure(facts, thing, side))
    best = ordered[0]
    if len(ordered) == 1:  # not compared with anything: it has to be there
        at = {"left": -best.cx, "right": best.cx - 1, "top": -best.cy, "bottom": best.cy - 1}.get(side)
        return best if at is not None and at > -0.36 else None
    ahead = min(_measure(facts, best, side) - _measure(facts, other, side) for other in ordered[1:])
    if side in ("front", "back"):
        low = -1 if side == "front" else 1
        lower = all(low * (other.cy - best.cy) > 0.03 for other in ordered[1:])
        return best if ahead > _FARTHER and lower else None
    return best if ahead > GAP else None


def _ranked(facts: Facts, group: Sequence[Seen], number: int, side: str) -> Seen | None:
    """The `number`-th of at least three that nobody overlooks, plainly one after another."""
    ordered = sorted(group, key=lambda thing: -_measure(facts, thing, side))
    if len(ordered) < max(3, number) or not all(thing.clear for thing in group):
        return None
    places = [thing.cx for thing in ordered]
    clear = all(abs(a - b) > GAP for a, b in itertools.pairwise(places))
    return ordered[number - 1] if clear else None


def _extreme(facts: Facts, group: Sequence[Seen], by: str) -> Seen | None:
    """The biggest, tallest, ... of what is seen whole, by a margin in truth and in the picture."""
    if len(group) < 2 or min(thing.visible for thing in group) < 0.6:
        return None
    if any(min(t.x0, t.y0) <= 0 or max(t.x1, t.y1) >= 1 for t in group):
        return None  # what the frame cuts has no visible size
    if by in ("tallest", "shortest") and (facts.above or not all(t.placed.upright and t.height > 0.04 for t in group)):
        return None  # what lies has a length
    if by == "longest" and any(t.placed.extents[0] < 2 * t.placed.extents[1] for t in group):
        return None  # what is as wide as long is big, not long
    sign = -1 if by in ("smallest", "shortest") else 1

    def value(thing: Seen) -> float:
        if by in ("tallest", "shortest"):
            return thing.height
        extents = thing.placed.extents
        return float(extents[0]) if by == "longest" else float(np.prod(extents) ** (1 / 3))

    best = max(group, key=lambda thing: sign * value(thing))
    for other in group:
        if other is best:
            continue
        ratio = (value(best) / value(other)) ** sign
        if ratio < (_TALLER if "t" in by[0] or by == "shortest" else _BIGGER):
            return None
        if by in ("biggest", "smallest") and (best.area / other.area) ** sign < _SEEN_BIGGER:
            return None
        if by in ("tallest", "shortest") and ((best.y1 - best.y0) / (other.y1 - other.y0)) ** sign < 1.1:
            return None
    return best
