"""Where a time was measured: a number of seconds means nothing without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def describe(device: str | torch.device = "cpu") -> dict[str, str | int]:
    """The machine in words: processor, cores this process may use, torch's threads, and the GPU if `device` is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "device": str(device),
        "torch": torch.__version__,
    }
    if torch.device(device).type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
