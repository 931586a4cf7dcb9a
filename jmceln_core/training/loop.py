"""The training loop: any of the data sets, one process or many, restartable at any moment.

A step's data (`feed`) and random numbers (`step`) are functions of (seed, step), and its losses are divided by the
whole step's numbers of sentences, so that a resumed run (`resume`) equals an uninterrupted one (bit for bit on the CPU)
and the number of processes does not change what is learned, but for rounding. `validation` says what is measured on the
way, `run_folder` what a run leaves behind.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from jmceln_core import checkpoint
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.config import ConfigError, TrainConfig, load_model_config, to_dict
from jmceln_core.data.dataset import share_of
from jmceln_core.model import JMCELN, build_model
from jmceln_core.model.pan import PAN
from jmceln_core.training import losses, resume
from jmceln_core.training.board import Board
from jmceln_core.training.distil import Teacher
from jmceln_core.training.engine import make_fabric, named_tensors, summed, whole
from jmceln_core.training.feed import Feed
from jmceln_core.training.run_folder import RunFolder, State, TrainingError
from jmceln_core.training.step import Learner
from jmceln_core.training.validation import validate

REPORT_EVERY = 20  # steps between points of TensorBoard's training curves


class Trainer:
    """One run. Build it, then `run()`.

    Raises ConfigError, DataError or TrainingError, whose messages say what to do; what was saved before stays.
    """

    def __init__(self, config: TrainConfig, output: Path, *, device: torch.device | str | None = None) -> None:
        self.config = config
        if config.threads:
            torch.set_num_threads(config.threads)
        self.model_config = load_model_config(config.model, config.model_overrides)
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
        if alone and self.model_config.norm == "batch" and not (config.sync_norm and self.world > 1):
            together = "set sync_norm=true, or " if self.world > 1 else ""
            raise ConfigError(
                "norm=batch cannot train on one sentence at a time: give a process and its parts (optim.accumulate) "
                f"two or more, or {together}model_overrides=[norm=group]"
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
        teacher = Teacher(config.distil, self.model_config, self.device) if config.distil.teacher else None
        view_size = 0 if teacher is None else teacher.side
        self.feed = Feed(config, self.model_config, self.model, self.fabric, view_size=view_size)
        self.steps = config.optim.steps or config.optim.epochs * self.feed.steps_per_epoch
        self.validate_every = config.validate_every or self.feed.steps_per_epoch
        self.learner = Learner(
            config,
            self.model_config,
            self.model,
            self.fabric,
            steps=self.steps,
            teacher=teacher,
            texts=self.feed.texts,
            new=self.new,
        )
        self.step, self.best = 0, -1.0
        self.sums: dict[str, float] = defaultdict(float)  # of the steps since the last line of metrics.jsonl
        self.asked = False  # to stop, this process, at any moment
        if state is not None:
            self._resume(state)
        if summed(self.fabric, torch.tensor(self.step, device=self.device)) != self.step * self.world:
            raise TrainingError(
                f"{output}: the processes found states of different steps in it; all machines must see the same folder"
            )
        if self.main:
            everything = {"train": to_dict(config), "model": to_dict(self.model_config)}
            for change in self.folder.describe_start(everything, device=self.device, world=self.world, step=self.step):
                tqdm.write(f"changed since the run's last start: {change}")

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
            for parts in self.feed.steps(self.step, self.steps):
                found, stop = self.learner.learn(parts, self.step, asked=self.asked)
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
                    rates = {g["name"]: g["lr"] for g in self.learner.optimiser.param_groups}
                    board.scalars("rate", rates, self.step)
                    recent.clear()
                    since, reported = time.perf_counter(), self.step
                if self.step % self.validate_every == 0 or self.step == self.steps:
                    self._end_interval(board)
                    recent.clear()
                    since, reported = time.perf_counter(), self.step
                elif stop or (self.config.save_every and self.step % self.config.save_every == 0):
                    self._save_state()
                if stop and self.step < self.steps:
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
            "epoch": round(self.step / self.feed.steps_per_epoch, 4),
            "step": self.step,
            "lr": self.learner.optimiser.param_groups[-1]["lr"],
            **{name: round(value / steps, 6) for name, value in self.sums.items() if name not in totals},
            **{name: int(self.sums.get(name, 0)) for name in totals},
        }
        start = time.perf_counter()
        self.learner.average_statistics()
        average = self.learner.average
        with average.applied(self.model) if average is not None else nullcontext():
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

    def validate(self, board: Board | None = None) -> dict[str, float]:
        """The scores of the model as it is (`validation.validate`)."""
        return validate(self.learner, self.feed, board, step=self.step, overlays=self.config.overlays)

    def _save_state(self) -> None:
        state = resume.state_of(
            self.learner,
            {
                "step": self.step,
                "best": self.best,
                "sums": dict(self.sums),
                "order": self._order(),
                "new": self.new,
                "processes": self.world,
            },
        )
        if self.main:
            self.folder.save_state(state)

    def _order(self) -> dict[str, Any]:
        return resume.order_of(self.config, self.model_config, self.feed.steps_per_epoch, self.feed.content)

    def _resume(self, state: State) -> None:
        resume.restore(self.learner, state, self._order(), self.folder.state_path)
        notes = state.notes
        self.step, self.best = notes["step"], notes["best"]
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
