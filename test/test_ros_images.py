"""jmceln_ros.images: every encoding against a reference that walks the bytes one by one."""

from __future__ import annotations

import struct
from array import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_ros.images import LAYOUTS, ImageError, fill_image, to_rgb

# Where red, green and blue lie among a pixel's samples, bytes per sample, samples per pixel: REP-118 and
# sensor_msgs/image_encodings, written down a second time.
ENCODINGS = {
    "rgb8": ("012", 1, 3),
    "bgr8": ("210", 1, 3),
    "rgba8": ("012", 1, 4),
    "bgra8": ("210", 1, 4),
    "mono8": ("000", 1, 1),
    "8UC1": ("000", 1, 1),
    "8UC3": ("210", 1, 3),
    "8UC4": ("210", 1, 4),
    "mono16": ("000", 2, 1),
    "rgb16": ("012", 2, 3),
    "bgr16": ("210", 2, 3),
    "rgba16": ("012", 2, 4),
    "bgra16": ("210", 2, 4),
}


def message(encoding, height, width, *, padding=0, big=0, seed=0):
    """An image message of random bytes, rows padded by `padding` bytes."""
    _, size, channels = ENCODINGS[encoding]
    step = width * size * channels + padding
    data = np.random.default_rng(seed).integers(0, 256, height * step, dtype=np.uint8)
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=big, step=step, data=array("B", data.tobytes())
    )


def reference(image):
    """(H, W, 3) uint8: every sample unpacked by struct."""
    order, size, channels = ENCODINGS[image.encoding]
    unpack = {1: "B", 2: ">H" if image.is_bigendian else "<H"}[size]
    out = np.zeros((image.height, image.width, 3), np.uint8)
    for row in range(image.height):
        for column in range(image.width):
            for colour in range(3):
                at = row * image.step + (column * channels + int(order[colour])) * size
                (value,) = struct.unpack_from(unpack, image.data, at)
                out[row, column, colour] = value if size == 1 else round(value * 255 / 65535)
    return out


def test_the_table_of_encodings_is_the_tested_one():
    assert set(LAYOUTS) == set(ENCODINGS)


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_padding_and_byte_order(encoding, padding, big):
    image = message(encoding, 5, 7, padding=padding, big=big)
    rgb = to_rgb(image)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, reference(image))


def test_an_unpadded_rgb_image_is_not_copied():
    image = message("rgb8", 4, 6)
    assert np.shares_memory(to_rgb(image), np.frombuffer(image.data, np.uint8))


def test_bytes_are_read_as_arrays_are():
    image = message("bgr8", 4, 6)
    expected = to_rgb(image)
    image.data = image.data.tobytes()
    np.testing.assert_array_equal(to_rgb(image), expected)


def test_the_last_row_may_lack_its_padding():
    image = message("rgb8", 3, 2, padding=4)
    expected = reference(image)
    image.data = image.data[:-4]
    np.testing.assert_array_equal(to_rgb(image), expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoding": "16UC1"}, "depth.*mono16"),  # REP-118: millimetres, not grey levels
        ({"encoding": "32FC1"}, "depth.*colour topic"),
        ({"encoding": "yuv422"}, "'yuv422' is not supported.*rgb8, bgr8"),
        ({"encoding": ""}, "'' is not supported"),
        ({"height": 0}, "7x0 pixels"),
        ({"width": 0}, "0x5 pixels"),
        ({"height": 100_000}, "max_image_side"),
        ({"height": 6}, "6 rows of 21 bytes"),  # more rows announced than sent
        ({"data": array("B")}, "has 0 bytes"),
        ({"step": 20}, "step is 20 bytes.*takes 21"),
        ({"step": 4_000_000_000}, "4000000000 bytes"),
    ],
)
def test_a_broken_image_is_refused_with_reason_and_remedy(changes, said):
    image = message("rgb8", 5, 7)
    vars(image).update(changes)
    with pytest.raises(ImageError, match=said):
        to_rgb(image)


@given(
    height=st.integers(0, 2**32 - 1) | st.integers(0, 9),
    width=st.integers(0, 2**32 - 1) | st.integers(0, 9),
    step=st.integers(0, 2**32 - 1) | st.integers(0, 40),
    encoding=st.sampled_from(sorted(ENCODINGS)) | st.text(max_size=8),
    big=st.integers(0, 255),
    data=st.binary(max_size=200),
)
def test_garbage_gives_a_picture_or_an_image_error_and_nothing_else(height, width, step, encoding, big, data):
    image = SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=big, step=step, data=data)
    try:
        rgb = to_rgb(image)
    except ImageError:
        return
    assert rgb.shape == (height, width, 3)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_what_is_filled_in_is_read_back(encoding):
    channels = ENCODINGS[encoding][2]
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, channels), dtype=np.uint8)[:, ::2]  # not contiguous
    image = SimpleNamespace()
    fill_image(image, pixels[..., 0] if channels == 1 else pixels, encoding)
    assert (image.height, image.width, image.step, image.is_bigendian) == (6, 4, 4 * channels, 0)
    assert isinstance(image.data, array)
    order = [int(c) for c in ENCODINGS[encoding][0]]
    np.testing.assert_array_equal(to_rgb(image), pixels[..., order])


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (np.zeros((2, 2, 3), np.float32), "rgb8"),  # not bytes
        (np.zeros((2, 2), np.uint8), "rgb8"),  # one channel for three
        (np.zeros((2, 2), np.uint8), "mono16"),  # one byte for two
        (np.zeros((2,), np.uint8), "mono8"),  # no picture
        (np.zeros((2, 2), np.uint8), "nonsense"),
    ],
)
def test_an_array_that_is_not_the_encoding_is_refused(pixels, encoding):
    with pytest.raises(ImageError):
        fill_image(SimpleNamespace(), pixels, encoding)
