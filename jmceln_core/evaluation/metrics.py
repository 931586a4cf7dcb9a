"""Metrics of referring segmentation as pure functions of numpy arrays.

Every metric here is one sum over the samples divided by another: a `Ratio` keeps the two terms of each sample, so that
one bootstrap serves them all (`jmceln_core.evaluation.bootstrap`) and oIoU is resampled as rightly as mIoU.

N samples ((image, sentence) pairs); I and U are the pixel counts of a sample's predicted and true mask in common and
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from jmceln_core.evaluation.protocol import Protocol

GRES_THRESHOLDS = (0.7, 0.8, 0.9)
BOUNDARY_SHARE = 0.02  # of the diagonal: the width that Boundary IoU's authors chose for pictures of COCO's size


@dataclass(frozen=True)
class Ratio:
    """sum(numerator) / sum(denominator), both (N,) float64."""

    numerator: np.ndarray
    denominator: np.ndarray

    @property
    def value(self) -> float:
        """The metric; NaN where nothing counts (no sample, or a denominator of zero)."""
        total = self.denominator.sum()
        return float(self.numerator.sum() / total) if total else float("nan")


def _mean(values: np.ndarray, counted: np.ndarray | None = None) -> Ratio:
    """The mean of the `values` (N,), over the `counted` (N,) bool samples only if given."""
    weights = np.ones(len(values)) if counted is None else np.asarray(counted, np.float64)
    return Ratio(np.asarray(values, np.float64) * weights, weights)


def overlap(predicted: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """I and U in pixels of two (H, W) bool masks; ValueError for another dtype or for two sizes."""
    for name, mask in (("predicted", predicted), ("target", target)):
        if mask.dtype != bool or mask.ndim != 2:
            raise ValueError(f"the {name} mask must be (H, W) bool, not {mask.shape} {mask.dtype}: threshold it first")
    if predicted.shape != target.shape:
        raise ValueError(
            f"the predicted mask is {predicted.shape}, the true one {target.shape}: "
            "un-warp the probability to the picture's own size before thresholding"
        )
    intersection = int(np.count_nonzero(predicted & target))
    return intersection, int(np.count_nonzero(predicted)) + int(np.count_nonzero(target)) - intersection


def points_inside(anchor: tuple[float, float] | None, target: np.ndarray) -> bool:
    """Does the anchor (u, v), pixel centres at whole numbers, lie in the (H, W) bool mask? No anchor: no."""
    if anchor is None:
        return False
    column, row = (int(np.floor(value + 0.5)) for value in anchor)
    height, width = target.shape
    return 0 <= row < height and 0 <= column < width and bool(target[row, column])


def boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a (H, W) bool mask that are near its contour, for Boundary IoU.

    Cheng et al., Boundary IoU, CVPR 2021: the intersection and union of two masks' boundaries, instead of the masks',
    make an IoU that does not grow easy with the size of the thing. Near is within d pixels, d = 2 % of the diagonal
    (rounded, at least 1), counted as the authors' code counts it: in king's moves from the nearest pixel outside the
    mask, and beyond the picture's border is outside.
    """
    distance = max(1, round(BOUNDARY_SHARE * float(np.hypot(*mask.shape))))
    pixels = np.ascontiguousarray(mask, bool).view(np.uint8)
    x, y, w, h = cv2.boundingRect(pixels)
    band = np.zeros(mask.shape, bool)
    if w:
        inside = pixels[y : y + h, x : x + w]
        # Zeros on the near side of the frame suffice: OpenCV lets nothing come in from beyond it.
        framed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        core = cv2.erode(framed, np.ones((2 * distance + 1, 2 * distance + 1), np.uint8))[1:-1, 1:-1]
        band[y : y + h, x : x + w] = inside > core
    return band


