"""REFER's data sets in their own files: RefCOCO, RefCOCO+, RefCOCOg and, in the same layout, gRefCOCO.

    ROOT/refcoco/refs(unc).p, refs(google).p     what the sentences mean: pickles
    ROOT/refcoco+/refs(unc).p
    ROOT/refcocog/refs(umd).p, refs(google).p
    ROOT/grefcoco/grefs(unc).json                several targets, or none
    ROOT/*/instances.json                        COCO's annotations of the pictures
    ROOT/images/mscoco/images/train2014/         COCO's pictures

docs/data.md says where they are published.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jmceln_core.data.annotations import loads, outline
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture, few
from jmceln_core.data.pickles import load_plain

log = logging.getLogger(__name__)

PICTURES = Path("images/mscoco/images/train2014")
PICTURES_HOME = (
    "COCO's train2014 pictures are at https://cocodataset.org/#download "
    f"(http://images.cocodataset.org/zips/train2014.zip); unpack them to ROOT/{PICTURES}"
)
REFER_HOME = "https://github.com/lichengunc/refer"
GREFCOCO_HOME = "https://github.com/henghuiding/gRefCOCO"

# The usual division into splits first.
DIVISIONS: dict[str, tuple[str, ...]] = {
    "refcoco": ("unc", "google"),
    "refcoco+": ("unc",),
    "refcocog": ("umd", "google"),
    "grefcoco": ("unc",),
}


class Counts(NamedTuple):
    """How much a split holds: things (or sets of things) referred to, pictures, sentences; None: not published."""

    refs: int | None = None
    images: int | None = None
    sentences: int | None = None


# refs, images: the table of TensorFlow Datasets' ref_coco (https://www.tensorflow.org/datasets/catalog/ref_coco).
# sentences: val and tests as in the field's tables (Ref-L4's README has their sums: 21,586, 21,373, 14,498); RefCOCO's
# train as on FlagEval's page about it; RefCOCO+'s train and RefCOCOg google's by the totals in
# https://www.codesota.com/browse/3/vision-language-models/356: 141,564 (less val and tests) and 85,474. Both divisions
# of RefCOCOg have 95,010 sentences (https://github.com/luogen1996/MCN/issues/7): the rest is umd's train, google's val.
PUBLISHED: dict[tuple[str, str], dict[str, Counts]] = {
    ("refcoco", "unc"): {
        "train": Counts(42404, 16994, 120624),
        "val": Counts(3811, 1500, 10834),
        "testA": Counts(1975, 750, 5657),
        "testB": Counts(1810, 750, 5095),
    },
    ("refcoco", "google"): {
        "train": Counts(40000, 19213, None),
        "val": Counts(5000, 4559, None),
        "test": Counts(5000, 4527, None),
    },
    ("refcoco+", "unc"): {
        "train": Counts(42278, 16992, 120191),
        "val": Counts(3805, 1500, 10758),
        "testA": Counts(1975, 750, 5726),
        "testB": Counts(1798, 750, 4889),
    },
    ("refcocog", "umd"): {
        "train": Counts(42226, 21899, 80512),
        "val": Counts(2573, 1300, 4896),
        "test": Counts(5023, 2600, 9602),
    },
    ("refcocog", "google"): {
        "train": Counts(44822, 24698, 85474),
        "val": Counts(5000, 4650, 9536),
    },
    # No source was found that counts gRefCOCO split by split: see TOTALS.
    ("grefcoco", "unc"): dict.fromkeys(("train", "val", "testA", "testB"), Counts()),
}
# Sentences of all splits together: the released file (henghuiding/gRefCOCO, issue 6) and the whole of the paper.
TOTALS: dict[tuple[str, str], tuple[int, ...]] = {("grefcoco", "unc"): (259859, 278232)}


class Ref(NamedTuple):
    """What one or more sentences of a picture mean: the ids of its annotations, none if they mean nothing there."""

    id: int
    image_id: int
    targets: tuple[int, ...]
    split: str
    sentences: tuple[str, ...]


class Archive(NamedTuple):
    """One division of one data set below a root folder."""

    root: Path
    dataset: str
    split_by: str

    def __str__(self) -> str:
        return f"{self.dataset} ({self.split_by})"

    @property
    def refs_path(self) -> Path:
        """The file of its sentences."""
        name = f"grefs({self.split_by}).json" if self.dataset == "grefcoco" else f"refs({self.split_by}).p"
        return self.root / self.dataset / name

    @property
    def instances_path(self) -> Path:
        """The file of its annotations."""
        return self.root / self.dataset / "instances.json"

    @property
    def home(self) -> str:
        """Where its two files are published, in words."""
        if self.dataset == "grefcoco":
            return f"{GREFCOCO_HOME} links the files; they belong in ROOT/grefcoco"
        return f"{REFER_HOME} links {self.dataset}.zip; it unpacks to ROOT/{self.dataset}"

    def refs(self) -> dict[str, list[Ref]]:
        """Its refs, split by split. Raises DataError naming the file if it is missing or is something else."""
        path = self.refs_path
        if not path.is_file():
            raise DataError(f"{path}: no such file; {self.home}")
        raw = load_plain(path) if path.suffix == ".p" else _load(self, path, lambda entry: entry)
        splits: dict[str, list[Ref]] = defaultdict(list)
        try:
            for entry in raw:
                ref = _ref(entry)
                splits[ref.split].append(ref)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            number = sum(map(len, splits.values()))
            raise DataError(
                f"{path}: entry {number} is not one of REFER's ({type(error).__name__}: {error}); {self.home}"
            ) from None
        return dict(splits)


def archive(root: str | Path, dataset: str, split_by: str = "") -> Archive:
    """The data set's division below `root`; the usual one if `split_by` is empty.

    Raises DataError naming the divisions there are.
    """
    known = DIVISIONS[dataset]
    if split_by and split_by not in known:
        raise DataError(f"{dataset} is not divided by {split_by!r}; data.split_by is {' or '.join(known)}")
    return Archive(Path(root), dataset, split_by or known[0])


def archives(root: str | Path) -> list[Archive]:
    """Every division of every data set whose sentences are found below `root`."""
    found = [Archive(Path(root), name, by) for name, divisions in DIVISIONS.items() for by in divisions]
    return [a for a in found if a.refs_path.is_file()]


def count(refs: Collection[Ref]) -> Counts:
    """How much these refs hold."""
    return Counts(len(refs), len({r.image_id for r in refs}), sum(len(r.sentences) for r in refs))


def differences(source: Archive, split: str, refs: Collection[Ref]) -> list[str]:
    """In which published counts of the split these refs differ, in words; empty if in none."""
    expected = PUBLISHED[source.dataset, source.split_by].get(split, Counts())
    return [
        f"{found:,} {name} instead of {published:,}"
        for name, found, published in zip(Counts._fields, count(refs), expected, strict=True)
        if published is not None and found != published
    ]


def total_difference(source: Archive, splits: Mapping[str, Collection[Ref]]) -> list[str]:
    """The same for all splits together, where nothing else is published."""
    totals = TOTALS.get((source.dataset, source.split_by))
    found = sum(len(r.sentences) for refs in splits.values() for r in refs)
    if not totals or found in totals:
        return []
    return [f"{found:,} sentences in all instead of {' or '.join(f'{t:,}' for t in totals)}"]


def read_refer(
    dataset: str, root: str | Path, split: str, *, split_by: str = "", subset: bool = False
) -> GroundingData:
    """One split of refcoco, refcoco+, refcocog or grefcoco below `root`.

    A picture carries all of its COCO annotations, crowds too (`crowd=True`, as for a box without an outline), outlines
    as compressed RLE; sentences are REFER's `sent`: lower case, without punctuation. Unless `subset`, the split's
    published counts must be met and all its pictures be there; with it, sentences about missing pictures are left out,
    and counted in the log.

    Raises DataError saying what is missing or wrong and where to find it.
    """
    source = archive(root, dataset, split_by)
    splits = source.refs()
    refs = _split(source, splits, split)
    if not subset and (told := differences(source, split, refs) + total_difference(source, splits)):
        raise DataError(
            f"{source.refs_path}, split {split}: {', '.join(told)}. Fetch it again: {source.home}. "
            "If a part is meant, set data.subset to true: nothing is counted then"
        )
    pictures = _pictures(source, {r.image_id for r in refs})
    folder = source.root / PICTURES
    missing = missing_pictures(folder, {k: p.path.name for k, p in pictures.items()})
    if missing and (not subset or len(missing) == len(pictures)):
        raise DataError(
            f"{folder}: {len(missing):,} of the {len(pictures):,} pictures of {source}'s {split} split are missing "
            f"({few(missing.values())}). {PICTURES_HOME}"
            + ("" if subset else ". If a part is meant, set data.subset to true: the others are left out then")
        )
    expressions, odd = _expressions(source, [r for r in refs if r.image_id not in missing], pictures)
    gone = sum(len(r.sentences) for r in refs if r.image_id in missing)
    if gone:
        log.warning(
            "%s, %s: %d sentences left out, their %d pictures are not in %s", source, split, gone, len(missing), folder
        )
    if odd:
        log.warning("%s, %s: %d sentences are without a word or about crowds alone; they count", source, split, odd)
    return GroundingData({k: p for k, p in pictures.items() if k not in missing}, expressions)


def held_out(source: Archive) -> set[int]:
    """The pictures in any split but train of a division, by COCO's image id."""
    return {ref.image_id for split, refs in source.refs().items() if split != "train" for ref in refs}


