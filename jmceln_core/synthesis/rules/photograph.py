"""Annotated photographs as a world of sentences: what masks and pixels tell of the things in them.

Everything here is geometry and colour inside the masks; where things stand to each other is in `placing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import cached_property

import cv2
import numpy as np

from jmceln_core.data.grounding import Instance, Picture
from jmceln_core.synthesis import colours, vocabulary
from jmceln_core.synthesis.rules import placing
from jmceln_core.synthesis.rules.logic import Claim, Colour, Meant, Not, Relation, Truth, named, negated
from jmceln_core.synthesis.rules.placing import Thing

SAME_IOU = 0.8  # two annotations of one thing
_COARSE = 200  # long side in pixels of the masks that colours and distances are measured on

# Things whose colour people do not name by the pixels inside the outline: patterned, see-through, shining, overlaid.
NO_COLOUR = placing.kinds(
    """person, zebra, giraffe, elephant, pizza, dining table, wine glass, tv, laptop, book, traffic light, clock,
    potted plant, sandwich, hot dog, orange, carrot, broccoli, bear, kiwi, mango, rice, microwave, oven, toaster, sink,
    mouse, cake, rhesus monkey, tiger, deer, otter, turtle, bed, baseball glove, slice of bread, hand, airplane, boat,
    train, banana, parking meter, bench"""
)
# The share of a thing's pixels that makes its colour sure (0.45 where not given); what clothes may be told to be.
_SURE = {"black": 0.68, "white": 0.58, "brown": 0.62}
_WORN = ("black", "white", "red", "yellow", "green", "blue")


# The rule of what is between two things, the two, and what fills its words.
Flank = tuple[str, tuple[Thing, Thing], dict[str, str]]


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
        self.aspect = picture.width / picture.height
        self.rgb = rgb
        self._covers = frozenset(covers)
        self._colours: dict[int, str | None] = {}
        self._possible: dict[int, np.ndarray] = {}
        self._coarse: dict[int, np.ndarray] = {}
        self._fields: dict[int, np.ndarray] = {}
        self._gaps: dict[tuple[int, int], float] = {}
        self._named: dict[str, Meant[Thing]] = {}
        self._relations: dict[int, list[tuple[Thing, str, str]]] = {}
        self._flanked: dict[int, list[Flank]] = {}
        self.things = [thing for thing in map(self._measure, picture.instances) if thing is not None]
        self._by_id = {thing.instance.id: thing for thing in self.things}

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
        return self._by_id[instance_id]

    @cached_property
    def targets(self) -> list[Thing]:
        """Things a sentence may be about: no crowd, not tiny, not annotated twice."""
        singles = [t for t in self.things if not t.instance.crowd and t.area >= placing.SMALLEST_SHARE]
        return [t for t in singles if not any(_same(t, u) for u in self.things if u is not t)]

    def heard_as(self, noun: str) -> list[Thing]:
        """Everything in the picture a listener might take the noun for."""
        return [t for t in self.things if _hears(t, noun)]

    def called(self, thing: Thing, noun: str) -> Truth:
        """Whether a listener takes the noun for the thing; in doubt where only some would, and of crowds."""
        if noun != "one" and not _hears(thing, noun):
            return False
        return True if (noun == "one" or thing.names.says(noun)) and not thing.instance.crowd else None

    def named(self, noun: str) -> Meant[Thing]:
        """What the bare noun may mean, found once."""
        if noun not in self._named:
            self._named[noun] = named(self, noun)
        return self._named[noun]

    def holds(self, thing: Thing, claim: Claim) -> Truth:
        """Whether a colour or a relation is true of the thing."""
        match claim:
            case Colour(name):
                return True if self.colour(thing) == name else None if self.may_be(thing, name) else False
            case Not(other):
                return negated(self.holds(thing, other))
            case Relation("between", (first, second)):
                a, b = self.thing(first), self.thing(second)
                return True if placing.amid(thing, a, b) else False if placing.not_amid(thing, a, b) else None
            case Relation(name, (landmark,)):
                relation, anchor = placing.RELATIONS[name], self.thing(landmark)
                if relation.fails(self, thing, anchor):
                    return False
                return True if relation.holds(self, thing, anchor) else None
        raise TypeError(claim)

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

    def relations(self, thing: Thing) -> list[tuple[Thing, str, str]]:
        """The anchors that the thing plainly stands in a relation to: (anchor, its name, relation)."""
        key = id(thing)
        if key not in self._relations:
            self._relations[key] = [
                (anchor, name, relation)
                for anchor, name in self.anchors
                if anchor is not thing
                for relation, measured in placing.RELATIONS.items()
                if measured.holds(self, thing, anchor)
            ]
        return self._relations[key]

    @cached_property
    def _flanks(self) -> list[Flank]:
        """What others can be between: the only two of a kind, two anchors."""
        kinds: dict[str, list[Thing]] = {}
        for thing in self.things:
            kinds.setdefault(thing.category, []).append(thing)
        found: list[Flank] = []
        for group in kinds.values():
            name = group[0].names.said[0][0]
            if len(group) == 2 and not any(u.instance.crowd for u in group) and len(self.heard_as(name)) == 2:
                one, other = sorted(group, key=lambda u: u.cx)
                found.append(("between two", (one, other), {"a": vocabulary.plural(name)}))
        pairs = itertools.product(self.anchors, repeat=2)
        return found + [("between", (a, b), {"a": one, "b": other}) for (a, one), (b, other) in pairs]

    def flanked(self, thing: Thing) -> list[Flank]:
        """Those pairs that the thing stands between."""
        if id(thing) not in self._flanked:
            self._flanked[id(thing)] = [flank for flank in self._flanks if placing.amid(thing, *flank[1])]
        return self._flanked[id(thing)]

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
        elif thing.category in NO_COLOUR or thing.area < 2 * placing.SMALLEST_SHARE:
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


def _hears(thing: Thing, noun: str) -> bool:
    """Whether a listener might take the noun for the thing."""
    return noun in thing.names.heard or thing.category.endswith(" " + noun)


def _same(a: Thing, b: Thing) -> bool:
    """Whether two annotations outline one thing: their masks' IoU is above SAME_IOU."""
    if min(a.area, b.area) < SAME_IOU * max(a.area, b.area):  # the ratio of areas bounds the IoU
        return False
    if min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0):
        return False
    shared = np.count_nonzero(a.mask & b.mask) / a.mask.size
    return bool(shared > SAME_IOU * (a.area + b.area - shared))
