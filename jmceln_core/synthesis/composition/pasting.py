"""Pasting cuts into backdrops: which, how large, where, and what hides what then."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jmceln_core.data.grounding import DataError, Instance, Picture
from jmceln_core.synthesis.composition.backdrops import Backdrop
from jmceln_core.synthesis.composition.cutting import Cut, bounds
from jmceln_core.synthesis.rules import kinds
from jmceln_core.synthesis.rules.placing import SMALLEST_SHARE, STANDING

STRIDE = 1000  # an instance's id is its picture's times this, plus its place in it, from 1 on
SCALES = (0.5, 1.5)  # of the source's pixels
LARGEST = 0.3  # of the composed picture
HIDDEN = 0.45  # the most of a thing that may be hidden, unless
GONE = 0.97  # so much of it is that it is no longer there
DARKEN, BRIGHTEN = 0.88, 1.12  # no cut is brought nearer to its surroundings by more: colour words stay true
TRIES = 12  # of a place for a cut


class Composed(NamedTuple):
    """A composed picture, and what is known of it."""

    picture: Picture  # with what is visible of each instance
    rgb: np.ndarray  # (H, W, 3) uint8
    pasted: dict[int, Cut]  # instance id -> the cut
    origin: dict[int, int]  # instance id -> the backdrop's instance that it is
    hidden: dict[int, float]  # instance id -> the share of it that something pasted hides
    covers: list[tuple[int, int]]  # (front, back): the first hides a part of the second


class _Layer(NamedTuple):
    cut: Cut
    rgb: np.ndarray  # (h, w, 3) uint8
    alpha: np.ndarray  # (h, w) float32
    x: int
    y: int

    @property
    def bottom(self) -> int:
        return self.y + len(self.alpha)


class Composer:
    """Pastes cuts into backdrops. The same arguments give the same pictures."""

    def __init__(self, cuts: Sequence[Cut]) -> None:
        """DataError if there is nothing to paste."""
        if not cuts:
            raise DataError(
                "no annotated thing can be cut out cleanly: compose needs pictures with whole, separate things"
            )
        self.of_kind: dict[str, list[Cut]] = defaultdict(list)
        for cut in cuts:
            self.of_kind[cut.category].append(cut)

    def __call__(self, into: Backdrop, number: int, rng: np.random.Generator) -> Composed | None:
        """The picture with that id, or None where no place was found for anything."""
        canvas = _Canvas(into)
        layers: list[_Layer] = []
        for cut, size in self._choose(into, rng):
            for _ in range(TRIES):
                layer = _placed(cut, size, into, rng)
                if layer is not None and canvas.fits([*layers, layer]):
                    layers.append(layer)
                    break
        return canvas.painted(layers, number) if layers else None

    def _allowed(self, into: Backdrop) -> list[str]:
        if into.empty:
            return [kind for kind in self.of_kind if kinds.length(kind) <= kinds.ON_TABLE]
        return [kind for kind in self.of_kind if kind in into.kinds or kind not in kinds.EVERYWHERE]

    def _choose(self, into: Backdrop, rng: np.random.Generator) -> list[tuple[Cut, float]]:
        """What to paste, with the factor its usual size is to be multiplied by."""
        allowed = self._allowed(into)
        own = [kind for kind in dict.fromkeys(i.category for i in into.picture.instances) if kind in allowed]
        if not allowed:
            return []
        alike = Counter(k.split()[-1] for k in allowed)  # five sorts of tofu are together as likely as one kind
        weights = np.sqrt([len(self.of_kind[k]) for k in allowed]) / [alike[k.split()[-1]] for k in allowed]

        def kind() -> str:
            return allowed[rng.choice(len(allowed), p=weights / weights.sum())]

        def one(of: str) -> Cut:
            return self.of_kind[of][rng.integers(len(self.of_kind[of]))]

        several, total = rng.random() < 0.6, int(rng.integers(3, 9) if into.empty else rng.integers(1, 5))
        chosen = []
        if several:  # of a kind, often one that is there already
            of = own[rng.integers(len(own))] if own and rng.random() < 0.6 else kind()
            stock, count = self.of_kind[of], int(rng.integers(1 if of in own else 2, 4))
            chosen = [stock[k] for k in rng.permutation(len(stock))[:count]]
            if rng.random() < 0.15 or (len(chosen) == 1 and of not in own):
                chosen = chosen[:1] * 2  # the same once more, in another size
        chosen += [one(kind()) for _ in range(total - len(chosen))]
        return [(cut, float(np.exp(rng.normal(0, 0.4)))) for cut in chosen]


def _pixels_per_metre(into: Backdrop) -> float | None:
    """The usual scale of a backdrop's annotated things; None where it has none to tell by."""
    if into.empty:
        return 0.26 * max(into.rgb.shape) / kinds.HANDY
    found = []
    for instance, mask in zip(into.picture.instances, into.masks, strict=True):
        if not instance.crowd and np.count_nonzero(mask) > 0.004 * mask.size:
            x0, y0, x1, y1 = bounds(mask)
            found.append(max(x1 - x0, y1 - y0) / kinds.length(instance.category))
    return float(np.median(found)) if found else None


