"""Rule-made referring expressions: true of exactly one annotated thing of a picture, worded as people word them.

Each rule is a predicate over the instances of a picture together with its wordings. A sentence is kept only if the
predicate holds, by a margin, for its target and fails, by a margin, for every other instance that a listener might take
the noun for; where a measurement is in doubt nothing is said. Everything here is geometry and colour inside the masks,
so the sentences are as right as the annotation is complete: pictures with `complete == False` get none.

Use::

    scene = Scene(picture, picture.load())         # decodes the masks once
    describe(scene, rng)                           # one thing each
    absent(scene, rng); plurals(scene, rng)        # nothing; several things
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from jmceln_core.data.grounding import Expression, Instance, Picture
from jmceln_core.synthesis import colours, vocabulary

SMALLEST_SHARE = 0.001  # of the picture: smaller things are never a target, only something to be confused with
SAME_IOU = 0.8  # two annotations of one thing
CLEARLY = 0.05  # of the picture's width (height): a difference in position nobody argues about
BIGGER = 1.8  # ratio of areas, likewise
_COARSE = 200  # long side in pixels of the masks that colours and distances are measured on


def _kinds(text: str) -> frozenset[str]:
    return frozenset(kind.strip() for kind in text.split(","))


# Things whose colour people do not name by the pixels inside the outline: patterned, see-through, shining, overlaid.
_NO_COLOUR = _kinds(
    """person, zebra, giraffe, elephant, pizza, dining table, wine glass, tv, laptop, book, traffic light, clock,
    potted plant, sandwich, hot dog, orange, carrot, broccoli, bear, kiwi, mango, rice, microwave, oven, toaster, sink,
    mouse, cake, rhesus monkey, tiger, deer, otter, turtle, bed, baseball glove, slice of bread, hand, airplane, boat,
    train, banana, parking meter, bench"""
)
# Things that stand on the ground, for which lower in the picture and larger means closer.
STANDING = _kinds(
    """person, bicycle, car, motorcycle, bus, truck, fire hydrant, parking meter, bench, cat, dog, horse, sheep, cow,
    elephant, bear, zebra, giraffe, suitcase, chair, couch, potted plant, deer, tiger, train"""
)
# The share of a thing's pixels that makes its colour sure (0.45 where not given); what clothes may be told to be.
_SURE = {"black": 0.68, "white": 0.58, "brown": 0.62}
_WORN = ("black", "white", "red", "yellow", "green", "blue")
_RIDDEN = _kinds("horse, motorcycle, bicycle, elephant, skateboard, surfboard, snowboard")
_SAT_ON = _kinds("bench, couch, chair, bed")
_CARRIED = _kinds(
    """umbrella, tennis racket, baseball bat, frisbee, cell phone, handbag, backpack, suitcase, surfboard, skateboard,
    snowboard, baseball glove, tie, laptop, remote, kite, sports ball, skis, book"""
)
_ON_TABLE = _kinds(
    """bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, pizza, donut, cake, vase,
    laptop, book, cell phone, plate, mug, scissors, hot dog, potted plant"""
)
_SURFACES = _kinds("dining table, bed, plate")  # other things are on them, never beside them
# Things that stand upright wherever they are: what hides a part of one is in front of it, not on top of it.
_UPRIGHT = STANDING | _kinds(
    """bird, stop sign, bottle, wine glass, cup, mug, vase, teddy bear, tv, laptop, refrigerator, oven, toilet, otter,
    microwave, toaster, umbrella, surfboard, rhesus monkey, backpack, handbag, boat, airplane"""
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
_SHORT_ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th")
_COUNTS = ("zero", "one", "two", "three", "four", "five", "six")


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
    def category(self) -> str:
        return self.instance.category


class Scene:
    """A picture with its masks decoded once, and everything the rules measure, on demand."""

    def __init__(self, picture: Picture, rgb: np.ndarray, covers: Iterable[tuple[int, int]] = ()) -> None:
        """`rgb` is (H, W, 3) uint8 at the picture's own size; ValueError names the picture if it is not.

        `covers` are pairs of instance ids (front, back) of which the first is known to hide a part of the second: what
        a photograph's annotations do not tell, and a composed or rendered picture knows.
        """
        if rgb.shape != (picture.height, picture.width, 3) or rgb.dtype != np.uint8:
            raise ValueError(
                f"picture {picture.id}: rgb is {rgb.dtype} {rgb.shape}, must be uint8 "
                f"({picture.height}, {picture.width}, 3): pass Picture.load()"
            )
        self.picture = picture
        self.rgb = rgb
        self._covers = frozenset(covers)
        self._colours: dict[int, str | None] = {}
        self._possible: dict[int, np.ndarray] = {}
        self._coarse: dict[int, np.ndarray] = {}
        self._fields: dict[int, np.ndarray] = {}
        self._gaps: dict[tuple[int, int], float] = {}
        self.things = [thing for thing in map(self._measure, picture.instances) if thing is not None]

    def _measure(self, instance: Instance) -> Thing | None:
        height, width = self.picture.height, self.picture.width
        mask = instance.mask(height, width)
        columns, rows = mask.sum(0), mask.sum(1)
        total = int(rows.sum())
        if not total:
            return None
        xs, ys = np.flatnonzero(columns), np.flatnonzero(rows)
        return Thing(
            instance,
            mask,
            total / (height * width),
            xs[0] / width,
            ys[0] / height,
            (xs[-1] + 1) / width,
            (ys[-1] + 1) / height,
            float(columns @ (np.arange(width) + 0.5)) / total / width,
            float(rows @ (np.arange(height) + 0.5)) / total / height,
            vocabulary.names_of(instance.category),
        )

    def mask(self, instance_id: int) -> np.ndarray:
        """(H, W) bool mask of an instance (KeyError if it has none)."""
        return self.thing(instance_id).mask

    def thing(self, instance_id: int) -> Thing:
        """What is measured of an instance (KeyError if nothing of it is there)."""
        for thing in self.things:
            if thing.instance.id == instance_id:
                return thing
        raise KeyError(instance_id)

    @cached_property
    def targets(self) -> list[Thing]:
        """Things a sentence may be about: no crowd, not tiny, not annotated twice."""
        singles = [t for t in self.things if not t.instance.crowd and t.area >= SMALLEST_SHARE]
        return [t for t in singles if not any(_same(t, u) for u in self.things if u is not t)]

    def heard_as(self, noun: str) -> list[Thing]:
        """Everything in the picture a listener might take the noun for."""
        return [t for t in self.things if noun in t.names.heard or t.category.endswith(" " + noun)]

    def distinct(self, things: Sequence[Thing]) -> list[Thing]:
        """The things without second annotations of the same one."""
        kept: list[Thing] = []
        for t in things:
            if not any(_same(t, u) for u in kept):
                kept.append(t)
        return kept

    @cached_property
    def anchors(self) -> list[tuple[Thing, str]]:
        """Things that their plain name singles out, with that name: what others can be related to."""
        found = []
        for t in self.targets:
            name = t.names.said[0][0]
            if self.heard_as(name) == [t]:
                found.append((t, name))
        return found

    @cached_property
    def _pixels(self) -> tuple[np.ndarray, np.ndarray]:
        return colours.name_pixels(self.rgb[:: self._step, :: self._step])

    @cached_property
    def _bright(self) -> bool:
        """Whether the light is good enough to tell black from shadow."""
        named = self._pixels[0]
        white, black = (np.mean(named == colours.NAMES.index(name)) for name in ("white", "black"))
        return bool(white > 0.03 and black < 0.4)

    def colour(self, thing: Thing) -> str | None:
        """The colour a thing surely has, or None. A person's is that of the clothes on the upper body."""
        if id(thing) not in self._colours:
            self._colours[id(thing)] = self._colour(thing)
        return self._colours[id(thing)]

    def _colour(self, thing: Thing) -> str | None:
        mask, person = self._small(thing), thing.category == "person"
        if person:
            tall = thing.y1 - thing.y0
            if thing.area < 0.006 or tall < 0.22:
                return None
            y0, y1 = (round((thing.y0 + part * tall) * len(mask)) for part in (0.2, 0.55))
            shares = colours.shares(self._pixels[0][y0:y1][mask[y0:y1]])
        elif thing.category in _NO_COLOUR or thing.area < 2 * SMALLEST_SHARE:
            return None
        else:
            shares = colours.shares(self._pixels[0][mask])
        of = dict(zip(colours.NAMES, shares.tolist(), strict=True))
        name = max(of, key=lambda colour: of[colour])
        if person and name not in _WORN:  # others may be skin or shadow
            return None
        if "tool" in thing.names.wider and name not in colours.CHROMATIC:  # steel is any of them
            return None
        if name == "gray" or (name == "black" and not self._bright):  # a shaded white, a shaded anything
            return None
        lively = max(of[c] for c in (*colours.CHROMATIC, "brown") if c != name)
        rest = max(of[c] for c in of if c != name)
        return name if of[name] > _SURE.get(name, 0.45) + 0.07 * person and lively < 0.1 and rest < 0.25 else None

    def may_be(self, thing: Thing, colour: str) -> bool:
        """Whether anybody could call the thing that colour, by all of it or a part; false only when surely not."""
        if id(thing) not in self._possible:
            self._possible[id(thing)] = colours.possible_shares(self._pixels[1][self._small(thing)])
        share = self._possible[id(thing)][colours.NAMES.index(colour)]
        return bool(share > colours.TRACE[colour])

    def covers(self, front: Thing, back: Thing) -> bool:
        """Whether `front` is known to hide a part of `back`."""
        return (front.instance.id, back.instance.id) in self._covers

    def hidden(self, thing: Thing) -> bool:
        """Whether something is known to hide a part of the thing, so that its area is not its size."""
        return any(back == thing.instance.id for _, back in self._covers)

    @cached_property
    def _step(self) -> int:
        """Colours and distances are measured on every so manyth pixel."""
        return max(1, max(self.picture.height, self.picture.width) // _COARSE)

    def _small(self, thing: Thing) -> np.ndarray:
        """(h, w) bool: the mask on every `_step`th pixel, never empty."""
        key = id(thing)
        if key not in self._coarse:
            small = np.ascontiguousarray(thing.mask[:: self._step, :: self._step])
            if not small.any():
                y, x = np.argwhere(thing.mask)[0] // self._step
                small[y, x] = True
            self._coarse[key] = small
        return self._coarse[key]

    def distance(self, one: Thing, other: Thing) -> float:
        """The gap between two masks, in shares of the picture's long side; 0 where they touch."""
        pair = (id(one), id(other))
        if pair not in self._gaps:
            if id(other) not in self._fields:
                self._fields[id(other)] = cv2.distanceTransform((~self._small(other)).astype(np.uint8), cv2.DIST_L2, 3)
            gap = float(self._fields[id(other)][self._small(one)].min())
            self._gaps[pair] = self._gaps[pair[::-1]] = (
                max(gap - 1.5, 0.0) * self._step / max(self.picture.height, self.picture.width)
            )
        return self._gaps[pair]


def _same(a: Thing, b: Thing) -> bool:
    """Whether two annotations outline one thing: their masks' IoU is above SAME_IOU."""
    if min(a.area, b.area) < SAME_IOU * max(a.area, b.area):  # the ratio of areas bounds the IoU
        return False
    if min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0):
        return False
    shared = np.count_nonzero(a.mask & b.mask) / a.mask.size
    return bool(shared > SAME_IOU * (a.area + b.area - shared))


