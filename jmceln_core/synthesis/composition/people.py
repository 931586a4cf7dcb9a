"""Line-ups and crowds of people cut out of photographs, some in dyed clothes; `clothes` knows what is true of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from jmceln_core.data.grounding import DataError, Expression, Instance, Picture, read_image
from jmceln_core.synthesis import colours
from jmceln_core.synthesis.composition.backdrops import textured
from jmceln_core.synthesis.composition.clothes import (
    ALIKE,
    HEAD,
    LOWER,
    QUESTIONS,
    UPPER,
    Look,
    Person,
    Question,
    may_be,
    person_of,
    read_people,
)
from jmceln_core.synthesis.composition.cutting import Cut, bounds, softened
from jmceln_core.synthesis.composition.pasting import STRIDE, cut_into
from jmceln_core.synthesis.composition.recolour import dyed
from jmceln_core.synthesis.composition.tables import photographed
from jmceln_core.synthesis.rules.facts import Fact, Staged, Subject
from jmceln_core.synthesis.rules.written import noun_of

HELD_OUT = 100  # persons, but never more than a fifth of all
HIDDEN = 0.45  # the most of a person that others hide
OUTSIDE = 0.5  # and that the picture's side cuts off
TRIES = 10  # of a place for a person
SHAPES = ((336, 448), (448, 448), (448, 336), (384, 512), (384, 384))  # height, width
_FEW, _MANY = (0.4, 0.15, 0.2, 0.15, 0.1), (0.6, 0.1, 0.0, 0.3, 0.0)  # how often, of few and of many people
BAND = (0.1, 0.3)  # of the picture, from below, that a table may hide
DYED = UPPER | LOWER | {"scarf", "hat", "bag", "purse"}
MISSES = 10  # facts that are true of nobody
MIXED = 0.33  # of the pictures show somebody cut out of an annotated photograph
UPRIGHT, ENLARGED = 1.5, 2  # the least height of such a cut-out by its width, the most it is enlarged

Shape = tuple[int, int]  # height, width
Rng = np.random.Generator


class _Cut(NamedTuple):
    rgb: np.ndarray  # (h, w, 3) uint8
    alpha: np.ndarray  # (h, w) uint8
    labels: np.ndarray  # (h, w) uint8, 0 where there is nothing


class _Place(NamedTuple):
    """Of a whole person in the picture, in pixels: the middle, the feet, from head to foot."""

    x: float
    foot: float
    tall: float


class _Layer(NamedTuple):
    person: Person
    dyes: Mapping[str, str]  # label to colour
    cut: _Cut  # as large as it is in the picture
    x: int
    y: int

    def on(self, shape: Shape) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of a picture that the layer's box covers, and the part of the box that is within it."""
        (height, width), (high, wide) = shape, self.cut.alpha.shape
        y0, x0 = max(self.y, 0), max(self.x, 0)
        y1, x1 = max(min(self.y + high, height), y0), max(min(self.x + wide, width), x0)
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - self.y, y1 - self.y), slice(x0 - self.x, x1 - self.x))


