"""segment_node's lifecycle, and its parameters while it runs, over real DDS: one process for all of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

from jmceln_ros.common import qos
from jmceln_ros.msg import Target
from jmceln_ros.srv import Segment, SetCommand
from jmceln_ros.tools.processes import NodeProcess
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros

NAME = "/alone/segment_node"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node that could not load its model, with a quality of service of its own; later tests need the earlier ones."""
    parameters = {
        "model": "broken",
        "qos.image": "reliable",
        "qos.result": "sensor_data",
        f"qos_overrides.{NAME}/target.publisher.reliability": "reliable",
    }
    remappings = {"__ns": "/alone"}
    log = tmp_path_factory.mktemp("lifecycle") / "log"
    with NodeProcess(COLOUR_NODE, log, parameters=parameters, remappings=remappings) as process:
        yield process


@pytest.fixture(scope="module")
def connected(node):
    """A probe beside the module's node, which it makes active."""
    with probing("alone") as probe:
        probe.until(probe.person.get_subscription_count, START_TIMEOUT)
        yield probe


@pytest.fixture
def probe(connected):
    """The module's probe, before anything was received, and the node active."""
    connected.forget()
    connected.statuses.clear()
    if connected.state() == State.PRIMARY_STATE_UNCONFIGURED:
        connected.set_parameter("model", "")
        assert connected.change(Transition.TRANSITION_CONFIGURE)
    if connected.state() == State.PRIMARY_STATE_INACTIVE:
        assert connected.change(Transition.TRANSITION_ACTIVATE)
    connected.until(connected.connected)
    return connected


def value(probe, name):
    """A parameter's value as the node has it."""
    (found,) = probe.call(GetParameters, "get_parameters", names=[name]).values
    return found.string_value


def test_a_model_that_does_not_load_fails_the_transition_and_not_the_node(connected, node):
    """Missing weights, then a GPU that is too small, then a model that loads: each is said, the node lives on."""
    probe = connected
    for model, said in (("broken", "there is no such checkpoint"), ("huge", "Tried to allocate 80 GiB")):
        assert probe.set_parameter("model", model) == ""
        assert not probe.change(Transition.TRANSITION_CONFIGURE)
        values = probe.diagnosed(DiagnosticStatus.ERROR, said)
        assert (values["state"], values["model"]) == ("unconfigured", "none")
    assert "not active" in probe.ask("red", probe.image(patches())).message
    response = probe.call(SetCommand, "set_command", command="red")
    assert response.message == "kept until the node is active; it is unconfigured now"
    assert probe.set_parameter("model", "") == ""
    assert probe.change(Transition.TRANSITION_CONFIGURE)
    probe.diagnosed(DiagnosticStatus.OK, "inactive: images are not answered")
    assert probe.change(Transition.TRANSITION_ACTIVATE)
    probe.until(probe.connected)
    target = probe.show(probe.image(patches()))
    assert (target.command, target.sequence) == ("red", response.sequence)
    assert "Traceback" not in node.output


def test_a_question_that_waits_when_the_node_is_deactivated_is_refused(probe):
    client = probe.create_client(Segment, "segment_node/segment")
    probe.until(client.service_is_ready)
    request = Segment.Request(command="red slowly", image=probe.image(patches()))
    futures = [client.call_async(request) for _ in range(3)]
    probe.until(futures[0].done)
    assert probe.change(Transition.TRANSITION_DEACTIVATE)
    probe.until(lambda: all(future.done() for future in futures))
    assert futures[0].result().success
    assert "deactivated before" in futures[2].result().message
    probe.destroy_client(client)
    assert not probe.camera.get_subscription_count()


def test_profiles_and_overrides_make_the_quality_of_service(probe):
    def reliability(endpoints):
        (own,) = (e for e in endpoints if e.node_name == "segment_node")
        return own.qos_profile.reliability

    assert reliability(probe.get_subscriptions_info_by_topic("/alone/image")) == ReliabilityPolicy.RELIABLE
    assert reliability(probe.get_publishers_info_by_topic(f"{NAME}/mask")) == ReliabilityPolicy.BEST_EFFORT
    assert reliability(probe.get_publishers_info_by_topic(f"{NAME}/target")) == ReliabilityPolicy.RELIABLE
    assert "read-only" in probe.set_parameter("qos.image", "latest")


