"""A Target as vision_msgs/msg/Detection2DArray, for what already reads detections (RViz, Nav2, behaviour trees)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmceln_ros.msg import Target

try:
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose
except ImportError as error:
    MISSING = (
        f"vision_msgs cannot be imported ({error}): no ~/detections. Install it with "
        "`sudo apt install ros-$ROS_DISTRO-vision-msgs` and start again"
    )
else:
    MISSING = ""

#: Whether vision_msgs is installed; `MISSING` says how to install it where it is not.
AVAILABLE = not MISSING


def to_detections(target: Target) -> Any:
    """The Detection2DArray of one answer: one detection, or none when the thing is not in the image.

    Header: the image's. Class id: the command. Id: the command's number, for the detections of one command are of one
    thing. The box is the target's, by its edges: center - size / 2 is (box_x, box_y). The hypothesis' position is the
    target's point in metres, NaN without one.

    The message has no place for a status: a guess (LOW_CONFIDENCE, AMBIGUOUS) looks like a find with its score.

    Versions 3 and 4 of vision_msgs (`center.x`, `center.position.x`) are filled. Raises RuntimeError with `MISSING`
    where vision_msgs is not installed.
    """
    if MISSING:
        raise RuntimeError(MISSING)
    detections = Detection2DArray(header=target.header)
    if target.status == target.NOT_PRESENT or not (target.box_width and target.box_height):
        return detections
    detection = Detection2D(header=target.header, id=str(target.sequence))
    center = getattr(detection.bbox.center, "position", detection.bbox.center)
    center.x = target.box_x + target.box_width / 2
    center.y = target.box_y + target.box_height / 2
    detection.bbox.size_x, detection.bbox.size_y = float(target.box_width), float(target.box_height)
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = target.command, target.score
    position = result.pose.pose.position
    if target.has_point:
        position.x, position.y, position.z = target.point.x, target.point.y, target.point.z
    else:
        position.x = position.y = position.z = math.nan
    detection.results.append(result)
    detections.detections.append(detection)
    return detections
