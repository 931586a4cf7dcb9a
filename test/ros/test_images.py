"""jmceln_ros.common.images: every encoding against a reference that walks the bytes one by one."""

from __future__ import annotations

import struct
import zlib
from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_ros.common import images
from jmceln_ros.common.images import LAYOUTS, ImageError, compressed_to_rgb, fill_image, to_rgb

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


# Where a pixel's Y, U and V are: (row, column, height, step) to byte. Old and new name side by side, as in
# sensor_msgs/image_encodings; the planes as the Linux kernel's V4L2 documentation draws them.
YUV = {
    "uyvy": lambda r, c, h, s: (r * s + 2 * c + 1, r * s + c // 2 * 4, r * s + c // 2 * 4 + 2),
    "yuyv": lambda r, c, h, s: (r * s + 2 * c, r * s + c // 2 * 4 + 1, r * s + c // 2 * 4 + 3),
    "nv12": lambda r, c, h, s: (r * s + c, (h + r // 2) * s + c // 2 * 2, (h + r // 2) * s + c // 2 * 2 + 1),
    "nv21": lambda r, c, h, s: (r * s + c, (h + r // 2) * s + c // 2 * 2 + 1, (h + r // 2) * s + c // 2 * 2),
    "nv24": lambda r, c, h, s: (r * s + c, (h + 2 * r) * s + 2 * c, (h + 2 * r) * s + 2 * c + 1),
}
YUV["yuv422"], YUV["yuv422_yuy2"] = YUV["uyvy"], YUV["yuyv"]
# Bytes of a row per pixel, rows of all planes per row of the picture.
YUV_SIZE = {"nv12": (1, 1.5), "nv21": (1, 1.5), "nv24": (1, 3)}

# The colours of the first two rows of two.
BAYER = ("rggb", "bggr", "gbrg", "grbg")


def yuv_message(encoding, height, width, *, padding=0):
    """An image message of random bytes, and its pixels by the equations of BT.601 one by one, (H, W, 3) float."""
    row_bytes, rows = YUV_SIZE.get(encoding, (2, 1))
    step = width * row_bytes + padding
    data = np.random.default_rng(0).integers(0, 256, int(height * rows) * step, dtype=np.uint8).tobytes()
    rgb = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            y, u, v = (data[at] for at in YUV[encoding](row, column, height, step))
            y, u, v = 1.164 * max(y - 16, 0), u - 128, v - 128
            rgb[row, column] = y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u
    image = SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=0, step=step, data=array("B", data)
    )
    return image, rgb.clip(0, 255)


def bayer_message(pattern, bits, rgb, *, padding=0, big=0):
    """What a camera whose filters lie in `pattern` sees of `rgb` (H, W, 3)."""
    height, width, _ = rgb.shape
    data = bytearray()
    for row in range(height):
        for column in range(width):
            value = int(rgb[row, column, "rgb".index(pattern[row % 2 * 2 + column % 2])])
            data += struct.pack("B" if bits == 8 else ">H" if big else "<H", value if bits == 8 else value * 257)
        data += b"\xaa" * padding
    encoding = f"bayer_{pattern}{bits}"
    step = len(data) // height
    return SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=big, step=step, data=bytes(data))


def test_the_table_of_encodings_is_the_tested_one():
    assert set(LAYOUTS) == set(ENCODINGS)
    bayer = {f"bayer_{pattern}{bits}" for pattern in BAYER for bits in (8, 16)}
    assert set(images.ENCODINGS) == {*ENCODINGS, *YUV, *bayer}
    assert len(images.ENCODINGS) == len(set(images.ENCODINGS))


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_padding_and_byte_order(encoding, padding, big):
    image = message(encoding, 5, 7, padding=padding, big=big)
    rgb = to_rgb(image)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, reference(image))


@pytest.mark.parametrize("as_sent", [bytes, bytearray, lambda data: array("B", data)])
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("size", [(2, 2), (6, 10), (32, 48)])
@pytest.mark.parametrize("encoding", YUV)
def test_every_yuv_encoding(encoding, size, padding, as_sent):
    image, expected = yuv_message(encoding, *size, padding=padding)
    image.data = as_sent(image.data)
    rgb = to_rgb(image)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_allclose(rgb, expected, atol=2)  # OpenCV's fixed point numbers


def test_pixels_of_their_own_colour_may_be_odd_in_number():
    for encoding, height, width in (("nv24", 3, 5), ("uyvy", 3, 4), ("yuyv", 1, 2)):
        image, expected = yuv_message(encoding, height, width, padding=3)
        np.testing.assert_allclose(to_rgb(image), expected, atol=2)


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize(("bits", "big"), [(8, 0), (8, 1), (16, 0), (16, 1)])
@pytest.mark.parametrize("pattern", BAYER)
def test_every_bayer_pattern(pattern, bits, big, padding):
    """Patches of constant colour; what lies two pixels from another patch has nothing else to be interpolated from."""
    patches = np.array([[[200, 100, 50], [0, 255, 30]], [[10, 20, 240], [255, 255, 255]]], np.uint8)
    scene = patches.repeat(9, axis=0).repeat(11, axis=1)
    rgb = to_rgb(bayer_message(pattern, bits, scene, padding=padding, big=big))
    assert rgb.dtype == np.uint8
    assert rgb.shape == scene.shape
    assert rgb.flags.c_contiguous
    for row in (0, 9):
        for column in (0, 11):
            inner = (slice(row + 2, row + 7), slice(column + 2, column + 9))
            np.testing.assert_array_equal(rgb[inner], scene[inner])


def test_a_slope_is_interpolated_between_the_samples_of_its_colour():
    """On an even slope the mean of the neighbours is the pixel's own value, in every colour."""
    scene = np.arange(0, 200, 10, dtype=np.uint8)[None, :, None].repeat(12, axis=0).repeat(3, axis=2)
    for pattern in BAYER:
        rgb = to_rgb(bayer_message(pattern, 8, scene))
        np.testing.assert_allclose(rgb[1:-1, 1:-1].astype(int), scene[1:-1, 1:-1], atol=1)


def raw_message(encoding, height, width):
    """A complete message of zeros in an encoding that is no row of whole pixels, of any size."""
    row_bytes, rows = (1, 3) if encoding.startswith("nv") else (2, 1)
    data = bytes(height * rows * width * row_bytes)
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=0, step=width * row_bytes, data=data
    )


@pytest.mark.parametrize(
    ("encoding", "height", "width", "said"),
    [
        ("uyvy", 4, 5, "uyvy image of 5x4 .*width must be even"),
        ("yuv422", 4, 5, "width must be even"),
        ("yuyv", 4, 1, "width must be even"),
        ("yuv422_yuy2", 4, 5, "width must be even"),
        ("nv12", 5, 4, "nv12 image of 4x5 .*width and the height must be even"),
        ("nv12", 4, 5, "must be even"),
        ("nv21", 1, 4, "must be even"),
        ("bayer_rggb8", 2, 4, "4x2 .*from 3x3"),  # OpenCV returns black for these
        ("bayer_gbrg16", 4, 1, "1x4 .*from 3x3"),
    ],
)
def test_a_size_that_the_encoding_cannot_have_is_refused(encoding, height, width, said):
    with pytest.raises(ImageError, match=said):
        to_rgb(raw_message(encoding, height, width))


@pytest.mark.parametrize("encoding", [*YUV, *(f"bayer_{p}{b}" for p in BAYER for b in (8, 16))])
def test_too_little_data_and_a_short_step_are_refused(encoding):
    """The last byte decides, in both planes where there are two; what is missing of the last row is its padding."""
    height, width, padding = 4, 6, 5
    if encoding in YUV:
        image, _ = yuv_message(encoding, height, width, padding=padding)
    else:
        scene = np.zeros((height, width, 3), np.uint8)
        image = bayer_message(encoding[6:10], int(encoding[10:]), scene, padding=padding)
    expected = to_rgb(image)
    last = len(image.data) - (2 * padding if encoding == "nv24" else padding)
    image.data = image.data[:last]
    np.testing.assert_array_equal(to_rgb(image), expected)
    image.data = image.data[:-1]
    with pytest.raises(ImageError, match=f"image data has {last - 1} bytes"):
        to_rgb(image)
    image.step = image.step - padding - 1
    with pytest.raises(ImageError, match=f"image step is {image.step} bytes"):
        to_rgb(image)


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
        ({"encoding": "yuv411"}, "'yuv411' is not supported.*rgb8, bgr8.*nv12.*bayer_rggb8"),
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
    encoding=st.sampled_from(sorted(images.ENCODINGS)) | st.text(max_size=8),
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
        (np.zeros((2, 2, 2), np.uint8), "yuyv"),  # read, but never written
        (np.zeros((2, 2), np.uint8), "nonsense"),
    ],
)
def test_an_array_that_is_not_the_encoding_is_refused(pixels, encoding):
    with pytest.raises(ImageError):
        fill_image(SimpleNamespace(), pixels, encoding)


