"""A Segmentation as a jmceln_ros/msg/Target."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from jmceln_ros.common.images import fill_image
from jmceln_ros.msg import Target
from jmceln_ros.segment.intake import Command

if TYPE_CHECKING:
    from jmceln_core import Segmentation

_NOWHERE = (math.nan, math.nan)


def to_target(segmentation: Segmentation, command: Command, header: Header, model_seconds: float) -> Target:
    """The message for one answer. `header` is the image's; `latency` is left to the moment of publication.

    The command's `arrival` is a builtin_interfaces/Time. There is no point in space until `set_point`.
    """
    target = Target()
    target.header = header
    target.command = command.text
    target.command_stamp = command.arrival
    target.sequence = command.sequence
    target.status = getattr(Target, segmentation.status.name)
    target.score = float(segmentation.score)
    target.image_height, target.image_width = segmentation.mask.shape
    target.mask.header = header
    fill_image(target.mask, segmentation.mask.astype(np.uint8) * 255, "mono8")
    target.area = int(segmentation.area)
    target.centroid_u, target.centroid_v = segmentation.centroid or _NOWHERE
    target.anchor_u, target.anchor_v = segmentation.anchor or _NOWHERE
    if segmentation.box is not None:
        target.box_x, target.box_y, target.box_width, target.box_height = (int(v) for v in segmentation.box)
    target.point.x = target.point.y = target.point.z = math.nan
    target.model_seconds = model_seconds
    return target


def set_point(target: Target, point: tuple[float, float, float] | None, reason: str) -> None:
    """Says where the target is in space: (x, y, z) metres in the optical frame, or the reason why that is not known."""
    target.has_point = point is not None
    target.point.x, target.point.y, target.point.z = point or (math.nan,) * 3
    target.point_reason = "" if target.has_point else reason


def seconds_between(earlier: Time, later: Time) -> float:
    """later - earlier in seconds; nan when `earlier` was never set."""
    if not (earlier.sec or earlier.nanosec):
        return math.nan
    return (later.sec - earlier.sec) + 1e-9 * (later.nanosec - earlier.nanosec)