Wordings = dict[str, float]

# {n} is the noun phrase, {N} likewise; weights follow how people word it (short and without an article first).
_SIDE: dict[str, Wordings] = {
    "left": {
        "left {n}": 5, "{n} on left": 4, "{n} on the left": 5, "{n} left": 2, "{n} to the left": 0.7,
        "{n} on the left side": 0.6, "{n} at left": 0.4, "{n} on left side": 0.4, "left side {n}": 0.2,
    },
    "far left": {
        "far left {n}": 3, "{n} on far left": 2, "leftmost {n}": 2, "{n} on the far left": 3, "{n} far left": 1.5,
        "{n} farthest left": 0.4, "{n} all the way to the left": 0.4, "{n} furthest to the left": 0.4,
    },
    "top": {
        "top {n}": 4, "{n} on top": 1.5, "{n} at the top": 3, "upper {n}": 1.2, "{n} at top": 0.8, "highest {n}": 0.5,
    },
    "bottom": {"bottom {n}": 4, "{n} on bottom": 1.5, "{n} at the bottom": 3, "lower {n}": 1.2, "lowest {n}": 0.8},
    "middle": {
        "middle {n}": 5, "{n} in middle": 3, "{n} in the middle": 5, "center {n}": 1.5, "{n} in center": 0.8,
        "{n} in the center": 0.8, "{n} middle": 1,
    },
    "top left": {
        "top left {n}": 4, "{n} top left": 3, "{n} in the top left": 1, "{n} on top left": 1, "upper left {n}": 1.2,
        "{n} upper left": 0.8, "{n} at the top left": 1, "{n} in the upper left": 0.5,
    },
    "bottom left": {
        "bottom left {n}": 4, "{n} bottom left": 3, "{n} on bottom left": 1, "{n} in the bottom left": 1,
        "lower left {n}": 1.2, "{n} lower left": 0.8, "{n} at the bottom left": 1, "front left {n}": 0,
    },
    "top left corner": {
        "{n} in top left corner": 2, "{n} top left corner": 1.5, "{n} in the top left corner": 2,
        "{n} in the upper left corner": 1,
    },
    "bottom left corner": {
        "{n} in bottom left corner": 2, "{n} bottom left corner": 1.5, "{n} in the bottom left corner": 2,
        "{n} in the lower left corner": 1,
    },
}  # fmt: skip


