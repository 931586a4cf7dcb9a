"""Processes, devices and precision, by way of Lightning Fabric; and tensors that may be sharded, in one piece.

One process is a plain run. Several are started by torchrun, on one machine or many; Fabric reads what torchrun says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.torch_version import TorchVersion

from jmceln_core.config import ConfigError, TrainConfig
from jmceln_core.model import JMCELN

LOWEST = "2.13"  # PyTorch that knows DistributedDataParallel's forward_sync_buffers


def check_torch(version: str = torch.__version__) -> None:
    """Raise ConfigError for a PyTorch that is too old."""
    if TorchVersion(version) < LOWEST:
        raise ConfigError(f"PyTorch {version} is too old to train with: pip install 'torch>={LOWEST}'")


def make_fabric(config: TrainConfig, device: str | torch.device | None, *, some_unused: bool = False) -> Fabric:
    """Fabric for this process, joined with the others if torchrun started several.

    `device` is "cpu", "cuda" or "cuda:N" (None: CUDA if there is one). `some_unused`: there are parameters that learn
    but that no output depends on, for which DDP has to look. Raises ConfigError for what cannot be combined.
    """
    check_torch()
    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ConfigError(f"--device {device}: no such device; give cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: no CUDA device here; leave it out, or give cpu")
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if launched else 1
    world = int(os.environ["WORLD_SIZE"]) if launched else 1
    if config.precision == "16-mixed" and (device.type == "cpu" or config.strategy == "fsdp"):
        raise ConfigError("precision=16-mixed runs on GPUs, and not with strategy=fsdp: use bf16-mixed or 32-true")
    strategy: Any = "auto"
    if config.strategy == "fsdp":
        if not launched:
            raise ConfigError("strategy=fsdp shards over processes: start it with torchrun (docs/training.md)")
        strategy = ModelParallelStrategy(_shard, data_parallel_size=world, tensor_parallel_size=1)
    elif launched:
        # running statistics are each process's own, and averaged when they are needed
        strategy = DDPStrategy(find_unused_parameters=some_unused, forward_sync_buffers=False)
    fabric = Fabric(
        accelerator=device.type,
        devices=[device.index] if device.index is not None and not launched else here,
        num_nodes=max(1, world // here),
        strategy=strategy,
        precision=config.precision,
        plugins=[TorchElasticEnvironment() if launched else LightningEnvironment()],
    )
    fabric.launch()
    return fabric


def _shard(model: JMCELN, mesh: Any) -> JMCELN:
    """FSDP2: the encoders, every stage, and what remains, each gathered when one of its methods is called."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method  # older ones lack it: `check_torch`

    methods = {model.image_encoder: ("trunk", "levels"), model.text_encoder: ("encode",)}
    methods |= dict.fromkeys(model.stages, ("embed", "predict"))
    for module, names in methods.items():
        fully_shard(cast(nn.Module, module), mesh=mesh["data_parallel"])
        for name in names:
            register_fsdp_forward_method(cast(nn.Module, module), name)
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def summed(fabric: Fabric, tensor: Tensor) -> Tensor:
    """The sum over processes."""
    return cast(Tensor, fabric.all_reduce(tensor, reduce_op="sum")) if fabric.world_size > 1 else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor in one piece, on the CPU, apart from the graph. Of a sharded one, every process must ask."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def fill(own: Tensor, value: Tensor) -> None:
    """Write a whole tensor into one that may be sharded."""
    value = value.to(own.device, own.dtype)
    if isinstance(own, DTensor):
        value = distribute_tensor(value, own.device_mesh, own.placements)
    with torch.no_grad():
        own.copy_(value)


def learning_state(model: JMCELN) -> dict[str, Tensor]:
    """Parameters and buffers by name, without those of frozen encoders (what is tuned of them is there)."""
    inside = (x for module in model.frozen for x in (*module.parameters(), *module.buffers()))
    frozen = {id(x) for x in inside if not x.requires_grad}
    return {name: value for name, value in named_tensors(model).items() if id(value) not in frozen}


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name: a state dict of the tensors themselves."""
    kept = model.state_dict(keep_vars=True)
    return {name: value for name, value in kept.items() if isinstance(value, Tensor)}


def optimiser_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments by parameter name: NAME/exp_avg and so on."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        f"{names[id(p)]}/{key}": value
        for p, moments in optimiser.state.items()
        for key, value in moments.items()
        if isinstance(value, Tensor)
    }


def fill_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, values: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_state` gave, in one piece each."""
    parameters = dict(model.named_parameters())
    for key, value in values.items():
        name, _, moment = key.rpartition("/")
        own = parameters[name]
        if moment == "step":  # AdamW's count stays on the CPU
            optimiser.state[own][moment] = value.clone()
        else:
            optimiser.state[own][moment] = torch.zeros_like(own, requires_grad=False)
            fill(optimiser.state[own][moment], value)
