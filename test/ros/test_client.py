"""The client in docs/ros.md, as it stands there, against a segment_node around a model without time."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from jmceln_ros.tools.processes import NodeProcess
from support import ROOT
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros


def test_the_client_in_the_document_says_what_is_found_for_its_own_command(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "ros.md").read_text(), re.DOTALL)
    assert program.count("\n") < 25
    client = [sys.executable, "-c", program]
    with NodeProcess(COLOUR_NODE, tmp_path / "node", parameters={"tracking": False}) as node, probing() as probe:
        probe.until(probe.connected, START_TIMEOUT)
        probe.command("blue")
        with NodeProcess(client, tmp_path / "client") as robot:
            probe.until(
                lambda: "pixels" in robot.output or robot.exit_code is not None,
                every=0.1,
                do=lambda: probe.camera.publish(probe.image(patches())),
            )
            picture = patches()
            picture[15:20, 5:25] = 90  # half of it is left
            first = probe.show(probe.image(picture))
            for _ in range(3):
                assert probe.show(probe.image(np.full_like(picture, 90))).status == first.NOT_PRESENT
            probe.until(lambda: ": 100 pixels" in robot.output)
            probe.command("blue")
            assert probe.show(probe.image(patches())).sequence == first.sequence + 1
            probe.spin(0.3)
            lines = set(robot.output.splitlines())
        assert node.exit_code is None
    assert lines == {"the red mug: 200 pixels, at (14, 14)", "the red mug: 100 pixels, at (14, 12)"}
