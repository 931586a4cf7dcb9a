"""jmceln_ros.space.depth: units and bytes one by one, cameras by their equations, points on ray-cast surfaces."""

from __future__ import annotations

import math
import struct
from array import array
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_ros.common.images import ImageError
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.space.depth import (
    CalibrationError,
    Intrinsics,
    is_rectified,
    locate,
    metres,
    point_of,
    samples,
)

CAMERA = Intrinsics(fx=110.0, fy=120.0, cx=62.0, cy=44.5, width=128, height=96)
SIZE = (96, 128)


def depth_message(values, encoding="16UC1", *, padding=0, big=0, frame="camera"):
    """An image message with (H, W) values as sent, packed one by one."""
    code = (">" if big else "<") + {"16UC1": "H", "mono16": "H", "32FC1": "f"}.get(encoding, "H")
    data = b"".join(b"".join(struct.pack(code, value) for value in row) + b"\xaa" * padding for row in values)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=frame),
        height=len(values),
        width=len(values[0]),
        encoding=encoding,
        is_bigendian=big,
        step=len(data) // len(values),
        data=array("B", data),
    )


def camera_info(**changes):
    """A calibrated camera of 128x96 pixels."""
    region = {name: changes.pop(name, 0) for name in ("x_offset", "y_offset", "roi_width", "roi_height")}
    info = {
        "width": 128,
        "height": 96,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [110.0, 0.0, 62.0, 0.0, 120.0, 44.5, 0.0, 0.0, 1.0],
        "p": [100.0, 0.0, 60.0, -7.0, 0.0, 105.0, 40.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(
            x_offset=region["x_offset"],
            y_offset=region["y_offset"],
            width=region["roi_width"],
            height=region["roi_height"],
        ),
    }
    return SimpleNamespace(**(info | changes))


def cast(size, camera, *planes):
    """(H, W) depth in metres: the nearest of the planes n . p = d along each pixel's ray, pixel by pixel.

    Each plane is (n, d, inside), `inside` of a point says how far the plane reaches.
    """
    depth = np.full(size, np.nan)
    for row in range(size[0]):
        for column in range(size[1]):
            ray = np.array([(column - camera.cx) / camera.fx, (row - camera.cy) / camera.fy, 1.0])
            for normal, offset, inside in planes:
                z = offset / (np.array(normal) @ ray)
                if z > 0 and inside(z * ray) and not depth[row, column] <= z:
                    depth[row, column] = z
    return depth


def everywhere(point):
    return True


def box_mask(size, top, left, height, width):
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def pixel_of(point, camera=CAMERA):
    return point[0] / point[2] * camera.fx + camera.cx, point[1] / point[2] * camera.fy + camera.cy


# Units and bytes


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
def test_millimetres(encoding, padding, big):
    depth = metres(samples(depth_message([[0, 1, 256], [1000, 12345, 65535]], encoding, padding=padding, big=big)))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[math.nan, 0.001, 0.256], [1.0, 12.345, math.nan]], rtol=1e-6)


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("padding", [0, 3, 8])
def test_metres_and_all_that_is_no_depth(padding, big):
    nan, inf = math.nan, math.inf
    message = depth_message([[0.25, 0.0, nan, 3.5], [inf, -inf, -1.0, 1e-3]], "32FC1", padding=padding, big=big)
    depth = metres(samples(message))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, np.float32([[0.25, nan, nan, 3.5], [nan, nan, nan, 1e-3]]))


@pytest.mark.parametrize(
    ("encoding", "scale", "sent", "seen"),
    [
        ("16UC1", 0.0, 12_000, 12.0),  # REP-118
        ("16UC1", 0.0001, 12_000, 1.2),  # RealSense D405 as it counts itself
        ("16UC1", 0.0001, 65_535, math.nan),  # saturated, whatever the unit
        ("16UC1", 0.0002, 5_000, 1.0),  # TUM's data set: 5000 is a metre
        ("32FC1", 0.0, 1.25, 1.25),
        ("32FC1", 0.001, 1250.0, 1.25),  # a driver that fills floats with millimetres
        ("32FC1", 0.001, math.inf, math.nan),
    ],
)
def test_a_driver_with_units_of_its_own(encoding, scale, sent, seen):
    found = metres(samples(depth_message([[sent]], encoding)), scale)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[seen]], rtol=1e-6)


