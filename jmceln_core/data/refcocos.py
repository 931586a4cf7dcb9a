"""RefCOCO-style sentences whose truth is a box alone, or nothing: a json list beside its pictures::

    ROOT/SPLIT.json   [{image, width, height, text, box_xyxy: [x0, y0, x1, y1] | null, categories: {hops}}]
    ROOT/images/      the pictures

A box cannot stand for a mask, so these sentences are no `Expression`s; `jmceln_core.evaluation.boxes` measures on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jmceln_core.data.annotations import loads, text, whole
from jmceln_core.data.grounding import DataError, Picture

Box = tuple[float, float, float, float]  # (x0, y0, x1, y1): the edges, in pixels; pixel (0, 0) is the box (0, 0, 1, 1)


@dataclass(frozen=True)
class BoxExpression:
    """A sentence about one picture and the box of what it means; None: it means nothing there."""

    picture_id: int
    text: str
    box: Box | None
    hops: int  # steps of reasoning, as the data set counts them


@dataclass
class BoxData:
    """Pictures by id, in the order they come up, and sentences about them."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    expressions: list[BoxExpression] = field(default_factory=list)


def read_boxes(root: str | Path, split: str) -> BoxData:
    """Read ROOT/SPLIT.json. Raises DataError naming the file, the entry and what is wrong with it."""
    path = Path(root) / f"{split}.json"
    try:
        entries = loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give the folder that holds it") from None
    if not isinstance(entries, list):
        raise DataError(f"{path}: must be a list of sentences, one object each, as docs/evaluation.md shows")
    data = BoxData()
    ids: dict[str, int] = {}
    for number, entry in enumerate(entries):
        try:
            name = text(entry["image"], "image")
            key = ids.setdefault(name, len(ids))
            height, width = (whole(entry[side], side, least=1) for side in ("height", "width"))
            picture = Picture(key, Path(root) / "images" / name, height, width)
            box, hops = entry["box_xyxy"], int(entry["categories"]["hops"])
            if box is not None:
                x0, y0, x1, y1 = map(float, box)
                if not (x0 < x1 and y0 < y1):
                    raise ValueError(f"box_xyxy {box} has no area; it is left, top, right, bottom")
                box = (x0, y0, x1, y1)
            if data.pictures.setdefault(key, picture) != picture:
                raise ValueError(f"{entry['image']} has another size than before")
            data.expressions.append(BoxExpression(key, text(entry["text"], "text"), box, hops))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: entry {number}: {error!r}; correct the file") from None
    return data
