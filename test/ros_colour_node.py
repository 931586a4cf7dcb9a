"""The real segment_node around a model that takes no time: the ROS tests are about everything but the model."""

from __future__ import annotations

import time

import numpy as np

from jmceln_core import Segmentation, Segmenter
from jmceln_core.config import DecisionConfig
from jmceln_core.segmenter import RawAnswer, decide
from jmceln_ros.parameters import SegmentSettings
from jmceln_ros.running import run
from jmceln_ros.segment_node import SegmentNode

CHANNELS = {"red": 0, "green": 1, "blue": 2}
SLOW_SECONDS = 0.3


class ColourSegmenter(Segmenter):
    """Answers "red", "green" and "blue": the pixels in which that channel is far above both others.

    With the word "slowly" it takes SLOW_SECONDS, with "crash" it raises.
    """

    def __init__(self) -> None:  # no network, hence no super().__init__()
        self._rgb = np.zeros((1, 1, 3), np.uint8)

    @property
    def name(self) -> str:
        return "colour"

    def set_image(self, rgb: np.ndarray) -> None:
        self._rgb = rgb.astype(np.int16)

    def segment(self, text: str, *, probability: bool = False) -> Segmentation:
        if "slowly" in text:
            time.sleep(SLOW_SECONDS)
        if "crash" in text:
            raise RuntimeError("CUDA out of memory, or so")
        likelihood = np.zeros(self._rgb.shape[:2], np.float32)
        for word, channel in CHANNELS.items():
            if word in text:
                others = np.delete(self._rgb, channel, axis=2).max(axis=2)
                likelihood[self._rgb[..., channel] - others > 80] = 0.9
        return decide(RawAnswer(likelihood, None, None), DecisionConfig(), probability=probability)


def make_segmenter(settings: SegmentSettings) -> Segmenter:
    """Fails as a missing checkpoint does when the parameter says so."""
    if settings.model == "broken":
        raise FileNotFoundError("broken: there is no such checkpoint; the bundled ones are colour")
    return ColourSegmenter()


if __name__ == "__main__":
    run(lambda: SegmentNode(make_segmenter), "segment_node")