def test_another_model_is_loaded_beside_the_one_that_answers_and_then_takes_its_place(probe):
    probe.command("red")
    assert probe.set_parameter("model", "slow") == ""
    assert probe.show(probe.image(patches())).area == 200  # while it loads
    values = probe.diagnosed(DiagnosticStatus.OK, "")
    assert (values["model"], values["model being loaded"]) == ("colour", "slow")
    probe.until(lambda: any(v.value == "slow" for s in probe.statuses for v in s.values if v.key == "model"))
    assert probe.show(probe.image(patches())).area == 200
    assert value(probe, "model") == "slow"


def test_a_model_that_does_not_load_leaves_the_old_one_in_place_and_the_parameter_goes_back(probe, node):
    before = value(probe, "model")
    probe.command("red")
    assert probe.set_parameter("model", "slow broken") == ""
    values = probe.diagnosed(DiagnosticStatus.WARN, "the weights are of another network")
    assert values["model"] == (before or "colour")
    assert value(probe, "model") == before
    assert "[ERROR]" in node.output
    assert "as before" in node.output
    assert probe.show(probe.image(patches())).area == 200


def test_a_change_of_mind_while_a_model_loads_counts(probe):
    before = value(probe, "model")
    assert probe.set_parameter("model", "slow broken") == ""
    assert probe.set_parameter("model", "third") == ""
    probe.until(lambda: any(v.value == "third" for s in probe.statuses for v in s.values if v.key == "model"))
    assert probe.set_parameter("model", "slow") == ""
    assert probe.set_parameter("model", "third") == ""  # back: nothing happens
    probe.spin(1.5)
    assert value(probe, "model") == "third"
    assert probe.diagnosed(DiagnosticStatus.OK, "")["model"] == "third"
    assert before != "third"


def test_what_this_machine_cannot_do_is_refused_at_once(probe):
    assert probe.set_parameter("device", "cuda:3") == "device='cuda:3': PyTorch sees 0 CUDA devices; use 'cpu'"
    assert value(probe, "device") == ""
    both = [Parameter(name, value=v).to_parameter_msg() for name, v in (("device", "cuda"), ("precision", "fp16"))]
    result = probe.call(SetParametersAtomically, "set_parameters_atomically", parameters=both).result
    assert not result.successful
    assert value(probe, "precision") == ""
    assert "choose one of" in probe.set_parameter("precision", "int3")
    assert "no slash in front" in probe.set_parameter("target_frame", "/map")
    assert probe.set_parameter("depth_max", 0.01).startswith("depth_min is 0.05 and depth_max 0.01: no depth lies")
    for none_or_own in (0, 65):
        assert probe.set_parameter("depth_max", none_or_own) == ""


def test_thresholds_change_at_once_and_a_negative_one_is_the_checkpoints_own(probe):
    """The model is sure of its pixels with 0.9."""
    probe.command("red")
    for name, threshold, status in (
        ("mask_threshold", 0.95, Target.NOT_PRESENT),
        ("mask_threshold", -1.0, Target.FOUND),
        ("confidence_threshold", 0.95, Target.LOW_CONFIDENCE),
        ("confidence_threshold", -1.0, Target.FOUND),
    ):
        assert probe.set_parameter(name, threshold) == ""
        assert probe.show(probe.image(patches())).status == status


def test_once_answers_a_command_with_one_frame_and_says_that_it_has_ended(probe):
    assert probe.set_parameter("mode", "once") == ""
    for colour in ("red", "blue"):
        probe.command(colour)
        target = probe.show(probe.image(patches()))
        assert (target.command, target.status) == (colour, Target.FOUND)
        probe.until(lambda: probe.active[-1] == "")
    probe.forget()
    probe.camera.publish(probe.image(patches()))
    probe.spin(0.5)
    assert not probe.targets
    assert "no command is in force" in probe.ask(" ").message
    assert probe.set_parameter("mode", "track") == ""


def test_tracking_holds_what_is_missing_for_a_moment_and_says_so(probe):
    """The thing is in the first frame and in none of the next, by stamps of 0, 0.2 and 0.6 s."""
    probe.command("red")
    start = probe.get_clock().now()

    def answers(tracking):
        assert probe.set_parameter("tracking", tracking) == ""
        probe.command("red")  # begins anew
        got = []
        for late, picture in ((0.0, patches()), (0.2, patches() * 0), (0.6, patches() * 0)):
            image = probe.image(picture)
            image.header.stamp = (start + Duration(seconds=late)).to_msg()
            target = probe.show(image)
            got.append((target.status, target.area))
        return got

    assert answers(False) == [(Target.FOUND, 200), (Target.NOT_PRESENT, 0), (Target.NOT_PRESENT, 0)]
    assert answers(True) == [(Target.FOUND, 200), (Target.LOW_CONFIDENCE, 0), (Target.NOT_PRESENT, 0)]


