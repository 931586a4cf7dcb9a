"""The field's conventions for comparing masks, as data: two papers' tables compare only under the same one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Protocol:
    """One way of turning an intersection I and a union U (pixels) into an IoU and a hit at a threshold."""

    name: str
    strict: bool  # Pr@X counts IoU > X (True) or IoU >= X (False)
    epsilon: float  # added to U before the division
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)  # the X of Pr@X that are reported

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
        Protocol("lavt", strict=False, epsilon=0.0),  # LAVT's and its successors' evaluation
        Protocol("cris", strict=True, epsilon=1e-6),  # CRIS's
    )
}


def named(name: str) -> Protocol:
    """The protocol of that name; ValueError listing the known ones otherwise."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise ValueError(f"no protocol named {name!r}; known: {', '.join(PROTOCOLS)}") from None
