"""Heads against numpy and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jmceln_core.model.heads import CoarseMask, MaskHead, QueryHead
from support import model_reference as reference
from support.model_reference import array, random, randomise, unlearned


def double(x: np.ndarray) -> np.ndarray:
    return reference.resize(x, 2 * x.shape[-2], 2 * x.shape[-1])


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (2, 4, 3, 2)])
def test_mask_head_is_three_steps_and_a_classifier(norm, training: bool, shape: tuple[int, ...]) -> None:
    head = randomise(MaskHead(4, (6, 5, 3), norm=norm)).train(training)
    x = random(*shape)
    expected = array(x)
    for step in head.steps:
        expected = double(reference.block(step, expected))
    expected = reference.conv2d(head.classify, expected)
    assert expected.shape == (shape[0], 2, 8 * shape[2], 8 * shape[3])
    np.testing.assert_allclose(array(head(x)), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("fine_size", [(8, 12), (9, 11)])
@pytest.mark.parametrize("sentences", [2, 6])
def test_a_fine_level_joins_before_the_last_convolution(fine_size: tuple[int, int], sentences: int) -> None:
    head = randomise(MaskHead(4, (6, 5, 3), fine_channels=7)).eval()
    x, fine = random(sentences, 4, 2, 3, seed=1), random(2, 7, *fine_size, seed=2)
    first, second, last = head.steps
    expected = double(reference.block(second, double(reference.block(first, array(x)))))
    skip = reference.conv2d(head.fine, array(fine)).repeat(sentences // 2, axis=0)
    expected = reference.leaky(reference.resize(expected, *fine_size) + skip)
    expected = reference.conv2d(head.classify, reference.block(last, expected))
    out = head(x, fine)
    assert out.shape == (sentences, 2, *fine_size)
    np.testing.assert_allclose(array(out), expected, rtol=1e-8, atol=1e-10)


def test_a_missing_fine_level_is_refused() -> None:
    with pytest.raises(ValueError, match="fine_BCHW"):
        MaskHead(4, (6, 3), fine_channels=7)(torch.randn(2, 4, 2, 2))


@pytest.mark.parametrize("fine_channels", [None, 7])
def test_every_parameter_of_the_mask_head_learns(fine_channels: int | None) -> None:
    head = randomise(MaskHead(4, (6, 5, 3), fine_channels=fine_channels))
    fine = () if fine_channels is None else (random(2, fine_channels, 12, 12),)
    head(random(2, 4, 3, 3), *fine).square().sum().backward()
    assert unlearned(head) == set()


@pytest.mark.parametrize("images", [1, 2, 4])
def test_coarse_mask_is_a_dot_product_with_every_position(images: int) -> None:
    module = randomise(CoarseMask(6))
    queries, maps = random(4, 3, 6, seed=1), random(images, 6, 3, 5, seed=2)
    out = module(queries, module.pixels(maps))
    norm, linear = module.query
    projected = reference.conv2d(module.pixel, array(maps))
    for n in range(4):
        query = reference.linear(linear, reference.norm(norm, array(queries[n]).mean(0)))
        expected = np.einsum("c,chw->hw", query, projected[n // (4 // images)]) / np.sqrt(6) + module.bias.item()
        np.testing.assert_allclose(array(out[n]), expected, rtol=1e-9, atol=1e-11)
    out.square().sum().backward()
    assert unlearned(module) == set()


def test_query_head_reads_the_mean_query() -> None:
    module, queries = randomise(QueryHead(6)), random(4, 3, 6)
    norm, first, _, last = module.net
    hidden = reference.linear(first, reference.norm(norm, array(queries).mean(1)))
    expected = reference.linear(last, F.gelu(torch.from_numpy(hidden)).numpy())[:, 0]
    out = module(queries)
    np.testing.assert_allclose(array(out), expected, rtol=1e-9)
    out.square().sum().backward()
    assert unlearned(module) == set()