def _mirrored(wordings: Wordings) -> Wordings:
    return {text.replace("left", "right"): weight for text, weight in wordings.items()}


for _name in [name for name in _SIDE if "left" in name]:
    _SIDE[_name.replace("left", "right")] = _mirrored(_SIDE[_name])
# The bare side, for when everything that could be meant is of one kind.
_BARE: dict[str, Wordings] = {
    side: {side: 2, f"{side} one": 4, f"one on the {side}": 1.5, f"one on {side}": 0.5}
    for side in ("left", "right", "far left", "far right")
} | {
    "top": {"top": 1, "top one": 3, "one on top": 1, "one at the top": 1},
    "bottom": {"bottom": 1, "bottom one": 3, "one at the bottom": 1},
    "middle": {"middle": 2, "middle one": 3, "one in the middle": 2, "center one": 0.7, "center": 0.5},
}
for _v in ("top", "bottom"):
    for _h in ("left", "right"):
        _BARE[f"{_v} {_h}"] = {f"{_v} {_h}": 2, f"{_v} {_h} one": 2, f"one on the {_v} {_h}": 1}

_SIZE: dict[str, Wordings] = {
    "biggest": {"biggest {n}": 3, "largest {n}": 2.5, "big {n}": 2},
    "bigger": {"bigger {n}": 3, "larger {n}": 2.5, "big {n}": 2.5, "large {n}": 1},
    "smallest": {"smallest {n}": 3, "small {n}": 2, "little {n}": 0.8, "tiny {n}": 0.3},
    "smaller": {"smaller {n}": 4, "small {n}": 2.5, "little {n}": 0.8},
    "closest": {
        "closest {n}": 3, "{n} closest to us": 2, "{n} in front": 3, "front {n}": 3, "nearest {n}": 1,
        "{n} closest to the camera": 1, "{n} closest": 0.7, "{n} in the front": 1, "{n} nearest to us": 0.5,
        "{n} nearest the camera": 0.4, "{n} in the foreground": 0.7,
    },
    "farthest": {
        "farthest {n}": 1.5, "{n} in back": 2, "back {n}": 2, "{n} in the back": 3, "{n} in background": 1,
        "{n} farthest away": 1, "{n} in the background": 1.5, "{n} furthest away": 0.7,
    },
    "second biggest": {"second biggest {n}": 3, "second largest {n}": 2, "2nd biggest {n}": 0.7},
    "second smallest": {"second smallest {n}": 3, "2nd smallest {n}": 0.7},
}  # fmt: skip

# What hides a part of something else, and what is hidden, when they are the only two of the kind: upright, lying.
_FRONT: Wordings = {
    "{n} in front": 3, "front {n}": 3, "{n} in the front": 1.5, "{n} in front of the other one": 2, "{n} up front": 0.5,
    "{n} in front of the other {n}": 1,
}  # fmt: skip
_BEHIND: Wordings = {
    "{n} behind": 2, "{n} in back": 2, "back {n}": 2, "{n} in the back": 2, "{n} behind the other one": 2.5,
    "{n} behind the other {n}": 1, "partly hidden {n}": 1, "{n} that is partly hidden": 0.7,
}  # fmt: skip
_ATOP: Wordings = {
    "{n} on top of the other one": 2,
    "{n} on top of the other {n}": 1,
    "{n} lying on the other one": 0.7,
}
_UNDER: Wordings = {
    "{n} under the other one": 2, "{n} underneath": 1.5, "{n} under the other {n}": 1, "{n} beneath the other one": 0.7,
    "partly covered {n}": 1, "{n} that is partly covered": 0.7,
}  # fmt: skip


def _clear_left(a: Thing, b: Thing) -> bool:
    """Whether nobody would doubt that `a` is left of `b`: centroid and both edges agree."""
    return b.cx - a.cx > CLEARLY and b.x0 - a.x0 > -0.01 and b.x1 - a.x1 > -0.01


def _clear_above(a: Thing, b: Thing) -> bool:
    return b.cy - a.cy > CLEARLY and b.y0 - a.y0 > -0.01 and b.y1 - a.y1 > -0.01


def _clear_right(a: Thing, b: Thing) -> bool:
    return _clear_left(b, a)


