"""segment_node's services, outputs and diagnostics, over real DDS: a process of its own around a model without time."""

from __future__ import annotations

import math
import time
from functools import partial

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PointStamped
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool

from jmceln_ros.common import qos
from jmceln_ros.msg import Target
from jmceln_ros.segment import outputs
from jmceln_ros.srv import Segment, SetCommand
from jmceln_ros.tools.processes import NodeProcess
from support.ros_colour_node import SLOW_SECONDS
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, mask_of, patches, probing

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """One active node; depth is on, and a rate is written as people write it, without a point."""
    log = tmp_path_factory.mktemp("services") / "log"
    with NodeProcess(
        COLOUR_NODE, log, parameters={"depth": True, "target_frame": "the_thing", "max_rate": 0}
    ) as process:
        yield process


@pytest.fixture(scope="module")
def connected(node):
    """The probe of the module's node, with all its publishers and subscriptions in place."""
    with probing() as probe:
        probe.depth = probe.create_publisher(Image, "depth", qos.IMAGE_OUTPUT)
        probe.info = probe.create_publisher(CameraInfo, "camera_info", qos.IMAGE_OUTPUT)
        probe.until(probe.connected, START_TIMEOUT)
        yield probe


@pytest.fixture
def probe(connected, node):
    """The module's probe, before anything was received; the node, if it lives, is left without a command."""
    connected.forget()
    yield connected
    if node.exit_code is None:
        connected.command("")


def test_a_question_is_refused_without_image_and_without_command(probe):
    """The camera is there and says nothing."""
    assert "no image came within 2 s" in probe.ask("red").message
    answer = probe.ask("", probe.image(patches()))
    assert not answer.success
    assert "blank and no command is in force" in answer.message
    says_nothing(answer)


def says_nothing(answer):
    """Whoever reads the target before `success` finds no status to act upon, and no number that could be a place."""
    target = answer.target
    assert (target.status, target.point_reason) == (Target.UNKNOWN, answer.message)
    assert not target.has_point
    places = (target.centroid_u, target.centroid_v, target.anchor_u, target.anchor_v)
    assert all(map(math.isnan, (*places, target.point.x, target.point.y, target.point.z)))


def test_a_message_that_nobody_filled_finds_nothing():
    assert Target().status == Segment.Response().target.status == Target.UNKNOWN == 0


def test_a_question_about_an_image_of_its_own(probe):
    image = probe.image(patches(), frame_id="mine")
    answer = probe.ask("the red thing", image)
    assert (answer.success, answer.message) == (True, "")
    target = answer.target
    assert (target.header, target.command, target.sequence, target.status) == (
        *(image.header, "the red thing", 0, Target.FOUND),
    )
    assert (target.area, target.centroid_u) == (200, 14.5)
    assert mask_of(target.mask)[10:20, 5:25].all()
    now = probe.get_clock().now().nanoseconds * 1e-9
    assert now - 5 < target.command_stamp.sec + 1e-9 * target.command_stamp.nanosec < now
    assert 0 < target.latency < 5
    assert not probe.targets  # said to who asked only
    absent = probe.ask("green", image)
    assert (absent.success, absent.target.status) == (True, Target.NOT_PRESENT)


def test_an_image_that_cannot_be_used_is_the_reason_of_the_refusal(probe):
    answer = probe.ask("red", Image(height=2, width=2, encoding="16UC1", step=4, data=bytes(8)))
    assert not answer.success
    assert "depth (REP-118), not a picture" in answer.message
    says_nothing(answer)


