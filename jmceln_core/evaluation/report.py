"""What an evaluation leaves behind: metrics.json, records.jsonl, and the same numbers as a Markdown table.

Which records are measured together, and by what, is decided here alone: `parts` and `measure`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jmceln_core.data.grounding import DataError
from jmceln_core.evaluation import bootstrap
from jmceln_core.evaluation.metrics import Ratio, gres_metrics, mean_iou, referring_metrics
from jmceln_core.evaluation.protocol import Protocol
from jmceln_core.evaluation.run import Record, Report

# COCO's bounds on an object's area, in pixels of the picture's own size.
SMALL, MEDIUM = 32**2, 96**2

# Words of a sentence: the longest one of each row. Earlier papers choose their rows for each data set; these serve all.
LENGTHS = {2: "1-2 words", 3: "3 words", 5: "4-5 words", 7: "6-7 words", 10: "8-10 words"}
LONGER = "11 words or more"

Rows = list[tuple[tuple[str, ...], dict[str, Any]]]  # of a table: a row's labels, and what `summarise` measured


def size_of(area: int) -> str:
    """COCO's small / medium / large for a mask's area in pixels."""
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def length_of(text: str) -> str:
    """The row of a sentence by the number of its words, as white space divides them."""
    words = len(text.split())
    return next((label for longest, label in LENGTHS.items() if words <= longest), LONGER)


# Breakdowns of the main metrics: a heading, and the label of the row a record belongs to.
BREAKDOWNS: dict[str, Callable[[Record], str]] = {
    "kind": lambda record: record.kind,
    "size": lambda record: size_of(record.area),
    "length": lambda record: length_of(record.text),
}
_ORDER = ("small", "medium", "large", *LENGTHS.values(), LONGER)  # of rows; other labels follow by name

GRES = ("gres",)
MAIN = "Written sentences with one target"
APART = {"plural": "Sentences with several targets", "generated": "Rule-made sentences"}
BRIEF = ("mIoU", "oIoU", "Pr@0.5", "pointing", "boundary IoU")  # what tables have room for


class Part(NamedTuple):
    """Sentences that are measured together."""

    where: tuple[str, ...]  # the keys that lead to their numbers in metrics.json; () is the main part
    rows: list[int]  # their places among the records


def parts(records: Sequence[Record]) -> list[Part]:
    """The main part, which is always there, then its breakdowns, then what stands apart and is there.

    The main part has the written sentences with one target. Sentences with several targets ("plural") and rule-made
    ones ("generated") stand apart. Where some mean nothing, all sentences together make the GRES part.
    """
    sorts: dict[str, list[int]] = {"single": []}
    for row, record in enumerate(records):
        sorts.setdefault(_sort(record), []).append(row)
    single, absent = sorts.pop("single"), sorts.pop("absent", [])
    found = [Part((), single)]
    for name, label in BREAKDOWNS.items():
        labelled: dict[str, list[int]] = defaultdict(list)
        for row in single:
            labelled[label(records[row])].append(row)
        found += [Part((f"by_{name}", row), labelled[row]) for row in sorted(labelled, key=_row_order)]
    found += [Part((sort,), rows) for sort, rows in sorts.items()]
    if absent:
        found.append(Part(GRES, list(range(len(records)))))
    return found


def measure(part: Part, records: Sequence[Record], protocol: Protocol) -> dict[str, Ratio]:
    """The metrics of the part of these records: GRES's for the GRES part, else the referring ones."""
    chosen = [records[row] for row in part.rows]

    def column(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(record, name) for record in chosen], kind)

    intersection, union = column("intersection", np.int64), column("union", np.int64)
    if part.where == GRES:
        has_target = np.array([bool(record.targets) for record in chosen], bool)
        return gres_metrics(intersection, union, has_target, column("rejected", bool), protocol)
    boundary = mean_iou(column("boundary_intersection", np.int64), column("boundary_union", np.int64), protocol)
    return referring_metrics(intersection, union, column("pointed", bool), protocol) | {"boundary IoU": boundary}


def pictures_of(part: Part, records: Sequence[Record]) -> np.ndarray:
    """(N,) int64: the picture of each of the part's sentences, by which the bootstrap draws."""
    return np.array([records[row].picture for row in part.rows], np.int64)