def _clear_below(a: Thing, b: Thing) -> bool:
    return _clear_above(b, a)


def _in_row(things: Sequence[Thing]) -> bool:
    """Whether things stand side by side, so that counting from the left is what people would do."""
    mean = sum(t.y1 - t.y0 for t in things) / len(things)
    areas = [t.area for t in things]
    return max(t.cy for t in things) - min(t.cy for t in things) < 0.9 * mean and min(areas) > 0.06 * max(areas)


def _in_column(things: Sequence[Thing]) -> bool:
    mean = sum(t.x1 - t.x0 for t in things) / len(things)
    areas = [t.area for t in things]
    return max(t.cx for t in things) - min(t.cx for t in things) < 0.9 * mean and min(areas) > 0.1 * max(areas)


def _sides(t: Thing, others: Sequence[Thing], *, aspect: float, sure: bool) -> Iterator[tuple[str, float]]:
    """The places that single `t` out among it and `others`, with weights. `others` may be empty: then a place is said
    only where the thing plainly is there. `aspect`: the picture's width over its height. `sure`: the others are rivals
    indeed."""
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
            yield side, (4.0 if side in ("left", "right") else 1.3) * (0.5 if crowd == 1 else 1.0)
        if side in ("left", "right") and (crowd > 2 or here < 0.2):
            yield f"far {side}", 2.0 if crowd > 2 and here < 0.4 else 1.0 if here < 0.3 else 0.0
    for v, y in (("top", t.cy), ("bottom", 1 - t.cy)):
        for h, x in (("left", t.cx), ("right", 1 - t.cx)):
            if max(x, y) > 0.42:
                continue
            rivals = [(u.cx if h == "left" else 1 - u.cx, u.cy if v == "top" else 1 - u.cy) for u in others]
            # a rival must be plainly elsewhere: out of the quarter, and no nearer to the corner
            if all((ux > 0.5 or uy > 0.5) and ux + uy > x + y + 2 * CLEARLY for ux, uy in rivals):
                yield f"{v} {h}", 1.5
                edge_x = t.x0 if h == "left" else 1 - t.x1
                edge_y = t.y0 if v == "top" else 1 - t.y1
                if max(edge_x, edge_y) < 0.03 and max(x, y) < 0.3:
                    yield f"{v} {h} corner", 1.2
    if crowd not in (3, 5) or not sure:
        return
    wide = aspect * (max(u.cx for u in (t, *others)) - min(u.cx for u in (t, *others)))
    high = max(u.cy for u in (t, *others)) - min(u.cy for u in (t, *others))
    for clear, after, fits, weight in (
        (_clear_left, _clear_right, _in_row([t, *others]) and wide > 2.5 * high and 0.25 < t.cx < 0.75, 4.0),
        (_clear_above, _clear_below, _in_column([t, *others]) and high > 2.5 * wide, 2.5),
    ):
        if fits and sum(clear(u, t) for u in others) == sum(after(u, t) for u in others) == crowd // 2:
            yield "middle", weight


def _count(t: Thing, others: Sequence[Thing]) -> Iterator[Wordings]:
    """Ordinals: "second from left". Only in a row (column) where each other is clearly before or after."""
    if not 2 <= len(others) <= 6:
        return
    row, column = _in_row([t, *others]), _in_column([t, *others])
    for end, before, after, fits in (
        ("left", _clear_left, _clear_right, row),
        ("right", _clear_right, _clear_left, row),
        ("top", _clear_above, _clear_below, column),
        ("bottom", _clear_below, _clear_above, column),
    ):
        ahead = sum(before(u, t) for u in others)
        if not fits or ahead + sum(after(u, t) for u in others) != len(others) or ahead > 4:
            continue
        if ahead == len(others):
            continue  # the last one is the far right one
        the = "the " if end in ("top", "bottom") else ""
        first, short = _ORDINALS[ahead], _SHORT_ORDINALS[ahead]
        often = 0.25 if ahead == 0 else 1.0 if 2 * ahead <= len(others) else 0.3
        yield {
            f"{first} {{n}} from {the}{end}": 3 * often,
            f"{first} {{n}} from the {end}": 3 * often,
            f"{{n}} {first} from {the}{end}": 1.5 * often,
            f"{short} {{n}} from {the}{end}": 1 * often,
            f"{{n}} {short} from {the}{end}": 0.7 * often,
            f"{first} from {the}{end}": 4 * often if ahead else 0,
            f"{first} from the {end}": 1.5 * often if ahead else 0,
            f"{short} from {the}{end}": 1.2 * often if ahead else 0,
            f"{first} one from the {end}": 0.7 * often,
        }


def _whole(t: Thing) -> bool:
    return t.x0 > 0.005 and t.x1 < 0.995 and t.y0 > 0.005 and t.y1 < 0.995


def _sizes(t: Thing, others: Sequence[Thing]) -> Iterator[tuple[str, float]]:
    """Largest, smallest, closest, farthest; by areas, extents and feet that differ plainly."""
    if not others:
        return
    two = len(others) == 1

    def extent(u: Thing) -> float:
        return max(u.x1 - u.x0, u.y1 - u.y0)

    if all(t.area > BIGGER * u.area and extent(t) > 1.15 * extent(u) for u in others):
        yield ("bigger" if two else "biggest"), 2.0
    if _whole(t) and all(u.area > BIGGER * t.area and extent(u) > 1.15 * extent(t) for u in others):
        yield ("smaller" if two else "smallest"), 1.5
    if all(u.category in STANDING for u in (t, *others)):
        if all(t.area > BIGGER * u.area and t.y1 > u.y1 + CLEARLY for u in others):
            yield "closest", 2.0
        if all(u.area > BIGGER * t.area and u.y1 > t.y1 + CLEARLY and t.y1 < 0.9 for u in others):
            yield "farthest", 1.2
    larger = [u for u in others if u.area > BIGGER * t.area and extent(u) > 1.15 * extent(t)]
    smaller = [u for u in others if t.area > BIGGER * u.area and extent(t) > 1.15 * extent(u)]
    if not two and len(larger) + len(smaller) == len(others):
        if len(larger) == 1:
            yield "second biggest", 1.5
        if (
            len(smaller) == 1 and len(others) > 2 and _whole(t) and smaller[0].area >= SMALLEST_SHARE
        ):  # a speck is no first
            yield "second smallest", 0.7