def _placed(cut: Cut, size: float, into: Backdrop, rng: np.random.Generator) -> _Layer | None:
    """The cut in some size at some place, None where it would be too large or too small."""
    height, width = into.rgb.shape[:2]
    usual = _pixels_per_metre(into)
    long = max(cut.alpha.shape)
    wanted = (usual * kinds.length(cut.category) if usual else 0.3 * width) * size
    factor = float(np.clip(wanted / long, *SCALES))
    if not 0.33 < wanted / long / factor < 3 and rng.random() < 0.8:
        return None
    shape = (max(1, round(cut.alpha.shape[1] * factor)), max(1, round(cut.alpha.shape[0] * factor)))
    if shape[0] > 0.9 * width or shape[1] > 0.9 * height:
        return None
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    rgb, alpha = (cv2.resize(a, shape, interpolation=way) for a in (cut.rgb, cut.alpha))
    if kinds.any_way_round(cut.category) and rng.random() < 0.5:
        rgb, alpha = turned(rgb, alpha, float(rng.uniform(0, 360)))
    area = np.count_nonzero(alpha > 127) / (height * width)
    if not 4 * SMALLEST_SHARE < area < LARGEST:
        return None
    if cut.mirrors and rng.random() < 0.5:
        rgb, alpha = rgb[:, ::-1], alpha[:, ::-1]
    high, wide = alpha.shape
    if wide > width or high > height:
        return None
    x, lowest = int(rng.integers(0, width - wide + 1)), height - high
    if cut.category in STANDING:  # feet in the lower half, and the larger the lower
        foot = 0.55 + 0.4 * float(np.clip(0.5 + 0.5 * np.log(size) + rng.normal(0, 0.25), 0, 1))
        y = int(np.clip(foot * height - high, 0, lowest))
    else:
        y = int(rng.integers(0, lowest + 1))
    return _Layer(cut, _lit(rgb, alpha, into.rgb[y : y + high, x : x + wide]), alpha / np.float32(255), x, y)


