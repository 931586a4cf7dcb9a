"""segment_node as a process of its own, over real DDS, around a model that takes no time."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import String

from jmceln_ros.common.images import BAYER, ENCODINGS, LAYOUTS, YUV420, YUV422
from jmceln_ros.msg import Target
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.tools.processes import NodeProcess, executable
from support.ros_colour_node import SLOW_SECONDS
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, mask_of, patches, probing

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """One active node for the tests that do not end it."""
    log = tmp_path_factory.mktemp("segment_node") / "log"
    with NodeProcess(COLOUR_NODE, log, parameters={"target_mask": "full"}) as process:
        yield process


@pytest.fixture(scope="module")
def connected(node):
    """The probe of the module's node."""
    with probing() as probe:
        probe.until(probe.connected, START_TIMEOUT)
        yield probe


@pytest.fixture
def probe(connected):
    """The module's probe, before anything was received; the node is left without a command."""
    connected.forget()
    yield connected
    connected.command("")


def test_image_and_command_in_target_out(probe):
    probe.command("the red thing")
    image = probe.image(patches(), frame_id="camera_optical_frame")
    target = probe.show(image)
    assert target.header == image.header
    assert target.command == "the red thing"
    assert target.status == Target.FOUND
    assert target.score == pytest.approx(0.9)
    assert (target.image_width, target.image_height) == (64, 48)
    expected = np.zeros((48, 64), np.uint8)
    expected[10:20, 5:25] = 255
    assert (target.mask.encoding, target.mask.header) == ("mono8", image.header)
    assert (target.mask_x, target.mask_y) == (0, 0)
    np.testing.assert_array_equal(mask_of(target.mask), expected)
    assert target.area == 200
    assert (target.centroid_u, target.centroid_v) == (14.5, 14.5)
    assert expected[round(target.anchor_v), round(target.anchor_u)]
    assert (target.box_x, target.box_y, target.box_width, target.box_height) == (5, 10, 20, 10)
    assert not target.has_point
    assert math.isnan(target.point.z)
    assert target.point_reason
    assert 0 <= target.model_seconds <= target.latency < 5
    assert (target.model, target.rectified) == ("colour", False)
    now = probe.get_clock().now().nanoseconds * 1e-9
    assert now - 5 < target.command_stamp.sec + 1e-9 * target.command_stamp.nanosec < now


def test_nothing_found_is_said_with_an_empty_mask(probe):
    probe.command("the green thing")
    target = probe.show(probe.image(patches()))
    assert target.status == Target.NOT_PRESENT
    assert target.area == 0
    assert not mask_of(target.mask).any()
    assert math.isnan(target.centroid_u)
    assert math.isnan(target.anchor_v)
    assert (target.box_width, target.box_height) == (0, 0)


def test_a_new_command_is_answered_with_a_higher_number(probe):
    probe.command("red")
    first = probe.show(probe.image(patches()))
    probe.command("blue")
    second = probe.show(probe.image(patches()))
    assert (first.command, second.command) == ("red", "blue")
    assert second.sequence == first.sequence + 1
    assert second.centroid_u == 49.5
    assert probe.active == ["blue"]


@pytest.fixture
def masked(probe):
    """The probe, and the parameter `target_mask` as it was afterwards."""
    yield probe
    assert probe.set_parameter("target_mask", "full") == ""


def test_the_mask_is_left_out_of_the_target(masked):
    """What the default is: Target says the same, in a message that does not grow with the picture."""
    assert SegmentSettings().target_mask == "none"
    assert masked.set_parameter("target_mask", "none") == ""
    masked.command("red")
    image = masked.image(np.tile(patches(), (10, 10, 1)))  # 640 x 480
    target = masked.show(image)
    assert (target.mask, target.mask_x, target.mask_y) == (Image(), 0, 0)
    assert target.area == 20_000
    assert len(serialize_message(masked.show(masked.image(patches())))) < 400
    mask = masked.until(lambda: next((m for m in masked.masks if m.header == image.header), None))
    assert np.count_nonzero(mask_of(mask)) == target.area


