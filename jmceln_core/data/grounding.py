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
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from jmceln_core.pictures import PictureError, decode, read_bytes, stored_size


class DataError(RuntimeError):
    """A data set that cannot be read; the message names the file and the remedy."""


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """The RLE of a (H, W) bool mask; its counts are bytes."""
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


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
            if stored_size(data) == (self.height, self.width):
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
    """Pictures by id, and sentences about them."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    expressions: list[Expression] = field(default_factory=list)

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
        return GroundingData(self.pictures | other.pictures, self.expressions + other.expressions)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --data.root must be the folder that holds it") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not valid json ({error})") from None


def read_coco(root: str | Path, split: str) -> GroundingData:
    """Read one split of a folder in the layout of the module's docstring.

    Crowd regions are kept as instances (`crowd=True`) but never as targets. Raises DataError naming the file and the
    key if something is missing or inconsistent.
    """
    root = Path(root)
    single = root / f"{split}.json"
    source = single if single.is_file() else root / f"instances_{split}.json"
    instances = _json(source)
    sentences = instances if single.is_file() else _json(root / f"expressions_{split}.json")
    try:
        names = {c["id"]: c["name"] for c in instances.get("categories", [])}
        per_image: dict[int, list[Instance]] = {image["id"]: [] for image in instances["images"]}
        for a in instances["annotations"]:
            x, y, w, h = a["bbox"]
            per_image[a["image_id"]].append(
                Instance(
                    a["id"],
                    names.get(a.get("category_id"), "thing"),
                    a["segmentation"],
                    (x, y, w, h),
                    bool(a.get("iscrowd", 0)),
                )
            )
        pictures = {
            image["id"]: Picture(
                image["id"],
                root / "images" / image["file_name"],
                image["height"],
                image["width"],
                tuple(per_image[image["id"]]),
                image.get("complete", True),
            )
            for image in instances["images"]
        }
        said: list[tuple[tuple[int, ...], str, dict[str, Any]]]
        said = [((e["ann_id"],), e.get("kind", ""), e) for e in sentences["expressions"]]
        said += [((), e.get("kind", "absent"), e) for e in sentences.get("absent", [])]
        said += [(tuple(e["ann_ids"]), e.get("kind", "plural"), e) for e in sentences.get("plural", [])]
        expressions = [
            Expression(e["image_id"], targets, e["text"], kind, e.get("origin", "written")) for targets, kind, e in said
        ]
        known = {(p.id, i.id) for p in pictures.values() for i in p.instances}
        for e in expressions:
            if e.picture_id not in pictures:
                raise DataError(
                    f"{root}: the sentence {e.text!r} is about picture {e.picture_id}, not in {source.name}"
                )
            for target in e.targets:
                if (e.picture_id, target) not in known:
                    raise DataError(f"{root}: the sentence {e.text!r} means annotation {target}, not in {source.name}")
    except KeyError as error:
        raise DataError(f"{source}: the key {error} is missing or refers to nothing") from None
    return GroundingData(pictures, expressions)
