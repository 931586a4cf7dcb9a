"""A data set in REFER's layout, small enough for a test: pictures drawn here, files and fields named as REFER's are.

Balls, boxes, cones, windows (outlines in two parts) and rings (with a hole: RLE) lie on a table or hang in the sky, one
in each of six places at most, two of one kind at least; some pictures have a crowd of dots (uncompressed RLE). No two
things of a picture share both kind and colour, so that "red ball" is always one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

KINDS = {"ball": 3, "box": 7, "cone": 18, "ring": 44, "window": 71}  # category ids have gaps, as COCO's do
COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (235, 210, 50),
    "purple": (140, 60, 170),
    "white": (240, 240, 240),
}
ROWS, COLUMNS = ("top", "bottom"), ("left", "middle", "right")
PICTURES = Path("images/mscoco/images/train2014")


def build(root: Path, *, pictures: int = 12, seed: int = 0, side: tuple[int, int] = (64, 160)) -> Path:
    """Write refcoco, refcoco+, refcocog and grefcoco about the same drawn pictures below `root`; returns `root`.

    `pictures`: 6 or more; a sixth each is val, testA and testB of refcoco, refcoco+ and grefcoco, which divide the
    pictures alike. refcocog's umd split holds out pictures that the others train on; its google split holds out single
    objects, of the last third of the pictures. `side`: bounds of a picture's width and height, in pixels.
    """
    rng = np.random.default_rng(seed)
    folder = root / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(pictures):
        image_id = 1000 + 37 * number
        width, height = (int(rng.integers(side[0], side[1] + 1)) for _ in range(2))
        pixels, things = _draw(rng, height, width, crowd=number % 2 == 1)
        name = f"COCO_train2014_{image_id:012d}.jpg"
        cv2.imwrite(str(folder / name), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append({"id": image_id, "file_name": name, "height": height, "width": width, "license": 1})
        annotations += [{"id": 10 * image_id + k, "image_id": image_id, **t} for k, t in enumerate(things)]
    # the words for a thing are not part of COCO's json
    instances = {
        "info": {"description": "drawn for tests"},
        "licenses": [],
        "images": images,
        "annotations": [{k: v for k, v in a.items() if k not in ("colour", "place")} for a in annotations],
        "categories": [{"supercategory": "thing", "id": i, "name": n} for n, i in KINDS.items()],
    }
    held = pictures // 6
    splits = ["train"] * (pictures - 3 * held) + ["val"] * held + ["testA"] * held + ["testB"] * held
    unc = {image["id"]: split for image, split in zip(images, splits, strict=True)}
    umd = {image["id"]: split for image, split in zip(images, _umd(pictures, held), strict=True)}
    things = [a for a in annotations if not a["iscrowd"]]
    late = {image["id"] for image in images[-(pictures // 3) :]}
    google = {a["id"]: "val" if a["image_id"] in late and a["id"] % 2 else "train" for a in things}
    _write(root / "refcoco", instances)
    _write(root / "refcoco+", instances)
    _write(root / "refcocog", instances)
    refs = [_ref(a, unc[a["image_id"]], [_short(a), f"{_kind(a)} {' '.join(a['place'])}"]) for a in things]
    (root / "refcoco" / "refs(unc).p").write_bytes(python2_pickle(_number(refs)))
    refs = [_ref(a, unc[a["image_id"]], [_short(a), f"the {_kind(a)} that is {a['colour']}"]) for a in things]
    (root / "refcoco+" / "refs(unc).p").write_bytes(python2_pickle(_number(refs)))
    full = {a["id"]: f"a {_short(a)} in the {' '.join(a['place'])} part of the picture" for a in things}
    refs = [_ref(a, umd[a["image_id"]], [full[a["id"]]]) for a in things]
    (root / "refcocog" / "refs(umd).p").write_bytes(python2_pickle(_number(refs)))
    refs = [_ref(a, google[a["id"]], [full[a["id"]], f"the {_short(a)} in this picture"]) for a in things]
    (root / "refcocog" / "refs(google).p").write_bytes(python2_pickle(_number(refs)))
    _write(root / "grefcoco", instances)
    several = _number(_generalised(images, things, unc))
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(several))
    return root


def python2_pickle(value: Any) -> bytes:
    """What Python 2's pickle.dumps(value) wrote: protocol 0, with 8-bit strings."""

    def written(value: Any) -> Iterable[str]:
        if isinstance(value, dict):
            yield "(d"
            for key, item in value.items():
                yield from written(key)
                yield from written(item)
                yield "s"
        elif isinstance(value, list):
            yield "(l"
            for item in value:
                yield from written(item)
                yield "a"
        elif isinstance(value, str):
            yield f"S{str(value.encode())[1:]}\n"  # escapes whatever is not ASCII
        else:
            yield f"I{value:d}\n"

    return ("".join(written(value)) + ".").encode("ascii")


def _umd(pictures: int, held: int) -> list[str]:
    return ["test"] * held + ["val"] * held + ["train"] * (pictures - 2 * held)


