"""Checkpoints on many sets, in one table beside the trivial answers:

    python -m jmceln_core.evaluation.table [LABEL=]CHECKPOINT ... --root DATA --output DIR

DIR/LABEL/SET holds what `python -m jmceln_core.evaluate` writes for one of them, DIR/table.md and DIR/table.json all
together. What has been measured is not measured again: the same command goes on where it stopped. docs/evaluation.md
says what the columns are.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from jmceln_core import checkpoint
from jmceln_core.command import positive, refused
from jmceln_core.config import ConfigError
from jmceln_core.data.grounding import GroundingData
from jmceln_core.data.refcocos import BoxData
from jmceln_core.evaluation import bootstrap, boxes, report, sections
from jmceln_core.evaluation.protocol import PROTOCOLS, Protocol, named
from jmceln_core.evaluation.run import evaluate
from jmceln_core.evaluation.sets import BOXES, EvalSet, check_label, digest, read_sets
from jmceln_core.segmenter import Precision, Segmenter

TRIVIAL = "trivial"  # the label of the trivial answers
METRICS = ("mIoU", "oIoU", "Pr@0.5", "pointing")
BOX_METRICS = ("Pr@0.5", "box IoU", "pointing")
BREAKDOWNS = ("size", "phrase")

Found = dict[str, dict[str, dict[str, Any]]]  # set -> label -> its metrics.json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that gets rows; `path` None: the trivial answers."""

    label: str
    path: Path | None = None
    sha256: str = ""

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """From `LABEL=CHECKPOINT` or `CHECKPOINT`, a bundled one's name or a file, whose stem then is the label.

        Raises CheckpointError for a checkpoint that is not there and ConfigError for a label no folder can have.
        """
        label, equals, name = text.partition("=")
        if not equals or "/" in label or Path(text).is_file():  # a path, with or without an = in it
            label, name = "", text
        path = checkpoint.locate(name)
        label = label or path.stem
        check_label(label)
        return cls(label, path, checkpoint.sha256(path))


@dataclass(frozen=True)
class Loaded:
    """A set that has been read."""

    spec: EvalSet
    root: Path
    data: GroundingData | BoxData
    digest: str


