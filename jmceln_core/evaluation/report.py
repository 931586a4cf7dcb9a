"""What an evaluation leaves behind: metrics.json, records.jsonl, and the same numbers as a Markdown table.

Which records are measured together, and by what, is decided here alone: `parts` and `measure`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jmceln_core.data.grounding import DataError
from jmceln_core.evaluation import bootstrap, calibration, phrases, sections
from jmceln_core.evaluation.metrics import (
    Ratio,
    acceptance_threshold,
    gres_metrics,
    mean_iou,
    referring_metrics,
    rejection_metrics,
)
from jmceln_core.evaluation.protocol import Protocol
from jmceln_core.evaluation.run import Record, Report, Response

# COCO's bounds on an object's area, in pixels of the picture's own size.
SMALL, MEDIUM = 32**2, 96**2

# Words of a sentence: the longest one of each row. Earlier papers choose their rows for each data set; these serve all.
LENGTHS = {2: "1-2 words", 3: "3 words", 5: "4-5 words", 7: "6-7 words", 10: "8-10 words"}
LONGER = "11 words or more"


def size_of(area: int) -> str:
    """COCO's small / medium / large for a mask's area in pixels."""
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def length_of(text: str) -> str:
    """The row of a sentence by the number of its words, as white space divides them."""
    words = len(text.split())
    return next((label for longest, label in LENGTHS.items() if words <= longest), LONGER)


# Breakdowns of the main metrics: a heading, and the labels of the rows a record belongs to.
BREAKDOWNS: dict[str, Callable[[Record], Sequence[str]]] = {
    "kind": lambda record: (record.kind,),
    "phrase": lambda record: phrases.kinds(record.text),
    "size": lambda record: (size_of(record.area),),
    "length": lambda record: (length_of(record.text),),
}
# Of rows; other labels follow by name.
_ORDER = ("small", "medium", "large", *LENGTHS.values(), LONGER, *phrases.KINDS, phrases.OTHER)

GRES = ("gres",)
MAIN = {"written": "Written sentences with one target", "generated": "Rule-made sentences with one target"}
APART = {"plural": "Sentences with several targets", "generated": "Rule-made sentences"}
ACCEPTED = 0.95  # of the sentences with a target, at the threshold of N_acc@95
_SHOWN = 3  # pictures that cannot be read, of those named in a table
HIT = 0.5  # the IoU of a right answer, for calibration and statuses
BRIEF = ("mIoU", "oIoU", "Pr@0.5", "pointing", "boundary IoU")  # what tables have room for


class Part(NamedTuple):
    """Sentences that are measured together."""

    where: tuple[str, ...]  # the keys that lead to their numbers in metrics.json; () is the main part
    rows: list[int]  # their places among the records


def parts(records: Sequence[Record]) -> list[Part]:
    """The main part, which is always there, then its breakdowns, then what stands apart and is there.

    The main part has the sentences with one target of the `main_origin`, written ones where there are any. Sentences
    with several targets ("plural") and rule-made ones beside written ones ("generated") stand apart. Where some mean
    nothing, all sentences together make the GRES part.
    """
    sorts: dict[str, list[int]] = {"single": []}
    main = main_origin(records)
    for row, record in enumerate(records):
        sorts.setdefault(_sort(record, main), []).append(row)
    single, absent = sorts.pop("single"), sorts.pop("absent", [])
    found = [Part((), single)]
    for name, label in BREAKDOWNS.items():
        labelled: dict[str, list[int]] = defaultdict(list)
        for row in single:
            for name_of_row in label(records[row]):
                labelled[name_of_row].append(row)
        found += [Part((f"by_{name}", row), labelled[row]) for row in sorted(labelled, key=_row_order)]
    found += [Part((sort,), rows) for sort, rows in sorts.items()]
    if absent:
        found.append(Part(GRES, list(range(len(records)))))
    return found


def main_origin(records: Iterable[Record]) -> str:
    """The origin of the main part's sentences: rule-made ones ("generated") where none with a target is written."""
    origins = {record.origin for record in records if record.targets}
    return "written" if "written" in origins or not origins else "generated"


def measure(part: Part, records: Sequence[Record], protocol: Protocol) -> dict[str, Ratio]:
    """The metrics of the part of these records: GRES's for the GRES part, else the referring ones."""
    chosen = [records[row] for row in part.rows]

    def column(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(record, name) for record in chosen], kind)

    intersection, union = column("intersection", np.int64), column("union", np.int64)
    if part.where == GRES:
        has_target = _has_target(chosen)
        raw_union = [r.union if r.raw_union is None else r.raw_union for r in chosen]
        no_target = [r.rejected if r.no_target is None else r.no_target for r in chosen]
        found = gres_metrics(intersection, np.array(raw_union, np.int64), has_target, no_target, protocol)
        return found | strict_rejection(chosen, has_target)[1]
    boundary = mean_iou(column("boundary_intersection", np.int64), column("boundary_union", np.int64), protocol)
    return referring_metrics(intersection, union, column("pointed", bool), protocol) | {"boundary IoU": boundary}