def scene():
    """(48, 64, 3) uint8 RGB: patches whose edges lie on JPEG's blocks (16x16 for colour at half resolution)."""
    picture = np.full((48, 64, 3), 90, np.uint8)
    picture[:16, :32] = (220, 20, 30)
    picture[32:, 32:] = (10, 40, 210)
    return picture


def assert_jpeg_of_scene(rgb):
    """JPEG changes constant patches by rounding alone; colours at half resolution run over an edge by two pixels."""
    for row in (0, 16, 32):
        for column in (0, 32):
            inner = (slice(row + 2, row + 14), slice(column + 2, column + 30))
            assert np.abs(rgb[inner].astype(int) - scene()[inner]).max() <= 3


def compressed(pixels, extension, name, as_sent=bytes):
    """A compressed image message of (H, W[, C]) RGB or grey pixels, as OpenCV writes them."""
    order = {2: slice(None), 3: (2, 1, 0), 4: (2, 1, 0, 3)}[pixels.ndim if pixels.ndim == 2 else pixels.shape[2]]
    ok, data = cv2.imencode(extension, pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., order]))
    assert ok
    return SimpleNamespace(format=name, data=as_sent(data.tobytes()))


@pytest.mark.parametrize("as_sent", [bytes, lambda data: array("B", data)])
@pytest.mark.parametrize("name", ["", "png", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8", "jpeg"])
def test_png_is_read_exactly(name, as_sent):
    rgb = compressed_to_rgb(compressed(scene(), ".png", name, as_sent))
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, scene())


@pytest.mark.parametrize("name", ["", "jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8"])
def test_jpeg_is_read_within_its_loss(name):
    assert_jpeg_of_scene(compressed_to_rgb(compressed(scene(), ".jpg", name)))


def test_compressed_grey_alpha_and_sixteen_bits():
    grey = scene()[..., 0]
    for extension, name in ((".png", "mono8; png compressed "), (".jpg", "mono8; jpeg compressed ")):
        rgb = compressed_to_rgb(compressed(grey, extension, name)).astype(int)
        assert np.abs(rgb - grey[..., None]).max() <= 4
    alpha = np.dstack([scene(), np.full((48, 64), 7, np.uint8)])
    np.testing.assert_array_equal(compressed_to_rgb(compressed(alpha, ".png", "png")), scene())
    deep = scene().astype(np.uint16) * 257
    np.testing.assert_array_equal(compressed_to_rgb(compressed(deep, ".png", "rgb16; png compressed bgr16")), scene())


def test_red_and_blue_are_put_back_where_the_format_says_so():
    message = compressed(scene()[..., ::-1], ".png", "bgr8; png compressed rgb8")
    rgb = compressed_to_rgb(message)
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, scene())


