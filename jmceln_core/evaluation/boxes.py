"""Answers against boxes: how well the box around an answer's mask meets the true one. No true mask is known.

box IoU   the mean IoU of the two boxes; 0 where there is no answer
Pr@0.5    the share of sentences whose box IoU reaches 0.5
pointing  the share of sentences whose anchor lies inside the true box
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from jmceln_core.answer import deepest_point
from jmceln_core.data.refcocos import Box, BoxData, BoxExpression
from jmceln_core.evaluation import baselines, bootstrap, machine, report, sections
from jmceln_core.evaluation.metrics import Ratio, rejection_metrics
from jmceln_core.evaluation.protocol import PROTOCOLS
from jmceln_core.evaluation.run import Response, answers, readable, warm_up
from jmceln_core.segmenter import Segmenter

TRIVIAL = {baselines.WHOLE: baselines.whole_picture, baselines.BOX: baselines.centred_box}
HEADING = "Sentences with a box"
PROTOCOL = "boxes"  # where a table of masks names its protocol


@dataclass(frozen=True)
class BoxRecord(Response):
    """One sentence's answer against its box."""

    picture: int
    text: str
    hops: int
    box: Box | None  # the true one; None: the sentence means nothing
    found: Box | None  # around the answer's mask; None: no answer
    iou: float
    pointed: bool  # the anchor lies inside the true box


@dataclass(frozen=True)
class BoxReport:
    """Every answer, the model's and the trivial ones'."""

    model: str | None
    records: list[BoxRecord]
    trivial: dict[str, list[BoxRecord]] = field(default_factory=dict)  # of sentences with a box
    machine: dict[str, str | int] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)  # the pictures that cannot be read, and why


def box_of(mask: np.ndarray) -> Box | None:
    """The box around a (H, W) bool mask, edge to edge; None for an empty one."""
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(mask, bool).view(np.uint8))
    return (float(x), float(y), float(x + w), float(y + h)) if w else None


def box_iou(a: Box | None, b: Box | None) -> float:
    """The IoU of two boxes; 0 where there is none."""
    if a is None or b is None:
        return 0.0
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (sum(areas) - common)


def evaluate(segmenter: Segmenter | None, data: BoxData, *, trivial: bool = True) -> BoxReport:
    """Answer every sentence of `data`, picture by picture; without a segmenter the trivial answers only.

    By protocol `own`. Sentences about a picture that cannot be read count 0. Raises DataError if that is every picture.
    """
    found = BoxReport(
        segmenter.name if segmenter else None,
        [],
        {name: [] for name in TRIVIAL} if trivial else {},
        machine.describe(segmenter.device) if segmenter else {},
    )
    by_picture: dict[int, list[BoxExpression]] = defaultdict(list)
    for expression in data.expressions:
        by_picture[expression.picture_id].append(expression)
    if segmenter and by_picture:
        first = data.pictures[next(iter(by_picture))]
        warm_up(segmenter, first.height, first.width)
    with tqdm(total=len(data.expressions), desc="evaluate", unit="sentence", disable=None) as progress:
        for key, expressions in by_picture.items():
            picture = data.pictures[key]
            pixels = readable(picture.load, found.unread, len(by_picture)) if segmenter else None
            if segmenter and pixels is None:
                nothing = np.zeros((picture.height, picture.width), bool)
                unread = (_record(expression, nothing, None) for expression in expressions)
                found.records.extend(dataclasses.replace(record, score=0.0, unread=True) for record in unread)
            elif segmenter and pixels is not None:
                said = answers(segmenter, pixels, [e.text for e in expressions], PROTOCOLS["own"])
                for expression, (answer, response) in zip(expressions, said, strict=True):
                    record = _record(expression, answer.segmentation.mask, answer.segmentation.anchor)
                    found.records.append(dataclasses.replace(record, **response))
            for name, records in found.trivial.items():
                mask = TRIVIAL[name](picture.height, picture.width)
                anchor = deepest_point(mask)
                records += [_record(e, mask, anchor) for e in expressions if e.box]
            progress.update(len(expressions))
    return found


