"""Tables and bins of cut-outs, among them things that differ in their colour alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jmceln_core.data.grounding import Instance, Picture
from jmceln_core.synthesis import colours, vocabulary
from jmceln_core.synthesis.composition.backdrops import textured
from jmceln_core.synthesis.composition.cutouts import Cutout, Split, read_cutouts
from jmceln_core.synthesis.composition.pasting import STRIDE, turned
from jmceln_core.synthesis.composition.recolour import colour_facts, dyed
from jmceln_core.synthesis.rules.facts import Fact, Staged, Subject

SIDE = 448  # long side of a picture, in pixels
SHAPES = ((336, 448), (448, 448), (448, 336))
VISIBLE = 0.55  # the least of a thing that is left visible by what lies on it
LEAST = 22  # pixels, the long side of the smallest thing
TRIES = 10  # of a place for a thing

COLOURS = tuple(
    Fact(
        f"colour:{c}",
        "colour",
        before=(c, "grey") if c == "gray" else (c,),
        after=(f"that is {c}",) if c in colours.CHROMATIC else (),
        denied=(f"that isn't {c}", f"that is not {c}"),
    )
    for c in colours.NAMES
)


class _Layer(NamedTuple):
    cutout: Cutout
    colour: str | None  # the one it was dyed in, or has
    rgb: np.ndarray  # (h, w, 3) uint8
    alpha: np.ndarray  # (h, w) float32 in [0, 1]
    x: int
    y: int

    @property
    def box(self) -> tuple[slice, slice]:
        return slice(self.y, self.y + self.alpha.shape[0]), slice(self.x, self.x + self.alpha.shape[1])


class Tables:
    """Makes pictures of tables, of table tops seen from above and of full bins, from the cut-outs of a folder.

    Called with a picture's number and a random generator it returns the picture, its visible things and what is true
    of their colours and kinds; a function of both alone. `textures` (JPEG files) are table tops; without any, they are
    plain. `further` cut-outs join those of the folder. DataError if the folder has none of the split.
    """

    def __init__(
        self,
        cutouts: Path,
        *,
        split: Split = "train",
        textures: Sequence[Path] = (),
        further: Mapping[str, list[Cutout]] | None = None,
    ) -> None:
        self.of_kind = read_cutouts(cutouts, split)
        for kind, more in (further or {}).items():
            self.of_kind[kind] = self.of_kind.get(kind, []) + more
        self.textures = list(textures)
        kinds = list(self.of_kind)
        weights = np.sqrt([len(self.of_kind[k]) for k in kinds])
        self.kinds, self.weights = kinds, weights / weights.sum()

    def __call__(self, number: int, rng: np.random.Generator) -> Staged:
        way = ("side", "top", "bin")[rng.choice(3, p=(0.55, 0.2, 0.25))]
        height, width = SHAPES[rng.choice(3, p=(0.6, 0.2, 0.2))]
        rgb = self._ground(height, width, rng, way)
        layers: list[_Layer] = []
        chosen = self._choose(rng, int(rng.integers(8, 15) if way == "bin" else rng.integers(3, 10)), way)
        size = float(np.exp(rng.uniform(np.log(0.16), np.log(0.42)))) * SIDE * min(1.0, (6 / len(chosen)) ** 0.5)
        for cutout, colour in chosen:
            pixels, alpha = cutout.load()
            if colour is not None:
                pixels = dyed(pixels, alpha > 127, colour, rng)
            own = size * float(np.exp(rng.normal(0, 0.25)))
            for _ in range(TRIES):
                layer = _placed(cutout, colour or cutout.colour, pixels, alpha, own, (height, width), rng, way)
                if layer is not None and _fits([*layers, layer], way):
                    layers.append(layer)
                    break
        return self._staged(number, rgb, _ordered(layers, way), rng)

    def _choose(self, rng: np.random.Generator, count: int, way: str) -> list[tuple[Cutout, str | None]]:
        """Cut-outs, each with the colour it shall be dyed in or None: mostly two to four of a kind among others."""

        def one(kind: str, alike: Cutout | None = None) -> Cutout:
            stock = [c for c in self.of_kind[kind] if c.view != ("top" if way == "side" else "side")]
            stock = stock or self.of_kind[kind]
            return alike if alike is not None and rng.random() < 0.5 else stock[int(rng.integers(len(stock)))]

        def colour() -> str:
            return colours.NAMES[int(rng.integers(len(colours.NAMES)))]

        chosen: list[tuple[Cutout, str | None]] = []
        for _ in range(1 + int(rng.random() < 0.3)):
            if rng.random() < 0.2:
                continue
            kind = self.kinds[rng.choice(len(self.kinds), p=self.weights)]
            first = one(kind)
            shades = rng.permutation(colours.NAMES)[: int(rng.integers(2, 4))]
            for k in range(int(rng.integers(2, 5))):  # differing in colour, or now and then in nothing but their place
                dye = str(shades[k % len(shades)]) if rng.random() < 0.85 else None
                chosen.append((one(kind, first), dye))
        while len(chosen) < count:
            kind = self.kinds[rng.choice(len(self.kinds), p=self.weights)]
            cutout = one(kind)
            chosen.append((cutout, colour() if cutout.plain and rng.random() < 0.35 else None))
        return [chosen[k] for k in rng.permutation(len(chosen))]

    def _ground(self, height: int, width: int, rng: np.random.Generator, way: str) -> np.ndarray:
        """(H, W, 3) uint8: a table top, under a wall where it is seen from the side; a bin has rims."""
        rgb = self._surface(height, width, rng)
        if way == "side" and rng.random() < 0.6:
            horizon = int(height * rng.uniform(0.15, 0.45))
            rgb[:horizon] = self._surface(height, width, rng)[:horizon]
            rgb[horizon - 2 : horizon + 2] = (rgb[horizon - 2 : horizon + 2] * 0.7).astype(np.uint8)
        elif way == "bin":
            rim = int(rng.integers(6, 40))
            shade = self._surface(height, width, rng)
            shade[rim:-rim, rim:-rim] = (0.8 * rgb[rim:-rim, rim:-rim]).astype(np.uint8)
            rgb = shade
        return rgb

    def _surface(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        if self.textures and rng.random() < 0.6:
            return textured(self.textures, (height, width), rng)
        # plain, mostly pale or woody, with light from a side
        hue, saturation, value = rng.uniform(0, 1), rng.beta(1.2, 4), rng.uniform(0.25, 0.95)
        if rng.random() < 0.4:
            hue, saturation = rng.uniform(0.05, 0.11), rng.uniform(0.2, 0.6)
        across, down = rng.uniform(-0.2, 0.2, 2)
        light = value * (1 + across * np.linspace(-1, 1, width)[None] + down * np.linspace(-1, 1, height)[:, None])
        grain = cv2.resize(rng.normal(0, 0.03, (height // 8, width // 8)), (width, height))
        hsv = np.empty((height, width, 3), np.float32)
        hsv[..., 0], hsv[..., 1], hsv[..., 2] = 360 * hue, saturation, np.clip(light + grain, 0, 1)
        return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)

    def _staged(self, number: int, rgb: np.ndarray, layers: Sequence[_Layer], rng: np.random.Generator) -> Staged:
        height, width, _ = rgb.shape
        owner, canvas = np.zeros((height, width), np.int32), rgb.astype(np.float32)
        away = rng.normal(0, 5, 2)
        dark, soft = rng.uniform(0.1, 0.55), rng.uniform(2, 7)
        for k, layer in enumerate(layers, 1):
            _shade(canvas, layer, away, dark, soft)
            alpha = layer.alpha[..., None]
            canvas[layer.box] += alpha * (layer.rgb - canvas[layer.box])
            owner[layer.box][layer.alpha > 0.5] = k
        picture_rgb = photographed(canvas, rng)
        subjects = [
            _subject(number * STRIDE + k, layer, owner == k, picture_rgb)
            for k, layer in enumerate(layers, 1)
            if (owner == k).any()
        ]
        covers = [
            (number * STRIDE + b, number * STRIDE + a)
            for a in range(1, len(layers) + 1)
            for b in range(a + 1, len(layers) + 1)
            if _overlap(layers[a - 1], layers[b - 1]) > 0.04
        ]
        instances = tuple(s.instance for s in subjects)
        picture = Picture(number, Path(f"{number:012d}.jpg"), height, width, instances)
        there = sorted({s.said[0][0] for s in subjects})
        kinds = {noun: _kind_fact(noun) for noun in there} if len(there) <= 3 else {}
        for s in subjects:
            s.facts.update({f.key: called for noun, f in kinds.items() if (called := s.is_called(noun)) is not None})
        return Staged(picture, picture_rgb, tuple(subjects), (*COLOURS, *kinds.values()), tuple(covers))


def _kind_fact(noun: str) -> Fact:
    """Being called something: only ever denied, "the one that isn't a mug"."""
    one = noun if vocabulary.plural(noun) == noun else vocabulary.with_article(noun)
    return Fact(f"is:{noun}", "negation", denied=(f"that isn't {one}", f"that is not {one}"), general=True)


def _placed(
    cutout: Cutout, colour: str | None, rgb: np.ndarray, alpha: np.ndarray, size: float, shape: tuple[int, int],
    rng: np.random.Generator, way: str,
) -> _Layer | None:  # fmt: skip
    """The cut-out with a long side of about `size` pixels at a place drawn in a picture of `shape` (H, W)."""
    height, width = shape
    if way == "side":  # further up is further away
        foot = rng.uniform(0.45, 0.99)
        size *= 0.55 + 0.6 * (foot - 0.45)
    size = min(max(size, LEAST), 0.8 * min(shape))
    factor = size / max(alpha.shape)
    to = (max(4, round(alpha.shape[1] * factor)), max(4, round(alpha.shape[0] * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    rgb, alpha = (cv2.resize(x, to, interpolation=interpolation) for x in (rgb, alpha))
    if way != "side" and rng.random() < 0.8:
        rgb, alpha = turned(rgb, alpha, float(rng.uniform(0, 360)))
    if rng.random() < 0.5:
        rgb, alpha = rgb[:, ::-1], alpha[:, ::-1]
    high, wide = alpha.shape
    if high >= height or wide >= width:
        return None
    x = int(rng.integers(0, width - wide))
    y = int(foot * height) - high if way == "side" else int(rng.integers(0, height - high))
    return _Layer(cutout, colour, rgb, alpha.astype(np.float32) / 255, x, max(0, y))


def _ordered(layers: Sequence[_Layer], way: str) -> list[_Layer]:
    """From back to front: what stands lower in the picture is in front, what was put in later lies on top."""
    return sorted(layers, key=lambda layer: layer.y + len(layer.alpha)) if way == "side" else list(layers)


def _overlap(back: _Layer, front: _Layer) -> float:
    """The share of `back` that `front` hides."""
    y0, y1 = max(back.y, front.y), min(back.y + back.alpha.shape[0], front.y + front.alpha.shape[0])
    x0, x1 = max(back.x, front.x), min(back.x + back.alpha.shape[1], front.x + front.alpha.shape[1])
    if y0 >= y1 or x0 >= x1:
        return 0.0
    a = back.alpha[y0 - back.y : y1 - back.y, x0 - back.x : x1 - back.x] > 0.5
    b = front.alpha[y0 - front.y : y1 - front.y, x0 - front.x : x1 - front.x] > 0.5
    return float((a & b).sum() / max(1.0, float((back.alpha > 0.5).sum())))


def _fits(layers: Sequence[_Layer], way: str) -> bool:
    """Whether every thing stays visible enough; the shares that others hide of it are added up."""
    ordered = _ordered(layers, way)
    return all(
        sum(_overlap(back, front) for front in ordered[k + 1 :]) < 1 - VISIBLE for k, back in enumerate(ordered[:-1])
    )


def _shade(canvas: np.ndarray, layer: _Layer, away: np.ndarray, dark: float, soft: float) -> None:
    """A soft shadow of the layer, `away` (x, y) from it, on what is painted so far."""
    pad = int(3 * soft + np.abs(away).max()) + 1
    alpha = cv2.copyMakeBorder(layer.alpha, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    shadow = cv2.GaussianBlur(np.roll(alpha, (round(away[1]), round(away[0])), (0, 1)), (0, 0), soft)
    top, left = layer.y - pad, layer.x - pad
    y0, x0 = max(0, top), max(0, left)
    part = canvas[y0 : top + shadow.shape[0], x0 : left + shadow.shape[1]]
    inside = shadow[y0 - top :, x0 - left :][: part.shape[0], : part.shape[1]]
    part *= 1 - dark * inside[..., None]


def photographed(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 -> uint8: the light's tint, a little blur and noise."""
    canvas = canvas * rng.uniform(0.85, 1.1) * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    if rng.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.0))
    noise = rng.standard_normal(canvas.shape[:2], np.float32)[..., None] * np.float32(rng.uniform(0, 5))
    return np.clip(canvas + noise + 0.5, 0, 255).astype(np.uint8)


def _subject(key: int, layer: _Layer, mask: np.ndarray, rgb: np.ndarray) -> Subject:
    names = vocabulary.names_of(layer.cutout.kind)
    facts = {f"colour:{c}": true for c, true in colour_facts(rgb, mask, layer.colour).items()}
    return Subject(Instance.of_mask(key, layer.cutout.kind, mask), names.said, names.heard, facts)
