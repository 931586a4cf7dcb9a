"""Everything segment_node publishes about a frame."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from geometry_msgs.msg import PointStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from jmceln_ros.common import qos
from jmceln_ros.common.images import fill_image
from jmceln_ros.common.parameters import ParameterProblem
from jmceln_ros.msg import Target
from jmceln_ros.segment import detections, frames
from jmceln_ros.segment.frames import TargetFrame

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode
    from std_msgs.msg import Header

    from jmceln_core import Segmentation


class Outputs:
    """The publishers of answers, silent while the node is inactive; made at configure, destroyed at cleanup.

    Mask, overlays and detections are only made when someone listens. Raises ParameterProblem for an override of the
    quality of service that is not allowed.
    """

    def __init__(self, node: LifecycleNode, profile: QoSProfile) -> None:
        self._node = node
        self._all: list[Any] = []

        self._frame: TargetFrame | None = None

        def make(kind: type[Any], topic: str) -> Any:
            self._all.append(qos.publisher(node, kind, topic, profile, managed=True))
            return self._all[-1]

        try:
            self._target = make(Target, "~/target")
            self._mask = make(Image, "~/mask")
            self._overlay = make(Image, "~/overlay")
            self._compressed = make(CompressedImage, "~/overlay/compressed")
            self._point = make(PointStamped, "~/point")
            self._detections = make(detections.Detection2DArray, "~/detections") if detections.AVAILABLE else None
        except ParameterProblem:
            self.destroy()
            raise
        if detections.MISSING:
            node.get_logger().info(detections.MISSING, once=True)

    @property
    def target_topic(self) -> str:
        """The full name of the topic of the answers."""
        return str(self._target.topic_name)

    def broadcast(self, child: str) -> None:
        """Broadcasts the target's place as this frame from now on; empty is none. For the executor's thread."""
        if child and not frames.AVAILABLE:
            self._node.get_logger().warning(frames.MISSING, once=True)
        elif self._frame is not None:
            self._frame.child = child
        elif child:
            self._frame = TargetFrame(self._node, child)

    def publish(self, target: Target, rgb: np.ndarray, segmentation: Segmentation, *, jpeg_quality: int) -> None:
        """Publishes an answer about the (H, W, 3) uint8 picture, the Target first."""
        self._target.publish(target)
        if target.has_point:
            self._point.publish(PointStamped(header=target.header, point=target.point))
            if self._frame is not None:
                self._frame.send(target)
        if self._detections is not None and self._detections.get_subscription_count():
            self._detections.publish(detections.to_detections(target))
        if self._mask.get_subscription_count():
            self._mask.publish(target.mask)
        plain, compressed = self._overlay.get_subscription_count(), self._compressed.get_subscription_count()
        if plain or compressed:
            from jmceln_core import overlay

            drawn = overlay.draw(rgb, segmentation, target.command)
            if plain:
                picture = Image(header=target.header)
                fill_image(picture, drawn, "rgb8")
                self._overlay.publish(picture)
            if compressed:
                self._compressed.publish(to_jpeg(drawn, target.header, jpeg_quality))

    def destroy(self) -> None:
        """Takes the topics away."""
        for publisher in self._all:
            self._node.destroy_lifecycle_publisher(publisher)
        self._all.clear()
        if self._frame is not None:
            self._frame.destroy()
            self._frame = None


def to_jpeg(rgb: np.ndarray, header: Header, quality: int) -> CompressedImage:
    """A (H, W, 3) uint8 RGB picture as a JPEG message, `format` as image_transport writes it."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} pixels cannot be made a JPEG")
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=array("B", data.tobytes()))