def test_questions_are_answered_while_the_stream_runs_and_neither_starves(probe):
    """A slow stream at 30 Hz, and a question as soon as the last one was answered: both get half of the worker."""
    probe.command("red slowly")
    client = probe.create_client(Segment, "segment_node/segment")
    probe.until(client.service_is_ready)
    picture = patches()
    answers, pending = [], []

    def ask():
        probe.camera.publish(probe.image(picture))
        if not pending:
            pending.append(client.call_async(Segment.Request(command=f"blue {len(answers)}")))
        elif pending[0].done():
            answers.append(pending.pop().result())

    probe.until(lambda: len(answers) >= 6 and len(probe.targets) >= 5, 60, every=1 / 30, do=ask)
    assert len(probe.targets) <= 9
    probe.destroy_client(client)
    assert all(answer.success for answer in answers), [answer.message for answer in answers]
    assert [answer.target.command for answer in answers] == [f"blue {i}" for i in range(len(answers))]
    assert {answer.target.centroid_u for answer in answers} == {49.5}
    assert {target.command for target in probe.targets} == {"red slowly"}
    assert {target.centroid_u for target in probe.targets} == {14.5}


def test_callbacks_do_not_wait_for_a_question(probe):
    probe.show_after = probe.image(patches())
    client = probe.create_client(Segment, "segment_node/segment")
    probe.until(client.service_is_ready)
    future = client.call_async(Segment.Request(command="red slowly", image=probe.image(patches())))
    begin = time.monotonic()
    assert probe.call(SetCommand, "set_command", command="blue").success
    assert not future.done() or time.monotonic() - begin > SLOW_SECONDS
    probe.until(future.done)
    assert future.result().target.command == "red slowly"
    probe.destroy_client(client)


def test_one_picture_is_encoded_once_for_several_sentences(probe):
    """The model answers with as many pixels as pictures were encoded."""
    probe.command("encoded")
    probe.show(probe.image(patches()))  # which waits for its depth, and may be shown twice
    probe.spin(0.2)
    first = probe.show(probe.image(patches())).area
    areas = [probe.ask(f"encoded {i}").target.area for i in range(3)]
    assert areas == [first] * 3
    assert probe.ask("").target.sequence > 0  # the command in force, with its number
    assert probe.ask("encoded", probe.image(patches())).target.area == first + 1


def test_set_command_says_which_number_it_became(probe):
    response = probe.call(SetCommand, "set_command", command="the blue thing")
    assert (response.success, response.message) == (True, "")
    target = probe.show(probe.image(patches()))
    assert (target.command, target.sequence) == ("the blue thing", response.sequence)
    assert target.command_stamp == response.command_stamp
    probe.until(lambda: probe.active[-1] == "the blue thing")
    ended = probe.call(SetCommand, "set_command", command=" ")
    assert (ended.success, ended.sequence) == (True, response.sequence + 1)
    assert "no command is in force" in ended.message
    probe.until(lambda: probe.active[-1] == "")


def test_disabled_it_answers_nothing_and_says_so_and_goes_on_when_enabled(probe):
    probe.command("red")
    probe.show(probe.image(patches()))
    assert probe.call(SetBool, "enable", data=False).success
    probe.spin(0.2)
    probe.targets.clear()
    probe.camera.publish(probe.image(patches()))
    assert "disabled" in probe.ask("red").message
    assert "until the node is enabled" in probe.call(SetCommand, "set_command", command="blue").message
    assert probe.diagnosed(DiagnosticStatus.OK, "disabled")["state"] == "active, disabled"
    assert not probe.targets
    assert probe.camera.get_subscription_count() == 0
    assert probe.call(SetBool, "enable", data=True).success
    assert probe.show(probe.image(patches())).command == "blue"