def test_samples_look_into_the_message():
    message = depth_message([[1, 2], [3, 4]], padding=2)
    seen = samples(message)
    message.data[0] = 9
    assert seen[0, 0] == 9
    np.testing.assert_allclose(metres(seen[:, :1]), [[0.009], [0.003]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoding": "rgb8"}, "'rgb8' is not supported; publish one of 16UC1, mono16, 32FC1"),
        ({"encoding": "64FC1"}, "'64FC1' is not supported"),
        ({"width": 0}, "there is nothing to look at"),
        ({"width": 101}, "101x2 pixels is larger than the 100 allowed"),
        ({"step": 3}, "step is 3 bytes, but a row of 2 16UC1 pixels takes 4"),
        ({"data": array("B", bytes(7))}, "data has 7 bytes"),
    ],
)
def test_a_message_that_cannot_be_used_says_why(changes, says):
    message = SimpleNamespace(**(vars(depth_message([[1, 2], [3, 4]])) | changes))
    with pytest.raises(ImageError, match=says):
        samples(message, max_side=100)


# The camera


def test_raw_images_go_by_k_and_rectified_ones_by_p():
    raw, rectified = Intrinsics.of(camera_info()), Intrinsics.of(camera_info(), rectified=True)
    assert raw == CAMERA
    assert (rectified.fx, rectified.fy, rectified.cx, rectified.cy) == (100.0, 105.0, 60.0, 40.0)
    without_p = Intrinsics.of(camera_info(p=[0.0] * 12), rectified=True)
    assert without_p == raw


@pytest.mark.parametrize("k", [[0.0] * 9, [110.0, 0, 62, 0, 0, 44, 0, 0, 1], [math.nan] * 9, [math.inf] * 9])
def test_an_uncalibrated_camera(k):
    with pytest.raises(CalibrationError, match="not calibrated"):
        Intrinsics.of(camera_info(k=k, p=[0.0] * 12))


@pytest.mark.parametrize(
    ("model", "d"), [("", [0.1] * 5), ("omnidirectional", [0.1] * 4), ("plumb_bob", [0.1] * 3), ("equidistant", [1.0])]
)
def test_an_unknown_distortion_matters_for_raw_images_only(model, d):
    info = camera_info(distortion_model=model, d=d)
    with pytest.raises(CalibrationError, match="rectify the images"):
        Intrinsics.of(info)
    assert not Intrinsics.of(info, rectified=True).distortion
    assert Intrinsics.of(camera_info(distortion_model=model, d=[0.0] * len(d))) == CAMERA


def distorted(model, d, x, y):
    """Where the point (x, y, 1) is seen, before K: the models' equations (OpenCV's documentation; D in its order)."""
    r = math.hypot(x, y)
    if model == "equidistant":
        angle = math.atan(r)
        scale = angle * (1 + sum(k * angle ** (2 * i + 2) for i, k in enumerate(d))) / r
        return x * scale, y * scale
    k1, k2, p1, p2, k3, k4, k5, k6 = (list(d) + [0.0] * 8)[:8]
    radial = (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / (1 + k4 * r**2 + k5 * r**4 + k6 * r**6)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2),
        y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y,
    )


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("plumb_bob", [-0.28, 0.09, 0.001, -0.002, -0.01]),
        ("plumb_bob", [0.1, -0.05, 0.0, 0.0]),
        ("rational_polynomial", [0.3, -0.1, 0.0005, 0.0007, 0.01, 0.4, -0.08, 0.02]),
        ("equidistant", [-0.02, 0.01, -0.004, 0.001]),
    ],
)
def test_distorted_rays(model, d):
    camera = Intrinsics.of(camera_info(distortion_model=model, d=d))
    for x, y in ((0.01, 0.02), (0.3, -0.2), (-0.45, 0.35)):
        u, v = distorted(model, d, x, y)
        assert camera.ray(u * camera.fx + camera.cx, v * camera.fy + camera.cy) == pytest.approx((x, y), abs=2e-4)


