"""Losses against naive references, and that the parts of a step add up to it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jmceln_core.config import ConfigError, DistilConfig, LossConfig, ModelConfig
from jmceln_core.data.dataset import Batch
from jmceln_core.model import Prediction
from jmceln_core.training.losses import (
    TERMS,
    Lesson,
    check,
    contrast_loss,
    counts,
    cross_entropy,
    dice_loss,
    distillation_loss,
    focal_loss,
    grounding_loss,
    soft_mask_loss,
)

EVERYTHING = LossConfig(1.5, 0.7, 2.0, 0.3, 0.5, 2.0, 3.0, 4.0, 5.0)
HEADLESS = replace(EVERYTHING, presence=0.0)  # sentences that mean nothing teach an empty mask
EVERY_ANSWER = DistilConfig("teacher", mask=1.5, coarse=0.7, presence=2.0)
B, S, K, SIDE, COARSE = 3, 4, 3, 16, 4


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_batch(seed: int = 0) -> Batch:
    """B pictures with S sentences and K instances at random; 7 of the 12 sentences mean something."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((B, S, K), bool)
    for b, s, k in ((0, 0, 0), (0, 1, 1), (0, 1, 2), (0, 2, 2), (0, 3, 0), (1, 1, 1), (2, 0, 2), (2, 3, 1)):
        targets[b, s, k] = True
    present = targets.any(-1)
    truth = rng.integers(0, 256, (B, S, SIDE, SIDE)) * present[..., None, None]
    instances = rng.integers(0, 256, (B, K, 2 * COARSE, 2 * COARSE))
    instances[1, 0] = 0  # covers nothing
    rivals = (rng.random((B, S, K)) < 0.7) | targets
    return Batch(
        torch.zeros(B, 3, 1, 1, dtype=torch.uint8),
        (),
        ["thing"] * (B * S),
        torch.from_numpy(truth.astype(np.uint8)),
        torch.from_numpy(present),
        torch.from_numpy(instances.astype(np.uint8)),
        torch.from_numpy(targets),
        torch.from_numpy(rivals),
    )


def make_prediction(dense: int = S, *, dtype: torch.dtype = torch.float64) -> Prediction:
    """Of two stages, the first before `dense` cuts the sentences."""
    n = B * dense
    shapes = ((n, 2, SIDE, SIDE), (B * S, COARSE, COARSE), (n, COARSE, COARSE), (n,), (n,))
    logits, first, second, presence, iou = (random(*shape, seed=i).to(dtype) for i, shape in enumerate(shapes))
    return Prediction(logits, [first, second], presence, iou, None)


def part_of(batch: Batch, pictures: list[int]) -> Batch:
    names = ("images", "truth", "present", "instances", "targets", "rivals")
    return batch._replace(**{name: getattr(batch, name)[pictures] for name in names})


