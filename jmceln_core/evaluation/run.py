"""The loop: every sentence about every picture answered once, compared with the true mask, and kept as a record."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from jmceln_core.answer import RawAnswer, Segmentation, Status, decide
from jmceln_core.data.grounding import DataError, Expression, GroundingData
from jmceln_core.data.refcocos import BoxData
from jmceln_core.evaluation import machine
from jmceln_core.evaluation.baselines import TRIVIAL, TrivialAnswers
from jmceln_core.evaluation.landing import landing
from jmceln_core.evaluation.metrics import overlap, points_inside
from jmceln_core.evaluation.protocol import Protocol, Size
from jmceln_core.evaluation.scene import Region, Scene, Truth, side_of
from jmceln_core.geometry import Resize
from jmceln_core.segmenter import Segmenter, normalise_text

Data = TypeVar("Data", GroundingData, BoxData)

LEAST_MASK = 50  # pixels; GRES takes a smaller mask of a network without a presence head for "there is no such thing"
_AT_ONCE = 8  # sentences asked together, after a picture's first

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a model said to one sentence, whatever is known of the truth. A trivial answer has none of it."""

    status: str | None = None
    score: float | None = None
    presence: float | None = None  # None without a presence head
    seconds: float | None = None  # from the sentence to its answer; a picture's first includes the image half
    first: bool = False  # the first sentence about its picture
    unread: bool = False  # nothing was said, the picture cannot be read: never right

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
    # As GRES counts; None for a trivial answer: the union with the mask as it was before it was rejected, and whether
    # the model says that nothing is meant (`Answer.no_target`).
    raw_union: int | None = None
    no_target: bool | None = None


@dataclass(frozen=True)
class Report:
    """Every answer, the model's and the trivial ones', under one protocol."""

    model: str | None
    protocol: Protocol
    records: list[Record]  # of the model, one a sentence; empty without a model
    trivial: dict[str, list[Record]] = field(default_factory=dict)  # of sentences with a target, by the answer's name
    machine: dict[str, str | int] = field(default_factory=dict)
    size: Size = "original"  # what the masks were compared in
    side: int | None = None  # of that square; None: at the picture's own size
    resize: Resize = "letterbox"  # how the picture fills the network's square, where that is what they were compared in
    unread: list[str] = field(default_factory=list)  # the pictures that cannot be read, and why


class Answer(NamedTuple):
    """What a network answers to a sentence as a whole."""

    mask: np.ndarray  # (H, W) bool, where the probability is above the threshold, rejected or not
    segmentation: Segmentation  # what is made of it: `answer.decide`
    no_target: bool  # says that nothing is meant, as GRES counts it: `respond`


def evaluate(
    segmenter: Segmenter | None,
    data: GroundingData,
    *,
    protocol: Protocol,
    size: Size | None = None,
    baselines: bool = True,
) -> Report:
    """Answer every sentence of `data`, picture by picture, the image half once a picture.

    `size` "original" compares masks at the picture's own size, "input" in the network's square, "squashed" in a square
    of 480 pixels; None: as the protocol says. Without a segmenter only the trivial answers are given, and no picture is
    read. To the sentences about a picture that cannot be read there are no answers, and they count 0 (`Report.unread`).
    Raises DataError if that is every picture, and ValueError for size "input" without a segmenter.
    """
    size = size or protocol.size
    report = Report(
        segmenter.name if segmenter else None,
        protocol,
        [],
        {name: [] for name in TRIVIAL} if baselines else {},
        machine.describe(segmenter.device) if segmenter else {},
        size,
        side_of(segmenter, size),
        segmenter.config.resize if segmenter and size == "input" else "letterbox",
    )
    work = [(data.pictures[key], expressions) for key, expressions in data.by_picture().items() if expressions]
    if segmenter and work:
        warm_up(segmenter, work[0][0].height, work[0][0].width)
    with tqdm(total=len(data.expressions), desc="evaluate", unit="sentence", disable=None) as progress:
        for picture, expressions in work:
            scene = Scene(picture, report.side, report.resize, squashed=size == "squashed")
            if segmenter:
                pixels = readable(scene.pixels, report.unread, len(work))
                if pixels is None:
                    report.records.extend(_unread(scene, expressions))
                else:
                    report.records.extend(_answer(segmenter, scene, pixels, expressions, protocol))
            trivial = TrivialAnswers(scene)
            for name, records in report.trivial.items():
                for expression in expressions:
                    if expression.targets and (answer := trivial.answer(name, expression)) is not None:
                        records.append(_record(expression, *answer, scene.truth(expression.targets)))
            progress.update(len(expressions))
    return report


