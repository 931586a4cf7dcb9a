"""How far a metric could be off because these pictures were drawn and not others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


class Difference(NamedTuple):
    """A metric of the same samples under two answers, the ends of the interval of b - a, and how often b is better."""

    a: float
    b: float
    difference: float  # b - a
    low: float
    high: float
    better: float  # share of draws in which b's value is above a's


def intervals(
    ratios: Mapping[str, Ratio], groups: np.ndarray, *, draws: int = DRAWS, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of metrics of the same N samples, resampled by group.

    Sentences about one picture fall and stand together, so pictures are drawn with replacement and bring all their
    samples: `groups` (N,) names each sample's picture. Each draw divides the resampled sum of numerators by that of
    denominators. All metrics see the same draws. A draw in which a denominator is zero is left out of that metric's
    interval; from fewer than two pictures there is no interval (NaN).
    """
    drawn = _resampled(ratios.values(), groups, draws, level, seed)
    return {
        name: Interval(ratio.value, *_ends(values, level))
        for (name, ratio), values in zip(ratios.items(), drawn, strict=True)
    }


def differences(
    a: Mapping[str, Ratio],
    b: Mapping[str, Ratio],
    groups: np.ndarray,
    *,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """As `intervals`, of the differences b - a of the metrics both have: paired, each draw has the same pictures for
    both.

    What the two find easy or hard alike cancels, so a difference can be sure where the two intervals overlap. NaN as
    in `intervals`.
    """
    names = [name for name in a if name in b]
    drawn = _resampled([ratio for name in names for ratio in (a[name], b[name])], groups, draws, level, seed)
    result = {}
    for name, of_a, of_b in zip(names, drawn[0::2], drawn[1::2], strict=True):
        change = of_b - of_a
        change = change[~np.isnan(change)]
        better = float(np.mean(change > 0)) if len(change) else float("nan")
        values = a[name].value, b[name].value
        result[name] = Difference(*values, values[1] - values[0], *_ends(change, level), better)
    return result


def _resampled(ratios: Collection[Ratio], groups: np.ndarray, draws: int, level: float, seed: int) -> list[np.ndarray]:
    """The values of each ratio in the draws, NaN where its denominator is zero; none from fewer than two groups."""
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level must lie between 0 and 1 and draws be positive, not {level} and {draws}")
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    if count < 2 or not len(ratios):
        return [np.empty(0) for _ in ratios]
    terms = [term for ratio in ratios for term in (ratio.numerator, ratio.denominator)]
    sums_GT = np.stack([np.bincount(group, weights=term, minlength=count) for term in terms], axis=1)
    resampled = _resampled_sums(sums_GT, draws, np.random.default_rng(seed))
    numerator, denominator = resampled[:, 0::2], resampled[:, 1::2]
    return list(np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0).T)


def _ends(values: np.ndarray, level: float) -> tuple[float, float]:
    """The middle `level` of the values that are numbers; NaN without any."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


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
