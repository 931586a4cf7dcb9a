"""A bag played in a loop as the robot's view, and stamps as broken drivers have them: over real DDS, tracking on.

Every image the model keeps up with is answered, each by its own content: nothing of before a jump is in an answer.
"""

from __future__ import annotations

import math
from itertools import chain, pairwise

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image

from jmceln_ros.common import qos
from jmceln_ros.common.images import fill_image
from jmceln_ros.msg import Target
from jmceln_ros.tools.processes import NodeProcess
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, probing

pytestmark = pytest.mark.ros

RATE = 20.0  # images a second, by their stamps
LENGTH = 12  # images of the bag
BEGIN = 1_700_000_000  # when it was taken, seconds: long ago
HOUR = 3600


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """A robot's cameras in front of a node that has a command."""
    log = tmp_path_factory.mktemp("rewind") / "log"
    with NodeProcess(COLOUR_NODE, log, parameters={"mode": "track"}) as node, probing() as probe:
        probe.depth = probe.create_publisher(Image, "depth", qos.IMAGE_OUTPUT)
        probe.info = probe.create_publisher(CameraInfo, "camera_info", qos.IMAGE_OUTPUT)
        probe.until(probe.connected, START_TIMEOUT)
        yield probe
        assert "Traceback" not in node.output


def stamp(seconds):
    return Time(sec=int(seconds), nanosec=round((seconds - int(seconds)) * 1e9))


def picture(number):
    """(48, 64, 3): a red thing of 20 x 10 pixels that walks to the right, a pixel an image."""
    rgb = np.full((48, 64, 3), 90, np.uint8)
    rgb[10:20, 5 + number : 25 + number] = (220, 20, 30)
    return rgb


def distance(number):
    """Metres to everything in the image of this number."""
    return 1.0 + 0.1 * number


def play(probe, images, *, depth):
    """Publishes images ((number, stamp) pairs) one after the other, each when the one before was answered."""
    answers = []
    for number, at in images:
        if not at:
            probe.spin(1 / RATE)  # then the time is that of its coming
        image = Image()
        image.header.stamp, image.header.frame_id = stamp(at), "eye"
        fill_image(image, picture(number), "rgb8")
        probe.targets.clear()
        if depth:
            values = np.full((48, 64), distance(number), "<f4")
            message = Image(header=image.header, height=48, width=64, encoding="32FC1", step=256)
            message.data = values.tobytes()
            info = CameraInfo(header=image.header, height=48, width=64, distortion_model="plumb_bob", d=[0.0] * 5)
            info.k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
            probe.info.publish(info)
            probe.depth.publish(message)
        probe.camera.publish(image)
        (target,) = probe.until(lambda: probe.targets, 5.0)
        assert target.header == image.header
        answers.append((number, at, target))
    return answers


def bag(*, begin=BEGIN):
    return [(number, begin + number / RATE) for number in range(LENGTH)]


#: Name to (number of the image, its stamp) pairs.
VIEWS = {
    "a bag in a loop": bag() + bag() + bag(),
    "the same stamp for all": [(number, BEGIN) for number in range(LENGTH)],
    "every stamp twice": [(number, BEGIN + number // 2 * 2 / RATE) for number in range(LENGTH)],
    "an hour ahead and back": bag() + bag(begin=BEGIN + HOUR) + bag(),
    "one image an hour ahead": [*bag()[:6], (6, BEGIN + HOUR), *bag()[7:]],
    "backwards": bag()[::-1],
    "no stamps": [(number, 0) for number in range(LENGTH)],
}


def jumps(answers):
    """Whether time went on as it should before each answer but the first."""
    return [not b[1] or 0 < b[1] - a[1] <= 1.5 / RATE for a, b in pairwise(answers)]


@pytest.mark.parametrize("depth", [False, True], ids=["alone", "depth"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_image_is_answered_by_what_is_in_it(probe, view, depth):
    assert probe.set_parameter("depth", depth) == ""
    probe.command("red")
    probe.until(probe.camera.get_subscription_count)
    if depth:
        probe.until(lambda: probe.depth.get_subscription_count() and probe.info.get_subscription_count())
        play(probe, bag(begin=BEGIN - 100)[:2], depth=True)  # the first image is held back until these are there
        probe.command("red")
    answers = play(probe, VIEWS[view], depth=depth)
    steady = [False, *jumps(answers)]
    for (number, at, target), went_on in zip(answers, steady, strict=True):
        # A mean over a few images may lag by a pixel or two; begun anew it is this image's own.
        assert target.centroid_u == pytest.approx(14.5 + number, abs=2.5 if went_on else 0.51), (view, number)
        assert target.status == Target.FOUND
        if depth and [t for _, t in VIEWS[view]].count(at) in (1, 3):  # stamps are all that binds depth to its image
            assert target.has_point, (number, at, target.point_reason)
            assert target.point.z == pytest.approx(distance(number), abs=1e-3)
        expected = probe.get_clock().now().nanoseconds * 1e-9 - at
        assert math.isnan(target.latency) if not at else target.latency == pytest.approx(expected, abs=5.0)
    probe.diagnosed(DiagnosticStatus.OK, "answers for")


def test_with_a_limit_of_age_an_image_from_ahead_does_not_keep_the_next_ones_out(probe):
    """By the clock of the wall: images of now, one from an hour ahead, images of now."""
    assert probe.set_parameter("depth", False) == ""
    assert probe.set_parameter("max_frame_age", 0.5) == ""
    probe.command("red")
    probe.until(probe.camera.get_subscription_count)

    def now():
        return probe.get_clock().now().nanoseconds * 1e-9

    for number, ahead in chain(((n, 0) for n in range(4)), [(4, HOUR)], ((n, 0) for n in range(5, 9))):
        ((_, _, target),) = play(probe, [(number, now() + ahead)], depth=False)
        assert target.status == Target.FOUND
        assert target.centroid_u == pytest.approx(14.5 + number, abs=2.5)
    old = Image()
    old.header.stamp = stamp(BEGIN)
    fill_image(old, picture(0), "rgb8")
    probe.targets.clear()
    probe.camera.publish(old)
    probe.diagnosed(DiagnosticStatus.WARN, "too old")
    assert not probe.targets
    assert play(probe, [(0, now())], depth=False)
    assert probe.set_parameter("max_frame_age", 0.0) == ""
