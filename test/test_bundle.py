"""The thresholds of a bundled checkpoint: chosen as their rules say."""

from __future__ import annotations

import numpy as np
import pytest

from jmceln_core.config import DecisionConfig
from jmceln_core.segmenter import RawAnswer
from jmceln_core.training.bundle import ACCEPTED, Observation, choose

TRUTH = np.zeros((20, 20), bool)
TRUTH[5:15, 5:15] = True


def seen(inside: float, around: float, presence: float | None, *, right: bool = True) -> Observation:
    """A map that is `inside` on the target (or, wrongly, on a far corner), `around` one pixel about it, 0 elsewhere."""
    probability = np.zeros((20, 20), np.float32)
    if right:
        probability[4:16, 4:16] = around
        probability[TRUTH] = inside
    else:
        probability[:4, :4] = inside
    return Observation(RawAnswer(probability, presence, None), TRUTH)


def test_the_mask_threshold_is_the_one_of_best_miou() -> None:
    # everything above .32 loses the target, everything below .22 takes its surroundings along
    decision, found = choose([seen(0.32, 0.22, None) for _ in range(5)], DecisionConfig())
    assert decision.mask in (0.25, 0.3)
    assert found["mIoU"] == pytest.approx(1.0)
    assert found["mIoU at 0.5"] == 0.0
    assert decision.present == DecisionConfig().present  # no presence head: left alone


def test_presence_accepts_the_promised_share_of_targets_and_rejects_below() -> None:
    targets = [seen(0.9, 0.0, presence) for presence in np.linspace(0.5, 1.0, 200)]
    absent = [Observation(RawAnswer(np.zeros((20, 20), np.float32), p, None), None) for p in (0.1, 0.2, 0.9, 0.95)]
    decision, found = choose(targets + absent, DecisionConfig())
    assert found["accepted"] == pytest.approx(ACCEPTED, abs=0.01)
    assert found["accepted"] >= ACCEPTED
    assert 0.5 < decision.present < 0.55
    assert found["absent rejected"] == 0.5


def test_confident_separates_right_answers_from_wrong_ones() -> None:
    wrong = [seen(p, 0.0, None, right=False) for p in np.linspace(0.61, 0.70, 20)]
    good = [seen(p, 0.0, None) for p in np.linspace(0.75, 0.95, 20)]
    decision, found = choose(wrong + good, DecisionConfig())
    assert 0.70 < decision.confident <= 0.7501
    assert found["confident share"] == 0.5
    assert found["confident and right"] == 1.0
