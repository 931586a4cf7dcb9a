"""PAN step by step."""

from __future__ import annotations

import model_reference as reference
import numpy as np
import pytest
import torch
from model_reference import array, random, randomise, unlearned

from jmceln_core.model.pan import PAN


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (3, 8, 4, 4)])
def test_is_the_papers_steps(training: bool, projection: bool, shape: tuple[int, ...]) -> None:
    module = randomise(PAN(8, projection=projection)).train(training)
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


@pytest.mark.parametrize("projection", [True, False])
def test_every_parameter_learns_from_both_inputs(projection: bool) -> None:
    module = randomise(PAN(8, projection=projection))
    current, previous = random(2, 8, 5, 4, seed=1).requires_grad_(), random(2, 8, 5, 4, seed=2).requires_grad_()
    module(current, previous).square().sum().backward()
    assert unlearned(module) == set()
    assert current.grad is not None
    assert previous.grad is not None