def depth_for(image, metres, probe, encoding="32FC1"):
    """Publishes depth and calibration of an image: the whole view at one distance, f = 50, middle at (31.5, 23.5)."""
    values = np.full((48, 64), metres, "<f4") if encoding == "32FC1" else np.full((48, 64), 1000 * metres, "<u2")
    depth = Image(header=image.header, height=48, width=64, encoding=encoding, step=values.strides[0])
    depth.data = values.tobytes()
    info = CameraInfo(header=image.header, height=48, width=64, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
    probe.info.publish(info)
    probe.depth.publish(depth)


def test_depth_of_the_same_stamp_gives_the_point_and_other_depth_the_reason(probe):
    points = []
    subscription = probe.create_subscription(PointStamped, "segment_node/point", points.append, qos.RESULT)
    probe.command("red")
    image = probe.image(patches(), frame_id="eye")
    image.header.stamp.sec += 100
    assert probe.show(image).point_reason == "no depth image has come on /depth"

    def show(image, metres, encoding, away=0, says=""):
        """The image's target once it has a point, or a reason with these words; its depth is `away` seconds off."""
        image.header.stamp.sec += away
        depth_for(image, metres, probe, encoding)
        image.header.stamp.sec -= away
        probe.camera.publish(image)
        own = [t for t in probe.targets if t.header == image.header]
        return next((t for t in own if (says in t.point_reason if says else t.has_point)), None)

    image = probe.image(patches(), frame_id="eye")
    says = "the nearest depth image is 200.000 s away, depth_slop is 0.05"
    probe.until(partial(show, image, 2.0, "16UC1", 200, says), every=0.5)

    for metres, encoding in ((2.0, "32FC1"), (0.5, "16UC1")):
        image = probe.image(patches(), frame_id="eye")
        target = probe.until(partial(show, image, metres, encoding), every=0.5)
        expected = (metres * (14.5 - 31.5) / 50, metres * (14.5 - 23.5) / 50, metres)
        assert (target.point.x, target.point.y, target.point.z) == pytest.approx(expected, abs=1e-3)
        assert target.point_reason == ""
        probe.until(lambda target=target: any((p.header, p.point) == (target.header, target.point) for p in points))
    assert probe.ask("blue").target.has_point  # a question about the newest frame finds its depth, too
    assert "depth (REP-118)" not in probe.ask("green").message
    assert "the mask is empty" in probe.ask("green").target.point_reason
    # A driver with units of its own, and a range; what was told is true of the next image.
    for name, value, says in (
        ("depth_scale", 0.01, ""),
        ("depth_max", 10.0, "the depth under the mask is 20.00 to 20.00 m, outside depth_min 0.05 to depth_max 10"),
    ):
        assert probe.set_parameter(name, value) == ""
        image = probe.image(patches(), frame_id="eye")
        target = probe.until(partial(show, image, 2.0, "16UC1", says=says), every=0.5)
        assert says or target.point.z == pytest.approx(20.0)
    for name, value in (("depth_scale", 0), ("depth_max", 65)):
        assert probe.set_parameter(name, value) == ""
    # A guess has a place in Target alone, which says that it is one; the others have no room for a status.
    assert probe.set_parameter("confidence_threshold", 1.0) == ""
    for guesses in (False, True):
        assert probe.set_parameter("guesses", guesses) == ""
        points.clear()
        image = probe.image(patches(), frame_id="eye")
        target = probe.until(partial(show, image, 2.0, "32FC1"), every=0.5)
        assert target.status == Target.LOW_CONFIDENCE
        probe.spin(0.5)
        assert any(p.header == target.header for p in points) == guesses
    assert probe.set_parameter("guesses", False) == ""
    assert probe.set_parameter("confidence_threshold", -1.0) == ""
    probe.destroy_subscription(subscription)


@pytest.mark.parametrize("command", ["both red things", "the red thing", "the red thing and the blue one"])
def test_several_things_have_no_point(probe, command):
    picture = patches()
    picture[10:20, 35:50] = picture[12, 12]
    points = []
    subscription = probe.create_subscription(PointStamped, "segment_node/point", points.append, qos.RESULT)
    assert probe.set_parameter("guesses", True) == ""

    def answered(image):
        """The image's target that does not lack depth; before the subscription to depth stands, it is lost."""
        depth_for(image, 2.0, probe)
        probe.camera.publish(image)
        return next((t for t in probe.targets if t.header == image.header and "depth" not in t.point_reason), None)

    probe.command(command)
    target = probe.until(partial(answered, probe.image(picture, frame_id="eye")), every=0.5)
    asked = probe.ask(command).target
    for one in (target, asked):
        assert len(one.instances) > 1
        said = f"these are {len(one.instances)} things, and a point is one thing's: name one of them"
        assert (one.has_point, one.point_reason) == (False, said)
        assert math.isnan(one.point.z)
    probe.command("the blue thing")
    image = probe.image(picture, frame_id="eye")
    probe.until(lambda: answered(image) and any(p.header == image.header for p in points), every=0.5)
    assert {p.header.frame_id for p in points} == {"eye"}
    assert not any(p.header == target.header for p in points)
    assert probe.set_parameter("guesses", False) == ""
    probe.destroy_subscription(subscription)


def test_detections_and_target_frame_where_their_messages_are_installed(probe):
    if outputs.NO_DETECTIONS or outputs.NO_FRAMES:
        pytest.skip("vision_msgs or tf2_msgs is not installed")
    found, moved = [], []
    subscriptions = [
        probe.create_subscription(outputs.Detection2DArray, "segment_node/detections", found.append, qos.RESULT),
        probe.create_subscription(outputs.TFMessage, "/tf", moved.append, qos.TF),
    ]
    probe.until(lambda: probe.count_publishers("segment_node/detections") and probe.count_publishers("/tf"))
    probe.command("red")
    image = probe.image(patches(), frame_id="eye")

    def show():
        # tf takes one transform for an image, so each try is another one
        image.header.stamp = probe.get_clock().now().to_msg()
        depth_for(image, 2.0, probe)
        probe.spin(0.1)
        probe.camera.publish(image)

    probe.until(lambda: moved and any(array.detections for array in found), every=1.0, do=show)
    (transform,) = moved[0].transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ("eye", "the_thing")
    assert transform.transform.translation.z == pytest.approx(2.0, abs=1e-3)
    (detection,) = next(array for array in found if array.detections).detections
    assert (detection.bbox.size_x, detection.results[0].hypothesis.class_id) == (20.0, "red")
    assert probe.set_parameter("target_frame", "") == ""
    probe.spin(0.2)
    moved.clear()
    for _ in range(2):
        show()
        probe.spin(0.2)
    assert not moved
    for subscription in subscriptions:
        probe.destroy_subscription(subscription)


def test_a_whole_number_is_taken_where_a_number_is_declared(probe):
    for written in (1000, 0):
        assert probe.set_parameter("max_rate", written) == ""
        value = probe.call(GetParameters, "get_parameters", names=["max_rate"]).values[0]
        assert (value.type, value.double_value) == (ParameterType.PARAMETER_DOUBLE, written)
    assert probe.set_parameter("max_rate", "often") != ""  # refused by ROS itself


def test_rectified_true_is_a_truth_value_in_yaml_and_taken_for_the_word(probe):
    for written, kept in ((True, "true"), ("auto", "auto")):
        assert probe.set_parameter("rectified", written) == ""
        value = probe.call(GetParameters, "get_parameters", names=["rectified"]).values[0]
        assert (value.type, value.string_value) == (ParameterType.PARAMETER_STRING, kept)


def test_reliable_where_the_camera_is_and_best_effort_where_it_is_not(probe):
    """Depth's topic is subscribed to anew, until the node knows of who has come and gone."""
    probe.command("red")  # something to answer: only then anything is subscribed to

    def subscribed():
        assert probe.set_parameter("depth", False) == ""
        probe.until(lambda: not probe.count_subscribers("depth"))
        assert probe.set_parameter("depth", True) == ""
        (info,) = probe.until(lambda: probe.get_subscriptions_info_by_topic("/depth"))
        return info.qos_profile.reliability

    assert probe.depth.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    probe.until(lambda: subscribed() == ReliabilityPolicy.RELIABLE)
    unreliable = probe.create_publisher(Image, "depth", qos.PROFILES["sensor_data"])
    probe.until(lambda: subscribed() == ReliabilityPolicy.BEST_EFFORT)
    probe.destroy_publisher(unreliable)
    probe.until(lambda: subscribed() == ReliabilityPolicy.RELIABLE)


def test_depth_is_switched_off_and_on_while_the_node_runs(probe):
    probe.command("red")
    assert probe.set_parameter("depth", False) == ""
    probe.until(lambda: not probe.depth.get_subscription_count())
    target = probe.show(probe.image(patches()))
    assert not target.has_point
    assert math.isnan(target.point.z)
    assert "the parameter depth is false" in target.point_reason
    assert probe.set_parameter("depth", True) == ""
    probe.until(probe.depth.get_subscription_count)


def test_the_compressed_overlay_is_a_jpeg_of_the_overlay(probe):
    compressed = []
    topic = "segment_node/overlay/compressed"
    subscription = probe.create_subscription(CompressedImage, topic, compressed.append, qos.RESULT)
    probe.until(lambda: probe.count_publishers(topic))
    probe.command("red")
    image = probe.image(patches())
    probe.until(lambda: any(m.header == image.header for m in compressed), every=1.0, do=lambda: probe.show(image))
    picture = cv2.imdecode(np.frombuffer(compressed[-1].data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert compressed[-1].format == "rgb8; jpeg compressed bgr8"
    assert picture.shape == (48, 64, 3)
    assert abs(picture[34:38, 44:56].astype(int) - (10, 40, 210)).mean() < 30  # blue, untouched and not red
    sizes = {}
    for quality in (10, 100):
        assert probe.set_parameter("jpeg_quality", quality) == ""
        image = probe.image(patches())
        probe.show(image)
        (message,) = probe.until(lambda image=image: [m for m in compressed if m.header == image.header][:1])
        sizes[quality] = len(message.data)
    assert sizes[10] < sizes[100] / 2
    probe.destroy_subscription(subscription)


def test_what_is_not_installed_is_said_once(node, probe):
    for missing in (outputs.NO_DETECTIONS, outputs.NO_FRAMES):
        if not missing:
            pytest.skip("vision_msgs or tf2_msgs is installed")
        assert node.output.count(missing) == 1


def test_diagnostics_say_what_the_node_is_about(probe):
    probe.command("red")
    for _ in range(5):
        probe.show(probe.image(patches()))
    values = probe.diagnosed(DiagnosticStatus.OK, "answers for")
    assert values["state"] == "active"
    assert values["model"] == "colour"
    assert values["command"] == "red"
    assert float(values["command age"].split()[0]) < 30
    assert int(values["images answered"]) >= 5
    assert "ms" in values["latency (50, 95, 99 %)"]
    assert values["GPU memory"] == "no GPU in use"
    probe.camera.publish(Image(encoding="rgb8"))
    values = probe.diagnosed(DiagnosticStatus.ERROR, "there is nothing to look at")
    assert "1 unusable image" in values["images dropped"]
    probe.command("red")
    probe.show(probe.image(patches()))
    probe.diagnosed(DiagnosticStatus.WARN, "images dropped in 10 s: ")


def test_out_of_memory_costs_frames_and_not_the_node(node, probe):
    """The model gives up until it was told to forget everything twice; then it answers by itself."""
    probe.command("hungry red")
    image = probe.image(patches())
    begin = time.monotonic()
    target = probe.show(image)
    assert target.area == 200
    assert time.monotonic() - begin > 0.7  # rests of 0.25 and 0.5 s
    assert "OutOfMemoryError" in node.output
    values = probe.diagnosed(DiagnosticStatus.WARN, "out of memory")
    assert "2 out of memory" in values["images dropped"]
    assert node.exit_code is None
    answer = probe.ask("crash", probe.image(patches()))
    assert not answer.success
    assert "out of memory" in answer.message
    assert probe.ask("red", probe.image(patches())).success


def test_ctrl_c_in_the_middle_of_an_inference_ends_the_node_cleanly(node, probe):
    """The last test of this file: a frame is being answered and questions wait."""
    client = probe.create_client(Segment, "segment_node/segment")
    probe.until(client.service_is_ready)
    probe.command("red slowly")
    probe.show(probe.image(patches()))
    for _ in range(3):
        client.call_async(Segment.Request(command="blue slowly", image=probe.image(patches())))
    probe.camera.publish(probe.image(patches()))
    probe.spin(SLOW_SECONDS / 3)
    begin = time.monotonic()
    assert node.interrupt() == 0
    assert time.monotonic() - begin < 10
    assert "Traceback" not in node.output