class People:
    """Makes pictures of three to seven people cut out of the photographs of a folder, some in dyed clothes.

    Called with a picture's number and a random generator it returns the picture, its people and what is surely true or
    false of their clothes, hair and bags; a function of both alone. `backdrops` (image files) may stand behind them.
    Persons among the cut-outs `further`, of whom something was written, stand between those of the split "train".
    DataError if the folder has not enough people of the split.
    """

    def __init__(
        self,
        root: Path,
        *,
        split: Literal["train", "heldout"] = "train",
        backdrops: Sequence[Path] = (),
        further: Iterable[Cut] = (),
    ) -> None:
        people, self.names = read_people(root)
        self.people = _of_split(people, split)
        self.streets = [person for person in self.people if person.alone]
        self.backdrops = list(backdrops)
        self.further = [person_of(cut) for cut in further if split == "train" and _stands(cut)]
        if len(self.people) < 2:
            raise DataError(f"{root}: fewer than two people in the split {split}: take a larger folder")

    def __call__(self, number: int, rng: Rng) -> Staged:
        count, style = int(rng.integers(3, 8)), _STYLES[rng.choice(len(_STYLES), p=_OFTEN)]
        shape = SHAPES[rng.choice(len(SHAPES), p=_FEW if count < 6 else _MANY)]
        covered = round(shape[0] * (1 - rng.uniform(*BAND))) if style.table else shape[0]
        places = style.places(count, shape, rng)
        if rng.random() < 0.25:  # one cut by the picture's side
            k, side = int(rng.integers(len(places))), float(rng.integers(2))
            places[k] = places[k]._replace(x=side * shape[1] + rng.normal(0, 0.05) * places[k].tall)
        layers: list[_Layer] = []
        chosen = self._mixed(self._choose(len(places), rng), places, rng)
        for (person, dyes), place in zip(chosen, places, strict=False):
            cut, dyes = self._dressed(person, dyes, rng)
            mirrors = person.cut is None or person.cut.mirrors
            cut = _resized(cut, place.tall, mirrored=bool(rng.random() < 0.5) and mirrors)
            for attempt in range(TRIES):
                x = place.x if not attempt else rng.uniform(0.05, 0.95) * shape[1]
                layer = _Layer(person, dyes, cut, round(x - cut.alpha.shape[1] / 2), round(place.foot) - len(cut.alpha))
                if _fits([*layers, layer], (covered, shape[1])):
                    layers.append(layer)
                    break
        return self._staged(number, _ordered(layers), shape, covered, rng)

    def _choose(self, count: int, rng: Rng) -> list[tuple[Person, dict[str, str]]]:
        """Different people with the colours their garments shall be dyed in; some twice, in different ones."""
        chosen: list[tuple[Person, dict[str, str]]] = []
        met: set[str] = set()
        for k in rng.permutation(len(self.people)):
            person = self.people[k]
            if len(chosen) >= count:
                break
            if person.same in met:
                continue
            met.add(person.same)
            large = {label: g.area for label, g in person.garments.items() if label in DYED and g.area > 0.06}
            draw, shades = rng.random(), [str(c) for c in rng.permutation(colours.NAMES)]
            if not large or draw > 0.5:
                chosen.append((person, {}))
                continue
            label = list(large)[rng.choice(len(large), p=_weights(list(large.values())))]
            twins = int(rng.integers(2, 4)) if draw < 0.15 else 1
            chosen += [(person, {label: shade}) for shade in shades[:twins]]
        chosen = chosen[:count]
        return [chosen[k] for k in rng.permutation(len(chosen))]

    def _mixed(
        self, chosen: list[tuple[Person, dict[str, str]]], places: Sequence[_Place], rng: Rng
    ) -> list[tuple[Person, dict[str, str]]]:
        """The chosen, now and then with further persons for one or two of them, where they are large enough."""
        if not self.further or rng.random() >= MIXED:
            return chosen
        chosen = list(chosen)
        for k in rng.permutation(len(chosen))[: int(rng.integers(1, 3))]:
            large = [p for p in self.further if p.box[3] * ENLARGED >= places[k].tall and (p, {}) not in chosen]
            if large:
                chosen[k] = large[int(rng.integers(len(large)))], {}
        return chosen

    def _dressed(self, person: Person, dyes: Mapping[str, str], rng: Rng) -> tuple[_Cut, dict[str, str]]:
        """The person with the garments dyed, and the dyes that took: those whose colour is now certain."""
        cut, taken = _cut(person, self.names), {}
        for label, colour in dyes.items():
            garment = cut.labels == self.names.index(label)
            if not garment.any():
                continue
            x0, y0, x1, y1 = bounds(garment, margin=2)
            box = slice(y0, y1), slice(x0, x1)
            made = dyed(cut.rgb[box], garment[box], colour, rng)
            if may_be(made[garment[box]])[colour] < ALIKE:
                continue
            rgb, soft = cut.rgb.copy(), cv2.GaussianBlur(garment[box].astype(np.float32), (0, 0), 0.7)[..., None]
            rgb[box] = rgb[box] + soft * (made.astype(np.float32) - rgb[box]) + 0.5
            cut, taken[label] = cut._replace(rgb=rgb), colour
        return cut, taken

    def _behind(self, shape: Shape, rng: Rng) -> np.ndarray:
        """(H, W, 3) float32: a texture, the blurred street of some photograph, or a plain wall and floor."""
        draw = rng.random()
        if self.backdrops and draw < 0.35:
            rgb = textured(self.backdrops, shape, rng)
        elif self.streets and draw < 0.8:
            rgb = _street(self.streets[int(rng.integers(len(self.streets)))], shape)
        else:
            rgb = _wall(shape, rng)
        return cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.8, 5)).astype(np.float32) * np.float32(rng.uniform(0.6, 1))

    def _staged(self, number: int, layers: Sequence[_Layer], shape: Shape, covered: int, rng: Rng) -> Staged:
        """The picture of layers, from back to front; from the row `covered` on a table hides them."""
        canvas, labels = self._behind(shape, rng), np.zeros(shape, np.uint8)
        for layer in layers:
            _shade(canvas, layer)
        for layer in layers:
            there, part = layer.on(shape)
            alpha = layer.cut.alpha[part].astype(np.float32)[..., None] / 255
            canvas[there] += alpha * (np.float32(rng.uniform(0.92, 1.06)) * layer.cut.rgb[part] - canvas[there])
            np.copyto(labels[there], layer.cut.labels[part], where=layer.cut.alpha[part] > 127)
        if covered < shape[0]:
            canvas[covered:] = self._behind(shape, rng)[covered:]
            canvas[covered : covered + 2] *= 0.7
        rgb = photographed(canvas, rng)
        owner, masks = _owners(layers, shape, covered)
        looks = [
            Look(layer.person, layer.dyes, self.names, _labels(layer.cut), layer.y, owner == k, labels, rgb)
            for k, layer in enumerate(layers, 1)
        ]
        facts, values = _judged(looks, rng)
        keys = [number * STRIDE + k for k in range(1, len(looks) + 1)]
        subjects = tuple(_subject(key, look, known) for key, look, known in zip(keys, looks, values, strict=True))
        covers = tuple(
            (keys[front], keys[back])
            for front in range(len(masks))
            for back in range(front)
            if cut_into(masks[front], masks[back])
        )
        picture = Picture(number, Path(f"{number:012d}.jpg"), *shape, tuple(s.instance for s in subjects))
        written = tuple(
            Expression(number, (key,), text, kind, "generated")
            for k, key in enumerate(keys)
            for text, kind in _written(k, looks, subjects).items()
        )
        return Staged(picture, rgb, subjects, facts, covers, whole=False, written=written)  # streets and shoes