def picture_names(source: Archive) -> dict[int, str]:
    """The file names of all pictures that have annotations in the archive, by COCO's image id."""
    try:
        return {i["id"]: i["file_name"] for i in _load(source, source.instances_path, lambda _: None)["images"]}
    except (KeyError, TypeError) as error:
        raise _not_coco(source, error) from None


def missing_pictures(folder: Path, names: Mapping[int, str]) -> dict[int, str]:
    """Those of the pictures whose file is not in the folder."""
    try:
        there = set(os.listdir(folder))
    except OSError:
        there = set()
    return {k: name for k, name in names.items() if name not in there}


def _ref(entry: Any) -> Ref:
    """One entry of REFER's (an annotation's id) or of gRefCOCO's (a list of ids; -1, or none, for no target)."""
    targets = entry["ann_id"] if isinstance(entry["ann_id"], list) else [entry["ann_id"]]
    if entry.get("no_target"):
        targets = []
    return Ref(
        int(entry["ref_id"]),
        int(entry["image_id"]),
        tuple(dict.fromkeys(int(t) for t in targets if t != -1)),
        str(entry["split"]),
        tuple((s["sent"] or s.get("raw", "")).strip() for s in entry["sentences"]),
    )


def _split(source: Archive, splits: Mapping[str, list[Ref]], split: str) -> list[Ref]:
    if split in splits:
        return splits[split]
    if split in PUBLISHED[source.dataset, source.split_by]:
        why = "; the first release of gRefCOCO kept its test splits back" if source.dataset == "grefcoco" else ""
        raise DataError(f"{source.refs_path}: the {split} split is missing from this file{why}. {source.home}")
    other = "; RefCOCOg has a test split in its umd division alone" if str(source) == "refcocog (google)" else ""
    raise DataError(f"{source}: there is no split {split!r}; there are {', '.join(splits)}{other}")