def naive(prediction: Prediction, batch: Batch, config: LossConfig) -> dict[str, float]:
    """Every term, pixel by pixel and sentence by sentence."""
    sums = dict.fromkeys(TERMS, 0.0)
    dense = len(prediction.logits) // B
    teach = batch.present | (config.presence == 0)
    taught = {limit: sum(bool(teach[b, s]) for b in range(B) for s in range(limit)) for limit in (dense, S)}
    meant = {limit: sum(bool(batch.present[b, s]) for b in range(B) for s in range(limit)) for limit in (dense, S)}

    def dice(p: np.ndarray, t: np.ndarray) -> float:
        return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)

    for b in range(B):
        for s in range(dense):
            n = b * dense + s
            there = bool(batch.present[b, s])
            right = sigmoid(float(prediction.presence[n])) if there else 1 - sigmoid(float(prediction.presence[n]))
            sums["presence"] -= math.log(right) / (B * dense)
            if not teach[b, s]:
                continue
            truth = batch.truth[b, s].numpy() / 255 > 0.5
            p = np.exp(prediction.logits[n].numpy())
            p = p[1] / p.sum(0)
            true = np.where(truth, p, 1 - p)
            alpha = np.where(truth, config.focal_alpha, 1 - config.focal_alpha)
            sums["cross_entropy"] += -np.log(true).mean() / taught[dense]
            sums["focal"] += -(alpha * (1 - true) ** config.focal_gamma * np.log(true)).mean() / taught[dense]
            sums["dice"] += dice(p, truth) / taught[dense]
            iou = (truth & (p > 0.5)).sum() / (truth | (p > 0.5)).sum()
            q = sigmoid(float(prediction.iou[n]))
            sums["iou"] -= (iou * math.log(q) + (1 - iou) * math.log(1 - q)) / taught[dense]
    for coarse in prediction.coarse:
        limit = len(coarse) // B
        for b in range(B):
            covers = (batch.instances[b].numpy() / 255).reshape(K, COARSE, 2, COARSE, 2).mean((2, 4))
            for s in range(limit):
                if not teach[b, s]:
                    continue
                x = coarse[b * limit + s].numpy()
                p = 1 / (1 + np.exp(-x))
                step = SIDE // COARSE
                t = (batch.truth[b, s].numpy() / 255).reshape(COARSE, step, COARSE, step).mean((1, 3))
                pixel = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
                sums["coarse"] += (pixel + dice(p, t)) / taught[limit] / len(prediction.coarse)
                if not batch.present[b, s]:
                    continue
                means = {
                    k: (x * covers[k]).sum() / covers[k].sum()
                    for k in range(K)
                    if batch.rivals[b, s, k] and covers[k].sum() > 0
                }
                share = sum(math.exp(m) for k, m in means.items() if batch.targets[b, s, k])
                share /= sum(math.exp(m) for m in means.values())
                sums["contrast"] -= math.log(share) / meant[limit] / len(prediction.coarse)
    return {name: value for name, value in sums.items() if getattr(config, name)}


@pytest.mark.parametrize("config", [EVERYTHING, HEADLESS], ids=["every term", "no presence"])
@pytest.mark.parametrize("dense", [1, 2, S])
def test_every_term_is_its_definition(dense: int, config: LossConfig) -> None:
    batch, prediction = make_batch(), make_prediction(dense)
    total, terms = grounding_loss(prediction, batch, config)
    expected = naive(prediction, batch, config)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-9), name
    assert float(total) == pytest.approx(sum(getattr(config, k) * v for k, v in expected.items()), rel=1e-9)


def test_dice_loss_is_its_definition() -> None:
    logits, target = random(3, 5, 7), (random(3, 5, 7, seed=1) > 0.3).double()
    for n, loss in enumerate(dice_loss(logits, target)):
        both = first = second = 0.0
        for y in range(5):
            for x in range(7):
                p = sigmoid(float(logits[n, y, x]))
                both, first, second = both + p * float(target[n, y, x]), first + p, second + float(target[n, y, x])
        assert float(loss) == pytest.approx(1 - (2 * both + 1) / (first + second + 1), abs=1e-12)


