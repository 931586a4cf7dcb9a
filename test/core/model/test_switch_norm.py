"""SwitchNorm against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jmceln_core.model.switch_norm import Mix, SwitchNorm
from support import model_reference as reference
from support.model_reference import array, random, randomise, unlearned


@pytest.mark.parametrize("mix", ["linear", "log"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, 5, 7), (3, 4, 5, 7), (2, 3, 1, 2)])
def test_is_its_definition(training: bool, shape: tuple[int, ...], mix: Mix) -> None:
    module = randomise(SwitchNorm(shape[1], mix=mix)).train(training)
    x = 3 * random(*shape) + 2
    expected = reference.switch_norm(module, array(x))
    np.testing.assert_allclose(array(module(x)), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("mix", ["linear", "log"])
@pytest.mark.parametrize("kind", ["instance", "layer", "batch"])
def test_one_sided_weights_give_the_plain_norms(kind: str, mix: Mix) -> None:
    module = SwitchNorm(4, mix=mix).double()
    x = random(3, 4, 5, 6) + 1
    with torch.no_grad():
        for weights in (module.mean_weight, module.var_weight):
            weights.copy_(torch.tensor([100.0 * (kind == k) for k in ("instance", "layer", "batch")]))
    expected = {
        "instance": F.instance_norm(x),
        "layer": F.layer_norm(x, x.shape[1:]),
        "batch": F.batch_norm(x, None, None, training=True),
    }[kind]
    torch.testing.assert_close(module(x), expected)


def test_means_and_variances_have_weights_of_their_own() -> None:
    module, x = randomise(SwitchNorm(4)), random(2, 4, 3, 3) + 1
    before = module(x)
    for weights in (module.mean_weight, module.var_weight):
        with torch.no_grad():
            weights[0] += 1
        after = module(x)
        assert (after - before).abs().max() > 1e-3
        before = after


def test_running_averages_move_by_the_momentum_in_training_only() -> None:
    module = randomise(SwitchNorm(4, momentum=0.25))
    x = random(3, 4, 5, 6) + 2
    mean, var = array(module.running_mean), array(module.running_var)
    module.eval()(x)
    np.testing.assert_array_equal(array(module.running_mean), mean)
    module.train()(x)
    np.testing.assert_allclose(array(module.running_mean), 0.75 * mean + 0.25 * array(x).mean((0, 2, 3)))
    np.testing.assert_allclose(array(module.running_var), 0.75 * var + 0.25 * array(x).var((0, 2, 3)))


def test_in_eval_mode_a_sample_does_not_depend_on_its_batch() -> None:
    module, x = randomise(SwitchNorm(4)).eval(), random(3, 4, 5, 6)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]))
    module.train()
    assert (module(x)[1:2] - module(x[1:2])).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_float32_for_half_precision_and_under_autocast(dtype: torch.dtype) -> None:
    module = SwitchNorm(4)
    # squares beyond float16's 65504, and a mean that bfloat16 could not sum up
    x = (300 + 20 * torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    assert out.dtype == dtype
    np.testing.assert_allclose(array(module.running_mean), 0.1 * array(x).mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(array(module.running_var), 0.9 + 0.1 * array(x).var((0, 2, 3)), rtol=1e-3)
    exact = reference.switch_norm(module, array(x))
    np.testing.assert_allclose(array(out), exact, atol=2e-2)


def test_mixed_logarithms_let_a_small_channel_beside_a_huge_one_live() -> None:
    x = random(2, 4, 16, 16) * torch.tensor([1.0, 1.0, 1.0, 1e4])[:, None, None]
    small = {mix: SwitchNorm(4, mix=mix).double()(x)[:, :3].std((2, 3)).mean().item() for mix in ("linear", "log")}
    # instance and batch variances of 1, and a layer variance of 1e8 / 4: a third of each
    assert small["linear"] == pytest.approx((1e8 / 4 / 3) ** -0.5, rel=0.1)
    assert small["log"] == pytest.approx((1e8 / 4) ** (-1 / 6), rel=0.1)


def test_gain_is_where_the_output_starts() -> None:
    x = random(2, 4, 5, 6)
    torch.testing.assert_close(SwitchNorm(4, gain=0.25).double()(x), 0.25 * SwitchNorm(4).double()(x))


@pytest.mark.parametrize("mix", ["linear", "log"])
def test_gradients(mix: Mix) -> None:
    module, x = randomise(SwitchNorm(4, mix=mix)), random(2, 4, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))
    module(x).square().sum().backward()
    assert unlearned(module) == set()


@pytest.mark.parametrize("mix", ["linear", "log"])
def test_nearly_constant_maps_far_from_zero_stay_finite(mix: Mix) -> None:
    torch.manual_seed(0)
    x = 100 + 0.01 * torch.randn(4, 8, 16, 16)
    norm = SwitchNorm(8, mix=mix).train()
    assert norm(x).isfinite().all()
    assert (norm.running_var > 0).all()
