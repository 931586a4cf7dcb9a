"""What configure does while a model loads, and nodes made in one's own process: real nodes, over real DDS."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from jmceln_ros.camera_node import CameraNode
from jmceln_ros.common import lifecycle
from jmceln_ros.segment_node import SegmentNode
from jmceln_ros.speech_node import SpeechNode
from jmceln_ros.srv import Segment
from jmceln_ros.tools.processes import NodeProcess
from support.ros_beep_node import make_engine
from support.ros_colour_node import LOAD_SECONDS, make_segmenter
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros


def loading(tmp_path, **parameters):
    """A node whose model takes LOAD_SECONDS to load."""
    return NodeProcess(COLOUR_NODE, tmp_path / "log", parameters={"model": "slow", **parameters})


def test_while_the_model_loads_the_state_is_told_and_success_means_that_it_is_there(tmp_path):
    with loading(tmp_path, autostart=False) as node, probing() as probe:
        get = probe.create_client(GetState, "segment_node/get_state")
        change = probe.create_client(ChangeState, "segment_node/change_state")
        probe.until(lambda: get.service_is_ready() and change.service_is_ready(), START_TIMEOUT)
        begin = time.monotonic()
        configured = change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        probe.until(lambda: "loading slow" in node.output)
        waited, states = [], []
        while not configured.done():
            asked = time.monotonic()
            future = get.call_async(GetState.Request())
            probe.until(future.done)
            waited.append(time.monotonic() - asked)
            states.append(future.result().current_state.id)
        assert time.monotonic() - begin > LOAD_SECONDS
        assert len(states) > 3
        assert max(waited) < LOAD_SECONDS / 2
        assert State.TRANSITION_STATE_CONFIGURING in states
        assert configured.result().success
        assert probe.state() == State.PRIMARY_STATE_INACTIVE
        assert probe.call(GetAvailableTransitions, "get_available_transitions").available_transitions
        assert probe.change(Transition.TRANSITION_ACTIVATE)
        probe.command("red")
        assert probe.show(probe.image(patches())).area == 200


def test_while_deactivate_waits_for_the_model_the_state_is_told(tmp_path):
    with NodeProcess(COLOUR_NODE, tmp_path / "log") as node, probing() as probe:
        get = probe.create_client(GetState, "segment_node/get_state")
        change = probe.create_client(ChangeState, "segment_node/change_state")
        ask = probe.create_client(Segment, "segment_node/segment")
        probe.until(probe.connected, START_TIMEOUT)
        probe.until(lambda: get.service_is_ready() and change.service_is_ready() and ask.service_is_ready())
        long = " and ".join(
            f"the {colour} {what} slowly" for colour in ("red", "blue", "green") for what in ("cup", "box")
        )
        answer = ask.call_async(Segment.Request(command=long, image=probe.image(patches())))
        probe.spin(0.2)
        deactivated = change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE)))
        states = []
        while not deactivated.done():
            future = get.call_async(GetState.Request())
            probe.until(future.done)
            states.append(future.result().current_state.id)
        assert states.count(State.TRANSITION_STATE_DEACTIVATING) > 3
        assert deactivated.result().success
        probe.until(answer.done)
        assert answer.result().success, answer.result().message
        assert node.exit_code is None


@pytest.mark.parametrize(("number", "autostart"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_told_to_end_while_it_loads_it_ends_as_always(tmp_path, number, autostart):
    with loading(tmp_path, autostart=autostart) as node, probing() as probe:
        if not autostart:
            change = probe.create_client(ChangeState, "segment_node/change_state")
            probe.until(change.service_is_ready, START_TIMEOUT)
            change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        probe.until(lambda: "loading slow" in node.output, START_TIMEOUT)
        os.kill(node.pid, number)
        probe.until(lambda: node.exit_code is not None)
        assert node.exit_code == 0
        assert "[ERROR]" not in node.output
        assert "[FATAL]" not in node.output
        assert "Traceback" not in node.output


@pytest.fixture
def context():
    """A context of this process's own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def test_a_model_that_does_not_come_fails_configure_after_a_stated_time(context, monkeypatch):
    monkeypatch.setattr(lifecycle, "LOADING_LIMIT", 0.2)
    end = threading.Event()
    node = SegmentNode(lambda settings: end.wait(20.0), context=context)
    try:
        begin = time.monotonic()
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert 0.2 <= time.monotonic() - begin < 2
        assert "cannot load the bundled model: it is not there after 0.2 s" in node._trouble
        end.set()
        time.sleep(0.1)  # what comes too late is not taken
        assert node._models.segmenter is None
    finally:
        end.set()
        node.destroy_node()


def test_nodes_can_be_composed_in_one_process_with_names_and_parameters_of_their_own(context, tmp_path):
    def made(name):
        overrides = [Parameter("mode", value="once"), Parameter("model", value=name)]
        return SegmentNode(make_segmenter, context=context, namespace=name, parameter_overrides=overrides)

    executor = SingleThreadedExecutor(context=context)
    nodes = [made("left"), made("right")]
    try:
        for node in nodes:
            executor.add_node(node)
            node.start()
        assert [node.get_fully_qualified_name() for node in nodes] == ["/left/segment_node", "/right/segment_node"]
        thread = threading.Thread(target=executor.spin)
        thread.start()
        for name in ("left", "right"):
            with probing(name) as probe:
                probe.until(probe.connected)
                probe.command("red")
                assert probe.show(probe.image(patches())).area == 200
                probe.until(lambda probe=probe: probe.active[-1] == "")  # mode is once
        executor.shutdown()
        thread.join()
    finally:
        for node in nodes:
            node.stop()
            node.destroy_node()


@pytest.mark.skipif(not hasattr(SegmentNode, "add_post_set_parameters_callback"), reason="Humble only asks beforehand")
@pytest.mark.parametrize(
    ("kind", "make", "name", "acts"),
    [
        (SegmentNode, make_segmenter, "max_rate", lambda node: node._intake.max_rate),
        (SpeechNode, make_engine, "max_latency", lambda node: node._settings.max_latency),
    ],
)
def test_a_change_that_somebody_else_refuses_has_no_effect(context, kind, make, name, acts):
    class Careful(kind):
        def add_on_set_parameters_callback(self, callback):
            """rclpy asks the newest first: whoever was there before has the last word."""
            super().add_on_set_parameters_callback(self._fear)
            super().add_on_set_parameters_callback(callback)

        def _fear(self, changes):
            refused = any((c.name, c.value) == (name, 5.0) for c in changes)
            return SetParametersResult(successful=not refused, reason="not five" if refused else "")

    node = Careful(make, context=context)
    for value, acts_on in ((4.0, 4.0), (5.0, 4.0), (6.0, 6.0)):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert result.successful == (value == acts_on)
        assert acts(node) == node.get_parameter(name).value == acts_on
    node.destroy_node()


def test_a_camera_takes_the_options_of_a_node_too(context, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), patches())
    camera = CameraNode(
        context=context, namespace="left", parameter_overrides=[Parameter("source", value=str(tmp_path / "a.png"))]
    )
    assert camera.get_fully_qualified_name() == "/left/camera_node"
    camera.destroy_node()
