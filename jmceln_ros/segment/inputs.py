"""The camera's topics, as the parameters want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from jmceln_ros.common import qos
from jmceln_ros.common.parameters import SegmentSettings
from jmceln_ros.space.space import Space

if TYPE_CHECKING:
    from rclpy.node import Node
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

    def disconnect(self) -> None:
        """Ends every subscription."""
        self._keep(())

    def _keep(self, topics: Any) -> None:
        for topic in self._subscriptions.keys() - set(topics):
            self._node.destroy_subscription(self._subscriptions.pop(topic))
