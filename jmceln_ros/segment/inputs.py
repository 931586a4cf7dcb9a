"""What comes in: the camera's topics, as the parameters want them, and questions, which are answered later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from jmceln_ros.common import qos
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.space.space import Space

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.service import Service
    from rclpy.subscription import Subscription


class Inputs:
    """The subscriptions to images, and to depth and calibration where they are wanted. For the executor's thread only.

    `on_frame` takes the images, raw or compressed; `space` the rest.
    """

    def __init__(self, node: Node, on_frame: Callable[[Any], None], space: Space) -> None:
        self._node = node
        self._on_frame = on_frame
        self._space = space
        self._subscriptions: dict[str, Subscription] = {}

    @property
    def image_topic(self) -> str:
        """The full name of the topic the images come from; empty while there is none."""
        return next((s.topic_name for topic, s in self._subscriptions.items() if topic.startswith("image")), "")

    def connect(self, settings: SegmentSettings) -> None:
        """Subscribes to what these parameters ask for and to nothing else. Raises ParameterProblem (qos_overrides)."""
        images, depths = qos.PROFILES[settings.qos_image], qos.PROFILES[settings.qos_depth]
        wanted: dict[str, tuple[Any, Callable[[Any], None], Any]] = {}
        if settings.image_transport == "compressed":
            wanted["image/compressed"] = CompressedImage, self._on_frame, images
        else:
            wanted["image"] = Image, self._on_frame, images
        if settings.depth:
            wanted["depth"] = Image, self._space.depth.put, depths
            wanted["camera_info"] = CameraInfo, self._space.info.put, depths
        self._keep(wanted)
        for topic, (kind, callback, profile) in wanted.items():
            if topic not in self._subscriptions:
                self._subscriptions[topic] = qos.subscription(self._node, kind, topic, callback, profile)
        self._space.image_topic = self.image_topic
        self._space.depth_topic = self._subscriptions["depth"].topic_name if settings.depth else ""

    def disconnect(self) -> None:
        """Ends every subscription."""
        self._keep(())

    def _keep(self, topics: Any) -> None:
        for topic in self._subscriptions.keys() - set(topics):
            self._node.destroy_subscription(self._subscriptions.pop(topic))


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
    service: Any = node.create_service(kind, name, lambda request, response: request)
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
