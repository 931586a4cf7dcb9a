"""jmceln_ros.common.fastdds: the settings that the launch files give the nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ament_index_python", reason="needs ROS 2: run `make test`")

from ament_index_python.packages import get_package_share_directory

from jmceln_ros.common import fastdds

pytestmark = pytest.mark.ros

NEW, OLD = fastdds.VARIABLES
TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"


@pytest.mark.parametrize(
    ("outside", "profile", "given"),
    [
        ({}, "", {NEW: "own"}),
        ({"ROS_DISTRO": "jazzy"}, "", {OLD: "own"}),  # one of them: with both the file is read twice, with complaints
        ({"ROS_DISTRO": "lyrical"}, "", {NEW: "own"}),
        ({}, "/my/own.xml", {NEW: "/my/own.xml"}),
        ({}, "none", {}),
        ({NEW: "/their/own.xml"}, "", {}),
        ({OLD: "/their/own.xml"}, "", {}),
        ({TRANSPORTS: "UDPv4"}, "", {}),
        ({TRANSPORTS: ""}, "", {NEW: "own"}),
    ],
)
def test_settings_that_fast_dds_has_already_are_left_alone(monkeypatch, outside, profile, given):
    own = Path(get_package_share_directory("jmceln_ros")) / "config" / "fastdds.xml"
    for name in (NEW, OLD, TRANSPORTS, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    for name, value in outside.items():
        monkeypatch.setenv(name, value)
    assert fastdds.environment(profile) == {name: str(own) if v == "own" else v for name, v in given.items()}
    assert own.is_file()
