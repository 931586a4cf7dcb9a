"""The real segment_node around a model that takes no time: the ROS tests are about everything but the model."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import torch

from jmceln_core import Segmenter
from jmceln_core.answer import RawAnswer
from jmceln_core.config import ModelConfig
from jmceln_ros.common.lifecycle import run
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.segment_node import SegmentNode

CHANNELS = {"red": 0, "green": 1, "blue": 2}
SLOW_SECONDS = 0.3
LOAD_SECONDS = 1.0


class ColourSegmenter(Segmenter):
    """Answers "red", "green" and "blue": the pixels in which that channel is far above both others. Sentences in the
    plural, and those of several parts, are put together as the network's are.

    With the word "slowly" it takes SLOW_SECONDS, with "crash" it raises what older CUDA calls raise for a full memory,
    with "hungry" what PyTorch raises: until everything kept was forgotten twice. "encoded" is answered with as many
    pixels as there were pictures.
    """

    def __init__(self, name: str) -> None:  # no network, hence no super().__init__()
        self.config = ModelConfig(name=name)
        self.decision = self.config.decision
        self._lock = threading.RLock()
        self._picture: Any = None
        self._pictures = 0
        self._forgotten = 0

    def set_image(self, rgb: np.ndarray) -> None:
        self._picture = None, rgb.astype(np.int16)
        self._pictures += 1

    def forget(self) -> None:
        self._picture = None
        self._forgotten += 1

    def _look_for(self, sentences: list[str], image: Any, letterbox: Any, *, follow: float = 0.0) -> list[RawAnswer]:
        return [RawAnswer(self._likelihood(sentence, image), None, None) for sentence in sentences]

    def _likelihood(self, text: str, rgb: np.ndarray) -> np.ndarray:
        if "slowly" in text:
            time.sleep(SLOW_SECONDS)
        if "crash" in text:
            raise RuntimeError("CUDA out of memory, or so")
        if "hungry" in text and self._forgotten < 2:
            raise torch.cuda.OutOfMemoryError("CUDA: tried to allocate all of it")
        likelihood = np.zeros(rgb.shape[:2], np.float32)
        for word, channel in CHANNELS.items():
            if word in text:
                others = np.delete(rgb, channel, axis=2).max(axis=2)
                likelihood[rgb[..., channel] - others > 80] = 0.9
        if "encoded" in text:
            likelihood.flat[: self._pictures] = 0.9
        return likelihood


def make_segmenter(settings: SegmentSettings) -> Segmenter:
    """Fails as a missing checkpoint, or a GPU too small for it, does when the parameter says so."""
    if settings.model == "broken":
        raise FileNotFoundError("broken: there is no such checkpoint; the bundled ones are colour")
    if settings.model == "huge":
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")
    if settings.model in ("slow", "slow broken"):
        time.sleep(LOAD_SECONDS)
    if settings.model == "slow broken":
        raise RuntimeError("the weights are of another network")
    return ColourSegmenter(settings.model or "colour")


def check_model(settings: SegmentSettings) -> str:
    """As on a machine without a GPU."""
    return f"device={settings.device!r}: PyTorch sees 0 CUDA devices; use 'cpu'" if "cuda" in settings.device else ""


if __name__ == "__main__":
    run(lambda: SegmentNode(make_segmenter, check_model), "segment_node")
