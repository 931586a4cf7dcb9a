"""Optimiser groups, the rate's schedule, and averaged weights.

All three know parameters by name and leave their layout alone, so that they work on a bare model, on one that a
distributed engine has wrapped, and on sharded parameters (DTensor).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jmceln_core.model import JMCELN

# what DDP, Lightning Fabric and torch.compile put before or between the names of what they wrap
_WRAPPERS = ("module", "_forward_module", "_original_module", "_orig_mod")


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, each once, by their names in the bare model."""
    return {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    encoder_lr: float = 1.0,
    weight_decay: float = 0.01,
    decay_vectors: bool = True,
    new: Collection[str] = (),
    new_lr: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for an optimiser that hold every learning parameter exactly once; none is empty.

    With `encoder_lr` other than 1 the encoders' own networks (their `trunk_module`; layers of ours on top of it belong
    to the decoder) form groups with that factor on `lr`; with `new_lr` other than 1 so do the parts named in `new`,
    which start anew beside trained ones. With `decay_vectors` off, parameters of fewer than two dimensions (norms,
    biases, other vectors) form groups without decay. With none of these, there is one group: the paper's.

    Each group has `name`, `lr`, `weight_decay`, and `initial_lr`, which `set_rate` multiplies. Raises ValueError
    for an `encoder_lr` other than 1 if there is no JMCELN in the model.
    """
    networks = [module for module in model.modules() if isinstance(module, JMCELN)]
    if encoder_lr != 1 and not networks:
        raise ValueError(f"encoder_lr={encoder_lr}: this model has no encoders")
    in_encoders = {
        id(parameter)
        for module in networks
        for encoder in (module.image_encoder, module.text_encoder)
        for parameter in encoder.trunk_module.parameters()
    }
    groups: dict[str, dict[str, Any]] = {}
    for path, parameter in learning(model).items():
        factor, decay, name = 1.0, weight_decay, "all"
        if encoder_lr != 1:
            name = "encoders" if id(parameter) in in_encoders else "decoder"
            factor = encoder_lr if name == "encoders" else 1.0
        if new_lr != 1 and any(f"{path}.".startswith(f"{part}.") for part in new):
            name, factor = "new", new_lr
        if not decay_vectors and parameter.ndim < 2:
            name, decay = f"{name}, vectors", 0.0
        rate = lr * factor
        group = {"name": name, "params": [], "lr": rate, "initial_lr": rate, "weight_decay": decay}
        groups.setdefault(name, group)["params"].append(parameter)
    return list(groups.values())


def schedule(
    step: int, *, kind: Literal["polynomial", "cosine", "constant"], steps: int, warmup: int = 0, power: float = 0.9
) -> float:
    """Factor on the learning rate in a step, counted from 0, of a run of `steps`.

    Linear warm-up to 1 over `warmup` steps; then, with t the share of the remaining steps that lie behind, (1 - t) ^
    power (the paper: power 0.9), half a cosine (1 + cos(pi t)) / 2, or 1.
    """
    if step < warmup:
        return (step + 1) / warmup
    t = min(1.0, (step - warmup) / max(1, steps - warmup))
    if kind == "polynomial":
        return (1 - t) ** power
    return 0.5 * (1 + math.cos(math.pi * t)) if kind == "cosine" else 1.0


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Give every group `factor` times its `initial_lr`."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group["initial_lr"]


class AveragedWeights:
    """Exponential moving average of the parameters that learn; nothing else of the model is held.

    The average starts as the plain mean and reaches `decay` as steps go by, so that it is useful early. Buffers (the
    running averages of batch norm and SwitchNorm) are not averaged: an averaged model uses the trained model's.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in learning(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step's weights in."""
        self.steps += 1
        weight = max(1 - self.decay, 1 / (1 + self.steps))
        own, trained = self._pairs(model)
        torch._foreach_lerp_(own, trained, weight)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged weights inside the `with` block, and its own again after it."""
        own, parameters = self._pairs(model)
        trained = [p.detach().clone() for p in parameters]
        try:
            _copy(own, parameters)
            yield
        finally:
            _reshard(model)
            _copy(trained, parameters)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name (not copies), and "steps"."""
        return self.weights | {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned. Raises ValueError naming a parameter that is missing, unknown or of
        another shape."""
        expected = {name: x.shape for name, x in self.weights.items()} | {"steps": torch.Size()}
        for name in sorted(expected.keys() | state.keys()):
            if name not in state or name not in expected or state[name].shape != expected[name]:
                raise ValueError(f"averaged weights of another model: {name} is missing, unknown or of another shape")
        _copy([state[name] for name in self.weights], list(self.weights.values()))
        self.steps = int(state["steps"])

    def _pairs(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        _reshard(model)
        parameters = learning(model)
        return list(self.weights.values()), [parameters[name] for name in self.weights]


@torch.no_grad()
def _copy(values: list[Tensor], into: list[Tensor]) -> None:
    for value, x in zip(values, into, strict=True):
        x.copy_(value)


def _reshard(model: nn.Module) -> None:
    """FSDP keeps whole copies of some parameters after a forward pass without a backward one, and would go on with them
    whatever the shards have become."""
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if reshard is not None:
            reshard()
