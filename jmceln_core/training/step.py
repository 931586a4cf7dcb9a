"""One step of training: the loss over all parts and processes, the gradients, the optimiser.

Random numbers are a function of (seed, step, process), and losses are divided by the whole step's numbers of sentences.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
from torch import Tensor

from jmceln_core.config import ModelConfig, TrainConfig
from jmceln_core.data.dataset import Batch
from jmceln_core.model import JMCELN, Prediction
from jmceln_core.model.heads import CoarseMask
from jmceln_core.model.switch_norm import synchronise
from jmceln_core.training import losses
from jmceln_core.training.distil import Teacher, shrunk
from jmceln_core.training.engine import learning_state, summed, whole
from jmceln_core.training.features import TextFeatureCache
from jmceln_core.training.optimiser import AveragedWeights, parameter_groups, schedule, set_rate
from jmceln_core.training.run_folder import TrainingError

DIVERGED = 20  # steps in a row without a finite gradient after which the run ends


class Learned(NamedTuple):
    """What a step gave: the loss's terms and the gradient's norm, or that it was skipped; what could not be read.
    `stop`: some process is asked to stop."""

    found: dict[str, float]
    stop: bool


class Learner:
    """The network that is trained, with its optimiser, its averaged weights and what it is taught by.

    `steps`: of the whole run, for the schedule; `texts`: cached features of a frozen text encoder; `new`: names of the
    parts that start new. `model` is set up for training in place; `wrapped` is it as Fabric runs it.
    """

    def __init__(
        self,
        config: TrainConfig,
        model_config: ModelConfig,
        model: JMCELN,
        fabric: Fabric,
        *,
        steps: int,
        teacher: Teacher | None,
        texts: TextFeatureCache | None,
        new: list[str],
    ) -> None:
        self.config, self.model, self.fabric = config, model, fabric
        self.steps, self.teacher, self.texts = steps, teacher, texts
        self.side = model_config.image_size
        # does the network itself use its coarse masks, or has it none?
        read = model.coarse is None or model_config.mask_prompt or model_config.coarse_residual
        if not (config.loss.coarse or config.loss.contrast or config.distil.coarse or read):
            cast(CoarseMask, model.coarse).requires_grad_(False)  # no loss depends on it
        if config.sync_norm and fabric.world_size > 1:
            synchronise(model, fabric.device)
        if config.strategy != "fsdp":  # which wants its parameters contiguous
            model.to(memory_format=torch.channels_last)  # convolutions are quicker, on the CPU as well
        model.train()
        self.wrapped = fabric.setup_module(model)
        optim = config.optim
        groups = parameter_groups(
            model,
            lr=optim.lr,
            encoder_lr=optim.encoder_lr,
            weight_decay=optim.weight_decay,
            decay_vectors=optim.decay_vectors,
            new=new,
            new_lr=optim.new_lr,
        )
        self.optimiser = torch.optim.AdamW(cast(Any, groups), betas=(0.9, optim.beta2))
        self.stepper = cast(_FabricOptimizer, fabric.setup_optimizers(self.optimiser))
        self.average = AveragedWeights(model, optim.ema) if optim.ema else None
        learning = set(dict(model.named_parameters()))
        self.statistics = [  # running ones, of norms: a forward pass changes them, also one whose step is not taken
            x for name, x in learning_state(model).items() if name not in learning and x.is_floating_point()
        ]
        self.diverged = 0  # steps in a row

    def predict(self, batch: Batch, *, dense: int | None) -> Prediction:
        """What it says to a batch, with the masks of each picture's first `dense` sentences alone (None: of all)."""
        text: tuple[Tensor, ...]
        if self.texts is not None:
            features = self.texts.read(batch.texts)
            text = (features.words, features.sentence, features.mask)
        else:
            text = self.model.text_encoder.tokenize(batch.texts)
        text = tuple(x.to(self.fabric.device, non_blocking=True) for x in text)
        images = shrunk(batch.images, self.side)
        return cast(Prediction, self.wrapped(images, text, batch.trunk or None, dense))

    def _loss(self, batch: Batch, counts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a part of a step, with what a teacher adds, and its terms; `counts` are the whole step's."""
        dense = self.config.optim.dense or None
        prediction = self.predict(batch, dense=dense)
        loss, terms = losses.grounding_loss(prediction, batch, self.config.loss, counts)
        if self.teacher is None:
            return loss, terms
        count = self.config.optim.sentences
        texts = [text for n, text in enumerate(batch.texts) if n % count < (dense or count)]
        with self.fabric.autocast():
            lesson = self.teacher(batch.images, texts)
        distance, further = losses.distillation_loss(prediction, lesson, batch, self.config.distil, counts)
        return loss + distance, terms | further

    def learn(self, parts: list[Batch], step: int, *, asked: bool = False) -> Learned:
        """Learn from the data of a step, given in this process's parts. `asked`: this process shall stop after it.

        Raises TrainingError after DIVERGED steps in a row that had no finite loss or gradient.
        """
        optim = self.config.optim
        dense = optim.dense or None
        torch.manual_seed(hash((optim.seed, step, self.fabric.global_rank)) % 2**63)  # for dropout, if any
        factor = schedule(step, kind=optim.schedule, steps=self.steps, warmup=optim.warmup, power=optim.power)
        set_rate(self.optimiser, factor)
        counts = torch.stack([losses.counts(batch, dense) for batch in parts]).sum(0)
        unread = sum(len(batch.skipped) for batch in parts)
        device, world = self.fabric.device, self.fabric.world_size
        further = torch.tensor([unread, asked], dtype=counts.dtype)
        counts = summed(self.fabric, torch.cat([counts, further]).to(device))
        skipped = {"skipped_pictures": float(counts[-2])}
        stop = bool(counts[-1] > 0)
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
        before = [statistic.clone() for statistic in self.statistics]
        self.optimiser.zero_grad(set_to_none=True)
        for number, part in enumerate(parts):
            batch = part.to(device)
            with self.fabric.no_backward_sync(self.wrapped, enabled=number < len(parts) - 1):
                loss, terms = self._loss(batch, counts[:-2])
                self.fabric.backward(loss * world)  # gradients are averaged over processes; the terms add up
            for name, value in ({"loss": loss.detach()} | terms).items():
                totals[name] = totals[name] + value
        norm = self.fabric.clip_gradients(
            self.wrapped, self.stepper, max_norm=optim.clip or math.inf, error_if_nonfinite=False
        )
        assert norm is not None
        means = summed(self.fabric, torch.stack([value.float() for value in totals.values()]))
        *values, length = torch.cat([means, whole(norm).to(means)[None]]).tolist()
        found = dict(zip(totals, values, strict=True))
        finite = math.isfinite(length) and math.isfinite(found["loss"])
        if finite or self.config.precision == "16-mixed":  # fp16's own scaler skips the step and lowers its scale
            self.stepper.step()
        if finite:
            if self.average is not None:
                self.average.update(self.model)
            self.diverged = 0
            return Learned(found | skipped | {"gradient": length}, stop)
        with torch.no_grad():
            for statistic, value in zip(self.statistics, before, strict=True):
                statistic.copy_(value)
        self.diverged += 1
        if self.diverged >= DIVERGED:
            raise TrainingError(
                f"step {step}: {DIVERGED} steps in a row had no finite loss or gradient ({found}); the last good "
                f"state is kept. Lower optim.lr, set optim.clip or use another precision, and start again"
            )
        return Learned(skipped | {"skipped_steps": 1.0}, stop)

    def average_statistics(self) -> None:
        """Running statistics become the mean over processes: each has seen its own share."""
        for statistic in self.statistics if self.fabric.world_size > 1 else ():
            statistic.copy_(cast(Tensor, self.fabric.all_reduce(statistic, reduce_op="mean")))
