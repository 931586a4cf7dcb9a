"""How fast the data pipeline and a training step are, apart from each other.

Both are a Trainer's own: its loader with its workers, and its step with forward, loss, backward and optimiser. A run is
as fast as the slower of the two, and the pipeline's processes need cores of which the step leaves some: it should be
MARGIN times as fast alone.
"""

from __future__ import annotations

import math
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from jmceln_core.config import ConfigError, TrainConfig
from jmceln_core.data.dataset import Batch
from jmceln_core.evaluation import machine
from jmceln_core.markdown import table
from jmceln_core.training.loop import Trainer
from jmceln_core.training.step import Learner

MARGIN = 3.0
WARM = 3  # training steps before the clock starts: caches, the allocator, the choice of kernels
HELD = 8  # steps whose data is held in memory for the training steps, in turn

# Dense bf16 with float32 sums, in TFLOP/s, by the name PyTorch gives the GPU. NVIDIA's data sheets of the H100 (SXM),
# the H200 (SXM), the A100 and the L4, whose figures with sparsity are twice these; the white paper on the Ada
# architecture for the RTX 4090.
PEAKS = {
    r"NVIDIA H100 80GB HBM3": 989.4,
    r"NVIDIA H200": 989.4,
    r"(NVIDIA )?A100.*": 312.0,
    r"NVIDIA L4": 121.0,
    r"NVIDIA GeForce RTX 4090": 165.2,
}


@dataclass(frozen=True)
class Benchmark:
    """What was measured. Rates are of pictures, `sentences` of them times as many sentences."""

    machine: dict[str, str | int]
    model: str
    random_encoders: tuple[str, ...]  # of image and text, those without published weights
    image_size: int
    images: int  # pictures in a step
    sentences: int  # of each picture
    precision: str
    workers: int
    steps: int  # training steps measured
    pipeline_per_second: float  # pictures, the loader alone
    step_per_second: float  # pictures, a step of median length alone
    step_median: float  # seconds
    step_95: float  # seconds, 95th percentile
    peak_memory: int  # bytes: on CUDA those of tensors, else the process's resident set
    flop: int  # floating point operations of forward and backward
    bf16_peak: float | None  # FLOP/s of the device, None where it is not known

    @property
    def ratio(self) -> float:
        """How many times as fast as the step the pipeline is."""
        return self.pipeline_per_second / self.step_per_second

    @property
    def share_of_peak(self) -> float | None:
        """Of the device's bf16 peak, what a step of median length uses."""
        return None if self.bf16_peak is None else self.flop / self.step_median / self.bf16_peak

    def markdown(self) -> str:
        """A table, and above it what was measured on which machine."""
        verdict = "OK" if self.ratio >= MARGIN else "TOO SLOW"
        on_cuda = "gpu" in self.machine
        memory = "of tensors on the GPU" if on_cuda else "resident set of the process"
        peak, share = "unknown for this device", "unknown"
        if self.bf16_peak is not None and self.share_of_peak is not None:
            peak, share = f"{self.bf16_peak / 1e12:.1f} TFLOP/s", f"{self.share_of_peak:.1%}"
        rows = {
            f"data pipeline alone, {self.workers} workers": self._rate(self.pipeline_per_second),
            "training step alone": self._rate(self.step_per_second),
            f"ratio, at least {MARGIN:g}": f"{self.ratio:.1f}: {verdict}",
            "step, median": f"{1e3 * self.step_median:.1f} ms",
            "step, 95th percentile": f"{1e3 * self.step_95:.1f} ms",
            f"peak memory, {memory}": f"{self.peak_memory / 2**20:.0f} MiB",
            "forward and backward": f"{self.flop / 1e9:.2f} GFLOP",
            "computed": f"{self.flop / self.step_median / 1e12:.3f} TFLOP/s",
            "peak, dense bf16": peak,
            "share of that peak": share,
        }
        about = (
            f"Model {self.model} at {self.image_size} x {self.image_size}, {self.images} pictures x {self.sentences} "
            f"sentences a step, {self.precision}, {self.steps} steps."
        )
        if self.random_encoders:
            about += f" Random weights, not published ones: {' and '.join(self.random_encoders)} encoder."
        lines = [about, "Machine: " + ", ".join(f"{name} {value}" for name, value in self.machine.items()) + ".", ""]
        return "\n".join([*lines, *table(("", ""), rows.items())])

    def _rate(self, pictures: float) -> str:
        return f"{pictures:.1f} pictures/s, {pictures * self.sentences:.1f} sentences/s"