def test_cross_entropy_is_pytorchs_on_two_classes() -> None:
    logits, truth = 3 * random(3, 2, 5, 7), random(3, 5, 7, seed=1) > 0.3
    expected = F.cross_entropy(logits, truth.long(), reduction="none").mean((1, 2))
    torch.testing.assert_close(cross_entropy(logits[:, 1] - logits[:, 0], truth), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_forgets_what_is_sure_and_stays_finite(gamma: float) -> None:
    truth = torch.tensor([[[True, True, False, False]]])
    logits = torch.tensor([[[200.0, -200.0, -200.0, 200.0]]], dtype=torch.float32, requires_grad=True)
    loss = focal_loss(logits, truth, gamma=gamma, alpha=0.25)
    assert loss.item() == pytest.approx((0.25 * 200 + 0.75 * 200) / 4)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(logits.grad, torch.tensor([[[0, -0.0625, 0, 0.1875]]]))


def test_the_focal_loss_without_focus_is_half_the_cross_entropy() -> None:
    logits, truth = random(2, 5, 7), random(2, 5, 7, seed=1) > 0
    torch.testing.assert_close(
        focal_loss(logits, truth, gamma=0.0, alpha=0.5), cross_entropy(logits, truth) / 2, rtol=1e-12, atol=0
    )


def test_contrast_loss_is_a_softmax_over_mean_logits_of_the_rivals() -> None:
    logits, masks = random(1, 2, 4, 4), random(1, 5, 4, 4, seed=1).abs().clamp(max=1)
    masks[0, 3] = 0  # covers nothing: no rival
    targets = torch.tensor([[[0, 1, 0, 0, 0], [1, 0, 0, 0, 1]]], dtype=torch.bool)
    rivals = torch.tensor([[[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]]], dtype=torch.bool)
    for n, loss in enumerate(contrast_loss(logits, masks, targets, rivals)[0]):
        means = {
            k: float((logits[0, n] * masks[0, k]).sum() / masks[0, k].sum())
            for k in range(5)
            if rivals[0, n, k] and masks[0, k].sum() > 0
        }
        total = sum(math.exp(m) for m in means.values())
        meant = sum(math.exp(m) for k, m in means.items() if targets[0, n, k])
        assert float(loss) == pytest.approx(-math.log(meant / total), abs=1e-9)


@pytest.mark.parametrize("instances", [0, 3])
def test_a_sentence_without_target_adds_no_contrast_and_a_finite_gradient(instances: int) -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    masks, targets = torch.rand(1, instances, 4, 4), torch.zeros(1, 2, instances, dtype=torch.bool)
    targets[:, 1, :1] = True
    loss = contrast_loss(logits, masks, targets, torch.ones(1, 2, instances, dtype=torch.bool))
    assert loss[0, 0] == 0
    assert (loss[0, 1] > 0) == (instances > 0)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[0, 0] == 0).all()


@pytest.mark.parametrize("config", [EVERYTHING, HEADLESS], ids=["every term", "no presence"])
@pytest.mark.parametrize("dense", [2, S])
@pytest.mark.parametrize("parts", [[[0], [1, 2]], [[2], [0], [1]]])
def test_the_parts_of_a_step_add_up_to_it(dense: int, parts: list[list[int]], config: LossConfig) -> None:
    """Values and gradients, though the parts have unequal numbers of sentences without a target."""
    batch, whole = make_batch(), make_prediction(dense)

    def leaves(prediction: Prediction) -> list[Tensor]:
        assert prediction.presence is not None
        assert prediction.iou is not None
        return [
            prediction.logits,
            *prediction.coarse,
            prediction.iou,
            *([prediction.presence] if config.presence else []),
        ]

    for x in leaves(whole):
        x.requires_grad_()
    total, terms = grounding_loss(whole, batch, config)
    total.backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in leaves(whole))

    numbers = torch.stack([counts(part_of(batch, part), dense) for part in parts]).sum(0)
    torch.testing.assert_close(numbers, counts(batch, dense))
    summed, sum_of = 0.0, dict.fromkeys(terms, 0.0)
    for part in parts:
        pieces = [x.detach().unflatten(0, (B, -1))[part].flatten(0, 1).requires_grad_() for x in leaves(whole)]
        prediction = Prediction(pieces[0], pieces[1:3], pieces[4] if config.presence else None, pieces[3], None)
        loss, own = grounding_loss(prediction, part_of(batch, part), config, numbers)
        loss.backward()
        summed += loss.item()
        for name, value in own.items():
            sum_of[name] += value.item()
        for piece, x in zip(pieces, leaves(whole), strict=True):
            assert x.grad is not None
            torch.testing.assert_close(piece.grad, x.grad.unflatten(0, (B, -1))[part].flatten(0, 1))
    assert summed == pytest.approx(total.item(), rel=1e-12)
    for name, value in terms.items():
        assert sum_of[name] == pytest.approx(value.item(), rel=1e-12), name


def test_counts() -> None:
    batch = make_batch()
    assert counts(batch).tolist() == [7, 7, 12, 12]
    for dense, further in ((1, 2), (2, 4), (3, 5), (0, 7), (None, 7)):
        assert counts(batch, dense).tolist() == [further, 7, B * (dense or S), B * S]


