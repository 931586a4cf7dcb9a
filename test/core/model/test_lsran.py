"""Window attention with explicit windows, and LSRAN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jmceln_core.model.lsran import LSRAN, WindowAttention
from support import model_reference as reference
from support.model_reference import array, random, randomise, unlearned


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((1, 8, 4, 4), 4),  # one window
        ((2, 8, 6, 4), 2),  # 3 x 2 windows
        ((2, 8, 5, 7), 3),  # padded on both sides
        ((1, 8, 4, 5), 4),  # padded on one side
        ((2, 8, 3, 2), 5),  # a window larger than the map
    ],
)
def test_window_attention_is_attention_in_each_window(shape: tuple[int, ...], window: int) -> None:
    module = randomise(WindowAttention(8, 2, window))
    x = random(*shape)
    np.testing.assert_allclose(array(module(x)), reference.window_attention(module, array(x)), rtol=1e-9, atol=1e-11)


def test_what_is_in_one_window_does_not_reach_another() -> None:
    module, x = randomise(WindowAttention(8, 2, 3)), random(1, 8, 6, 7)
    changed = x.clone()
    changed[:, :, 1, 1] += 1
    moved = (module(changed) - module(x)).abs().amax(1)[0] > 1e-9
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[:3, :3] = True
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_every_parameter_of_window_attention_learns(size: tuple[int, int]) -> None:
    module = randomise(WindowAttention(8, 2, 4))
    module(random(2, 8, *size)).square().sum().backward()
    assert unlearned(module) == set()
    assert (module.bias.grad != 0).all()  # every relative offset occurs in a full window


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (2, 8, 5, 7)])
def test_lsran_is_its_equation(norm, training: bool, shape: tuple[int, ...]) -> None:
    module = randomise(LSRAN(8, heads=2, window=4, dilations=(1, 2, 3, 6), norm=norm)).train(training)
    x = random(*shape)
    attended = reference.window_attention(module.attention, array(x))
    branches = np.concatenate([reference.block(b, attended) for b in module.branches], axis=1)
    expected = reference.block(module.mix, branches) * reference.block(module.boundary, array(x))
    np.testing.assert_allclose(array(module(x)), expected, rtol=1e-8, atol=1e-10)


def test_the_papers_defaults() -> None:
    module = LSRAN(16)
    assert module.attention.window == 13
    assert [b[0].dilation for b in module.branches] == [(1, 1), (6, 6), (12, 12), (18, 18)]
    assert {b[0].weight.shape for b in module.branches} == {(4, 16, 3, 3)}
    assert module.mix[0].weight.shape == (16, 16, 1, 1)
    assert module.boundary[0].weight.shape == (16, 16, 3, 3)


def test_any_number_of_branches() -> None:
    assert LSRAN(8, heads=2, window=2, dilations=(1, 3))(torch.randn(2, 8, 4, 4)).shape == (2, 8, 4, 4)


def test_every_parameter_of_lsran_learns() -> None:
    module = randomise(LSRAN(8, heads=2, window=4, dilations=(1, 2, 3, 6)))
    module(random(2, 8, 9, 9)).square().sum().backward()
    assert unlearned(module) == set()