def test_images_may_come_compressed_from_now_on(probe):
    """JPEG and PNG on image/compressed are answered, broken ones and the topic image are not."""
    assert probe.set_parameter("image_transport", "compressed") == ""
    camera = probe.create_publisher(CompressedImage, "image/compressed", qos.IMAGE_OUTPUT)
    probe.until(lambda: camera.get_subscription_count() and not probe.camera.get_subscription_count())
    probe.command("red")
    bgr = np.ascontiguousarray(patches()[..., ::-1])
    for extension, name in ((".png", "png"), (".jpg", "rgb8; jpeg compressed bgr8")):
        message = CompressedImage(format=name, data=cv2.imencode(extension, bgr)[1].tobytes())
        message.header = probe.image(patches()).header
        broken = CompressedImage(format=name, data=message.data[:40])
        broken.header.frame_id = "broken"
        camera.publish(broken)
        probe.diagnosed(DiagnosticStatus.ERROR, "compressed image")

        def answer(header=message.header):
            return next((target for target in probe.targets if target.header == header), None)

        target = probe.until(answer, every=1.0, do=lambda message=message: camera.publish(message))
        assert (target.image_width, target.image_height) == (64, 48)
        assert target.centroid_u == pytest.approx(14.5, abs=0.5)
        assert target.centroid_v == pytest.approx(14.5, abs=0.5)
        assert target.area == pytest.approx(200, abs=0 if extension == ".png" else 40)
    assert not any(target.header.frame_id == "broken" for target in probe.targets)
    assert probe.set_parameter("image_transport", "raw") == ""
    probe.until(lambda: probe.camera.get_subscription_count() and not camera.get_subscription_count())


def test_old_frames_are_dropped_and_counted(probe):
    probe.command("red")
    assert probe.set_parameter("max_frame_age", 0.5) == ""
    old = probe.image(patches(), frame_id="old")
    old.header.stamp.sec -= 10
    probe.camera.publish(old)
    values = probe.diagnosed(DiagnosticStatus.WARN, "too old")
    assert "1 too old" in values["images dropped"]
    assert "more than max_frame_age (0.5 s)" in probe.ask("red").message
    unstamped = probe.image(patches(), frame_id="no stamp")
    unstamped.header.stamp.sec = unstamped.header.stamp.nanosec = 0
    assert np.isnan(probe.show(unstamped).latency)
    assert not any(target.header.frame_id == "old" for target in probe.targets)
    assert probe.set_parameter("max_frame_age", 0.0) == ""


def test_simulated_time_may_jump_back_as_when_a_bag_is_played_again(probe):
    clock = probe.create_publisher(Clock, "/clock", 10)
    assert probe.set_parameter("max_frame_age", 0.5) == ""
    assert probe.set_parameter("use_sim_time", True) == ""
    probe.until(clock.get_subscription_count)
    probe.command("red")
    for second in (1000, 1001, 10, 11):
        now = Clock()
        now.clock.sec = second
        image = probe.image(patches())
        image.header.stamp = now.clock

        def play(now=now, image=image):
            clock.publish(now)
            probe.camera.publish(image)

        def answered(image=image):  # once the node has heard of the time, which may be after the image
            return any(target.header == image.header and abs(target.latency) < 1e-6 for target in probe.targets)

        probe.until(answered, every=0.3, do=play)
    assert probe.set_parameter("use_sim_time", False) == ""
    assert probe.set_parameter("max_frame_age", 0.0) == ""


def test_cleanup_lets_the_model_go_and_the_one_being_loaded_and_configure_brings_one_back(probe, node):
    probe.command("red")
    sequence = probe.show(probe.image(patches())).sequence
    assert probe.set_parameter("model", "slow") == ""
    assert probe.change(Transition.TRANSITION_DEACTIVATE)
    assert probe.change(Transition.TRANSITION_CLEANUP)
    probe.spin(1.5)
    values = probe.diagnosed(DiagnosticStatus.OK, "unconfigured: images are not answered")
    assert (values["model"], values["model being loaded"]) == ("none", "none")
    assert not probe.count_publishers("segment_node/target")
    assert probe.change(Transition.TRANSITION_CONFIGURE)
    assert probe.change(Transition.TRANSITION_ACTIVATE)
    probe.until(probe.connected)
    assert probe.show(probe.image(patches())).sequence == sequence  # the command was kept
    assert probe.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    probe.diagnosed(DiagnosticStatus.OK, "finalized")
    assert node.interrupt() == 0
    assert "Traceback" not in node.output