def mean_iou(intersection: np.ndarray, union: np.ndarray, protocol: Protocol) -> Ratio:
    """mIoU: the mean of I / U over the samples; I, U (N,). Of the masks' boundaries: Boundary IoU."""
    return _mean(protocol.iou(intersection, union))


def overall_iou(intersection: np.ndarray, union: np.ndarray) -> Ratio:
    """oIoU: sum I / sum U; I, U (N,). Large things weigh more than in mIoU."""
    return Ratio(np.asarray(intersection, np.float64), np.asarray(union, np.float64))


def precision_at(intersection: np.ndarray, union: np.ndarray, threshold: float, protocol: Protocol) -> Ratio:
    """Pr@X: the share of samples whose IoU reaches `threshold`, as the protocol counts it; I, U (N,)."""
    return _mean(protocol.reaches(protocol.iou(intersection, union), threshold))


def referring_metrics(
    intersection: np.ndarray, union: np.ndarray, pointed: np.ndarray, protocol: Protocol
) -> dict[str, Ratio]:
    """mIoU, oIoU, Pr@X for the protocol's thresholds and pointing accuracy, the share of anchors inside the true mask.

    I, U (N,) pixels and `pointed` (N,) bool, of sentences that mean something in their picture.
    """
    return {
        "mIoU": mean_iou(intersection, union, protocol),
        "oIoU": overall_iou(intersection, union),
        **{f"Pr@{x:g}": precision_at(intersection, union, x, protocol) for x in protocol.thresholds},
        "pointing": _mean(pointed),
    }


def rejection_metrics(has_target: np.ndarray, rejected: np.ndarray) -> dict[str, Ratio]:
    """GRES's N_acc = TP / (TP + FN) and T_acc = TN / (TN + FP), "positive" being a sentence that means nothing here.

    `has_target` and `rejected` ("there is no such thing", the model says) are (N,) bool.
    """
    has_target, rejected = np.asarray(has_target, bool), np.asarray(rejected, bool)
    return {"N_acc": _mean(rejected, ~has_target), "T_acc": _mean(~rejected, has_target)}


def acceptance_threshold(confidence: np.ndarray, has_target: np.ndarray, share: float) -> float:
    """The highest confidence below which an answer can be rejected while `share` of the sentences with a target are
    kept; both (N,). NaN where no sentence has a target.
    """
    kept = np.sort(np.asarray(confidence, np.float64)[np.asarray(has_target, bool)])
    # what rounding leaves below a whole number of sentences still is that number
    return float(kept[int((1 - share) * len(kept) + 1e-9)]) if len(kept) else float("nan")


def gres_metrics(
    intersection: np.ndarray,
    union: np.ndarray,
    has_target: np.ndarray | Sequence[bool],
    rejected: np.ndarray | Sequence[bool],
    protocol: Protocol,
) -> dict[str, Ratio]:
    """gIoU, cIoU, Pr@X, N_acc and T_acc of generalised referring segmentation (Liu et al., GRES, CVPR 2023); all (N,).

    I and U are those of the predicted mask as it was before it was `rejected`. For a sentence without a target I = 0
    and U is the predicted mask's area. Rejecting it scores IoU 1 and adds nothing to the sums of cIoU; not rejecting it
    scores 0 and adds U. A target wrongly rejected scores 0: its I is dropped, its U kept. Pr@X, for the X of the
    authors' evaluation, is of the sentences with a target.
    """
    has_target, rejected = np.asarray(has_target, bool), np.asarray(rejected, bool)
    intersection = np.where(rejected, 0, intersection)
    union = np.where(rejected & ~has_target, 0, union)
    iou = protocol.iou(intersection, union)
    return {
        "gIoU": _mean(np.where(has_target, iou, rejected)),
        "cIoU": overall_iou(intersection, union),
        **{f"Pr@{x:g}": _mean(protocol.reaches(iou, x), has_target) for x in GRES_THRESHOLDS},
        **rejection_metrics(has_target, rejected),
    }
