"""camera_node: an image, a folder of images, a video file or a webcam as a camera topic.

Topics, parameters and how to run it are in docs/ros.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from jmceln_ros.common import parameters, qos
from jmceln_ros.common.images import fill_image
from jmceln_ros.common.lifecycle import NodeFailure, run
from jmceln_ros.common.sources import CameraSettings, SourceError, open_source

_DEFAULT_RATE = 10.0  # Hz, for sources without a pace of their own


class CameraNode(Node):
    """Publishes the pictures of one source at a steady rate, stamped when they are read.

    `options` are those of rclpy's Node: namespace, parameter_overrides, context ...
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("camera_node", **options)
        self._settings = parameters.declare(self, CameraSettings)
        try:
            self._source = open_source(str(self._settings.source))
        except SourceError as error:
            raise NodeFailure(str(error)) from error
        rate = self._settings.rate or self._source.rate or _DEFAULT_RATE
        self._frames = self._stream()
        self._publisher = qos.publisher(self, Image, "image", qos.IMAGE_OUTPUT)
        self.create_timer(1.0 / rate, self._tick)
        self.get_logger().info(
            f"{self._source.name} at {rate:g} Hz on {self._publisher.topic_name}" + ", looping" * self._settings.loop
        )

    def stop(self) -> None:
        """Lets the device or file go."""
        self._source.close()

    def _stream(self) -> Iterator[np.ndarray]:
        yield from self._source.frames()
        while self._settings.loop:
            yield from self._source.frames()

    def _tick(self) -> None:
        try:
            picture = next(self._frames)
        except StopIteration:
            self.get_logger().info(f"{self._source.name}: the last picture is published")
            self.context.shutdown()
            return
        except SourceError as error:
            raise NodeFailure(str(error)) from error
        message = Image()
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._settings.frame_id
        fill_image(message, picture, "bgr8")
        self._publisher.publish(message)


def main(args: Sequence[str] | None = None) -> None:
    """The executable camera_node."""
    run(CameraNode, "camera_node", args)


if __name__ == "__main__":
    main()