@dataclass(frozen=True)
class _Relation:
    """`holds` decides between two things and an anchor: the relation must hold for the target and plainly fail for the
    rest (`fails`)."""

    wordings: Wordings
    weight: float
    holds: Callable[[Scene, Thing, Thing], bool]
    fails: Callable[[Scene, Thing, Thing], bool]


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


def _right_of(s: Scene, t: Thing, a: Thing) -> bool:
    return _left_of(s, a, t)


def _above(s: Scene, t: Thing, a: Thing) -> bool:
    over = _overlap(t.x0, t.x1, a.x0, a.x1) > 0.6 and "person" not in (t.category, a.category)
    apart = not s.covers(t, a) and not s.covers(a, t)  # what hides a part of something is on it, not above it
    return apart and over and t.y1 < a.y0 + 0.03 and t.cy < a.cy - CLEARLY and _near_enough(s, t, a)


def _below(s: Scene, t: Thing, a: Thing) -> bool:
    return _above(s, a, t)


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


def _not_right_of(s: Scene, t: Thing, a: Thing) -> bool:
    return t.cx < a.cx


def _elsewhere(s: Scene, t: Thing, a: Thing) -> bool:
    return _overlap(t.x0, t.x1, a.x0, a.x1) == 0 and s.distance(t, a) > 0.15


def _not_above(s: Scene, t: Thing, a: Thing) -> bool:
    return (t.cy > a.cy and not s.covers(t, a)) or (_overlap(t.x0, t.x1, a.x0, a.x1) == 0 and s.distance(t, a) > 0.15)


def _not_below(s: Scene, t: Thing, a: Thing) -> bool:
    return (t.cy < a.cy and not s.covers(a, t)) or (_overlap(t.x0, t.x1, a.x0, a.x1) == 0 and s.distance(t, a) > 0.15)


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


def _in_front_of(s: Scene, t: Thing, a: Thing) -> bool:
    return _behind(s, a, t)


def _not_in_front_of(s: Scene, t: Thing, a: Thing) -> bool:
    return _not_behind(s, a, t)


def _under(s: Scene, t: Thing, a: Thing) -> bool:
    return s.covers(a, t) and _lying(t, a)


def _on_top_of(s: Scene, t: Thing, a: Thing) -> bool:
    return _under(s, a, t)


_RELATIONS = (
    _Relation(
        {"{n} left of {a}": 2, "{n} to the left of {a}": 2, "{n} on the left of {a}": 0.6}, 1.5, _left_of, _not_left_of
    ),
    _Relation(
        {"{n} right of {a}": 2, "{n} to the right of {a}": 2, "{n} on the right of {a}": 0.6},
        1.5, _right_of, _not_right_of,
    ),
    _Relation({"{n} above {a}": 3, "{n} right above {a}": 0.5, "{n} over {a}": 0.5}, 1.0, _above, _not_above),
    _Relation({"{n} below {a}": 3, "{n} beneath {a}": 0.4}, 1.0, _below, _not_below),
    _Relation(
        {
            "{n} next to {a}": 4, "{n} beside {a}": 1.5, "{n} by {a}": 1.5, "{n} near {a}": 1,
            "{n} right next to {a}": 0.7,
        },
        2.0, _next_to, _far_from,
    ),
    _Relation({"{n} on {a}": 4, "{n} riding {a}": 2}, 3.0, _riding, _apart),
    _Relation({"{n} on {a}": 3, "{n} sitting on {a}": 1.0}, 2.0, _on_seat, _apart),
    _Relation({"{n} with {a}": 4}, 2.5, _carrying, _apart),
    _Relation({"{n} on {a}": 3}, 1.2, _on_table, _apart),
    _Relation({"{n} in {a}": 2, "{n} on {a}": 1}, 1.2, _in_bowl, _apart),
    _Relation(
        {"{n} behind {a}": 4, "{n} in back of {a}": 0.4, "{n} partly hidden by {a}": 0.7}, 3.0, _behind, _not_behind
    ),
    _Relation({"{n} in front of {a}": 4}, 3.0, _in_front_of, _not_in_front_of),
    _Relation(
        {"{n} under {a}": 3, "{n} underneath {a}": 0.7, "{n} beneath {a}": 0.7, "{n} partly covered by {a}": 0.7},
        2.5, _under, _apart,
    ),
    _Relation({"{n} on top of {a}": 3, "{n} lying on {a}": 1}, 2.5, _on_top_of, _apart),
)  # fmt: skip


def _between(scene: Scene, t: Thing, others: Sequence[Thing]) -> Iterator[tuple[str, str]]:
    """Pairs of anchors, as words, that `t` stands between and none of `others` does."""
    groups: dict[str, list[Thing]] = {}
    for u in scene.things:
        if u is not t and u not in others:
            groups.setdefault(u.category, []).append(u)

    def amid(v: Thing, a: Thing, b: Thing) -> bool:
        row = min(_overlap(v.y0, v.y1, a.y0, a.y1), _overlap(v.y0, v.y1, b.y0, b.y1)) > 0.4
        return row and _clear_left(a, v) and _clear_left(v, b) and a.x1 < v.cx < b.x0

    for category, group in groups.items():
        if len(group) == 2 and not any(u.instance.crowd for u in group):
            a, b = sorted(group, key=lambda u: u.cx)
            noun = vocabulary.names_of(category).said[0][0]
            if len(scene.heard_as(noun)) == 2 and amid(t, a, b) and b.cx - a.cx < 0.6 and _alone_amid(others, a, b):
                yield "two", vocabulary.plural(noun)
    singles = [u for group in groups.values() if len(group) == 1 for u in group if u in scene.targets]
    for a in singles:
        for b in singles:
            if a is b or not amid(t, a, b) or b.cx - a.cx > 0.6 or not _alone_amid(others, a, b):
                continue
            one, two = a.names.said[0][0], b.names.said[0][0]
            if scene.heard_as(one) == [a] and scene.heard_as(two) == [b]:
                yield one, two


