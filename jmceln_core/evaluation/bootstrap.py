"""How far a metric could be off because these pictures were drawn and not others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jmceln_core.evaluation.metrics import Ratio

DRAWS = 10_000
_CELLS = 4_000_000  # resampled counts held at once: bounds memory at 32 MB, whatever the number of pictures


class Interval(NamedTuple):
    """A metric's value and the ends of its interval. NaN where there is nothing to say."""

    value: float
    low: float
    high: float


def intervals(
    ratios: Mapping[str, Ratio], groups: np.ndarray, *, draws: int = DRAWS, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of metrics of the same N samples, resampled by group.

    Sentences about one picture fall and stand together, so pictures are drawn with replacement and bring all their
    samples: `groups` (N,) names each sample's picture. Each draw divides the resampled sum of numerators by that of
    denominators. All metrics see the same draws. A draw in which a denominator is zero is left out of that metric's
    interval; from fewer than two pictures there is no interval (NaN).
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level must lie between 0 and 1 and draws be positive, not {level} and {draws}")
    point = {name: ratio.value for name, ratio in ratios.items()}
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    if count < 2 or not ratios:
        return {name: Interval(value, float("nan"), float("nan")) for name, value in point.items()}

    terms = [term for ratio in ratios.values() for term in (ratio.numerator, ratio.denominator)]
    sums_GT = np.stack([np.bincount(group, weights=term, minlength=count) for term in terms], axis=1)
    resampled = _resampled_sums(sums_GT, draws, np.random.default_rng(seed))
    numerator, denominator = resampled[:, 0::2], resampled[:, 1::2]
    values = np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
    result = {}
    for column, (name, value) in enumerate(point.items()):
        drawn = values[:, column][~np.isnan(values[:, column])]
        low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2)) if len(drawn) else (np.nan, np.nan)
        result[name] = Interval(value, float(low), float(high))
    return result


def _resampled_sums(sums_GT: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, T): sums over G groups drawn with replacement, G at a time, of their T terms (G, T)."""
    count = len(sums_GT)
    chunk = max(1, _CELLS // count)
    chunks = []
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        drawn = rng.integers(count, size=(rows, count))
        # One bincount for all rows: row r counts in its own range of `count` bins.
        times = np.bincount((drawn + count * np.arange(rows)[:, None]).ravel(), minlength=rows * count)
        chunks.append(times.reshape(rows, count) @ sums_GT)
    return np.concatenate(chunks)
