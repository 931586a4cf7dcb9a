"""jmceln_ros.segment.outputs: the target as a frame of tf."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

import rclpy
from rclpy.executors import SingleThreadedExecutor

from jmceln_ros.common import qos
from jmceln_ros.msg import Target
from jmceln_ros.segment import outputs

pytestmark = pytest.mark.ros

needs_tf2_msgs = pytest.mark.skipif(bool(outputs.NO_FRAMES), reason="tf2_msgs is in no package registry")


def found(second=5, frame_id="camera_optical_frame", **changes):
    target = Target(status=Target.FOUND, has_point=True)
    target.header.frame_id = frame_id
    target.header.stamp.sec = second
    target.point.x, target.point.y, target.point.z = 0.1, -0.2, 1.5
    for name, value in changes.items():
        setattr(target, name, value)
    return target


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    made = rclpy.create_node("frames", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def test_the_transform_is_the_point_in_the_images_frame():
    target = found()
    transform = outputs.to_transform(target, "mug")
    assert transform.header == target.header
    assert transform.child_frame_id == "mug"
    translation, rotation = transform.transform.translation, transform.transform.rotation
    assert (translation.x, translation.y, translation.z) == (0.1, -0.2, 1.5)
    assert (rotation.x, rotation.y, rotation.z, rotation.w) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("name", "fine"),
    [("target", True), ("robot/target", True), ("", False), (" ", False), ("/target", False), ("a b", False)],
)
def test_names_of_frames(name, fine):
    assert (outputs.name_problem(name) == "") is fine


@needs_tf2_msgs
def test_frames_are_broadcast_on_tf(node):
    from tf2_msgs.msg import TFMessage

    received = []
    node.create_subscription(TFMessage, "/tf", received.append, qos.TF)
    target_frame = outputs.TargetFrame(node, "mug")
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + 20
    while not node.count_subscribers("/tf") and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.02)
    second = 0
    while not received and time.monotonic() < deadline:
        second += 1
        assert target_frame.send(found(second)) == ""
        executor.spin_once(timeout_sec=0.1)
    (transform,) = received[0].transforms
    assert transform == outputs.to_transform(found(transform.header.stamp.sec), "mug")
    target_frame.destroy()
    outputs.TargetFrame(node, "cup").destroy()  # another name while the node runs
    assert node.count_publishers("/tf") == 0


@needs_tf2_msgs
@pytest.mark.parametrize(
    ("target", "says"),
    [
        (found(status=Target.NOT_PRESENT), "only what was found"),
        (found(status=Target.AMBIGUOUS), "only what was found"),
        (found(has_point=False, point_reason="too shiny"), "too shiny"),
        (found(frame_id=""), "cannot be the parent of 'mug'"),
        (found(frame_id="mug"), "cannot be the parent of 'mug'"),
    ],
)
def test_what_gets_no_frame(node, target, says):
    assert says in outputs.TargetFrame(node, "mug").send(target)


@needs_tf2_msgs
def test_an_image_gets_one_frame(node):
    target_frame = outputs.TargetFrame(node, "mug")
    assert [target_frame.send(found(second)) == "" for second in (5, 5, 6, 5)] == [True, False, True, True]


@needs_tf2_msgs
def test_a_name_that_tf_does_not_take_is_refused(node):
    with pytest.raises(ValueError, match="no slash in front"):
        outputs.TargetFrame(node, "/mug")


@pytest.mark.skipif(not outputs.NO_FRAMES, reason="tf2_msgs is installed")
def test_its_absence_names_the_remedy(node):
    with pytest.raises(RuntimeError, match=r"tf2_msgs cannot be imported.*apt install ros-\$ROS_DISTRO-tf2-msgs"):
        outputs.TargetFrame(node, "mug")
