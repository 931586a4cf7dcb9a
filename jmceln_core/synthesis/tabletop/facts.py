"""What is true in a rendered scene: a closed language of descriptions, and its evaluation with three truth values.

True and False hold by a margin that nobody argues about; None is everything between, and whatever a listener might see
differently. A description is a noun with filters ("red", "on the tray") and at most one selector ("the second from the
left"), which picks among the things that the rest describes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmceln_core.synthesis import colours
from jmceln_core.synthesis.tabletop.scene import TABLE, Placed, Scene

Truth = bool | None

ANYTHING = ("thing", "object", "one", "item")  # nouns for whatever there is

GAP = 0.05  # of the picture's width or height: a difference in place that nobody argues about
_FARTHER = 0.07  # metres along the ground, likewise
_BIGGER = 1.25  # ratio of true sizes; the seen areas must agree by
_SEEN_BIGGER = 1.3
_TALLER = 1.25
_STANDING = {"bottle", "cup", "can", "jar", "milk"}  # nouns of what is made to stand
_SAMPLES = 300  # points of a thing's surface that distances are measured between
_NEAR, _APART = 0.035, 0.11  # metres between two things that are next to each other, that are not


def all_of(*truths: Truth) -> Truth:
    """Kleene's conjunction."""
    if any(truth is False for truth in truths):
        return False
    return None if any(truth is None for truth in truths) else True


def negated(truth: Truth) -> Truth:
    return None if truth is None else not truth


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

    def noun(self, thing: Seen, noun: str) -> Truth:
        """Whether a listener takes the word for the thing."""
        words = thing.placed.item.words
        if noun in ANYTHING:
            return None if thing.index == self.scene.bin else True
        if noun in words.nouns or noun in words.groups:
            return True
        return None if noun in words.maybe_nouns else False


# ---- filters: each says of a thing True, False or None


@dataclass(frozen=True)
class Filter:
    """One property or relation."""

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        raise NotImplementedError


@dataclass(frozen=True)
class Not(Filter):
    """The contrary."""

    filter: Filter

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        return negated(self.filter.truth(facts, thing))


@dataclass(frozen=True)
class Colour(Filter):
    """Is of that colour as a whole."""

    name: str

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        return thing.colours[self.name]


@dataclass(frozen=True)
class Material(Filter):
    """Is visibly of that material."""

    name: str

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        words = thing.placed.item.words
        if words.material == self.name:
            return True
        return None if self.name in words.maybe_materials or (not words.material and not words.colours) else False


@dataclass(frozen=True)
class Part(Filter):
    """Has "a red cap", "a lid", "a handle"."""

    name: str

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        words = thing.placed.item.words
        if self.name in words.parts:
            return True
        if self.name in words.lacks:
            return False
        noun = self.name.split()[-1]  # another cap, in another colour, is known not to be this one
        colours_of = [p.split()[1] for p in words.parts if p.split()[-1] == noun and len(p.split()) == 3]
        return False if colours_of and len(self.name.split()) == 3 else None


@dataclass(frozen=True)
class Lying(Filter):
    """Lies on its side, though made to stand."""

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        if not _STANDING & set(thing.placed.item.words.nouns) or facts.scene.bin != TABLE:
            return None
        up = abs(thing.placed.rotation[2, 2])
        return True if up < 0.2 else False if thing.placed.rotation[2, 2] > 0.95 else None


@dataclass(frozen=True)
class On(Filter):
    """Stands or lies on the landmark."""

    landmark: int

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        placed = thing.placed
        if facts.scene.bin != TABLE:
            return None
        if placed.on == self.landmark:
            return True
        chain, at = set(), placed.on
        while at != TABLE:
            chain.add(at)
            at = facts.scene.things[at].on
        return None if self.landmark in chain or placed.inside == self.landmark else False


@dataclass(frozen=True)
class Inside(Filter):
    """Is in the landmark (a bowl, a box), or on it (a plate, a tray)."""

    landmark: int

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        if thing.index == self.landmark:
            return False
        if thing.placed.inside == self.landmark:
            return True
        return None if On(self.landmark).truth(facts, thing) is not False else False


@dataclass(frozen=True)
class Under(Filter):
    """The landmark stands on it."""

    landmark: int

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        return On(thing.index).truth(facts, facts.by_index[self.landmark]) if thing.index != self.landmark else False


@dataclass(frozen=True)
class Holding(Filter):
    """The landmark is in it."""

    landmark: int

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        return (
            Inside(thing.index).truth(facts, facts.by_index[self.landmark]) if thing.index != self.landmark else False
        )


@dataclass(frozen=True)
class Empty(Filter):
    """Could hold something and holds nothing."""

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        if not thing.placed.item.opening or facts.scene.bin != TABLE or not thing.placed.upright:
            return None
        return not any(thing.index in (other.inside, other.on) for other in facts.scene.things)