def run(
    candidates: Sequence[Candidate],
    sets: Mapping[str, Loaded],
    output: Path,
    *,
    protocol: Protocol = PROTOCOLS["own"],
    limit: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> Found:
    """Measure every candidate and the trivial answers on every set, each in output/LABEL/SET, or read it from there.

    A metrics.json there is taken if it is of the same checkpoint (by its hash), sentences, protocol, precision and
    draws, and of pictures that could all be read; otherwise it is measured anew. Raises what the Segmenter and the
    reading of pictures raise.
    """
    found: Found = {name: {} for name in sets}
    for candidate in (*candidates, Candidate(TRIVIAL)):
        segmenter: Segmenter | None = None
        for name, loaded in sets.items():
            folder = output / candidate.label / name
            identity = {
                "checkpoint": candidate.sha256,
                "data": loaded.digest,
                "protocol": repr(protocol),
                "precision": (precision or "fp32") if candidate.path else None,
                "draws": draws,
                "seed": seed,
            }
            summary = _measured(folder / "metrics.json", identity)
            if summary is None:
                count = len(loaded.data.expressions)
                log.info("%s on %s: %d sentences, %d pictures", candidate.label, name, count, len(loaded.data.pictures))
                if candidate.path and segmenter is None:
                    segmenter = Segmenter.load(candidate.path, device=device, precision=precision)
                about = _about(candidate, loaded, limit) | {"identity": identity}
                options = {"draws": draws, "seed": seed}
                summary = _measure(segmenter, loaded.data, folder, protocol=protocol, about=about, **options)
            found[name][candidate.label] = summary
    return found


def _about(candidate: Candidate, loaded: Loaded, limit: int | None) -> dict[str, Any]:
    """What heads a metrics.json."""
    spec = loaded.spec
    return {
        "checkpoint": str(candidate.path or "none"),
        **{key: getattr(spec, key) for key in ("dataset", "split", "split_by", "subset")},
        "limit": limit,
        "root": str(loaded.root),
        "drawn": spec.drawn,
    }


def _measure(
    segmenter: Segmenter | None,
    data: GroundingData | BoxData,
    folder: Path,
    *,
    protocol: Protocol,
    about: dict[str, Any],
    **options: int,
) -> dict[str, Any]:
    """The trivial answers have a label of their own: with a segmenter they are left out."""
    if isinstance(data, BoxData):
        return boxes.write(boxes.evaluate(segmenter, data, trivial=segmenter is None), folder, about=about, **options)
    answered = evaluate(segmenter, data, protocol=protocol, baselines=segmenter is None)
    return report.write(answered, folder, about=about, **options)


def _measured(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """A metrics.json made of the same and of all pictures: those that could not be read may have been mended."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(summary, dict) and summary.get("identity") == identity and "unread" not in summary
    return summary if same else None


def markdown(found: Found, candidates: Sequence[Candidate]) -> str:
    """All numbers of `run` as tables, the checkpoints' rows of a set beside those of its trivial answers."""
    interval = next(iter(next(iter(found.values())).values()))["interval"]
    masks, boxed = ({n: f for n, f in found.items() if _of_boxes(f) == of_boxes} for of_boxes in (False, True))
    lines = [
        "# Evaluation",
        "",
        f"Brackets: {interval['level']:.0%} bootstrap interval by picture ({interval['draws']:,} draws).",
    ]
    if masks:
        summary = next(iter(masks.values()))[TRIVIAL]
        lines[-1] += f" Masks are compared {report.compared_at(summary)}{report.unrejected(summary)}."
    for name, answers in found.items():
        for label, summary in answers.items():
            if "unread" in summary:
                lines += ["", f"{name}, {label}: {report.unread_about(summary['unread'])}"]
    if candidates:
        rows_of = [((c.label, str(c.path), c.sha256), ()) for c in candidates]
        lines += ["", *sections.table("answer | checkpoint | SHA-256", (), rows_of)]
    counts = ("pictures", "sentences with one target")
    lines += ["", *sections.table("set | is", counts, (_described(name, found) for name in found))]
    lines += _metrics("One target", masks, METRICS)
    lines += _metrics("Boxes", boxed, BOX_METRICS)
    for heading, key, table in (
        ("Sentences that mean nothing", "gres", sections.rejections),
        ("What the answers lie on", "landed", sections.landings),
        ("What a status is worth", "answers", sections.statuses),
        ("What a score is worth", "calibration", sections.calibrations),
    ):
        rows: sections.Rows = [
            ((name, label), summary[key])
            for name, answers in found.items()
            for label, summary in _models(answers).items()
            if summary.get(key)
        ]
        if rows:
            lines += report.section(heading, table("set | answer", rows))
    for name in BREAKDOWNS:
        lines += _metrics(f"By {name}", masks, METRICS, by=name)
    lines += _metrics("Boxes by hops", boxed, BOX_METRICS, by="hops")
    return "\n".join(lines) + "\n"


def _metrics(heading: str, found: Found, metrics: Sequence[str], *, by: str = "") -> list[str]:
    """A section of metrics with their intervals, the trivial answers below the checkpoints; `by`: of a breakdown, of
    the checkpoints only."""
    rows: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    protocol = ""
    for name, answers in found.items():
        models = _models(answers)
        protocol = answers[TRIVIAL]["protocol"]["name"]
        parts: sections.Rows
        if by:
            parts = report.broken_down(models, f"by_{by}")
        else:
            parts = [((label,), part) for label, part in (models | answers[TRIVIAL]["trivial"]).items()]
        rows += [((name, *labels), part) for labels, part in parts]
    if not rows:
        return []
    labels = f"set | {by} | answer" if by else "set | answer"
    return report.section(heading, sections.measured(labels, rows, metrics, protocol=protocol))


def _models(answers: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A set's checkpoints by label."""
    return {label: summary for label, summary in answers.items() if label != TRIVIAL}


def _of_boxes(answers: Mapping[str, dict[str, Any]]) -> bool:
    return bool(answers[TRIVIAL]["dataset"] == BOXES)


def _described(name: str, found: Found) -> tuple[tuple[str, ...], tuple[object, ...]]:
    """Label and cells of a set: where its sentences are from, and how many there are with one target."""
    summary = found[name][TRIVIAL]
    first = next(iter(summary["trivial"].values()), {"pictures": 0, "sentences": 0})
    return (name, report.title(summary)), (first["pictures"], first["sentences"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.evaluation.table",
        description="Measure checkpoints on many sets, in one table beside the trivial answers.",
    )
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="[LABEL=]CHECKPOINT",
        help="a .safetensors file or the name of a bundled model; none: trivial answers only",
    )
    parser.add_argument(
        "--sets", default="bundled", metavar="FILE", help="YAML file of the sets, or its name in config/eval"
    )
    parser.add_argument("--only", nargs="+", metavar="SET", help="of the file's sets, these")
    parser.add_argument(
        "--root",
        dest="roots",
        type=Path,
        action="append",
        required=True,
        metavar="DATA",
        help="holds the sets' folders; may be given several times, the first that has a folder counts",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets all that is written")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="own", help="whose thresholds, size and IoU (default: own)"
    )
    parser.add_argument("--no-reject", action="store_true", help="the presence head may empty no mask")
    parser.add_argument("--limit", type=positive, metavar="N", help="N pictures of each set: a quick look")
    parser.add_argument("--draws", type=positive, default=bootstrap.DRAWS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and --limit (default: 0)")
    parser.add_argument("--threads", type=positive, help="of the processor for torch (default: torch's choice)")
    parser.add_argument("--device", help="for example cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--precision", choices=get_args(Precision), help="default: fp32")
    return parser


def _candidates(texts: Sequence[str]) -> list[Candidate]:
    candidates = [Candidate.parse(text) for text in texts]
    labels = [candidate.label for candidate in candidates]
    for label in labels:
        if label == TRIVIAL or labels.count(label) > 1:
            raise ConfigError(f"{label!r} is taken: give the checkpoint another label, LABEL=CHECKPOINT")
    return candidates


def _load(args: argparse.Namespace) -> dict[str, Loaded]:
    sets = read_sets(args.sets)
    for name in args.only or ():
        if name not in sets:
            raise ConfigError(f"--only {name}: no such set; {args.sets} has {', '.join(sets)}")
    loaded = {}
    for name in args.only or sets:
        spec = sets[name]
        data = spec.load(args.roots, limit=args.limit, seed=args.seed)
        loaded[name] = Loaded(spec, spec.folder(args.roots), data, digest(data))
    return loaded


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; print the tables. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        candidates = _candidates(args.checkpoints)
        for candidate in candidates:
            Segmenter.check(candidate.path, device=args.device, precision=args.precision)
        sets = _load(args)
        found = run(
            candidates,
            sets,
            args.output,
            protocol=named(args.protocol, reject=not args.no_reject),
            **{name: getattr(args, name) for name in ("limit", "device", "precision", "draws", "seed")},
        )
        text = markdown(found, candidates)
        report.write_text(args.output / "table.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
        report.write_text(args.output / "table.md", text)
    except (RuntimeError, OSError, ValueError) as error:  # CheckpointError, DataError, ConfigError; a GPU's memory
        return refused("table", error)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