def turned(rgb: np.ndarray, alpha: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Both turned about their middle, and cropped to what is there."""
    height, width = alpha.shape
    side = int(np.ceil(np.hypot(height, width)))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    rgb = cv2.warpAffine(rgb, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(alpha, turn, (side, side), flags=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = bounds(alpha > 0)
    return rgb[y0:y1, x0:x1], alpha[y0:y1, x0:x1]


def _lit(rgb: np.ndarray, alpha: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The cut's pixels a little brighter or darker, towards the brightness of where it goes."""
    own, there = float(rgb[alpha > 127].mean()), float(around.mean())
    gain = np.clip(((there + 20) / (own + 20)) ** 0.25, DARKEN, BRIGHTEN)
    return np.clip(rgb * np.float32(gain) + 0.5, 0, 255).astype(np.uint8)


class _Canvas:
    """A backdrop being painted on. A layer is behind every instance of the backdrop that reaches lower and can be in
    front, and before all others; of two layers the one that reaches lower is in front."""

    def __init__(self, into: Backdrop) -> None:
        self.into = into
        self.bottoms = [bounds(m)[3] if m.any() else 0 for m in into.masks]

    def _before(self, layer: _Layer) -> list[int]:
        """The places of the backdrop's instances that are in front of the layer."""
        return [k for k, front in enumerate(self.into.front) if front and self.bottoms[k] > layer.bottom + 2]

    def _coverage(self, layer: _Layer) -> np.ndarray:
        """(H, W) float32: how much of each pixel is the layer, behind what is in front of it."""
        whole = np.zeros(self.into.rgb.shape[:2], np.float32)
        window = whole[layer.y : layer.bottom, layer.x : layer.x + layer.alpha.shape[1]]
        window += layer.alpha
        for k in self._before(layer):
            mask = self.into.masks[k][layer.y : layer.bottom, layer.x : layer.x + layer.alpha.shape[1]]
            if mask.any():
                window *= 1 - cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
        return whole

    def _stacked(self, layers: Sequence[_Layer]) -> tuple[list[_Layer], list[np.ndarray], np.ndarray]:
        """The layers from back to front, their coverages, and (H, W) int: the front layer's place + 1 at each pixel."""
        ordered = sorted(layers, key=lambda layer: layer.bottom)
        coverages = [self._coverage(layer) for layer in ordered]
        owner = np.zeros(self.into.rgb.shape[:2], np.int32)
        for k, coverage in enumerate(coverages, 1):
            owner[coverage > 0.5] = k
        return ordered, coverages, owner

    def fits(self, layers: Sequence[_Layer]) -> bool:
        """Whether everything is either well visible or, if it was of the backdrop, gone altogether."""
        ordered, _, owner = self._stacked(layers)
        for k, layer in enumerate(ordered, 1):
            if np.count_nonzero(owner == k) < (1 - HIDDEN) * np.count_nonzero(layer.alpha > 0.5):
                return False
        painted = owner > 0
        for instance, mask in zip(self.into.picture.instances, self.into.masks, strict=True):
            if mask.any() and not instance.crowd and HIDDEN < painted[mask].mean() < GONE:
                return False
        return True

    def painted(self, layers: Sequence[_Layer], number: int) -> Composed:
        """The picture of that id with the layers on it."""
        ordered, coverages, owner = self._stacked(layers)
        rgb = self.into.rgb.astype(np.float32)
        for layer, coverage in zip(ordered, coverages, strict=True):
            box = slice(layer.y, layer.bottom), slice(layer.x, layer.x + layer.alpha.shape[1])
            rgb[box] += coverage[box][..., None] * (layer.rgb - rgb[box])
        instances: list[Instance] = []
        origin: dict[int, int] = {}
        hidden: dict[int, float] = {}
        full: dict[int, np.ndarray] = {}  # masks as if nothing were in front

        def add(category: str, whole: np.ndarray, seen: np.ndarray, crowd: bool = False) -> int:
            key = number * STRIDE + len(instances) + 1
            instances.append(Instance.of_mask(key, category, seen, crowd))
            hidden[key] = 1 - np.count_nonzero(seen) / np.count_nonzero(whole)
            full[key] = whole
            return key

        place: dict[int, int] = {}
        for k, (instance, mask) in enumerate(zip(self.into.picture.instances, self.into.masks, strict=True)):
            seen = mask & (owner == 0)
            if np.count_nonzero(seen) > (1 - GONE) * np.count_nonzero(mask):
                place[k] = add(instance.category, mask, seen, instance.crowd)
                origin[place[k]] = instance.id
        pasted: dict[int, Cut] = {}
        keys = []
        for k, layer in enumerate(ordered, 1):
            whole = np.zeros(owner.shape, bool)
            whole[layer.y : layer.bottom, layer.x : layer.x + layer.alpha.shape[1]] = layer.alpha > 0.5
            keys.append(add(layer.cut.category, whole, owner == k))
            pasted[keys[-1]] = layer.cut
        height, width = owner.shape
        picture = Picture(
            number, Path(f"{number:012d}.jpg"), height, width, tuple(instances), self.into.picture.complete
        )
        return Composed(
            picture,
            np.clip(rgb + 0.5, 0, 255).astype(np.uint8),
            pasted,
            origin,
            hidden,
            self._covers(ordered, keys, place, full),
        )

    def _covers(
        self, ordered: Sequence[_Layer], keys: Sequence[int], place: dict[int, int], full: dict[int, np.ndarray]
    ) -> list[tuple[int, int]]:
        """Pairs (front, back) of instance ids. `keys`: the layers', `place`: by place in the backdrop, `full`: masks as
        if nothing were in front."""
        pairs = []
        for k, (key, layer) in enumerate(zip(keys, ordered, strict=True)):
            before = {place[b] for b in self._before(layer) if b in place}
            pairs += [(front, key) for front in (*before, *keys[k + 1 :])]
            pairs += [(key, back) for back in place.values() if back not in before]
        return [(front, back) for front, back in pairs if cut_into(full[front], full[back])]


def cut_into(front: np.ndarray, back: np.ndarray) -> bool:
    """Whether so much of the back is hidden that one sees which is in front."""
    return bool(np.count_nonzero(front & back) > 0.04 * np.count_nonzero(back))
