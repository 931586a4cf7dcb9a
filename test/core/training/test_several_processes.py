"""Two processes (gloo, on the CPU) compute what one does: batch statistics, and averages of sharded parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from jmceln_core.config import ModelConfig, from_dict
from jmceln_core.model import build_model
from jmceln_core.model.switch_norm import SwitchNorm, synchronise
from jmceln_core.training.optimiser import AveragedWeights

SHARES = (slice(0, 3), slice(3, 4))  # of four samples: three and one
CHANNELS = 6


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module: nn.Module, seed: int) -> nn.Module:
    """In float64, with random numbers for its parameters. (model_reference has this too, but its imports are slow.)"""
    for parameter in module.double().parameters():
        parameter.data = random(*parameter.shape, seed=seed)
    return module


def norms() -> dict[str, nn.Module]:
    return {
        "switch": filled(SwitchNorm(CHANNELS), 1),
        "batch 2d": filled(nn.Sequential(nn.BatchNorm2d(CHANNELS)), 2),
        "batch 1d": filled(nn.Sequential(nn.BatchNorm1d(CHANNELS)), 3),
        "stack": filled(
            nn.Sequential(
                nn.Conv2d(CHANNELS, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.LeakyReLU(), SwitchNorm(CHANNELS)
            ),
            4,
        ),
    }


def step(name: str, module: nn.Module, share: slice) -> dict[str, Tensor]:
    """Output, gradients and running averages of a training step on a part of the batch."""
    x = random(4, CHANNELS, seed=5) if name == "batch 1d" else random(4, CHANNELS, 5, 7, seed=5)
    x = (x + 3)[share].requires_grad_()
    out = module.train()(x)
    (out * random(*out.shape[1:], seed=6)).square().sum().backward()
    assert x.grad is not None
    results = {"out": out.detach(), "grad of x": x.grad}
    results |= {f"grad of {n}": p.grad for n, p in module.named_parameters() if p.grad is not None}
    return results | {f"buffer {n}": b.clone() for n, b in module.named_buffers()}


def averages(sharded: bool) -> dict[str, Tensor]:
    """Averaged weights of a small network over three updates, whole or in shards."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    net = filled(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), 7)
    if sharded:
        fully_shard(net)
        assert isinstance(net[0].weight, DTensor)

    def whole(x: Tensor) -> Tensor:
        return (x.full_tensor() if isinstance(x, DTensor) else x).clone()

    average = AveragedWeights(net, 0.6)
    for _ in range(3):
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.5)
        average.update(net)
    again = AveragedWeights(net, 0.6)
    again.load_state_dict(average.state_dict())
    results = {f"average {name}": whole(x) for name, x in again.state_dict().items()}
    with again.applied(net):
        results |= {f"applied {name}": whole(p.detach()) for name, p in net.named_parameters()}
        results["averaged answer"] = net.eval()(random(4, 5, seed=8)).detach()
    results |= {f"trained {name}": whole(p.detach()) for name, p in net.named_parameters()}
    results["trained answer"] = net(random(4, 5, seed=8)).detach()
    average.update(net)  # straight after a forward pass
    return results | {f"updated {name}": whole(x) for name, x in average.weights.items()}


def work(rank: int, folder: str) -> None:
    """What each process does; its results go to a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results: dict[str, Any] = {name: step(name, synchronise(module), SHARES[rank]) for name, module in norms().items()}
    results["apart"] = step("switch", norms()["switch"], SHARES[rank])
    results["averages"] = averages(sharded=True)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes computed."""
    folder: Path = tmp_path_factory.mktemp("processes")
    mp.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", norms())
def test_batch_statistics_are_those_of_the_whole_batch(name: str, results: list[dict[str, Any]]) -> None:
    expected = step(name, norms()[name], slice(None))
    for rank, own in enumerate(r[name] for r in results):
        assert {k.replace("0.", "") for k in own} == {k.replace("0.", "") for k in expected}
        for key in ("out", "grad of x"):
            torch.testing.assert_close(own[key], expected[key][SHARES[rank]], rtol=1e-9, atol=1e-9)
        for key in own:
            if key.startswith("buffer"):
                torch.testing.assert_close(own[key], expected[key], rtol=1e-9, atol=1e-9)
    for key, value in expected.items():
        if key.startswith("grad of ") and key != "grad of x":
            torch.testing.assert_close(sum(r[name][key] for r in results), value, rtol=1e-9, atol=1e-9)


def test_without_it_each_process_has_its_own(results: list[dict[str, Any]]) -> None:
    whole = step("switch", norms()["switch"], slice(None))
    for rank in range(2):
        alone = step("switch", norms()["switch"], SHARES[rank])
        torch.testing.assert_close(results[rank]["apart"]["out"], alone["out"])
        assert (alone["out"] - whole["out"][SHARES[rank]]).abs().max() > 1e-2


def test_averages_of_sharded_parameters(results: list[dict[str, Any]]) -> None:
    expected = averages(sharded=False)
    for own in (r["averages"] for r in results):
        assert own.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(own[key], value)
    assert (expected["trained 0.weight"] - expected["applied 0.weight"]).abs().max() > 0.1


def test_a_single_process_computes_the_same_with_and_without_it() -> None:
    for name, module in norms().items():
        plain = step(name, norms()[name], slice(None))
        for key, value in step(name, synchronise(module), slice(None)).items():
            torch.testing.assert_close(value, plain[key], rtol=1e-9, atol=1e-9)


def test_synchronising_keeps_parameters_buffers_and_modes() -> None:
    fields = {"image_encoder": {"name": "tiny", "channels": 8, "frozen": True}, "text_encoder": {"name": "tiny"}}
    small = {"channels": 8, "heads": 2, "stages": 2, "dilations": [1, 2], "window": 4, "head_channels": [8, 4]}
    model = build_model(from_dict(ModelConfig, {**fields, **small, "image_size": 64}))
    parameters, state = dict(model.named_parameters()), model.state_dict()
    with torch.no_grad():
        picture, text = torch.rand(1, 3, 64, 64), ["the cup"]
        before = model.eval().decode(model.encode_image(picture), model.encode_text(text)).logits
    assert synchronise(model.train()) is model
    after = dict(model.named_parameters())
    assert after.keys() == parameters.keys()
    assert all(after[name] is p for name, p in parameters.items())
    assert model.state_dict().keys() == state.keys()
    assert all(m.sync for m in model.modules() if isinstance(m, SwitchNorm))
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())
    trunk = {id(m) for m in model.image_encoder.modules()}
    assert all(m.training == (id(m) not in trunk) for m in model.modules())
    with torch.no_grad():
        again = model.eval().decode(model.encode_image(picture), model.encode_text(text)).logits
    torch.testing.assert_close(again, before)
    with pytest.raises(ValueError, match="one value"):
        model.train().decode(model.encode_image(picture), model.encode_text(text))


def test_on_a_gpu_batch_norms_become_pytorchs() -> None:
    model = synchronise(norms()["stack"], torch.device("cuda"))
    assert isinstance(model[1], nn.SyncBatchNorm)  # type: ignore[index]
    assert model[3].sync  # type: ignore[index]
