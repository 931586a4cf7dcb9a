"""Optimiser groups, schedule and averaged weights: that each does what it says to every parameter."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from jmceln_core.config import ModelConfig, from_dict
from jmceln_core.model import JMCELN, build_model
from jmceln_core.training.optimiser import AveragedWeights, learning, parameter_groups, schedule, set_rate


def small(**switches: Any) -> JMCELN:
    fields = {
        "image_size": 64,
        "image_encoder": {"name": "tiny", "channels": 8},
        "text_encoder": {"name": "tiny", "tokens": 8},
        "channels": 8,
        "stages": 1,
        "queries": 2,
        "heads": 2,
        "window": 4,
        "dilations": [1, 2],
        "head_channels": [8, 4],
    }
    return build_model(from_dict(ModelConfig, fields | switches))


class Wrapper(nn.Module):
    """As a distributed engine or a compiler wraps a model: under another name."""

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.add_module(name, model)


def wrapped(model: nn.Module) -> nn.Module:
    return Wrapper("_forward_module", Wrapper("module", Wrapper("_orig_mod", model)))


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(
    ("encoder_lr", "decay_vectors", "names"),
    [
        (1.0, True, {"all"}),  # the paper
        (1.0, False, {"all", "all, vectors"}),
        (0.1, True, {"encoders", "decoder"}),
        (0.1, False, {"encoders", "encoders, vectors", "decoder", "decoder, vectors"}),
    ],
)
def test_groups_hold_every_learning_parameter_once(
    wrap: bool, encoder_lr: float, decay_vectors: bool, names: set[str]
) -> None:
    model = small()
    model.head.classify.weight.requires_grad_(False)
    groups = parameter_groups(
        wrapped(model) if wrap else model,
        lr=0.02,
        encoder_lr=encoder_lr,
        weight_decay=0.3,
        decay_vectors=decay_vectors,
    )
    assert {g["name"] for g in groups} == names
    held = [p for g in groups for p in g["params"]]
    assert len(held) == len({id(p) for p in held})
    assert {id(p) for p in held} == {id(p) for p in model.parameters() if p.requires_grad}
    name_of = {id(p): name for name, p in model.named_parameters()}
    for group in groups:
        assert group["params"]
        for p in group["params"]:
            in_encoder = name_of[id(p)].startswith(("image_encoder.", "text_encoder."))
            assert group["lr"] == group["initial_lr"] == pytest.approx(0.02 * (encoder_lr if in_encoder else 1))
            assert group["weight_decay"] == (0.3 if decay_vectors or p.ndim >= 2 else 0.0)
            assert group["name"].startswith({1.0: "all"}.get(encoder_lr, "encoders" if in_encoder else "decoder"))


def test_frozen_encoders_are_in_no_group_and_layers_on_top_of_them_are_the_decoders() -> None:
    model = small(
        image_size=112,
        image_encoder={"name": "dinov2_vits14", "pretrained": False, "frozen": True, "channels": 8},
        text_encoder={"name": "tiny", "frozen": True},
    )
    (group,) = parameter_groups(model, lr=1.0, encoder_lr=0.1)
    assert group["name"] == "decoder"
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters() if p.requires_grad}
    assert any(id(p) in {id(q) for q in group["params"]} for p in model.image_encoder.parameters())


def test_an_encoders_rate_without_encoders_is_refused() -> None:
    with pytest.raises(ValueError, match="no encoders"):
        parameter_groups(nn.Linear(2, 2), lr=1.0, encoder_lr=0.5)


def test_rates_and_decay_really_differ_after_a_step() -> None:
    """AdamW's first step moves every weight by lr, whatever its gradient, and shrinks it by lr * decay before."""
    model = small().double()
    lr, decay, factor = 1e-3, 0.5, 0.25
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups = parameter_groups(model, lr=lr, encoder_lr=0.1, weight_decay=decay, decay_vectors=False)
    optimiser = torch.optim.AdamW(groups, lr=lr, eps=0.0)
    set_rate(optimiser, factor)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    for name, p in model.named_parameters():
        rate = lr * factor * (0.1 if name.startswith(("image_encoder.", "text_encoder.")) else 1.0)
        kept = 1 - rate * decay if p.ndim >= 2 else 1.0
        torch.testing.assert_close(p.detach(), before[name] * kept - rate, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("step", "kind", "factor"),
    [
        (0, "polynomial", 0.1),  # the warm-up starts above zero
        (4, "cosine", 0.5),
        (9, "constant", 1.0),  # and ends at the peak
        (10, "polynomial", 1.0),
        (60, "polynomial", 0.5358867312681466),  # 0.5 ** 0.9
        (85, "polynomial", 0.2871745887492588),  # 0.25 ** 0.9
        (110, "polynomial", 0.0),
        (200, "polynomial", 0.0),
        (10, "cosine", 1.0),
        (35, "cosine", (1 + math.sqrt(0.5)) / 2),
        (60, "cosine", 0.5),
        (110, "cosine", 0.0),
        (109, "constant", 1.0),
    ],
)
def test_schedule(step: int, kind: Any, factor: float) -> None:
    assert schedule(step, kind=kind, steps=110, warmup=10, power=0.9) == pytest.approx(factor, abs=1e-12)


