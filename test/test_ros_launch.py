"""launch/segment.launch.py, where the launch system is: in no package registry, but on every machine with ROS 2."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")
pytest.importorskip("launch_ros.actions", reason="launch files are checked where ROS 2's launch_ros is installed")

from lifecycle_msgs.msg import State
from rcl_interfaces.srv import GetParameters
from ros_harness import START_TIMEOUT, probing

pytestmark = pytest.mark.ros

LAUNCH_FILE = Path(__file__).parents[1] / "launch" / "segment.launch.py"

LAUNCH = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *arguments = sys.argv[1:]
service = LaunchService()
source = PythonLaunchDescriptionSource(path)
service.include_launch_description(
    IncludeLaunchDescription(source, launch_arguments=[a.split(":=") for a in arguments])
)
sys.exit(service.run())
"""


def test_every_argument_has_a_description_and_a_default():
    description = runpy.run_path(str(LAUNCH_FILE))["generate_launch_description"]()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert {"namespace", "params_file", "model", "device", "image_topic", "use_sim_time", "log_level"} <= set(arguments)
    assert all(argument.description and argument.default_value is not None for argument in arguments.values())


def test_the_arguments_reach_the_node(tmp_path):
    """Namespace, remappings, the parameter file and the arguments that go before it, and an end by Ctrl-C."""
    parameters = tmp_path / "mine.yaml"
    parameters.write_text("/**/segment_node:\n  ros__parameters:\n    model: from_the_file\n    max_rate: 7.5\n")
    given = {
        "namespace": "robot1",
        "params_file": parameters,
        "device": "0",  # a string, though it looks like a number
        "compressed": "true",
        "command_topic": "/robot1/say",
        "autostart": "false",
        "respawn": "false",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(LAUNCH_FILE), *(f"{name}:={value}" for name, value in given.items())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        with probing("robot1", "/robot1/say") as probe:
            client = probe.create_client(GetParameters, "segment_node/get_parameters")
            probe.until(lambda: client.service_is_ready() or process.poll() is not None, START_TIMEOUT)
            assert process.poll() is None, process.stdout.read()
            names = ["model", "max_rate", "device", "autostart", "use_sim_time", "compressed"]
            model, rate, device, autostart, sim, compressed = probe.call(
                GetParameters, "get_parameters", names=names
            ).values
            assert model.string_value == "from_the_file"
            assert rate.double_value == 7.5
            assert device.string_value == "0"
            assert not autostart.bool_value
            assert not sim.bool_value
            assert compressed.bool_value
            assert probe.state() == State.PRIMARY_STATE_UNCONFIGURED
            probe.until(probe.person.get_subscription_count)
            probe.command("the cup")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "process has finished cleanly" in output
    assert "kept until the node is active" in output
