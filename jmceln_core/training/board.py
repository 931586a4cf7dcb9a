"""TensorBoard: losses, rates, validation metrics and a few pictures with their masks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from jmceln_core import overlay
from jmceln_core.answer import Segmentation, Status


class Board:
    """A SummaryWriter that starts at a step: what an earlier, interrupted process wrote beyond it is dropped.

    Curves that cannot be written (a full disk) are said once and end; whether the run can go on is the state's to say.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._open, self._hook = folder, True, threading.excepthook
        threading.excepthook = _quiet  # TensorBoard writes in a thread, and raises here what it raised there
        self._writer = SummaryWriter(str(folder), purge_step=step if step else None)

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        """One curve a name, PREFIX/NAME."""
        with self._written():
            for name, value in values.items():
                self._writer.add_scalar(f"{prefix}/{name}", value, step)

    def answer(self, name: str, rgb: np.ndarray, guess: np.ndarray, truth: np.ndarray, text: str, step: int) -> None:
        """The truth on the left, the guess with its IoU on the right; rgb (S, S, 3) uint8, masks (S, S) bool."""
        union = np.logical_or(guess, truth).sum()
        iou = float(np.logical_and(guess, truth).sum() / union) if union else 1.0
        left = overlay.draw(rgb, _drawn(truth, 1.0), f"{text} (truth)")
        right = overlay.draw(rgb, _drawn(guess, iou), "IoU")
        with self._written():
            self._writer.add_image(name, np.hstack([left, right]), step, dataformats="HWC")

    def close(self) -> None:
        with self._written():
            self._writer.close()
        threading.excepthook = self._hook

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._open:
                tqdm.write(f"{self._folder}: TensorBoard's curves end here ({error.strerror or error})")
            self._open = False


def _quiet(failed: threading.ExceptHookArgs) -> None:
    if not (isinstance(failed.exc_value, OSError) and type(failed.thread).__module__.startswith("tensorboard.")):
        threading.__excepthook__(failed)


def _drawn(mask: np.ndarray, score: float) -> Segmentation:
    status = Status.FOUND if score >= 0.5 else Status.LOW_CONFIDENCE
    return Segmentation(mask, status, score, None, None, None, int(mask.sum()), None, 0.0)


def enlarged(mask: np.ndarray, side: int) -> np.ndarray:
    """A bool mask at another size, nearest neighbours."""
    return cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST).astype(bool)