def measure(config: TrainConfig, *, steps: int = 30, device: str | torch.device | None = None) -> Benchmark:
    """Measure the pipeline over MARGIN times `steps` steps, then `steps` training steps on data already in memory.

    Nothing is kept. Raises ConfigError, DataError or TrainingError as training would, and ConfigError under torchrun.
    """
    if steps < 1:
        raise ConfigError(f"steps={steps}: must be at least 1")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError("the benchmark measures one process: start it without torchrun")
    filled = 2 * config.data.workers + 2  # steps' data that workers may have made before the first is asked for
    read = round(MARGIN * steps)
    config = replace(config, optim=replace(config.optim, steps=filled + read))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder), device=device)
        pipeline, held = _pipeline(trainer.feed.steps(0, trainer.steps), filled)
        if trainer.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.device)
        seconds = [_step(trainer.learner, held[n % len(held)]) for n in range(WARM + steps)][WARM:]
        memory = _peak_memory(trainer.device)
        model = trainer.model_config
        image, text = model.image_encoder, model.text_encoder
        published = {
            "image": image.pretrained and image.name != "tiny",
            "text": text.pretrained and text.name != "tiny",
        }
        images, sentences = config.optim.images, config.optim.sentences
        about = machine.describe(trainer.device)
        return Benchmark(
            machine=about,
            model=model.name,
            random_encoders=tuple(name for name, known in published.items() if not known),
            image_size=model.image_size,
            images=images,
            sentences=sentences,
            precision=config.precision,
            workers=config.data.workers,
            steps=steps,
            pipeline_per_second=images * read / pipeline,
            step_per_second=images / float(np.median(seconds)),
            step_median=float(np.median(seconds)),
            step_95=float(np.percentile(seconds, 95)),
            peak_memory=memory,
            flop=_flop(trainer.learner, held[0]),
            bf16_peak=bf16_peak(str(about.get("gpu", ""))),
        )


def bf16_peak(gpu: str) -> float | None:
    """FLOP/s of a GPU of this name, dense bf16; None for one that is not in PEAKS."""
    return next((1e12 * peak for name, peak in PEAKS.items() if re.fullmatch(name, gpu)), None)


def _pipeline(steps: Iterable[list[Batch]], filled: int) -> tuple[float, list[list[Batch]]]:
    """Seconds that the steps' data take after the first `filled`, and the data of the first few."""
    held: list[list[Batch]] = []
    begin = time.perf_counter()
    for number, parts in enumerate(steps):
        if len(held) < HELD:
            held.append(parts)
        if number == filled - 1:  # what was made in advance is used up
            begin = time.perf_counter()
    return time.perf_counter() - begin, held


def _step(learner: Learner, parts: list[Batch]) -> float:
    """Seconds of a training step."""
    begin = time.perf_counter()
    learner.learn(parts, 0)
    if learner.fabric.device.type == "cuda":
        torch.cuda.synchronize(learner.fabric.device)
    return time.perf_counter() - begin


def _flop(learner: Learner, parts: list[Batch]) -> int:
    """Floating point operations of a step's matrix products and convolutions, a multiplication and an addition being
    two; attention's are counted as the two products it consists of, on any device."""
    formulas: dict[Any, Any] = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, sdpa_kernel(SDPBackend.MATH):
        learner.learn(parts, 0)
    return counter.get_total_flops()


def _convolution_backward(
    out: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    wanted: Sequence[bool],
    **_: object,
) -> int:
    """The input's gradient and the weight's cost as much as the convolution each. PyTorch's own formula takes the
    weight's to be that of a convolution without groups: for PAN's depthwise ones, hundreds of times too much."""
    places = math.prod((x if transposed else out)[2:])
    return sum(map(bool, wanted[:2])) * 2 * x[0] * places * math.prod(weight)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