@pytest.mark.parametrize(("binning_x", "binning_y"), [(0, 0), (1, 1), (2, 2), (4, 2)])
def test_region_and_binning(binning_x, binning_y):
    full = Intrinsics.of(camera_info())
    image = Intrinsics.of(
        camera_info(x_offset=16, y_offset=8, roi_width=64, roi_height=40, binning_x=binning_x, binning_y=binning_y)
    )
    bx, by = max(1, binning_x), max(1, binning_y)
    assert (image.width, image.height) == (64 // bx, 40 // by)
    for u, v in ((0, 0), (3, 5), (15, 19)):
        # The mean ray of the sensor's pixels that the image's pixel stands for.
        columns, rows = 16 + u * bx + np.arange(bx), 8 + v * by + np.arange(by)
        expected = np.mean([full.ray(c, 0)[0] for c in columns]), np.mean([full.ray(0, r)[1] for r in rows])
        assert image.ray(u, v) == pytest.approx(expected)


def test_another_size_shows_the_same_view():
    small = CAMERA.resized(32, 24)
    for u, v in ((0, 0), (10, 20), (31, 23)):
        # The middle of 4 x 4 pixels.
        assert small.ray(u, v) == pytest.approx(CAMERA.ray(4 * u + 1.5, 4 * v + 1.5))
    assert Intrinsics(110.0, 120.0, 62.0, 44.5).resized(128, 96) == CAMERA


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/color/image_raw", False),
        ("/camera/aligned_depth_to_color/image_raw", False),
        ("/left/image_rect", True),
        ("/left/image_rect_color", True),
        ("/left/image_rect_color/compressed", True),
        ("/camera/depth_registered/image_rect", True),
        ("/direct/image", False),
        ("image", False),
        ("/image_raw", False),  # usb_cam, v4l2_camera
        ("/camera/image_color", False),  # image_proc: colours, distorted as they were
        ("/camera/camera/color/image_raw", False),  # realsense2_camera
        ("/camera/camera/infra1/image_rect_raw", True),
        ("/camera/color/image_raw/compressed", False),  # orbbec_camera
        ("/zed/zed_node/rgb/image_rect_color", True),  # zed_wrapper to 4
        ("/zed/zed_node/left_raw/image_raw_gray", False),
        ("/zed/zed_node/rgb/color/rect/image", True),  # zed_wrapper from 5 on
        ("/zed/zed_node/rgb/color/rect/image/compressed", True),
        ("/zed/zed_node/left/gray/raw/image", False),
        ("/oak/rgb/image_raw", False),  # depthai_ros_driver
        ("/oak/left/image_rect", True),
        ("/rgb/image_raw", False),  # azure_kinect_ros_driver
        ("/multisense/left/image_mono", False),
        ("/multisense/aux/image_rect_color", True),
        ("/rectified/left/image", True),  # ensenso_camera
        ("/raw/left/image", False),
        ("/front_stereo_camera/left/image_rect", True),  # Isaac ROS
        ("/camera/image_rectified", True),
        ("/camera/image_undistorted", True),
        ("/x/image_rect/throttled", True),
        ("/camera/image_rect_throttle", True),  # topic_tools
        ("/camera/image_raw_throttle", False),
        ("/rect_robot/camera/image_raw", False),  # what is nearest to the end says it
        ("/unrectified/image", False),
        ("/rectangle/image", False),
    ],
)
def test_names_of_rectified_images(topic, rectified):
    assert is_rectified(topic) is rectified


