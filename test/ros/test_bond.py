"""The bond by which a lifecycle manager of nav2 knows that a node is alive.

Neither nav2 nor bond_core is in a package registry. The messages are built from their definition; the manager is this
file's own, made after bondcpp's state machine and nav2_lifecycle_manager's order of doing things, at its own defaults.
"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from jmceln_ros.tools.processes import NodeProcess
from support.foreign_messages import build_messages
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, probing

pytestmark = [pytest.mark.ros, pytest.mark.slow]

STATUS = """std_msgs/Header header
string id
string instance_id
bool active
float32 heartbeat_timeout
float32 heartbeat_period
"""

# Configures and activates /managed/segment_node, bonds with it, and says what becomes of the bond. With "deactivate" it
# deactivates the node after six seconds.
MANAGER = """
import sys, time
import rclpy
from bond.msg import Status
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

BOND_TIMEOUT = 4.0
rclpy.init()
node = rclpy.create_node("lifecycle_manager", namespace="managed")
change = node.create_client(ChangeState, "segment_node/change_state")
change.wait_for_service(5.0) or sys.exit("no service")

def go(transition):
    future = change.call_async(ChangeState.Request(transition=Transition(id=transition)))
    rclpy.spin_until_future_complete(node, future)
    future.result().success or sys.exit(f"transition {transition} failed")

state, sister, last, gaps = "waiting", "", 0.0, []

def on_status(message):
    global state, sister, last
    if message.id != "segment_node" or message.instance_id == "manager":
        return
    sister = sister or message.instance_id
    assert sister == message.instance_id, "more than two ends"
    if message.active:
        if state == "alive":
            gaps.append(time.monotonic() - last)
        state, last = "alive", time.monotonic()
    else:
        state = "told dead"

publisher = node.create_publisher(Status, "bond", 5)
go(Transition.TRANSITION_CONFIGURE)
go(Transition.TRANSITION_ACTIVATE)
node.create_subscription(Status, "bond", on_status, 100)
node.create_timer(0.1, lambda: publisher.publish(Status(id="segment_node", instance_id="manager", active=True)))
begin = time.monotonic()
while state == "waiting":
    rclpy.spin_once(node, timeout_sec=0.05)
    if time.monotonic() > begin + BOND_TIMEOUT / 2:
        sys.exit("was unable to be reached by bond")
print("formed", flush=True)
while state == "alive":
    rclpy.spin_once(node, timeout_sec=0.05)
    if time.monotonic() > last + BOND_TIMEOUT:
        state = "silent"
    if "deactivate" in sys.argv and time.monotonic() > begin + 6.0:
        go(Transition.TRANSITION_DEACTIVATE)
        sys.argv.remove("deactivate")
print(f"{state}, longest gap {max(gaps):.2f}", flush=True)
"""


@pytest.fixture(scope="module")
def bond(tmp_path_factory):
    """Variables with which the package bond is found."""
    return build_messages("bond", {"Status": STATUS}, tmp_path_factory.mktemp("bond"))


def managed(tmp_path):
    return NodeProcess(COLOUR_NODE, tmp_path / "log", parameters={"autostart": False}, remappings={"__ns": "/managed"})


def manager(*arguments):
    """The manager's process; what it says is read from `stdout`."""
    command = [sys.executable, "-c", MANAGER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_managers_bond_is_formed_holds_and_ends_with_deactivate(bond, tmp_path, monkeypatch):
    for name, value in bond.items():
        monkeypatch.setenv(name, value)
    with managed(tmp_path) as node, probing("managed") as probe:
        probe.until(probe.person.get_subscription_count, START_TIMEOUT)
        for _ in range(2):  # a second bond is another one
            said, _ = manager("deactivate").communicate(timeout=START_TIMEOUT)
            assert said.startswith("formed\ntold dead, longest gap "), said + node.output
            assert float(said.split()[-1]) < 2.0
            probe.change(2)  # cleanup
        assert "Traceback" not in node.output


def test_a_killed_node_is_silent(bond, tmp_path, monkeypatch):
    for name, value in bond.items():
        monkeypatch.setenv(name, value)
    with managed(tmp_path) as node, probing("managed") as probe:
        probe.until(probe.person.get_subscription_count, START_TIMEOUT)
        with manager() as watching:
            assert watching.stdout.readline() == "formed\n"
            time.sleep(1.0)
            node.kill()
            assert watching.stdout.read().startswith("silent"), node.output


def test_messages_without_their_compiled_part_are_told_and_done_without(bond, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", bond["PYTHONPATH"])
    with (
        NodeProcess(COLOUR_NODE, tmp_path / "log", remappings={"__ns": "/managed"}) as node,
        probing("managed") as probe,
    ):
        probe.until(probe.connected, START_TIMEOUT)
        assert "bond is there and cannot be used" in node.output
