"""One live segment_node against everything that may come in on its topics, drawn by hypothesis, over real DDS.

A few hundred cases by default, ten thousand and more with -m slow. What the node cannot use it must pass over: its
process lives, its memory stays, and the next good image is answered rightly. The cases are the same in each run.
"""

from __future__ import annotations

import math
import time

import cv2
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from builtin_interfaces.msg import Time
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String

from jmceln_ros.common import qos
from jmceln_ros.common.images import DEPTH_ENCODINGS, ENCODINGS
from jmceln_ros.common.parameters import named
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.srv import Segment
from jmceln_ros.tools.benchmark import own_memory
from jmceln_ros.tools.processes import NodeProcess
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros

CHECKED_EVERY = 100  # cases: then a good image must be answered
GROWTH = 48 * 2**20  # bytes that the node's memory may grow in one test; the ten thousand cases are 100 MB and more

# rclpy writes strings as UTF-8, which has no halves of surrogate pairs.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
COUNTS = st.one_of(st.integers(0, 70), st.sampled_from([2**16, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
BYTES = st.binary(max_size=300)
STAMPS = st.builds(
    Time,
    sec=st.one_of(st.sampled_from([0, -1, -(2**31), 2**31 - 1]), st.integers(-(2**31), 2**31 - 1)),
    nanosec=st.one_of(st.sampled_from([0, 10**9, 2**32 - 1]), st.integers(0, 2**32 - 1)),
)
HEADERS = st.builds(Header, stamp=STAMPS, frame_id=TEXTS)
FLOATS = st.floats(width=64)


@st.composite
def images(draw, encodings=(*ENCODINGS, *DEPTH_ENCODINGS)):
    """Sizes, step and data that belong together, each of them with some chance spoiled."""
    height, width, pixel = draw(st.integers(1, 24)), draw(st.integers(1, 24)), draw(st.integers(1, 8))
    step = width * pixel
    data = draw(st.binary(min_size=1, max_size=16)) * (height * step)
    message = Image(header=draw(HEADERS), height=height, width=width, step=step, data=data[: 3 * height * step])
    message.encoding = draw(st.one_of(st.sampled_from(encodings), TEXTS))
    message.is_bigendian = draw(st.integers(0, 255))
    for field in draw(st.sets(st.sampled_from(["height", "width", "step"]))):
        setattr(message, field, draw(COUNTS))
    if draw(st.booleans()):
        message.data = draw(BYTES)
    return message


@st.composite
def compressed_images(draw):
    """A picture's bytes, whole, cut, with some overwritten, or none of a picture at all."""
    extension = draw(st.sampled_from([".jpg", ".png"]))
    data = bytearray(PICTURES[extension])
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    data = data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data
    formats = st.sampled_from(["jpeg", "png", "rgb8; jpeg compressed bgr8", "16UC1; png compressed 16UC1", ";", ""])
    return CompressedImage(
        header=draw(HEADERS), format=draw(st.one_of(formats, TEXTS)), data=bytes(draw(st.just(data) | BYTES))
    )


@st.composite
def commands(draw):
    """Sentences, long ones among them, and what is none: white space, control characters, NUL."""
    odd = st.sampled_from(["", "\0", "red\0blue", "\u200b", "\ufeff", "\n\t", "e" + "\u0301" * 99])
    text = draw(TEXTS | odd)
    return String(data=text * draw(st.sampled_from([1, 1, 1, 3000])))


@st.composite
def calibrations(draw):
    """CameraInfo of any numbers, NaN and infinity among them."""
    message = CameraInfo(header=draw(HEADERS), height=draw(COUNTS), width=draw(COUNTS), distortion_model=draw(TEXTS))
    message.d = draw(st.lists(FLOATS, max_size=14))
    message.k = draw(st.lists(FLOATS, min_size=9, max_size=9))
    message.r = draw(st.lists(FLOATS, min_size=9, max_size=9))
    message.p = draw(st.lists(FLOATS, min_size=12, max_size=12))
    message.binning_x, message.roi.x_offset, message.roi.width = draw(COUNTS), draw(COUNTS), draw(COUNTS)
    return message


@st.composite
def spoiled(draw, messages):
    """A message as it goes over the wire, cut off or with bytes overwritten: nothing rclpy would ever send."""
    wire = bytearray(serialize_message(draw(messages)))
    for _ in range(draw(st.integers(1, 6))):
        wire[draw(st.integers(4, len(wire) - 1))] = draw(st.integers(0, 255))  # the first four say how it is encoded
    return bytes(wire[: draw(st.integers(4, len(wire)))] if draw(st.booleans()) else wire)


PICTURES = {extension: cv2.imencode(extension, patches())[1].tobytes() for extension in (".jpg", ".png")}
TOPICS = {
    "image": (Image, images()),
    "image/compressed": (CompressedImage, compressed_images()),
    "/command": (String, commands()),
    "depth": (Image, images((*DEPTH_ENCODINGS, "mono16"))),
    "camera_info": (CameraInfo, calibrations()),
}


#: Everything is let in, whether there is something to answer or not.
TAKING = {"depth": True, "lazy": False}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with NodeProcess(COLOUR_NODE, tmp_path_factory.mktemp("garbage") / "log", parameters=TAKING) as process:
        yield process


@pytest.fixture(scope="module")
def probe(node):
    with probing() as probe:
        probe.until(probe.connected, START_TIMEOUT)
        probe.to = {topic: probe.create_publisher(kind, topic, qos.COMMAND) for topic, (kind, _) in TOPICS.items()}
        probe.until(lambda: all(probe.to[topic].get_subscription_count() for topic in ("depth", "camera_info")))
        yield probe


def drawn(cases):
    """Settings for `cases` cases, the same each time; none is made smaller: a dead node would fail for all of them."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def answer_to(probe, topic, message):
    """The Target for a message, published as often as is needed."""
    return probe.until(
        lambda: next((t for t in probe.targets if t.header == message.header), None),
        every=1.0,
        do=lambda: probe.to[topic].publish(message),
    )


def still_answers(probe, node, topic="image"):
    """A good image gets the right answer to a new command."""
    assert node.exit_code is None, node.output
    probe.forget()
    probe.command("red")
    image = probe.image(patches())
    message = image if topic == "image" else CompressedImage(header=image.header, format="png", data=PICTURES[".png"])
    target = answer_to(probe, topic, message)
    assert (target.command, target.area) == ("red", 200)


def received(probe):
    """Images that the node has received, by its diagnostics."""
    probe.statuses.clear()
    probe.until(lambda: probe.statuses)
    return int(next(pair.value for pair in probe.statuses[-1].values if pair.key == "images received"))


def throw(probe, node, cases, messages, images_on="image"):
    """Publishes `cases` drawn pairs of topic and message; looks now and then whether the node is well."""
    still_answers(probe, node, images_on)
    memory, before, thrown = own_memory(node.pid), received(probe), []

    @drawn(cases)
    @given(messages)
    def once(case):
        topic, message = case
        probe.to[topic].publish(message)
        time.sleep(0.002)  # the middleware keeps the last few only
        thrown.append(topic)
        if len(thrown) % CHECKED_EVERY == 0:
            still_answers(probe, node, images_on)

    once()
    still_answers(probe, node, images_on)
    assert len(thrown) > 0.9 * cases
    assert received(probe) - before > 0.1 * thrown.count(images_on), "the node hardly got any of it"
    assert own_memory(node.pid) - memory < GROWTH
    assert "Traceback" not in node.output


def on(topics, change=lambda messages: messages):
    """Pairs of one of the topics and a message for it."""
    return st.one_of(*(st.tuples(st.just(topic), change(TOPICS[topic][1])) for topic in topics))


RAW = ("image", "/command", "depth", "camera_info")


@pytest.mark.parametrize("cases", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_whatever_is_published_the_next_good_image_is_answered(probe, node, cases):
    throw(probe, node, cases, on(RAW))


@pytest.mark.parametrize("cases", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_messages_broken_on_the_wire_are_passed_over(probe, node, cases):
    throw(probe, node, cases, on(RAW, spoiled))


@pytest.mark.parametrize("cases", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_compressed_pictures_of_any_bytes_are_passed_over(probe, node, cases):
    assert probe.set_parameter("image_transport", "compressed") == ""
    probe.until(probe.to["image/compressed"].get_subscription_count)
    try:
        throw(probe, node, cases, on(["image/compressed", "/command"]), "image/compressed")
    finally:
        assert probe.set_parameter("image_transport", "raw") == ""
        probe.until(probe.to["image"].get_subscription_count)


@pytest.mark.parametrize("cases", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_point_is_never_made_of_garbage(probe, node, cases):
    """Depth and calibration of any numbers with the very stamp of the image: a point is finite and before the camera,
    or there is none and a reason instead."""
    still_answers(probe, node)
    depth, calibration = (TOPICS[topic][1] for topic in ("depth", "camera_info"))

    @drawn(cases)
    @given(depth, calibration)
    def once(depth, calibration):
        image = probe.image(patches())
        depth.header = calibration.header = image.header
        probe.to["camera_info"].publish(calibration)
        probe.to["depth"].publish(depth)
        target = answer_to(probe, "image", image)
        assert target.has_point == (not target.point_reason)
        point = target.point.x, target.point.y, target.point.z
        assert all(map(math.isfinite if target.has_point else math.isnan, point))
        assert not target.has_point or target.point.z > 0

    once()
    still_answers(probe, node)


@pytest.mark.parametrize("cases", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_every_question_is_answered_or_refused_with_a_reason(probe, node, cases):
    client = probe.create_client(Segment, "segment_node/segment")
    probe.until(client.service_is_ready)

    @drawn(cases)
    @given(commands(), images())
    def once(command, image):
        future = client.call_async(Segment.Request(command=command.data, image=image))
        probe.until(future.done)
        response = future.result()
        assert response.success == (not response.message)
        if response.success and image.data:  # strings end at a NUL on their way
            sent, came = image.header, response.target.header
            assert (came.stamp, came.frame_id) == (sent.stamp, sent.frame_id.partition("\0")[0])

    once()
    probe.destroy_client(client)
    still_answers(probe, node)


@pytest.mark.parametrize("cases", [60, pytest.param(1_000, marks=pytest.mark.slow)])
def test_parameters_of_the_wrong_type_or_beyond_their_range_are_refused(probe, node, cases):
    client = probe.create_client(SetParameters, "segment_node/set_parameters")
    probe.until(client.service_is_ready)
    bad = {  # by type of the parameter: values of another one, or no number a parameter could have
        bool: [ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="yes")],
        str: [ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=True), ParameterValue()],
        int: [ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=v) for v in (-(2**63), 2**63 - 1)],
        float: [
            ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=v)
            for v in (math.nan, math.inf, -math.inf, -2.0, 1e300)
        ],
    }
    known = st.sampled_from(sorted(named(SegmentSettings))).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(bad[type(named(SegmentSettings)[name].default)]))
    )
    # `rectified: true` is one of its choices, as YAML has it
    known = known.filter(lambda pair: pair[0] != "rectified" or not pair[1].bool_value)
    # Type 0 takes a parameter away, which succeeds where there is none. Types above 9 do not exist: next test.
    unknown = st.tuples(TEXTS.filter(bool), st.builds(ParameterValue, type=st.integers(1, 9)))

    @drawn(cases)
    @given(known | unknown)
    def once(pair):
        name, value = pair
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name=name, value=value)]))
        probe.until(future.done)
        (result,) = future.result().results
        assert not result.successful
        assert result.reason

    once()
    probe.destroy_client(client)
    still_answers(probe, node)


def test_a_request_that_rclpy_itself_stumbles_over_costs_that_request_only(probe, node):
    """rclpy has no answer to a parameter of a type that does not exist, but an exception in the node's executor."""
    client = probe.create_client(SetParameters, "segment_node/set_parameters")
    probe.until(client.service_is_ready)
    client.call_async(SetParameters.Request(parameters=[Parameter(name="mode", value=ParameterValue(type=96))]))
    probe.until(lambda: "a callback failed" in node.output)
    probe.destroy_client(client)
    still_answers(probe, node)
    assert "Traceback" not in node.output


def test_stamps_of_every_kind_come_back_unchanged_and_only_old_ones_are_stale(probe, node):
    """A second and its parts as they may be in a message; the parts may be more than a second. Zero: never stamped."""
    now = probe.get_clock().now().to_msg()
    odd = [Time(), Time(sec=-1), Time(sec=now.sec + 1000), Time(sec=2**31 - 1, nanosec=2**32 - 1)]
    old = [Time(sec=1), Time(sec=-(2**31), nanosec=5), Time(sec=now.sec - 60, nanosec=999_999_999)]
    still_answers(probe, node)
    for stamp in odd + old:
        image = probe.image(patches())
        image.header.stamp = stamp
        assert answer_to(probe, "image", image).area == 200
    assert probe.set_parameter("max_frame_age", 5.0) == ""
    try:
        probe.forget()
        for stamp in [*old, Time(sec=-1)] * 3:
            image = probe.image(patches())
            image.header.stamp = stamp
            probe.to["image"].publish(image)
            probe.spin(0.05)
        assert not probe.targets
        for stamp in (now := probe.get_clock().now().to_msg(), Time(), Time(sec=now.sec + 1000)):
            image = probe.image(patches())
            image.header.stamp = stamp
            assert answer_to(probe, "image", image).area == 200
    finally:
        assert probe.set_parameter("max_frame_age", 0.0) == ""