def _expressions(source: Archive, refs: Iterable[Ref], pictures: Mapping[int, Picture]) -> tuple[list[Expression], int]:
    """The sentences of these refs, and the number of those without a word or about crowds alone.

    All count in a table, which is of the published number of sentences. Crowds are left out of what a sentence means,
    unless it means nothing else.
    """
    crowd = {k: {i.id: i.crowd for i in p.instances} for k, p in pictures.items()}
    expressions, odd = [], 0
    for ref in refs:
        try:
            things = tuple(t for t in ref.targets if not crowd[ref.image_id][t])
        except KeyError as error:
            raise DataError(
                f"{source.instances_path}: ref {ref.id} means annotation {error} of picture {ref.image_id}, which is "
                f"not there; fetch both files from one place: {source.home}"
            ) from None
        targets = things or ref.targets
        kind = "absent" if not targets else "plural" if len(targets) > 1 else ""
        odd += sum(not text or targets != things for text in ref.sentences)
        expressions += [Expression(ref.image_id, targets, text, kind) for text in ref.sentences]
    return expressions, odd


def _pictures(source: Archive, wanted: Collection[int]) -> dict[int, Picture]:
    """The wanted pictures with their annotations. Raises DataError naming the file and what it lacks."""
    path = source.instances_path

    def keep(annotation: dict[str, Any]) -> tuple[Any, ...] | None:
        # Until all is read, polygons as lists of Python floats would take gigabytes; and the sizes may come last.
        if annotation["image_id"] not in wanted:
            return None
        drawn = annotation["segmentation"]
        if isinstance(drawn, list):
            drawn = [array("d", polygon) for polygon in drawn]
        crowd = bool(annotation.get("iscrowd", 0))
        return annotation["id"], annotation["image_id"], annotation["category_id"], annotation["bbox"], crowd, drawn

    try:
        content = _load(source, path, keep)
        names = {c["id"]: c["name"] for c in content["categories"]}
        images = {i["id"]: i for i in content["images"] if i["id"] in wanted}
        own: dict[int, list[Instance]] = {k: [] for k in images}
        annotations = content["annotations"][::-1]
        del content
        while annotations:  # in file order, each one's memory given back at once
            if (kept := annotations.pop()) is not None:
                number, image_id, category, (x, y, w, h), crowd, drawn = kept
                if image_id in images:
                    packed, _ = outline(drawn, images[image_id]["height"], images[image_id]["width"])
                    # without an outline a box is all that is known, and no mask
                    own[image_id].append(Instance(number, names[category], packed, (x, y, w, h), crowd or not packed))
        pictures = {
            k: Picture(k, source.root / PICTURES / i["file_name"], i["height"], i["width"], tuple(own[k]))
            for k, i in images.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _not_coco(source, error) from None
    if lacking := sorted(set(wanted) - pictures.keys()):
        raise DataError(f"{path}: {len(lacking):,} pictures are not in it ({few(lacking)}); {source.home}")
    return pictures


def _not_coco(source: Archive, error: Exception) -> DataError:
    what = f"{type(error).__name__}: {error}"
    return DataError(f"{source.instances_path}: not COCO's instances ({what}); fetch it again: {source.home}")


def _load(source: Archive, path: Path, annotation: Callable[[dict[str, Any]], Any]) -> Any:
    """A json file, its annotations replaced by what the function makes of each as soon as it is read."""

    def found(entry: dict[str, Any]) -> Any:
        return annotation(entry) if "segmentation" in entry and "image_id" in entry else entry

    try:
        return loads(path.read_text("utf-8"), object_hook=found)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {source.home}") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid json ({error}); fetch it again: {source.home}") from None