def _alone_amid(others: Sequence[Thing], a: Thing, b: Thing) -> bool:
    return all(u.cx < a.cx or u.cx > b.cx for u in others)


@dataclass(frozen=True)
class _Draft:
    """A sentence in the making: its kind, how often people say such a one, and its wordings with weights."""

    kind: str
    weight: float
    wordings: Wordings


def _filled(wordings: Wordings, noun: str, anchor: str = "") -> Wordings:
    return {text.replace("{n}", noun).replace("{a}", anchor): weight for text, weight in wordings.items() if weight}


def located(
    scene: Scene,
    t: Thing,
    others: Sequence[Thing],
    noun: str,
    *,
    bare: bool,
    sure: bool,
    kind: str | None = None,
) -> Iterator[_Draft]:
    """Places, ordinals and sizes that single `t` out. `sure`: `others` are exactly the rivals; otherwise some of
    them may be none, and only what beats a superset is said. `bare`: the noun may be left out."""
    aspect = scene.picture.width / scene.picture.height
    for side, weight in _sides(t, others, aspect=aspect, sure=sure):
        yield _Draft(kind or "location", weight, _filled(_SIDE.get(side, {}), noun))
        if bare and any(u.area >= SMALLEST_SHARE for u in others) and side in _BARE:
            yield _Draft("location", 0.7 * weight, _BARE[side])
    if sure:
        # "bigger" and "second" need others that surely are of the kind; "the biggest food" is nobody's word
        judged = noun not in t.names.wider and not any(map(scene.hidden, (t, *others)))
        for size, weight in _sizes(t, others) if judged else ():
            yield _Draft(kind or "size", weight, _filled(_SIZE[size], noun))
        for wordings in _count(t, others):
            said = {text: w for text, w in wordings.items() if bare or "{n}" in text or " one " in text}
            if not bare:
                said = {text: w for text, w in said.items() if "{n}" in text}
            yield _Draft(kind or "ordinal", 3.0, _filled(said, noun))


def _coloured(noun: str, colour: str, category: str) -> list[tuple[str, float]]:
    """Noun phrases with a colour, with weights."""
    shades = [(colour, 1.0)] if colour != "gray" else [("gray", 0.7), ("grey", 0.3)]
    if category == "person":
        return [
            (text.format(n=noun, c=shade), w * often)
            for shade, often in shades
            for text, w in (("{n} in {c}", 4.0), ("{n} wearing {c}", 1.0))
        ]
    return [(f"{shade} {noun}", often) for shade, often in shades]


def _drafts(scene: Scene, t: Thing) -> Iterator[_Draft]:
    """Every kind of sentence that means `t` and nothing else in the picture."""
    said = list(t.names.said)
    total = sum(weight for _, weight in said)
    said += [(wider, 0.06 * total / len(t.names.wider)) for wider in t.names.wider]
    seen = [u for u in scene.things if u.area >= SMALLEST_SHARE]  # "the bottom one" is said among things one sees
    if len(seen) > 1 and len({u.category for u in scene.things}) == 1:
        said.append(("one", 0.15 * total))
    for noun, weight in said:
        heard = scene.things if noun == "one" else scene.heard_as(noun)
        if any(u.instance.crowd for u in heard):
            continue
        others = scene.distinct([u for u in heard if u is not t])
        bare = noun != "one" and all(u in heard or u.area < SMALLEST_SHARE for u in scene.things)
        exact = noun == "one" or all(u.names.says(noun) for u in heard)
        for draft in _of_noun(scene, t, others, noun, bare=bare, exact=exact):
            yield _Draft(draft.kind, draft.weight * weight / total, draft.wordings)


def _of_noun(
    scene: Scene, t: Thing, others: Sequence[Thing], noun: str, *, bare: bool, exact: bool
) -> Iterator[_Draft]:
    """`exact`: the noun is surely true of all the others too, so that they can be counted."""
    if not others:
        yield _Draft("category", 4.0, {noun: 1.0})
    kind = None if others else "combination"
    yield from located(scene, t, others, noun, bare=bare, sure=exact, kind=kind)
    if exact and others:
        yield from _hidden(scene, t, others, noun)
        yield from _not_like(scene, t, others, noun)
    if colour := scene.colour(t):
        rivals = [u for u in others if scene.may_be(u, colour)]
        sure = exact and all(scene.colour(u) == colour for u in rivals)
        for phrase, often in _coloured(noun, colour, t.category):
            if not rivals:
                yield _Draft("colour", (6.0 if others else 2.0) * often, {phrase: 1.0})
            # redundant but true places are said as well: "red car on the left"
            for draft in located(scene, t, rivals, phrase, bare=False, sure=sure, kind="combination"):
                yield _Draft(draft.kind, 0.5 * often * draft.weight, draft.wordings)
    yield from _related(scene, t, others, noun)


def _hidden(scene: Scene, t: Thing, others: Sequence[Thing], noun: str) -> Iterator[_Draft]:
    """Of two things, the one in front and the one behind, where one is known to hide a part of the other."""
    if len(others) > 1 or noun in t.names.wider:
        return
    other = others[0]
    for front, back in ((t, other), (other, t)):
        odd = back.area > BIGGER * front.area and back.y1 > front.y1 + CLEARLY  # looks closer all the same
        if scene.covers(front, back) and not odd:
            if _upright(t, other):
                yield _Draft("relation", 4.0, _filled(_FRONT if front is t else _BEHIND, noun))
            elif _lying(t, other):
                yield _Draft("relation", 3.0, _filled(_ATOP if front is t else _UNDER, noun))


