"""The launch files, where the launch system is: in no package registry, but on every machine with ROS 2."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from support import ROOT

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")
pytest.importorskip("launch_ros.actions", reason="launch files are checked where ROS 2's launch_ros is installed")

import rclpy
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.srv import GetParameters

from jmceln_ros.common import fastdds
from support.ros_harness import START_TIMEOUT, Probe, patches, probing

pytestmark = pytest.mark.ros

FOLDER = ROOT / "launch"
TEST_FILE = ROOT / "test" / "support" / "launch_segment.py"

LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch_ros.actions import SetParameter
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *arguments = sys.argv[1:]
service = LaunchService()
source = PythonLaunchDescriptionSource(path)
everywhere = [SetParameter(*a[4:].split(":=")) for a in arguments if a.startswith("all.")]
given = [a.split(":=") for a in arguments if not a.startswith("all.")]
service.include_launch_description(
    LaunchDescription([*everywhere, IncludeLaunchDescription(source, launch_arguments=given)])
)
sys.exit(service.run())
"""


class Launched:
    """A launch file that runs."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        """What was printed so far."""
        return self._log.read_text(errors="replace")

    def pids(self, node: str) -> list[int]:
        """The ids of the processes that a node has had."""
        return [int(pid) for pid in re.findall(rf"\[{node}-\d+\]: process started with pid \[(\d+)\]", self.output)]

    def interrupt(self) -> int:
        """Ends it as Ctrl-C does and returns the exit code. The launch system kills what does not end."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)


@contextmanager
def launching(file: str, log: Path, **arguments: object) -> Iterator[Launched]:
    """Runs a launch file of the package with these arguments; nothing of it is left at the end.

    `all.NAME` is a parameter that a launch file around it sets for all nodes.
    """
    given = [f"{name}:={value}" for name, value in arguments.items()]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(FOLDER / file), *given],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    launched = Launched(process, log)
    try:
        yield launched
    finally:
        if process.poll() is None:
            launched.interrupt()  # killed, it would leave its nodes behind


def parameters_of(probe: Probe, *names: str) -> list[object]:
    """Values of parameters of the probe's node."""
    values = probe.call(GetParameters, "get_parameters", names=list(names)).values
    kinds = (None, "bool_value", "integer_value", "double_value", "string_value")
    return [getattr(value, kinds[value.type]) for value in values]


@pytest.mark.parametrize("file", ["segment.launch.py", "demo.launch.py"])
def test_every_argument_has_a_description_and_a_default(file):
    description = runpy.run_path(str(FOLDER / file))["generate_launch_description"]()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    wanted = {"namespace", "params_file", "model", "device", "image_topic", "image_transport", "depth_topic"}
    wanted |= {"camera_info_topic", "autostart", "use_sim_time", "log_level", "respawn", "speech"}
    wanted |= {"speech_source", "speech_engine", "wake_phrase", "audio_topic", "audio_type", "tf_topic"}
    wanted |= {"fastdds_profile"}
    assert wanted | ({"source", "command", "rviz", "foxglove"} if "demo" in file else set()) <= set(arguments)
    assert all(argument.description and argument.default_value is not None for argument in arguments.values())


def test_the_documents_have_every_argument():
    description = runpy.run_path(str(FOLDER / "demo.launch.py"))["generate_launch_description"]()
    document = (FOLDER.parent / "docs" / "ros.md").read_text()
    for argument in description.get_launch_arguments():
        assert f"`{argument.name}`" in document, argument.name


def test_a_node_that_this_version_lacks_is_refused_with_words():
    from launch import LaunchContext

    file = runpy.run_path(str(FOLDER / "segment.launch.py"))
    with pytest.raises(RuntimeError, match=r"singing_node is not part of the installed jmceln_ros.*/command"):
        file["node"](LaunchContext(), {"command_topic": "/command"}, "singing_node", {}, {})


