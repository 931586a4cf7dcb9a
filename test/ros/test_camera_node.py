"""camera_node, as colcon installed it, over real DDS."""

from __future__ import annotations

import os
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from jmceln_ros.tools.processes import NodeProcess, executable
from support.ros_harness import START_TIMEOUT, probing

pytestmark = pytest.mark.ros


@pytest.fixture
def watcher():
    with probing() as probe:
        probe.watch_images()
        yield probe


def camera(tmp_path, **parameters):
    return NodeProcess(executable("camera_node"), tmp_path / "camera.log", parameters=parameters)


def flat(value):
    return np.full((24, 32, 3), value, np.uint8)


def values(images):
    return [round(float(np.frombuffer(image.data, np.uint8).mean())) for image in images]


def ended(process):
    """The exit code, once the process has ended by itself."""
    deadline = time.monotonic() + START_TIMEOUT
    while process.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process.exit_code


def test_an_image_again_and_again_at_the_rate_with_stamps(watcher, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), picture)
    with camera(tmp_path, source=str(tmp_path / "p.png"), rate=20.0, frame_id="eye") as process:
        watcher.until(lambda: len(watcher.images) >= 15, START_TIMEOUT)
        assert process.interrupt() == 0
        assert "Traceback" not in process.output
    message = watcher.images[0]
    assert (message.encoding, message.height, message.width, message.step) == ("bgr8", 24, 32, 96)
    assert message.header.frame_id == "eye"
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(24, 32, 3), picture)
    stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in watcher.images]
    assert abs(time.time() - stamps[-1]) < START_TIMEOUT
    assert np.median(np.diff(stamps)) == pytest.approx(1 / 20, rel=0.2)


def test_a_folder_goes_round_in_the_order_of_its_names(watcher, tmp_path):
    for name, value in (("c.png", 150), ("a.png", 50), ("b.png", 100)):
        cv2.imwrite(str(tmp_path / name), flat(value))
    with camera(tmp_path, source=str(tmp_path), rate=10.0):
        watcher.until(lambda: len(watcher.images) >= 7, START_TIMEOUT)
    seen = values(watcher.images)
    start = [50, 100, 150].index(seen[0])
    assert seen[:6] == ([50, 100, 150] * 3)[start : start + 6]


def test_a_video_at_its_own_rate_ends_when_it_does_not_loop(watcher, tmp_path):
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (32, 24))
    for value in range(0, 240, 4):  # six seconds: discovery takes the first
        writer.write(flat(value))
    writer.release()
    with camera(tmp_path, source=str(path), loop=False) as process:
        watcher.until(lambda: process.exit_code is not None, START_TIMEOUT)
        assert process.exit_code == 0
        assert "Traceback" not in process.output
        assert "at 10 Hz" in process.output
    seen = values(watcher.images)
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(236, abs=4)


@pytest.mark.parametrize("name", ["segment_node", "camera_node"])
def test_what_colcon_installed_can_be_run_by_ros2_run_and_launch_files(name):
    assert os.access(executable(name)[1], os.X_OK)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "set the parameter source"),
        ("no/such/picture.png", "no such file"),
        ("63", "webcam 63"),
    ],
)
def test_a_source_that_cannot_be_read_ends_the_node_with_one_clear_line(tmp_path, source, said):
    with camera(tmp_path, source=source) as process:
        assert ended(process) == 1
        assert "[FATAL]" in process.output
        assert said in process.output
        assert "Traceback" not in process.output


def test_a_webcam_number_may_be_a_number_and_a_rate_has_a_range(tmp_path):
    with camera(tmp_path, source=63) as process:  # -p source:=63 is an integer for ROS
        assert ended(process) == 1
        assert "webcam 63" in process.output
    with camera(tmp_path, source="x", rate=-1.0) as process:
        assert ended(process) == 1
        assert "rate" in process.output
        assert "Traceback" not in process.output