def strict_rejection(records: Sequence[Response], has_target: np.ndarray) -> tuple[dict[str, Any], dict[str, Ratio]]:
    """How far N sentences that mean nothing lie from the others, `has_target` (N,) bool, by the `confidence`.

    N_acc@95 is the share of the former that lies below the highest threshold that keeps ACCEPTED of the latter. The
    threshold comes from the same sentences: this measures how well the two can be told apart, no shipped decision.
    Beside it: how many mean nothing, the threshold and what it is on.
    """
    confidence = np.array([record.confidence for record in records], np.float64)
    unread = np.array([record.unread for record in records], bool)
    confidence[unread & ~has_target] = np.inf  # nothing was said: not rightly either
    threshold = acceptance_threshold(confidence, has_target, ACCEPTED)
    about = {
        "absent": int(np.count_nonzero(~has_target)),
        "threshold": None if math.isnan(threshold) else threshold,
        "threshold_of": "score" if all(record.presence is None for record in records) else "presence",
    }
    return about, {"N_acc@95": rejection_metrics(has_target, confidence < threshold)["N_acc"]}


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
    options: dict[str, Any] = {"draws": draws, "level": level, "seed": seed}

    def measured(part: Part, records: Sequence[Record]) -> dict[str, Any]:
        found = bootstrapped(measure(part, records, report.protocol), pictures_of(part, records), **options)
        return (strict_rejection(records, _has_target(records))[0] if part.where == GRES else {}) | found

    def described(records: Sequence[Record]) -> dict[str, Any]:
        return nested((part, measured(part, records)) for part in parts(records))

    trivial = {name: records for name, records in report.trivial.items() if records}
    summary: dict[str, Any] = {
        "model": report.model,
        "protocol": dataclasses.asdict(report.protocol),
        "size": report.size,
        "side": report.side,
        "resize": report.resize,
        "interval": interval_about(**options),
        "main": main_origin(report.records or [record for records in trivial.values() for record in records]),
    }
    if report.model is not None:
        records = report.records
        summary |= of_unread(report.unread, records)
        iou = np.array([iou_of(record, report.protocol) for record in records], np.float64)
        hit = report.protocol.reaches(iou, HIT)
        pictures = np.array([record.picture for record in records], np.int64)
        summary |= described(records)
        summary["landed"] = dict(Counter(records[row].landed for row in parts(records)[0].rows if records[row].landed))
        summary["status"] = _status_counts(records)
        summary |= of_responses(records, _has_target(records), hit, pictures, **options)
        summary["machine"] = report.machine
    summary["trivial"] = {name: described(records) for name, records in trivial.items()}
    return summary


def of_unread(unread: Sequence[str], records: Sequence[Response]) -> dict[str, Any]:
    """What a metrics.json says of pictures that cannot be read: nothing if all can."""
    if not unread:
        return {}
    count = sum(record.unread for record in records)
    return {"unread": {"pictures": len(unread), "sentences": count, "why": list(unread)}}


def interval_about(*, draws: int, level: float, seed: int) -> dict[str, Any]:
    """What the brackets are, for a metrics.json."""
    return {"level": level, "draws": draws, "seed": seed, "method": "percentile bootstrap by picture"}


def bootstrapped(ratios: Mapping[str, Ratio], pictures: np.ndarray, **options: Any) -> dict[str, Any]:
    """Metrics of N sentences with their intervals, as plain containers; `pictures` (N,) has each one's picture."""
    intervals = bootstrap.intervals(ratios, pictures, **options)
    return {
        "sentences": len(pictures),
        "pictures": len(set(pictures.tolist())),
        "metrics": {name: without_nan(interval._asdict()) for name, interval in intervals.items()},
    }


