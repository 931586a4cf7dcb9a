"""The stream's answers to one command, held together over time by jmceln_core.tracking."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from jmceln_ros.common.parameters import SegmentSettings
from jmceln_ros.segment.intake import Command

if TYPE_CHECKING:
    from std_msgs.msg import Header

    from jmceln_core import Segmentation, Segmenter
    from jmceln_core.tracking import Tracker


class Steadying:
    """A Tracker for the command in force; another command, model or number begins anew. For one thread only."""

    def __init__(self) -> None:
        self._tracker: Tracker | None = None
        self._about: tuple[Any, ...] = ()

    def steady(
        self,
        segmentation: Segmentation,
        segmenter: Segmenter,
        command: Command,
        header: Header,
        rgb: np.ndarray,
        settings: SegmentSettings,
    ) -> Segmentation:
        """The steadier answer about the same frame, as `Tracker.update` has it; its time is the stamp in `header`."""
        numbers = {
            "margin": settings.tracking_margin,
            "patience": settings.tracking_patience,
            "gate": settings.tracking_gate,
            "smoothing": settings.tracking_smoothing,
            "mask_smoothing": settings.tracking_mask_smoothing,
        }
        from jmceln_core.config import DecisionConfig  # with torch, which is loaded by now
        from jmceln_core.tracking import Tracker

        decision = getattr(segmenter, "decision", None) or DecisionConfig()  # not a network: it may have none
        about = (command.sequence, weakref.ref(segmenter), decision, numbers)  # a model given up is not kept
        if self._tracker is None or about != self._about:
            self._tracker, self._about = Tracker.suited_to(decision, **numbers), about
        stamp = header.stamp.sec + 1e-9 * header.stamp.nanosec or time.monotonic()
        return self._tracker.update(segmentation, time=stamp, text=command.text, rgb=rgb)