def resolved(pid: int, topic: str) -> str:
    """The name that a topic has in a running node, by the arguments its process was started with."""
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    context = rclpy.Context()
    rclpy.init(args=arguments[arguments.index("--ros-args") :], context=context)
    node = rclpy.create_node("a_name_that_is_remapped", context=context)
    try:
        return node.resolve_topic_name(topic)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_two_robots_of_a_fleet(tmp_path):
    """As docs/ros.md shows it: what is a robot's own is in its namespace, its frames too, and a word reaches both."""
    given = {"image_topic": "camera/image_raw", "tf_topic": "tf", "command_topic": "/fleet/command"}
    with (
        launching("segment.launch.py", tmp_path / "1", namespace="robot1", autostart="false", **given) as one,
        launching("segment.launch.py", tmp_path / "2", namespace="robot2", autostart="false") as two,
        probing("robot1", "/fleet/command") as first,
        probing("robot2") as second,
    ):
        for probe in (first, second):
            assert probe.state() == State.PRIMARY_STATE_UNCONFIGURED
        first.command("the cup")  # robot2 was not told to listen to the fleet
        second.spin(0.5)
        assert "the cup" not in second.active
        (pid,), (other,) = one.pids("segment_node"), two.pids("segment_node")
        assert [resolved(pid, name) for name in ("/tf", "image", "camera_info")] == [
            "/robot1/tf",
            "/robot1/camera/image_raw",
            "/robot1/camera/camera_info",
        ]
        assert resolved(other, "/tf") == "/tf"
        assert one.interrupt() == two.interrupt() == 0


def test_fast_dds_gets_memory_for_images(tmp_path, monkeypatch):
    """By the shared memory that the node's process has made."""
    if rclpy.get_rmw_implementation_identifier() != "rmw_fastrtps_cpp":
        pytest.skip("Fast DDS only")
    monkeypatch.delenv(fastdds.VARIABLES[0], raising=False)
    with launching("segment.launch.py", tmp_path / "log", autostart="false") as launched:
        with probing() as probe:
            assert probe.state() == State.PRIMARY_STATE_UNCONFIGURED
        (pid,) = launched.pids("segment_node")
        maps = re.findall(r"^(\w+)-(\w+) .*/dev/shm/fastdds_[0-9a-f]{16}$", Path(f"/proc/{pid}/maps").read_text(), re.M)
        assert max(int(end, 16) - int(begin, 16) for begin, end in maps) >= 16 << 20, launched.output
        assert launched.interrupt() == 0


def test_viewers_look_where_the_nodes_are():
    """The copies that rviz2 and Foxglove get have the names of this namespace, of this camera and of these commands."""
    from launch import LaunchContext

    file = runpy.run_path(str(FOLDER / "demo.launch.py"))
    context = LaunchContext()
    context.launch_configurations.update(namespace="robot1", image_topic="/eye/image_raw", command_topic="say")
    context.launch_configurations.update(tf_topic="tf")
    for name, topics in (
        ("rviz/demo.rviz", {"/eye/image_raw", "/robot1/segment_node/overlay", "/robot1/segment_node/point"}),
        ("foxglove/demo.json", {"/eye/image_raw", "/robot1/say", "/robot1/segment_node/target", "/robot1/tf"}),
    ):
        shipped, copied = ROOT / "config" / name, Path(file["here"](context, ROOT / "config" / name))
        found = set(re.findall(r"(?<=[\s\"])/[a-z]\w*(?:/\w+)*", copied.read_text()))
        assert topics <= found
        assert not {"/image", "/command", "/tf", "/segment_node/overlay"} & found
        context_here = LaunchContext()
        context_here.launch_configurations.update(
            namespace="", image_topic="image", command_topic="command", tf_topic=""
        )
        assert Path(file["here"](context_here, shipped)).read_text() == shipped.read_text()


def test_the_arguments_reach_the_node_and_it_is_started_again_after_a_crash(tmp_path):
    """Namespace, the parameter file and the arguments that go before it, the log's level, and an end by Ctrl-C."""
    parameters = tmp_path / "mine.yaml"
    parameters.write_text("/**/segment_node:\n  ros__parameters:\n    model: from_the_file\n    max_rate: 7.5\n")
    given = {
        "namespace": "robot1",
        "params_file": parameters,
        "device": "0",  # a string, though it looks like a number
        "image_transport": "compressed",
        "depth_topic": "/depth",
        "command_topic": "/robot1/say",
        "autostart": "false",
        "log_level": "error",
        "respawn": "true",
    }
    names = ("model", "max_rate", "device", "autostart", "use_sim_time", "image_transport", "depth")
    values = ["from_the_file", 7.5, "0", False, False, "compressed", True]
    with launching("segment.launch.py", tmp_path / "log", **given) as launched:
        with probing("robot1", "/robot1/say") as probe:
            assert parameters_of(probe, *names) == values, launched.output
            assert probe.state() == State.PRIMARY_STATE_UNCONFIGURED
            probe.command("the cup")
            (first,) = probe.until(lambda: launched.pids("segment_node"))
            os.kill(first, signal.SIGKILL)
            probe.until(lambda: len(launched.pids("segment_node")) == 2, START_TIMEOUT)
        # A probe that never met the dead one: a request to that would stay without an answer.
        with probing("robot1", "/robot1/say") as probe:
            assert parameters_of(probe, *names) == values
        assert launched.interrupt() == 0, launched.output
        assert "process has finished cleanly" in launched.output
        assert "[robot1.segment_node]" not in launched.output  # it would say that the command is kept