def test_the_papers_schedule_starts_at_the_full_rate_and_falls_in_every_step() -> None:
    factors = [schedule(step, kind="polynomial", steps=50, power=0.9) for step in range(50)]
    assert factors[0] == 1
    assert all(a > b > 0 for a, b in itertools.pairwise(factors))


def test_a_warm_up_longer_than_the_run() -> None:
    assert [schedule(s, kind="cosine", steps=2, warmup=4) for s in range(2)] == [0.25, 0.5]


def _net() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1), nn.Linear(1, 1))
    net[2].requires_grad_(False)
    net[0].weight.data.fill_(0.0)
    return net


def test_averaged_weights_start_as_the_plain_mean() -> None:
    net = _net()
    average = AveragedWeights(net, 0.9)
    seen = [0.0]
    for value in (1.0, 2.0, 3.0):
        net[0].weight.data.fill_(value)
        average.update(net)
        seen.append(value)
        assert float(average.weights["0.weight"]) == pytest.approx(np.mean(seen))


def test_averaged_weights_come_to_their_decay() -> None:
    net = _net()
    average = AveragedWeights(net, 0.5)
    expected = 0.0
    for step in range(1, 8):
        net[0].weight.data.fill_(step * step)
        average.update(net)
        expected += (step * step - expected) * max(0.5, 1 / (1 + step))
        assert float(average.weights["0.weight"]) == pytest.approx(expected)


def test_only_what_learns_is_held() -> None:
    model = small(image_encoder={"name": "tiny", "channels": 8, "frozen": True})
    average = AveragedWeights(model, 0.9)
    assert average.weights.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("image_encoder") for name in average.weights)
    assert average.weights.keys() == learning(wrapped(model)).keys()


@pytest.mark.parametrize("wrap", [False, True])
def test_applied_puts_the_averages_in_and_the_trained_values_back(wrap: bool) -> None:
    net = _net()
    model = wrapped(net) if wrap else net
    average = AveragedWeights(net, 0.9)
    net[0].weight.data.fill_(4.0)
    net[1].running_mean.fill_(7.0)
    average.update(model)
    parameter, fixed = net[0].weight, net[2].weight.clone()
    with average.applied(model):
        assert net[0].weight.item() == 2.0
        assert net[1].running_mean.item() == 7.0  # the model's own
        assert torch.equal(net[2].weight, fixed)
        assert net(torch.ones(2, 1)).isfinite().all()
    assert net[0].weight.item() == 4.0
    assert net[0].weight is parameter  # the optimiser's own

    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted), average.applied(model):
        raise Interrupted
    assert net[0].weight.item() == 4.0
    assert float(average.weights["0.weight"]) == 2.0


def test_an_average_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    net = _net()
    first, second = AveragedWeights(net, 0.7), AveragedWeights(net, 0.7)
    for step in range(6):
        if step == 3:
            second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
        for p in (net[0].weight, net[1].weight, net[1].bias):
            p.data.add_(torch.randn_like(p))
        first.update(net)
        if step >= 3:
            second.update(net)
    assert first.steps == second.steps == 6
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"0.weight": torch.zeros(2, 2)}, "0.weight"),  # another shape
        ({"3.weight": torch.zeros(1)}, "3.weight"),  # unknown
        ({"1.bias": None}, "1.bias"),  # missing
        ({"steps": None}, "steps"),
    ],
)
def test_the_state_of_another_model_is_refused(change: dict[str, Any], named: str) -> None:
    average = AveragedWeights(_net(), 0.9)
    state = {k: v for k, v in (average.state_dict() | change).items() if v is not None}
    with pytest.raises(ValueError, match=named):
        average.load_state_dict(state)