@dataclass(frozen=True)
class Beside(Filter):
    """`side` "left" or "right" of the landmark in the picture, at about its height; "behind" or in "front" of it as
    seen from the camera."""

    side: str
    landmark: int

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        other = facts.by_index[self.landmark]
        if thing.index == self.landmark:
            return False
        if self.side in ("left", "right"):
            sign = -1 if self.side == "left" else 1
            ahead = sign * (thing.cx - other.cx)
            if ahead < -0.02:
                return False
            clear = thing.x1 < other.x0 + 0.01 if sign < 0 else thing.x0 > other.x1 - 0.01
            level = abs(thing.cy - other.cy) < min(0.22, 0.8 * ahead)
            return True if ahead > GAP and clear and level else None
        sign = 1 if self.side == "behind" else -1
        if facts.above:
            return None
        deeper = sign * float((thing.middle - other.middle)[:2] @ facts.away)
        if deeper < -0.02 or abs(thing.cx - other.cx) > 0.45:
            return False
        apart = deeper > _FARTHER and sign * (other.cy - thing.cy) > 0.02
        return True if apart and abs(thing.cx - other.cx) < 0.14 else None


@dataclass(frozen=True)
class NextTo(Filter):
    """Close to the landmark, side by side."""

    landmark: int

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        other = facts.by_index[self.landmark]
        if thing.index == self.landmark:
            return False
        a, b = thing.placed, other.placed
        if a.on == other.index or b.on == thing.index or a.inside != b.inside:
            return None
        apart = facts.distance(thing.index, other.index)
        if apart > _APART:
            return False
        gap = max(thing.x0 - other.x1, other.x0 - thing.x1, thing.y0 - other.y1, other.y0 - thing.y1)
        return True if apart < _NEAR and gap < 0.04 else None


@dataclass(frozen=True)
class Between(Filter):
    """Between two landmarks in the picture."""

    first: int
    second: int

    def truth(self, facts: Facts, thing: Seen) -> Truth:
        if thing.index in (self.first, self.second):
            return False
        a, b = facts.by_index[self.first], facts.by_index[self.second]
        aspect = facts.scene.camera.height / facts.scene.camera.width
        p, q, r = (np.array((t.cx, t.cy * aspect)) for t in (a, b, thing))
        span = q - p
        length = float(np.linalg.norm(span))
        along = float((r - p) @ span) / max(length**2, 1e-9)
        off = abs(float(span[0] * (r - p)[1] - span[1] * (r - p)[0])) / max(length, 1e-9)
        if along < -0.05 or along > 1.05 or off > 0.5 * length:
            return False
        return True if 0.25 < along < 0.75 and off < 0.12 * length and length > 0.15 else None


# ---- selectors: pick one of a group


def _measure(facts: Facts, thing: Seen, by: str) -> float:
    """The larger, the more it is the one that `by` asks for."""
    if by in ("left", "right"):
        return thing.cx if by == "right" else -thing.cx
    if by in ("top", "bottom"):
        return thing.cy if by == "bottom" else -thing.cy
    if by in ("front", "back"):
        depth = float(thing.middle[:2] @ facts.away)
        return depth if by == "back" else -depth
    raise ValueError(by)


@dataclass(frozen=True)
class Selector:
    """Picks one of several."""

    def pick(self, facts: Facts, group: Sequence[Seen]) -> Seen | None:
        """The one of `group` that is surely meant, None if that is in doubt."""
        raise NotImplementedError


@dataclass(frozen=True)
class Most(Selector):
    """The one farthest to a side (left, right, top, bottom, front, back), of two or more; or of one that is there."""

    side: str

    def pick(self, facts: Facts, group: Sequence[Seen]) -> Seen | None:
        if self.side in ("front", "back") and facts.above:
            return None
        ordered = sorted(group, key=lambda thing: -_measure(facts, thing, self.side))
        best = ordered[0]
        if len(ordered) == 1:  # not compared with anything: it has to be there
            at = {"left": -best.cx, "right": best.cx - 1, "top": -best.cy, "bottom": best.cy - 1}.get(self.side)
            return best if at is not None and at > -0.36 else None
        ahead = min(_measure(facts, best, self.side) - _measure(facts, other, self.side) for other in ordered[1:])
        if self.side in ("front", "back"):
            low = -1 if self.side == "front" else 1
            lower = all(low * (other.cy - best.cy) > 0.03 for other in ordered[1:])
            return best if ahead > _FARTHER and lower else None
        return best if ahead > GAP else None


