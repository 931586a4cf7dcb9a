"""The training loop of a model with frozen encoders: cached features, many sentences an image half, resumable.

RUN/ holds `metrics.jsonl` (a line a validation), `last.safetensors` and `best.safetensors` (checkpoints of the averaged
weights; best by validation mIoU), `config.json`, and `state.safetensors`, from which the same command goes on: weights,
their average and the optimiser's moments. A step's data depends on (seed, step) alone, so a resumed run equals an
uninterrupted one.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from jmceln_core import checkpoint
from jmceln_core.config import ConfigError, ModelConfig, TrainConfig, load_model_config, to_dict
from jmceln_core.data.dataset import Batch, GroundingBatches, build_pools, read_sources
from jmceln_core.model import JMCELN, Prediction, build_model
from jmceln_core.training.features import ImageFeatureCache, TextFeatureCache
from jmceln_core.training.losses import grounding_loss
from jmceln_core.training.optimiser import AveragedWeights, cosine, parameter_groups

VALIDATION_SENTENCES = 6  # of each validation picture


class Trainer:
    """One run. Build it, then `run()`."""

    def __init__(self, config: TrainConfig, output: Path, *, device: torch.device | str | None = None) -> None:
        self.config, self.output = config, output
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.optim.seed)
        self.model_config: ModelConfig = load_model_config(config.model, config.model_overrides)
        if not (self.model_config.image_encoder.frozen and self.model_config.text_encoder.frozen):
            raise ConfigError(
                "this loop trains on cached features: image_encoder.frozen and text_encoder.frozen must be true"
            )
        if self.model_config.image_encoder.name == "dinov2_vits14" and not self.model_config.fine_skip:
            raise ConfigError("training with dinov2_vits14 needs fine_skip=true (without it the mask has another size)")
        self.model = build_model(self.model_config, pretrained=True)
        self.model.to(self.device).train()
        self._prepare_data()
        self.average = AveragedWeights(self.model, config.optim.ema)
        self.optimiser = torch.optim.AdamW(
            cast(Any, parameter_groups(self.model, config.optim.weight_decay)), lr=config.optim.lr, betas=(0.9, 0.98)
        )
        self.step, self.best = 0, -1.0
        output.mkdir(parents=True, exist_ok=True)
        self._resume()

    def _prepare_data(self) -> None:
        data, optim = self.config.data, self.config.optim
        training, validation = read_sources(data)
        pictures = [*training.pictures.values(), *validation.pictures.values()]
        self.images = ImageFeatureCache(
            data.cache, self.model.image_encoder, self.model_config.image_size, self.model_config.image_encoder.blocks
        )
        self.images.fill(pictures, [0])
        self.images.fill(list(training.pictures.values()), range(1, data.views))
        # the mask's size follows from the network: a quarter of the image with a fine skip, else all of it
        mask_size = self.model_config.image_size // (4 if self.model_config.fine_skip else 1)
        shared = {"image_size": self.model_config.image_size, "mask_size": mask_size, "seed": optim.seed}
        self.batches = GroundingBatches(
            training,
            build_pools(training, data, seed=optim.seed),
            data,
            images=optim.images,
            sentences=optim.sentences,
            **shared,
        )
        pools = build_pools(validation, data, seed=optim.seed)
        self.validation = GroundingBatches(validation, pools, data, images=1, sentences=VALIDATION_SENTENCES, **shared)
        self.texts = TextFeatureCache(data.cache, self.model.text_encoder, self.model_config.text_encoder.tokens)
        self.texts.fill(self.batches.texts() | self.validation.texts())

    def _predict(self, model: JMCELN, batch: Batch, *, dense: int | None) -> Prediction:
        read = [self.images.read(p, v, mirrored=m) for p, (v, m) in zip(batch.pictures, batch.views, strict=True)]
        image = torch.stack([r[0] for r in read]).to(self.device)
        trunk = tuple(torch.stack(maps).to(self.device) for maps in zip(*(r[1] for r in read), strict=True))
        text = self.texts.read(batch.texts).to(self.device)
        return model.decode(model.encode_image(image, trunk), text, dense=dense)

    def run(self) -> None:
        """Train to the end; validate and save every so often."""
        optim = self.config.optim
        sums: dict[str, float] = defaultdict(float)
        since, last = time.perf_counter(), self.step
        bar = tqdm(range(self.step, optim.steps), initial=self.step, total=optim.steps, unit="step")
        for step in bar:
            batch = self.batches.batch(step)
            rate = optim.lr * cosine(step, steps=optim.steps, warmup=optim.warmup)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            prediction = self._predict(self.model, batch, dense=optim.dense)
            loss, terms = grounding_loss(
                prediction,
                batch.masks.to(self.device),
                batch.targets.to(self.device),
                batch.rivals.to(self.device),
                self.config.loss,
            )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), optim.clip)
            self.step = step + 1
            if norm.isfinite():
                self.optimiser.step()
                self.average.update(self.model)
                for name, value in ({"loss": float(loss.detach())} | terms).items():
                    sums[name] += value
            else:
                sums["skipped"] += 1  # the share is reported with the metrics; the weights stay as they were
            bar.set_postfix(loss=f"{loss.detach():.3f}")
            if self.step % self.config.validate_every == 0 or self.step == optim.steps:
                count = self.step - last
                seconds = time.perf_counter() - since
                metrics = {
                    "step": self.step,
                    "lr": rate,
                    "sentences_per_second": round(count * optim.images * optim.sentences / seconds, 2),
                    **{k: round(v / count, 5) for k, v in sums.items()},
                    **{k: round(v, 5) for k, v in self.validate().items()},
                }
                self._save(metrics)
                tqdm.write(json.dumps(metrics))
                sums.clear()
                since, last = time.perf_counter(), self.step

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """The averaged weights on the validation pictures' written sentences, at the network's own resolution: mIoU,
        and pointing: the share whose most probable pixel lies in the target."""
        model = self.average.model
        ious, hits, present = [], [], []
        for picture_id in sorted(self.validation.pools):
            pool = self.validation.pools[picture_id]
            some = pool.written[:: max(1, len(pool.written) // VALIDATION_SENTENCES)][:VALIDATION_SENTENCES]
            some = some + pool.absent[:2]
            if not some:
                continue
            batch = self.validation.collate([self.validation.data.pictures[picture_id]], [some])
            prediction = self._predict(model, batch, dense=None)
            logits = prediction.logits[:, 1] - prediction.logits[:, 0]
            truth = torch.einsum("sk,khw->shw", batch.targets[0].float(), batch.masks[0]) > 0.5
            guess = logits.cpu() > 0
            inter, union = (guess & truth).sum((1, 2)), (guess | truth).sum((1, 2))
            there = batch.targets[0].any(-1) & truth.any(2).any(1)
            peak = logits.cpu().flatten(1).argmax(1)
            hit = truth.flatten(1).gather(1, peak[:, None])[:, 0]
            ious += (inter / union.clamp_min(1))[there].tolist()
            hits += hit[there].float().tolist()
            if prediction.presence is not None:
                right = (prediction.presence.cpu() > 0) == batch.targets[0].any(-1)
                present += right.float().tolist()
        means = {"val_miou": float(np.mean(ious)), "val_pointing": float(np.mean(hits))}
        return means | ({"val_presence": float(np.mean(present))} if present else {})

    def _save(self, metrics: dict[str, Any]) -> None:
        state = self.average.state_dict()
        extra = {"step": self.step, "metrics": metrics, "train": to_dict(self.config)}
        checkpoint.save(self.output / "last.safetensors", state, self.model_config, storage="fp16", extra=extra)
        if metrics["val_miou"] > self.best:
            self.best = metrics["val_miou"]
            checkpoint.save(self.output / "best.safetensors", state, self.model_config, storage="fp16", extra=extra)
        with (self.output / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics) + "\n")
        (self.output / "config.json").write_text(
            json.dumps({"train": to_dict(self.config), "model": to_dict(self.model_config)}, indent=1)
        )
        tensors = {f"model.{k}": v for k, v in self._trained(self.model.state_dict()).items()}
        tensors |= {f"average.{k}": v for k, v in self._trained(state).items()}
        moments = self.optimiser.state_dict()["state"]
        tensors |= {f"optimiser.{i}.{k}": v for i, entry in moments.items() for k, v in entry.items()}
        path = self.output / "state.safetensors"
        partial = path.with_suffix(f".{os.getpid()}")
        notes = {"step": str(self.step), "best": str(self.best), "average_steps": str(self.average.steps)}
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, notes)
        partial.replace(path)

    def _trained(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A state without the frozen encoders' weights."""
        frozen = {id(p) for module in self.model.frozen for p in module.state_dict(keep_vars=True).values()}
        kept = [k for k, v in self.model.state_dict(keep_vars=True).items() if id(v) not in frozen]
        return {k: state[k] for k in kept}

    def _resume(self) -> None:
        path = self.output / "state.safetensors"
        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            notes = file.metadata()
        tensors = load_file(path)

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        for model, prefix in ((self.model, "model."), (self.average.model, "average.")):
            found = part(prefix)
            expected = self._trained(model.state_dict())
            if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in expected.items()}:
                raise ConfigError(f"{path}: the run was of another model; give this one another --output")
            model.load_state_dict(found, strict=False)  # the frozen encoders are not in it
        state = self.optimiser.state_dict()
        moments: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
        for key, value in part("optimiser.").items():
            index, name = key.split(".")
            moments[int(index)][name] = value
        self.optimiser.load_state_dict(state | {"state": dict(moments)})
        self.step, self.best = int(notes["step"]), float(notes["best"])
        self.average.steps = int(notes["average_steps"])
        tqdm.write(f"resuming {self.output} at step {self.step}")
