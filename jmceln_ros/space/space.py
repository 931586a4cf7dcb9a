"""The depth image and the calibration that belong to a frame, and where the target is in space by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensor_msgs.msg import CameraInfo, Image

from jmceln_ros.space.depth import is_rectified, point_of
from jmceln_ros.space.matching import Recent

if TYPE_CHECKING:
    from std_msgs.msg import Header

    from jmceln_core import Segmentation

Point = tuple[float, float, float]

#: How long an answer waits for the depth of its frame, seconds. Most of it has come while the model was at work.
_PATIENCE = 0.02


class Space:
    """Keeps the last depth images and calibrations, by stamp; callbacks `put` them, the worker asks `locate`."""

    def __init__(self) -> None:
        self.depth: Recent[Image] = Recent()
        self.info: Recent[CameraInfo] = Recent()
        self.image_topic = ""  # the images' full name, which says whether they are rectified

    def hold(self, header: Header) -> None:
        """Keeps what belongs to the image with this header, until the next one, however long the model takes."""
        self.depth.hold(header.stamp)
        self.info.hold(header.stamp)

    def forget(self) -> None:
        """Lets go of the messages."""
        self.depth.clear()
        self.info.clear()

    def locate(
        self, segmentation: Segmentation, header: Header, *, slop: float, max_side: int
    ) -> tuple[Point | None, str]:
        """The target's (x, y, z) in metres in the optical frame of the image with this header, or why there is none.

        A depth image belongs to it when it is at most `slop` seconds off; one with a side of more than `max_side`
        pixels is refused.
        """
        if segmentation.box is None:
            return None, "the mask is empty"
        if not (header.stamp.sec or header.stamp.nanosec):
            return None, "the image has no stamp, so that no depth image can be found for it"
        located = point_of(
            segmentation.mask,
            self.depth.nearest(header.stamp, slop, _PATIENCE),
            self.info.nearest(header.stamp, slop) or self.info.last(header.frame_id),
            frame_id=header.frame_id,
            rectified=is_rectified(self.image_topic),
            max_side=max_side,
        )
        return located.point, located.reason
