"""The target as a frame of tf, so that whatever plans in frames can be sent to it.

One frame, child of the image's optical frame, at the target's point; it has no orientation of its own and takes the
optical frame's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from jmceln_ros.common import qos

if TYPE_CHECKING:
    from rclpy.node import Node

    from jmceln_ros.msg import Target

# tf2_ros' broadcaster is this publisher and a loop; the message alone has fewer dependencies.
try:
    from tf2_msgs.msg import TFMessage
except ImportError as error:
    MISSING = (
        f"tf2_msgs cannot be imported ({error}): no frame is broadcast. Install it with "
        "`sudo apt install ros-$ROS_DISTRO-tf2-msgs` and start again"
    )
else:
    MISSING = ""

#: Whether tf2_msgs is installed; `MISSING` says how to install it where it is not.
AVAILABLE = not MISSING

#: What tf2's listeners expect (tf2_ros, DynamicBroadcasterQoS).
TF = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


def to_transform(target: Target, child: str) -> TransformStamped:
    """From the image's frame (parent) to the target's (`child`), at the image's stamp; without rotation."""
    transform = TransformStamped(header=target.header, child_frame_id=child)
    translation = transform.transform.translation
    translation.x, translation.y, translation.z = target.point.x, target.point.y, target.point.z
    return transform


def name_problem(name: str) -> str:
    """Why a text cannot be the name of a frame; empty when it can."""
    if not name.strip():
        return "a frame needs a name"
    if name.startswith("/") or any(character.isspace() for character in name):
        return f"tf takes no frame {name!r}: a frame's name has no slash in front and no white space"
    return ""


class TargetFrame:
    """Broadcasts the frame `child` on /tf for every answer that has a point and may be acted upon (FOUND)."""

    def __init__(self, node: Node, child: str = "target") -> None:
        """Raises RuntimeError with `MISSING` where tf2_msgs is not installed, ValueError for an impossible name."""
        problem = MISSING or name_problem(child)
        if problem:
            raise (RuntimeError if MISSING else ValueError)(problem)
        self.child = child
        self._node = node
        self._sent: tuple[int, int, str] | None = None
        self._publisher = qos.publisher(node, TFMessage, "/tf", TF)

    def send(self, target: Target) -> str:
        """Broadcasts the answer's frame. Returns "" or, in words, why there is none to broadcast."""
        header = target.header
        if target.status != target.FOUND:
            return "only what was found gets a frame"
        if not target.has_point:
            return target.point_reason
        child = self.child  # once: another thread may change it
        if not child:
            return "no frame to broadcast is named"
        if not header.frame_id or header.frame_id == child:
            return f"the image's frame {header.frame_id!r} cannot be the parent of {child!r}"
        image = (header.stamp.sec, header.stamp.nanosec, header.frame_id)
        if image == self._sent:
            return "tf takes one transform for an image; this is the second answer to it"
        self._sent = image
        self._publisher.publish(TFMessage(transforms=[to_transform(target, child)]))
        return ""

    def destroy(self) -> None:
        """Takes the publisher down."""
        self._node.destroy_publisher(self._publisher)
