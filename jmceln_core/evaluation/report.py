"""What an evaluation leaves behind: metrics.json, records.jsonl, and the same numbers as a Markdown table."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jmceln_core.evaluation import bootstrap
from jmceln_core.evaluation.metrics import Ratio, gres_metrics, referring_metrics
from jmceln_core.evaluation.protocol import Protocol
from jmceln_core.evaluation.run import Record, Report

# COCO's bounds on an object's area, in pixels of the picture's own size.
SMALL, MEDIUM = 32**2, 96**2

Rows = list[tuple[tuple[str, ...], dict[str, Any]]]  # of a table: a row's labels, and what `summarise` measured


def size_of(area: int) -> str:
    """COCO's small / medium / large for a mask's area in pixels."""
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


# Breakdowns of the main metrics: a heading, and the label of the row a record belongs to.
BREAKDOWNS: dict[str, Callable[[Record], str]] = {
    "kind": lambda record: record.kind,
    "size": lambda record: size_of(record.area),
}


def summarise(report: Report, *, draws: int = bootstrap.DRAWS, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """All numbers of a report as plain containers (metrics.json).

    Written sentences with one target make the main metrics. Sentences with several targets ("plural"), rule-made ones
    ("generated") and those that mean nothing ("absent") stand apart; GRES's metrics, over all the sentences, are given
    where there are absent ones. NaN ("nothing to say") becomes None.
    """

    def measured(records: Sequence[Record], metrics: Callable[[Sequence[Record]], dict[str, Ratio]]) -> dict[str, Any]:
        groups = np.array([record.picture for record in records], np.int64)
        found = bootstrap.intervals(metrics(records), groups, draws=draws, level=level, seed=seed)
        return {
            "sentences": len(records),
            "pictures": len(set(groups.tolist())),
            "metrics": {
                name: {key: None if math.isnan(x) else x for key, x in interval._asdict().items()}
                for name, interval in found.items()
            },
        }

    def described(records: Sequence[Record]) -> dict[str, Any]:
        parts = _parts(records)
        single = parts.pop("single", [])
        absent = parts.pop("absent", [])
        summary = measured(single, referring)
        for name, label in BREAKDOWNS.items():
            rows: dict[str, list[Record]] = defaultdict(list)
            for record in single:
                rows[label(record)].append(record)
            summary[f"by_{name}"] = {row: measured(rows[row], referring) for row in sorted(rows, key=_row_order)}
        summary |= {part: measured(of_part, referring) for part, of_part in parts.items()}
        if absent:
            summary["gres"] = {"absent": len(absent), **measured(records, gres)}
        return summary

    def referring(records: Sequence[Record]) -> dict[str, Ratio]:
        intersection, union = _counts(records)
        return referring_metrics(intersection, union, np.array([r.pointed for r in records], bool), report.protocol)

    def gres(records: Sequence[Record]) -> dict[str, Ratio]:
        has_target, rejected = (
            np.array(column, bool) for column in ([bool(r.targets) for r in records], [r.rejected for r in records])
        )
        return gres_metrics(*_counts(records), has_target, rejected, report.protocol)

    summary: dict[str, Any] = {
        "model": report.model,
        "protocol": dataclasses.asdict(report.protocol),
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

    `about` (checkpoint, dataset, split, limit, root) heads the json and the tables; `options` go to `summarise`, whose
    result, `about` included, is returned.
    """
    summary = about | summarise(report, **options)
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "metrics.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    _write(directory / "table.md", markdown(summary))
    if report.model is not None:
        _write(directory / "records.jsonl", "".join(_line(record, report.protocol) for record in report.records))
    return summary


def markdown(summary: dict[str, Any]) -> str:
    """The tables of a metrics.json: each cell `value [low, high]`, the protocol in the head of every table."""
    answers = ({summary["model"]: summary} if summary["model"] is not None else {}) | summary["trivial"]
    interval = summary["interval"]
    lines = [
        f"# {summary['model'] or 'Trivial answers'} on {_title(summary)}",
        "",
        f"Brackets: {interval['level']:.0%} bootstrap interval by picture ({interval['draws']:,} draws). "
        "Masks are compared at the picture's own size.",
    ]

    def section(heading: str, labels: str, rows: Rows, metrics: Sequence[str] = ()) -> None:
        lines.extend(["", f"## {heading}", "", *_table(labels, rows, metrics, summary["protocol"]["name"])])

    section("Written sentences with one target", "answer", [((name,), found) for name, found in answers.items()])
    rows: Rows
    for name in BREAKDOWNS:
        labels = dict.fromkeys(label for found in answers.values() for label in found[f"by_{name}"])
        if len(labels) > 1:
            rows = [
                ((label, answer), found[f"by_{name}"][label])
                for label in labels
                for answer, found in answers.items()
                if label in found[f"by_{name}"]
            ]
            section(f"By {name}", f"{name} | answer", rows, ("mIoU", "oIoU", "Pr@0.5", "pointing"))
    for part, heading in (("plural", "Sentences with several targets"), ("generated", "Rule-made sentences")):
        rows = [((answer,), found[part]) for answer, found in answers.items() if part in found]
        if rows:
            section(heading, "answer", rows)
    if gres := summary.get("gres"):
        heading = f"All sentences, {gres['absent']} of them without a target (GRES)"
        section(heading, "answer", [((summary["model"],), gres)])
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
                    *(label.replace("|", "\\|") or "(none)" for label in row_labels),
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


def _parts(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by what their sentence is: single, plural, absent, or generated (by a rule)."""
    parts: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if not record.targets:
            parts["absent"].append(record)
        elif record.origin != "written":
            parts["generated"].append(record)
        else:
            parts["single" if len(record.targets) == 1 else "plural"].append(record)
    return dict(parts)


def _row_order(label: str) -> tuple[int, str]:
    """Sizes from small to large, other labels by name."""
    sizes = ("small", "medium", "large")
    return (sizes.index(label) if label in sizes else len(sizes), label)


def _counts(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """I and U of the records, each (N,) int64."""
    return (
        np.array([record.intersection for record in records], np.int64),
        np.array([record.union for record in records], np.int64),
    )


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


def _line(record: Record, protocol: Protocol) -> str:
    iou = float(protocol.iou(np.array([record.intersection]), np.array([record.union]))[0])
    return json.dumps(dataclasses.asdict(record) | {"iou": iou}, ensure_ascii=False) + "\n"


def _title(summary: dict[str, Any]) -> str:
    """The data in words: the folder's name, the split, the layout it was read as, and a warning of a quick look."""
    title = f"{Path(summary['root']).resolve().name}, split {summary['split']} (dataset {summary['dataset']})"
    return title if summary["limit"] is None else f"{title}, {summary['limit']} pictures at most"


def _cell(interval: dict[str, float | None] | None) -> str:
    if interval is None or interval["value"] is None:
        return "–"
    if interval["low"] is None:
        return f"{interval['value']:.3f}"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _write(path: Path, text: str) -> None:
    """Whole or not at all: an interrupted run leaves the old file."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
