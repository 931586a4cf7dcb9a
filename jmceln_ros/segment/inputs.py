"""What comes in: the camera's topics, as the parameters want them, and questions, which are answered later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from jmceln_ros.common import qos
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.space.matching import Recent, apart, later
from jmceln_ros.space.space import Space

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.service import Service
    from rclpy.subscription import Subscription
    from rclpy.timer import Timer


#: How long the first images after subscribing are held back for want of their depth and calibration, seconds: these
#: topics come into being one after the other, and mode "once" takes the first image there is.
_SETTLING = 1.0

_TOPICS = {"raw": "image", "compressed": "image/compressed"}


class Inputs:
    """The subscriptions to images, and to depth and calibration where they are wanted. For the executor's thread only.

    `on_frame` takes the images, raw or compressed; `space` the rest, of which `on_beside` is told.
    """

    def __init__(
        self, node: Node, on_frame: Callable[[Any], None], space: Space, on_beside: Callable[[], None]
    ) -> None:
        self._node = node
        self._on_frame = on_frame
        self._on_beside = on_beside
        self._space = space
        self._settings: SegmentSettings | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._since = 0.0  # monotonic
        self._settling = False  # whether images are held back
        self._held: Any = None  # the newest of these
        self._patience: Timer | None = None  # until which they are

    @property
    def image_topic(self) -> str:
        """The full name of the topic the images come from; empty before the first `connect`."""
        settings = self._settings
        return self._node.resolve_topic_name(_TOPICS[settings.image_transport]) if settings else ""

    @property
    def seconds(self) -> float:
        """For how long images have been subscribed to; 0 while they are not."""
        return time.monotonic() - self._since if self._seeing else 0.0

    @property
    def _seeing(self) -> bool:
        """Whether images are subscribed to."""
        return any(topic in self._subscriptions for topic in _TOPICS.values())

    def connect(self, settings: SegmentSettings, *, images: bool = True, depth: bool = True) -> None:
        """Subscribes to what these parameters ask for and no more: to `images`, and to `depth` with its calibration.

        A subscription whose quality of service would be chosen otherwise by now is made anew. Raises ParameterProblem
        (qos_overrides).
        """
        self._settings = settings
        self._space.image_topic = self.image_topic
        self._space.depth_topic = self._node.resolve_topic_name("depth") if settings.depth else ""
        depths = qos.PROFILES[settings.qos_depth]
        image_type = CompressedImage if settings.image_transport == "compressed" else Image
        topics: dict[str, tuple[Any, Callable[[Any], None], Any]] = {}
        if images:
            profile = qos.PROFILES[settings.qos_image]
            topics[_TOPICS[settings.image_transport]] = image_type, self._on_image, profile
        if depth and settings.depth:
            topics["depth"] = Image, lambda message: self._beside(self._space.depth, message), depths
            topics["camera_info"] = CameraInfo, lambda message: self._beside(self._space.info, message), depths
        self._keep(topics)
        if images and not self._seeing:
            self._since = time.monotonic()
            self._settling = settings.lazy and settings.depth
        if "depth" in topics.keys() - self._subscriptions.keys():
            self._space.since = self._node.get_clock().now().nanoseconds
        for topic, (kind, callback, profile) in topics.items():
            before = self._subscriptions.get(topic)
            if before is None or qos.outdated(self._node, before):
                self._subscriptions[topic] = qos.subscription(self._node, kind, topic, callback, profile)
                if before is not None:
                    self._node.destroy_subscription(before)

    def disconnect(self) -> None:
        """Ends every subscription."""
        self._keep(())

    def awaits_depth(self, image: Image | CompressedImage) -> bool:
        """Whether depth or calibration of an image may still come, as far as the stamps show it."""
        settings, stamp = self._settings, image.header.stamp
        if settings is None or not settings.depth or not (stamp.sec or stamp.nanosec):
            return False
        nearest = self._space.depth.nearest(stamp)
        if nearest is None or apart(nearest, stamp) <= settings.depth_slop:
            return not self._complete(image)
        return not later(nearest, stamp)

    def silence(self) -> str:
        """Why no image comes, as far as the graph shows it, and what to do about it."""
        settings = self._settings
        if settings is None:
            return ""
        topic, name = self.image_topic, _TOPICS[settings.image_transport]
        if self._node.count_publishers(topic):
            return f"{topic} has a publisher: check its type and QoS (ros2 topic info --verbose {topic})"
        transport = "raw" if settings.image_transport == "compressed" else "compressed"
        other = self._node.resolve_topic_name(_TOPICS[transport])
        beside = topic.removesuffix("/compressed") if transport == "raw" else f"{topic}/compressed"
        for there in (other, beside):
            if self._node.count_publishers(there):
                remap = f" and remap {_TOPICS[transport]} to it" if there != other else ""
                return f"nobody publishes {topic}, but {there} is published: set image_transport to {transport}{remap}"
        return f"nobody publishes {topic}: start the camera, or remap {name} to its topic"

    def _keep(self, topics: Collection[str]) -> None:
        for topic in self._subscriptions.keys() - set(topics):
            self._node.destroy_subscription(self._subscriptions.pop(topic))
        if not self._seeing:
            self._end_settling()
        if "depth" not in self._subscriptions:
            self._space.forget()  # an image that comes later has nothing to do with it

    def _on_image(self, message: Image | CompressedImage) -> None:
        if self._settling and not self._complete(message):
            self._held = message
            if self._patience is None:
                self._patience = self._node.create_timer(
                    _SETTLING, self._settled, clock=Clock(clock_type=ClockType.STEADY_TIME)
                )
            return
        self._end_settling()
        self._on_frame(message)

    def _beside(self, topic: Recent[Any], message: Any) -> None:
        topic.put(message)
        if self._held is not None and self._complete(self._held):
            self._settled()
        self._on_beside()

    def _complete(self, image: Image | CompressedImage) -> bool:
        """Whether depth and calibration of the image are there."""
        header, settings, space = image.header, self._settings, self._space
        assert settings is not None
        info = space.info.nearest(header.stamp, settings.depth_slop) or space.info.last(header.frame_id)
        return info is not None and space.depth.nearest(header.stamp, settings.depth_slop) is not None

    def _settled(self) -> None:
        image = self._held
        self._end_settling()
        if image is not None:
            self._on_frame(image)

    def _end_settling(self) -> None:
        self._settling, self._held = False, None
        if self._patience is not None:
            self._node.destroy_timer(self._patience)
            self._patience = None


def create_deferred_service(
    node: Node, kind: type[Any], name: str, callback: Callable[[Any, Callable[[Any], None]], None]
) -> Service:
    """A service `name` of type `kind`, answered when `reply(response)` of its `callback(request, reply)` is called.

    That may be once, now or later, from any thread. `callback` runs in the executor and must neither wait nor raise.

    An `async` callback would do, but rclpy's executors (Humble to Kilted) poll a coroutine that waits as fast as they
    can and keep its callback group shut meanwhile.
    """
    # rclpy calls service.send_response(what the callback returned, the request's header): the one place that knows
    # where the answer has to go. So the callback hands the request on to it, and the real sending is done by `reply`.
    service: Any = node.create_service(kind, name, lambda request, response: request, qos_profile=qos.SERVICE)
    send = service.send_response
    one_at_a_time = threading.Lock()  # rcl_send_response is not thread-safe

    def hand_over(request: Any, header: Any) -> None:
        def reply(response: Any) -> None:
            try:
                with one_at_a_time:
                    send(response, header)
            except Exception as error:  # whoever asked, or this node, is on the way out; the thread goes on
                node.get_logger().debug(f"answer of {name} not sent: {error}")

        callback(request, reply)

    service.send_response = hand_over
    return service
