"""jmceln_ros.segment.outputs: a Target as a Detection2DArray, where vision_msgs is installed."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from std_msgs.msg import Header

from jmceln_ros.msg import Instance, Target
from jmceln_ros.segment import outputs

pytestmark = pytest.mark.ros

needs_vision_msgs = pytest.mark.skipif(bool(outputs.NO_DETECTIONS), reason="vision_msgs is in no package registry")


def found(**changes):
    target = Target(command="the red mug", sequence=7, status=Target.FOUND, score=0.75, has_point=True)
    target.header = Header(frame_id="camera_optical_frame")
    target.header.stamp.sec = 12
    target.instances = [Instance(text="the red mug", box_x=10, box_y=20, box_width=5, box_height=8)]
    target.point.x, target.point.y, target.point.z = 0.1, -0.2, 1.5
    for name, value in changes.items():
        setattr(target, name, value)
    return target


def corners(box):
    """Left, top, right, bottom; version 3 of vision_msgs has the centre's x where version 4 has position.x."""
    center = box.center.position if hasattr(box.center, "position") else box.center
    return (
        center.x - box.size_x / 2,
        center.y - box.size_y / 2,
        center.x + box.size_x / 2,
        center.y + box.size_y / 2,
    )


@needs_vision_msgs
def test_what_was_found_is_one_detection():
    target = found()
    array = outputs.to_detections(target)
    assert array.header == target.header
    (detection,) = array.detections
    assert detection.header == target.header
    assert detection.id == "7"
    assert corners(detection.bbox) == (10, 20, 15, 28)
    assert detection.bbox.center.theta == 0
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("the red mug", 0.75)
    position = result.pose.pose.position
    assert (position.x, position.y, position.z) == (0.1, -0.2, 1.5)
    assert result.pose.pose.orientation.w == 1


@needs_vision_msgs
def test_without_a_point_the_position_is_no_number():
    (detection,) = outputs.to_detections(found(has_point=False)).detections
    position = detection.results[0].pose.pose.position
    assert all(map(math.isnan, (position.x, position.y, position.z)))


@needs_vision_msgs
@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"status": Target.NOT_PRESENT, "instances": []}, 0),
        ({"status": Target.LOW_CONFIDENCE, "instances": []}, 0),  # an empty mask
        ({"status": Target.LOW_CONFIDENCE}, 1),
        ({"status": Target.AMBIGUOUS, "instances": [Instance(), Instance()]}, 2),
    ],
)
def test_how_many_there_are_by_status(changes, count):
    target = found(**changes)
    array = outputs.to_detections(target)
    assert len(array.detections) == count
    assert array.header == target.header


@needs_vision_msgs
def test_several_things_are_a_detection_each():
    spoon = Instance(text="the spoon", box_x=30, box_y=2, box_width=9, box_height=3)
    first, second = outputs.to_detections(found(instances=[found().instances[0], spoon])).detections
    assert (first.id, second.id) == ("7-1", "7-2")
    assert [d.results[0].hypothesis.class_id for d in (first, second)] == ["the red mug", "the spoon"]
    assert corners(second.bbox) == (30, 2, 39, 5)
    assert all(math.isnan(d.results[0].pose.pose.position.z) for d in (first, second))  # the point is of both together


@needs_vision_msgs
def test_it_is_a_message_that_rclpy_sends():
    from rclpy.serialization import deserialize_message, serialize_message

    array = outputs.to_detections(found())
    assert deserialize_message(serialize_message(array), type(array)) == array


@pytest.mark.skipif(not outputs.NO_DETECTIONS, reason="vision_msgs is installed")
def test_its_absence_names_the_remedy():
    with pytest.raises(RuntimeError, match=r"vision_msgs cannot be imported.*apt install ros-\$ROS_DISTRO-vision-msgs"):
        outputs.to_detections(found())