def of_responses(
    records: Sequence[Response], has_target: np.ndarray, hit: np.ndarray, pictures: np.ndarray, **options: Any
) -> dict[str, Any]:
    """What is reported of N answers however their truth is known; `has_target`, `hit` (N,) bool, `pictures` (N,).

    Right is a NOT_PRESENT where nothing is meant, and another answer where it is a `hit` (and something is meant).
    `answers`: how often each status was given, and the share of these that are right. `calibration`: of the score of
    all answers but NOT_PRESENT. `seconds`: their times.
    """
    rejected = np.array([record.rejected for record in records], bool)
    scored = ~rejected & np.array([not record.unread for record in records], bool)
    right = np.where(rejected, ~has_target, hit & has_target)
    status = np.array([record.status for record in records], str)
    score = np.array([record.score for record in records], np.float64)
    shares = calibration.by_status(status, right)
    intervals = bootstrapped(shares, pictures, **options)["metrics"]
    return {
        "answers": {name: {"count": int(np.sum(status == name)), "right": intervals[name]} for name in shares},
        "calibration": calibration.reliability(score[scored], right[scored]),
        "seconds": _seconds(records),
    }


def write(report: Report, directory: Path, *, about: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Write metrics.json and table.md, and with a model records.jsonl and reliability.svg, into `directory`.

    `about` (checkpoint, dataset, split, split_by, subset, limit, root) heads the json and the tables; `options` go to
    `summarise`, whose result, `about` included, is returned.
    """
    summary = about | summarise(report, **options)
    lines = (dataclasses.asdict(r) | {"iou": iou_of(r, report.protocol)} for r in report.records)
    write_files(directory, summary, markdown(summary), lines)
    return summary


def write_files(directory: Path, summary: dict[str, Any], table: str, records: Iterable[dict[str, Any]]) -> None:
    """The files of `write`; metrics.json last, so that where it is, all of them are. Makes the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "table.md", table)
    if summary["model"] is not None:
        write_text(directory / "records.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
        heading = f"{summary['model']} on {Path(summary['root']).resolve().name}, {summary['split']}"
        plot = calibration.svg(summary["calibration"], heading)
        write_text(directory / "reliability.svg", plot)
    write_text(directory / "metrics.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")


def read_records(path: Path) -> list[Record]:
    """The records of a records.jsonl; an older one may lack fields that have defaults.

    Raises DataError naming the file and the line that is no record.
    """
    fields = {field.name for field in dataclasses.fields(Record)}
    records = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    values = json.loads(line)
                    values = {name: value for name, value in values.items() if name in fields}
                    records.append(Record(**values | {"targets": tuple(values["targets"])}))
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise DataError(
                        f"{path}:{number}: not a record of this version ({error!r}): evaluate the checkpoint again"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it is written by python -m jmceln_core.evaluate") from None
    return records


def markdown(summary: dict[str, Any]) -> str:
    """The tables of a metrics.json: each cell `value [low, high]`, the protocol in the head of every table."""
    named = answers_of(summary)
    protocol = summary["protocol"]["name"]
    lines = head(summary, f"Masks are compared {compared_at(summary)}{unrejected(summary)}.")
    main: sections.Rows = [((name,), found) for name, found in named.items()]
    lines += section(MAIN[summary["main"]], sections.measured("answer", main, protocol=protocol))
    for name in BREAKDOWNS:
        rows = broken_down(named, f"by_{name}")
        if len({labels[0] for labels, _ in rows}) > 1:
            lines += section(f"By {name}", sections.measured(f"{name} | answer", rows, BRIEF, protocol=protocol))
    for part, heading in APART.items():
        if apart := [((name,), found[part]) for name, found in named.items() if part in found]:
            lines += section(heading, sections.measured("answer", apart, protocol=protocol))
    return "\n".join(lines + of_model(summary)) + "\n"


def answers_of(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of the model, if there is one, and of the trivial answers, by name."""
    return ({summary["model"]: summary} if summary["model"] is not None else {}) | summary["trivial"]


def broken_down(named: Mapping[str, dict[str, Any]], by: str) -> sections.Rows:
    """Rows (label, answer) of a breakdown of several answers' numbers; a label's answers stand together."""
    labels = dict.fromkeys(label for found in named.values() for label in found.get(by, ()))
    return [
        ((label, name), found[by][label])
        for label in labels
        for name, found in named.items()
        if label in found.get(by, ())
    ]


def head(summary: Mapping[str, Any], compared: str) -> list[str]:
    """The first lines of a table.md; `compared` says in a sentence how."""
    interval = summary["interval"]
    lines = [
        f"# {summary['model'] or 'Trivial answers'} on {title(summary)}",
        "",
        f"Brackets: {interval['level']:.0%} bootstrap interval by picture ({interval['draws']:,} draws). {compared}",
    ]
    return lines + (["", unread_about(summary["unread"])] if "unread" in summary else [])


def unread_about(unread: Mapping[str, Any]) -> str:
    """Pictures that cannot be read, in words."""
    some = "; ".join(unread["why"][:_SHOWN]) + ("; ..." if len(unread["why"]) > _SHOWN else "")
    return f"**{unread['pictures']} pictures cannot be read: their {unread['sentences']} sentences count 0** ({some})."


def section(heading: str, table: Sequence[str]) -> list[str]:
    """A table under its heading."""
    return ["", f"## {heading}", "", *table]


def of_model(summary: dict[str, Any]) -> list[str]:
    """What trivial answers have no part in: sentences that mean nothing, failures, calibration, times."""
    if summary["model"] is None:
        return []
    model, lines = (summary["model"],), []
    if gres := summary.get("gres"):
        table = sections.measured("answer", [(model, gres)], protocol=summary["protocol"]["name"])
        lines += section(gres_heading(gres["absent"]), [*table, "", threshold_about(gres)])
    if landed := summary.get("landed"):
        lines += section("What the answers lie on", sections.landings("answer", [(model, landed)]))
    if summary["answers"]:
        lines += section("What a status is worth", sections.statuses("answer", [(model, summary["answers"])]))
        lines += section("What a score is worth", sections.calibrations("answer", [(model, summary["calibration"])]))
    if summary["seconds"]:
        lines += section("Speed", _speed(summary["seconds"], summary["machine"]))
    return lines


def threshold_about(part: Mapping[str, Any]) -> str:
    """What the threshold of N_acc@95 is."""
    if part["threshold"] is None:
        return "No sentence has a target: there is no N_acc@95."
    return (
        f"N_acc@95: answers are rejected by {part['threshold_of']} below {part['threshold']:.4f}, the highest "
        f"threshold that keeps {ACCEPTED:.0%} of these sentences with a target."
    )


def _speed(seconds: dict[str, dict[str, float]], machine: dict[str, str | int]) -> list[str]:
    about = (
        f"{machine.get('gpu') or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"torch {machine['torch']}"
    )
    rows = (
        ((label,), (found["count"], *(f"{found[name]:.4f}" for name in ("median", "mean", "p95"))))
        for key, label in (("frame", "a frame: image half and first sentence"), ("sentence", "a further sentence"))
        if (found := seconds.get(key))
    )
    return [about, "", *sections.table("seconds for", ("count", "median", "mean", "95th percentile"), rows)]


def _has_target(records: Sequence[Record]) -> np.ndarray:
    return np.array([bool(record.targets) for record in records], bool)


def _sort(record: Record, main: str) -> str:
    """What a sentence is where those of origin `main` are: single, plural, absent, or generated (by a rule)."""
    if not record.targets:
        return "absent"
    if main == "written" and record.origin != "written":
        return "generated"
    return "single" if len(record.targets) == 1 else "plural"


def _row_order(label: str) -> tuple[int, str]:
    return (_ORDER.index(label) if label in _ORDER else len(_ORDER), label)


def _status_counts(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """How often each status was answered to sentences with and without a target."""
    counts: dict[str, dict[str, int]] = {"target": {}, "absent": {}}
    for record in records:
        of = counts["target" if record.targets else "absent"]
        status = record.status or "unread"
        of[status] = of.get(status, 0) + 1
    return counts


def _seconds(records: Sequence[Response]) -> dict[str, dict[str, float]]:
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


def title(summary: Mapping[str, Any]) -> str:
    """The data in words: the folder's name, the split, the layout it was read as, and a warning of a part of it."""
    dataset = " ".join(word for word in (summary["dataset"], summary["split_by"]) if word)
    words = [f"{Path(summary['root']).resolve().name}, split {summary['split']} (dataset {dataset})"]
    if drawn := summary.get("drawn"):
        words.append("rule-made sentences: " + ", ".join(f"{count} {name}" for name, count in drawn.items()))
    if summary["subset"]:
        words.append("a subset")
    if summary["limit"] is not None:
        words.append(f"{summary['limit']} pictures at most")
    return ", ".join(words)


def compared_at(summary: Mapping[str, Any]) -> str:
    """The size of the comparison in words."""
    if summary["side"] is None:
        return "at the picture's own size"
    fills = {"letterbox": "letterboxed", "squash": "squashed"}[summary.get("resize", "letterbox")]
    how = "squashed to" if summary["size"] == "squashed" else f"in the network's {fills} square,"
    return f"{how} {summary['side']} x {summary['side']} pixels"


def unrejected(summary: Mapping[str, Any]) -> str:
    """Whether the protocol lets the presence head reject, in words that follow others."""
    return "" if summary["protocol"].get("reject", True) else ", none is rejected"


def gres_heading(absent: int) -> str:
    """Heads the GRES part, with its count of sentences without a target."""
    return f"All sentences, {absent} of them without a target (GRES)"


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: an interrupted run leaves the old file."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