def test_what_an_absent_sentence_shows_counts_for_presence_alone() -> None:
    batch, prediction = make_batch(), make_prediction()
    _, before = grounding_loss(prediction, batch, EVERYTHING)
    absent = ~batch.present.flatten()
    for x in (prediction.logits, *prediction.coarse, prediction.presence, prediction.iou):
        assert x is not None
        x[absent] += 5
    _, after = grounding_loss(prediction, batch, EVERYTHING)
    assert {name for name in TERMS if before[name] != after[name]} == {"presence"}


def test_without_presence_an_absent_sentence_teaches_an_empty_mask() -> None:
    """The paper's loss, cross-entropy alone."""
    batch, prediction = make_batch(), make_prediction()
    prediction.logits.requires_grad_()
    total, _ = grounding_loss(prediction, batch, LossConfig())
    total.backward()
    assert prediction.logits.grad is not None
    down = prediction.logits.grad[~batch.present.flatten()]
    assert (down[:, 1] > 0).all()  # every pixel's probability is pushed down
    assert (down[:, 0] < 0).all()


def test_a_batch_of_absent_sentences_has_a_finite_loss_and_gradient() -> None:
    batch, prediction = make_batch(), make_prediction()
    for x in (prediction.logits, *prediction.coarse):
        x.requires_grad_()
    nothing = batch._replace(present=torch.zeros_like(batch.present), targets=torch.zeros_like(batch.targets))
    total, terms = grounding_loss(prediction, nothing, EVERYTHING)
    assert {name for name, value in terms.items() if value != 0} == {"presence"}
    total.backward()
    assert all((x.grad == 0).all() for x in (prediction.logits, *prediction.coarse))


@pytest.mark.parametrize("name", TERMS)
def test_a_term_alone_needs_nothing_of_the_others(name: str) -> None:
    """A model without coarse masks or heads, a batch without instances: only what the term reads."""
    batch, prediction = make_batch(), make_prediction()
    if name != "contrast":
        batch = batch._replace(**{k: getattr(batch, k)[..., :0] for k in ("instances", "targets", "rivals")})
    if name not in ("coarse", "contrast"):
        prediction = prediction._replace(coarse=[])
    prediction = prediction._replace(**{k: None for k in ("presence", "iou") if k != name})
    alone = replace(LossConfig(cross_entropy=0), **{name: 2.0})
    total, terms = grounding_loss(prediction, batch, alone)
    assert terms.keys() == {name}
    assert not terms[name].requires_grad
    assert float(total) == pytest.approx(2 * naive(make_prediction(), make_batch(), alone)[name], rel=1e-9)