@pytest.mark.parametrize(("given", "simulated"), [({}, True), ({"use_sim_time": "false"}, False)])
def test_what_is_left_empty_is_as_the_launch_file_around_it_says(tmp_path, given, simulated):
    """As the bringups of nav2 and of simulators do it: SetParameter around the include."""
    around = {"all.use_sim_time": "true", "autostart": "false"}
    with launching("segment.launch.py", tmp_path / "log", **around, **given) as launched:
        with probing() as probe:
            assert parameters_of(probe, "use_sim_time", "autostart") == [simulated, False], launched.output
            assert probe.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert launched.interrupt() == 0, launched.output


def test_a_node_that_ends_is_not_started_again_unasked(tmp_path):
    with launching("segment.launch.py", tmp_path / "log", image_transport="raw", autostart="false") as launched:
        with probing() as probe:
            assert probe.state() == State.PRIMARY_STATE_UNCONFIGURED
        (pid,) = launched.pids("segment_node")
        os.kill(pid, signal.SIGKILL)
        assert launched.process.wait(timeout=30) == 0  # nothing is left to launch
        assert launched.pids("segment_node") == [pid]


def test_speech_is_started_with_its_own_arguments(tmp_path):
    given = {
        "speech": "true",
        "speech_source": "topic",
        "speech_engine": "whisper",
        "wake_phrase": "hey robot",
        "audio_topic": "/ears/left",
        "command_topic": "/say",
        "autostart": "false",
    }
    with launching("segment.launch.py", tmp_path / "log", **given) as launched:
        with probing(of="speech_node") as probe:
            values = parameters_of(probe, "source", "engine", "wake_phrase", "autostart", "threshold")
            assert values == ["topic", "whisper", "hey robot", False, 0.5], launched.output
            assert len(launched.pids("segment_node")) == len(launched.pids("speech_node")) == 1
            assert probe.set_parameter("engine", "moonshine") == ""
            if find_spec("moonshine_cpp"):
                assert probe.change(Transition.TRANSITION_CONFIGURE), launched.output
                assert probe.change(Transition.TRANSITION_ACTIVATE), launched.output
                probe.until(lambda: probe.count_subscribers("/ears/left") and probe.count_publishers("/say"))
        assert launched.interrupt() == 0, launched.output


def test_sound_of_a_foreign_kind_goes_to_its_own_topic(monkeypatch):
    from launch import LaunchContext

    file = runpy.run_path(str(FOLDER / "segment.launch.py"))
    started = []
    monkeypatch.setitem(
        file["start"].__globals__,
        "node",
        lambda context, value, name, parameters, topics: started.append((name, topics)),
    )
    context = LaunchContext()
    context.launch_configurations.update({name: default for name, default, *_ in file["ARGUMENTS"]})
    context.launch_configurations.update(speech="true", audio_topic="/mic/audio", audio_type="AudioData")
    file["start"](context)
    assert started[1] == ("speech_node", {"audio_common/data": "/mic/audio", "audio_info": "/mic/audio_info"})


def test_launch_testing_gets_an_answer_from_the_launched_node(tiny_checkpoint):
    pytest.importorskip("launch_testing.launch_test", reason="needs ROS 2's launch_testing")
    run = "import sys; from launch_testing.launch_test import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", run, str(TEST_FILE), f"model:={tiny_checkpoint}"],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'test'}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("ros2"), reason="demo.launch.py sends its command with ROS 2's ros2 topic pub")
def test_the_demo_answers_its_command_about_its_picture(tmp_path, tiny_checkpoint):
    picture = tmp_path / "patches.png"
    cv2.imwrite(str(picture), patches()[..., ::-1])
    command = "the 'red' one: \"there\"\n& left"
    given = {"source": picture, "command": command, "model": tiny_checkpoint, "device": "cpu"}
    with launching("demo.launch.py", tmp_path / "log", **given) as launched, probing() as probe:
        probe.until(lambda: probe.targets or launched.process.poll() is not None, START_TIMEOUT)
        assert probe.targets, launched.output
        target = probe.targets[0]
        assert (target.command, target.image_width, target.image_height) == (command, 64, 48)
        assert launched.interrupt() == 0, launched.output
