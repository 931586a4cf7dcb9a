"""A run that is killed, stopped or short of disk goes on to what the uninterrupted run would have been."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from jmceln_core.data.dataset import StepDataset
from jmceln_core.train import main
from support import ROOT
from support.discs import build, command, write_model

PAPERS = {"fusion": "neck", "norm": "batch"}  # where a batch's statistics are part of the state
KILLED = -signal.SIGKILL
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of an uninterrupted run that saves at every step, and the command but for its folder."""
    root = build(tmp_path_factory.mktemp("runs"))
    arguments = command(root, write_model(root / "small.yaml", **PAPERS), "--save_every", "1")
    assert main([*arguments, "--output", str(root / "whole")]) == 0
    return root / "whole", arguments


def runs(moments: str, arguments: list[str], output: Path) -> list[int]:
    """The exit statuses of the runs of killed_runs.py."""
    line = [
        sys.executable,
        str(ROOT / "test" / "support" / "killed_runs.py"),
        moments,
        *arguments,
        "--output",
        str(output),
    ]
    done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=True)
    return [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("status ")]


def state(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    with safe_open(run / "state.safetensors", "pt") as file:
        return load_file(run / "state.safetensors"), json.loads(file.metadata()["notes"])


def assert_equal(one: Path, two: Path) -> None:
    """The same metrics, states and checkpoints, bit for bit."""
    assert (one / "metrics.jsonl").read_text() == (two / "metrics.jsonl").read_text()
    (tensors, notes), (others, other_notes) = state(one), state(two)
    assert notes == other_notes
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)
    for name in ("best", "last"):
        first, second = (load_file(run / f"{name}.safetensors") for run in (one, two))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_killed_again_and_again_equals_the_uninterrupted_one(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Killed before a file gets its name (configuration, states between validations, `last`, `best`, metrics, the state
    after them), with half of a state written, and at moments that nobody chose."""
    moments = ["rename 2", "seconds 0.3", "rename 3", "half", "rename 5", "seconds 0.5", "rename 4", "rename 6", "half"]
    statuses = runs(",".join([*moments, "rename 3", "never"]), whole[1], tmp_path / "run")
    assert statuses[-1] == 0
    assert statuses.count(KILLED) >= 6  # the last ones may find too little left to die at
    assert_equal(whole[0], tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*.unfinished"))


def test_a_signal_stops_after_the_step_with_a_state_to_go_on_from(
    whole: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGUSR1 comes while the data of the step after three steps are read."""
    seldom = [*whole[1], "--save_every", "0", "--output", str(tmp_path / "run")]
    read = StepDataset.__getitem__

    def getitem(self: StepDataset, step: int) -> Any:
        if step == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        return read(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(StepDataset, "__getitem__", getitem)
        assert main(seldom) == 0
    assert main(seldom) == 0
    starts = (tmp_path / "run" / "starts.jsonl").read_text().splitlines()
    assert [json.loads(start)["step"] for start in starts] == [0, 4]
    assert_equal(whole[0], tmp_path / "run")


def test_a_full_disk_is_named_and_the_state_before_is_kept(
    whole: tuple[Path, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole[0], tmp_path / "run")
    longer = [*whole[1], "--optim.steps", "7", "--output", str(tmp_path / "run")]
    kept = (tmp_path / "run" / "state.safetensors").read_bytes()
    most = len(kept) // 2

    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, unlimited[1]))  # no file can grow beyond this, as on a full disk
    try:
        assert main(longer) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    said = capfd.readouterr().err
    assert "state.safetensors: cannot be written" in said
    assert "the one before is kept" in said
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == kept


def test_what_cannot_be_read_or_is_not_worth_keeping_is_named(tmp_path: Path) -> None:
    from jmceln_core.training.run_folder import RunFolder, State, TrainingError

    (tmp_path / "state.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(TrainingError, match=r"state\.safetensors: cannot be read .* remove it"):
        RunFolder(tmp_path).load_state()
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="--output"):
        RunFolder(tmp_path / "file").prepare()
    before = (tmp_path / "state.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="weight holds values that are not finite"):
        RunFolder(tmp_path).save_state(State({"weight": torch.tensor([1.0, torch.nan])}, {}))
    assert (tmp_path / "state.safetensors").read_bytes() == before
    (tmp_path / "metrics.jsonl").write_text("{}\nnot json\n")
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: not a JSON object"):
        RunFolder(tmp_path).metrics()
