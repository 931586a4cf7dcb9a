"""Several processes, started by torchrun on the CPU, learn what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jmceln_core.train import main
from support import ROOT
from support.discs import build, command, write_model

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def launch(arguments: list[str], output: Path) -> list[str]:
    """The command for two processes."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return [*line, "-m", "jmceln_core.train", *arguments, "--output", str(output)]


def train(processes: int, arguments: list[str], output: Path) -> None:
    """Trains in as many processes, a single one being this one."""
    if processes == 1:
        assert main([*arguments, "--output", str(output)]) == 0
        return
    line = launch(arguments, output)
    done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(one: list[dict[str, float]], two: list[dict[str, float]]) -> None:
    """Losses but for rounding; the gradient's length and what is validated but for what rounding makes of it."""
    for single, double in zip(one, two, strict=True):
        assert single.keys() == double.keys()
        for name, value in single.items():
            loose = name == "gradient" or name.startswith("val_")
            assert double[name] == pytest.approx(value, rel=1e-2 if loose else 2e-4, abs=1e-5), name


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[dict[str, float]]]:
    """A command and the metrics of one process: all losses, absent sentences (so that the processes' shares have
    unequal numbers of targets), the paper's neck and norms with their statistics over all processes."""
    root = build(tmp_path_factory.mktemp("data"))
    arguments = command(
        root,
        write_model(root / "small.yaml", fusion="neck", norm="batch"),
        "--sync_norm",
        "true",
        "--data.absent_share",
        "0.4",
    )
    arguments += ["--optim.schedule", "constant"]
    train(1, arguments, root / "one")
    return arguments, lines(root / "one")


def test_two_processes_show_the_losses_of_one(one: tuple[list[str], list[dict[str, float]]], tmp_path: Path) -> None:
    train(2, one[0], tmp_path / "two")
    assert_same(one[1], lines(tmp_path / "two"))


@pytest.mark.slow
def test_two_sharded_processes_show_the_losses_of_one_and_one_goes_on_from_their_state(
    one: tuple[list[str], list[dict[str, float]]], tmp_path: Path
) -> None:
    """The state is whole: what it was saved by does not matter."""
    train(2, [*one[0], "--strategy", "fsdp", "--optim.steps", "3"], tmp_path / "run")
    assert_same(one[1][:1], lines(tmp_path / "run"))
    train(1, one[0], tmp_path / "run")
    assert_same(one[1], lines(tmp_path / "run"))


@pytest.mark.parametrize(
    ("receiver", "number"),
    [
        ("one process", signal.SIGUSR1),
        pytest.param("torchrun", signal.SIGTERM, marks=pytest.mark.slow),  # hands it on to each process's group
    ],
)
def test_a_signal_stops_all_processes_with_a_state_to_go_on_from(
    one: tuple[list[str], list[dict[str, float]]], tmp_path: Path, receiver: str, number: signal.Signals
) -> None:
    """Also while loaders' workers, which belong to the processes' groups, get the signal as well."""
    endless = [*one[0], "--optim.steps", "100000", "--validate_every", "100000", "--data.workers", "1"]
    line = launch(endless, tmp_path / "run")
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(line, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True) as process,
    ):
        while not (tmp_path / "run" / "tensorboard").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(3)  # into the steps
        if receiver == "torchrun":
            process.send_signal(number)
        else:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[-1]), number)
        process.wait(timeout=120)
        log.seek(0)
        said = log.read()
    assert "the same command goes on from there" in said, said[-3000:]
    assert (tmp_path / "run" / "state.safetensors").exists()
    # torchrun itself ends with an error after SIGTERM, whatever its processes do
    assert process.returncode == 0 or receiver == "torchrun", said[-3000:]
