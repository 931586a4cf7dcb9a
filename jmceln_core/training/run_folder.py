"""What a run leaves in its folder, besides checkpoints: state, metrics, configuration, provenance, TensorBoard.

Everything is written whole or not at all, and in an order such that a process killed at any moment resumes to what an
uninterrupted one would have left.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from jmceln_core.evaluation import machine
from jmceln_core.files import whole

PACKAGES = (
    "jmceln-core",
    "torch",
    "torchvision",
    "lightning-fabric",
    "open_clip_torch",
    "timm",
    "transformers",
    "numpy",
)


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why, what is kept and what to do."""


@dataclass(frozen=True)
class State:
    """What a run resumes from: tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any]


class RunFolder:
    """The folder DIR of one run. `prepare` it before anything is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_path = path / "state.safetensors"
        self.metrics_path = path / "metrics.jsonl"

    def prepare(self) -> None:
        """Make the folder, and remove what a process that was killed while writing has left. Raises TrainingError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for unfinished in self.path.glob(".*.unfinished"):
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be used as --output ({error.strerror})") from None

    def save_state(self, state: State) -> None:
        """Replace the state. Raises TrainingError if it cannot be written, or is not worth it (values that are not
        finite); the old one is then still there."""
        for name, value in state.tensors.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise TrainingError(f"{self.state_path}: not written, {name} holds values that are not finite")
        tensors = {k: v.contiguous() for k, v in state.tensors.items()}
        try:
            with whole(self.state_path) as file:
                file.write(save(tensors, {"notes": json.dumps(state.notes)}))
        except (OSError, SafetensorError) as error:
            raise self._full(self.state_path, error) from None

    def load_state(self) -> State | None:
        """The state, None if there is none. Raises TrainingError for a broken one."""
        if not self.state_path.exists():
            return None
        try:
            with safe_open(self.state_path, "pt") as file:
                notes = json.loads((file.metadata() or {})["notes"])
            return State(load_file(self.state_path), notes)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise TrainingError(
                f"{self.state_path}: cannot be read ({error}); remove it to start anew (best.safetensors stays), or "
                "give another --output"
            ) from None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        if not self.metrics_path.exists():
            return []
        try:
            return [json.loads(line) for line in self.metrics_path.read_text().splitlines()]
        except ValueError as error:
            raise TrainingError(f"{self.metrics_path}: not a JSON object a line ({error}); mend or remove it") from None

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line, in the place of those of the same step or later ones (of a process killed before its state was
        saved)."""
        kept = [old for old in self.metrics() if old["step"] < line["step"]]
        self.write(self.metrics_path.name, "".join(json.dumps(row) + "\n" for row in [*kept, dict(line)]))

    def write(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        path = self.path / name
        try:
            with whole(path) as file:
                file.write(text.encode())
        except OSError as error:
            raise self._full(path, error) from None

    def describe_start(self, config: Mapping[str, Any], *, device: torch.device, world: int, step: int) -> list[str]:
        """Write config.json and add this start to starts.jsonl (time, command, git revision, packages, machine); say
        which settings differ from those the run had before."""
        changed = []
        path = self.path / "config.json"
        if path.exists():
            before, now = _flat(json.loads(path.read_text())), _flat(json.loads(json.dumps(config)))
            changed = [
                f"{key}: {before.get(key)} -> {now.get(key)}"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key)
            ]
        self.write("config.json", json.dumps(config, indent=1) + "\n")
        start = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "step": step,
            "command": sys.argv,
            "git": git_revision(),
            "python": platform.python_version(),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "processes": world,
            "machine": machine.describe(device),
        }
        starts = self.path / "starts.jsonl"
        self.write("starts.jsonl", (starts.read_text() if starts.exists() else "") + json.dumps(start) + "\n")
        return changed

    def _full(self, path: Path, error: Exception) -> TrainingError:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        kept = "the one before is kept" if path.exists() else "there was none before"
        return TrainingError(f"{path}: cannot be written ({reason}); {kept}. Make room and give the same command again")


def git_revision() -> str | None:
    """The checkout's commit, with "+changes" where files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
