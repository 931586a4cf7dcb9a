"""The depth image and the calibration that belong to a frame, and where the target is in space by them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from sensor_msgs.msg import CameraInfo, Image

from jmceln_ros.space.depth import is_rectified, point_of
from jmceln_ros.space.matching import Recent, apart

if TYPE_CHECKING:
    from std_msgs.msg import Header

    from jmceln_core import Segmentation

Point = tuple[float, float, float]

#: How long an answer waits for the depth of its frame, seconds. Most of it has come while the model was at work.
_PATIENCE = 0.02


class SpaceSettings(Protocol):
    """The parameters of segment_node that are read here."""

    @property
    def rectified(self) -> str: ...
    @property
    def depth_slop(self) -> float: ...
    @property
    def depth_scale(self) -> float: ...
    @property
    def depth_min(self) -> float: ...
    @property
    def depth_max(self) -> float: ...
    @property
    def max_image_side(self) -> int: ...


class Space:
    """Keeps the last depth images and calibrations, by stamp; callbacks `put` them, the worker asks `locate`.

    `image_topic` and `depth_topic` are the topics' full names. `rectified` says whether the image that is held was
    taken for a rectified one: as the parameter of this name says, or the topic's. `since` is when depth was subscribed
    to, nanoseconds.
    """

    def __init__(self) -> None:
        self.depth: Recent[Image] = Recent()
        self.info: Recent[CameraInfo] = Recent()
        self.image_topic = self.depth_topic = ""
        self.rectified = False
        self.since = 0

    def hold(self, header: Header, settings: SpaceSettings) -> None:
        """Keeps what belongs to the image with this header, until the next one, however long the model takes."""
        said = settings.rectified
        self.rectified = is_rectified(self.image_topic) if said == "auto" else said == "true"
        self.depth.hold(header.stamp)
        self.info.hold(header.stamp)

    def forget(self) -> None:
        """Lets go of the messages."""
        self.depth.clear()
        self.info.clear()

    def locate(self, segmentation: Segmentation, header: Header, settings: SpaceSettings) -> tuple[Point | None, str]:
        """The target's (x, y, z) in metres in the optical frame of the image that is held, or why there is none."""
        if segmentation.box is None:
            return None, "the mask is empty"
        if (things := len(segmentation.instances)) > 1:
            return None, f"these are {things} things, and a point is one thing's: name one of them"
        if not (header.stamp.sec or header.stamp.nanosec):
            return None, "the image has no stamp, so that no depth image can be found for it"
        slop = settings.depth_slop
        depth = self.depth.nearest(header.stamp, patience=_PATIENCE)
        if depth is None:
            return None, f"no depth image has come on {self.depth_topic}"
        if (gap := apart(depth, header.stamp)) > slop:
            reason = f"the nearest depth image is {gap:.3f} s away, depth_slop is {slop:g}"
            if header.stamp.sec * 10**9 + header.stamp.nanosec < self.since:
                reason += (
                    "; depth was not yet subscribed to when the image was taken: ask without one, or set lazy false"
                )
            return None, reason
        located = point_of(
            segmentation.mask,
            depth,
            self.info.nearest(header.stamp, slop) or self.info.last(header.frame_id),
            frame_id=header.frame_id,
            rectified=self.rectified,
            max_side=settings.max_image_side,
            scale=settings.depth_scale,
            near=settings.depth_min,
            far=settings.depth_max or math.inf,
        )
        return located.point, located.reason
