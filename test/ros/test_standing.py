"""What is in force when segment_node's process ends without being asked to: the file, and a real SIGKILL."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from jmceln_ros.common import standing
from jmceln_ros.common.standing import Order, Standing

NAME = "/robot1/segment_node"


@pytest.fixture
def made(tmp_path):
    """Makes the file's keeper, and lets all of them go."""
    keepers = []

    def make(name=NAME):
        keepers.append(Standing(name, tmp_path))
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.close()


def killed(keeper):
    """As when the process is gone: the kernel closes its files, nobody tidies up."""
    os.close(keeper._file)
    keeper._file = None


@pytest.mark.parametrize(
    "order", [Order(), Order(False, ""), Order(True, "the long command"), Order(False, 'no "x"\n\u00e9')]
)
def test_what_was_in_force_is_known_after_a_crash_and_forgotten_after_an_end(made, order):
    first = made()
    assert (first.before, first.problem) == (None, "")
    first.keep(Order(True, "something much longer than what comes after it, so that it has to be cut off" * 3))
    first.keep(order)
    killed(first)
    second = made()
    assert second.before == order
    second.close()
    assert made().before is None


@pytest.mark.parametrize("letter", ["x", "\U0001f34e"])
def test_a_command_of_megabytes_does_not_make_the_rest_forgotten(made, letter):
    first = made()
    first.keep(Order(False, letter * 2_000_000))
    killed(first)
    assert made().before == Order(False, letter * 4096)


def test_a_process_that_lives_has_it_to_itself_and_other_names_have_their_own(made):
    first = made()
    first.keep(Order(False, "cup"))
    beside = made()
    assert beside.before is None
    assert "robot1.segment_node" in beside.problem
    beside.keep(Order())
    beside.close()
    assert made("/robot2/segment_node").before is None
    killed(first)
    assert made().before == Order(False, "cup")


def test_another_start_of_the_machine_is_a_new_beginning(made, monkeypatch):
    first = made()
    first.keep(Order(False, "cup"))
    killed(first)
    monkeypatch.setattr(standing, "_boot", lambda: "another")
    assert made().before is None


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"boot": 1', json.dumps({"boot": 0, "enabled": 1, "command": 2}), "\xff\x00"]
)
def test_a_file_of_anything_is_a_new_beginning(made, tmp_path, text):
    killed(made())
    (file,) = (tmp_path / "jmceln_ros").iterdir()
    file.write_text(text, encoding="latin-1")
    assert made().before is None


def test_without_a_place_for_the_file_there_is_no_memory_and_no_failure(tmp_path):
    (tmp_path / "jmceln_ros").write_text("in the way")
    keeper = Standing(NAME, tmp_path)
    assert keeper.problem
    keeper.keep(Order(False, "cup"))
    keeper.close()


def test_the_lock_ends_with_the_process(made, tmp_path):
    program = "import sys, os; from pathlib import Path; from jmceln_ros.common.standing import *\n"
    program += f"s = Standing({NAME!r}, Path({str(tmp_path)!r})); s.keep(Order(False, 'cup')); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert made().before == Order(False, "cup")


@pytest.mark.ros
def test_killed_and_started_again_it_stays_disabled_and_says_which_command_is_lost(tmp_path):
    pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
    from diagnostic_msgs.msg import DiagnosticStatus
    from std_srvs.srv import SetBool

    from jmceln_ros.tools.processes import NodeProcess
    from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

    lost = "command 'the red cup' was in force when the process before ended without being asked to"
    # A probe for each: one that has known a killed node goes on asking it for a while.
    with NodeProcess(COLOUR_NODE, tmp_path / "1") as node, probing() as probe:
        probe.until(probe.connected, START_TIMEOUT)
        probe.command("the red cup")
        assert probe.call(SetBool, "enable", data=False).success
        node.kill()
    with NodeProcess(COLOUR_NODE, tmp_path / "2") as node, probing() as probe:
        probe.until(probe.connected, START_TIMEOUT)
        assert lost in node.output
        values = probe.diagnosed(DiagnosticStatus.OK, "disabled by ~/enable")
        assert (values["command"], values["command lost"]) == ("none", "the red cup")
        assert probe.call(SetBool, "enable", data=True).success
        probe.diagnosed(DiagnosticStatus.WARN, "waiting for a command: 'the red cup' was in force")
        probe.command("blue")
        assert probe.show(probe.image(patches())).command == "blue"
        assert probe.diagnosed(DiagnosticStatus.OK, "")["command lost"] == "none"
        assert node.interrupt() == 0
    after = Standing("/segment_node")
    after.close()
    assert (after.before, after.problem) == (None, "")  # asked to end, it has forgotten all of it