# Points


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_a_box_on_a_floor(encoding):
    front = (0, 0, 1), 1.5, lambda p: abs(p[0]) < 0.2 and -0.1 < p[1] < 0.3
    floor = (0, 1, 0.1), 0.6, everywhere
    depth = cast(SIZE, CAMERA, front, floor)
    mask = np.abs(depth - 1.5) < 1e-9
    sent = depth
    if encoding == "16UC1":
        sent = np.where(depth < 65, depth * 1000, 0).round().astype(int)
    located = point_of(mask, depth_message(sent.tolist(), encoding), camera_info(), frame_id="camera")
    v, u = np.nonzero(mask)
    expected = (u.mean() - CAMERA.cx) / CAMERA.fx * 1.5, (v.mean() - CAMERA.cy) / CAMERA.fy * 1.5, 1.5
    assert located.point == pytest.approx(expected, abs=0.01)
    assert located.reason == ""


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.6, 0, 0.8), (0, -0.7, 0.7), (0.4, 0.5, 0.77)])
@pytest.mark.parametrize("seed", range(3))
def test_the_point_lies_on_a_slanted_plane(normal, seed):
    depth = cast(SIZE, CAMERA, (normal, 2.0, everywhere))
    random = np.random.default_rng(seed)
    mask = box_mask(SIZE, *random.integers(10, 30, 2), *random.integers(8, 50, 2))
    mask &= np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1])) < 110  # without a corner: not symmetric
    noisy = depth * random.normal(1, 0.005, SIZE)
    noisy[random.random(SIZE) < 0.2] = 0  # holes
    point = locate(mask, noisy.astype(np.float32), CAMERA).point
    assert np.dot(normal, point) == pytest.approx(2.0, rel=0.005)
    u, v = pixel_of(point)
    assert mask[round(v), round(u)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60))
def test_masks_of_any_shape_at_one_depth(seed, height, width):
    random = np.random.default_rng(seed)
    mask = np.zeros(SIZE, bool)
    mask[20 : 20 + height, 30 : 30 + width] = random.random((height, width)) < random.random()
    located = locate(mask, np.full(SIZE, 750, np.uint16), CAMERA, erode=0)
    if mask.sum() < 10:
        assert located.point is None
        assert located.reason == ("the mask is empty" if not mask.any() else located.reason)
        return
    # Naive: the middle if a pixel of the mask is within one of it, otherwise a pixel of the mask near it.
    pixels = [(u, v) for v in range(SIZE[0]) for u in range(SIZE[1]) if mask[v, u]]
    middle = tuple(sum(values) / len(pixels) for values in zip(*pixels, strict=True))
    nearest = min(math.dist(p, middle) for p in pixels)
    assert located.point[2] == pytest.approx(0.75)
    found = pixel_of(located.point)
    if nearest <= 1:
        assert found == pytest.approx(middle, abs=1e-6)
    else:
        assert mask[round(found[1]), round(found[0])]
        assert found == pytest.approx((round(found[0]), round(found[1])), abs=1e-6)


def test_the_border_of_a_mask_is_not_looked_at():
    mask = box_mask(SIZE, 20, 20, 30, 40)
    depth = np.full(SIZE, 5.0, np.float32)
    depth[23:47, 23:57] = 1.0  # the mask reaches 3 pixels too far on each side
    core = locate(mask, depth, CAMERA, erode=3, share=1.0)
    assert core.point[2] == 1.0
    assert locate(mask, depth, CAMERA, erode=2, share=1.0).point is None


@pytest.mark.parametrize("thickness", [1, 2, 3, 5])
def test_a_thin_thing_does_not_vanish(thickness):
    mask = box_mask(SIZE, 40, 10, thickness, 90)
    depth = np.where(mask, 0.8, 3.0).astype(np.float32)
    located = locate(mask, depth, CAMERA)
    assert located.point[2] == pytest.approx(0.8)
    assert pixel_of(located.point) == pytest.approx((54.5, 40 + (thickness - 1) / 2))


def test_of_a_thin_thing_the_middle_is_read():
    mask = box_mask(SIZE, 40, 10, 5, 90)
    depth = np.full(SIZE, 3.0, np.float32)
    depth[41:44, 11:99] = 0.8  # the mask's outermost pixels show what is behind
    assert locate(mask, depth, CAMERA, share=1.0).point[2] == pytest.approx(0.8)


