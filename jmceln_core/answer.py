"""An answer to a sentence about a picture, and how it is made from the network's numbers.

Coordinates are the picture's own pixels, (u, v) = (column, row), pixel centres at whole numbers.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from jmceln_core.config import DecisionConfig
from jmceln_core.quantity import Part

if TYPE_CHECKING:
    import torch

_SMOOTHING, _SURE = 0.005, 0.95  # of `surest_point`; chosen on training pictures: docs/results.md
_CRUMB = 0.15  # a blob of a plural's mask with less of the largest one's area is no thing: docs/model.md


class Status(enum.Enum):
    """What an answer means for whoever acts on it."""

    FOUND = "found"
    NOT_PRESENT = "not_present"  # no such thing in the picture: the mask is empty
    LOW_CONFIDENCE = "low_confidence"  # a mask, but the score is below the configured one
    AMBIGUOUS = "ambiguous"  # a sure mask over more separate things than the sentence asks for


class Instance(NamedTuple):
    """One of the separate things in an answer."""

    anchor: tuple[float, float]  # (u, v), deep inside it
    box: tuple[int, int, int, int]  # (x, y, w, h)
    area: int  # in pixels
    text: str = ""  # the part of the sentence that it answers: "the spoon" of "the mug and the spoon"


@dataclass(frozen=True)
class Segmentation:
    """The answer to one sentence about one picture of H x W pixels."""

    mask: np.ndarray  # (H, W) bool; all false with NOT_PRESENT
    status: Status
    score: float  # in [0, 1], see `decide`
    centroid: tuple[float, float] | None  # (u, v), mean of the mask's pixels; may lie beside a ring or a banana
    anchor: tuple[float, float] | None  # (u, v), a pixel deep inside the surest part of the mask
    box: tuple[int, int, int, int] | None  # (x, y, w, h) around the mask, in whole pixels
    area: int  # of the mask, in pixels
    probability: np.ndarray | None  # (H, W) float32, if asked for
    seconds: float  # from the sentence to this answer; without the image half
    presence: float | None = None  # probability that the thing is there at all; None without such a head
    # With FOUND the thing, or all things that a sentence in the plural means; with AMBIGUOUS those that may be meant;
    # with LOW_CONFIDENCE what the guess consists of. From left to right.
    instances: tuple[Instance, ...] = ()


class RawAnswer(NamedTuple):
    """What the network says about one sentence, before any threshold."""

    probability: np.ndarray  # (H, W) float32 at the picture's own size
    presence: float | None  # probability that the thing is there; None without the head
    iou: float | None  # predicted IoU of the mask; None without the head
    queries: torch.Tensor | None = None  # (Q, C), the network's final contextual embeddings


def decide(
    raw: RawAnswer, decision: DecisionConfig, *, probability: bool = False, part: Part | None = None
) -> Segmentation:
    """Thresholds: from the network's numbers to an answer (`seconds` is 0).

    The mask is where the probability is above `decision.mask`. The score is the mean probability inside it, or with a
    presence or IoU head the geometric mean of that and the heads' probabilities, calibrated: its logit times
    `decision.slope` plus `decision.offset` (Platt scaling); 0 for an empty mask. In this order:

    - NOT_PRESENT if the mask is empty or the presence below `decision.present` (the score stays: it says how nearly);
    - LOW_CONFIDENCE if the score is below `decision.confident`;
    - AMBIGUOUS if the mask's second-largest blob (8-connected) has more than `decision.ambiguous` of the largest one's
      area and the score that each of the two would have alone is at least `decision.confident`; all blobs like them
      are the answer's `instances`;
    - FOUND otherwise.

    A `part` in the plural means all blobs of the mask that are no crumbs, its `instances`: it is FOUND with several as
    with one, unless it says how many and there are more (AMBIGUOUS). Fewer prove nothing, for things that touch are one
    blob. What is `without` is not looked at here.
    """
    part = part or Part("")
    mask = raw.probability > decision.mask
    pixels = mask.view(np.uint8)
    x, y, w, h = map(int, cv2.boundingRect(pixels))
    kept = raw.probability if probability else None
    empty = np.zeros_like(mask)
    nothing = Segmentation(empty, Status.NOT_PRESENT, 0.0, None, None, None, 0, kept, 0.0, raw.presence)
    if w == 0:
        return nothing
    inside, values = pixels[y : y + h, x : x + w], raw.probability[y : y + h, x : x + w]
    score = _score(cv2.mean(values, inside)[0], raw, decision)
    if raw.presence is not None and raw.presence < decision.present:
        return replace(nothing, score=score)
    answer = with_mask(replace(nothing, status=Status.FOUND, score=score), mask, raw.probability)
    low = score < decision.confident
    if part.plural:
        answer = replace(answer, instances=things(mask))
        ambiguous = part.count is not None and len(answer.instances) > part.count
    else:
        candidates = () if low else _candidates(inside, values, raw, decision, (x, y))
        ambiguous = bool(candidates)
        answer = replace(answer, instances=candidates or answer.instances)
    if low:
        return replace(answer, status=Status.LOW_CONFIDENCE)
    return replace(answer, status=Status.AMBIGUOUS) if ambiguous else answer


def joined(answers: Sequence[Segmentation]) -> Segmentation:
    """The answer to "the mug and the spoon" from those, made with `probability`, to its parts.

    All their things, and the lowest of their scores. It is as sure as the least sure of them; LOW_CONFIDENCE also if
    one is not present, or if two are mostly the same pixels, for a thing is not two; NOT_PRESENT if none is there.
    """
    present = [answer for answer in answers if answer.area]
    same = any(
        2 * np.count_nonzero(one.mask & other.mask) > min(one.area, other.area)
        for i, one in enumerate(present)
        for other in present[:i]
    )
    if not present:
        status = Status.NOT_PRESENT
    elif same or len(present) < len(answers):
        status = Status.LOW_CONFIDENCE
    else:
        status = _least_sure(answers)
    presences = [answer.presence for answer in answers if answer.presence is not None]
    maps = [answer.probability for answer in answers if answer.probability is not None]
    probability = np.maximum.reduce(maps)
    answer = replace(
        answers[0],
        status=status,
        score=min(answer.score for answer in answers),
        probability=probability,
        presence=min(presences, default=None),
    )
    answer = with_mask(answer, np.logical_or.reduce([answer.mask for answer in answers]), probability)
    return replace(answer, instances=tuple(sorted(thing for part in answers for thing in part.instances)))


def less(answer: Segmentation, other: Segmentation, *, plural: bool = False) -> Segmentation:
    """The answer to "every mug but the red one" from that to "every mug" and the `other` to "the red mug".

    Both were made with `probability`. Taken away is the one thing that the other is surest of, or for a `plural` other
    each that it has in its mask; of two things that touch and are one blob only the other's pixels. It is as sure as
    the less sure of the two: what would be taken by mistake may be the very thing that is not meant. An `other` that is
    not present takes nothing away.
    """
    if not (answer.area and other.area):
        return answer
    assert answer.probability is not None
    assert other.probability is not None
    count, labels = cv2.connectedComponents(answer.mask.view(np.uint8), connectivity=8)
    surest = [cv2.mean(other.probability, (labels == blob).view(np.uint8))[0] for blob in range(1, count)]
    taken = np.zeros_like(answer.mask)
    for blob in range(1, count) if plural else [1 + int(np.argmax(surest))]:
        thing = labels == blob
        common = thing & other.mask
        taken |= thing if 2 * np.count_nonzero(common) > np.count_nonzero(thing) else common
    status, score = _least_sure((answer, other)), min(answer.score, other.score)
    probability = np.where(taken, np.float32(0), answer.probability)
    answer = replace(answer, status=status, score=score, probability=probability)
    answer = with_mask(answer, answer.mask & ~taken, probability)
    if not answer.area:
        return replace(answer, status=Status.NOT_PRESENT)
    return replace(answer, instances=things(answer.mask))


def _least_sure(answers: Sequence[Segmentation]) -> Status:
    statuses = {answer.status for answer in answers}
    return next(s for s in (Status.LOW_CONFIDENCE, Status.AMBIGUOUS, Status.FOUND) if s in statuses)


def with_mask(answer: Segmentation, mask: np.ndarray, probability: np.ndarray | None = None) -> Segmentation:
    """The answer with another (H, W) bool mask, its centroid, box and area, and as its one instance the whole. The
    anchor is the mask's surest point by the (H, W) float32 map behind it; without one, its deepest."""
    pixels = np.ascontiguousarray(mask, bool).view(np.uint8)
    x, y, w, h = map(int, cv2.boundingRect(pixels))
    if w == 0:
        return replace(answer, mask=mask, centroid=None, anchor=None, box=None, area=0, instances=())
    moments = cv2.moments(pixels[y : y + h, x : x + w], binaryImage=True)
    area = int(moments["m00"])
    centroid = (x + moments["m10"] / area, y + moments["m01"] / area)
    anchor = deepest_point(mask) if probability is None else surest_point(probability, mask)
    assert anchor is not None
    whole = Instance(anchor, (x, y, w, h), area)
    return replace(answer, mask=mask, centroid=centroid, anchor=anchor, box=whole.box, area=area, instances=(whole,))


