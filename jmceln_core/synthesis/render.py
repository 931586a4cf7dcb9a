"""Rendered tabletop scenes with masks and sentences, as a data set in COCO's layout (`grounding.read_coco`):

    python -m jmceln_core.synthesis.render --objects DIR --scenes 4000 --out OUT --seed 0 [--workers 2] [--split ...]

Needs VTK (requirements/render.txt) and no display. A scene is a function of (seed, split, number)
alone: a run that was cut off goes on where it stopped, and a larger --scenes adds to what is there. OUT gets

    images/render_SPLIT_NUMBER.jpg
    depth/render_SPLIT_NUMBER.png            with --depth: 16 bit, millimetres, 0 where nothing is (REP-118)
    instances_SPLIT.json  expressions_SPLIT.json
    scenes_SPLIT.jsonl                       the finished scenes, a line each: what the two are made from
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from jmceln_core.data.grounding import DataError, Instance
from jmceln_core.extras import require
from jmceln_core.synthesis.tabletop import sentences
from jmceln_core.synthesis.tabletop.facts import Facts
from jmceln_core.synthesis.tabletop.scene import Scene, compose

if TYPE_CHECKING:
    from jmceln_core.synthesis.tabletop.renderer import Renderer, View

SPLITS = ("train", "heldout")
FIRST_PICTURE = 20_000_000  # picture ids: this + 5,000,000 for heldout + the scene's number
_PER_SPLIT = 5_000_000
_PER_PICTURE = 64  # annotation ids of a picture: its id * 64 + the thing's index
SMALLEST = 12  # pixels: what shows less is not annotated (nor ever meant)


@dataclass(frozen=True)
class Job:
    """What a scene depends on besides its number."""

    objects: Path
    out: Path
    seed: int
    split: str
    depth: bool = False

    def picture_id(self, number: int) -> int:
        return FIRST_PICTURE + _PER_SPLIT * SPLITS.index(self.split) + number

    def generator(self, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, SPLITS.index(self.split), number))


def annotate(
    picture_id: int, file_name: str, scene: Scene, view: View, said: Sequence[sentences.Sentence]
) -> dict[str, Any]:
    """One scene's share of the two files: `image`, `annotations` (with the category's name), `expressions`, `absent`,
    `plural`."""
    height, width = view.instances.shape
    annotations = []
    for index, thing in enumerate(scene.things):
        mask = view.instances == index
        area = int(mask.sum())
        if area < SMALLEST:
            continue
        key = picture_id * _PER_PICTURE + index
        marked = Instance.of_mask(key, thing.item.words.nouns[0], mask)
        annotations.append(
            {
                "id": marked.id,
                "image_id": picture_id,
                "category": marked.category,
                "bbox": list(marked.box),
                "area": area,
                "iscrowd": 0,
                "segmentation": {"size": [height, width], "counts": marked.segmentation["counts"].decode("ascii")},
                "object": thing.item.name,
            }
        )
    image = {
        "id": picture_id,
        "file_name": file_name,
        "width": width,
        "height": height,
        "source": "rendered",
        "complete": True,
    }
    record: dict[str, Any] = {"image": image, "annotations": annotations, "expressions": [], "absent": [], "plural": []}
    for sentence in said:
        ids = [picture_id * _PER_PICTURE + index for index in sentence.targets]
        spoken: dict[str, Any] = {"image_id": picture_id, "text": sentence.text, "origin": "generated"}
        if len(ids) == 1:
            record["expressions"].append(spoken | {"ann_id": ids[0], "kind": sentence.kind})
        elif ids:
            record["plural"].append(spoken | {"ann_ids": ids})
        else:
            record["absent"].append(spoken)
    return record


def render_scene(job: Job, number: int, renderer: Renderer) -> dict[str, Any]:
    """Compose, render, photograph and describe one scene; writes its pictures and returns its record (`annotate`)."""
    from jmceln_core.synthesis.tabletop.renderer import photograph

    rng = job.generator(number)
    scene = compose(rng, job.objects, job.split)
    view = renderer.render(scene)
    rgb = photograph(rng, view.rgb)
    facts = Facts(scene, rgb, view.instances, view.whole)
    said = sentences.write(facts, rng, sentences.vocabulary(job.split))
    stem = f"render_{job.split}_{number:06d}"
    record = annotate(job.picture_id(number), f"{stem}.jpg", scene, view, said)
    quality = int(rng.integers(72, 92))
    _write(job.out / "images" / f"{stem}.jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if job.depth:
        _write(job.out / "depth" / f"{stem}.png", (view.depth * 1000).round().clip(0, 65535).astype(np.uint16), [])
    return record | {"number": number}


def _write(path: Path, pixels: np.ndarray, options: Sequence[int]) -> None:
    if not cv2.imwrite(str(path), pixels, options):
        raise DataError(f"{path}: cannot be written; is the disk full?")


_worker: tuple[Job, Renderer]  # of a worker process


def _start(job: Job) -> None:
    global _worker
    try:
        require("render")
        from jmceln_core.synthesis.tabletop.renderer import Renderer
    except ImportError as error:
        raise DataError(str(error)) from None
    cv2.setNumThreads(1)
    _worker = (job, Renderer())


def _work(number: int) -> dict[str, Any]:
    job, renderer = _worker
    return render_scene(job, number, renderer)


def _results(job: Job, numbers: Sequence[int], workers: int) -> Iterator[dict[str, Any]]:
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's software renderer: processes share the cores, not threads
    if workers <= 1:
        _start(job)
        yield from map(_work, numbers)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _start, (job,)) as pool:
        yield from pool.imap_unordered(_work, numbers, chunksize=4)


def finished(path: Path, job: Job) -> dict[int, dict[str, Any]]:
    """The records of a scenes file by number; a last line that was cut off is dropped from the file. Raises DataError
    if the file is of another seed."""
    if not path.is_file():
        path.write_text(json.dumps({"seed": job.seed, "split": job.split}) + "\n")
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    head, *lines = [json.loads(line) for line in whole.splitlines()] or [{}]
    if head.get("seed") != job.seed:
        raise DataError(
            f"{path}: was made with --seed {head.get('seed')}, not {job.seed}; take that seed or another --out"
        )
    return {
        record["number"]: record for record in lines if (job.out / "images" / record["image"]["file_name"]).is_file()
    }


def write_annotations(out: Path, split: str, records: Sequence[dict[str, Any]]) -> None:
    """The two json files of a split from its scenes' records."""
    ordered = sorted(records, key=lambda record: record["number"])
    names = sorted({a["category"] for record in ordered for a in record["annotations"]})
    ids = {name: 3000 + k for k, name in enumerate(names)}
    instances = {
        "images": [record["image"] for record in ordered],
        "annotations": [
            {**{k: v for k, v in a.items() if k != "category"}, "category_id": ids[a["category"]]}
            for record in ordered
            for a in record["annotations"]
        ],
        "categories": [{"id": ids[name], "name": name} for name in names],
    }
    spoken = {key: [s for record in ordered for s in record[key]] for key in ("expressions", "absent", "plural")}
    for name, content in (("instances", instances), ("expressions", spoken)):
        path = out / f"{name}_{split}.json"
        partial = path.with_suffix(".json.part")
        partial.write_text(json.dumps(content, separators=(",", ":")))
        partial.replace(path)


