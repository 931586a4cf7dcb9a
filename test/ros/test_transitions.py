"""segment_node's lifecycle, transition by transition in every order, against the state machine of ROS 2's design."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

from jmceln_ros.tools.processes import NodeProcess
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros

UNCONFIGURED, INACTIVE = State.PRIMARY_STATE_UNCONFIGURED, State.PRIMARY_STATE_INACTIVE
ACTIVE, FINALIZED = State.PRIMARY_STATE_ACTIVE, State.PRIMARY_STATE_FINALIZED

#: Where a transition leads from a state. What is not here is refused and changes nothing.
MACHINE = {
    (UNCONFIGURED, Transition.TRANSITION_CONFIGURE): INACTIVE,
    (INACTIVE, Transition.TRANSITION_ACTIVATE): ACTIVE,
    (ACTIVE, Transition.TRANSITION_DEACTIVATE): INACTIVE,
    (INACTIVE, Transition.TRANSITION_CLEANUP): UNCONFIGURED,
    (UNCONFIGURED, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN): FINALIZED,
    (INACTIVE, Transition.TRANSITION_INACTIVE_SHUTDOWN): FINALIZED,
    (ACTIVE, Transition.TRANSITION_ACTIVE_SHUTDOWN): FINALIZED,
}
TRANSITIONS = sorted({transition for _, transition in MACHINE})
SHUTDOWN = {state: transition for (state, transition), after in MACHINE.items() if after == FINALIZED}


class Manager:
    """Asks a probe's segment_node for transitions, by clients that stay."""

    def __init__(self, probe):
        self._probe = probe
        self._change = probe.create_client(ChangeState, "segment_node/change_state")
        self._get = probe.create_client(GetState, "segment_node/get_state")
        probe.until(lambda: self._change.service_is_ready() and self._get.service_is_ready(), START_TIMEOUT)
        self.state = self._ask(self._get, GetState.Request()).current_state.id

    def _ask(self, client, request):
        future = client.call_async(request)
        self._probe.until(future.done, START_TIMEOUT)
        return future.result()

    def go(self, transition):
        """Asks for the transition, and checks what comes of it against MACHINE."""
        expected = MACHINE.get((self.state, transition))
        success = self._ask(self._change, ChangeState.Request(transition=Transition(id=transition))).success
        now = self._ask(self._get, GetState.Request()).current_state.id
        assert success == (expected is not None), (self.state, transition)
        assert now == (self.state if expected is None else expected), (self.state, transition)
        self.state = now


def is_shut_down(manager, node):
    """Shuts the node down: it takes no transition any more, and its process still ends well."""
    for transition in (SHUTDOWN[manager.state], *TRANSITIONS):
        manager.go(transition)
    assert manager.state == FINALIZED
    assert node.exit_code is None
    assert node.interrupt() == 0
    assert "Traceback" not in node.output


def unconfigured(tmp_path):
    """A node that waits for a manager, in a namespace of its own."""
    remappings = {"__ns": "/managed"}
    return NodeProcess(COLOUR_NODE, tmp_path / "log", parameters={"autostart": False}, remappings=remappings)


def test_a_walk_through_every_state_with_every_transition_and_shut_down(tmp_path):
    """Sixty transitions drawn with every pair of state and transition among them; active, the node answers each time,
    by the command given at the beginning; otherwise it does not listen. Shut down at last, it refuses every one."""
    draw = random.Random(5)
    allowed = [t for t in TRANSITIONS if t not in SHUTDOWN.values()]
    untried = {(s, t) for s in SHUTDOWN for t in TRANSITIONS if SHUTDOWN[s] != t}
    with unconfigured(tmp_path) as node, probing("managed") as probe:
        manager = Manager(probe)
        assert manager.state == UNCONFIGURED
        probe.until(probe.person.get_subscription_count)
        probe.command("red")
        steps = answers = 0
        while steps < 60 or untried or manager.state != ACTIVE:
            here = [t for s, t in untried if s == manager.state]
            # A refused one that is still to be tried, by preference: the others come by themselves.
            refused = [t for t in here if (manager.state, t) not in MACHINE]
            transition = draw.choice(sorted(refused or here) or allowed)
            untried.discard((manager.state, transition))
            before = manager.state
            manager.go(transition)
            steps += 1
            if manager.state == ACTIVE != before:
                probe.until(probe.connected)
                target = probe.show(probe.image(patches()))
                assert (target.command, target.sequence, target.area) == ("red", 1, 200)
                answers += 1
            elif before == ACTIVE != manager.state:
                probe.until(lambda: not probe.camera.get_subscription_count())
        assert answers > 2
        is_shut_down(manager, node)


@pytest.mark.slow
@pytest.mark.parametrize("way", [(), (Transition.TRANSITION_CONFIGURE,)])
def test_shut_down_before_it_was_active(tmp_path, way):
    with unconfigured(tmp_path) as node, probing("managed") as probe:
        manager = Manager(probe)
        for transition in way:
            manager.go(transition)
        is_shut_down(manager, node)