def test_where_the_core_has_no_depth_the_whole_mask_is_read():
    mask = box_mask(SIZE, 20, 20, 30, 40)
    depth = np.zeros(SIZE, np.uint16)
    depth[20:22, 20:60] = 1200
    assert locate(mask, depth, CAMERA).point[2] == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("near", "says"),
    [
        (0.9, 1.0),
        (0.6, 1.0),
        (0.4, 1.0),  # a chair's back with gaps: most of what is seen is the wall behind
        (0.2, 2.0),  # a few pixels of something in front
        (0.0, 2.0),
    ],
)
@pytest.mark.parametrize("between", [0.0, 0.1])
def test_of_two_layers_the_nearest_large_one_is_the_thing(near, says, between):
    random = np.random.default_rng(5)
    mask = box_mask(SIZE, 10, 10, 70, 100)
    depth = np.where(random.random(SIZE) < near, 1.0, 2.0) * random.normal(1, 0.006, SIZE)
    invented = random.random(SIZE) < between  # what sensors see at edges: anything from one layer to the other
    depth[invented] = random.uniform(1.0, 2.0, SIZE)[invented]
    assert locate(mask, depth.astype(np.float32), CAMERA).point[2] == pytest.approx(says, rel=0.02)


def test_the_middle_of_a_slanted_ring_is_on_the_ring():
    normal = (0.0, 0.6, 0.8)
    depth = cast(SIZE, CAMERA, (normal, 1.6, everywhere))
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    radius = np.hypot(u - 60, v - 45)
    mask = (radius < 35) & (radius > 25)
    wall = np.where(mask, depth, 9.0).astype(np.float32)
    point = locate(mask, wall, CAMERA).point
    u, v = pixel_of(point)
    assert mask[round(v), round(u)]
    assert np.dot(normal, point) == pytest.approx(1.6, rel=0.01)


@pytest.mark.parametrize("size", [(48, 64), (32, 43), (192, 256), (288, 384)])
def test_depth_of_another_size(size):
    normal = (0.3, 0.2, 0.9)
    depth = cast(size, CAMERA.resized(size[1], size[0]), (normal, 2.0, everywhere))
    mask = box_mask(SIZE, 20, 30, 33, 41)
    point = locate(mask, depth.astype(np.float32), CAMERA).point
    assert np.dot(normal, point) == pytest.approx(2.0, rel=0.002)
    assert pixel_of(point) == pytest.approx((50, 36), abs=1.5 * SIZE[0] / size[0])


def test_a_calibration_of_another_size():
    mask, depth = box_mask(SIZE, 20, 30, 33, 41), np.full(SIZE, 900, np.uint16)
    expected = locate(mask, depth, CAMERA).point
    assert locate(mask, depth, CAMERA.resized(640, 480)).point == pytest.approx(expected)
    assert locate(mask, depth, Intrinsics(110.0, 120.0, 62.0, 44.5)).point == pytest.approx(expected)


def test_large_things_are_read_in_part_and_placed_the_same():
    size, camera = (960, 1280), CAMERA.resized(1280, 960)
    row = 2.0 / (0.3 * (np.arange(size[1]) - camera.cx) / camera.fx + 0.9)  # 0.3 x + 0.9 z = 2
    depth = np.tile(np.float32(row), (size[0], 1))
    mask = box_mask(size, 101, 203, 700, 900)
    point = locate(mask, depth, camera).point
    assert 0.3 * point[0] + 0.9 * point[2] == pytest.approx(2.0, rel=1e-3)
    assert pixel_of(point, camera) == pytest.approx((652.5, 450.5), abs=6)  # a step is 5 pixels