def surest_point(probability: np.ndarray, mask: np.ndarray) -> tuple[float, float] | None:
    """(u, v) of the deepest pixel of the surest part of a (H, W) bool mask; None for an empty one.

    The surest part is the connected one around the mask's highest (H, W) float32 probability (all of them, if several
    are as high) in which it is at least _SURE of that, all after smoothing with a Gaussian of _SMOOTHING times the
    square root of the picture's area. In a mask that is equally sure everywhere this is about its deepest point; where
    the mask has taken in more than the thing, it stays on the thing.
    """
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(mask, bool).view(np.uint8))
    if w == 0:
        return None
    sigma = _SMOOTHING * math.sqrt(mask.size)
    reach = math.ceil(4 * sigma) + 1  # beyond it, OpenCV's kernel is zero
    top, left = max(0, y - reach), max(0, x - reach)
    part = np.s_[top : y + h + reach, left : x + w + reach]
    smooth = np.where(mask[part], cv2.GaussianBlur(probability[part], (0, 0), sigma), 0)
    peak = smooth.max()
    sure = (smooth >= _SURE * peak) & mask[part]
    _, labels = cv2.connectedComponents(sure.view(np.uint8), connectivity=8)
    point = deepest_point(
        np.isin(labels, labels[(smooth >= (1 - 1e-5) * peak) & sure])
    )  # several parts, if equally sure
    return None if point is None else (point[0] + left, point[1] + top)


