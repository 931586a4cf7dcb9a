"""What `score` and the statuses are worth: is an answer with score .8 right four times out of five?"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from jmceln_core.answer import Status
from jmceln_core.evaluation.metrics import Ratio

BINS = 10
_SIDE, _EDGE = 260, 40  # of the plot and around it, in SVG's units


def reliability(score: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Reliability of the scores (N,) in [0, 1] of N answers, `right` (N,) bool or not.

    Returns `answers` (N), the expected calibration `error` (Guo et al., ICML 2017: the mean over the answers of the gap
    between their bin's mean score and its share of right ones; None without an answer) and `bins`: BINS equal parts of
    [0, 1], each with its `from`, `to`, `count`, mean `score` and share `right` (None where it is empty).
    """
    score, right = np.asarray(score, np.float64), np.asarray(right, bool)
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    bins: list[dict[str, float | int | None]] = []
    error = 0.0
    for b in range(BINS):
        inside = place == b
        count = int(inside.sum())
        mean, share = (float(score[inside].mean()), float(right[inside].mean())) if count else (None, None)
        if mean is not None and share is not None:
            error += count / len(score) * abs(mean - share)
        bins.append({"from": b / BINS, "to": (b + 1) / BINS, "count": count, "score": mean, "right": share})
    return {"answers": len(score), "error": error if len(score) else None, "bins": bins}


def by_status(status: np.ndarray, right: np.ndarray) -> dict[str, Ratio]:
    """The share of right ones (N,) bool among the answers of each status (N,) str that was given."""
    shares = {}
    for value in (s.value for s in Status):
        given = np.asarray(status == value, np.float64)
        if given.any():
            shares[value] = Ratio(given * right, given)
    return shares


def svg(found: dict[str, Any], title: str) -> str:
    """The reliability plot of what `reliability` returned.

    Bars: the share of right answers in each bin, with the number of answers above; dots: the same over the bin's mean
    score; dashes: where the two are equal.
    """
    step = _SIDE / BINS

    def x(value: float) -> float:
        return round(_EDGE + _SIDE * value, 1)

    def y(value: float) -> float:
        return round(_EDGE + _SIDE * (1 - value), 1)

    size = _SIDE + 2 * _EDGE
    heading = escape(title) + ("" if found["error"] is None else f": ECE {found['error']:.3f}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="9">',
        f'<rect width="{size}" height="{size}" fill="#fff"/>',
        f'<text x="{size / 2}" y="16" text-anchor="middle" font-size="11">{heading}</text>',
    ]
    for part in found["bins"]:
        if part["count"]:
            left, top = x(part["from"]), y(part["right"])
            parts += [
                f'<rect x="{left + 1}" y="{top}" width="{step - 2}" height="{round(y(0) - top, 1)}" fill="#8ab4d8"/>',
                f'<text x="{left + step / 2}" y="{top - 3}" text-anchor="middle">{part["count"]}</text>',
                f'<circle cx="{x(part["score"])}" cy="{top}" r="3" fill="#c0504d"/>',
            ]
    parts += [
        f'<path d="M{x(0)} {y(1)}V{y(0)}H{x(1)}" fill="none" stroke="#222"/>',
        f'<path d="M{x(0)} {y(0)}L{x(1)} {y(1)}" stroke="#222" stroke-dasharray="4"/>',
    ]
    for value in (0, 0.5, 1):
        parts += [
            f'<text x="{x(value)}" y="{y(0) + 12}" text-anchor="middle">{value:g}</text>',
            f'<text x="{x(0) - 4}" y="{y(value) + 3}" text-anchor="end">{value:g}</text>',
        ]
    parts += [
        f'<text x="{x(0.5)}" y="{y(0) + 26}" text-anchor="middle">score</text>',
        f'<text transform="translate(12 {y(0.5)}) rotate(-90)" text-anchor="middle">share right</text>',
    ]
    return "\n".join(parts) + "\n</svg>\n"
