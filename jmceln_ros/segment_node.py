"""segment_node: a camera image and a sentence in, the target out.

Topics, parameters and how to run it are in docs/ros.md.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from jmceln_ros import parameters, qos
from jmceln_ros.images import ImageError, compressed_to_rgb, fill_image, to_rgb
from jmceln_ros.intake import Intake, Job
from jmceln_ros.msg import Target
from jmceln_ros.parameters import SegmentSettings
from jmceln_ros.running import run
from jmceln_ros.targets import seconds_between, to_target

if TYPE_CHECKING:
    from jmceln_core import Segmenter
    from jmceln_core.segmenter import Precision

SegmenterFactory = Callable[[SegmentSettings], "Segmenter"]

#: A fault that comes with every frame is logged this often.
_REPEAT_SECONDS = 5.0


def load_segmenter(settings: SegmentSettings) -> Segmenter:
    """The model the parameters ask for. Raises what `Segmenter.load` raises."""
    # Imported here: torch takes seconds, and the node is up and keeps commands before that.
    from jmceln_core import Segmenter

    precision = cast("Precision | None", settings.precision or None)  # checked when the parameter was set
    return Segmenter.load(settings.model or None, device=settings.device or None, precision=precision)


class SegmentNode(LifecycleNode):
    """Answers the newest image for the command in force.

    configure loads the model, activate subscribes and starts the one worker thread in which all inference happens,
    deactivate stops both and keeps the model, cleanup lets it go. Commands are kept in every state.

    `make_segmenter` builds the model from the parameters when the node is configured.
    """

    def __init__(self, make_segmenter: SegmenterFactory = load_segmenter) -> None:
        super().__init__("segment_node")
        self._make_segmenter = make_segmenter
        self._settings = parameters.declare(self, SegmentSettings)
        self._intake: Intake[Image | CompressedImage] = Intake(
            mode=self._settings.mode, max_rate=self._settings.max_rate
        )
        self._segmenter: Segmenter | None = None
        self._worker: threading.Thread | None = None
        self._images: Subscription | None = None
        self._reported = 0  # sequence of the last command whose first answer was logged
        self.add_on_set_parameters_callback(self._on_parameters)
        self._active_command = self.create_publisher(String, "~/active_command", qos.STATE)
        self._active_command.publish(String())
        self._commands = self.create_subscription(String, "/command", self._on_command, qos.COMMAND)

    # Transitions. rclpy swallows exceptions in these, so each reports its own.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model; a failure is logged as fatal with reason and remedy and leaves the node unconfigured."""
        name = self._settings.model or "the bundled model"
        self.get_logger().info(f"loading {name} ...")
        begin = time.perf_counter()
        try:
            self._segmenter = self._make_segmenter(self._settings)
        except Exception as error:
            self.get_logger().debug(traceback.format_exc())
            self.get_logger().fatal(
                f"cannot load {name}: {error} [{type(error).__name__}]. Set the parameters model, device and precision "
                f"to what this machine has, then configure again (ros2 lifecycle set {self.get_fully_qualified_name()} "
                "configure)"
            )
            return TransitionCallbackReturn.FAILURE
        self._target = self.create_lifecycle_publisher(Target, "~/target", qos.RESULT)
        self._mask = self.create_lifecycle_publisher(Image, "~/mask", qos.RESULT)
        self._overlay = self.create_lifecycle_publisher(Image, "~/overlay", qos.RESULT)
        self.get_logger().info(f"loaded {self._segmenter.name} in {time.perf_counter() - begin:.1f} s")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the images and starts answering."""
        result = super().on_activate(state)
        self._intake.open()
        self._worker = threading.Thread(target=self._work, name="segment", daemon=True)
        self._worker.start()
        kind, topic = (CompressedImage, "image/compressed") if self._settings.compressed else (Image, "image")
        self._images = self.create_subscription(kind, topic, self._intake.put, qos.IMAGE_INPUT)
        self.get_logger().info(
            f"active: images from {self._images.topic_name}, commands from {self._commands.topic_name}, "
            f"answers on {self._target.topic_name}"
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops answering; model and command stay."""
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets the model go."""
        result = super().on_cleanup(state)
        self._release()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops answering and lets the model go, from any state."""
        self.stop()
        result = super().on_shutdown(state)
        self._release()
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, from where the node can be configured again."""
        self.stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> None:
        """Configures and activates if the parameter `autostart` says so."""
        if self._settings.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self) -> None:
        """Ends the subscription and the worker; waits for the inference that is running."""
        if self._images is not None:
            self.destroy_subscription(self._images)
            self._images = None
        self._intake.close()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def _release(self) -> None:
        if self._segmenter is not None:
            for publisher in (self._target, self._mask, self._overlay):
                self.destroy_lifecycle_publisher(publisher)
        self._segmenter = None

    # Callbacks: they only hand over.

    def _on_command(self, message: String) -> None:
        command = self._intake.order(message.data, self.get_clock().now().to_msg())
        self._active_command.publish(String(data=command.text if command else ""))
        if command is None:
            self.get_logger().info("empty command: stopped")
        elif self._worker is None:
            self.get_logger().info(f"command {command.sequence} {command.text!r} is kept until the node is active")

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        own = SegmentSettings.__dataclass_fields__
        values = {change.name: change.value for change in changes if change.name in own}
        reason = parameters.check(SegmentSettings, values)
        fixed = sorted(name for name in values if not own[name].metadata["live"])
        if not reason and fixed and self._segmenter is not None:
            reason = f"{', '.join(fixed)} is read when the node is configured; deactivate and clean up first"
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        self._settings = replace(self._settings, **values)
        self._intake.mode, self._intake.max_rate = self._settings.mode, self._settings.max_rate
        return SetParametersResult(successful=True)

    # The worker.

    def _work(self) -> None:
        while (job := self._intake.take()) is not None:
            try:
                self._answer(job)
            except ImageError as error:
                self.get_logger().warning(f"image not answered: {error}", throttle_duration_sec=_REPEAT_SECONDS)
            except Exception as error:
                if not self.context.ok():  # shutting down: publishers are gone and nobody listens
                    return
                self.get_logger().debug(traceback.format_exc())
                self.get_logger().warning(
                    f"command {job.command.text!r} not answered for this image: {error} [{type(error).__name__}]",
                    throttle_duration_sec=_REPEAT_SECONDS,
                )
            else:
                if self._intake.done(job):
                    self._active_command.publish(String())

    def _answer(self, job: Job[Image | CompressedImage]) -> None:
        assert self._segmenter is not None
        decode = compressed_to_rgb if isinstance(job.frame, CompressedImage) else to_rgb
        rgb = decode(job.frame, max_side=self._settings.max_image_side)
        begin = time.perf_counter()
        self._segmenter.set_image(rgb)
        segmentation = self._segmenter.segment(job.command.text)
        target = to_target(segmentation, job.command, job.frame.header, time.perf_counter() - begin)
        target.latency = seconds_between(job.frame.header.stamp, self.get_clock().now().to_msg())
        self._target.publish(target)
        if self._mask.get_subscription_count():
            self._mask.publish(target.mask)
        if self._overlay.get_subscription_count():
            from jmceln_core import overlay

            picture = Image(header=job.frame.header)
            fill_image(picture, overlay.draw(rgb, segmentation, job.command.text), "rgb8")
            self._overlay.publish(picture)
        if job.command.sequence != self._reported:
            self._reported = job.command.sequence
            self.get_logger().info(
                f"command {job.command.sequence} {job.command.text!r}: {segmentation.status.value}, score "
                f"{segmentation.score:.2f}, {target.area} pixels, model {target.model_seconds * 1e3:.0f} ms"
            )


def main(args: Sequence[str] | None = None) -> None:
    """The executable segment_node."""
    run(SegmentNode, "segment_node", args)


if __name__ == "__main__":
    main()
