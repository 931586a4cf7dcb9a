"""The one thread in which frames are decoded, looked at and answered, and what becomes of the errors on the way."""

from __future__ import annotations

import threading
import time
import traceback
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from jmceln_ros.common.images import ImageError, compressed_to_rgb, to_rgb
from jmceln_ros.msg import Target
from jmceln_ros.segment.intake import Command, Intake, Job
from jmceln_ros.segment.models import Models, free_memory, out_of_memory, set_thresholds
from jmceln_ros.segment.outputs import Outputs, seconds_between, set_point, to_target
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.space.space import Space

if TYPE_CHECKING:
    from rclpy.node import Node
    from std_msgs.msg import Header

    from jmceln_core import Segmentation, Segmenter
    from jmceln_core.tracking import Tracker
    from jmceln_ros.segment.statistics import Statistics

#: A fault that comes with every frame is logged this often, seconds.
_REPEAT = 5.0

#: Pause after a frame for which the memory did not suffice, doubled for each further one in a row, seconds.
_FIRST_REST, _LONGEST_REST = 0.25, 4.0


class Gaze:
    """A picture is encoded once, however many sentences are asked about it. A model given up is not kept."""

    def __init__(self) -> None:
        self._seen: tuple[weakref.ref[Segmenter], Any, np.ndarray] | None = None  # model, frame, its picture

    def at(self, segmenter: Segmenter, frame: Image | CompressedImage, *, max_side: int) -> tuple[np.ndarray, float]:
        """Makes the frame the model's current picture, unless it is that already.

        Returns the (H, W, 3) uint8 RGB picture and the seconds the model's image half took. Raises ImageError.
        """
        if self._seen is not None and self._seen[0]() is segmenter and self._seen[1] is frame:
            return self._seen[2], 0.0
        self._seen = None
        decode = compressed_to_rgb if isinstance(frame, CompressedImage) else to_rgb
        rgb = decode(frame, max_side=max_side)
        begin = time.perf_counter()
        segmenter.set_image(rgb)
        self._seen = weakref.ref(segmenter), frame, rgb
        return rgb, time.perf_counter() - begin

    def forget(self) -> None:
        """The next frame is encoded whatever it is."""
        self._seen = None


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