def nested(found: Iterable[tuple[Part, dict[str, Any]]]) -> dict[str, Any]:
    """What was found for each part, where `Part.where` says."""
    summary: dict[str, Any] = {}
    for part, values in found:
        node = summary
        for key in part.where:
            node = node.setdefault(key, {})
        node |= values
    return summary


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN ("nothing to say") becomes None: json has no other word for it."""
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def summarise(report: Report, *, draws: int = bootstrap.DRAWS, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """All numbers of a report as plain containers (metrics.json): those of each part, where `Part.where` says."""

    def measured(part: Part, records: Sequence[Record]) -> dict[str, Any]:
        groups = pictures_of(part, records)
        ratios = measure(part, records, report.protocol)
        intervals = bootstrap.intervals(ratios, groups, draws=draws, level=level, seed=seed)
        return {
            **({"absent": sum(not record.targets for record in records)} if part.where == GRES else {}),
            "sentences": len(groups),
            "pictures": len(set(groups.tolist())),
            "metrics": {name: without_nan(interval._asdict()) for name, interval in intervals.items()},
        }

    def described(records: Sequence[Record]) -> dict[str, Any]:
        return nested((part, measured(part, records)) for part in parts(records))

    summary: dict[str, Any] = {
        "model": report.model,
        "protocol": dataclasses.asdict(report.protocol),
        "size": "original" if report.side is None else "input",
        "side": report.side,
        "interval": {"level": level, "draws": draws, "seed": seed, "method": "percentile bootstrap by picture"},
    }
    if report.model is not None:
        summary |= described(report.records)
        summary["status"] = _status_counts(report.records)
        summary["seconds"] = _seconds(report.records)
        summary["machine"] = report.machine
    summary["trivial"] = {name: described(records) for name, records in report.trivial.items() if records}
    return summary


def write(report: Report, directory: Path, *, about: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Write metrics.json, records.jsonl (with a model) and table.md into `directory`, made where it is missing.

    `about` (checkpoint, dataset, split, split_by, subset, limit, root) heads the json and the tables; `options` go to
    `summarise`, whose result, `about` included, is returned.
    """
    summary = about | summarise(report, **options)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "metrics.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_text(directory / "table.md", markdown(summary))
    if report.model is not None:
        write_text(directory / "records.jsonl", "".join(_line(record, report.protocol) for record in report.records))
    return summary


