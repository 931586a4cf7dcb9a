"""Reliability, shares by status, the threshold of N_acc@95."""

from __future__ import annotations

import xml.etree.ElementTree

import numpy as np
import pytest

from jmceln_core.evaluation import calibration
from jmceln_core.evaluation.metrics import acceptance_threshold


def naive_error(score, right, bins):
    """The sum over the bins as it is defined, one answer after the other."""
    total = 0.0
    for b in range(bins):
        last = b == bins - 1
        members = [i for i, s in enumerate(score) if b / bins <= s and (s < (b + 1) / bins or last)]
        if members:
            mean = sum(score[i] for i in members) / len(members)
            share = sum(bool(right[i]) for i in members) / len(members)
            total += len(members) / len(score) * abs(mean - share)
    return total


def test_reliability_against_its_definition():
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.random(200), [0.0, 1.0, 0.5]])
    right = rng.random(203) < score**2
    found = calibration.reliability(score, right)
    assert found["error"] == pytest.approx(naive_error(score, right, 10))
    assert found["answers"] == sum(part["count"] for part in found["bins"]) == 203
    assert found["bins"][-1]["to"] == 1.0


def test_a_calibrated_score_has_no_error_and_empty_bins_say_nothing():
    found = calibration.reliability(np.array([0.75] * 4), np.array([True, True, True, False]))
    assert found["error"] == 0
    assert [part["count"] for part in found["bins"]] == [0] * 7 + [4, 0, 0]
    assert found["bins"][0]["score"] is None
    assert calibration.reliability(np.array([]), np.array([]))["error"] is None


def test_shares_by_status():
    status = np.array(["found", "found", "not_present", "ambiguous"])
    found = calibration.by_status(status, np.array([True, False, True, False]))
    assert {name: ratio.value for name, ratio in found.items()} == {"found": 0.5, "not_present": 1, "ambiguous": 0}


def test_the_plot_is_well_formed_and_shows_every_bin_that_holds_answers():
    found = calibration.reliability(np.array([0.12, 0.15, 0.95]), np.array([False, False, True]))
    page = xml.etree.ElementTree.fromstring(calibration.svg(found, 'a <b> & "c"'))
    name = "{http://www.w3.org/2000/svg}"
    assert len(page.findall(f"{name}circle")) == 2
    texts = [text.text for text in page.findall(f"{name}text")]
    assert texts[0].startswith('a <b> & "c": ECE 0.')
    assert {"2", "1"} <= set(texts)
    for attribute in ("x", "y", "height"):
        assert all(float(bar.get(attribute, 0)) >= 0 for bar in page.findall(f"{name}rect"))


@pytest.mark.parametrize(
    ("count", "share", "rejected"),
    [(20, 0.95, 1), (19, 0.95, 0), (40, 0.95, 2), (39, 0.95, 1), (100, 0.9, 10), (1, 0.95, 0)],
)
def test_the_threshold_keeps_the_share_and_is_the_highest_that_does(count, share, rejected):
    rng = np.random.default_rng(1)
    confidence = rng.random(count + 7)
    has_target = np.arange(count + 7) < count
    threshold = acceptance_threshold(confidence, has_target, share)
    kept = confidence[:count] >= threshold
    assert (~kept).sum() == rejected
    assert kept.mean() >= share
    higher = confidence[:count] > threshold
    assert higher.mean() < share


def test_without_a_target_there_is_no_threshold():
    assert np.isnan(acceptance_threshold(np.array([0.5]), np.array([False]), 0.95))
