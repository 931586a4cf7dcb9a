"""Optimiser groups, schedule, and averaged weights."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups of the parameters that learn: matrices and kernels decay; norms, biases and other vectors do not."""
    learning = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]


def cosine(step: int, *, steps: int, warmup: int) -> float:
    """Factor on the learning rate at a step: linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


class AveragedWeights(Generic[M]):
    """Exponential moving average of what learns in a model; buffers are copied. The average starts as the plain mean
    and reaches `decay` as steps go by, so that it is useful early."""

    def __init__(self, model: M, decay: float) -> None:
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step's weights in."""
        self.steps += 1
        weight = max(1 - self.decay, 1 / (1 + self.steps))
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        for name, own in self.model.named_parameters():
            if name in learning:
                own.lerp_(model.get_parameter(name), weight)
        for own_buffer, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            own_buffer.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged model's state."""
        return self.model.state_dict()
