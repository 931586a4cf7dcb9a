"""The data sets by name: one split to measure on, or what a configuration trains and validates on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import DataError, GroundingData, read_coco

DATASETS = ("coco", "refcoco", "refcoco+", "refcocog", "grefcoco")


def read(dataset: str, root: str | Path, split: str, *, split_by: str = "", subset: bool = False) -> GroundingData:
    """One split of a data set below `root`; docs/data.md has the layouts.

    `split_by` names the division into splits where there are several (refcocog: umd, google); empty: the usual one.
    The split's published counts must be met and its pictures must be there, unless `subset`. For coco, `split` may be
    FOLDER/SPLIT, with the folder below `root`.

    Raises DataError naming what is missing and where it is to be found.
    """
    if dataset not in DATASETS:
        raise DataError(f"{dataset}: no such data set; there are {', '.join(DATASETS)}")
    if dataset == "coco":
        folder, _, name = split.rpartition("/")
        return read_coco(Path(root) / folder, name)
    raise DataError(f"{dataset}: not yet")


def read_training(config: DataConfig) -> tuple[GroundingData, GroundingData]:
    """What a configuration trains on and what it validates on: (train, validation).

    Raises DataError naming the data set and the remedy.
    """
    training, validation = _coco(config)
    return training, _draw(validation, config.val_pictures)


def _coco(config: DataConfig) -> tuple[GroundingData, GroundingData]:
    """The sources together, and `val_sources` or else pictures of the first source, taken out of them."""
    if not config.sources:
        raise DataError("coco: nothing to read; set --data.sources '[FOLDER/SPLIT]', one or more, below --data.root")
    parts = [read("coco", config.root, source) for source in config.sources]
    whole = _together(parts)
    if config.val_sources:
        return whole, _together([read("coco", config.root, source) for source in config.val_sources])
    order = np.random.default_rng(0).permutation(sorted(parts[0].pictures))
    held = {int(i) for i in order[: config.validation]}
    return _only(whole, lambda k: k not in held), _only(whole, lambda k: k in held)


def _together(parts: Collection[GroundingData]) -> GroundingData:
    data = GroundingData()
    for part in parts:
        data = data.merge(part)
    return data


def _only(data: GroundingData, keep: Callable[[int], bool]) -> GroundingData:
    """The pictures whose id `keep` approves of, with their sentences."""
    return GroundingData(
        {k: p for k, p in data.pictures.items() if keep(k)}, [e for e in data.expressions if keep(e.picture_id)]
    )


def _draw(data: GroundingData, count: int) -> GroundingData:
    """So many of the pictures, always the same ones; all of them if `count` is 0."""
    if not count:
        return data
    order = np.random.default_rng(0).permutation(sorted(data.pictures))
    drawn = {int(i) for i in order[:count]}
    return _only(data, drawn.__contains__)
