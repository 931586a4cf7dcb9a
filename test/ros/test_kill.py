"""segment_node and camera_node killed (SIGKILL) in the middle of their work and started again, over real DDS."""

from __future__ import annotations

import cv2
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from jmceln_ros.tools.processes import NodeProcess, executable
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros


def test_whoever_is_killed_the_answers_come_back(tmp_path):
    cv2.imwrite(str(tmp_path / "patches.png"), patches()[..., ::-1])

    def camera(name):
        parameters = {"source": str(tmp_path / "patches.png"), "rate": 30.0, "frame_id": name}
        return NodeProcess(executable("camera_node"), tmp_path / name, parameters=parameters)

    def segment(name):
        return NodeProcess(COLOUR_NODE, tmp_path / name)

    def answered(command, frame_id):
        return [t for t in probe.targets if (t.command, t.header.frame_id) == (command, frame_id)]

    with probing() as probe, segment("node_1") as node_1:
        with camera("eye_1") as eye_1:
            probe.until(probe.connected, START_TIMEOUT)
            probe.command("red")
            probe.until(lambda: len(answered("red", "eye_1")) > 3, START_TIMEOUT)
            eye_1.kill()
        with camera("eye_2"):
            # The camera comes back: the node goes on by itself, for the command it has.
            target = probe.until(lambda: answered("red", "eye_2"), START_TIMEOUT)[0]
            assert target.sequence == 1
            assert "Traceback" not in node_1.output
            node_1.kill()
            probe.spin(0.3)  # the answers that it had sent
            probe.forget()
            probe.active.clear()
            with segment("node_2") as node_2:
                # The new node says that it has no command, to those who listen already, and answers none.
                probe.until(lambda: probe.active, START_TIMEOUT)
                assert probe.active == [""]
                probe.until(lambda: "active: images from /image" in node_2.output, START_TIMEOUT)
                probe.spin(0.5)
                assert not probe.targets
                probe.until(probe.person.get_subscription_count)
                probe.command("blue")
                target = probe.until(lambda: answered("blue", "eye_2"))[0]
                assert target.area == 200
                assert node_2.interrupt() == 0
                assert "Traceback" not in node_2.output
