"""PAN step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from jmceln_core.model.pan import GAIN, PAN, Gates, LiveChannels, live_share
from support import model_reference as reference
from support.model_reference import array, random, randomise, unlearned


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("gates", ["product", "bounded"])
@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (3, 8, 4, 4)])
def test_is_the_papers_steps(training: bool, projection: bool, gates: Gates, shape: tuple[int, ...]) -> None:
    module = randomise(PAN(8, projection=projection, gates=gates)).train(training)
    current, previous = random(*shape, seed=1), random(*shape, seed=2)
    expected = reference.pan(module, array(current), array(previous))
    np.testing.assert_allclose(array(module(current, previous)), expected, rtol=1e-8, atol=1e-10)


def test_shapes_of_the_papers_layers() -> None:
    module = PAN(16)
    assert module.project.weight.shape == (4 + 8 + 16, 16, 1, 1)
    assert module.depthwise.weight.shape == (28, 1, 7, 7)
    assert module.gate1.weight.shape == (4, 16, 1, 1)
    assert module.gate2.weight.shape == (8, 4, 3, 3)
    assert module.gate3.weight.shape == (16, 8, 3, 3)


def test_where_the_previous_output_gates_everything_off_only_it_remains() -> None:
    module = randomise(PAN(8)).eval()
    with torch.no_grad():
        for gate in (module.gate1, module.gate2, module.gate3):
            gate.bias.zero_()
        module.gate1.weight.zero_()
        module.norm.running_mean.zero_()
        module.norm.bias.zero_()
    current, previous = random(2, 8, 4, 4, seed=1), random(2, 8, 4, 4, seed=2)
    torch.testing.assert_close(module(current, previous), previous)


@pytest.mark.parametrize("gates", ["product", "bounded"])
@pytest.mark.parametrize("projection", [True, False])
def test_every_parameter_learns_from_both_inputs(projection: bool, gates: Gates) -> None:
    module = randomise(PAN(8, projection=projection, gates=gates))
    current, previous = random(2, 8, 5, 4, seed=1).requires_grad_(), random(2, 8, 5, 4, seed=2).requires_grad_()
    module(current, previous).square().sum().backward()
    assert unlearned(module) == set()
    assert current.grad is not None
    assert previous.grad is not None


# bounded gates


def test_bounded_gates_have_the_papers_convolutions_and_a_norm_of_the_filters_more() -> None:
    product, bounded = (PAN(16, gates=gates).state_dict() for gates in ("product", "bounded"))
    assert bounded.keys() - product.keys() == {"filter_norm.weight", "filter_norm.bias"}
    assert all(bounded[name].shape == value.shape for name, value in product.items())


def test_a_fresh_bounded_pan_adds_little_in_every_channel_and_it_comes_from_f() -> None:
    torch.manual_seed(0)
    module = PAN(32, gates="bounded").double()
    current, previous = random(2, 32, 16, 16, seed=1), random(2, 32, 16, 16, seed=2)
    added = module(current, previous) - previous
    deviation = added.std((2, 3))
    assert ((deviation > 0.5 * GAIN) & (deviation < 2 * GAIN)).all()
    # three filters' worth of F' and gates near 1: another F' changes what is added far more than another gate
    by_filter = (module(current.flip(0), previous) - previous - added).norm()
    by_gate = (module(current, previous.flip(0)) - previous.flip(0) - added).norm()
    assert by_filter > 3 * by_gate


def test_the_scale_of_the_filters_is_without_effect_where_the_gates_are_bounded() -> None:
    module = randomise(PAN(8, gates="bounded"))
    current, previous = random(2, 8, 5, 4, seed=1), random(2, 8, 5, 4, seed=2)
    before = module(current, previous)
    with torch.no_grad():
        module.project.weight.mul_(30)
        module.project.bias.mul_(30)
        module.depthwise.weight.mul_(1000)
        module.depthwise.bias.mul_(30_000)
    torch.testing.assert_close(module(current, previous), before, rtol=1e-3, atol=1e-4)  # but for the norm's eps


@pytest.mark.parametrize("gates", ["product", "bounded"])
def test_large_weights_overflow_float16_unless_the_gates_are_bounded(gates: Gates) -> None:
    torch.manual_seed(0)
    module = PAN(32, gates=gates)
    current, previous = random(1, 32, 16, 16, seed=1).float(), random(1, 32, 16, 16, seed=2).float()
    with torch.no_grad():
        for convolution in (module.project, module.depthwise, module.gate1, module.gate2, module.gate3):
            convolution.weight.mul_(30)
    with torch.autocast("cpu", torch.float16):
        out = module(current, previous)
    assert bool(out.isfinite().all()) == (gates == "bounded")
    if gates == "bounded":
        torch.testing.assert_close(out, module(current, previous), rtol=0, atol=0.05)
        out.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


# live channels


def test_live_channels_are_those_that_differ_from_place_to_place() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({name: PAN(8) for name in ("one", "two")}).double()
    with torch.no_grad():
        for module in model.values():
            module.norm.weight.copy_(10.0 ** -torch.arange(8))  # from live to dead
            module.norm.bias.fill_(3)  # the same everywhere: of no account
        model["two"].norm.weight[0] = 0
    pairs = [(random(n, 8, 6, 5, seed=n), random(n, 8, 6, 5, seed=n + 9)) for n in (1, 3, 2)]
    deviations: dict[str, list[np.ndarray]] = {"one": [], "two": []}
    with LiveChannels(model) as live:
        for number, (current, previous) in enumerate(pairs):
            for name, module in model.items():
                added = array(module(current, previous)) - array(previous)
                if number != 1:
                    deviations[name] += [np.array([channel.std() for channel in sample]) for sample in added]
            if number != 1:  # only what is added counts
                live.add()
    means = [np.mean(found, axis=0) for found in deviations.values()]
    assert [len(found) for found in deviations.values()] == [3, 3]
    np.testing.assert_allclose(array(live.sums), [[*(3 * mean), 3] for mean in means], atol=1e-6)
    shares = [np.mean(mean >= 0.05) for mean in means]
    assert 0 < shares[1] < shares[0] < 1
    assert live_share(live.sums) == pytest.approx(np.mean(shares))
    before = live.sums.clone()
    model["one"](*pairs[1])  # watched no longer
    assert not any(module.norm._forward_hooks for module in model.values())
    assert torch.equal(live.sums, before)
