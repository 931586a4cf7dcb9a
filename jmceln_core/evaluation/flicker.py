"""Do the answers about a video hold together? Moving-camera clips, each frame for itself against the ways to steady it:

    python -m jmceln_core.evaluation.flicker --frames 60

prints a table. The clips are the rendered table (exact masks) and photographs under a moving camera; with `--root
FOLDER` photographs of a COCO folder with their masks too. docs/tracking.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jmceln_core import markdown
from jmceln_core.answer import Segmentation, Status
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.command import refused
from jmceln_core.data.grounding import DataError, read_coco
from jmceln_core.evaluation import clips, machine, metrics
from jmceln_core.evaluation.clips import Clip, Frame
from jmceln_core.model import ImageFeatures
from jmceln_core.segmenter import Segmenter
from jmceln_core.tracking import Tracker

FOLLOW = (0.25, 0.5, 1.0)  # shares of the last frame's queries that the table has rows for


@dataclass(frozen=True)
class Way:
    """A way to answer: `follow` goes to the Segmenter; `tracker` has numbers for a Tracker, None: no Tracker."""

    name: str
    follow: float = 0.0
    tracker: dict[str, float] | None = None


def ways(follow: Iterable[float] = FOLLOW) -> list[Way]:
    """Each frame for itself; what a Tracker adds bit by bit; and with the last frame's queries as a start."""
    still = {"smoothing": 0.0, "mask_smoothing": 0.0, "gate": 9.0}
    return [
        Way("each frame for itself"),
        Way("hysteresis", tracker=still),
        Way("hysteresis, points smoothed", tracker={"mask_smoothing": 0.0}),
        Way("hysteresis, points and mask smoothed", tracker={}),
        *(Way(f"follow {share:g}", follow=share) for share in follow),
        *(Way(f"all, follow {share:g}", follow=share, tracker={}) for share in follow),
    ]


@dataclass
class Trace:
    """What one way answered about one sentence, frame by frame."""

    ious: list[float] = field(default_factory=list)  # NaN where there is nothing to find or the truth is not known
    present: list[bool] = field(default_factory=list)
    unsure: list[bool] = field(default_factory=list)  # a mask that is not to be acted upon
    hits: list[float] = field(default_factory=list)  # 1: the anchor is on the thing; NaN as in `ious`
    points: list[tuple[float, float]] = field(default_factory=list)  # centroid, NaN without
    # where the centroid would be if it were fixed to the scene, up to a constant: the true one's place, or ...
    places: list[tuple[float, float]] = field(default_factory=list)
    motions: list[np.ndarray | None] = field(
        default_factory=list
    )  # ... where that is not known, the photograph's motion

    def add(self, answer: Segmentation, truth: np.ndarray | None, frame: Frame) -> None:
        """The answer about the next frame."""
        nan = float("nan")
        there = truth is not None and bool(truth.any())
        iou = hit = nan
        place = (nan, nan)
        if truth is not None and there:
            shared, union = metrics.overlap(answer.mask, truth)
            iou, hit = shared / union, float(metrics.points_inside(answer.anchor, truth))
            rows, columns = np.nonzero(truth)
            place = (float(columns.mean()), float(rows.mean()))
        self.ious.append(iou)
        self.hits.append(hit)
        self.present.append(answer.status is not Status.NOT_PRESENT)
        self.unsure.append(answer.status is Status.LOW_CONFIDENCE)
        self.points.append(answer.centroid or (nan, nan))
        self.places.append(place)
        self.motions.append(frame.motion if truth is None else None)

    @property
    def offsets(self) -> np.ndarray:
        """(frames, 2) pixels: the centroid less the scene's motion, NaN where it has none."""
        points, _ = self._points_and_places()
        return points

    def _points_and_places(self) -> tuple[np.ndarray, np.ndarray]:
        points, places = np.array(self.points), np.array(self.places)
        if any(motion is not None for motion in self.motions):
            motions = np.array(self.motions)  # (frames, 2, 3)
            linear, shift = motions[:, :, :2], motions[:, :, 2]
            fixed = np.linalg.solve(linear, (points - shift)[..., None])[..., 0]  # in the photograph
            if not np.isfinite(fixed).any():
                return points, places
            places = linear @ np.nanmedian(fixed, axis=0) + shift
        return points - places, places


def measure(traces: Sequence[Trace]) -> dict[str, float]:
    """The columns of docs/tracking.md over some sentences; NaN where nothing counts.

    jitter and lag are in pixels: the root mean square of the second difference of the centroids' offsets from the true
    motion, and how far they trail behind it at its root mean square speed (a regression of the offsets' deviations on
    the velocity; negative: ahead).
    """
    ious = [np.array(t.ious) for t in traces]
    offsets = [t.offsets for t in traces]
    return {
        "mIoU": 100 * _mean(ious),
        "pointing": 100 * _mean(np.array(t.hits) for t in traces),
        "flicker": 100 * _mean(np.abs(np.diff(iou)) for iou in ious),
        "flips": 100 * _mean(np.diff(np.array(t.present, float)) != 0 for t in traces),
        "unsure": 100 * _mean(np.array(t.unsure, float) for t in traces),
        "jitter": _mean((np.diff(o, 2, axis=0) ** 2).sum(axis=1) for o in offsets) ** 0.5,
        "lag": _lag(traces),
    }