def _draw(rng: np.random.Generator, height: int, width: int, *, crowd: bool) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An (H, W, 3) uint8 RGB picture and the annotations of its things, without ids."""
    shade = np.linspace(0, 40, height)[:, None, None]
    base = np.array((150, 110, 70) if rng.random() < 0.5 else (120, 160, 190))
    pixels = (base + shade + rng.normal(0, 4, (height, width, 3))).clip(0, 255).astype(np.uint8)
    kinds, colours = list(KINDS), list(COLOURS)
    twice = kinds[rng.integers(len(kinds))]
    pairs = [(twice, c) for c in rng.permutation(colours)[:2]]
    others = [(k, c) for k in kinds for c in colours if k != twice]
    pairs += [others[i] for i in rng.permutation(len(others))[: rng.integers(1, 4)]]
    places = [(row, column) for row in range(2) for column in range(3)]
    order = rng.permutation(6)
    things = []
    for (kind, colour), place in zip(pairs, order, strict=False):
        row, column = places[place]
        x, y = (column + 0.5) * width / 3, (row + 0.5) * height / 2
        radius = rng.uniform(0.6, 0.9) * min(width / 6, height / 4)
        outlines = _outlines(kind, x, y, radius)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [o.round().astype(np.int32) for o in outlines], 1)  # a ring's hole: even-odd
        pixels[mask > 0] = COLOURS[colour]
        segmentation: Any = [o.round(2).ravel().tolist() for o in outlines]
        if kind == "ring":
            rle = coco_mask.encode(np.asfortranarray(mask))
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
        words = {"colour": str(colour), "place": (ROWS[row], COLUMNS[column])}
        things.append(_annotation(kind, segmentation, mask, crowd=False) | words)
    if crowd:
        row, column = places[order[-1]]
        mask = np.zeros((height, width), np.uint8)
        for x, y in rng.uniform(0.2, 0.8, (6, 2)):
            centre = (int((column + x) * width / 3), int((row + y) * height / 2))
            cv2.circle(mask, centre, 2, 1, -1)
        pixels[mask > 0] = (20, 20, 20)
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges, flat.size]).tolist()
        runs = [0, *runs] if flat[0] else runs
        things.append(_annotation("ball", {"size": [height, width], "counts": runs}, mask, crowd=True))
    return pixels, things


def _outlines(kind: str, x: float, y: float, r: float) -> list[np.ndarray]:
    """The (P, 2) outlines of a thing about (x, y), in pixels."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    unit = {
        "ball": [circle],
        "box": [np.array([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)])],
        "cone": [np.array([(0, -1), (0.9, 0.8), (-0.9, 0.8)])],
        "ring": [circle, 0.5 * circle],
        "window": [
            np.array([(left, -0.9), (left + 0.7, -0.9), (left + 0.7, 0.9), (left, 0.9)]) for left in (-0.9, 0.2)
        ],
    }
    return [r * outline + (x, y) for outline in unit[kind]]


def _annotation(kind: str, segmentation: Any, mask: np.ndarray, *, crowd: bool) -> dict[str, Any]:
    x, y, w, h = cv2.boundingRect(mask)
    return {
        "category_id": KINDS[kind],
        "segmentation": segmentation,
        "area": float(mask.sum()),
        "bbox": [float(x), float(y), float(w), float(h)],
        "iscrowd": int(crowd),
    }


def _kind(annotation: dict[str, Any]) -> str:
    return next(name for name, number in KINDS.items() if number == annotation["category_id"])


def _short(annotation: dict[str, Any]) -> str:
    return f"{annotation['colour']} {_kind(annotation)}"


def _ref(annotation: dict[str, Any], split: str, texts: Sequence[str]) -> dict[str, Any]:
    image_id, ann_id = annotation["image_id"], annotation["id"]
    return {
        "image_id": image_id,
        "ann_id": ann_id,
        "category_id": annotation["category_id"],
        "file_name": f"COCO_train2014_{image_id:012d}_{ann_id}.jpg",  # no such picture: REFER's adds the annotation
        "split": split,
        "sentences": [{"raw": t.capitalize() + ".", "sent": t, "tokens": t.split()} for t in texts],
    }


def _number(refs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, with the ids of refs and sentences."""
    count = 0
    for number, ref in enumerate(refs):
        ref["ref_id"] = number
        for sentence in ref["sentences"]:
            sentence["sent_id"] = count
            count += 1
        ref["sent_ids"] = [s["sent_id"] for s in ref["sentences"]]
    return refs


def _generalised(
    images: list[dict[str, Any]], things: list[dict[str, Any]], unc: dict[int, str]
) -> list[dict[str, Any]]:
    """gRefCOCO's refs: one sentence each, about one thing, several or none."""
    refs = []
    for image in images:
        own = [a for a in things if a["image_id"] == image["id"]]
        alike = [a for a in own if _kind(a) == _kind(own[0])]  # the first kind drawn is there twice
        absent = next(f"{c} {k}" for k in KINDS for c in COLOURS if f"{c} {k}" not in map(_short, own))
        meanings = [(_short(a), [a]) for a in own] + [(f"both {_kind(own[0])}s", alike), (absent, [])]
        for text, meant in meanings:
            ref = _ref(own[0], unc[image["id"]], [text])
            ref["ann_id"] = [a["id"] for a in meant] or [-1]
            ref["category_id"] = [a["category_id"] for a in meant] or [-1]
            ref["no_target"] = not meant
            refs.append(ref)
    return refs


def _write(folder: Path, instances: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(instances))