class Answerer:
    """Takes jobs from the intake and answers each with the model: the stream's are published, questions replied to.

    A job's `reply` is called with a Target, or with the reason in words why there is none. `served` is called when
    mode "once" has served its command.
    """

    def __init__(
        self,
        node: Node,
        intake: Intake[Image | CompressedImage],
        models: Models,
        outputs: Outputs,
        space: Space,
        statistics: Statistics,
        settings: SegmentSettings,
        *,
        served: Callable[[], None],
    ) -> None:
        self._node = node
        self._intake = intake
        self._models = models
        self._outputs = outputs
        self._space = space
        self._statistics = statistics
        self._settings = settings
        self._served = served
        self._gaze = Gaze()
        self._steadying = Steadying()
        self._segmenter: weakref.ref[Segmenter] | None = None  # the one that answered last
        self._reported = 0  # sequence of the last command whose first answer was logged
        self._full = 0  # frames in a row for which the memory did not suffice
        self._thread = threading.Thread(target=self._work, name="segment", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._intake.open()
        self._thread.start()

    def stop(self) -> None:
        """Waits for the inference that is running and ends; questions that wait are refused."""
        refuse(self._intake.close(), "the node was deactivated before the question was answered")
        self._thread.join()

    def use(self, settings: SegmentSettings) -> None:
        """Answers by these parameters from the next frame on."""
        self._settings = settings

    def _work(self) -> None:
        while (job := self._intake.take()) is not None:
            settings = self._settings  # one set of them for all of a job
            outcome: Target | str
            try:
                outcome, rgb, segmentation = self._answer(job, settings)
                if job.reply is None:
                    self._publish(job, outcome, rgb, segmentation, settings)
                self._full = 0
                full = failed = False
            except Exception as error:
                if not self._node.context.ok():  # shutting down: publishers are gone and nobody listens
                    return
                outcome, failed, full = self._explain(job, error), True, out_of_memory(error)
            if failed:  # behind the handler: while it runs, the error's frames keep what they had made
                self._gaze.forget()
            if full:
                self._make_room()
            if job.reply is not None:
                job.reply(outcome)

    def _answer(
        self, job: Job[Image | CompressedImage], settings: SegmentSettings
    ) -> tuple[Target, np.ndarray, Segmentation]:
        segmenter = self._models.segmenter
        assert segmenter is not None  # there is one from configure to cleanup
        if self._segmenter is None or self._segmenter() is not segmenter:
            changed, self._segmenter = self._segmenter is not None, weakref.ref(segmenter)
            if changed:
                free_memory()  # of the model before, which was at work when this one took its place
        set_thresholds(segmenter, settings)
        self._space.hold(job.frame.header, settings)
        rgb, seeing = self._gaze.at(segmenter, job.frame, max_side=settings.max_image_side)
        begin = time.perf_counter()
        if job.reply is None and settings.tracking and settings.mode == "track":
            # Only handed over when wanted: a Segmenter that cannot follow need not know of it.
            options = {"follow": settings.follow} if settings.follow else {}
            segmentation = segmenter.segment(job.command.text, probability=True, **options)
            seconds = seeing + time.perf_counter() - begin
            segmentation = self._steadying.steady(segmentation, segmenter, job.command, job.frame.header, rgb, settings)
        else:
            segmentation = segmenter.segment(job.command.text)
            seconds = seeing + time.perf_counter() - begin
        target = to_target(
            segmentation,
            job.command,
            job.frame.header,
            mask=settings.target_mask if job.reply is None else "full",
            model=segmenter.name,
            rectified=self._space.rectified,
            model_seconds=seconds,
        )
        if settings.depth:
            set_point(target, *self._space.locate(segmentation, job.frame.header, settings))
        else:
            set_point(target, None, "the parameter depth is false: this node takes no depth images")
        target.latency = seconds_between(target.header.stamp, self._node.get_clock().now().to_msg())
        return target, rgb, segmentation

    def _publish(
        self,
        job: Job[Image | CompressedImage],
        target: Target,
        rgb: np.ndarray,
        segmentation: Segmentation,
        settings: SegmentSettings,
    ) -> None:
        self._outputs.publish(target, rgb, segmentation, jpeg_quality=settings.jpeg_quality, guesses=settings.guesses)
        self._statistics.answered(target.latency, target.model_seconds)
        if self._intake.done(job):
            self._served()
        if target.sequence != self._reported:
            self._reported = target.sequence
            self._node.get_logger().info(
                f"command {target.sequence} {target.command!r}: {segmentation.status.value}, score "
                f"{target.score:.2f}, {target.area} pixels, model {target.model_seconds * 1e3:.0f} ms"
            )

    def _explain(self, job: Job[Any], error: Exception) -> str:
        """Logs an error and returns it in words; for a frame of the stream it is counted, too."""
        logger = self._node.get_logger()
        # Two lines of code, for each line is throttled for itself.
        if isinstance(error, ImageError):
            kind, reason = "unusable image", str(error)
            logger.warning(f"image not answered: {reason}", throttle_duration_sec=_REPEAT)
        else:
            kind = "out of memory" if out_of_memory(error) else "model error"
            reason = f"{error} [{type(error).__name__}]"
            logger.debug(traceback.format_exc())
            logger.warning(
                f"command {job.command.text!r} not answered for this image: {reason}", throttle_duration_sec=_REPEAT
            )
        if job.reply is None:
            self._statistics.dropped(kind)
            self._statistics.failed(reason)
        return reason

    def _make_room(self) -> None:
        """Lets go of all that can be made again, and of the GPU for a while, longer each time."""
        try:
            if (segmenter := self._models.segmenter) is not None:
                segmenter.forget()
            free_memory()
        except Exception as error:  # a GPU that has failed for good must not take the thread with it
            self._node.get_logger().debug(f"memory not freed: {error}")
        self._intake.rest(min(_LONGEST_REST, _FIRST_REST * 2**self._full))
        self._full += 1


def refuse(questions: list[Job[Any]], reason: str) -> None:
    """Tells those who asked that there will be no answer."""
    for question in questions:
        if question.reply is not None:
            question.reply(reason)
