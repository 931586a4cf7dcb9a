"""Short videos of a moving camera with known truth, for measuring how answers hold together in time.

The camera wanders (a hand's slow sway and its tremor) over a rendered table, or over a photograph that stands for a
flat scene; exposure wanders too, and every frame has noise of its own. All of it is a function of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from jmceln_core.data.grounding import Expression, Picture
from jmceln_core.synthesis import table_scene

LONG_SIDE = 480  # pixels of a photograph's frames
TABLE_SIZE = (400, 300)  # (width, height) of the table's: a frame takes seconds to render
_WINDOW = 0.78  # share of a photograph that a frame shows: the rest is where the camera may go
_NOISE = 4.0  # standard deviation of a grey level, of 255

#: Sentences about the table by what they mean, an index into TABLE or None: no such thing is there.
_TABLE_SENTENCES = {
    "the red mug": 0,
    "the blue mug": 1,
    "the white mug": 2,
    "the red apple": 3,
    "the green apple": 4,
    "the banana": None,
}


class Frame(NamedTuple):
    """One picture of H x W pixels, what each sentence means in it, and how the scene has moved since the first."""

    rgb: np.ndarray  # (H, W, 3) uint8
    truths: dict[str, np.ndarray | None]  # (H, W) bool by sentence, empty for what is not there; None: not known
    motion: np.ndarray | None  # (2, 3) from the photograph's pixels (u, v, 1) to the frame's; None for the table


@dataclass(frozen=True)
class Clip:
    """A video: `frames()` makes its frames anew, one after the other."""

    name: str
    sentences: tuple[str, ...]
    frames: Callable[[], Iterator[Frame]]


def table(seed: int, *, frames: int, rate: float, size: tuple[int, int] = TABLE_SIZE) -> Clip:
    """The rendered table with its mugs and apples at places drawn by `seed` (0: as in the demo), exact masks."""
    rng = np.random.default_rng(seed)
    things: tuple[table_scene.Thing, ...] = table_scene.TABLE
    if seed:
        order = [*rng.permutation(3), *(3 + rng.permutation(2))]  # mugs among mugs, apples in front
        things = tuple(replace(t, place=things[i].place) for t, i in zip(things, order, strict=True))
    by_column = sorted(range(3), key=lambda i: things[i].place[0])
    meant = {**_TABLE_SENTENCES, "the mug on the left": by_column[0]}
    meant["the apple on the right"] = max((3, 4), key=lambda i: things[i].place[0])
    # decimetres; the eye is ten away: a hundredth at the point looked at is less than a pixel
    eyes = np.array(table_scene.EYE) + _sway(rng, frames, rate, (0.8, 0.3, 0.6))
    looks = np.array(table_scene.LOOK_AT) + _sway(rng, frames, rate, (0.4, 0.15, 0.0)) + _tremor(rng, frames, 0.012, 3)

    def make() -> Iterator[Frame]:
        spoil = _Sensor(seed, frames, rate)
        for t in range(frames):
            rgb, owner = table_scene.render(
                things, width=size[0], height=size[1], eye=tuple(eyes[t]), look_at=tuple(looks[t])
            )
            truths = {text: owner == (-2 if index is None else index) for text, index in meant.items()}
            yield Frame(spoil(rgb, t), dict(truths), None)

    return Clip(f"table {seed}", tuple(meant), make)


def photograph(
    name: str, rgb: np.ndarray, masks: dict[str, np.ndarray | None], seed: int, *, frames: int, rate: float
) -> Clip:
    """A (H, W, 3) uint8 photograph under a camera that pans, zooms and turns a little.

    `masks` has a (H, W) bool mask for each sentence, or None where it is not known.
    """
    rng = np.random.default_rng(seed)
    height, width = rgb.shape[:2]
    scale = LONG_SIDE / (_WINDOW * max(height, width))
    size = round(_WINDOW * scale * width), round(_WINDOW * scale * height)
    pans = _sway(rng, frames, rate, (0.06 * width, 0.06 * height)) + _tremor(rng, frames, 0.6 / scale, 2)
    zooms = np.exp(_sway(rng, frames, rate, (0.03,)))[:, 0]
    turns = _sway(rng, frames, rate, (0.03,))[:, 0] + _tremor(rng, frames, 0.001, 1)[:, 0]

    def motion(t: int) -> np.ndarray:
        linear = (
            scale * zooms[t] * np.array([[np.cos(turns[t]), -np.sin(turns[t])], [np.sin(turns[t]), np.cos(turns[t])]])
        )
        centre = (np.array([width, height]) - 1) / 2 + pans[t]
        return np.column_stack([linear, (np.array(size) - 1) / 2 - linear @ centre])

    def make() -> Iterator[Frame]:
        spoil = _Sensor(seed, frames, rate)
        for t in range(frames):
            moved = motion(t)
            seen = cv2.warpAffine(rgb, moved, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            truths = {
                text: None
                if mask is None
                else cv2.warpAffine(mask.astype(np.uint8), moved, size, flags=cv2.INTER_NEAREST) > 0
                for text, mask in masks.items()
            }
            yield Frame(spoil(seen, t), truths, moved)

    return Clip(name, tuple(masks), make)


def photographs(seed: int, *, frames: int, rate: float) -> list[Clip]:
    """scikit-image's photographs. Their masks are not known, but whatever is in them moves as the camera does."""
    from skimage import data

    sentences: dict[str, tuple[str, ...]] = {
        "coffee": ("the cup", "the spoon", "the saucer under the cup"),
        "chelsea": ("the cat", "the cat's nose"),
        "astronaut": ("the woman", "the flag", "the white helmet"),
    }
    return [
        photograph(name, getattr(data, name)(), dict.fromkeys(texts), seed, frames=frames, rate=rate)
        for name, texts in sentences.items()
    ]


