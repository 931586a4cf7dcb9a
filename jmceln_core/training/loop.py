"""The training loop: any of the data sets, one process or many, restartable at any moment.

A step's data and random numbers are functions of (seed, step), and its losses are divided by the whole step's numbers
of sentences, so that a resumed run equals an uninterrupted one (bit for bit on the CPU) and the number of processes
does not change what is learned, but for rounding. `run_folder` says what a run leaves behind.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

import cv2
import torch
from lightning_fabric.wrappers import _FabricOptimizer
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from jmceln_core import checkpoint
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.config import ConfigError, DataConfig, ModelConfig, TrainConfig, load_model_config, to_dict
from jmceln_core.data.dataset import (
    Batch,
    SampleBuilder,
    StepDataset,
    ValidationDataset,
    all_texts,
    share_of,
)
from jmceln_core.data.grounding import GroundingData
from jmceln_core.data.readers import read_training
from jmceln_core.model import JMCELN, Prediction, build_model
from jmceln_core.model.heads import CoarseMask
from jmceln_core.model.pan import PAN, LiveChannels, live_share
from jmceln_core.synthesis.composition.live import Composition
from jmceln_core.synthesis.enrich import enrich
from jmceln_core.training import losses
from jmceln_core.training.board import Board, enlarged
from jmceln_core.training.distil import Teacher, shrunk
from jmceln_core.training.engine import (
    fill,
    fill_optimiser,
    learning_state,
    make_fabric,
    named_tensors,
    optimiser_state,
    whole,
)
from jmceln_core.training.features import ImageFeatureCache, TextFeatureCache
from jmceln_core.training.optimiser import AveragedWeights, parameter_groups, schedule, set_rate
from jmceln_core.training.run_folder import RunFolder, State, TrainingError

T = TypeVar("T")

REPORT_EVERY = 20  # steps between points of TensorBoard's training curves
DIVERGED = 20  # steps in a row without a finite gradient after which the run ends


class Trainer:
    """One run. Build it, then `run()`.

    Raises ConfigError, DataError or TrainingError, whose messages say what to do; what was saved before stays.
    """

    def __init__(self, config: TrainConfig, output: Path, *, device: torch.device | str | None = None) -> None:
        self.config = config
        if config.threads:
            torch.set_num_threads(config.threads)
        self.model_config: ModelConfig = load_model_config(config.model, config.model_overrides)
        losses.check(config.loss, self.model_config)
        encoders = (self.model_config.image_encoder, self.model_config.text_encoder)
        # DINOv2 and MiniLM have a mask token and a pooler that nothing here reads
        some_unused = any(not e.frozen and e.name.startswith(("dinov2", "minilm")) for e in encoders)
        self.fabric = make_fabric(config, device, some_unused=some_unused)
        self.device = self.fabric.device
        self.main = self.fabric.global_rank == 0
        self.world = self.fabric.world_size
        share = share_of(config.optim.images, world=self.world, parts=config.optim.accumulate)
        alone = share * config.optim.sentences == 1 and self.model_config.fusion == "neck"
        if alone and self.model_config.norm == "batch" and not config.sync_norm:
            raise ConfigError(
                "norm=batch cannot train on one sentence at a time: give a process and its parts (optim.accumulate) "
                "two or more, or set sync_norm=true, or model_overrides=[norm=group]"
            )
        self.folder = RunFolder(output)
        if self.main:
            self.folder.prepare()
        self.fabric.barrier()
        torch.manual_seed(config.optim.seed)
        self.model: JMCELN = build_model(self.model_config, pretrained=not config.start_from)
        state = self.folder.load_state()
        self.new = self._start_from(config.start_from) if config.start_from else []
        if state is not None:  # which parts were new when the run began, whatever the checkpoint is now
            self.new = state.notes.get("new", self.new)
        if config.optim.new_lr != 1 and not self.new:
            self._say(f"optim.new_lr={config.optim.new_lr}: no part of the network starts new, so it changes nothing")
        self.teacher = Teacher(config.distil, self.model_config, self.device) if config.distil.teacher else None
        self._prepare_data()
        if not (config.loss.coarse or config.loss.contrast or config.distil.coarse or self._coarse_is_read()):
            cast(CoarseMask, self.model.coarse).requires_grad_(False)  # no loss depends on it
        if config.sync_norm and self.world > 1:
            from jmceln_core.model.switch_norm import synchronise

            self.model = cast(JMCELN, synchronise(self.model, self.device))
        if config.strategy != "fsdp":  # which wants its parameters contiguous
            self.model.to(memory_format=torch.channels_last)  # convolutions are quicker, on the CPU as well
        self.model.train()
        self.wrapped = self.fabric.setup_module(self.model)
        optim = config.optim
        self.optimiser = torch.optim.AdamW(
            cast(
                Any,
                parameter_groups(
                    self.model,
                    lr=optim.lr,
                    encoder_lr=optim.encoder_lr,
                    weight_decay=optim.weight_decay,
                    decay_vectors=optim.decay_vectors,
                    new=self.new,
                    new_lr=optim.new_lr,
                ),
            ),
            betas=(0.9, optim.beta2),
        )
        self.stepper = cast(_FabricOptimizer, self.fabric.setup_optimizers(self.optimiser))
        self.average = AveragedWeights(self.model, optim.ema) if optim.ema else None
        learning = set(dict(self.model.named_parameters()))
        self.statistics = [  # running ones, of norms: a forward pass changes them, also one whose step is not taken
            x for name, x in learning_state(self.model).items() if name not in learning and x.is_floating_point()
        ]
        self.step, self.best, self.diverged = 0, -1.0, 0
        self.sums: dict[str, float] = defaultdict(float)  # of the steps since the last line of metrics.jsonl
        self.asked = False  # to stop, this process, at any moment
        self.stop = False  # all of them, after the step at hand
        self._resume(state)
        if self._sum(torch.tensor(self.step, device=self.device)) != self.step * self.world:
            raise TrainingError(
                f"{output}: the processes found states of different steps in it; all machines must see the same folder"
            )
        if self.main:
            everything = {"train": to_dict(config), "model": to_dict(self.model_config)}
            for change in self.folder.describe_start(everything, device=self.device, world=self.world, step=self.step):
                tqdm.write(f"changed since the run's last start: {change}")

    def _coarse_is_read(self) -> bool:
        """Does the network itself use its coarse masks, or has it none?"""
        config = self.model_config
        return self.model.coarse is None or config.mask_prompt or config.coarse_residual

    def _start_from(self, path: str) -> list[str]:
        """Take the weights of a checkpoint; parts that it lacks, and PANs that now gate in another way, start new.
        Returns the names of these."""
        try:
            saved = checkpoint.load(path)
            same_gates = saved.config.pan_gates == self.model_config.pan_gates
            pans = [name for name, module in self.model.named_modules() if isinstance(module, PAN)]
            new = saved.load_into(self.model, missing="new", new=() if same_gates else pans)
        except CheckpointError as error:
            raise ConfigError(f"start_from: {error}") from None
        if new:
            gates = "" if same_gates else f" (pan_gates was {saved.config.pan_gates})"
            self._say(f"start_from: {path}: these parts start new: {', '.join(new)}{gates}")
        return new

    # data

    def _prepare_data(self) -> None:
        config, data = self.config, self.config.data
        training, validation = self._read()
        builder = SampleBuilder(
            data,
            self.model_config.image_size,
            self.model_config.mask_size,
            instances=config.loss.contrast > 0,
            composition=self._composition(training),
            cache=self._cache_images(training, validation),
            view_size=0 if self.teacher is None else self.teacher.side,
        )
        existence = self._existence(validation)
        self.texts = self._cache_texts(training, validation, existence)
        share: dict[str, Any] = {
            "images": config.optim.images,
            "sentences": config.optim.sentences,
            "seed": config.optim.seed,
            "parts": config.optim.accumulate,
            "rank": self.fabric.global_rank,
            "world": self.world,
        }
        self.share = share
        self.builder = builder
        self.dataset = None if data.shards else StepDataset(training, builder, **share)
        self.validation = ValidationDataset(validation, builder, existence)
        if self.dataset is not None:
            self.steps_per_epoch = self.dataset.steps_per_epoch
        else:
            from jmceln_core.data.shards import ShardStream

            self.steps_per_epoch = ShardStream(data.shards, builder, **share).steps_per_epoch
        self.steps = config.optim.steps or config.optim.epochs * self.steps_per_epoch
        self.validate_every = config.validate_every or self.steps_per_epoch

    def _read(self) -> tuple[GroundingData, GroundingData]:
        training, validation = read_training(self.config.data)
        if self.config.data.shards:
            return GroundingData(), validation
        return enrich(training, self.config.data, seed=self.config.optim.seed), validation

    def _existence(self, validation: GroundingData) -> GroundingData:
        """Bare names, denials and words for nothing about the validation pictures, as many as `data.names` makes."""
        asked = enrich(validation, DataConfig(names=self.config.data.names), seed=0).expressions
        return GroundingData(validation.pictures, asked[len(validation.expressions) :])

    def _composition(self, training: GroundingData) -> Composition | None:
        data = self.config.data
        if not data.composition.share:
            return None
        if data.cache is not None:
            raise ConfigError("data.composition makes new pictures and sentences in every step: leave data.cache out")
        if data.shards and data.composition.photographs:
            raise ConfigError(
                "data.composition.photographs cuts things out of the training pictures: not with data.shards"
            )
        return Composition(data.composition, data.root, absent_share=data.absent_share, photographs=training)

    def _cache_images(self, training: GroundingData, validation: GroundingData) -> ImageFeatureCache | None:
        data, encoder = self.config.data, self.model_config.image_encoder
        if data.cache is None:
            if data.views > 1:
                raise ConfigError(f"data.views={data.views} are views of cached features: give data.cache a folder")
            return None
        if data.shards or not (encoder.frozen or self.model_config.text_encoder.frozen):
            raise ConfigError("data.cache keeps features of frozen encoders, for data without shards")
        if not encoder.frozen or encoder.tuned_blocks:
            return None
        if self.teacher is not None and self.teacher.side != self.model_config.image_size:
            raise ConfigError(
                f"data.cache keeps pictures of {self.model_config.image_size} x {self.model_config.image_size}, the "
                f"teacher sees {self.teacher.side} x {self.teacher.side}: leave data.cache out"
            )
        if data.crop or data.photometric:
            raise ConfigError("cached features know data.views views of a picture: set data.crop and photometric to 0")
        cache = ImageFeatureCache(data.cache, self.model.image_encoder, self.model_config.image_size, encoder.blocks)
        self.model.to(self.device)
        rank, world = self.fabric.global_rank, self.world
        pictures = [*training.pictures.values(), *validation.pictures.values()]
        cache.fill(self.model.image_encoder, pictures[rank::world], [0])
        cache.fill(self.model.image_encoder, list(training.pictures.values())[rank::world], range(1, data.views))
        self.fabric.barrier()
        return cache

    def _cache_texts(self, *read: GroundingData) -> TextFeatureCache | None:
        data, encoder = self.config.data, self.model_config.text_encoder
        if data.cache is None or not encoder.frozen:
            return None
        self.model.to(self.device)
        wanted = set().union(*(all_texts(some, data) for some in read))
        if self.main:
            TextFeatureCache(data.cache, self.model.text_encoder, encoder.tokens).fill(wanted)
        self.fabric.barrier()
        return TextFeatureCache(data.cache, self.model.text_encoder, encoder.tokens)

    def _loader(self, dataset: Any, sampler: Any = None) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.config.data.workers,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_one_thread,
        )

    def _steps(self) -> Iterator[list[Batch]]:
        """The data of the steps from this one on."""
        if self.dataset is not None:
            return iter(self._loader(self.dataset, range(self.step, self.steps)))
        from jmceln_core.data.shards import ShardStream

        stream = ShardStream(self.config.data.shards, self.builder, start_step=self.step, **self.share)
        return iter(self._loader(stream))

    # one step

    def _predict(self, batch: Batch, *, dense: int | None) -> Prediction:
        text: tuple[Tensor, ...]
        if self.texts is not None:
            features = self.texts.read(batch.texts)
            text = (features.words, features.sentence, features.mask)
        else:
            text = self.model.text_encoder.tokenize(batch.texts)
        text = tuple(x.to(self.device, non_blocking=True) for x in text)
        images = shrunk(batch.images, self.model_config.image_size)
        return cast(Prediction, self.wrapped(images, text, batch.trunk or None, dense))

    def _loss(self, batch: Batch, counts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a part of a step, with what a teacher adds, and its terms; `counts` are the whole step's."""
        dense = self.config.optim.dense or None
        prediction = self._predict(batch, dense=dense)
        loss, terms = losses.grounding_loss(prediction, batch, self.config.loss, counts)
        if self.teacher is None:
            return loss, terms
        count = self.config.optim.sentences
        texts = [text for n, text in enumerate(batch.texts) if n % count < (dense or count)]
        with self.fabric.autocast():
            lesson = self.teacher(batch.images, texts)
        distance, further = losses.distillation_loss(prediction, lesson, batch, self.config.distil, counts)
        return loss + distance, terms | further

    def _train_step(self, parts: list[Batch]) -> dict[str, float]:
        """Learn from one step's data; the terms of the loss and the gradient's norm."""
        optim = self.config.optim
        dense = optim.dense or None
        torch.manual_seed(hash((optim.seed, self.step, self.fabric.global_rank)) % 2**63)  # for dropout, if any
        factor = schedule(self.step, kind=optim.schedule, steps=self.steps, warmup=optim.warmup, power=optim.power)
        set_rate(self.optimiser, factor)
        counts = torch.stack([losses.counts(batch, dense) for batch in parts]).sum(0)
        unread = sum(len(batch.skipped) for batch in parts)
        counts = self._sum(torch.cat([counts, torch.tensor([unread, self.asked], dtype=counts.dtype)]).to(self.device))
        skipped = {"skipped_pictures": float(counts[-2])}
        self.stop = bool(counts[-1] > 0)
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        before = [statistic.clone() for statistic in self.statistics]
        self.optimiser.zero_grad(set_to_none=True)
        for number, part in enumerate(parts):
            batch = part.to(self.device)
            with self.fabric.no_backward_sync(self.wrapped, enabled=number < len(parts) - 1):
                loss, terms = self._loss(batch, counts[:-2])
                self.fabric.backward(loss * self.world)  # gradients are averaged over processes; the terms add up
            for name, value in ({"loss": loss.detach()} | terms).items():
                totals[name] = totals[name] + value
        norm = self.fabric.clip_gradients(
            self.wrapped, self.stepper, max_norm=optim.clip or math.inf, error_if_nonfinite=False
        )
        assert norm is not None
        means = self._sum(torch.stack([value.float() for value in totals.values()]))
        *values, length = torch.cat([means, whole(norm).to(means)[None]]).tolist()
        found = dict(zip(totals, values, strict=True))
        finite = math.isfinite(length) and math.isfinite(found["loss"])
        if finite or self.config.precision == "16-mixed":  # fp16's own scaler skips the step and lowers its scale
            self.stepper.step()
        if finite:
            if self.average is not None:
                self.average.update(self.model)
            self.diverged = 0
            return found | skipped | {"gradient": length}
        with torch.no_grad():
            for statistic, value in zip(self.statistics, before, strict=True):
                statistic.copy_(value)
        self.diverged += 1
        if self.diverged >= DIVERGED:
            raise TrainingError(
                f"step {self.step}: {DIVERGED} steps in a row had no finite loss or gradient ({found}); the last good "
                f"state is kept. Lower optim.lr, set optim.clip or use another precision, and start again"
            )
        return skipped | {"skipped_steps": 1.0}

    def _sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes."""
        return cast(Tensor, self.fabric.all_reduce(tensor, reduce_op="sum")) if self.world > 1 else tensor

    # the run

    def run(self) -> None:
        """Train to the end, or until SIGTERM or SIGUSR1; validate and save every so often."""
        if self.step >= self.steps:
            self._say(f"{self.folder.path}: finished at step {self.step}; nothing to do")
            return
        handlers = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
        board = Board(self.folder.path / "tensorboard", step=self.step) if self.main else None
        try:
            self._run(board)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if board is not None:
                board.close()

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self.asked = True

    def _run(self, board: Board | None) -> None:
        per_step = self.config.optim.images * self.config.optim.sentences
        bar = tqdm(total=self.steps, initial=self.step, unit="step", disable=not self.main, desc="train")
        since, reported = time.perf_counter(), self.step
        recent: dict[str, float] = defaultdict(float)
        with bar:
            for parts in self._steps():
                found = self._train_step(parts)
                for text in [text for part in parts for text in part.skipped][:3]:
                    tqdm.write(f"skipped: {text}")
                self.step += 1
                for sums in (self.sums, recent):
                    for name, value in found.items():
                        sums[name] += value
                bar.update()
                bar.set_postfix_str(f"loss {found.get('loss', math.nan):.3f}", refresh=False)
                if board is not None and self.step % REPORT_EVERY == 0:
                    seconds = time.perf_counter() - since
                    means = {name: value / (self.step - reported) for name, value in recent.items()}
                    means["sentences_per_second"] = (self.step - reported) * per_step / seconds
                    board.scalars("train", means, self.step)
                    rates = {g["name"]: g["lr"] for g in self.optimiser.param_groups}
                    board.scalars("rate", rates, self.step)
                    recent.clear()
                    since, reported = time.perf_counter(), self.step
                if self.step % self.validate_every == 0 or self.step == self.steps:
                    self._end_interval(board)
                    recent.clear()
                    since, reported = time.perf_counter(), self.step
                elif self.stop or (self.config.save_every and self.step % self.config.save_every == 0):
                    self._save_state()
                if self.stop and self.step < self.steps:
                    self._say(f"stopped at step {self.step}; the same command goes on from there")
                    return
                if self.step == self.steps:
                    return

    def _end_interval(self, board: Board | None) -> None:
        """Validate, write the checkpoints, a line of metrics.jsonl, and last the state to resume from."""
        lines = self.folder.metrics() if self.main else []
        before = max((line["step"] for line in lines if line["step"] < self.step), default=0)
        count = max(1, self.step - before)
        steps = max(1.0, count - self.sums.get("skipped_steps", 0.0))
        totals = ("skipped_steps", "skipped_pictures")
        metrics: dict[str, Any] = {
            "epoch": round(self.step / self.steps_per_epoch, 4),
            "step": self.step,
            "lr": self.optimiser.param_groups[-1]["lr"],
            **{name: round(value / steps, 6) for name, value in self.sums.items() if name not in totals},
            **{name: int(self.sums.get(name, 0)) for name in totals},
        }
        start = time.perf_counter()
        self._average_statistics()
        with self.average.applied(self.model) if self.average is not None else nullcontext():
            scores = self.validate(board)
            metrics |= {name: round(value, 6) for name, value in scores.items()}
            state = {name: whole(value) for name, value in named_tensors(self.model).items()}
        best = scores["val_miou"] > self.best
        self.best = max(self.best, scores["val_miou"])
        if self.main:
            extra = {"step": self.step, "metrics": metrics, "train": to_dict(self.config)}
            try:
                for name in ["last", "best"] if best else ["last"]:
                    path = self.folder.path / f"{name}.safetensors"
                    checkpoint.save(path, state, self.model_config, storage="fp16", extra=extra)
            except CheckpointError as error:
                raise TrainingError(f"{error}; the files before are kept. Give the same command again") from None
            self.folder.add_metrics(metrics)
            if board is not None:
                board.scalars("val", scores, self.step)
            shown = {k: v for k, v in metrics.items() if k not in totals or v}
            tqdm.write(json.dumps(shown | {"validation_seconds": round(time.perf_counter() - start, 1)}))
        self.sums.clear()
        self._save_state()

    @torch.no_grad()
    def validate(self, board: Board | None = None) -> dict[str, float]:
        """The model as it is on the validation data, at the network's own resolution, shared out over processes: mIoU
        and pointing (most probable pixel in the target) over the sentences with a target. With a presence head, the
        share of all sentences whose presence is told rightly, of those with a target that are accepted, and of those
        without that are rejected; with `data.names`, the last two of bare names and denials, and of words for nothing,
        too (`val_names_accepted`, `val_nothing_rejected`), which count for nothing else. Of several `data.val_sources`
        each is measured as well: `val_miou/SOURCE`. `val_pan_live`: with PANs, the share of the channels that they add
        which are live. `val_skipped`: batches of an unreadable picture."""
        self.wrapped.eval()
        items = self.validation.items
        rounds = math.ceil(len(items) / self.world)  # the same for all processes: they gather sharded weights together
        numbers = [(self.fabric.global_rank + i * self.world) for i in range(rounds)]
        sources = sorted({asked.picture.source for asked in items})
        each = torch.zeros(len(sources), len(_SUMS), dtype=torch.float64)
        loader = self._loader(self.validation, [n % len(items) for n in numbers])
        with LiveChannels(self.model) as live:
            for number, batch in zip(numbers, loader, strict=True):
                prediction = self._predict(batch.to(self.device), dense=None)
                if number >= len(items):
                    continue
                sums = each[sources.index(items[number].picture.source)]
                if batch.skipped:
                    tqdm.write(f"skipped: {batch.skipped[0]}")
                    sums[_SUMS.index("skipped")] += 1
                    continue
                live.add()
                sums += _measured(prediction, batch, existence=items[number].existence)
                if board is not None and number < self.config.overlays * self.world:
                    self._draw(board, number, prediction, batch)
        self.wrapped.train()
        each = self._sum(each.to(self.device)).cpu()
        scores = _scores(each.sum(0))
        for source, own in zip(sources, each, strict=True) if len(sources) > 1 else ():
            scores |= {f"{name}/{source}": value for name, value in _scores(own).items()}
        if live.pans:
            scores["val_pan_live"] = live_share(self._sum(live.sums.to(self.device)).cpu())
        skipped = float(each[:, _SUMS.index("skipped")].sum())
        return scores | ({"val_skipped": skipped} if skipped else {})

    def _draw(self, board: Board, number: int, prediction: Prediction, batch: Batch) -> None:
        """A validation picture's first answer beside the truth."""
        rgb = batch.images[0].permute(1, 2, 0).numpy()
        masks = (_difference(prediction)[0] > 0).numpy(), (batch.truth[0, 0] > 127).numpy()
        drawn, true = (enlarged(mask, rgb.shape[0]) for mask in masks)
        board.answer(f"val/{number // self.world}", rgb, drawn, true, batch.texts[0], self.step)

    # state

    def _average_statistics(self) -> None:
        """Running statistics become the mean over processes: each has seen its own share."""
        for statistic in self.statistics if self.world > 1 else ():
            statistic.copy_(cast(Tensor, self.fabric.all_reduce(statistic, reduce_op="mean")))

    def _save_state(self) -> None:
        self._average_statistics()
        tensors = {f"model/{k}": whole(v) for k, v in learning_state(self.model).items()}
        tensors |= {f"optimiser/{k}": whole(v) for k, v in optimiser_state(self.model, self.optimiser).items()}
        if self.average is not None:
            tensors |= {f"average/{k}": whole(v) for k, v in self.average.weights.items()}
        notes = {
            "step": self.step,
            "best": self.best,
            "diverged": self.diverged,
            "sums": dict(self.sums),
            "average_steps": self.average.steps if self.average is not None else 0,
            "precision": self.fabric.strategy.precision.state_dict(),
            "order": self._order(),
            "new": self.new,
            "processes": self.world,
        }
        if self.main:
            self.folder.save_state(State(tensors, notes))

    def _order(self) -> dict[str, Any]:
        """What says which samples a step holds, and what the run is measured on."""
        optim, data = self.config.optim, to_dict(self.config.data)
        names = ["dataset", "split", "val_split", "split_by", "sources", "repeat", "val_sources", "sampling"]
        names += ["left_out", "names", "composition"]
        order = {name: data[name] for name in [*names, *(["shuffle"] if data["shards"] else [])]}
        order |= {"seed": optim.seed, "images": optim.images, "sentences": optim.sentences}
        return order | {"steps_per_epoch": self.steps_per_epoch}

    def _resume(self, state: State | None) -> None:
        if state is None:
            return
        path, notes = self.folder.state_path, state.notes
        own = learning_state(self.model)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "average": {}}
        for key, value in state.tensors.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = value
        if {k: v.shape for k, v in parts["model"].items()} != {k: v.shape for k, v in own.items()}:
            raise ConfigError(f"{path}: the run was of another model; give this one another --output")
        order = self._order()
        if other := [f"{k}: {v}, now {order.get(k)}" for k, v in notes["order"].items() if order.get(k) != v]:
            raise ConfigError(
                f"{path}: the run was on other data or in another order ({'; '.join(other)}); give the same values, or "
                "another --output"
            )
        if (self.average is not None) != bool(parts["average"]):
            raise ConfigError(f"{path}: the run was {'with' if parts['average'] else 'without'} optim.ema; keep it so")
        for name, value in parts["model"].items():
            fill(own[name], value)
        fill_optimiser(self.model, self.optimiser, parts["optimiser"])
        if self.average is not None:
            for name, value in parts["average"].items():
                fill(self.average.weights[name], value)
            self.average.steps = notes["average_steps"]
        self.fabric.strategy.precision.load_state_dict(notes["precision"])
        self.step, self.best, self.diverged = notes["step"], notes["best"], notes["diverged"]
        self.sums.update(notes["sums"])
        if self.config.data.shards and notes["processes"] != self.world:
            self._say(
                f"{notes['processes']} processes before, {self.world} now: the rest of this epoch comes in another "
                "order, and some of its samples have been seen or will not be"
            )
        self._say(f"resuming {self.folder.path} at step {self.step}")

    def _say(self, text: str) -> None:
        if self.main:
            tqdm.write(text)


