"""Pictures, instances and the sentences that refer to them: the one in-memory form every reader fills.

The reader here takes plain COCO instance json plus an expressions json beside it::

    ROOT/instances_SPLIT.json     COCO: images, annotations, categories; an image may carry `"complete": false`
    ROOT/expressions_SPLIT.json   {"expressions": [{image_id, ann_id, kind?, text}],
                                   "absent":      [{image_id, kind?, text}],
                                   "plural":      [{image_id, ann_ids, kind?, text}]}
    ROOT/images/                  the pictures

A sentence made by a rule carries `"origin": "generated"`.

A single file ROOT/SPLIT.json with `images`, `annotations`, `expressions` (and optionally `categories`, `absent`,
`plural`) is read as well.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from jmceln_core.data.annotations import box, flag, loads, outline, text, whole
from jmceln_core.pictures import PictureError, decode, read_bytes, read_picture


class DataError(RuntimeError):
    """A data set that cannot be read; the message names the file and the remedy."""


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """The RLE of a (H, W) bool mask; its counts are bytes."""
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file that is no picture of a data set. Raises DataError naming it."""
    try:
        return read_picture(path)
    except PictureError as error:
        raise DataError(str(error)) from None


@dataclass(frozen=True)
class Instance:
    """One annotated object.

    `segmentation` is COCO's: a list of polygons (x, y, x, y, ...) in pixels or an RLE dict. `box` is (x, y, w, h) in
    pixels. `crowd` regions are groups without single outlines: never a target.
    """

    id: int
    category: str
    segmentation: Any
    box: tuple[float, float, float, float]
    crowd: bool = False

    @classmethod
    def of_mask(cls, key: int, category: str, mask: np.ndarray, crowd: bool = False) -> Instance:
        """The instance of a (H, W) bool mask, with its RLE and its box."""
        rle = encoded(mask)
        x, y, w, h = map(float, coco_mask.toBbox(rle))
        return cls(key, category, rle, (x, y, w, h), crowd)

    def mask(self, height: int, width: int) -> np.ndarray:
        """(H, W) bool mask at the picture's own size; of an instance with a box alone (crowd regions), the box."""
        rle = self.segmentation
        if not rle:
            x, y, w, h = self.box
            filled = np.zeros((height, width), bool)
            filled[max(0, round(y)) : round(y + h), max(0, round(x)) : round(x + w)] = True
            return filled
        if isinstance(rle, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(rle, height, width))
        elif isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, height, width)
        # column by column in memory, and row by row is what all that follows is quick with
        return cv2.transpose(coco_mask.decode(rle).T).view(bool)