def of_pictures(
    pictures: Sequence[Picture], expressions: Sequence[Expression], count: int, seed: int, *, frames: int, rate: float
) -> list[Clip]:
    """`count` pictures of a data set, drawn by `seed`, with their masks and their written sentences (at most four)."""
    rng = np.random.default_rng(seed)
    asked: dict[int, list[Expression]] = {}
    for e in expressions:
        if e.origin == "written" and len(e.targets) <= 1:
            asked.setdefault(e.picture_id, []).append(e)
    usable = [p for p in pictures if p.id in asked]
    clips = []
    for index in sorted(rng.choice(len(usable), min(count, len(usable)), replace=False)):
        picture = usable[index]
        rgb = picture.load()
        masks: dict[str, np.ndarray | None] = {}
        for e in rng.permutation(np.array(asked[picture.id], object))[:4]:
            masks[e.text] = np.zeros(rgb.shape[:2], bool)
            for target in e.targets:
                masks[e.text] = picture.instance(target).mask(picture.height, picture.width)
        clips.append(photograph(f"picture {picture.id}", rgb, masks, seed, frames=frames, rate=rate))
    return clips


class _Sensor:
    """Exposure that wanders by a twentieth, and noise."""

    def __init__(self, seed: int, frames: int, rate: float) -> None:
        self._rng = np.random.default_rng([seed, 1])
        self._gain = 1 + _sway(self._rng, frames, rate, (0.05,))[:, 0]

    def __call__(self, rgb: np.ndarray, t: int) -> np.ndarray:
        levels = self._gain[t] * rgb + self._rng.normal(0, _NOISE, rgb.shape)
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _sway(rng: np.random.Generator, frames: int, rate: float, amplitudes: tuple[float, ...]) -> np.ndarray:
    """(frames, n): slow smooth movements within the amplitudes, periods of two to six seconds."""
    seconds = np.arange(frames)[:, None] / rate
    waves = [
        np.sin(2 * np.pi * (seconds / rng.uniform(2, 6, len(amplitudes)) + rng.uniform(size=len(amplitudes))))
        for _ in range(2)
    ]
    return np.array(amplitudes) * sum(waves) / 2


def _tremor(rng: np.random.Generator, frames: int, deviation: float, dimensions: int) -> np.ndarray:
    """(frames, n): what a hand adds from frame to frame."""
    return rng.normal(0, deviation, (frames, dimensions))