def _record(expression: BoxExpression, mask: np.ndarray, anchor: tuple[float, float] | None) -> BoxRecord:
    box, found = expression.box, box_of(mask)
    pointed = False
    if box and anchor:
        u, v = anchor[0] + 0.5, anchor[1] + 0.5  # from pixel centres at whole numbers to edges
        pointed = box[0] <= u <= box[2] and box[1] <= v <= box[3]
    return BoxRecord(expression.picture_id, expression.text, expression.hops, box, found, box_iou(box, found), pointed)


def summarise(found: BoxReport, *, draws: int = bootstrap.DRAWS, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """All numbers as plain containers (metrics.json), shaped as `report.summarise` shapes its own."""
    options: dict[str, Any] = {"draws": draws, "level": level, "seed": seed}

    def measured(records: Sequence[BoxRecord]) -> dict[str, Any]:
        return report.bootstrapped(_metrics(records), _pictures(records), **options)

    def described(records: Sequence[BoxRecord]) -> dict[str, Any]:
        meant = [record for record in records if record.box]
        by_hops = {
            str(hops): measured([record for record in meant if record.hops == hops])
            for hops in sorted({record.hops for record in meant})
        }
        return measured(meant) | {"by_hops": by_hops}

    summary: dict[str, Any] = {
        "model": found.model,
        "protocol": {"name": PROTOCOL},
        "interval": report.interval_about(**options),
    }
    if found.model is not None:
        records = found.records
        summary |= report.of_unread(found.unread, records)
        has_target = np.array([record.box is not None for record in records], bool)
        summary |= described(records)
        if not has_target.all():
            rejected = np.array([record.rejected for record in records], bool)
            about, strict = report.strict_rejection(records, has_target)
            ratios = rejection_metrics(has_target, rejected) | strict
            summary["gres"] = about | report.bootstrapped(ratios, _pictures(records), **options)
        hit = np.array([record.iou >= report.HIT for record in records], bool)
        summary |= report.of_responses(records, has_target, hit, _pictures(records), **options)
        summary["machine"] = found.machine
    summary["trivial"] = {name: described(records) for name, records in found.trivial.items() if records}
    return summary


def write(found: BoxReport, directory: Path, *, about: dict[str, Any], **options: Any) -> dict[str, Any]:
    """As `report.write`: the same files, `about` and `options`."""
    summary = about | summarise(found, **options)
    report.write_files(directory, summary, markdown(summary), map(dataclasses.asdict, found.records))
    return summary


def markdown(summary: dict[str, Any]) -> str:
    """The tables of a metrics.json."""
    named = report.answers_of(summary)
    lines = report.head(summary, "The box around the answer's mask is compared with the true one.")
    main: sections.Rows = [((name,), found) for name, found in named.items()]
    lines += report.section(HEADING, sections.measured("answer", main, protocol=PROTOCOL))
    by_hops = report.broken_down(named, "by_hops")
    lines += report.section("By hops", sections.measured("hops | answer", by_hops, protocol=PROTOCOL))
    return "\n".join(lines + report.of_model(summary)) + "\n"


def _metrics(records: Sequence[BoxRecord]) -> dict[str, Ratio]:
    ones = np.ones(len(records))
    iou = np.array([record.iou for record in records], np.float64)
    pointed = np.array([record.pointed for record in records], np.float64)
    return {
        "box IoU": Ratio(iou, ones),
        "Pr@0.5": Ratio((iou >= report.HIT).astype(np.float64), ones),
        "pointing": Ratio(pointed, ones),
    }


def _pictures(records: Sequence[BoxRecord]) -> np.ndarray:
    return np.array([record.picture for record in records], np.int64)