@dataclass(frozen=True)
class Corner(Selector):
    """The one farthest to two sides at once: "the top left"."""

    sides: tuple[str, str]

    def pick(self, facts: Facts, group: Sequence[Seen]) -> Seen | None:
        picked = [Most(side).pick(facts, group) for side in self.sides]
        return picked[0] if picked[0] is not None and picked[0] is picked[1] else None


@dataclass(frozen=True)
class Ordinal(Selector):
    """The `number`-th (from 1) counted from the left or right."""

    number: int
    side: str

    def pick(self, facts: Facts, group: Sequence[Seen]) -> Seen | None:
        ordered = sorted(group, key=lambda thing: -_measure(facts, thing, self.side))
        if len(ordered) < max(3, self.number) or not all(thing.clear for thing in group):
            return None
        places = [thing.cx for thing in ordered]
        clear = all(abs(a - b) > GAP for a, b in itertools.pairwise(places))
        return ordered[self.number - 1] if clear else None


@dataclass(frozen=True)
class Middle(Selector):
    """The middle one of three or five from left to right."""

    def pick(self, facts: Facts, group: Sequence[Seen]) -> Seen | None:
        if len(group) == 1:
            central = abs(group[0].cx - 0.5) < 0.1 and abs(group[0].cy - 0.5) < 0.15
            return group[0] if central else None
        return Ordinal(len(group) // 2 + 1, "left").pick(facts, group) if len(group) in (3, 5) else None


@dataclass(frozen=True)
class Extreme(Selector):
    """The biggest, smallest, tallest, shortest or longest of two or more."""

    by: str

    def pick(self, facts: Facts, group: Sequence[Seen]) -> Seen | None:
        if len(group) < 2 or min(thing.visible for thing in group) < 0.6:
            return None
        if any(min(t.x0, t.y0) <= 0 or max(t.x1, t.y1) >= 1 for t in group):
            return None  # what the frame cuts has no visible size
        if self.by in ("tallest", "shortest") and (
            facts.above or not all(t.placed.upright and t.height > 0.04 for t in group)
        ):
            return None  # what lies has a length
        if self.by == "longest" and any(t.placed.extents[0] < 2 * t.placed.extents[1] for t in group):
            return None  # what is as wide as long is big, not long
        sign = -1 if self.by in ("smallest", "shortest") else 1

        def value(thing: Seen) -> float:
            if self.by in ("tallest", "shortest"):
                return thing.height
            extents = thing.placed.extents
            return float(extents[0]) if self.by == "longest" else float(np.prod(extents) ** (1 / 3))

        best = max(group, key=lambda thing: sign * value(thing))
        for other in group:
            if other is best:
                continue
            ratio = (value(best) / value(other)) ** sign
            if ratio < (_TALLER if "t" in self.by[0] or self.by == "shortest" else _BIGGER):
                return None
            if self.by in ("biggest", "smallest") and (best.area / other.area) ** sign < _SEEN_BIGGER:
                return None
            if self.by in ("tallest", "shortest") and ((best.y1 - best.y0) / (other.y1 - other.y0)) ** sign < 1.1:
                return None
        return best


# ---- descriptions


@dataclass(frozen=True)
class Description:
    """A noun, filters that all hold, and a selector among what they leave."""

    noun: str
    filters: tuple[Filter, ...] = ()
    selector: Selector | None = None

    def truths(self, facts: Facts) -> dict[int, Truth]:
        """For each thing of the picture whether it is described."""
        held = {
            thing.index: all_of(facts.noun(thing, self.noun), *(f.truth(facts, thing) for f in self.filters))
            for thing in facts.things
        }
        if self.selector is None:
            return held
        group = [facts.by_index[k] for k, truth in held.items() if truth is not False]
        if not group:
            return held
        counting = isinstance(self.selector, (Ordinal, Middle))
        best = None if counting and None in held.values() else self.selector.pick(facts, group)
        if best is None or held[best.index] is None:
            return {k: False if truth is False else None for k, truth in held.items()}
        return {k: k == best.index for k in held}

    def only(self, facts: Facts) -> int | None:
        """The index of the one thing described, None if there is none, several, or doubt."""
        truths = self.truths(facts)
        found = [k for k, truth in truths.items() if truth]
        return found[0] if len(found) == 1 and None not in truths.values() else None

    def several(self, facts: Facts) -> tuple[int, ...]:
        """The things described if they are at least two and there is no doubt; else none."""
        truths = self.truths(facts)
        found = tuple(k for k, truth in truths.items() if truth)
        clear = all(facts.by_index[k].clear for k in found)
        return found if len(found) > 1 and None not in truths.values() and clear else ()

    def nothing(self, facts: Facts) -> bool:
        """Whether surely nothing in the picture is described."""
        return not any(truth is not False for truth in self.truths(facts).values())
