"""The loop: every sentence about every picture answered once, compared with the true mask, and kept as a record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from jmceln_core.data.grounding import Expression, GroundingData, Picture
from jmceln_core.evaluation import machine
from jmceln_core.evaluation.baselines import TRIVIAL, TrivialAnswers
from jmceln_core.evaluation.metrics import overlap, points_inside
from jmceln_core.evaluation.protocol import Protocol
from jmceln_core.segmenter import Segmenter, Status


@dataclass(frozen=True)
class Record:
    """One sentence's answer against the truth. Pixel counts are at the picture's own size.

    A trivial answer has neither status nor score nor time.
    """

    picture: int
    targets: tuple[int, ...]  # none: the sentence means nothing in this picture
    text: str
    kind: str
    origin: str
    intersection: int
    union: int
    area: int  # of the true mask; 0 without a target
    pointed: bool  # the anchor lies inside the true mask
    status: str | None = None
    score: float | None = None
    seconds: float | None = None  # from the sentence to its answer; a picture's first includes the image half
    first: bool = False  # the first sentence about its picture

    @property
    def rejected(self) -> bool:
        """Did the model say that there is no such thing?"""
        return self.status == Status.NOT_PRESENT.value


@dataclass(frozen=True)
class Report:
    """Every answer, the model's and the trivial ones', under one protocol."""

    model: str | None
    protocol: Protocol
    records: list[Record]  # of the model, one a sentence; empty without a model
    trivial: dict[str, list[Record]] = field(default_factory=dict)  # of sentences with a target, by the answer's name
    machine: dict[str, str | int] = field(default_factory=dict)


def evaluate(segmenter: Segmenter | None, data: GroundingData, *, protocol: Protocol, baselines: bool = True) -> Report:
    """Answer every sentence of `data`, picture by picture, the image half once a picture.

    Without a segmenter only the trivial answers are given, and no picture is read. Raises DataError for a picture
    that cannot be read.
    """
    report = Report(
        segmenter.name if segmenter else None,
        protocol,
        [],
        {name: [] for name in TRIVIAL} if baselines else {},
        machine.describe(segmenter.device) if segmenter else {},
    )
    work = [(data.pictures[key], expressions) for key, expressions in data.by_picture().items() if expressions]
    if segmenter and work:
        # The first call of a process pays for lazy initialisation; no frame of a running robot does.
        segmenter.set_image(work[0][0].load())
        segmenter.segment("something")
    for picture, expressions in tqdm(work, desc="evaluate", unit="picture", disable=None):
        truths = {targets: _true_mask(picture, targets) for targets in {e.targets for e in expressions}}
        if segmenter:
            report.records.extend(_answer(segmenter, picture, expressions, truths))
        trivial = TrivialAnswers(picture)
        for name, records in report.trivial.items():
            for expression in expressions:
                if expression.targets and (answer := trivial.answer(name, expression)) is not None:
                    records.append(_record(expression, *answer, truths[expression.targets]))
    return report


def subset(data: GroundingData, pictures: int, seed: int) -> GroundingData:
    """At most that many pictures that have sentences, chosen by the seed alone, with all their sentences."""
    eligible = sorted({expression.picture_id for expression in data.expressions})
    count = min(pictures, len(eligible))
    chosen = set(np.random.default_rng(seed).choice(eligible, count, replace=False).tolist()) if count else set()
    return GroundingData(
        {key: picture for key, picture in data.pictures.items() if key in chosen},
        [expression for expression in data.expressions if expression.picture_id in chosen],
    )


def _true_mask(picture: Picture, targets: tuple[int, ...]) -> np.ndarray:
    """(H, W) bool union of the targets' masks; empty without targets."""
    mask = np.zeros((picture.height, picture.width), bool)
    for target in targets:
        mask |= picture.instance(target).mask(picture.height, picture.width)
    return mask


def _answer(
    segmenter: Segmenter,
    picture: Picture,
    expressions: list[Expression],
    truths: dict[tuple[int, ...], np.ndarray],
) -> Iterable[Record]:
    pixels = picture.load()
    for position, expression in enumerate(expressions):
        start = time.perf_counter()
        if position == 0:
            segmenter.set_image(pixels)
        found = segmenter.segment(expression.text)
        seconds = time.perf_counter() - start
        yield dataclasses.replace(
            _record(expression, found.mask, found.anchor, truths[expression.targets]),
            status=found.status.value,
            score=found.score,
            seconds=seconds,
            first=position == 0,
        )


def _record(expression: Expression, mask: np.ndarray, anchor: tuple[float, float] | None, truth: np.ndarray) -> Record:
    intersection, union = overlap(mask, truth)
    return Record(
        expression.picture_id,
        expression.targets,
        expression.text,
        expression.kind,
        expression.origin,
        intersection,
        union,
        int(np.count_nonzero(truth)),
        points_inside(anchor, truth),
    )
