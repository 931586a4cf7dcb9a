"""The loop: every sentence about every picture answered once, compared with the true mask, and kept as a record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from jmceln_core.answer import Segmentation, Status
from jmceln_core.data.grounding import Expression, GroundingData
from jmceln_core.data.refcocos import BoxData
from jmceln_core.evaluation import machine
from jmceln_core.evaluation.baselines import TRIVIAL, TrivialAnswers
from jmceln_core.evaluation.landing import landing
from jmceln_core.evaluation.metrics import overlap, points_inside
from jmceln_core.evaluation.protocol import Protocol
from jmceln_core.evaluation.scene import Region, Scene, Size, Truth, side_of
from jmceln_core.segmenter import Segmenter, normalise_text

Data = TypeVar("Data", GroundingData, BoxData)


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a model said to one sentence, whatever is known of the truth. A trivial answer has none of it."""

    status: str | None = None
    score: float | None = None
    presence: float | None = None  # None without a presence head
    seconds: float | None = None  # from the sentence to its answer; a picture's first includes the image half
    first: bool = False  # the first sentence about its picture

    @property
    def rejected(self) -> bool:
        """Did the model say that there is no such thing?"""
        return self.status == Status.NOT_PRESENT.value

    @property
    def confidence(self) -> float:
        """How sure the model is that there is such a thing: the presence, without such a head the score; 0 for an
        empty mask, whose score is 0."""
        if not self.score:
            return 0.0
        return self.score if self.presence is None else self.presence


@dataclass(frozen=True)
class Record(Response):
    """One sentence's answer against the truth. Pixel counts are at the size the masks are compared at."""

    picture: int
    targets: tuple[int, ...]  # none: the sentence means nothing in this picture
    text: str
    kind: str
    origin: str
    intersection: int
    union: int
    boundary_intersection: int  # of the two masks' boundaries, see `metrics.boundary`
    boundary_union: int
    area: int  # of the true mask, always at the picture's own size; 0 without a target
    pointed: bool  # the anchor lies inside the true mask
    landed: str | None = None  # one of `landing.LANDINGS`; None without a target and for a trivial answer


@dataclass(frozen=True)
class Report:
    """Every answer, the model's and the trivial ones', under one protocol."""

    model: str | None
    protocol: Protocol
    records: list[Record]  # of the model, one a sentence; empty without a model
    trivial: dict[str, list[Record]] = field(default_factory=dict)  # of sentences with a target, by the answer's name
    machine: dict[str, str | int] = field(default_factory=dict)
    side: int | None = None  # of the square the masks were compared in; None: at the picture's own size


def evaluate(
    segmenter: Segmenter | None,
    data: GroundingData,
    *,
    protocol: Protocol,
    size: Size = "original",
    baselines: bool = True,
) -> Report:
    """Answer every sentence of `data`, picture by picture, the image half once a picture.

    `size` "original" compares masks at the picture's own size, "input" in the network's letterboxed square. Without a
    segmenter only the trivial answers are given, and no picture is read. Raises DataError for a picture that cannot
    be read and ValueError for size "input" without a segmenter.
    """
    report = Report(
        segmenter.name if segmenter else None,
        protocol,
        [],
        {name: [] for name in TRIVIAL} if baselines else {},
        machine.describe(segmenter.device) if segmenter else {},
        side_of(segmenter, size),
    )
    work = [(data.pictures[key], expressions) for key, expressions in data.by_picture().items() if expressions]
    if segmenter and work:
        warm_up(segmenter, Scene(work[0][0], report.side).pixels())
    with tqdm(total=len(data.expressions), desc="evaluate", unit="sentence", disable=None) as progress:
        for picture, expressions in work:
            scene = Scene(picture, report.side)
            if segmenter:
                report.records.extend(_answer(segmenter, scene, expressions))
            trivial = TrivialAnswers(scene)
            for name, records in report.trivial.items():
                for expression in expressions:
                    if expression.targets and (answer := trivial.answer(name, expression)) is not None:
                        records.append(_record(expression, *answer, scene.truth(expression.targets)))
            progress.update(len(expressions))
    return report


def subset(data: Data, pictures: int, seed: int) -> Data:
    """At most that many pictures that have sentences, chosen by the seed alone, with all their sentences."""
    eligible = sorted({expression.picture_id for expression in data.expressions})
    count = min(pictures, len(eligible))
    chosen = set(np.random.default_rng(seed).choice(eligible, count, replace=False).tolist()) if count else set()
    return dataclasses.replace(
        data,
        pictures={key: picture for key, picture in data.pictures.items() if key in chosen},
        expressions=[expression for expression in data.expressions if expression.picture_id in chosen],
    )


def ask(segmenter: Segmenter, text: str, shape: tuple[int, ...]) -> Segmentation:
    """The answer about the current picture of that (H, W).

    To a sentence without a word, which a Segmenter refuses, nothing is answered: every sentence of a data set counts.
    """
    try:
        normalise_text(text)
    except ValueError:
        return Segmentation(np.zeros(shape, bool), Status.NOT_PRESENT, 0.0, None, None, None, 0, None, 0.0)
    return segmenter.segment(text)


def warm_up(segmenter: Segmenter, pixels: np.ndarray) -> None:
    """The first call of a process pays for lazy initialisation; no frame of a running robot does."""
    segmenter.set_image(pixels)
    segmenter.segment("something")


def answers(
    segmenter: Segmenter, pixels: np.ndarray, texts: Iterable[str]
) -> Iterator[tuple[Segmentation, dict[str, Any]]]:
    """The answers about one (H, W, 3) picture, the image half once, each with the fields of its Response."""
    for position, text in enumerate(texts):
        start = time.perf_counter()
        if position == 0:
            segmenter.set_image(pixels)
        found = ask(segmenter, text, pixels.shape[:2])
        yield (
            found,
            {
                "status": found.status.value,
                "score": found.score,
                "presence": found.presence,
                "seconds": time.perf_counter() - start,
                "first": position == 0,
            },
        )


def _answer(segmenter: Segmenter, scene: Scene, expressions: list[Expression]) -> Iterable[Record]:
    said = answers(segmenter, scene.pixels(), (expression.text for expression in expressions))
    for expression, (found, response) in zip(expressions, said, strict=True):
        yield dataclasses.replace(
            _record(expression, Region(found.mask), found.anchor, scene.truth(expression.targets)),
            landed=landing(found.mask, scene, expression.targets) if expression.targets else None,
            **response,
        )


def _record(expression: Expression, answer: Region, anchor: tuple[float, float] | None, truth: Truth) -> Record:
    intersection, union = overlap(answer.mask, truth.region.mask)
    boundary_intersection, boundary_union = overlap(answer.boundary, truth.region.boundary)
    return Record(
        expression.picture_id,
        expression.targets,
        expression.text,
        expression.kind,
        expression.origin,
        intersection,
        union,
        boundary_intersection,
        boundary_union,
        truth.area,
        points_inside(anchor, truth.region.mask),
    )