def test_half_precision_is_computed_in_float32() -> None:
    batch, prediction = make_batch(), make_prediction(dtype=torch.bfloat16)
    exact = prediction._replace(
        logits=prediction.logits.double(),
        coarse=[x.double() for x in prediction.coarse],
        presence=prediction.presence.double(),  # type: ignore[union-attr]
        iou=prediction.iou.double(),  # type: ignore[union-attr]
    )
    with torch.autocast("cpu", torch.bfloat16):
        total, terms = grounding_loss(prediction, batch, EVERYTHING)
    assert total.dtype == torch.float32
    for name, value in grounding_loss(exact, batch, EVERYTHING)[1].items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize(
    ("loss", "model", "named"),
    [
        ({"coarse": 1}, {}, "deep_supervision=true"),
        ({"contrast": 1}, {}, "deep_supervision=true"),
        ({"coarse": 1}, {"deep_supervision": True, "cascade": False}, "cascade=true"),  # no stage, no coarse mask
        ({"presence": 1}, {"iou_head": True}, "presence_head=true"),
        ({"iou": 1}, {"presence_head": True}, "iou_head=true"),
        ({"dice": -1}, {}, "loss.dice=-1: must be at least 0"),
        ({"cross_entropy": 0}, {}, "all weights"),
        ({"focal": 1, "focal_gamma": -1}, {}, "focal_gamma"),
        ({"focal": 1, "focal_alpha": 2}, {}, "focal_alpha"),
    ],
)
def test_a_loss_the_model_cannot_have_is_refused(loss: dict[str, float], model: dict[str, bool], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check(LossConfig(**loss), ModelConfig(**model))


def test_a_loss_the_model_can_have_is_accepted() -> None:
    check(LossConfig(), ModelConfig())
    check(EVERYTHING, ModelConfig(deep_supervision=True, presence_head=True, iou_head=True))


def make_lesson(batch: Batch, dense: int = S) -> Lesson:
    """A teacher's answers at twice the side: near the truth, but at random for every third sentence; presences too."""
    truth = batch.truth[:, :dense].flatten(0, 1).double() / 255
    near = truth.repeat_interleave(2, 1).repeat_interleave(2, 2) + 0.3 * random(len(truth), 2 * SIDE, 2 * SIDE, seed=7)
    near[::3] = random(*near[::3].shape, seed=8).sigmoid()
    return Lesson(near.clamp(0.01, 0.99), random(len(truth), seed=9).sigmoid())


def naive_distances(prediction: Prediction, lesson: Lesson, batch: Batch) -> dict[str, float]:
    """Every term, sentence by sentence."""
    sums = dict.fromkeys(("distil_trusted", "distil_mask", "distil_coarse", "distil_presence"), 0.0)
    dense = len(prediction.logits) // B
    meant = int(batch.present[:, :dense].sum())

    def averaged(x: np.ndarray, side: int) -> np.ndarray:
        step = len(x) // side
        return x.reshape(side, step, side, step).mean((1, 3))

    def distance(x: np.ndarray, t: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-x))
        pixel = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
        return pixel + abs(p - t).sum() / (p.sum() + t.sum() + 1)

    for b in range(B):
        for s in range(dense):
            n = b * dense + s
            x, t, there = float(prediction.presence[n]), float(lesson.presence[n]), bool(batch.present[b, s])
            if (t > 0.5) == there:
                right = t * math.log(sigmoid(x)) + (1 - t) * math.log(1 - sigmoid(x))
                sums["distil_presence"] -= right / (B * dense)
            truth = batch.truth[b, s].numpy() / 255 > 0.5
            taught = averaged(lesson.mask[n].numpy(), SIDE)
            if not there or (truth & (taught > 0.5)).sum() < 0.5 * (truth | (taught > 0.5)).sum():
                continue
            logits = prediction.logits[n].numpy()
            sums["distil_trusted"] += 1 / meant
            sums["distil_mask"] += distance(logits[1] - logits[0], taught) / meant
            for coarse in prediction.coarse:
                x_hw = coarse[b * (len(coarse) // B) + s].numpy()
                goal = averaged(lesson.mask[n].numpy(), COARSE)
                sums["distil_coarse"] += distance(x_hw, goal) / meant / len(prediction.coarse)
    return sums


@pytest.mark.parametrize("dense", [1, 2, S])
def test_every_distance_from_a_teacher_is_its_definition(dense: int) -> None:
    batch, prediction = make_batch(), make_prediction(dense)
    lesson = make_lesson(batch, dense)
    total, terms = distillation_loss(prediction, lesson, batch, EVERY_ANSWER)
    expected = naive_distances(prediction, lesson, batch)
    assert 0 < expected["distil_trusted"] < 1
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-9), name
    weighted = {
        name: getattr(EVERY_ANSWER, name) * expected[f"distil_{name}"] for name in ("mask", "coarse", "presence")
    }
    assert float(total) == pytest.approx(sum(weighted.values()), rel=1e-9)
    for name, value in weighted.items():  # alone, it is the same
        alone = DistilConfig("teacher", **{name: getattr(EVERY_ANSWER, name)})
        assert float(distillation_loss(prediction, lesson, batch, alone)[0]) == pytest.approx(value, rel=1e-9)


def test_the_distance_from_probabilities_is_least_at_them_and_that_from_a_mask_where_they_are_0_or_1() -> None:
    target = random(3, 5, 7).sigmoid()
    at_them = soft_mask_loss(target.logit(), target)
    entropy = -(target * target.log() + (1 - target) * (1 - target).log()).mean((1, 2))
    torch.testing.assert_close(at_them, entropy)
    for seed in range(1, 20):
        other = target.logit() + 0.01 * random(3, 5, 7, seed=seed)
        assert (soft_mask_loss(other, target) > at_them).all()
    logits, truth = random(3, 5, 7, seed=1), random(3, 5, 7, seed=2) > 0.3
    expected = cross_entropy(logits, truth) + dice_loss(logits, truth.double())
    torch.testing.assert_close(soft_mask_loss(logits, truth.double()), expected)


@pytest.mark.parametrize("parts", [[[0], [1, 2]], [[2], [0], [1]]])
def test_the_distances_of_a_steps_parts_add_up_to_its(parts: list[list[int]]) -> None:
    """Values and gradients, though the parts have unequal numbers of sentences that count."""
    batch, dense = make_batch(), 2
    lesson, whole = make_lesson(batch, dense), make_prediction(dense)
    assert lesson.presence is not None
    assert whole.presence is not None
    leaves = [whole.logits, *whole.coarse, whole.presence]
    for x in leaves:
        x.requires_grad_()
    total, terms = distillation_loss(whole, lesson, batch, EVERY_ANSWER)
    total.backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in leaves)
    numbers = torch.stack([counts(part_of(batch, part), dense) for part in parts]).sum(0)
    summed, sum_of = 0.0, dict.fromkeys(terms, 0.0)
    for part in parts:

        def own(x: Tensor, part: list[int] = part) -> Tensor:
            return x.detach().unflatten(0, (B, -1))[part].flatten(0, 1)

        pieces = [own(x).requires_grad_() for x in leaves]
        prediction = Prediction(pieces[0], pieces[1:3], pieces[3], None, None)
        of_part = Lesson(own(lesson.mask), own(lesson.presence))
        loss, found = distillation_loss(prediction, of_part, part_of(batch, part), EVERY_ANSWER, numbers)
        loss.backward()
        summed += loss.item()
        for name, value in found.items():
            sum_of[name] += value.item()
        for piece, x in zip(pieces, leaves, strict=True):
            assert x.grad is not None
            torch.testing.assert_close(piece.grad, own(x.grad))
    assert summed == pytest.approx(total.item(), rel=1e-12)
    for name, value in terms.items():
        assert sum_of[name] == pytest.approx(value.item(), rel=1e-12), name