def read_records(path: Path) -> list[Record]:
    """The records of a records.jsonl. Raises DataError naming the file and the line that is none."""
    fields = {field.name for field in dataclasses.fields(Record)}
    records = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    values = json.loads(line)
                    values = {name: values[name] for name in fields}
                    records.append(Record(**values | {"targets": tuple(values["targets"])}))
                except (ValueError, TypeError, KeyError) as error:
                    raise DataError(
                        f"{path}:{number}: not a record of this version ({error!r}): evaluate the checkpoint again"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it is written by python -m jmceln_core.evaluate") from None
    return records


def markdown(summary: dict[str, Any]) -> str:
    """The tables of a metrics.json: each cell `value [low, high]`, the protocol in the head of every table."""
    answers = ({summary["model"]: summary} if summary["model"] is not None else {}) | summary["trivial"]
    interval = summary["interval"]
    lines = [
        f"# {summary['model'] or 'Trivial answers'} on {title(summary)}",
        "",
        f"Brackets: {interval['level']:.0%} bootstrap interval by picture ({interval['draws']:,} draws). "
        f"Masks are compared {compared_at(summary)}.",
    ]

    def section(heading: str, labels: str, rows: Rows, metrics: Sequence[str] = ()) -> None:
        lines.extend(["", f"## {heading}", "", *_table(labels, rows, metrics, summary["protocol"]["name"])])

    section(MAIN, "answer", [((name,), found) for name, found in answers.items()])
    rows: Rows
    for name in BREAKDOWNS:
        labels = dict.fromkeys(label for found in answers.values() for label in found.get(f"by_{name}", ()))
        if len(labels) > 1:
            rows = [
                ((label, answer), found[f"by_{name}"][label])
                for label in labels
                for answer, found in answers.items()
                if label in found.get(f"by_{name}", ())
            ]
            section(f"By {name}", f"{name} | answer", rows, BRIEF)
    for part, heading in APART.items():
        rows = [((answer,), found[part]) for answer, found in answers.items() if part in found]
        if rows:
            section(heading, "answer", rows)
    if gres := summary.get("gres"):
        section(gres_heading(gres["absent"]), "answer", [((summary["model"],), gres)])
    if summary.get("seconds"):
        lines.extend(["", "## Speed", "", *_speed(summary["seconds"], summary["machine"])])
    return "\n".join(lines) + "\n"


def _table(labels: str, rows: Rows, metrics: Sequence[str], protocol: str) -> list[str]:
    """Markdown lines; `labels` heads the label columns, no `metrics` means all there are."""
    metrics = metrics or list(dict.fromkeys(name for _, row in rows for name in row["metrics"]))
    return [
        f"| {labels} (`{protocol}`) | sentences | pictures | {' | '.join(metrics)} |",
        "|" + "---|" * (labels.count("|") + 1) + "---:|" * (len(metrics) + 2),
        *(
            "| "
            + " | ".join(
                (
                    *(cell_text(label) for label in row_labels),
                    str(row["sentences"]),
                    str(row["pictures"]),
                    *(_cell(row["metrics"].get(name)) for name in metrics),
                )
            )
            + " |"
            for row_labels, row in rows
        ),
    ]


def _speed(seconds: dict[str, dict[str, float]], machine: dict[str, str | int]) -> list[str]:
    lines = [
        f"{machine.get('gpu') or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"torch {machine['torch']}",
        "",
        "| seconds for | count | median | mean | 95th percentile |",
        "|---|---:|---:|---:|---:|",
    ]
    for key, label in (("frame", "a frame: image half and first sentence"), ("sentence", "a further sentence")):
        if found := seconds.get(key):
            numbers = " | ".join(f"{found[name]:.4f}" for name in ("median", "mean", "p95"))
            lines.append(f"| {label} | {found['count']} | {numbers} |")
    return lines


def _sort(record: Record) -> str:
    """What a sentence is: single, plural, absent, or generated (by a rule)."""
    if not record.targets:
        return "absent"
    if record.origin != "written":
        return "generated"
    return "single" if len(record.targets) == 1 else "plural"


def _row_order(label: str) -> tuple[int, str]:
    return (_ORDER.index(label) if label in _ORDER else len(_ORDER), label)


def _status_counts(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """How often each status was answered to sentences with and without a target."""
    counts: dict[str, dict[str, int]] = {"target": {}, "absent": {}}
    for record in records:
        of = counts["target" if record.targets else "absent"]
        of[str(record.status)] = of.get(str(record.status), 0) + 1
    return counts


def _seconds(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Times of a frame (image half and first sentence) and of a further sentence about the same picture."""
    summary = {}
    for key, first in (("frame", True), ("sentence", False)):
        times = [r.seconds for r in records if r.first == first and r.seconds is not None]
        if times:
            summary[key] = {
                "count": len(times),
                "median": float(np.median(times)),
                "mean": float(np.mean(times)),
                "p95": float(np.quantile(times, 0.95)),
            }
    return summary


def iou_of(record: Record, protocol: Protocol) -> float:
    """The IoU of one record."""
    return float(protocol.iou(np.array([record.intersection]), np.array([record.union]))[0])


def _line(record: Record, protocol: Protocol) -> str:
    return json.dumps(dataclasses.asdict(record) | {"iou": iou_of(record, protocol)}, ensure_ascii=False) + "\n"


def title(summary: Mapping[str, Any]) -> str:
    """The data in words: the folder's name, the split, the layout it was read as, and a warning of a part of it."""
    dataset = " ".join(word for word in (summary["dataset"], summary["split_by"]) if word)
    words = [f"{Path(summary['root']).resolve().name}, split {summary['split']} (dataset {dataset})"]
    if summary["subset"]:
        words.append("a subset")
    if summary["limit"] is not None:
        words.append(f"{summary['limit']} pictures at most")
    return ", ".join(words)


def compared_at(summary: Mapping[str, Any]) -> str:
    """The size of the comparison in words."""
    if summary["side"] is None:
        return "at the picture's own size"
    return f"in the network's letterboxed square, {summary['side']} x {summary['side']} pixels"


def gres_heading(absent: int) -> str:
    """Heads the GRES part, with its count of sentences without a target."""
    return f"All sentences, {absent} of them without a target (GRES)"


def cell_text(label: str) -> str:
    """A label as a cell of a Markdown table."""
    return label.replace("|", "\\|") or "(none)"


def _cell(interval: dict[str, float | None] | None) -> str:
    if interval is None or interval["value"] is None:
        return "–"
    if interval["low"] is None:
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: an interrupted run leaves the old file."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
