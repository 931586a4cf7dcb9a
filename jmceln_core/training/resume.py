"""What a run goes on from: the state of what learns, and what of the configuration must not have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from jmceln_core.config import ConfigError, ModelConfig, TrainConfig, to_dict
from jmceln_core.training.engine import fill, fill_optimiser, learning_state, optimiser_state, whole
from jmceln_core.training.run_folder import State
from jmceln_core.training.step import Learner

# Fields of `data` that change neither what is learned nor what is validated: how many processes read it.
HARMLESS = frozenset({"workers"})


def order_of(config: TrainConfig, model_config: ModelConfig, steps_per_epoch: int, content: str = "") -> dict[str, Any]:
    """What says which samples a step holds and how they are shown, what the run is measured on, and by which network.

    The data's root may be called by another path, and cached features may be in another folder. `content` says which
    pictures and sentences were read (`feed.content_of`): files may change under the same name.
    """
    optim, model = config.optim, to_dict(model_config)
    data = to_dict(config.data) | {"root": str(config.data.root.resolve()), "cache": config.data.cache is not None}
    found = {k: v for k, v in data.items() if k not in HARMLESS and (k != "shuffle" or data["shards"])}
    found |= {"seed": optim.seed, "images": optim.images, "sentences": optim.sentences}
    for part in ("image_encoder", "text_encoder"):
        del model[part]["pretrained"]  # the weights are in the state
    # what it is called and what its answers are decided with change no weight
    found |= {f"model.{k}": v for k, v in model.items() if k not in ("name", "decision")}
    return found | {"steps_per_epoch": steps_per_epoch, "content": content}


def state_of(learner: Learner, notes: Mapping[str, Any]) -> State:
    """All that `restore` needs, beside `notes` of the run's own. Of sharded weights, every process must ask."""
    learner.average_statistics()
    model, average = learner.model, learner.average
    tensors = {f"model/{k}": whole(v) for k, v in learning_state(model).items()}
    tensors |= {f"optimiser/{k}": whole(v) for k, v in optimiser_state(model, learner.optimiser).items()}
    if average is not None:
        tensors |= {f"average/{k}": whole(v) for k, v in average.weights.items()}
    own = {
        "diverged": learner.diverged,
        "average_steps": average.steps if average is not None else 0,
        "precision": learner.fabric.strategy.precision.state_dict(),
    }
    return State(tensors, {**notes, **own})


def restore(learner: Learner, state: State, order: Mapping[str, Any], path: Path) -> None:
    """Put the learner where the state was saved. Raises ConfigError, naming the file at `path`, if the run was of
    another model, in another order than `order`, or with other averages."""
    model, average, notes = learner.model, learner.average, state.notes
    own = learning_state(model)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "average": {}}
    for key, value in state.tensors.items():
        kind, _, name = key.partition("/")
        parts[kind][name] = value
    if {k: v.shape for k, v in parts["model"].items()} != {k: v.shape for k, v in own.items()}:
        raise ConfigError(f"{path}: the run was of another model; give this one another --output")
    before = {"model.resize": "letterbox"} | notes["order"]  # older states do not say: there was nothing else
    if other := [f"{k}: {v}, now {order.get(k)}" for k, v in before.items() if order.get(k) != v]:
        raise ConfigError(
            f"{path}: the run was on other data, in another order or of another network ({'; '.join(other)}); give the "
            "same values, or another --output"
        )
    if (average is not None) != bool(parts["average"]):
        raise ConfigError(f"{path}: the run was {'with' if parts['average'] else 'without'} optim.ema; keep it so")
    for name, value in parts["model"].items():
        fill(own[name], value)
    fill_optimiser(model, learner.optimiser, parts["optimiser"])
    if average is not None:
        for name, value in parts["average"].items():
            fill(average.weights[name], value)
        average.steps = notes["average_steps"]
    learner.fabric.strategy.precision.load_state_dict(notes["precision"])
    learner.diverged = notes["diverged"]
