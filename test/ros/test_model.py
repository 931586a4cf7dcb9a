"""The installed segment_node with the real network: a tiny one of random weights, and the bundled checkpoint."""

from __future__ import annotations

import shutil
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from lifecycle_msgs.msg import State, Transition

from jmceln_core import checkpoint
from jmceln_core.synthesis import table_scene as scene
from jmceln_ros.msg import Target
from jmceln_ros.tools.processes import NodeProcess, executable
from support.ros_harness import START_TIMEOUT, mask_of, probing

pytestmark = pytest.mark.ros

MODEL_TIMEOUT = 120.0  # seconds for one answer of the real network on a busy machine


def test_a_missing_package_is_met_with_the_environment_to_build_with(tmp_path):
    """The first failure on a robot: built without the Python that has torch."""
    hidden = "import sys; sys.modules['torch'] = None; from jmceln_ros.segment_node import main; main()"
    with NodeProcess([sys.executable, "-c", hidden], tmp_path / "log") as process:
        deadline = time.monotonic() + START_TIMEOUT
        while "start the node again" not in process.output and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "cannot load the bundled model: " in process.output
        assert f"This Python, {sys.executable}, lacks a package. " in process.output
        for remedy in ("tools/robot_env.sh", "-DPython3_EXECUTABLE=$HOME/jmceln_venv/bin/python", "`make env`"):
            assert remedy in process.output
        assert "Set the parameters model" not in process.output  # which would not help
        assert process.exit_code is None


def test_a_missing_checkpoint_is_named_and_another_answers_with_a_mask_of_the_images_size(tmp_path, tiny_checkpoint):
    picture = np.random.default_rng(0).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    parameters = {"model": "no/such.safetensors", "device": "cpu", "target_mask": "full"}
    with (
        NodeProcess(executable("segment_node"), tmp_path / "log", parameters=parameters) as node,
        probing() as probe,
    ):
        probe.until(lambda: probe.state() == State.PRIMARY_STATE_UNCONFIGURED, START_TIMEOUT)
        assert "[FATAL]" in node.output
        assert "no/such.safetensors" in node.output
        assert "ros2 lifecycle set /segment_node configure" in node.output
        assert probe.set_parameter("model", str(tiny_checkpoint)) == ""
        assert probe.change(Transition.TRANSITION_CONFIGURE)
        assert probe.change(Transition.TRANSITION_ACTIVATE)
        assert "loaded tiny" in node.output
        probe.until(probe.connected)
        for command in ("die große Tasse ☕", "x" * 5000):  # whatever a person says is answered
            probe.command(command)
            image = probe.image(picture, frame_id="eye")
            target = probe.show(image, timeout=MODEL_TIMEOUT)
            assert (target.command, target.header) == (command, image.header)
            assert mask_of(target.mask).shape == (45, 80)
            assert np.count_nonzero(mask_of(target.mask)) == target.area
            assert 0 <= target.score <= 1
        # The model's parameters while it runs: what cannot be is refused, another checkpoint takes over.
        for name, value, said in (
            ("model", "no/such.safetensors", "no such file"),
            ("model", "nameless", "no bundled checkpoint 'nameless'"),
            ("precision", "bf16", "needs a CUDA device"),
            ("device", "abacus", "no such device"),
        ):
            assert said in probe.set_parameter(name, value)
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(b"not one")
        assert probe.set_parameter("model", str(broken)) == ""
        probe.until(lambda: "answers come from" in node.output and "as before" in node.output)
        assert probe.set_parameter("model", str(shutil.copy(tiny_checkpoint, tmp_path / "other.safetensors"))) == ""
        probe.until(lambda: "other.safetensors (cpu) now" in node.output)
        assert probe.set_parameter("mask_threshold", 1.0) == ""
        target = probe.show(probe.image(picture), timeout=MODEL_TIMEOUT)
        assert (target.status, target.area) == (Target.NOT_PRESENT, 0)
        assert node.interrupt() == 0
        assert "Traceback" not in node.output


def test_the_bundled_checkpoint_finds_the_left_mug_on_the_rendered_table(tmp_path):
    try:
        checkpoint.locate()
    except checkpoint.CheckpointError as error:
        pytest.skip(f"no bundled checkpoint: {error}")
    picture, owner = scene.render()
    with (
        NodeProcess(executable("segment_node"), tmp_path / "log", parameters={"target_mask": "full"}) as node,
        probing() as probe,
    ):
        probe.until(lambda: probe.connected() or "[FATAL]" in node.output, START_TIMEOUT)
        assert "[FATAL]" not in node.output, node.output
        probe.command("the mug on the left")
        target = probe.show(probe.image(picture), timeout=MODEL_TIMEOUT)
    assert target.status in (Target.FOUND, Target.LOW_CONFIDENCE)
    mask = mask_of(target.mask) > 0
    assert mask.shape == owner.shape
    left = owner == 0
    assert (mask & left).sum() / (mask | left).sum() > 0.5
