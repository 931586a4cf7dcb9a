"""What cuts are pasted into: completely annotated photographs, and empty table tops."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jmceln_core.data.grounding import Picture, read_image
from jmceln_core.synthesis.composition.cutting import SMALLEST, is_free, is_in_one_piece
from jmceln_core.synthesis.rules.kinds import BENEATH

SIDE = 448  # long side of a composed picture, in pixels


class Backdrop(NamedTuple):
    """A picture to paste into, at the size it is written in. `masks` are those of its instances, in their order;
    `front` says which of them something may be put behind; `kinds` were looked for when it was annotated."""

    picture: Picture
    rgb: np.ndarray  # (H, W, 3) uint8
    masks: list[np.ndarray]  # (H, W) bool
    front: list[bool]
    kinds: frozenset[str]

    @property
    def empty(self) -> bool:
        """Whether it is a table top with nothing on it."""
        return not self.picture.id


def backdrop(picture: Picture, kinds: frozenset[str], side: int = SIDE) -> Backdrop:
    """The picture with its long side brought to `side` pixels."""
    rgb = picture.load()
    own = {i.id: i.mask(picture.height, picture.width) for i in picture.instances}
    factor = side / max(picture.height, picture.width)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    shrink = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    masks = [cv2.resize(own[i.id].astype(np.float32), size, interpolation=shrink) > 0.5 for i in picture.instances]
    front = [
        not i.crowd and i.category not in BENEATH and _is_clean(own[i.id]) and is_free(i, picture, own)
        for i in picture.instances
    ]
    resized = replace(picture, height=size[1], width=size[0])
    return Backdrop(resized, cv2.resize(rgb, size, interpolation=shrink), masks, front, kinds)


def table(texture: Path, kinds: frozenset[str], rng: np.random.Generator, side: int = SIDE) -> Backdrop:
    """A part of a texture as an empty table top, in one of the usual shapes, brighter or darker. `kinds`: all there
    are, since none of them is there. DataError if the texture cannot be read."""
    pixels = read_image(texture)
    shapes = ((side * 3 // 4, side), (side, side), (side, side * 3 // 4))
    height, width = shapes[rng.choice(3, p=(0.6, 0.2, 0.2))]
    part = rng.uniform(0.4, 1) * min(len(pixels) / height, pixels.shape[1] / width)
    h, w = max(1, int(part * height)), max(1, int(part * width))
    y, x = rng.integers(len(pixels) - h + 1), rng.integers(pixels.shape[1] - w + 1)
    rgb = cv2.resize(pixels[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
    rgb = np.clip(rgb * rng.uniform(0.6, 1.15) + 0.5, 0, 255).astype(np.uint8)
    return Backdrop(Picture(0, texture, height, width), rgb, [], [], kinds)


def textured(textures: Sequence[Path], shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: a part of one of the textures, for a ground of that shape (H, W)."""
    part = table(textures[int(rng.integers(len(textures)))], frozenset(), rng, max(shape)).rgb
    return cv2.resize(part, shape[::-1], interpolation=cv2.INTER_AREA)


def _is_clean(mask: np.ndarray) -> bool:
    area = int(np.count_nonzero(mask))
    return area > SMALLEST / 2 and is_in_one_piece(mask, area)


def looked_for(root: Path, sources: Sequence[str]) -> dict[int, frozenset[str]]:
    """The kinds of things that each picture's annotators looked for: all that occur in pictures of the same source
    (COCO json: an image's "source", where it has one) of the same split."""
    kinds: dict[int, frozenset[str]] = {}
    for source in sources:
        folder, _, split = source.rpartition("/")
        path = root / folder / f"instances_{split}.json"
        content = json.loads((path if path.is_file() else root / folder / f"{split}.json").read_text())
        names = {c["id"]: c["name"] for c in content.get("categories", [])}
        group = {image["id"]: image.get("source") for image in content["images"]}
        found: dict[str | None, set[str]] = defaultdict(set)
        for a in content["annotations"]:
            found[group[a["image_id"]]].add(names.get(a.get("category_id"), "thing"))
        kinds |= {key: frozenset(found[name]) for key, name in group.items()}
    return kinds
