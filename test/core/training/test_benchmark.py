"""The benchmark: what it counts, what it says, and that both of its halves are a Trainer's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from jmceln_core.benchmark import main
from jmceln_core.config import ConfigError, DataConfig, OptimConfig, TrainConfig
from jmceln_core.training import benchmark
from jmceln_core.training.benchmark import Benchmark, bf16_peak, measure
from jmceln_core.training.loop import Trainer
from support.refer_miniature import build


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("refer"), pictures=6)


@pytest.fixture
def config(root: Path) -> TrainConfig:
    return TrainConfig(
        model="tiny",
        data=DataConfig(root=root, dataset="refcoco", subset=True),
        optim=OptimConfig(epochs=1, images=2, sentences=2, lr=1e-3),
    )


FOUND = Benchmark(
    machine={"cpu": "a processor", "gpu": "NVIDIA H200"},
    model="paper",
    random_encoders=("image",),
    image_size=416,
    images=20,
    sentences=2,
    precision="bf16-mixed",
    workers=8,
    steps=30,
    pipeline_per_second=300.0,
    step_per_second=100.0,
    step_median=0.2,
    step_95=0.25,
    peak_memory=3 * 2**30,
    flop=49_470_000_000_000,
    bf16_peak=989.4e12,
)


def test_the_numbers_follow_from_what_was_measured() -> None:
    assert FOUND.ratio == 3
    assert FOUND.share_of_peak == pytest.approx(0.25)
    assert replace(FOUND, bf16_peak=None).share_of_peak is None


def test_the_table_says_whether_the_pipeline_is_quick_enough() -> None:
    table = FOUND.markdown()
    for text in (
        "| data pipeline alone, 8 workers | 300.0 pictures/s, 600.0 sentences/s |",
        "| training step alone | 100.0 pictures/s, 200.0 sentences/s |",
        "| ratio, at least 3 | 3.0: OK |",
        "| step, 95th percentile | 250.0 ms |",
        "| peak memory, of tensors on the GPU | 3072 MiB |",
        "| computed | 247.350 TFLOP/s |",
        "| share of that peak | 25.0% |",
        "Random weights, not published ones: image encoder.",
        "gpu NVIDIA H200",
    ):
        assert text in table
    assert "| ratio, at least 3 | 2.9: TOO SLOW |" in replace(FOUND, pipeline_per_second=294.0).markdown()
    unknown = replace(FOUND, bf16_peak=None, machine={"cpu": "a processor"}).markdown()
    assert "| share of that peak | unknown |" in unknown
    assert "resident set" in unknown


@pytest.mark.parametrize(
    ("gpu", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("A100-SXM4-40GB", 312.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA H100 PCIe", None),  # slower than the SXM module, and not in the table
        ("NVIDIA H200 NVL", None),
        ("NVIDIA L40S", None),  # not an L4
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("", None),
    ],
)
def test_the_peak_is_that_of_the_gpu_by_name(gpu: str, tera: float | None) -> None:
    assert bf16_peak(gpu) == (None if tera is None else pytest.approx(1e12 * tera))


def test_operations_of_a_step_are_those_of_nearly_three_forward_passes(config: TrainConfig, tmp_path: Path) -> None:
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    parts = next(trainer.feed.steps(0, trainer.steps))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        trainer.learner.predict(parts[0], dense=None)
    forward = counter.get_total_flops()
    # every product has two in the backward pass, but for gradients that nobody needs, such as the picture's own
    assert 2.9 * forward < benchmark._flop(trainer.learner, parts) < 3 * forward


def counted(forward: Callable[[], Tensor]) -> int:
    """Operations of a computation and of its gradients."""

    class Fake:
        def learn(self, parts: object, step: int) -> None:
            forward().sum().backward()

    return benchmark._flop(Fake(), [])  # type: ignore[arg-type]


def test_operations_are_counted_inside_attention_as_well() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(3, 5, 8, requires_grad=True)
    projections = 4 * 3 * 5 * 8 * 8  # q, k, v and out
    products = 2 * 3 * 5 * 5 * 8  # q k^T and its product with v
    assert counted(lambda: attention(x, x, x, need_weights=False)[0]) == 3 * 2 * (projections + products)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_operations_of_a_convolution_with_groups(groups: int) -> None:
    convolution = nn.Conv2d(8, 16, 3, padding=1, stride=2, groups=groups)
    x = torch.randn(2, 8, 10, 6)
    forward = 2 * 2 * (5 * 3) * 16 * (8 // groups) * 9
    assert counted(lambda: convolution(x)) == 2 * forward  # the picture itself gets no gradient
    x.requires_grad_(True)
    assert counted(lambda: convolution(x)) == 3 * forward


def test_both_halves_are_measured_and_nothing_is_kept(config: TrainConfig, tmp_path: Path) -> None:
    found = measure(config, steps=2, device="cpu")
    assert (found.images, found.sentences, found.steps, found.model) == (2, 2, 2, "tiny")
    assert found.random_encoders == ("image", "text")
    assert 0 < found.step_median <= found.step_95
    assert found.step_per_second == pytest.approx(2 / found.step_median)
    assert found.pipeline_per_second > 0
    assert found.peak_memory > 50 * 2**20  # PyTorch alone has more
    assert found.bf16_peak is None


def test_the_pipelines_clock_starts_when_what_workers_made_in_advance_is_used_up(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def steps() -> Iterator[list[int]]:
        nonlocal now
        for number in range(20):
            now += 0.0 if number < 6 else 1.0
            yield [number]

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now)
    seconds, held = benchmark._pipeline(steps(), 6)  # type: ignore[arg-type]
    assert seconds == 14
    assert held == [[n] for n in range(benchmark.HELD)]


def test_the_command_prints_the_table_and_writes_json(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", "tiny", "--data.root", str(root), "--data.subset", "true", "--data.workers", "1"]
    file = tmp_path / "benchmark.json"
    assert main([*arguments, "--device", "cpu", "--steps", "1", "--output", str(file)]) == 0
    out = capsys.readouterr().out
    assert "| data pipeline alone, 1 workers |" in out
    assert "threads" in out
    written = json.loads(file.read_text())
    assert written["ratio"] == pytest.approx(written["pipeline_per_second"] / written["step_per_second"])
    assert written["share_of_peak"] is None
    assert written["machine"]["device"] == "cpu"
    assert main([*arguments, "--device", "cpu", "--data.root", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_no_steps_and_several_processes_are_refused(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        measure(config, steps=0, device="cpu")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ConfigError, match="without torchrun"):
        measure(config, steps=1, device="cpu")