def _not_like(scene: Scene, t: Thing, others: Sequence[Thing], noun: str) -> Iterator[_Draft]:
    """Negation: all the others surely have a colour that the thing surely has not; of two, the other is at a side."""
    be = "are" if noun.endswith("s") and vocabulary.plural(noun) == noun else "is"  # pliers
    colour = scene.colour(others[0])
    if colour and len(others) <= 4 and all(scene.colour(u) == colour for u in others) and not scene.may_be(t, colour):
        if t.category == "person":
            words = {f"{noun} not in {colour}": 2.0, f"{noun} not wearing {colour}": 2.0}
        else:
            words = {f"{noun} that {be} not {colour}": 3.0, f"{noun} that {be}n't {colour}": 2.0}
        yield _Draft("negation", 1.5, words)
    if len(others) == 1:
        aspect = scene.picture.width / scene.picture.height
        for side, _ in _sides(others[0], [t], aspect=aspect, sure=True):
            if side in ("left", "right"):
                words = {f"{noun} that {be} not on the {side}": 2.0, f"{noun} not on the {side}": 1.0}
                yield _Draft("negation", 0.7, words)


def _related(scene: Scene, t: Thing, others: Sequence[Thing], noun: str) -> Iterator[_Draft]:
    for anchor, name in scene.anchors:
        if anchor is t or anchor in others or noun in anchor.names.heard:
            continue
        for relation in _RELATIONS:
            if relation.holds(scene, t, anchor) and all(relation.fails(scene, u, anchor) for u in others):
                weight = relation.weight * (1.0 if others else 0.4)
                for article, share in (("the ", 0.7), ("", 0.3)):
                    yield _Draft("relation", 1.3 * weight * share, _filled(relation.wordings, noun, article + name))
    for one, two in _between(scene, t, others):
        pair = (
            {f"the two {two}": 2.0, f"{two}": 0.7}
            if one == "two"
            else {f"the {one} and the {two}": 2.0, f"{one} and {two}": 1.0}
        )
        yield _Draft("relation", 1.0, {f"{noun} between {words}": weight for words, weight in pair.items()})


def _pick(weights: np.ndarray, rng: np.random.Generator) -> int:
    """An index drawn by weight."""
    ends = weights.cumsum()
    return min(int(np.searchsorted(ends, rng.random() * ends[-1], side="right")), len(ends) - 1)


def _draw(drafts: Sequence[_Draft], rng: np.random.Generator, limit: int) -> list[tuple[str, str]]:
    """Up to `limit` different (kind, text), by weight; a draft that was used is less likely to be used again."""
    drafts = [draft for draft in drafts if draft.weight > 0 and draft.wordings]
    weights = np.array([draft.weight for draft in drafts])
    drawn: dict[str, str] = {}
    for _ in range(3 * limit if drafts else 0):
        if len(drawn) >= limit:
            break
        k = _pick(weights, rng)
        weights[k] *= 0.3
        texts = list(drafts[k].wordings)
        drawn.setdefault(texts[_pick(np.array(list(drafts[k].wordings.values())), rng)], drafts[k].kind)
    return [(kind, text) for text, kind in drawn.items()]


_COMMANDS = {
    "pick up": 3.0, "grab": 2.0, "find": 2.0, "show me": 1.5, "get": 1.0, "point at": 1.0, "look at": 1.0,
    "give me": 1.0, "take": 1.0, "where is": 1.0, "go to": 1.0,
}  # fmt: skip
_NO_ARTICLE = {"left", "right", "top", "bottom", "middle", "center", "far left", "far right"}


def spoken(text: str, rng: np.random.Generator, articles: float, commands: float) -> str:
    """The text as said: sometimes with an article, seldom as a command."""
    article, command = rng.random(2)
    if text in _NO_ARTICLE:
        return text
    full = text if text.startswith(("the ", "all ", "both ")) else f"the {text}"
    if command < commands:
        return f"{list(_COMMANDS)[_pick(np.array(list(_COMMANDS.values())), rng)]} {full}"
    return full if article < articles else text


def describe(
    scene: Scene, rng: np.random.Generator, *, limit: int = 8, articles: float = 0.35, commands: float = 0.04
) -> list[Expression]:
    """Sentences that each mean exactly one instance of the picture, at most `limit` for each instance.

    `kind` is category, location, ordinal, size, colour, relation, negation or combination. `articles` is the share that
    opens with "the", `commands` the share worded as one ("pick up the red cup"). Deterministic for a seeded `rng`.
    Empty where the picture's annotation is not complete.
    """
    if not scene.picture.complete:
        return []
    made: dict[str, tuple[str, int]] = {}
    clash = set()
    for t in scene.targets:
        for kind, text in _draw(list(_drafts(scene, t)), rng, limit):
            if made.setdefault(text, (kind, t.instance.id))[1] != t.instance.id:
                clash.add(text)  # two readings of one wording ("top bowl"): say it of neither
    return [
        Expression(scene.picture.id, (target,), spoken(text, rng, articles, commands), kind, "generated")
        for text, (kind, target) in made.items()
        if text not in clash
    ]


COCO_KINDS = vocabulary.known_categories()[:80]


def absent(
    scene: Scene, rng: np.random.Generator, *, limit: int = 4, kinds: Iterable[str] = (), articles: float = 0.6
) -> list[Expression]:
    """Sentences that match nothing in the picture: near misses, at most `limit`.

    A wrong colour, a side where none is, an ordinal beyond the last, a relation that plainly fails; and a kind of thing
    that is not there, drawn from `kinds`: the categories that this picture's annotators looked for (`COCO_KINDS` for a
    COCO picture; none by default, since an unannotated kind may well be visible). Targets are empty, kind is "absent".
    """
    if not scene.picture.complete:
        return []
    drafts = list(_misses(scene))
    here = {noun for t in scene.things for noun in t.names.heard}
    missing = [kind for kind in kinds if not vocabulary.names_of(kind).heard & here]
    if missing:
        near = {kind: _alike(kind, scene) for kind in missing}
        weight = max(sum(d.weight for d in drafts), 1.0) / sum(near.values())
        for kind in missing:
            names = {noun: often for noun, often in vocabulary.names_of(kind).said if noun not in here}
            places = {
                f"{noun} on the {side}": 0.05 * often for noun, often in names.items() for side in ("left", "right")
            }
            drafts.append(_Draft("absent", weight * near[kind], names | places))
    return [
        Expression(scene.picture.id, (), spoken(text, rng, articles, 0.04), "absent", "generated")
        for _, text in _draw(drafts, rng, limit)
    ]