def render(job: Job, scenes: int, first: int = 0, workers: int = 1) -> dict[str, float]:
    """Render scenes number `first` to `first + scenes` that are not there yet, and write the annotations of all that
    are. Returns what there is: pictures, things, sentences, and pictures a second of this run."""
    for folder in ("images", "depth") if job.depth else ("images",):
        (job.out / folder).mkdir(parents=True, exist_ok=True)
    path = job.out / f"scenes_{job.split}.jsonl"
    records = finished(path, job)
    missing = [number for number in range(first, first + scenes) if number not in records]
    began = time.monotonic()
    with path.open("a") as file:
        for done, record in enumerate(_results(job, missing, workers) if missing else (), 1):
            records[record["number"]] = record
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
            file.flush()
            if done % 100 == 0 or done == len(missing):
                rate = done / (time.monotonic() - began)
                print(f"{done}/{len(missing)} scenes, {rate:.2f} a second", file=sys.stderr, flush=True)
            if done % 1000 == 0:
                write_annotations(job.out, job.split, list(records.values()))
    write_annotations(job.out, job.split, list(records.values()))
    return {
        "pictures": len(records),
        "things": sum(len(record["annotations"]) for record in records.values()),
        "sentences": sum(
            len(record[key]) for record in records.values() for key in ("expressions", "absent", "plural")
        ),
        "pictures a second": len(missing) / max(time.monotonic() - began, 1e-9),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.synthesis.render",
        description="Render tabletop scenes with masks and sentences into a folder in COCO's layout.",
    )
    parser.add_argument("--objects", type=Path, required=True, help="folder with NAME/mesh.obj and textures/*.jpg")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill; may hold scenes of an earlier run")
    parser.add_argument("--scenes", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (default 0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--split", choices=SPLITS, default="train", help="heldout: other objects and textures than train"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--depth", action="store_true", help="write depth pictures, 16 bit, in millimetres")
    options = parser.parse_args(arguments)
    if not 0 <= options.first <= options.first + options.scenes <= _PER_SPLIT:
        parser.error(f"--first and --scenes: numbers from 0 to {_PER_SPLIT}")
    job = Job(options.objects.resolve(), options.out.resolve(), options.seed, options.split, options.depth)
    try:
        summary = render(job, options.scenes, options.first, options.workers)
    except DataError as error:
        print(f"render: {error}", file=sys.stderr)
        return 1
    print(
        ", ".join(
            f"{value:.2f} {name}" if isinstance(value, float) else f"{value} {name}" for name, value in summary.items()
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