def run(
    segmenter: Segmenter, some: Sequence[Clip], chosen: Sequence[Way], *, rate: float
) -> dict[str, dict[str, list[Trace]]]:
    """Every way's answers: by the clip's name, then by the way's, one Trace for each sentence.

    The image half runs once a frame, the sentence half once a frame and share of `follow`.
    """
    found: dict[str, dict[str, list[Trace]]] = {}
    for clip in some:
        eyes = {share: _Twin(segmenter) for share in {way.follow for way in chosen}}
        trackers = [
            [None if way.tracker is None else _tracker(segmenter, way) for _ in clip.sentences] for way in chosen
        ]
        traces = {way.name: [Trace() for _ in clip.sentences] for way in chosen}
        for t, frame in enumerate(clip.frames()):
            segmenter.set_image(frame.rgb)
            answers = {}
            for share, twin in eyes.items():
                twin.set_image(frame.rgb)
                answers[share] = twin.segment_all(clip.sentences, probability=True, follow=share)
            for way, row in zip(chosen, trackers, strict=True):
                for i, (text, tracker) in enumerate(zip(clip.sentences, row, strict=True)):
                    answer = answers[way.follow][i]
                    if tracker is not None:
                        answer = tracker.update(answer, time=t / rate, text=text, rgb=frame.rgb)
                    traces[way.name][i].add(answer, frame.truths[text], frame)
        found[clip.name] = traces
        print(f"{clip.name}: done", file=sys.stderr)
    return found


def table(found: dict[str, dict[str, list[Trace]]]) -> str:
    """Markdown: one table over all clips of `found`."""
    names = list(next(iter(found.values())))
    rows = {name: measure([trace for traces in found.values() for trace in traces[name]]) for name in names}
    columns = list(next(iter(rows.values())))
    cells = (
        (name, *("–" if np.isnan(value) else f"{value:.2f}" for value in row.values())) for name, row in rows.items()
    )
    return "\n".join(markdown.table(("", *columns), cells, align="l" + "r" * len(columns)))


class _Twin(Segmenter):
    """Answers about the picture that another Segmenter has taken up, with a memory of its own for `follow`."""

    def __init__(self, other: Segmenter) -> None:
        super().__init__(other._model, other.config, device=other.device, precision=other.precision)
        self._other = other

    def _see(self, square: np.ndarray) -> ImageFeatures:
        assert self._other._picture is not None
        return self._other._picture[1]


def _tracker(segmenter: Segmenter, way: Way) -> Tracker:
    return Tracker.suited_to(segmenter.decision, **(way.tracker or {}))


def _mean(parts: Iterable[np.ndarray]) -> float:
    """Over all values that are not NaN."""
    values = np.concatenate([np.ravel(part) for part in parts] or [np.empty(0)]).astype(float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _lag(traces: Sequence[Trace]) -> float:
    """See `measure`."""
    along = speed = 0.0
    count = 0
    for trace in traces:
        offsets, places = trace._points_and_places()
        offsets, velocities = offsets[1:], np.diff(places, axis=0)
        good = np.isfinite(offsets).all(axis=1) & np.isfinite(velocities).all(axis=1)
        if good.sum() > 2:
            away = offsets[good] - offsets[good].mean(axis=0)
            moving = velocities[good] - velocities[good].mean(axis=0)
            along, speed, count = along - (away * moving).sum(), speed + (moving**2).sum(), count + int(good.sum())
    return float(along / speed * (speed / count) ** 0.5) if speed else float("nan")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.evaluation.flicker", description="Measure how steady the answers about videos are."
    )
    parser.add_argument("--model", help="a .safetensors file or the name of a bundled model (default: bundled)")
    parser.add_argument("--device", help="for example cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--frames", type=int, default=60, help="of each clip (default: 60)")
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second of the clips' time (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the camera's ways and the table's layout (default: 1)")
    parser.add_argument("--follow", type=float, nargs="*", default=FOLLOW, help="shares of the last frame's queries")
    parser.add_argument("--clips", nargs="*", choices=("table", "photographs"), default=("table", "photographs"))
    parser.add_argument(
        "--root", type=Path, help="a folder in the COCO layout of docs/data.md, for pictures with masks"
    )
    parser.add_argument("--split", default="heldout", help="of --root (default: heldout)")
    parser.add_argument("--pictures", type=int, default=6, help="of --root, drawn by the seed (default: 6)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; returns the exit status."""
    args = _parser().parse_args(arguments)
    options = {"frames": args.frames, "rate": args.rate}
    try:
        if args.frames < 3 or not args.rate > 0:
            raise ValueError("--frames must be at least 3 (there is no jitter in two) and --rate above 0")
        groups: dict[str, list[Clip]] = {}
        if "table" in args.clips:
            groups["Rendered table"] = [clips.table(args.seed, **options)]
        if "photographs" in args.clips:
            groups["Photographs without masks"] = clips.photographs(args.seed, **options)
        if args.root:
            data = read_coco(args.root, args.split)
            groups[f"{args.root.name} {args.split}"] = clips.of_pictures(
                list(data.pictures.values()), data.expressions, args.pictures, args.seed, **options
            )
        segmenter = Segmenter.load(args.model, device=args.device)
        described = ", ".join(f"{name} {value}" for name, value in machine.describe(segmenter.device).items())
        print(f"Model {segmenter.name}; {args.frames} frames at {args.rate:g} Hz, seed {args.seed}; {described}.")
        for heading, some in groups.items():
            found = run(segmenter, some, ways(args.follow), rate=args.rate)
            sentences = sum(len(clip.sentences) for clip in some)
            print(f"\n{heading}: {len(some)} clips, {sentences} sentences\n\n{table(found)}", flush=True)
    except (CheckpointError, DataError, ValueError) as error:
        return refused("flicker", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
