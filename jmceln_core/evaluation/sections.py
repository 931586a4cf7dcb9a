"""Markdown tables of what `report.summarise` measured: for one data set (table.md) and for many (`evaluation.table`).

Each takes the heads of the label columns (`"set | answer"`) and rows: a row's labels, and its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jmceln_core import markdown
from jmceln_core.evaluation.landing import LANDINGS

GRES = ("gIoU", "cIoU", "Pr@0.7", "Pr@0.8", "Pr@0.9", "N_acc", "T_acc", "N_acc@95")

Rows = Sequence[tuple[tuple[str, ...], dict[str, Any]]]


def measured(labels: str, rows: Rows, metrics: Sequence[str] = (), *, protocol: str) -> list[str]:
    """Metrics with their intervals; no `metrics` means all there are. `protocol` is named in the head."""
    metrics = metrics or list(dict.fromkeys(name for _, row in rows for name in row["metrics"]))
    return table(
        f"{labels} (`{protocol}`)",
        ("sentences", "pictures", *metrics),
        (
            (row_labels, (row["sentences"], row["pictures"], *(cell(row["metrics"].get(name)) for name in metrics)))
            for row_labels, row in rows
        ),
    )


def rejections(labels: str, rows: Rows) -> list[str]:
    """What GRES counts, and how far the sentences that mean nothing lie from the others; rows of the GRES part."""
    metrics = [name for name in GRES if any(name in row["metrics"] for _, row in rows)]
    return table(
        labels,
        ("sentences without a target", *metrics, "threshold", "of"),
        (
            (
                row_labels,
                (
                    row["absent"],
                    *(cell(row["metrics"].get(name)) for name in metrics),
                    number(row["threshold"]),
                    row["threshold_of"],
                ),
            )
            for row_labels, row in rows
        ),
    )


def landings(labels: str, rows: Rows) -> list[str]:
    """How often the answers lie on what; rows are `landed` counts. What never happened has no column."""
    shown = [name for name in LANDINGS if any(row.get(name) for _, row in rows)]
    found = []
    for row_labels, row in rows:
        total = sum(row.values())
        found.append((row_labels, (total, *(f"{row.get(n, 0)} ({row.get(n, 0) / total:.1%})" for n in shown))))
    return table(labels, ("answers", *shown), found)


def statuses(labels: str, rows: Rows) -> list[str]:
    """How often each status was given, and the share of these answers that are right; rows are `answers`."""
    return table(
        f"{labels} | status",
        ("answers", "share right"),
        (
            ((*row_labels, status), (part["count"], cell(part["right"])))
            for row_labels, row in rows
            for status, part in row.items()
        ),
    )


def calibrations(labels: str, rows: Rows) -> list[str]:
    """Share of right answers (mean score, count) in each bin of the score, and the expected calibration error."""
    bins = [f"{part['from']:.1f}-{part['to']:.1f}" for part in rows[0][1]["bins"]] if rows else []
    return table(
        labels,
        ("answers", "ECE", *bins),
        (
            (
                row_labels,
                (
                    row["answers"],
                    number(row["error"]),
                    *(
                        f"{part['right']:.2f} ({part['score']:.2f}, {part['count']})" if part["count"] else "–"
                        for part in row["bins"]
                    ),
                ),
            )
            for row_labels, row in rows
        ),
    )


def table(labels: str, heads: Sequence[str], rows: Iterable[tuple[Sequence[str], Sequence[object]]]) -> list[str]:
    """The lines of a table: label columns, whose heads are one string with bars, then numbers."""
    left = labels.split(" | ")
    cells = ((*map(named, row_labels), *numbers) for row_labels, numbers in rows)
    return markdown.table((*left, *heads), cells, align="l" * len(left) + "r" * len(heads))


def named(label: str) -> str:
    """A label as a cell."""
    return label or "(none)"


def number(value: float | None) -> str:
    """Three decimals; a dash for nothing."""
    return "–" if value is None else f"{value:.3f}"


def cell(interval: dict[str, float | None] | None) -> str:
    """`value [low, high]`."""
    if interval is None or interval["value"] is None:
        return "–"
    if interval["low"] is None:
        return number(interval["value"])
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