@dataclass(frozen=True)
class Picture:
    """One image file and its instances. Where `complete` is false, things of the annotated kinds may lack masks."""

    id: int
    path: Path
    height: int
    width: int
    instances: tuple[Instance, ...] = ()
    complete: bool = True
    encoded: bytes | None = field(default=None, repr=False)  # the file's own bytes, where it came out of a shard
    repeat: int = 1  # how often an epoch takes the picture up
    source: str = ""  # validation on several sources: the one it is of

    def load(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright as the file's EXIF says. Raises DataError naming the file if it cannot be
        decoded, is damaged or has another size."""
        data = self.read_bytes()
        try:
            pixels = decode(data, self.path)
        except PictureError as error:
            raise DataError(f"{error}, or remove it from the annotations") from None
        if pixels.shape[:2] != (self.height, self.width):
            remedy = "use the pictures the annotations were made on"
            if decode(data, self.path, upright=False).shape[:2] == (self.height, self.width):
                remedy = (
                    "they are for the pixels as they are stored, which its EXIF orientation turns: annotate the "
                    "picture upright, or remove the orientation from the file"
                )
            raise DataError(
                f"{self.path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, its annotations are for "
                f"{self.width}x{self.height}; {remedy}"
            )
        return pixels

    @property
    def content(self) -> str:
        """Sixteen hex digits of the file's bytes and the size it is read with: the same for a copy under any name.
        Raises DataError naming a file that cannot be read."""
        return hashlib.sha256(f"{self.height} {self.width} ".encode() + self.read_bytes()).hexdigest()[:16]

    def read_bytes(self) -> bytes:
        """The file's own bytes. Raises DataError naming it."""
        try:
            return read_bytes(self.path) if self.encoded is None else self.encoded
        except PictureError as error:
            raise DataError(f"{error}; fetch it again or remove it from the annotations") from None

    def instance(self, instance_id: int) -> Instance:
        """The instance with that id (KeyError if there is none)."""
        for instance in self.instances:
            if instance.id == instance_id:
                return instance
        raise KeyError(instance_id)


@dataclass(frozen=True)
class Expression:
    """A sentence about one picture.

    `targets` holds the ids of the instances meant: one for an ordinary referring expression, none for a sentence that
    matches nothing in the picture, several for a plural one. `kind` is the phrase type (short, appearance, full, ...);
    `origin` is "written" (by a person or a model that looked at the picture, as the data set says) or "generated"
    (rule-made, `jmceln_core.synthesis.rules.expressions`).
    """

    picture_id: int
    targets: tuple[int, ...]
    text: str
    kind: str = ""
    origin: str = "written"


@dataclass
class GroundingData:
    """Pictures by id, and sentences about them. `notes`: what the files have and this has not, or otherwise."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    expressions: list[Expression] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def by_picture(self) -> dict[int, list[Expression]]:
        """The expressions of each picture, in file order; every picture has an entry."""
        grouped: dict[int, list[Expression]] = {key: [] for key in self.pictures}
        for expression in self.expressions:
            grouped[expression.picture_id].append(expression)
        return grouped

    def merge(self, other: GroundingData) -> GroundingData:
        """Both together. Raises DataError if they share a picture id."""
        shared = self.pictures.keys() & other.pictures.keys()
        if shared:
            raise DataError(f"picture id {min(shared)} is in both data sets: give the pictures distinct ids")
        return GroundingData(
            self.pictures | other.pictures, self.expressions + other.expressions, self.notes + other.notes
        )


def read_coco(root: str | Path, split: str) -> GroundingData:
    """Read one split of a folder in the layout of the module's docstring.

    Ids are whole numbers, also as strings, and unique. Outlines come as compressed RLE. A thing without an outline that
    covers some of its picture counts as a crowd region, of which the box is known; without a box either it is left out.
    Crowds are kept as instances (`crowd=True`) but never as targets: sentences that mean one, or a thing that is left
    out, are left out, and so are those without a word. The result's `notes` name all of it.

    Raises DataError naming the file, the entry and what is wrong with it.
    """
    root = Path(root)
    source = spoken = root / f"{split}.json"
    if not os.path.isfile(source):
        source, spoken = (root / f"{part}_{split}.json" for part in ("instances", "expressions"))
    content = _json(source)
    sentences = content if spoken == source else _json(spoken)
    return _CocoReader(source, content, root / "images").read(spoken, sentences)


class _CocoReader:
    """The pictures and things of one file, the sentences about them, and what is to be said of both."""

    def __init__(self, source: Path, content: Any, images: Path) -> None:
        self.source = source
        self.notes: list[str] = []
        names: dict[int, str] = {}
        for where, entry in _entries(source, content, "categories", needed=False):
            with _told(where):
                names[whole(entry["id"], "id")] = text(entry["name"], "name")
        self.pictures: dict[int, Picture] = {}
        for where, entry in _entries(source, content, "images"):
            with _told(where):
                key = whole(entry["id"], "id")
                if key in self.pictures:
                    raise ValueError(f"another picture has the id {key}")
                self.pictures[key] = Picture(
                    key,
                    images / text(entry["file_name"], "file_name"),
                    whole(entry["height"], "height", least=1),
                    whole(entry["width"], "width", least=1),
                    complete=flag(entry.get("complete", True), "complete"),
                )
        self.things: dict[int, tuple[int, Instance | None]] = {}  # with the picture's id; None: left out
        for where, entry in _entries(source, content, "annotations"):
            with _told(where):
                key, picture = whole(entry["id"], "id"), self._picture(entry)
                if key in self.things:
                    raise ValueError(f"another annotation has the id {key}")
                category = entry.get("category_id")
                name = "thing" if category is None else names.get(whole(category, "category_id"), "thing")
                self.things[key] = picture.id, self._instance(key, name, entry, picture)

    def read(self, spoken: Path, sentences: Any) -> GroundingData:
        """All of it, with the sentences of another file or the same one. Raises DataError."""
        own: dict[int, list[Instance]] = {key: [] for key in self.pictures}
        for key, thing in self.things.values():
            if thing is not None:
                own[key].append(thing)
        pictures = {key: replace(picture, instances=tuple(own[key])) for key, picture in self.pictures.items()}
        expressions = []
        for sort in ("expressions", "absent", "plural"):
            for where, entry in _entries(spoken, sentences, sort, needed=sort == "expressions"):
                with _told(where):
                    if said := self._expression(sort, entry):
                        expressions.append(said)
        return GroundingData(pictures, expressions, self.notes)

    def _picture(self, entry: dict[str, Any]) -> Picture:
        key = whole(entry["image_id"], "image_id")
        if key not in self.pictures:
            raise ValueError(f"picture {key} is not in {self.source.name}")
        return self.pictures[key]

    def _instance(self, key: int, category: str, entry: dict[str, Any], picture: Picture) -> Instance | None:
        where = f"annotation {key} of {picture.path.name}"
        crowd = flag(entry.get("iscrowd", 0), "iscrowd")
        rle, left_out = outline(entry.get("segmentation"), picture.height, picture.width)
        place = box(entry.get("bbox"), picture.height, picture.width)
        if left_out:
            self.notes.append(f"{where}: {left_out} polygons of less than three points, or outside the picture")
        if rle and place is None:
            x, y, w, h = map(float, coco_mask.toBbox(rle))
            place = (x, y, w, h)
        if place is None:
            self.notes.append(f"{where}: nothing of it is in the picture")
            return None
        if not rle and not crowd:
            self.notes.append(
                f"{where}: no outline that covers a pixel, and a box is no mask: taken for a crowd region"
            )
        return Instance(key, category, rle, place, crowd or not rle)

    def _expression(self, sort: str, entry: dict[str, Any]) -> Expression | None:
        said, picture = text(entry["text"], "text"), self._picture(entry)
        targets: tuple[int, ...] = ()
        if sort == "expressions":
            targets = (whole(entry["ann_id"], "ann_id"),)
        elif sort == "plural":
            if not isinstance(entry["ann_ids"], list) or not entry["ann_ids"]:
                raise ValueError(f"ann_ids is {entry['ann_ids']!r}, must be a list of annotations; absent has none")
            targets = tuple(dict.fromkeys(whole(key, "ann_ids") for key in entry["ann_ids"]))
        for target in targets:
            place, thing = self.things.get(target, (None, None))
            if place != picture.id:
                raise ValueError(f"{said!r} means annotation {target}, which picture {picture.id} has not")
            if thing is None or thing.crowd:
                why = "is left out" if thing is None else "is a crowd region"
                self.notes.append(f"{said!r} about {picture.path.name}: annotation {target} {why}")
                return None
        if not said.strip():
            self.notes.append(f"a sentence about {picture.path.name} without a word")
            return None
        kind = text(entry.get("kind", "" if sort == "expressions" else sort), "kind")
        return Expression(picture.id, targets, said, kind, text(entry.get("origin", "written"), "origin"))


def _json(path: Path) -> Any:
    try:
        return loads(path.read_text(encoding="utf-8-sig"))  # Windows writes a byte order mark
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --data.root must be the folder that holds it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid json ({error})") from None


def _entries(path: Path, content: Any, key: str, *, needed: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of the list `key`, and where each is, in words."""
    if not isinstance(content, dict):
        raise DataError(f"{path}: must be an object with {key}, not {type(content).__name__}")
    if needed and key not in content:
        raise DataError(f"{path}: the key {key!r} is missing")
    if not isinstance(entries := content.get(key, []), list):
        raise DataError(f"{path}: {key} must be a list, not {type(entries).__name__}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: entry {number} of {key} is {entry!r:.40}, must be an object")
        yield f"{path}: entry {number} of {key}", entry


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Makes DataErrors, which say where, of what is wrong with a value."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{where}: the key {error} is missing") from None
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def missing_pictures(data: GroundingData) -> dict[int, Picture]:
    """The pictures whose file is not there, by id; each folder is listed once."""

    @cache
    def names(folder: Path) -> frozenset[str]:
        try:
            return frozenset(os.listdir(folder))
        except OSError:
            return frozenset()

    return {key: p for key, p in data.pictures.items() if p.encoded is None and p.path.name not in names(p.path.parent)}


def few(names: Collection[Any]) -> str:
    """The first three, and dots if there are more."""
    first = [str(n) for n in list(names)[:3]]
    return ", ".join(first) + (", ..." if len(names) > len(first) else "")
