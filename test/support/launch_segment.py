"""A test of launch_testing's: segment.launch.py starts the node, which answers a sentence and ends cleanly.

`PYTHONPATH=test:$PYTHONPATH launch_test test/support/launch_segment.py` runs it with the bundled model, model:=PATH
with another; so does test/ros/test_launch.py.
"""

from __future__ import annotations

import unittest
from pathlib import Path

import launch_testing.asserts
import numpy as np
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_testing.actions import ReadyToTest
from sensor_msgs.msg import Image

from jmceln_ros.common import qos
from launch import LaunchDescription
from support.ros_harness import START_TIMEOUT, probing

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "segment.launch.py"


def generate_test_description() -> LaunchDescription:
    """Every topic elsewhere than by default."""
    given = {
        "namespace": "robot1",
        "image_topic": "/eye/color/image_raw",
        "depth_topic": "/eye/depth/image_raw",
        "command_topic": "/robot1/say",
        "respawn": "false",
        "device": "cpu",
        "model": LaunchConfiguration("model"),
    }
    source = PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    return LaunchDescription(
        [
            DeclareLaunchArgument("model", default_value="", description="Checkpoint; empty is the bundled model."),
            IncludeLaunchDescription(source, launch_arguments=given.items()),
            ReadyToTest(),
        ]
    )


class TestAnswer(unittest.TestCase):
    """While the node runs."""

    def test_a_picture_and_a_sentence_are_answered(self) -> None:
        with probing("robot1", "/robot1/say") as probe:
            camera = probe.create_publisher(Image, "/eye/color/image_raw", qos.IMAGE_OUTPUT)
            probe.until(probe.connected, START_TIMEOUT)
            probe.command("the cup")
            probe.until(camera.get_subscription_count)
            for topic in ("/eye/depth/image_raw", "/eye/color/camera_info"):
                probe.until(lambda topic=topic: probe.count_subscribers(topic))
            image = probe.image(np.full((48, 64, 3), 90, np.uint8), frame_id="eye")
            probe.until(lambda: probe.targets, START_TIMEOUT, every=1.0, do=lambda: camera.publish(image))
            target = probe.targets[0]
            assert (target.command, target.sequence, target.header) == ("the cup", 1, image.header)
            assert (target.image_height, target.image_width) == (48, 64)
            assert target.point_reason  # the depth's topic is silent


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After Ctrl-C."""

    def test_the_node_ended_cleanly(self, proc_info) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