def _of_split(people: Sequence[Person], split: str) -> list[Person]:
    """Those of the split, by a fixed draw; all photographs of one person are in the same one."""
    groups: dict[str, list[Person]] = {}
    for person in people:
        groups.setdefault(person.same, []).append(person)
    keys = sorted(groups)
    held: set[str] = set()
    for k in np.random.default_rng(14).permutation(len(keys)):
        if sum(len(groups[key]) for key in held) < min(HELD_OUT, len(people) // 5):
            held.add(keys[k])
    return [person for person in people if (person.same in held) == (split == "heldout")]


@lru_cache(maxsize=64)
def _cut(person: Person, names: tuple[str, ...]) -> _Cut:
    """The person cut out of the photograph; `names` are those of the labels. Where nothing is labelled, all may be
    clothes."""
    if person.cut is not None:
        clothes = next(k for k, name in enumerate(names) if name in UPPER)
        return _Cut(person.cut.rgb, person.cut.alpha, np.full_like(person.cut.alpha, clothes))
    rgb, labels = read_image(person.image), cv2.imread(str(person.labels), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.shape != rgb.shape[:2] or not labels.any():
        raise DataError(f"{person.labels}: not the labels of {person.image.name}; fetch it again")
    x0, y0, x1, y1 = bounds(labels > 0, margin=2)
    labels = labels[y0:y1, x0:x1].copy()
    for old, new in person.renamed.items():
        labels[labels == names.index(old)] = names.index(new)
    return _Cut(rgb[y0:y1, x0:x1].copy(), softened(labels > 0), labels)


def _stands(cut: Cut) -> bool:
    """Whether it is a person as tall as they are, of whom something was written."""
    high, wide = cut.alpha.shape
    return cut.category == "person" and bool(cut.texts) and high >= UPRIGHT * wide


def _resized(cut: _Cut, tall: float, *, mirrored: bool) -> _Cut:
    high = max(8, round(tall))
    size = (max(4, round(cut.alpha.shape[1] * high / len(cut.alpha))), high)
    way = cv2.INTER_AREA if high < len(cut.alpha) else cv2.INTER_LINEAR
    ways = (way, way, cv2.INTER_NEAREST)
    parts = [cv2.resize(part, size, interpolation=how) for part, how in zip(cut, ways, strict=True)]
    return _Cut(*(np.ascontiguousarray(part[:, ::-1]) if mirrored else part for part in parts))


def _labels(cut: _Cut) -> np.ndarray:
    """(h, w) uint8: the labels of what the cut covers."""
    return np.where(cut.alpha > 127, cut.labels, 0)


def _street(person: Person, shape: Shape) -> np.ndarray:
    """(H, W, 3) uint8: what is beside the person in their photograph, and its mirror image, side by side."""
    rgb, (x, _, w, _) = read_image(person.image), person.box
    strip = max(rgb[:, : max(x - 4, 1)], rgb[:, min(x + w + 4, rgb.shape[1] - 1) :], key=lambda part: part.shape[1])
    tiles = max(1, round(len(rgb) * shape[1] / shape[0] / strip.shape[1]))
    return cv2.resize(np.hstack([(strip, strip[:, ::-1])[k % 2] for k in range(tiles)]), shape[::-1])


def _wall(shape: Shape, rng: Rng) -> np.ndarray:
    """(H, W, 3) uint8: a wall above a floor, both plain, with the light from somewhere and a little grain."""
    height, width = shape
    rgb, horizon = np.empty((height, width, 3), np.float32), int(height * rng.uniform(0.35, 0.8))
    rgb[:horizon] = rng.uniform(60, 220) + rng.normal(0, 14, 3)
    rgb[horizon:] = rng.uniform(60, 190) + rng.normal(0, 8, 3)
    across, down = rng.uniform(-0.25, 0.25, 2)
    rgb *= 1 + (across * np.linspace(-1, 1, width)[None] + down * np.linspace(-1, 1, height)[:, None])[..., None]
    rgb += cv2.resize(rng.normal(0, 14, (height // 8, width // 8)), (width, height))[..., None]
    return np.clip(rgb, 0, 255).astype(np.uint8)


def _side_by_side(sizes: np.ndarray, feet: np.ndarray, width: int, spread: float, rng: Rng) -> list[_Place]:
    step = width / max(len(sizes), 1)
    middles = (np.arange(len(sizes)) + 0.5 + rng.normal(0, spread, len(sizes))) * step
    return [_Place(*map(float, place)) for place in zip(middles, feet, sizes, strict=True)]


def _line_up(count: int, shape: Shape, rng: Rng) -> list[_Place]:
    """Feet on a line."""
    height, width = shape
    foot = height * rng.uniform(0.88, 0.985)
    tall = min(0.94 * foot, width / count * rng.uniform(2.6, 4.2))
    sizes = tall * rng.uniform(0.9, 1.03, count)
    return _side_by_side(sizes, foot + rng.normal(0, 0.01, count) * height, width, 0.08, rng)


def _rows(count: int, shape: Shape, rng: Rng) -> list[_Place]:
    """Two rows, those behind between those in front and higher."""
    back, rise = count // 2, rng.uniform(0.12, 0.3)
    front = _line_up(count - back, shape, rng)
    sizes = np.full(back, front[0].tall * (1 - rise / 2))
    return front + _side_by_side(sizes, np.full(back, front[0].foot - rise * front[0].tall), shape[1], 0.15, rng)


def _depth(count: int, shape: Shape, rng: Rng) -> list[_Place]:
    """Near and far on level ground: as tall as the feet are below the horizon."""
    height, width = shape
    horizon, factor = height * rng.uniform(0.2, 0.45), rng.uniform(1.15, 1.5)
    feet = horizon + (0.99 * height - horizon) * rng.uniform(0.4, 1, count)
    sizes = np.minimum(factor * (feet - horizon) * rng.uniform(0.93, 1.05, count), 0.98 * feet)
    across = width * rng.uniform(0.08, 0.92, count)
    return [_Place(*map(float, place)) for place in zip(across, feet, sizes, strict=True)]


def _busts(count: int, shape: Shape, rng: Rng) -> list[_Place]:
    """So near that the picture ends below the chest or the knees."""
    height, width = shape
    count = min(count, 5)
    tall = min(height * rng.uniform(1.15, 2.1), width / count * rng.uniform(4.2, 5.5))
    top = max(height * rng.uniform(0.04, 0.2), height - 0.85 * tall)
    sizes = tall * rng.uniform(0.92, 1.06, count)
    return _side_by_side(sizes, top + rng.normal(0, 0.02, count) * height + sizes, width, 0.08, rng)


class _Style(NamedTuple):
    often: float
    places: Callable[[int, Shape, Rng], list[_Place]]
    table: bool = False  # hides the lower part of the picture


_STYLES = (
    _Style(3, _line_up), _Style(3, _depth), _Style(2.5, _busts), _Style(1.5, _rows),
    _Style(0.7, _line_up, True), _Style(0.7, _busts, True), _Style(0.4, _rows, True),
)  # fmt: skip


def _weights(values: Sequence[float]) -> np.ndarray:
    return np.array(values) / sum(values)


_OFTEN = _weights([style.often for style in _STYLES])


def _ordered(layers: Sequence[_Layer]) -> list[_Layer]:
    """From back to front: whose feet are lower is in front."""
    return sorted(layers, key=lambda layer: layer.y + len(layer.cut.alpha))


def _owners(layers: Sequence[_Layer], shape: Shape, covered: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """(H, W) int: the place + 1 of the layer that is seen at each pixel, 0 for none; and (H, W) bool for each layer:
    where it would be seen if it were alone."""
    owner, masks = np.zeros(shape, np.int32), []
    for k, layer in enumerate(layers, 1):
        mask = np.zeros(shape, bool)
        there, part = layer.on(shape)
        mask[there] = layer.cut.alpha[part] > 127
        mask[covered:] = False
        owner[mask] = k
        masks.append(mask)
    return owner, masks


def _fits(layers: Sequence[_Layer], shape: Shape) -> bool:
    """Whether enough is seen of everybody; `shape` is what the table leaves of the picture."""
    ordered = _ordered(layers)
    owner, masks = _owners(ordered, shape, shape[0])
    for k, (layer, mask) in enumerate(zip(ordered, masks, strict=True), 1):
        rows = layer.on(shape)[1][0]
        within, alone = np.count_nonzero(mask), np.count_nonzero(layer.cut.alpha[rows] > 127)
        if not within or within < (1 - OUTSIDE) * alone or np.count_nonzero(owner == k) < (1 - HIDDEN) * within:
            return False
    return True


def _shade(canvas: np.ndarray, layer: _Layer) -> None:
    """A soft shadow at the feet, painted into the canvas (H, W, 3) float32."""
    high, wide = layer.cut.alpha.shape
    foot, flat = layer.y + high - 2, max(2, high // 40)
    y0, x0 = max(foot - 3 * flat, 0), max(layer.x - 4, 0)
    part = canvas[y0 : max(foot + 3 * flat, 0), x0 : max(layer.x + wide + 4, 0)]
    if part.size:
        ys, xs = np.ogrid[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]]
        off = ((ys - foot) / (1.5 * flat)) ** 2 + ((xs - layer.x - wide / 2) / (0.35 * wide + 3)) ** 2
        part *= 1 - 0.45 * np.exp(-off).astype(np.float32)[..., None]


def _judged(looks: Sequence[Look], rng: Rng) -> tuple[tuple[Fact, ...], list[dict[str, bool]]]:
    """The facts that are true of somebody and some near misses, and which of them are true or false of each.

    What is denied must be seen: a fact that is false of somebody whose part of the body is hidden is never denied.
    """
    asked = [(question, [question.ask(look) for look in looks]) for question in QUESTIONS]
    true = [k for k, (_, values) in enumerate(asked) if any(values)]
    missed = [k for k, (_, values) in enumerate(asked) if all(value is False for value in values)]
    words = {word for k in true for word in _words(asked[k][0])}
    near = [k for k in missed if words & _words(asked[k][0])]
    kept = sorted({*true, *(near[k] for k in rng.permutation(len(near))[:MISSES])})
    facts, known = [], [dict[str, bool]() for _ in looks]
    for question, values in (asked[k] for k in kept):
        seen = all(value is not False or look.shows(question.part) for look, value in zip(looks, values, strict=True))
        facts.append(question.fact if any(values) and seen else replace(question.fact, denied=()))
        for of, value in zip(known, values, strict=True):
            if value is not None:
                of[question.fact.key] = value
    return tuple(facts), known


def _written(k: int, looks: Sequence[Look], subjects: Sequence[Subject]) -> dict[str, str]:
    """The sentences, with their kinds, that were written of somebody and surely fit nobody else of the picture: by
    their noun, or by a garment in a colour."""
    cut = looks[k].person.cut
    if cut is None or not looks[k].whole:
        return {}
    others = [(look, subject) for j, (look, subject) in enumerate(zip(looks, subjects, strict=True)) if j != k]
    return {
        text: kind
        for kind, text in cut.texts
        if all(s.is_called(noun_of(text, "person")) is False or look.misfits(text) for look, s in others)
    }


def _words(question: Question) -> set[str]:
    return set(question.fact.key.split(":")[1].split())


_ANYBODY = frozenset({"kid", "child", "adult", "player", "human"})
_NAMES: dict[bool | None, tuple[tuple[tuple[str, float], ...], frozenset[str]]] = {
    True: ((("woman", 5.0), ("lady", 1.5), ("girl", 1.5), ("person", 1.0)), _ANYBODY),
    False: ((("man", 5.0), ("guy", 4.0), ("person", 1.0)), _ANYBODY | {"boy", "dude"}),
    None: ((("person", 1.0),), _ANYBODY | {"woman", "lady", "girl", "man", "guy", "boy", "dude"}),
}


def _subject(key: int, look: Look, facts: dict[str, bool]) -> Subject:
    """The person as an instance of that id."""
    said, heard = _NAMES[look.person.woman if look.shows(HEAD) else None]
    return Subject(Instance.of_mask(key, "person", look.mask), said, heard, facts)