def test_the_orientation_in_a_jpeg_is_not_applied():
    message = compressed(scene(), ".jpg", "jpeg")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # turned by 90 degrees
    message.data = message.data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + message.data[2:]
    turned = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (64, 48, 3)
    assert_jpeg_of_scene(compressed_to_rgb(message))


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header))


def jpeg_header(width, height):
    return b"\xff\xd8\xff\xff\xe0\0\x04ab\xff\xc2\0\x11\x08" + struct.pack(">HH", height, width) + bytes(12)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("16UC1; compressedDepth png", b"", "depth.*colour topic"),
        ("32FC1; compressedDepth", b"", "depth.*colour topic"),
        ("16UC1; png compressed ", b"", "depth.*colour topic"),
        ("jpeg", b"", "'jpeg' with 0 bytes is neither JPEG nor PNG"),
        ("jpeg", b"II*\0" + bytes(99), "neither JPEG nor PNG"),  # TIFF
        ("jpeg", b"\xff\xd8", "broken header"),
        ("jpeg", b"\xff\xd8" + bytes(99), "broken header"),
        ("jpeg", b"\xff\xd8" + b"\xff" * 999, "broken header"),
        ("png", b"\x89PNG\r\n\x1a\n", "broken header"),
        ("png", b"\x89PNG\r\n\x1a\n" + bytes(99), "broken header"),
        ("png", png_header(0, 5), "0x5 pixels"),
        ("jpeg", jpeg_header(7, 0), "7x0 pixels"),
        ("png", png_header(2**31 - 1, 2**31 - 1), "max_image_side"),
        ("png", png_header(4, 101), "4x101 pixels is larger than the 100"),
        ("jpeg", jpeg_header(65535, 65535), "65535x65535 pixels.*max_image_side"),
    ],
)
def test_a_broken_or_huge_compressed_image_is_refused_before_it_is_decoded(monkeypatch, name, data, said):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("memory for the picture would be taken"))
    with pytest.raises(ImageError, match=said):
        compressed_to_rgb(SimpleNamespace(format=name, data=data), max_side=100)


@pytest.mark.parametrize("data", [png_header(6, 4), jpeg_header(6, 4), png_header(6, 4) + bytes(99)])
def test_what_cannot_be_decoded_is_refused(data):
    with pytest.raises(ImageError, match="6x4 pixels cannot be decoded"):
        compressed_to_rgb(SimpleNamespace(format="", data=data))


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_cut_off_picture_is_refused(extension, kept):
    message = compressed(scene(), extension, "")
    message.data = message.data[: int(kept * len(message.data))]
    said = f"64x48 pixels cannot be decoded: it ends too early \\({len(message.data)} bytes\\)"
    with pytest.raises(ImageError, match=said):
        compressed_to_rgb(message)


@given(
    extension=st.sampled_from([".jpg", ".png"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=9),
    kept=st.floats(0, 1),
)
def test_damage_gives_a_picture_or_an_image_error_and_nothing_else(extension, changes, kept):
    message = compressed(scene(), extension, "", bytearray)
    for where, value in changes:
        message.data[int(where * (len(message.data) - 1))] = value
    message.data = message.data[: int(kept * len(message.data)) + 1]
    try:
        rgb = compressed_to_rgb(message, max_side=500)
    except ImageError:
        return
    assert rgb.ndim == 3
    assert max(rgb.shape) <= 500
