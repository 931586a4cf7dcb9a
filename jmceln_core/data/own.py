"""What training would see of one's own data in COCO's json, and what is wrong with it; `check` prints it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jmceln_core.data import refer
from jmceln_core.data.annotations import loads
from jmceln_core.data.grounding import DataError, GroundingData, Picture, few, missing_pictures, read_coco
from jmceln_core.pictures import decode

SHOWN = 8  # kinds and categories in a line


@dataclass(frozen=True)
class Split:
    """A split that was read, FOLDER/SPLIT or SPLIT, and the SHA-256 of each of its picture files by picture id."""

    name: str
    data: GroundingData
    contents: Mapping[int, str]


def sources(root: Path) -> list[str]:
    """The splits of one's own data in a folder and in those directly below it, named as `--data.sources` takes them."""
    found = []
    for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir() and p.name not in refer.DIVISIONS)):
        below = "" if folder == root else f"{folder.name}/"
        for path in sorted(folder.glob("*.json")):
            part, _, split = path.stem.partition("_")
            if part == "instances" and split:
                found.append(below + split)
            elif part != "expressions" and _is_both(path):
                found.append(below + path.stem)
    return found


def _is_both(path: Path) -> bool:
    """Whether a file holds pictures and sentences at once."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = loads(text) if '"expressions"' in text and '"annotations"' in text else None
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"images", "annotations", "expressions"} <= content.keys()


def inspect(root: Path, names: Iterable[str]) -> tuple[list[str], list[str], list[Split]]:
    """What there is, in lines; what is wrong, in words; and the splits that can be read. Every picture is decoded."""
    lines: list[str] = []
    wrong: list[str] = []
    splits: list[Split] = []
    for name in names:
        folder, _, split = name.rpartition("/")
        try:
            data = read_coco(root / folder, split)
        except DataError as error:
            wrong.append(str(error))
            continue
        missing = missing_pictures(data)
        if missing:
            where = few([p.path for p in missing.values()])
            wrong.append(f"{name}: {len(missing):,} of {len(data.pictures):,} pictures are not there ({where})")
        wrong += [f"{name}: {note}" for note in data.notes]
        contents, turned, broken = _look_at([p for key, p in data.pictures.items() if key not in missing])
        wrong += [f"{name}: {problem}" for problem in broken]
        lines += _described(name, data, turned)
        splits.append(Split(name, data, contents))
    return lines, wrong + _shared(splits), splits


def _look_at(pictures: Sequence[Picture]) -> tuple[dict[int, str], int, list[str]]:
    """The files' SHA-256 by picture id, how many their EXIF turns, and what is wrong with those that are not read."""
    contents, turned, broken = {}, 0, []
    for picture in tqdm(pictures, desc="pictures", unit="picture", delay=2, leave=False):
        try:
            data = picture.read_bytes()
            contents[picture.id] = hashlib.sha256(data).hexdigest()
            upright = picture.load()
        except DataError as error:
            broken.append(str(error))
        else:
            turned += not np.array_equal(upright, decode(data, picture.path, upright=False))
    return contents, turned, broken


def _described(name: str, data: GroundingData, turned: int) -> list[str]:
    things = [i for p in data.pictures.values() for i in p.instances]
    crowds = sum(i.crowd for i in things)
    about = Counter(
        "one thing" if len(e.targets) == 1 else "several" if e.targets else "nothing" for e in data.expressions
    )
    origins, kinds = (Counter(getattr(e, name) for e in data.expressions) for name in ("origin", "kind"))
    categories = Counter(i.category for i in things if not i.crowd)
    silent = len(data.pictures.keys() - {e.picture_id for e in data.expressions})
    partial = sum(not p.complete for p in data.pictures.values())
    lines = [
        f"{name}: {len(data.pictures):,} pictures{_sizes(data)}",
        f"  things: {len(things) - crowds:,}, crowd regions: {crowds:,}; {_counted(categories)}",
        f"  sentences: {len(data.expressions):,}; about {_counted(about)}; {_counted(origins)}",
    ]
    if any(kinds):
        lines.append(f"  kinds: {_counted(kinds)}")
    if turned:
        lines.append(
            f"  turned upright by their EXIF: {turned:,}; their annotations are taken to be of the upright picture"
        )
    if silent:
        lines.append(f"  without a sentence, of no use to training: {silent:,} pictures")
    if partial:
        lines.append(f"  not annotated completely: {partial:,} pictures")
    return lines


def _sizes(data: GroundingData) -> str:
    sizes = sorted({(p.width, p.height) for p in data.pictures.values()}, key=lambda size: size[0] * size[1])
    words = [f"{width}x{height}" for width, height in (sizes[:1] + sizes[-1:] if len(sizes) > 1 else sizes)]
    return f", {' to '.join(words)} pixels" if words else ""


def _counted(counts: Counter[str]) -> str:
    told = [f"{name or 'unnamed'} {count:,}" for name, count in counts.most_common(SHOWN)]
    return ", ".join(told) + (f", {len(counts) - SHOWN} more" if len(counts) > SHOWN else "") if told else "none"


def _shared(splits: Sequence[Split]) -> list[str]:
    """Picture files that are there twice, in one split or in several, under any name."""
    seen: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split in splits:
        for key, content in split.contents.items():
            seen[content].append((split.name, split.data.pictures[key].path.name))
    pairs: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for places in seen.values():
        if len(places) > 1:
            pairs[tuple(sorted({name for name, _ in places}))].append(places[0][1])
    told = []
    for names, files in sorted(pairs.items()):
        if len(names) == 1:
            told.append(f"{names[0]}: {len(files):,} pictures are there more than once ({few(files)})")
        else:
            told.append(
                f"{' and '.join(names)} share {len(files):,} pictures ({few(files)}): nothing is measured on what is "
                "trained on"
            )
    return told