def test_the_mask_is_cropped_to_the_box(masked):
    assert masked.set_parameter("target_mask", "cropped") == ""
    masked.command("blue")
    image = masked.image(patches())
    target = masked.show(image)
    assert (target.mask_x, target.mask_y, target.mask.width, target.mask.height) == (40, 30, 20, 10)
    assert target.mask.header == image.header
    assert mask_of(target.mask).min() == 255
    masked.command("green")
    target = masked.show(masked.image(patches()))
    assert (target.status, target.mask) == (Target.NOT_PRESENT, Image())
    assert "choose one of 'none', 'cropped', 'full'" in masked.set_parameter("target_mask", "box")


def test_things_of_a_plural_and_things_that_may_be_meant(probe):
    picture = patches()
    picture[10:20, 35:50] = picture[12, 12]

    def boxes(target):
        return [(one.text, one.box_x, one.box_y, one.box_width, one.box_height, one.area) for one in target.instances]

    probe.command("both red things")
    both = probe.show(probe.image(picture))
    assert both.status == Target.FOUND
    text = "both red things"
    assert boxes(both) == [(text, 5, 10, 20, 10, 200), (text, 35, 10, 15, 10, 150)]
    assert [(one.anchor_u, one.anchor_v) for one in both.instances] == [(14, 14), (42, 14)]
    probe.command("the red thing")
    one_of = probe.show(probe.image(picture))
    assert one_of.status == Target.AMBIGUOUS
    assert [one.box_x for one in one_of.instances] == [5, 35]
    probe.command("the blue thing")
    single = probe.show(probe.image(picture))
    assert (single.status, boxes(single)) == (Target.FOUND, [("the blue thing", 40, 30, 20, 10, 200)])
    probe.command("the red things and the blue one")
    joined = probe.show(probe.image(picture))
    assert joined.status == Target.FOUND
    assert [(one.text, one.box_x) for one in joined.instances] == [
        ("the red things", 5),
        ("the red things", 35),
        ("the blue thing", 40),
    ]


def test_mask_and_overlay_topics(probe):
    probe.watch_overlay()
    probe.until(lambda: probe.count_publishers("segment_node/overlay"))
    probe.command("red")
    image = probe.image(patches())

    def arrived():
        return [
            next((m for m in messages if m.header == image.header), None)
            for messages in (probe.targets, probe.masks, probe.overlays)
        ]

    probe.until(lambda: all(arrived()), every=1.0, do=lambda: probe.camera.publish(image))
    target, mask, overlay = arrived()
    assert mask == target.mask
    assert (overlay.encoding, overlay.width, overlay.height) == ("rgb8", 64, 48)
    drawn = np.frombuffer(overlay.data, np.uint8).reshape(48, 64, 3)
    changed = (drawn != patches()).any(axis=2)
    assert changed[14, 8]  # within the red patch, away from the anchor
    assert not changed[30:].any()