def readable(load: Callable[[], np.ndarray], unread: list[str], pictures: int) -> np.ndarray | None:
    """The picture that `load` gives; None, and why among the `unread`, if it cannot be read. Raises DataError if that
    is so for all of so many pictures."""
    try:
        return load()
    except DataError as error:
        unread.append(str(error))
        if len(unread) == pictures:
            raise
        log.warning("no answer, counted 0: %s", error)
        return None


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


def respond(
    segmenter: Segmenter,
    texts: Sequence[str],
    shape: tuple[int, ...],
    protocol: Protocol,
    warp: Callable[[np.ndarray], np.ndarray] = lambda map_: map_,
) -> list[Answer]:
    """What the network answers to sentences about the current picture of that (H, W), by the protocol's thresholds.

    Each is asked as a whole: what a robot's sentence is taken apart for ("the mug and the spoon", `Segmenter.segment`),
    rules of words, is no part of a network that is compared with others. `warp` brings the (H, W) map of probabilities
    to the size of the comparison. Of a sentence without a word, which a Segmenter refuses, nothing is found: every
    sentence of a data set counts.

    `no_target` is the presence head's word. A network without one, or whose head the protocol does not ask, says it by
    a mask of fewer than LEAST_MASK pixels (Liu et al., GRES, CVPR 2023).
    """
    decision = protocol.decision(segmenter.decision)
    said = [text for text in texts if _has_words(text)]
    raws = dict(zip(said, segmenter.raw_answers(said) if said else (), strict=True))
    silence = RawAnswer(np.zeros(shape[:2], np.float32), None, None)
    answers = []
    for text in texts:
        raw = raws.get(text, silence)
        raw = raw._replace(probability=warp(raw.probability))
        mask = raw.probability > decision.mask
        if raw.presence is None or not protocol.reject:
            no_target = cv2.countNonZero(mask.view(np.uint8)) < LEAST_MASK
        else:
            no_target = raw.presence < decision.present
        answers.append(Answer(mask, decide(raw, decision), no_target))
    return answers


def _has_words(text: str) -> bool:
    try:
        normalise_text(text)
    except ValueError:
        return False
    return True


def warm_up(segmenter: Segmenter, height: int, width: int) -> None:
    """The first call of a process pays for lazy initialisation; no frame of a running robot does."""
    segmenter.set_image(np.zeros((height, width, 3), np.uint8))
    segmenter.raw_answers(["something"])


def answers(
    segmenter: Segmenter,
    pixels: np.ndarray,
    texts: Sequence[str],
    protocol: Protocol,
    warp: Callable[[np.ndarray], np.ndarray] = lambda map_: map_,
) -> Iterator[tuple[Answer, dict[str, Any]]]:
    """`respond` about one (H, W, 3) picture, the image half once, each with the fields of its Response.

    The first sentence is asked alone, as a frame's is; the others together, and `seconds` is each one's share.
    """
    start = time.perf_counter()
    segmenter.set_image(pixels)
    for first in (0, *range(1, len(texts), _AT_ONCE)):
        some = texts[first : first + _AT_ONCE] if first else texts[:1]
        made = respond(segmenter, some, pixels.shape, protocol, warp)
        seconds = (time.perf_counter() - start) / len(some)
        for answer in made:
            found = answer.segmentation
            about = {"status": found.status.value, "score": found.score, "presence": found.presence}
            yield answer, about | {"seconds": seconds, "first": first == 0}
        start = time.perf_counter()


def _answer(
    segmenter: Segmenter, scene: Scene, pixels: np.ndarray, expressions: list[Expression], protocol: Protocol
) -> Iterator[Record]:
    texts = [expression.text for expression in expressions]
    said = answers(segmenter, pixels, texts, protocol, scene.warp)
    for expression, (answer, response) in zip(expressions, said, strict=True):
        truth, found = scene.truth(expression.targets), answer.segmentation
        things = any(not scene.picture.instance(target).crowd for target in expression.targets)
        yield dataclasses.replace(
            _record(expression, Region(found.mask), found.anchor, truth),
            landed=landing(found.mask, scene, expression.targets) if things else None,
            raw_union=overlap(answer.mask, truth.region.mask)[1],
            no_target=answer.no_target,
            **response,
        )


def _unread(scene: Scene, expressions: list[Expression]) -> Iterator[Record]:
    for expression in expressions:
        truth = scene.truth(expression.targets)
        nothing = Region(np.zeros_like(truth.region.mask))
        yield dataclasses.replace(
            _record(expression, nothing, None, truth), score=0.0, no_target=bool(expression.targets), unread=True
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
