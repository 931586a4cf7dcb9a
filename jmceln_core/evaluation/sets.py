"""The sets of a table: a YAML file names them and says how each is read.

NAME: {root: FOLDER, split: SPLIT, ...the fields of EvalSet}
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmceln_core.config import ConfigError, DataConfig, from_dict, read_yaml, resource
from jmceln_core.data.grounding import DataError, GroundingData
from jmceln_core.data.readers import DATASETS, read
from jmceln_core.data.refcocos import BoxData, read_boxes
from jmceln_core.evaluation.run import subset
from jmceln_core.synthesis.enrich import enrich

BOXES = "refcocos"  # the one kind of data set whose truth is boxes


@dataclass(frozen=True)
class EvalSet:
    """One set. With any of `generated`, `plurals` and `absent`, rule-made sentences take the place of its own."""

    root: str  # folder below one of the command's roots
    split: str
    dataset: str = "coco"  # coco, refcoco, refcoco+, refcocog, grefcoco, or refcocos: boxes
    split_by: str = ""
    subset: bool = False
    complete: bool = True  # false: things of the annotated kinds may lack masks, whatever the data set says
    generated: int = 0  # rule-made sentences drawn for each instance
    plurals: int = 0  # about several instances, drawn for each picture
    absent: int = 0  # that mean nothing there, drawn for each picture
    seed: int = 0  # of the drawing

    def load(self, roots: Sequence[Path], *, limit: int | None = None, seed: int = 0) -> GroundingData | BoxData:
        """The pictures and sentences, of `limit` pictures chosen by `seed` only.

        Raises DataError naming the folder that is under none of the roots, and for what cannot be read.
        """
        folder = self.folder(roots)
        if self.dataset == BOXES:
            boxes = read_boxes(folder, self.split)
            return boxes if limit is None else subset(boxes, limit, seed)
        data = read(self.dataset, folder, self.split, split_by=self.split_by, subset=self.subset)
        if limit is not None:
            data = subset(data, limit, seed)
        if not self.complete:
            data.pictures = {key: dataclasses.replace(p, complete=False) for key, p in data.pictures.items()}
        if drawn := self.drawn:
            data = enrich(GroundingData(data.pictures, []), from_dict(DataConfig, drawn), seed=self.seed)
        return data

    @property
    def drawn(self) -> dict[str, int]:
        """How many rule-made sentences take the place of the set's own; empty: none do."""
        drawn = {name: getattr(self, name) for name in ("generated", "plurals", "absent")}
        return drawn if any(drawn.values()) else {}

    def folder(self, roots: Sequence[Path]) -> Path:
        """The first folder of that name below the roots. Raises DataError naming them if there is none."""
        for root in roots:
            if (folder := root / self.root).is_dir():
                return folder
        raise DataError(
            f"{self.root}: no such folder below {' or '.join(map(str, roots))}; give its parent with --root, or leave "
            "the set out with --only"
        )


def read_sets(name_or_path: str | Path) -> dict[str, EvalSet]:
    """The sets of a YAML file, or of config/eval by its name. Raises ConfigError naming the file and the field."""
    path = Path(name_or_path)
    if not path.is_file() and str(name_or_path).isidentifier():
        path = resource(f"eval/{name_or_path}.yaml")
    sets = {}
    for name, values in read_yaml(path).items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"{path}: {name}: must be fields, at least root and split, not {values!r}")
        check_label(name)
        for needed in ("root", "split"):
            if needed not in values:
                raise ConfigError(f"{path}: {name}: {needed} is missing")
        found = from_dict(EvalSet, values, f"{path}: {name}.")
        if found.dataset not in (*DATASETS, BOXES):
            raise ConfigError(
                f"{path}: {name}.dataset={found.dataset}: no such data set; there are {', '.join((*DATASETS, BOXES))}"
            )
        sets[name] = found
    if not sets:
        raise ConfigError(f"{path}: names no set; a line is NAME: {{root: FOLDER, split: SPLIT}}")
    return sets


def check_label(name: Any) -> None:
    """Raises ConfigError unless `name` can be the name of a folder as it is."""
    if not isinstance(name, str) or not name.strip() or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise ConfigError(f"{name!r}: names a folder of the output; use letters, digits, - and _")


def digest(data: GroundingData | BoxData) -> str:
    """SHA-256 of all that an evaluation reads of the data but the pictures' pixels; where they lie does not matter."""
    pictures = [dataclasses.replace(picture, path=Path(picture.path.name)) for picture in data.pictures.values()]
    return hashlib.sha256(repr((pictures, data.expressions)).encode()).hexdigest()
