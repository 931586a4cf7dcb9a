"""segment_node subscribes to images while there is something to answer, and not otherwise: over real DDS."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import ReliabilityPolicy, qos_profile_services_default
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool

from jmceln_ros.common import qos
from jmceln_ros.segment.intake import MAX_QUESTIONS
from jmceln_ros.srv import Segment
from jmceln_ros.tools.processes import NodeProcess
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """One active node, its camera where cameras are."""
    remappings = {"image": "/eye/image", "image/compressed": "/eye/image/compressed"}
    with NodeProcess(COLOUR_NODE, tmp_path_factory.mktemp("lazy") / "log", remappings=remappings) as process:
        yield process


@pytest.fixture(scope="module")
def connected(node):
    """The module's probe, with a camera that has depth."""
    with probing() as probe:
        probe.destroy_publisher(probe.camera)
        probe.camera = probe.create_publisher(Image, "/eye/image", qos.IMAGE_OUTPUT)
        probe.depth = probe.create_publisher(Image, "depth", qos.IMAGE_OUTPUT)
        probe.info = probe.create_publisher(CameraInfo, "camera_info", qos.IMAGE_OUTPUT)
        probe.until(probe.connected, START_TIMEOUT)
        yield probe


@pytest.fixture
def probe(connected):
    """The module's probe, before anything was received; the node has no command, then and after."""
    connected.command("")
    connected.forget()
    yield connected
    connected.set_parameter("mode", "track")
    connected.set_parameter("depth", False)


def watched(probe, *publishers):
    """Whether the node listens to each of these (the camera alone if none is named)."""
    return all(publisher.get_subscription_count() for publisher in publishers or (probe.camera,))


def unwatched(probe):
    return not any(p.get_subscription_count() for p in (probe.camera, probe.depth, probe.info))


def question(probe, text, image=None):
    """A question, without an image if none is given, sent; its future."""
    client = probe.create_client(Segment, "segment_node/segment")
    probe.until(client.service_is_ready)
    return client.call_async(Segment.Request(command=text, image=image or Image()))


def show(probe, *, depth=False, late=0.03):
    """Publishes an image, and a little later its depth."""
    image = probe.image(patches(), frame_id="eye")
    probe.camera.publish(image)
    if depth:
        probe.spin(late)
        measure(probe, image.header)


