"""The field's conventions for comparing masks, as data: two papers' tables compare only under the same one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from jmceln_core.config import DecisionConfig

# What masks are compared in: the picture as it is; the network's letterboxed square; the picture squashed to a square.
Size = Literal["original", "input", "squashed"]
SQUASHED = 480  # side of that last square


@dataclass(frozen=True)
class Protocol:
    """How an answer becomes a mask, and the mask's intersection I and union U (pixels) with the truth a number."""

    name: str
    strict: bool  # Pr@X counts IoU > X (True) or IoU >= X (False)
    epsilon: float  # added to U before the division
    size: Size = "original"  # what masks are compared in
    mask: float | None = None  # the mask is where the probability is above this; None: the checkpoint's own threshold
    present: float | None = None  # there is no such thing below this presence; None: the checkpoint's own threshold
    reject: bool = True  # may the presence head empty a mask?
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)  # the X of Pr@X that are reported

    def decision(self, own: DecisionConfig) -> DecisionConfig:
        """A checkpoint's own thresholds, with those that the protocol sets."""
        mask = own.mask if self.mask is None else self.mask
        present = own.present if self.present is None else self.present
        return replace(own, mask=mask, present=present if self.reject else 0.0)

    def iou(self, intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
        """(N,) float64 I / (U + epsilon); 0 where both masks are empty."""
        denominator = np.asarray(union, np.float64) + self.epsilon
        out = np.zeros_like(denominator)
        return np.divide(np.asarray(intersection, np.float64), denominator, out=out, where=denominator != 0)

    def reaches(self, iou: np.ndarray, threshold: float) -> np.ndarray:
        """(N,) bool: does an IoU count as found at `threshold`?"""
        return iou > threshold if self.strict else iou >= threshold


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("own", strict=False, epsilon=0.0),  # as a robot gets its answers
        # LAVT's test.py and its successors': the larger of two classes, which is a probability above .5
        Protocol("lavt", strict=False, epsilon=0.0, size="squashed", mask=0.5, reject=False),
        Protocol("cris", strict=True, epsilon=1e-6, mask=0.35, reject=False),  # CRIS's engine
        # ReLA's refer_evaluation.py, for gRefCOCO
        Protocol("rela", strict=False, epsilon=0.0, size="squashed", mask=0.5, present=0.5),
    )
}


def named(name: str, *, reject: bool = True) -> Protocol:
    """The protocol of that name, without `reject` one that lets nothing be rejected; ValueError listing the known ones
    otherwise."""
    try:
        found = PROTOCOLS[name]
    except KeyError:
        raise ValueError(f"no protocol named {name!r}; known: {', '.join(PROTOCOLS)}") from None
    return replace(found, reject=found.reject and reject)