@given(st.integers(0, 2**32 - 1))
def test_whatever_the_depth_is_the_point_is_on_the_mask_and_finite(seed):
    random = np.random.default_rng(seed)
    mask = np.zeros((24, 32), bool)
    mask[tuple(random.integers(0, (24, 32), (random.integers(0, 300), 2)).T)] = True
    depth = random.integers(0, 2**32, (24, 32), dtype=np.uint32).view(np.float32)  # every kind of float
    if random.random() < 0.5:
        depth = np.where(random.random((24, 32)) < 0.7, random.uniform(1, 1.1, (24, 32)).astype(np.float32), depth)
    camera = CAMERA.resized(32, 24)
    located = locate(mask, depth, camera)
    assert (located.point is None) == bool(located.reason)
    if located.point is not None:
        values = metres(depth)[mask]
        assert np.nanmin(values) <= located.point[2] <= np.nanmax(values)
        u, v = pixel_of(located.point, camera)
        assert np.hypot(*(np.argwhere(mask) - (v, u)).T).min() <= 1 + 1e-6


# What is out of range


def layers(near, far, share):
    """A mask of 20 x 20 pixels, and float metres: `share` of its columns at `near`, the rest at `far`."""
    depth = np.full(SIZE, far, np.float32)
    depth[:, 40 : 40 + round(20 * share)] = near
    return box_mask(SIZE, 40, 40, 20, 20), depth


@pytest.mark.parametrize(
    ("near", "far", "share", "z"),
    [
        (0.01, 1.0, 0.5, 1.0),  # what a sensor invents in front of its lens
        (1.0, 65.535, 0.5, 1.0),  # a sky without depth, overflown
        (0.06, 1.0, 0.5, 0.06),
        (60.0, 64.9, 0.5, 60.0),
    ],
)
def test_a_reading_out_of_range_is_no_surface(near, far, share, z):
    mask, depth = layers(near, far, share)
    assert locate(mask, depth, CAMERA, near=0.05, far=65.0).point[2] == pytest.approx(z)


@pytest.mark.parametrize(
    ("near", "far", "share", "says"),
    [
        (0.04, 0.08, 0.5, "the depth under the mask is 0.04 to 0.08 m, outside depth_min 0.1 to depth_max 10: check"),
        (1200.0, 1210.0, 0.5, "the depth under the mask is 1200.00 to 1210.00 m, outside"),
        # Too near for the sensor: the little that is seen past it is not the thing.
        (0.04, 2.0, 0.8, "% of the depth under the mask is 0.04 to 0.04 m, outside depth_min 0.1"),
    ],
)
def test_a_thing_out_of_range_has_no_point(near, far, share, says):
    mask, depth = layers(near, far, share)
    located = locate(mask, depth, CAMERA, near=0.1, far=10.0)
    assert located.point is None
    assert says in located.reason
    assert located.reason.endswith("check depth_scale")


# Why there is no point


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"depth": None}, "no depth image has come"),
        ({"info": None}, "no camera_info"),
        ({"info": camera_info(k=[0.0] * 9)}, "not calibrated"),
        ({"info": camera_info(width=128, height=128)}, "camera_info describes has 128x128 pixels, this image 128x96"),
        ({"depth": depth_message([[1000] * 128] * 100)}, "the depth image has 128x100 pixels, this image 128x96"),
        ({"depth": depth_message([[1000] * 128] * 96, "rgb8")}, "'rgb8' is not supported"),
        ({"frame_id": "color"}, "of the frame 'camera', this image of 'color'"),
        ({"mask": np.zeros(SIZE, bool)}, "the mask is empty"),
        ({"mask": box_mask(SIZE, 5, 5, 2, 2)}, "4 of the thing's 4 pixels have depth, 10 are needed"),
        ({"depth": depth_message([[0] * 128] * 96)}, "0 of the thing's 400 pixels have depth"),
        ({"depth": depth_message([[1000] * 4] * 3), "mask": box_mask(SIZE, 0, 0, 9, 9)}, "smaller than a pixel"),
        ({"depth": depth_message(np.random.default_rng(0).geometric(1e-4, SIZE).clip(0, 65535).tolist())}, "scattered"),
    ],
)
def test_the_reason_is_said_in_words(changes, says):
    given_ = {
        "mask": box_mask(SIZE, 40, 40, 20, 20),
        "depth": depth_message([[1000] * 128] * 96),
        "info": camera_info(),
        "frame_id": "camera",
    }
    assert point_of(**given_).reason == ""
    located = point_of(**(given_ | changes))
    assert located.point is None
    assert says in located.reason


