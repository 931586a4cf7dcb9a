"""The thresholds of a bundled checkpoint: chosen as their rules say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jmceln_core.answer import RawAnswer, decide
from jmceln_core.config import DataConfig, DecisionConfig, ModelConfig, from_dict
from jmceln_core.data.dataset import SampleBuilder, StepDataset
from jmceln_core.data.grounding import Expression, GroundingData, read_coco
from jmceln_core.model import build_model
from jmceln_core.model.switch_norm import SwitchNorm
from jmceln_core.training.bundle import (
    ACCEPTED,
    Observation,
    calibrate,
    choose,
    choose_present,
    observe,
    take_statistics,
)
from support import discs

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
    assert 0.2 < decision.present <= 0.5  # higher would deny targets and reject no more
    assert (found["accepted"], found["absent rejected"]) == (1.0, 0.5)


def test_presence_weighs_both_errors_within_the_promised_share() -> None:
    one, several = np.linspace(0.5, 1.0, 200), np.linspace(0.4, 1.0, 100)
    # the third quarter of what is not there lies among the lowest of what is: worth one of a hundred
    assert choose_present(one, several, np.array([0.1, 0.2, 0.405, 0.9])) == pytest.approx(0.4061, abs=1e-3)
    # but not more than one part in 50 of either kind, whatever it would reject
    highest = choose_present(one, several, np.full(1000, 0.7))
    assert np.mean(several >= highest) >= ACCEPTED
    assert np.mean(one >= highest) >= ACCEPTED
    # naive: every threshold that keeps the share, by its errors
    every = np.unique(np.r_[one, several, 0.45])
    tried = [t for t in every if min(np.mean(one >= t), np.mean(several >= t)) >= ACCEPTED]
    wrong = [(np.mean(one < t) + np.mean(several < t)) / 2 + np.mean(np.array([0.45]) >= t) for t in tried]
    assert choose_present(one, several, np.array([0.45])) == tried[int(np.argmin(wrong))]


def test_confident_separates_right_answers_from_wrong_ones() -> None:
    wrong = [seen(p, 0.0, None, right=False) for p in np.linspace(0.61, 0.70, 20)]
    good = [seen(p, 0.0, None) for p in np.linspace(0.75, 0.95, 20)]
    decision, found = choose(wrong + good, DecisionConfig())
    scores = [decide(o.raw, decision).score for o in wrong + good]
    assert max(scores[:20]) < decision.confident <= min(scores[20:])
    assert found["confident share"] == 0.5
    assert found["confident and right"] == 1.0


def pair(second: int, *, several: bool) -> Observation:
    """Two sure blobs, the second one of so many columns of the first one's ten."""
    probability, truth = np.zeros((20, 30), np.float32), np.zeros((20, 30), bool)
    probability[5:15, 2:12] = probability[5:15, 15 : 15 + second] = 0.9
    truth[5:15, 2:12] = True
    return Observation(RawAnswer(probability, None, None), truth, several)


def test_ambiguous_tells_sentences_about_several_things_from_others() -> None:
    one = [pair(second, several=False) for second in (0, 1, 3, 4)]
    decision, found = choose(one + [pair(second, several=True) for second in (6, 8, 10)], DecisionConfig())
    assert decision.ambiguous in (0.4, 0.5)
    assert (found["ambiguous of several"], found["ambiguous of single"]) == (1.0, 0.0)
    assert found["sentences"] == 4
    assert choose(one, DecisionConfig())[0].ambiguous == DecisionConfig().ambiguous  # no such sentences: left alone


def test_calibration_finds_the_curve_that_the_answers_follow() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.3, 0.99, 20_000)
    chance = 1 / (1 + np.exp(-2.0 * np.log(scores / (1 - scores)) + 3.0))
    slope, offset = calibrate(scores.tolist(), (rng.random(len(scores)) < chance).tolist())
    assert slope == pytest.approx(2.0, abs=0.1)
    assert offset == pytest.approx(-3.0, abs=0.15)


@pytest.mark.parametrize(
    "answers", [[(0.9, True), (0.5, True)], [(0.9, False)], [(s, s < 0.5) for s in np.linspace(0.1, 0.9, 50)]]
)
def test_calibration_leaves_the_score_where_one_cannot_tell(answers) -> None:
    assert calibrate(*zip(*answers, strict=True)) == (1.0, 0.0)


def test_the_chosen_decision_is_calibrated_with_answers_to_what_is_not_there_as_wrong_ones() -> None:
    right = [seen(p, 0.0, 0.9) for p in np.linspace(0.6, 0.95, 30)]
    absent = [Observation(o.raw, None) for o in right]  # half of the answers are wrong, whatever the score
    decision, _ = choose(right + absent, DecisionConfig())
    scores = [decide(o.raw, decision).score for o in right]
    assert np.mean(scores) == pytest.approx(0.5, abs=0.02)
    assert np.ptp(scores) < 0.1


def test_statistics_are_the_mean_over_the_batches(tmp_path: Path) -> None:
    """Against the inputs of every SwitchNorm, caught on their way in."""
    torch.manual_seed(0)
    config = from_dict(ModelConfig, discs.MODEL)
    model = build_model(config)
    data = read_coco(discs.build(tmp_path) / "discs", "train")
    builder = SampleBuilder(DataConfig(sampling="sentence"), config.image_size, config.mask_size)
    steps = StepDataset(data, builder, images=2, sentences=3, seed=0)
    batches = [steps[i][0] for i in range(3)]
    norms = [module for module in model.modules() if isinstance(module, SwitchNorm)]
    assert norms
    inputs: list[list[torch.Tensor]] = [[] for _ in norms]
    hooks = [
        norm.register_forward_pre_hook(lambda _, x, kept=kept: kept.append(x[0]))
        for norm, kept in zip(norms, inputs, strict=True)
    ]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_statistics(model, batches)
    for hook in hooks:
        hook.remove()
    assert not model.training
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var"}
    for norm, kept in zip(norms, inputs, strict=True):
        assert norm.momentum == 0.1
        pixels = [x.transpose(0, 1).flatten(1).double() for x in kept]
        mean = torch.stack([x.mean(1) for x in pixels]).mean(0)
        variance = torch.stack([x.var(1, correction=0) for x in pixels]).mean(0)
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)


def test_what_is_observed_of_a_picture_is_spread_over_its_sentences(tmp_path: Path) -> None:
    """Rule-made sentences stand behind the written ones: bare names must have their say in `present`."""

    class Raw:
        asked: list[str]

        def set_image(self, rgb: np.ndarray) -> None:
            self.size = rgb.shape[:2]

        def raw(self, texts: list[str]) -> list[RawAnswer]:
            self.asked = texts
            return [RawAnswer(np.zeros(self.size, np.float32), 0.5, None) for _ in texts]

    data = read_coco(discs.build(tmp_path, pictures=1) / "discs", "train")
    picture = next(iter(data.pictures.values()))
    one = [Expression(picture.id, (picture.instances[0].id,), f"sentence {k}") for k in range(25)]
    none = [Expression(picture.id, (), f"nothing {k}") for k in range(3)]
    segmenter = Raw()
    seen = observe(segmenter, GroundingData({picture.id: picture}, one + none), per_picture=12)  # type: ignore[arg-type]
    numbers = [int(text.split()[1]) for text in segmenter.asked if text.startswith("sentence")]
    assert (numbers[0], numbers[-1], len(numbers), len(seen)) == (0, 24, 12, 15)
    assert sum(number >= 20 for number in numbers) in (2, 3)  # their share
