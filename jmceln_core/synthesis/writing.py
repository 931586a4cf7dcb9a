"""Made pictures as files, in the layout that `grounding.read_coco` reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jmceln_core.data.grounding import Expression, Picture

QUALITY = 82  # of the JPEG files


def write_split(
    made: Iterable[tuple[Picture, np.ndarray, list[Expression]]], out: Path, split: str = "train"
) -> Counter[str]:
    """Write pictures (with (H, W, 3) uint8 RGB) and what is said of them as a split of the folder `out`.

    Their instances' segmentations are RLE. Returns what was written: pictures, instances, sentences of each kind.
    Raises FileExistsError if there is such a split already, OSError for a picture that cannot be written.
    """
    target = out / f"instances_{split}.json"
    if target.exists():
        raise FileExistsError(f"{target} is there already: choose another --out")
    (out / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    category: dict[str, int] = {}
    said: dict[str, list[dict[str, Any]]] = {"expressions": [], "absent": [], "plural": []}
    counts: Counter[str] = Counter()
    for picture, rgb, sentences in made:
        file = out / "images" / picture.path.name
        if not cv2.imwrite(str(file), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
            raise OSError(f"{file} could not be written")
        images.append({
            "id": picture.id, "file_name": file.name, "width": picture.width, "height": picture.height,
            "complete": picture.complete,
        })  # fmt: skip
        for i in picture.instances:
            rle = {"size": i.segmentation["size"], "counts": i.segmentation["counts"].decode("ascii")}
            annotations.append({
                "id": i.id, "image_id": picture.id, "category_id": category.setdefault(i.category, len(category) + 1),
                "bbox": list(i.box), "area": int(i.mask(picture.height, picture.width).sum()), "iscrowd": int(i.crowd),
                "segmentation": rle,
            })  # fmt: skip
        for e in sentences:
            record: dict[str, Any] = {"image_id": e.picture_id, "kind": e.kind, "text": e.text, "origin": e.origin}
            if not e.targets:
                said["absent"].append(record)
            elif len(e.targets) > 1:
                said["plural"].append(record | {"ann_ids": list(e.targets)})
            else:
                said["expressions"].append(record | {"ann_id": e.targets[0]})
        counts.update(["pictures", *["instances"] * len(picture.instances)])
        counts.update(f"{e.origin} {e.kind}" for e in sentences)
    categories = [{"id": key, "name": name} for name, key in category.items()]
    (out / f"expressions_{split}.json").write_text(json.dumps(said))
    target.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return counts


def print_counts(counts: Counter[str]) -> None:
    """Print what `write_split` has written, a line each."""
    for name, count in sorted(counts.items()):
        print(f"{count:8,} {name}")