def deepest_point(mask: np.ndarray) -> tuple[float, float] | None:
    """(u, v) of the pixel of a (H, W) bool mask that is farthest from everything outside it; None for an empty mask.

    The picture's border counts as outside. Distances are OpenCV's 5x5 approximation (within about 2 %); among equally
    deep pixels, as along the middle of a bar, the one nearest to their mean.
    """
    pixels = np.ascontiguousarray(mask, bool).view(np.uint8)
    x, y, w, h = cv2.boundingRect(pixels)
    if w == 0:
        return None
    framed = cv2.copyMakeBorder(pixels[y : y + h, x : x + w], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)
    rows, columns = np.nonzero(depth > depth.max() - 1e-3)
    nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    return float(columns[nearest] - 1 + x), float(rows[nearest] - 1 + y)


def _score(inside: float, raw: RawAnswer, decision: DecisionConfig) -> float:
    """The score of a mask with that mean probability inside."""
    factors = [inside, *(head for head in (raw.presence, raw.iou) if head is not None)]
    score = min(1.0, math.prod(factors) ** (1 / len(factors)))
    if (decision.slope, decision.offset) == (1, 0) or not 0 < score < 1:
        return score
    return 1 / (1 + math.exp(-decision.slope * math.log(score / (1 - score)) - decision.offset))


def things(mask: np.ndarray) -> tuple[Instance, ...]:
    """The separate things in a (H, W) bool mask, from left to right: its 8-connected blobs without crumbs."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # 0 is the background
    return _instances(labels, stats, np.flatnonzero(areas >= _CRUMB * areas.max(initial=0)).tolist())


def _candidates(
    pixels: np.ndarray, probability: np.ndarray, raw: RawAnswer, decision: DecisionConfig, corner: tuple[int, int]
) -> tuple[Instance, ...]:
    """The separate blobs that could each be the thing meant, from left to right; none if it is one. (h, w) uint8 mask
    and its float32 probabilities, the part of the picture whose left upper `corner` is (x, y)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if len(areas) < 2:
        return ()

    def is_sure(blob: int) -> bool:
        return _score(float(probability[labels == blob + 1].mean()), raw, decision) >= decision.confident

    second, largest = np.argsort(areas, kind="stable")[-2:].tolist()
    if areas[second] <= decision.ambiguous * areas[largest] or not (is_sure(second) and is_sure(largest)):
        return ()
    similar = np.flatnonzero(areas > decision.ambiguous * areas[largest]).tolist()
    return _instances(labels, stats, [blob for blob in similar if is_sure(blob)], corner)


def _instances(
    labels: np.ndarray, stats: np.ndarray, blobs: Sequence[int], corner: tuple[int, int] = (0, 0)
) -> tuple[Instance, ...]:
    """Blobs, counted from 0, of what OpenCV says about connected components, from left to right."""
    found = []
    for blob in blobs:
        x, y, w, h, area = stats[blob + 1].tolist()
        anchor = deepest_point(labels[y : y + h, x : x + w] == blob + 1)
        assert anchor is not None
        left, top = corner[0] + x, corner[1] + y
        found.append(Instance((left + anchor[0], top + anchor[1]), (left, top, w, h), area))
    return tuple(sorted(found))
