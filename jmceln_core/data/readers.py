"""The data sets by name: one split to measure on, or what a configuration trains and validates on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from jmceln_core.config import DataConfig
from jmceln_core.data import refer
from jmceln_core.data.grounding import DataError, GroundingData, Picture, few, missing_pictures, read_coco
from jmceln_core.data.left_out import left_out_pictures

DATASETS: tuple[str, ...] = ("coco", *refer.DIVISIONS)

log = logging.getLogger(__name__)


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
        return _present(_source(root, split), f"{root}, {split}", subset=subset)
    return refer.read_refer(dataset, root, split, split_by=split_by, subset=subset)


def read_training(config: DataConfig) -> tuple[GroundingData, GroundingData]:
    """What a configuration trains on and what it validates on: (train, validation).

    Several of REFER's data sets train together, joined by commas: a COCO picture is one picture, with the sentences of
    all of them, and every picture in a val or test split of a usual division (or of `split_by`) found below the root is
    left out. The first one validates.

    Raises DataError naming the data set and the remedy.
    """
    names = [name.strip() for name in config.dataset.split(",")]
    if unknown := [name for name in names if name not in DATASETS]:
        raise DataError(f"{unknown[0]!r}: no such data set; there are {', '.join(DATASETS)}")
    if names == ["coco"]:
        training, validation = _coco(config)
    elif "coco" in names:
        raise DataError("coco does not train together with REFER's data sets: its picture ids are its own")
    else:
        training, validation = _refer(config, names)
    if config.shards:
        training = GroundingData()
    elif not training.expressions:
        raise DataError(
            f"{config.root}: no sentence is left to train on"
            + (f"; data.validation={config.validation} takes pictures away" if names == ["coco"] else "")
        )
    elif absent := _never_drawn(training, config):
        log.warning("%d sentences that mean nothing are never drawn: data.absent_share is 0", absent)
    return training, _draw(validation, config.val_pictures)


def _never_drawn(data: GroundingData, config: DataConfig) -> int:
    """How many sentences that mean nothing `sampling.plan_picture` leaves out."""
    drawn = config.sampling == "sentence" or config.absent_share > 0 or "grefcoco" in config.dataset
    return 0 if drawn else sum(not expression.targets for expression in data.expressions)


def _refer(config: DataConfig, names: list[str]) -> tuple[GroundingData, GroundingData]:
    """REFER's data sets, together if they are several, and the first one's validation split."""
    if len(names) > 1 and config.split_by and not any(config.split_by in refer.DIVISIONS[n] for n in names):
        raise DataError(f"none of {', '.join(names)} is divided by {config.split_by!r}")

    def part(name: str, split: str) -> GroundingData:
        # of several, the division is meant for those that have it
        known = len(names) == 1 or config.split_by in refer.DIVISIONS[name]
        by = config.split_by if known else ""
        return _learnable(read(name, config.root, split, split_by=by, subset=config.subset))

    if "grefcoco" in names and config.sampling == "mixture" and config.absent_share == 0:
        raise DataError(
            "grefcoco: data.sampling=mixture with data.absent_share=0 would draw none of its sentences that mean "
            "nothing; give them a share, or set data.sampling to object or sentence"
        )
    training = _union(part(name, config.split) for name in names if not config.shards)
    if len(names) > 1 and not config.shards:
        training = _without_held_out(training, config)
    return training, part(names[0], config.val_split)


def _union(parts: Iterable[GroundingData]) -> GroundingData:
    """Data sets about the same COCO pictures: each picture once, with the annotations and the sentences of all of them.

    A sentence that several have about the same things (gRefCOCO has RefCOCO's) is kept once.
    """
    whole = GroundingData()
    for part in parts:
        for key, picture in part.pictures.items():
            whole.pictures[key] = _joined(whole.pictures.get(key, picture), picture)
        known = {(e.picture_id, frozenset(e.targets), e.text) for e in whole.expressions}
        whole.expressions += [e for e in part.expressions if (e.picture_id, frozenset(e.targets), e.text) not in known]
    return whole


def _joined(picture: Picture, other: Picture) -> Picture:
    ids = {i.id for i in picture.instances}
    more = tuple(i for i in other.instances if i.id not in ids)
    return replace(picture, instances=picture.instances + more) if more else picture


def _learnable(data: GroundingData) -> GroundingData:
    """Without the sentences that teach nothing: without a word, or about crowd regions alone."""
    crowds = {k: {i.id for i in p.instances if i.crowd} for k, p in data.pictures.items()}
    kept = [e for e in data.expressions if e.text and not (e.targets and crowds[e.picture_id].issuperset(e.targets))]
    if gone := len(data.expressions) - len(kept):
        log.warning("training: %d sentences left out, without a word or about crowds alone", gone)
    return GroundingData(data.pictures, kept)


def _without_held_out(data: GroundingData, config: DataConfig) -> GroundingData:
    """Without the pictures that published work holds out of mixed training: val and test of the usual divisions, and of
    the one that is asked for. The log has each division's number, and the divisions that are not looked at."""
    usual = {(name, divisions[0]) for name, divisions in refer.DIVISIONS.items()}
    held: set[int] = set()
    counts, others = [], []
    for source in refer.archives(config.root):
        if (source.dataset, source.split_by) in usual or source.split_by == config.split_by:
            own = refer.held_out(source)
            counts.append(f"{source}: {len(own & data.pictures.keys()):,}")
            held |= own
        else:
            others.append(str(source))
    gone = f"{len(held & data.pictures.keys()):,} of {len(data.pictures):,}"
    log.warning(
        "mixed training: %s pictures are left out, they are in val or test splits (%s)%s",
        gone,
        ", ".join(counts),
        f"; not held out: {', '.join(others)}" if others else "",
    )
    return _only(data, lambda k: k not in held)


def _source(root: str | Path, source: str) -> GroundingData:
    """FOLDER/SPLIT below `root`, or SPLIT in it."""
    folder, _, name = source.rpartition("/")
    data = read_coco(Path(root) / folder, name)
    if data.notes:
        told = f"{len(data.notes):,} things and sentences are left out, or not as annotated ({few(data.notes)})"
        log.warning("%s: %s; python -m jmceln_core.data.check %s names all", source, told, Path(root) / folder)
    return data


def _present(data: GroundingData, what: str, *, subset: bool) -> GroundingData:
    """The same if all its pictures are there; with `subset` those that are. Raises DataError naming the others."""
    if not (missing := missing_pictures(data)):
        return data
    names = [str(p.path) for p in missing.values()]
    told = f"{what}: {len(missing):,} of {len(data.pictures):,} pictures are not there ({few(names)})"
    if not subset or len(missing) == len(data.pictures):
        slashes = ". Back slashes in file_name are Windows' way: write /" if any("\\" in name for name in names) else ""
        remedy = "" if subset else "; bring them, or set data.subset to true: they are left out then"
        raise DataError(told + remedy + slashes)
    log.warning("%s: they and their sentences are left out", told)
    return _only(data, lambda k: k not in missing)


def _coco(config: DataConfig) -> tuple[GroundingData, GroundingData]:
    """The sources together, and `val_sources` or else pictures of the first source, taken out of them."""
    if not config.sources:
        raise DataError("coco: nothing to read; set --data.sources '[FOLDER/SPLIT]', one or more, below --data.root")
    if config.repeat and (len(config.repeat) != len(config.sources) or min(config.repeat) < 1 or config.shards):
        raise DataError(f"data.repeat={list(config.repeat)}: a number of 1 or more for each of data.sources, no shards")
    parts = [_source(config.root, source) for source in config.sources]
    for part, times in zip(parts, config.repeat or [1] * len(parts), strict=True):
        part.pictures = {key: replace(picture, repeat=times) for key, picture in part.pictures.items()}
    whole = _together(parts)
    if config.left_out:
        away = left_out_pictures()
        whole = _only(whole, lambda k: k not in away)
    if config.val_sources:
        validation = _together([_named(_source(config.root, source), source) for source in config.val_sources])
    else:  # by all that are annotated, so that a missing file moves no other one from one side to the other
        order = np.random.default_rng(0).permutation(sorted(parts[0].pictures))
        held = {int(i) for i in order[: config.validation]}
        whole, validation = _only(whole, lambda k: k not in held), _only(whole, lambda k: k in held)
    if not config.shards:
        whole = _present(whole, f"{config.root}, training", subset=config.subset)
    return whole, _present(validation, f"{config.root}, validation", subset=config.subset)


def _named(data: GroundingData, source: str) -> GroundingData:
    """The same, with pictures that say where they are from."""
    pictures = {key: replace(picture, source=source) for key, picture in data.pictures.items()}
    return GroundingData(pictures, data.expressions)


def _together(parts: Iterable[GroundingData]) -> GroundingData:
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
    """So many of the pictures that have sentences, always the same ones; all pictures if `count` is 0."""
    if not count:
        return data
    order = np.random.default_rng(0).permutation(sorted({e.picture_id for e in data.expressions}))
    drawn = {int(i) for i in order[:count]}
    return _only(data, drawn.__contains__)