def _alike(kind: str, scene: Scene) -> float:
    """How likely the kind is to be looked for here in vain: kinds listed close to one that is there are alike, since
    COCO lists them by groups (vehicles, animals, cutlery, ...)."""
    order = vocabulary.known_categories()
    places = [order.index(t.category) for t in scene.targets if t.category in order]
    close = kind in order and any(abs(order.index(kind) - place) <= 4 for place in places)
    return 5.0 if close else 1.0


def _misses(scene: Scene) -> Iterator[_Draft]:
    for category in dict.fromkeys(t.category for t in scene.targets):
        for noun, weight in vocabulary.names_of(category).said[:2]:
            heard = scene.heard_as(noun)
            if any(u.instance.crowd for u in heard):
                continue
            often = weight / vocabulary.names_of(category).said[0][1]
            person = category == "person"
            if (person or not any(u.category in _NO_COLOUR for u in heard)) and all(scene.colour(u) for u in heard):
                for colour in ("red", "blue", "green", "yellow", "white", "black", "orange", "purple", "pink"):
                    if not any(scene.may_be(u, colour) for u in heard):
                        phrases = dict(_coloured(noun, colour, category))
                        yield _Draft("absent", 0.4 * often, phrases)
            for side, here in (("left", [u.x0 for u in heard]), ("right", [1 - u.x1 for u in heard])):
                if min(here) > 0.55:
                    yield _Draft("absent", 0.5 * often, _filled(_SIDE[side], noun))
            if 2 <= len(heard) <= 5 and _in_row(heard):
                for end in ("left", "right"):
                    beyond = _ORDINALS[len(heard)]
                    words = {f"{beyond} {noun} from the {end}": 2.0, f"{beyond} {noun} from {end}": 1.0}
                    yield _Draft("absent", 0.4 * often, words)
            for anchor, name in scene.anchors:
                if anchor in heard or noun in anchor.names.heard:
                    continue
                for relation, fits in (
                    (_RELATIONS[0], _not_left_of),
                    (_RELATIONS[1], _not_right_of),
                    (_RELATIONS[2], _not_above),
                    (_RELATIONS[3], _not_below),
                ):
                    if all(
                        fits(scene, u, anchor) and abs(u.cx - anchor.cx) + abs(u.cy - anchor.cy) > 0.2 for u in heard
                    ):
                        yield _Draft("absent", 0.08 * often, _filled(relation.wordings, noun, f"the {name}"))


def plurals(scene: Scene, rng: np.random.Generator, *, limit: int = 3, articles: float = 0.4) -> list[Expression]:
    """Sentences that mean several instances, at most `limit`: "both cats", "all the dogs", "the two cups on the left".

    Only for groups that are annotated one by one and visible enough. Kind is "plural".
    """
    if not scene.picture.complete:
        return []
    drafts: list[_Draft] = []
    groups: list[tuple[int, ...]] = []
    for category in dict.fromkeys(t.category for t in scene.targets):
        for noun, weight in vocabulary.names_of(category).said[:3]:
            heard = scene.heard_as(noun)
            if not 2 <= len(heard) <= 8 or not all(u in scene.targets and u.names.says(noun) for u in heard):
                continue
            often = weight / vocabulary.names_of(category).said[0][1]
            several = vocabulary.plural(noun)
            for phrase, group, share in _groups(scene, heard, several, category):
                whole = len(group) == len(heard)
                drafts.append(_Draft("plural", often * share, _plural_words(phrase, len(group), whole)))
                groups.append(tuple(u.instance.id for u in group))
    targets = {text: group for draft, group in zip(drafts, groups, strict=True) for text in draft.wordings}
    return [
        Expression(scene.picture.id, targets[text], spoken(text, rng, articles, 0.02), "plural", "generated")
        for _, text in _draw(drafts, rng, limit)
    ]


def _plural_words(phrase: str, count: int, whole: bool) -> Wordings:
    words = {phrase: 2.0, f"the {phrase}": 1.0}
    if whole:
        words |= {f"all the {phrase}": 1.5, f"all {phrase}": 1.0}
    if count == 2:
        words |= {f"both {phrase}": 4.0, f"the two {phrase}": 1.5, f"two {phrase}": 0.5}
    elif count <= 6:
        words |= {f"the {_COUNTS[count]} {phrase}": 1.0, f"all {_COUNTS[count]} {phrase}": 1.5}
    return words


def _groups(
    scene: Scene, heard: Sequence[Thing], several: str, category: str
) -> Iterator[tuple[str, Sequence[Thing], float]]:
    """(noun phrase, members, weight): all of a kind, those of one colour, those on one side."""
    yield several, heard, 3.0
    for colour in dict.fromkeys(filter(None, map(scene.colour, heard))):
        group = [u for u in heard if scene.colour(u) == colour]
        if 2 <= len(group) < len(heard) and not any(scene.may_be(u, colour) for u in heard if u not in group):
            yield _coloured(several, colour, category)[0][0], group, 2.0
    ordered = sorted(heard, key=lambda u: u.cx)
    for k in range(2, len(ordered) - 0):
        left, rest = ordered[:k], ordered[k:]
        if rest and min(u.x0 for u in rest) > max(u.x1 for u in left) + 2 * CLEARLY and left[-1].cx < 0.5 < rest[0].cx:
            yield f"{several} on the left", left, 1.0
        right, rest = ordered[-k:], ordered[:-k]
        if (
            rest
            and max(u.x1 for u in rest) < min(u.x0 for u in right) - 2 * CLEARLY
            and rest[-1].cx < 0.5 < right[0].cx
        ):
            yield f"{several} on the right", right, 1.0