def measure(probe, header):
    """Publishes depth and calibration: the whole view two metres away."""
    values = np.full((48, 64), 2.0, "<f4")
    probe.depth.publish(Image(header=header, height=48, width=64, encoding="32FC1", step=256, data=values.tobytes()))
    info = CameraInfo(header=header, height=48, width=64, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
    probe.info.publish(info)


def test_an_image_is_only_taken_while_there_is_something_to_answer(probe):
    probe.until(partial(unwatched, probe))
    values = probe.diagnosed(DiagnosticStatus.OK, "waiting for a command")
    assert values["images"] == "not subscribed: no command"
    probe.command("red")
    probe.until(partial(watched, probe))
    assert probe.show(probe.image(patches())).area == 200
    assert probe.diagnosed(DiagnosticStatus.OK, "answers for")["images"] == "subscribed to /eye/image"
    assert probe.call(SetBool, "enable", data=False).success
    probe.until(partial(unwatched, probe))
    assert probe.diagnosed(DiagnosticStatus.OK, "disabled")["images"] == "not subscribed: disabled"
    assert probe.call(SetBool, "enable", data=True).success
    assert probe.show(probe.image(patches())).area == 200
    probe.command("")
    probe.until(partial(unwatched, probe))


def test_with_lazy_off_images_come_all_the_time_while_the_node_is_active(probe):
    assert probe.set_parameter("lazy", False) == ""
    probe.until(partial(watched, probe))
    probe.command("red")
    probe.command("")
    probe.spin(0.3)
    assert watched(probe)
    assert probe.set_parameter("lazy", True) == ""
    probe.until(partial(unwatched, probe))


def test_mode_once_listens_until_the_command_is_served(probe):
    assert probe.set_parameter("mode", "once") == ""
    for colour in ("red", "blue"):
        probe.command(colour)
        assert probe.show(probe.image(patches())).command == colour
        probe.until(partial(unwatched, probe))


def test_a_question_is_about_an_image_from_after_it_was_asked(probe):
    for _ in range(2):
        probe.spin(0.2)
        asked = probe.get_clock().now().nanoseconds
        answer = question(probe, "red")
        probe.until(answer.done, every=0.05, do=partial(show, probe))
        response = answer.result()
        assert response.success, response.message
        stamp = response.target.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec > asked
        assert response.target.area == 200
        probe.until(partial(unwatched, probe), 1.0)  # it has its image: no more are wanted
    assert not probe.targets


def test_a_question_without_a_camera_is_refused_after_the_stated_time_with_topic_and_remedy(probe):
    begin = time.monotonic()
    answer = question(probe, "red")
    probe.until(answer.done)
    assert 1.9 < time.monotonic() - begin < 4
    assert not answer.result().success
    # A camera that is there and silent.
    assert answer.result().message.startswith("no image came within 2 s: /eye/image has a publisher: check its type")
    probe.until(partial(unwatched, probe))


def test_a_question_is_not_answered_with_an_image_that_is_too_old(probe):
    assert probe.set_parameter("max_frame_age", 0.5) == ""

    def show_old():
        image = probe.image(patches())
        image.header.stamp.sec -= 10
        probe.camera.publish(image)

    answer = question(probe, "red")
    probe.until(answer.done, every=0.1, do=show_old)
    assert answer.result().message.startswith("images come, but older than max_frame_age (0.5 s)")
    assert probe.set_parameter("max_frame_age", 0.0) == ""


@pytest.mark.parametrize(("count", "profile"), [(MAX_QUESTIONS, qos_profile_services_default), (20, qos.SERVICE)])
def test_of_many_questions_at_once_each_is_answered_or_refused(probe, count, profile):
    """No image comes: some wait until the node is disabled, the others are too many. rmw's profile for clients is ten
    deep: one that sends more at once has to have room for the answers."""
    client = probe.create_client(Segment, "segment_node/segment", qos_profile=profile)
    probe.until(client.service_is_ready)
    asked = [client.call_async(Segment.Request(command="red")) for _ in range(count)]
    probe.until(lambda: sum(future.done() for future in asked) == count - MAX_QUESTIONS)
    assert probe.call(SetBool, "enable", data=False).success
    probe.until(lambda: all(future.done() for future in asked), 2.0)
    said = [future.result().message for future in asked]
    assert sum("disabled" in message for message in said) == MAX_QUESTIONS
    assert sum("8 questions wait already" in message for message in said) == count - MAX_QUESTIONS
    assert probe.call(SetBool, "enable", data=True).success
    probe.destroy_client(client)


@pytest.mark.parametrize("how", ["question", "once"])
def test_one_image_is_answered_with_its_depth_though_all_topics_have_just_been_subscribed(probe, how):
    assert probe.set_parameter("depth", True) == ""
    assert probe.set_parameter("mode", "once") == ""
    if how == "question":
        answer = question(probe, "red")
        probe.until(answer.done, every=0.1, do=partial(show, probe, depth=True))
        target = answer.result().target
    else:
        probe.command("red")
        (target,) = probe.until(lambda: probe.targets, every=0.1, do=partial(show, probe, depth=True))
    assert target.has_point, target.point_reason
    assert target.point.z == pytest.approx(2.0)
    probe.until(partial(unwatched, probe))


def test_a_question_about_an_image_of_its_own_gets_the_depth_of_that_image(probe):
    """The depth camera is behind by more than the node takes to subscribe to it, which it does for the question."""
    assert probe.set_parameter("depth", True) == ""
    image = probe.image(patches(), frame_id="eye")
    answer = question(probe, "red slowly", image)
    probe.until(partial(watched, probe, probe.depth, probe.info), 1.0)
    probe.until(answer.done, every=0.1, do=partial(measure, probe, image.header))
    assert answer.result().target.has_point, answer.result().target.point_reason
    assert not probe.camera.get_subscription_count()
    probe.until(partial(unwatched, probe), 1.0)
    # What was kept is not the depth of what comes later, when nobody measures any more.
    assert probe.set_parameter("depth_slop", 10.0) == ""
    begin = time.monotonic()
    answer = question(probe, "red", probe.image(patches(), frame_id="eye"))
    probe.until(answer.done)
    assert 0.8 < time.monotonic() - begin < 2.0
    assert answer.result().target.area == 200
    assert answer.result().target.point_reason == "no depth image has come on /depth"
    assert probe.set_parameter("depth_slop", 0.05) == ""


def test_a_question_about_an_image_of_before_waits_for_no_depth_that_cannot_come(probe):
    assert probe.set_parameter("depth", True) == ""
    image = probe.image(patches(), frame_id="eye")
    probe.spin(0.2)
    answer = question(probe, "red", image)
    begin = time.monotonic()
    probe.until(answer.done, every=0.05, do=lambda: measure(probe, probe.image(patches(), frame_id="eye").header))
    assert time.monotonic() - begin < 0.8
    reason = answer.result().target.point_reason
    assert reason.startswith("the nearest depth image is 0.")
    assert "depth was not yet subscribed to when the image was taken: ask without one, or set lazy false" in reason
    image.header.stamp.sec = image.header.stamp.nanosec = 0
    begin = time.monotonic()
    assert "the image has no stamp" in probe.ask("red", image).target.point_reason
    assert time.monotonic() - begin < 0.8


@pytest.mark.parametrize("topic", ["/eye/image", "/depth"])
def test_the_subscription_suits_a_camera_that_comes_after_the_command(probe, topic):
    name = {"/eye/image": "camera", "/depth": "depth"}[topic]

    def becomes(reliability):
        return probe.until(
            lambda: [i.qos_profile.reliability for i in probe.get_subscriptions_info_by_topic(topic)] == [reliability]
        )

    assert probe.set_parameter("depth", True) == ""
    probe.destroy_publisher(getattr(probe, name))
    probe.until(lambda: not probe.count_publishers(topic))
    probe.command("red")
    becomes(ReliabilityPolicy.BEST_EFFORT)
    setattr(probe, name, probe.create_publisher(Image, topic, qos.IMAGE_OUTPUT))
    becomes(ReliabilityPolicy.RELIABLE)
    unreliable = probe.create_publisher(Image, topic, qos.PROFILES["sensor_data"])
    becomes(ReliabilityPolicy.BEST_EFFORT)
    assert probe.show(probe.image(patches())).area == 200
    probe.destroy_publisher(unreliable)
    becomes(ReliabilityPolicy.RELIABLE)


def test_an_image_without_depth_waits_for_a_second_and_no_longer(probe):
    assert probe.set_parameter("depth", True) == ""
    probe.command("red")
    probe.until(partial(watched, probe, probe.camera, probe.depth, probe.info))
    show(probe)
    begin = time.monotonic()
    (target,) = probe.until(lambda: probe.targets)
    assert 0.8 < time.monotonic() - begin < 2
    assert not target.has_point
    show(probe)
    begin = time.monotonic()
    probe.until(lambda: len(probe.targets) == 2)
    assert time.monotonic() - begin < 0.5


def test_who_waits_for_images_says_for_which_topic_and_which_transport_is_there(probe, node):
    """Raw images are published, compressed ones are not: that is in the log, and in the diagnostic."""
    assert probe.set_parameter("image_transport", "compressed") == ""
    probe.command("red")
    said = "nobody publishes /eye/image/compressed, but /eye/image is published: set image_transport to raw"
    probe.until(lambda: f"s: {said}" in node.output)
    probe.command("")
    assert probe.set_parameter("image_transport", "raw") == ""
    probe.destroy_publisher(probe.camera)
    camera = probe.create_publisher(CompressedImage, "/eye/image/compressed", qos.IMAGE_OUTPUT)
    try:
        answer = question(probe, "red")
        probe.until(answer.done)
        said = "nobody publishes /eye/image, but /eye/image/compressed is published: set image_transport to compressed"
        assert said in answer.result().message
    finally:
        probe.destroy_publisher(camera)
        probe.camera = probe.create_publisher(Image, "/eye/image", qos.IMAGE_OUTPUT)
