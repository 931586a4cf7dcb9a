"""What a run reads: the steps' data and the validation pictures, with the features that are cached of them."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from typing import Any, TypeVar

import cv2
import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader, Dataset

from jmceln_core.config import ConfigError, DataConfig, ModelConfig, TrainConfig
from jmceln_core.data.dataset import Batch, SampleBuilder, StepDataset, ValidationDataset, all_texts
from jmceln_core.data.grounding import GroundingData
from jmceln_core.data.readers import read_training
from jmceln_core.model import JMCELN
from jmceln_core.synthesis.composition.live import Composition
from jmceln_core.synthesis.enrich import enrich
from jmceln_core.training.features import ImageFeatureCache, TextFeatureCache
from jmceln_core.training.run_folder import TrainingError

T = TypeVar("T")


def content_of(*parts: GroundingData) -> str:
    """Which pictures and sentences these are, in a word: it differs if one comes, goes or changes its place."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(list(part.pictures)).encode())
        digest.update(repr([(e.picture_id, e.targets, e.text) for e in part.expressions]).encode(errors="replace"))
    return digest.hexdigest()[:16]


class Feed:
    """Reads what the configuration names, and fills the caches it asks for; every process at the same time.

    `view_size`: side of the square that a teacher sees, 0 without one. Raises ConfigError and DataError.
    """

    def __init__(
        self, config: TrainConfig, model_config: ModelConfig, model: JMCELN, fabric: Fabric, *, view_size: int = 0
    ) -> None:
        self.config, self.model_config, self.model, self.fabric = config, model_config, model, fabric
        self.view_size = view_size
        training, validation = self._read()
        self.content = content_of(training, validation)
        self.builder = SampleBuilder(
            config.data,
            model_config.image_size,
            model_config.mask_size,
            instances=config.loss.contrast > 0,
            composition=self._composition(training),
            cache=self._cache_images(training, validation),
            view_size=view_size,
            resize=model_config.resize,
        )
        existence = self._existence(validation)
        self.texts = self._cache_texts(training, validation, existence)
        self._share: dict[str, Any] = {
            "images": config.optim.images,
            "sentences": config.optim.sentences,
            "seed": config.optim.seed,
            "parts": config.optim.accumulate,
            "rank": fabric.global_rank,
            "world": fabric.world_size,
        }
        self.dataset = None if config.data.shards else StepDataset(training, self.builder, **self._share)
        self.validation = ValidationDataset(validation, self.builder, existence)
        source = self._stream(0) if self.dataset is None else self.dataset
        self.steps_per_epoch: int = source.steps_per_epoch

    def steps(self, first: int, end: int) -> Iterator[list[Batch]]:
        """The data of the steps from `first` on, to before `end`; shards go on beyond."""
        if self.dataset is not None:
            return iter(self.loader(self.dataset, range(first, end)))
        return iter(self.loader(self._stream(first)))

    def loader(self, dataset: Dataset, sampler: Any = None) -> DataLoader:
        """What `dataset` holds, made by `data.workers` processes. Its iterator raises TrainingError if they die."""
        # older tokenizers warn in every process that is forked after sentences were tokenised; workers tokenise nothing
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        return _Loader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.config.data.workers,
            collate_fn=_as_it_is,
            pin_memory=self.fabric.device.type == "cuda",
            worker_init_fn=_one_thread,
        )

    def _stream(self, first: int) -> Any:
        from jmceln_core.data.shards import ShardStream

        return ShardStream(self.config.data.shards, self.builder, start_step=first, **self._share)

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
        if self.view_size not in (0, self.model_config.image_size):
            raise ConfigError(
                f"data.cache keeps pictures of {self.model_config.image_size} x {self.model_config.image_size}, the "
                f"teacher sees {self.view_size} x {self.view_size}: leave data.cache out"
            )
        if data.crop or data.photometric:
            raise ConfigError("cached features know data.views views of a picture: set data.crop and photometric to 0")
        cache = ImageFeatureCache(
            data.cache,
            self.model.image_encoder,
            self.model_config.image_size,
            encoder.blocks,
            resize=self.model_config.resize,
        )
        self.model.to(self.fabric.device)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        pictures = [*training.pictures.values(), *validation.pictures.values()]
        cache.fill(self.model.image_encoder, pictures[rank::world], [0])
        cache.fill(self.model.image_encoder, list(training.pictures.values())[rank::world], range(1, data.views))
        self.fabric.barrier()
        return cache

    def _cache_texts(self, *read: GroundingData) -> TextFeatureCache | None:
        data, encoder = self.config.data, self.model_config.text_encoder
        if data.cache is None or not encoder.frozen:
            return None
        self.model.to(self.fabric.device)
        wanted = set().union(*(all_texts(some, data) for some in read))
        if self.fabric.is_global_zero:
            TextFeatureCache(data.cache, self.model.text_encoder, encoder.tokens).fill(wanted)
        self.fabric.barrier()
        return TextFeatureCache(data.cache, self.model.text_encoder, encoder.tokens)


class _Loader(DataLoader):
    def __iter__(self) -> Any:
        if not self.num_workers:
            return super().__iter__()
        with _explained(self.num_workers):
            batches = super().__iter__()
        return _each(batches, self.num_workers)


# What PyTorch says of a worker that died, and what to do about it.
_SMALL = (
    "/dev/shm is too small for what they hand over; give the container more (docker run --shm-size=8g, or --ipc=host), "
    "or set data.workers=0"
)
_DEATHS = {
    "signal: Bus error": _SMALL,
    "No space left on device": _SMALL,  # not even room for the workers' locks
    "signal: Killed": "it was killed, most likely because the memory is full; fewer data.workers need less",
    "Too many open files": "too many files are open; allow more (ulimit -n 65536), or fewer data.workers",
}


@contextmanager
def _explained(workers: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        chain = f"{error} {error.__cause__} {error.__context__}"
        for sign, remedy in _DEATHS.items():
            if sign in chain:
                raise TrainingError(
                    f"a process that reads the samples died (data.workers={workers}): {remedy}. The same command goes "
                    "on from the last state"
                ) from None
        raise


def _each(batches: Iterator[T], workers: int) -> Iterator[T]:
    with _explained(workers):
        yield from batches


def _as_it_is(item: T) -> T:
    return item


def _one_thread(worker: int) -> None:
    """As many workers as there are cores, each with a thread of its own. A signal to stop, which all processes of a
    group get, is the training process's business: it still needs its workers for the step at hand."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end(error: Exception, item: object) -> None:
    """End this worker, whose samples cannot be handed over: Python's own way is to drop them, and the training process
    would wait for them without end. A full /dev/shm ends it as a write beyond it would."""
    if "shared memory" in str(error):
        os.kill(os.getpid(), signal.SIGBUS)
    traceback.print_exception(error, file=sys.stderr)
    os._exit(1)