def test_a_teacher_whom_the_truth_contradicts_teaches_nothing() -> None:
    batch, prediction = make_batch(), make_prediction()
    for x in (prediction.logits, *prediction.coarse, prediction.presence):
        assert x is not None
        x.requires_grad_()
    right = batch.truth.flatten(0, 1) > 127
    wrong = Lesson((~right).double(), 1 - batch.present.flatten().double())
    total, terms = distillation_loss(prediction, wrong, batch, EVERY_ANSWER)
    assert all(value == 0 for value in terms.values())
    total.backward()
    assert prediction.logits.grad is not None
    assert (prediction.logits.grad == 0).all()


def test_distances_of_half_precision_are_computed_in_float32() -> None:
    batch, prediction = make_batch(), make_prediction(dtype=torch.bfloat16)
    lesson = make_lesson(batch)
    assert prediction.presence is not None
    exact = prediction._replace(
        logits=prediction.logits.double(),
        coarse=[x.double() for x in prediction.coarse],
        presence=prediction.presence.double(),
    )
    with torch.autocast("cpu", torch.bfloat16):
        total, terms = distillation_loss(prediction, Lesson(*(x.float() for x in lesson)), batch, EVERY_ANSWER)
    assert total.dtype == torch.float32
    for name, value in distillation_loss(exact, lesson, batch, EVERY_ANSWER)[1].items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"teacher": "bundled"}, r"distil\.teacher=bundled teaches nothing: .*distil\.presence"),
        ({"mask": 1.0, "coarse": 0.5}, r"distil\.mask=1\.0, distil\.coarse=0\.5 without a teacher"),
        ({"teacher": "bundled", "mask": -1.0}, r"distil\.mask=-1\.0"),
        ({"teacher": "bundled", "coarse": math.nan}, r"distil\.coarse=nan"),
        ({"teacher": "bundled", "presence": math.inf}, r"distil\.presence=inf"),
    ],
)
def test_a_teacher_without_weights_weights_without_a_teacher_and_bad_weights_are_refused(
    fields: dict, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        DistilConfig(**fields)
