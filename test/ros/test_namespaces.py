"""Two cameras with a segment_node each in two namespaces, over real DDS; a word to one is none to the other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from jmceln_ros.tools.processes import NodeProcess
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros


def test_what_is_said_to_one_robot_is_not_said_to_the_other(tmp_path):
    """The right camera sees the picture mirrored: an answer in the other's place would be about the other's image.

    The right node's `command` is remapped to a fleet's, as docs/ros.md shows.
    """
    pictures = {"left": patches(), "right": np.ascontiguousarray(patches()[:, ::-1])}
    centres = {"left": 14.5, "right": 63 - 49.5}
    fleet = {"__ns": "/right", "command": "/fleet/command"}
    with (
        NodeProcess(COLOUR_NODE, tmp_path / "left", remappings={"__ns": "/left"}) as left_node,
        NodeProcess(COLOUR_NODE, tmp_path / "right", remappings=fleet) as right_node,
        probing("left") as left,
        probing("right", command="/fleet/command") as right,
    ):
        for probe in (left, right):
            probe.until(probe.connected, START_TIMEOUT)
        assert left.person.topic_name == "/left/command"
        left.command("red")
        right.command("blue")
        for name, probe in (("left", left), ("right", right)):
            target = probe.show(probe.image(pictures[name], frame_id=f"{name}_eye"))
            assert target.centroid_u == centres[name]
        assert {"red", "blue"} & set(left.active) == {"red"}
        assert {"red", "blue"} & set(right.active) == {"blue"}
        left.spin(0.3)
        right.spin(0.3)
        # The left node has nothing of the right camera, and the right probe nothing of the left node.
        assert {target.header.frame_id for target in left.targets} == {"left_eye"}
        assert {target.header.frame_id for target in right.targets} == {"right_eye"}

        # What is changed in one, and its end, are its own matter.
        assert right.set_parameter("max_image_side", 50) == ""  # the pictures are 64 wide
        left.forget()
        assert left.show(left.image(pictures["left"])).area == 200
        assert right.set_parameter("max_image_side", 8192) == ""
        assert left_node.interrupt() == 0
        right.forget()
        assert right.show(right.image(pictures["right"])).area == 200
        assert right_node.exit_code is None
