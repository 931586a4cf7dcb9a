"""Runs of the training command that are killed with SIGKILL, one after the other, in the same folder.

    python killed_runs.py MOMENTS ARGUMENTS...

MOMENTS, joined by commas, say when each run dies: `rename N`: at its N-th file that is about to get its name; `half`:
when half of the state's bytes are written; `seconds T`: after so long; `never`. Prints each run's exit status
(negative: the signal). Every run is a fork of this process, before PyTorch has done anything, so that the imports are
paid for once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch.utils.tensorboard  # noqa: F401  what a run imports

import jmceln_core.training.loop  # noqa: F401  what the command imports
from jmceln_core import train
from jmceln_core.training import run_folder


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> None:
    """Make this process die at that moment."""
    kind, _, number = moment.partition(" ")
    if kind == "seconds":
        threading.Timer(float(number), die).start()
    elif kind == "rename":
        left = int(number)
        rename = Path.replace

        def replace(self: Path, target: Any) -> Path:
            nonlocal left
            left -= 1
            if not left:
                die()
            return rename(self, target)

        Path.replace = replace  # type: ignore[method-assign,assignment]
    elif kind == "half":
        save = run_folder.save_file

        def save_file(tensors: Any, path: Path, notes: Any) -> None:
            save(tensors, path, notes)
            os.truncate(path, path.stat().st_size // 2)
            die()

        run_folder.save_file = save_file


for moment in sys.argv[1].split(","):
    child = os.fork()
    if not child:
        arm(moment)
        os._exit(train.main(sys.argv[2:]))
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