@pytest.mark.parametrize("encoding", sorted({*ENCODINGS} - {*LAYOUTS}))
def test_every_camera_encoding_over_dds(probe, encoding):
    """A red patch on grey as a camera sends it, rows padded; interpolation may move its edges by a pixel."""
    red = np.zeros((48, 64), bool)
    red[10:20, 6:26] = True
    y, u, v = (np.where(red, value, grey).astype(np.uint8) for value, grey in ((90, 90), (100, 128), (210, 128)))
    if encoding in BAYER:
        rows = np.full((48, 64), 90, np.uint16 if encoding.endswith("16") else np.uint8)
        for corner, colour in enumerate(encoding[6:10]):
            lattice = (slice(corner // 2, None, 2), slice(corner % 2, None, 2))
            rows[lattice][red[lattice]] = {"r": 220, "g": 20, "b": 30}[colour]
        rows = (rows.astype(">u2") * 257).view(np.uint8) if encoding.endswith("16") else rows
    elif encoding in YUV422:
        shared = np.dstack([u[:, ::2], v[:, ::2]]).reshape(48, 64)
        rows = np.dstack([shared, y] if encoding in ("uyvy", "yuv422") else [y, shared]).reshape(48, 128)
    elif encoding in YUV420:
        pair = [u[::2, ::2], v[::2, ::2]]
        rows = np.vstack([y, np.dstack(pair if encoding == "nv12" else pair[::-1]).reshape(24, 64)])
    else:
        rows = np.vstack([y, np.dstack([u, v]).reshape(96, 64)])
    padding = 0 if encoding == "nv24" else 10  # its rows of colour have twice the padding
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    image = Image(height=48, width=64, encoding=encoding, is_bigendian=1, step=padded.shape[1], data=padded.tobytes())
    image.header.stamp = probe.get_clock().now().to_msg()
    probe.command("red")
    mask = mask_of(probe.show(image).mask) > 0
    assert mask[11:19, 7:25].all()
    assert not mask[:9].any()
    assert not mask[21:].any()
    assert not mask[:, :5].any()
    assert not mask[:, 27:].any()


@pytest.mark.parametrize("encoding", sorted(LAYOUTS))
def test_every_encoding_over_dds(probe, encoding):
    """The same patches in every encoding, rows padded, 16 bits in big-endian order; grey ones have no red patch."""
    layout = LAYOUTS[encoding]
    rgb = patches()
    pixels = np.full((48, 64, layout.channels), 255, np.uint8)
    if layout.channels == 1:
        pixels[..., 0] = rgb[..., 0]
    else:
        for colour, channel in enumerate(layout.rgb):
            pixels[..., channel] = rgb[..., colour]
    samples = pixels.astype(">u2") * 257 if layout.sample_bytes == 2 else pixels
    rows = np.frombuffer(np.ascontiguousarray(samples).tobytes(), np.uint8).reshape(48, -1)
    padded = np.pad(rows, ((0, 0), (0, 10)), constant_values=77)
    image = Image(height=48, width=64, encoding=encoding, is_bigendian=1, step=padded.shape[1], data=padded.tobytes())
    image.header.stamp = probe.get_clock().now().to_msg()
    probe.command("red")
    target = probe.show(image)
    expected = np.zeros((48, 64), np.uint8)
    if layout.channels > 1:
        expected[10:20, 5:25] = 255
    np.testing.assert_array_equal(mask_of(target.mask), expected)


def test_broken_images_never_stop_the_node_and_are_explained(probe, node):
    probe.command("red")
    good = patches()
    broken = [
        Image(),
        Image(height=48, width=64, encoding="rgb8", step=192, data=b"too short"),
        Image(height=4_000_000_000, width=4_000_000_000, encoding="rgb8", step=4_000_000_000, data=b"\0"),
        Image(height=2, width=2, encoding="16UC1", step=4, data=bytes(8)),
        Image(height=2, width=2, encoding="no such thing", step=4, data=bytes(8)),
        Image(height=2, width=2, encoding="rgb8", step=1, data=bytes(8)),
    ]
    random = np.random.default_rng(0)
    for _ in range(30):
        size = [int(v) for v in random.integers(0, 2**32, 3)]
        encoding = str(random.choice([*ENCODINGS, "16UC1", "x"]))
        data = random.bytes(int(random.integers(0, 500)))
        broken.append(Image(height=size[0], width=size[1], encoding=encoding, step=size[2], data=data))
    for image in broken:
        probe.camera.publish(image)
        probe.spin(0.02)
    assert probe.show(probe.image(good)).area == 200
    assert node.exit_code is None
    assert "image not answered" in node.output
    assert all(target.header.frame_id for target in probe.targets), "a broken image was answered"


def test_a_failing_model_is_reported_and_the_next_frame_answered(probe, node):
    probe.command("crash")
    probe.until(
        lambda: "out of memory" in node.output, every=0.2, do=lambda: probe.camera.publish(probe.image(patches()))
    )
    probe.command("red")
    assert probe.show(probe.image(patches())).area == 200


def test_an_empty_command_stops_the_answers(probe):
    probe.command("red")
    probe.show(probe.image(patches()))
    probe.command("")
    before = len(probe.targets)
    for _ in range(5):
        probe.camera.publish(probe.image(patches()))
        probe.spin(0.05)
    assert len(probe.targets) == before
    assert probe.active[-1] == ""


def test_a_slow_model_in_front_of_a_fast_camera_never_builds_up_delay(probe):
    """30 Hz against 3 Hz. What an answered image waited (latency less model time) is one image's period and what a busy
    machine adds; each image queued in the order of its coming would add 0.27 s to the next one's wait."""
    probe.command("red slowly")
    picture = patches()
    probe.until(
        lambda: len(probe.targets) >= 8, 60, every=1 / 30, do=lambda: probe.camera.publish(probe.image(picture))
    )
    waited = [target.latency - target.model_seconds for target in probe.targets[1:]]
    assert min(target.model_seconds for target in probe.targets) >= SLOW_SECONDS
    assert np.median(waited) < 1 / 30 + 0.1
    assert max(waited) < SLOW_SECONDS


def test_a_result_never_mixes_two_commands(probe):
    """Commands and frames as fast as they go, each text carrying its number: no result has one of another."""
    probe.command("red 0")
    first = probe.show(probe.image(patches())).sequence
    count = 150
    for number in range(1, count + 1):
        probe.person.publish(String(data=f"{('red', 'blue')[number % 2]} {number}"))
        probe.camera.publish(probe.image(patches()))
        probe.spin(0.01)
    probe.until(
        lambda: probe.targets[-1].sequence >= first + count,
        every=0.2,
        do=lambda: probe.camera.publish(probe.image(patches())),
    )
    results = [target for target in probe.targets if target.sequence >= first]
    assert len({target.sequence for target in results}) > 10
    for target in results:
        word, number = target.command.split()
        assert target.sequence - first == int(number)
        assert target.centroid_u == {"red": 14.5, "blue": 49.5}[word]


def test_parameters_are_described_checked_and_changed_live(probe):
    (described,) = probe.call(DescribeParameters, "describe_parameters", names=["max_rate"]).descriptors
    assert described.description
    assert described.floating_point_range[0].to_value == 1000.0
    assert described.type == ParameterType.PARAMETER_DOUBLE
    assert "'track', 'once'" in probe.set_parameter("mode", "sometimes")
    assert probe.set_parameter("max_rate", -1.0)
    assert probe.set_parameter("max_image_side", 50) == ""
    probe.command("red")
    probe.forget()  # an answer to the test before may have been on its way
    probe.camera.publish(probe.image(patches()))  # 64 wide: refused now
    probe.spin(0.3)
    assert not probe.targets
    assert probe.set_parameter("max_image_side", 8192) == ""
    assert probe.set_parameter("mode", "once") == ""
    probe.show(probe.image(patches()))
    probe.until(lambda: probe.active[-1] == "")
    assert probe.set_parameter("mode", "track") == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("mode", "sometimes", "mode is 'sometimes'; choose one of 'track', 'once'"),
        (
            "mode",
            False,
            "parameter mode is false; one of 'track', 'once' is wanted: write mode: ",
        ),
        ("target_frame", "/map", "a frame's name has no slash in front"),
        ("depth_min", 70.0, "parameter depth_min is 70 and depth_max 65: no depth lies between them"),
        ("qos_overrides./command.subscription.reliability", "mostly", "qos_overrides of /command: "),
    ],
)
def test_the_installed_executable_refuses_bad_parameters_in_one_line(tmp_path, name, value, said):
    with NodeProcess(executable("segment_node"), tmp_path / "log", parameters={name: value}) as process:
        deadline = time.monotonic() + START_TIMEOUT
        while process.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.exit_code == 1
        assert said in process.output
        assert "Traceback" not in process.output