@pytest.mark.ros
def test_frame_and_calibration_are_those_of_the_image():
    """Space: its frame id must be the depth's, its topic's name says whether K or P describes it."""
    from sensor_msgs.msg import CameraInfo, Image

    from jmceln_core.answer import Segmentation, Status, with_mask
    from jmceln_ros.space.space import Space

    depth = Image(height=96, width=128, encoding="16UC1", step=256)
    depth.data = array("B", np.full(SIZE, 2000, "<u2").tobytes())
    depth.header.frame_id, depth.header.stamp.sec = "optical", 7
    info = CameraInfo(header=depth.header, height=96, width=128, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [100.0, 0.0, 63.5, 0.0, 100.0, 47.5, 0.0, 0.0, 1.0]
    info.p = [200.0, 0.0, 63.5, 0.0, 0.0, 200.0, 47.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    space = Space()
    space.depth.put(depth)
    space.info.put(info)
    mask = box_mask(SIZE, 40, 80, 20, 20)
    empty = Segmentation(mask, Status.FOUND, 1.0, None, None, None, 0, None, 0.0)
    answer, settings = with_mask(empty, mask), SegmentSettings()
    for said, topic, rectified in (
        ("auto", "/eye/image_raw", False),
        ("auto", "/eye/image_rect/compressed", True),
        ("true", "/eye/image_raw", True),
        ("false", "/eye/image_rect", False),
    ):
        space.image_topic, settings = topic, replace(settings, rectified=said)
        space.hold(depth.header, settings)
        assert space.rectified is rectified
        point, reason = space.locate(answer, depth.header, settings)
        assert (reason, point[0]) == ("", pytest.approx((89.5 - 63.5) / (200 if rectified else 100) * 2, abs=1e-6))
    for said, reason in (
        ({"depth_max": 1.0}, "is 2.00 to 2.00 m, outside"),
        ({"depth_scale": 0.1}, "200.00 m, outside"),
    ):
        assert reason in space.locate(answer, depth.header, replace(settings, **said))[1]
    for said in ({"depth_max": 0.0, "depth_scale": 0.1}, {"depth_min": 0.0, "depth_scale": 1e-5}):
        assert space.locate(answer, depth.header, replace(settings, **said))[1] == ""
    other = Image().header
    other.stamp.sec, other.frame_id = 7, "infrared"
    assert "of the frame 'optical', this image of 'infrared'" in space.locate(answer, other, settings)[1]
    other.stamp.nanosec = 180_000_000
    assert space.locate(answer, other, settings)[1] == "the nearest depth image is 0.180 s away, depth_slop is 0.05"
    other.stamp.sec = other.stamp.nanosec = 0
    assert "has no stamp" in space.locate(answer, other, settings)[1]
    space.forget()
    space.depth_topic = "/eye/depth"
    assert space.locate(answer, depth.header, settings)[1] == "no depth image has come on /eye/depth"


@pytest.mark.ros
def test_real_messages():
    from sensor_msgs.msg import CameraInfo, Image

    image = Image(height=96, width=128, encoding="16UC1", step=256)
    image.data = array("B", np.full(SIZE, 2000, "<u2").tobytes())
    image.header.frame_id = "optical"
    info = CameraInfo(height=96, width=128, distortion_model="plumb_bob", d=[0.0] * 5)
    mask = box_mask(SIZE, 40, 40, 20, 20)
    assert "not calibrated" in point_of(mask, image, info, frame_id="optical").reason
    info.k = [110.0, 0.0, 62.0, 0.0, 120.0, 44.5, 0.0, 0.0, 1.0]
    located = point_of(mask, image, info, frame_id="optical")
    assert located.point == pytest.approx(((49.5 - 62) / 110 * 2, (49.5 - 44.5) / 120 * 2, 2.0))
    assert all(type(value) is float for value in located.point)  # what rclpy takes
