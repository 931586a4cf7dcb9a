"""What segment_node says about a frame: an answer as messages, and the publishers of these.

That is a Target and the mask, and parts of them for what already reads these: a Detection2DArray (RViz, Nav2, behaviour
trees) where vision_msgs is installed, and a frame of tf, so that whatever plans in frames can be sent to it, where
tf2_msgs is.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PointStamped, TransformStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from jmceln_ros.common import qos
from jmceln_ros.common.images import fill_image
from jmceln_ros.common.parameters import ParameterProblem
from jmceln_ros.msg import Instance, Target
from jmceln_ros.segment.intake import Command

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode
    from rclpy.node import Node

    from jmceln_core import Segmentation

#: Why there are no detections, and no frames of tf, with the remedy; empty where there are.
NO_DETECTIONS = NO_FRAMES = ""

try:
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose
except ImportError as error:
    NO_DETECTIONS = (
        f"vision_msgs cannot be imported ({error}): no ~/detections. Install it with "
        "`sudo apt install ros-$ROS_DISTRO-vision-msgs` and start again"
    )

# tf2_ros' broadcaster is a publisher of this message and a loop; the message alone has fewer dependencies.
try:
    from tf2_msgs.msg import TFMessage
except ImportError as error:
    NO_FRAMES = (
        f"tf2_msgs cannot be imported ({error}): no frame is broadcast. Install it with "
        "`sudo apt install ros-$ROS_DISTRO-tf2-msgs` and start again"
    )

_NOWHERE = (math.nan, math.nan)


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
            self._detections = make(Detection2DArray, "~/detections") if not NO_DETECTIONS else None
        except ParameterProblem:
            self.destroy()
            raise
        if NO_DETECTIONS:
            node.get_logger().info(NO_DETECTIONS, once=True)

    @property
    def target_topic(self) -> str:
        """The full name of the topic of the answers."""
        return str(self._target.topic_name)

    def broadcast(self, child: str) -> None:
        """Broadcasts the target's place as this frame from now on; empty is none. For the executor's thread."""
        if child and NO_FRAMES:
            self._node.get_logger().warning(NO_FRAMES, once=True)
        elif self._frame is not None:
            self._frame.child = child
        elif child:
            self._frame = TargetFrame(self._node, child)

    def publish(
        self, target: Target, rgb: np.ndarray, segmentation: Segmentation, *, jpeg_quality: int, guesses: bool
    ) -> None:
        """Publishes an answer about the (H, W, 3) uint8 picture, the Target first.

        Point and detections have no place for a status: without `guesses` they are of what is FOUND alone.
        """
        sure = guesses or target.status == Target.FOUND
        self._target.publish(target)
        if target.has_point and sure:
            self._point.publish(PointStamped(header=target.header, point=target.point))
        if target.has_point and self._frame is not None:
            self._frame.send(target)
        if self._detections is not None and self._detections.get_subscription_count():
            self._detections.publish(to_detections(target) if sure else Detection2DArray(header=target.header))
        if self._mask.get_subscription_count():
            mask = Image(header=target.header)
            fill_mask(mask, segmentation.mask)
            self._mask.publish(mask)
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


class TargetFrame:
    """Broadcasts the frame `child` on /tf for every answer that has a point and may be acted upon (FOUND).

    It is a child of the image's optical frame at the target's point; it has no orientation of its own and takes that
    frame's.
    """

    def __init__(self, node: Node, child: str) -> None:
        """Raises RuntimeError with NO_FRAMES where tf2_msgs is not installed, ValueError for an impossible name."""
        if NO_FRAMES:
            raise RuntimeError(NO_FRAMES)
        if problem := name_problem(child):
            raise ValueError(problem)
        self.child = child
        self._node = node
        self._sent: tuple[int, int, str] | None = None
        self._publisher = qos.publisher(node, TFMessage, "/tf", qos.TF)

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


def name_problem(name: str) -> str:
    """Why a text cannot be the name of a frame; empty when it can."""
    if not name.strip():
        return "a frame needs a name"
    if name.startswith("/") or any(character.isspace() for character in name):
        return f"tf takes no frame {name!r}: a frame's name has no slash in front and no white space"
    return ""


def to_target(
    segmentation: Segmentation,
    command: Command,
    header: Header,
    *,
    mask: str = "none",
    model: str = "",
    rectified: bool = False,
    model_seconds: float = math.nan,
) -> Target:
    """The message for one answer. `header` is the image's; `latency` is left to the moment of publication.

    The command's `arrival` is a builtin_interfaces/Time. `mask` is none, cropped or full. There is no point in space
    until `set_point`.
    """
    target = Target()
    target.header = header
    target.command = command.text
    target.command_stamp = command.arrival
    target.sequence = command.sequence
    target.status = getattr(Target, segmentation.status.name)
    target.score = float(segmentation.score)
    target.image_height, target.image_width = segmentation.mask.shape
    target.area = int(segmentation.area)
    target.centroid_u, target.centroid_v = segmentation.centroid or _NOWHERE
    target.anchor_u, target.anchor_v = segmentation.anchor or _NOWHERE
    if segmentation.box is not None:
        target.box_x, target.box_y, target.box_width, target.box_height = (int(v) for v in segmentation.box)
    for one in segmentation.instances:
        instance = Instance(text=one.text or command.text, area=int(one.area))
        instance.anchor_u, instance.anchor_v = (float(v) for v in one.anchor)
        instance.box_x, instance.box_y, instance.box_width, instance.box_height = (int(v) for v in one.box)
        target.instances.append(instance)
    if mask == "full":
        target.mask.header = header
        fill_mask(target.mask, segmentation.mask)
    elif mask == "cropped" and segmentation.box is not None:
        x, y, w, h = segmentation.box
        target.mask.header = header
        target.mask_x, target.mask_y = int(x), int(y)
        fill_mask(target.mask, segmentation.mask[y : y + h, x : x + w])
    target.point.x = target.point.y = target.point.z = math.nan
    target.model, target.rectified, target.model_seconds = model, rectified, model_seconds
    return target


def fill_mask(message: Image, mask: np.ndarray) -> None:
    """Writes an (H, W) bool mask into an image message as mono8, 0 and 255."""
    fill_image(message, mask.astype(np.uint8) * 255, "mono8")


def no_target(command: str, reason: str) -> Target:
    """The message where there is no answer: UNKNOWN, and no number in it that could be taken for a place."""
    target = Target(command=command, status=Target.UNKNOWN)
    target.centroid_u, target.centroid_v = target.anchor_u, target.anchor_v = _NOWHERE
    set_point(target, None, reason)
    return target


def set_point(target: Target, point: tuple[float, float, float] | None, reason: str) -> None:
    """Says where the target is in space: (x, y, z) metres in the optical frame, or the reason why that is not known."""
    target.has_point = point is not None
    target.point.x, target.point.y, target.point.z = point or (math.nan,) * 3
    target.point_reason = "" if target.has_point else reason


def to_detections(target: Target) -> Any:
    """The Detection2DArray of one answer: a detection for each of the target's instances.

    Header: the image's. Class id: the instance's text. Id: the command's number, for the detections of one command are
    of one thing; of several, with a dash and the number of the instance (7-1, 7-2). The box is the instance's, by its
    edges: center - size / 2 is (box_x, box_y). The hypothesis' position is the target's point in metres, NaN without
    one; several things have none.

    Versions 3 and 4 of vision_msgs (`center.x`, `center.position.x`) are filled. Raises RuntimeError with NO_DETECTIONS
    where vision_msgs is not installed.
    """
    if NO_DETECTIONS:
        raise RuntimeError(NO_DETECTIONS)
    detections = Detection2DArray(header=target.header)
    single = len(target.instances) == 1
    for number, instance in enumerate(target.instances, start=1):
        detection = Detection2D(
            header=target.header, id=f"{target.sequence}" if single else f"{target.sequence}-{number}"
        )
        center = getattr(detection.bbox.center, "position", detection.bbox.center)
        center.x = instance.box_x + instance.box_width / 2
        center.y = instance.box_y + instance.box_height / 2
        detection.bbox.size_x, detection.bbox.size_y = float(instance.box_width), float(instance.box_height)
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = instance.text, target.score
        position = result.pose.pose.position
        if target.has_point and single:
            position.x, position.y, position.z = target.point.x, target.point.y, target.point.z
        else:
            position.x = position.y = position.z = math.nan
        detection.results.append(result)
        detections.detections.append(detection)
    return detections


def to_transform(target: Target, child: str) -> TransformStamped:
    """From the image's frame (parent) to the target's (`child`), at the image's stamp; without rotation."""
    transform = TransformStamped(header=target.header, child_frame_id=child)
    translation = transform.transform.translation
    translation.x, translation.y, translation.z = target.point.x, target.point.y, target.point.z
    return transform


def to_jpeg(rgb: np.ndarray, header: Header, quality: int) -> CompressedImage:
    """A (H, W, 3) uint8 RGB picture as a JPEG message, `format` as image_transport writes it."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} pixels cannot be made a JPEG")
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=array("B", data.tobytes()))


def seconds_between(earlier: Time, later: Time) -> float:
    """later - earlier in seconds; nan when `earlier` was never set."""
    if not (earlier.sec or earlier.nanosec):
        return math.nan
    return (later.sec - earlier.sec) + 1e-9 * (later.nanosec - earlier.nanosec)
