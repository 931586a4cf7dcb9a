"""Small layers against numpy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from jmceln_core.model.layers import MultiHeadAttention, conv_block, norm_layer, repeat, sine_positions
from support import model_reference as reference
from support.model_reference import array, random, randomise


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_its_equation_head_by_head(batch: int, heads: int) -> None:
    module = randomise(MultiHeadAttention(8, heads))
    query, key, value = random(batch, 5, 8, seed=1), random(batch, 7, 8, seed=2), random(batch, 7, 8, seed=3)
    out = module(query, key, value)
    for n in range(batch):
        expected = reference.multi_head(module, *(array(x[n]) for x in (query, key, value)))
        np.testing.assert_allclose(array(out[n]), expected, rtol=1e-9, atol=1e-12)


def test_attention_reads_keys_of_another_width() -> None:
    module = randomise(MultiHeadAttention(8, 2, key_channels=5))
    query, key = random(2, 3, 8), random(2, 4, 5)
    out = module(query, key, key)
    np.testing.assert_allclose(array(out[1]), reference.multi_head(module, *map(array, (query[1], key[1], key[1]))))


def test_masked_keys_count_as_if_they_were_not_there() -> None:
    module = randomise(MultiHeadAttention(8, 4))
    query, key = random(2, 3, 8, seed=1), random(2, 6, 8, seed=2)
    mask = torch.tensor([[True, True, False, True, False, False], [True] * 6])
    out = module(query, key, key, mask)
    for n in range(2):
        kept = array(key[n][mask[n]])
        np.testing.assert_allclose(array(out[n]), reference.multi_head(module, array(query[n]), kept, kept), rtol=1e-9)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 6), (5, 4, 1)])
def test_conv_block_is_convolution_norm_and_leaky_relu(norm, training, kernel, stride, dilation) -> None:
    module = randomise(conv_block(3, 4, kernel, stride=stride, dilation=dilation, norm=norm)).train(training)
    x = random(2, 3, 9, 7)
    expected = reference.block(module, array(x))
    out = module(x)
    np.testing.assert_allclose(array(out), expected, rtol=1e-9, atol=1e-12)
    if stride == 1:
        assert out.shape[-2:] == x.shape[-2:]


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 4), (6, 2), (5, 1)])
def test_group_norm_takes_the_most_groups_that_divide_the_channels(channels: int, groups: int) -> None:
    layer = norm_layer("group", channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == groups
    assert isinstance(norm_layer("batch", channels), nn.BatchNorm2d)


def test_group_norm_keeps_the_number_format_under_autocast() -> None:
    layer = norm_layer("group", 16)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 16, 5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    exact = layer(x.float())
    assert (out.float() - exact).abs().max() < 0.02 * exact.abs().max()
    assert layer.double()(x.double()).dtype == torch.float64


def test_positions_are_sines_of_the_places_in_the_unit_square() -> None:
    height, width, channels = 3, 5, 12
    out = sine_positions(height, width, channels)
    assert out.shape == (channels, height, width)
    for r in range(height):
        for c in range(width):
            y, x = (r + 0.5) / height, (c + 0.5) / width
            frequencies = [math.pi * 32 ** (k / 2) for k in range(3)]  # wavelengths 2, ..., 1/16
            expected = [f(w * place) for place in (y, x) for f in (math.sin, math.cos) for w in frequencies]
            np.testing.assert_allclose(out[:, r, c], expected, atol=2e-5)


def test_positions_do_not_depend_on_the_resolution() -> None:
    torch.testing.assert_close(sine_positions(9, 9, 8)[:, 4, 4], sine_positions(3, 5, 8)[:, 1, 2])


def test_repeat_keeps_the_sentences_of_an_image_together() -> None:
    x = torch.tensor([[1.0], [2.0]])
    assert repeat(x, 6).flatten().tolist() == [1, 1, 1, 2, 2, 2]
    assert repeat(x, 2) is x