# What validation adds up: sentences with a target and their IoUs and hits; then, of each sort, sentences whose presence
# is asked and those for which it was told rightly: with a target, without, bare names and denials, words for nothing.
_SUMS = (
    *("meant", "ious", "hits"),
    *("there", "accepted", "absent", "rejected", "names", "names_accepted", "nothing", "nothing_rejected", "skipped"),
)


def _difference(prediction: Prediction) -> Tensor:
    """Mask logits, target minus background, (N, h, w) float32 on the CPU."""
    return (prediction.logits[:, 1] - prediction.logits[:, 0]).float().cpu()


def _measured(prediction: Prediction, batch: Batch, *, existence: bool) -> Tensor:
    """The sums of one picture's sentences, in the order of _SUMS."""
    sums = dict.fromkeys(_SUMS, 0.0)
    present = batch.present[0]
    if not existence:
        logits, truth = _difference(prediction), batch.truth[0] > 127
        guess, there = logits > 0, present & truth.any(2).any(1)
        inter, union = (guess & truth).sum((1, 2)), (guess | truth).sum((1, 2))
        hit = truth.flatten(1).gather(1, logits.flatten(1).argmax(1)[:, None])[:, 0]
        sums["meant"], sums["hits"] = float(there.sum()), float(hit[there].sum())
        sums["ious"] = float((inter / union.clamp_min(1))[there].double().sum())
    if prediction.presence is not None:
        told = prediction.presence.cpu() > 0
        sorts = ("names", "nothing") if existence else ("there", "absent")
        for sort, asked, right in zip(sorts, (present, ~present), (told & present, ~told & ~present), strict=True):
            sums[sort] = float(asked.sum())
            sums[_RIGHT[sort]] = float(right.sum())
    return torch.tensor(list(sums.values()), dtype=torch.float64)


_RIGHT = {"there": "accepted", "absent": "rejected", "names": "names_accepted", "nothing": "nothing_rejected"}


def _scores(sums: Tensor) -> dict[str, float]:
    """Validation's scores from its sums."""
    of = dict(zip(_SUMS, sums.tolist(), strict=True))
    scores = {"val_miou": of["ious"] / max(1, of["meant"]), "val_pointing": of["hits"] / max(1, of["meant"])}
    if told := of["there"] + of["absent"]:
        scores["val_presence"] = (of["accepted"] + of["rejected"]) / told
    return scores | {f"val_{right}": of[right] / of[sort] for sort, right in _RIGHT.items() if of[sort]}


def _as_it_is(item: T) -> T:
    return item


def _one_thread(worker: int) -> None:
    """As many workers as there are cores, each with a thread of its own. A signal to stop, which all processes of a
    group get, is the training process's business: it still needs its workers for the step at hand."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
