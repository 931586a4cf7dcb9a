"""Several processes, started by torchrun on the CPU, learn what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from discs import build, command, write_model

HERE = Path(__file__).resolve().parent


def train(processes: int, arguments: list[str], output: Path) -> None:
    line = [sys.executable]
    if processes > 1:
        line += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    line += ["-m", "jmceln_core.train", *arguments, "--output", str(output)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[dict[str, float]]]:
    """A command and the metrics of one process: all losses, absent sentences (so that the processes' shares have
    unequal numbers of targets), SwitchNorm's statistics over all processes."""
    root = build(tmp_path_factory.mktemp("data"))
    arguments = command(root, write_model(root / "small.yaml"), "--sync_norm", "true", "--data.absent_share", "0.4")
    arguments += ["--optim.schedule", "constant"]
    train(1, arguments, root / "one")
    return arguments, lines(root / "one")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_show_the_losses_of_one(
    one: tuple[list[str], list[dict[str, float]]], tmp_path: Path, strategy: str
) -> None:
    train(2, [*one[0], "--strategy", strategy], tmp_path / "two")
    for single, double in zip(one[1], lines(tmp_path / "two"), strict=True):
        assert double == pytest.approx(single, rel=1e-3, abs=2e-5)


def test_a_state_of_two_sharded_processes_goes_on_in_one(
    one: tuple[list[str], list[dict[str, float]]], tmp_path: Path
) -> None:
    """The state is whole: what it was saved by does not matter."""
    train(2, [*one[0], "--strategy", "fsdp", "--optim.steps", "3"], tmp_path / "run")
    train(1, one[0], tmp_path / "run")
    for parts, whole in zip(lines(tmp_path / "run"), one[1], strict=True):
        assert parts == pytest.approx(whole, rel=1e-3, abs=2e-5)
