"""sensor_msgs/Image to and from numpy, and sensor_msgs/CompressedImage to it, without cv_bridge.

`cv_bridge` would bring nothing here: an own table of layouts is shorter than asking whether the one that imports is the
ROS 2 one. It reads nv12, nv21 and nv24 too, which `cv_bridge` does not, and it refuses depth as a picture, which
`cv_bridge` turns into grey without a word.

The functions read and fill any object with the fields of these messages, so nothing here imports ROS.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from jmceln_core import pictures


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that are read and written here."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImageMessage(Protocol):
    """The fields of sensor_msgs/CompressedImage that are read here."""

    format: str
    data: Any


class ImageError(ValueError):
    """An image message that cannot be used; the message says what is wrong and how to mend it."""


@dataclass(frozen=True)
class Layout:
    """How one pixel lies in memory: bytes per sample, samples per pixel, and which of them are red, green, blue."""

    sample_bytes: int
    channels: int
    rgb: tuple[int, int, int]

    @property
    def pixel_bytes(self) -> int:
        """Bytes per pixel."""
        return self.sample_bytes * self.channels


_GREY, _RGB, _BGR = (0, 0, 0), (0, 1, 2), (2, 1, 0)

# By channels and their order. OpenCV takes a tenth of the time that numpy takes to index by a list.
_REORDER = {
    (1, _GREY): cv2.COLOR_GRAY2RGB,
    (3, _BGR): cv2.COLOR_BGR2RGB,
    (4, _RGB): cv2.COLOR_RGBA2RGB,
    (4, _BGR): cv2.COLOR_BGRA2RGB,
}

#: Pictures whose pixels lie whole, one after the other. The untyped 8UC3 and 8UC4 are OpenCV arrays, hence blue first.
LAYOUTS = {
    "rgb8": Layout(1, 3, _RGB),
    "bgr8": Layout(1, 3, _BGR),
    "rgba8": Layout(1, 4, _RGB),
    "bgra8": Layout(1, 4, _BGR),
    "mono8": Layout(1, 1, _GREY),
    "8UC1": Layout(1, 1, _GREY),
    "8UC3": Layout(1, 3, _BGR),
    "8UC4": Layout(1, 4, _BGR),
    "mono16": Layout(2, 1, _GREY),
    "rgb16": Layout(2, 3, _RGB),
    "bgr16": Layout(2, 3, _BGR),
    "rgba16": Layout(2, 4, _RGB),
    "bgra16": Layout(2, 4, _BGR),
}

#: YUV 4:2:2 in one plane of two bytes a pixel, and what OpenCV calls it. sensor_msgs has each under an old and a new
#: name: Humble and Jazzy know yuv422 and yuv422_yuy2, later ones uyvy and yuyv as well.
YUV422 = {
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
}

#: YUV 4:2:0 in two planes: brightness, and behind it, in rows of the same step, U and V (nv21: V and U) by turns.
YUV420 = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}

#: YUV 4:4:4 in two planes: brightness, and behind it, in rows of twice the step, U and V by turns.
YUV444 = ("nv24",)

#: Colour filter arrays, named in ROS and in OpenCV's long names by their first two rows of two.
BAYER = {
    f"bayer_{pattern}{bits}": code
    for pattern, code in (
        ("rggb", cv2.COLOR_BayerRGGB2RGB),
        ("bggr", cv2.COLOR_BayerBGGR2RGB),
        ("gbrg", cv2.COLOR_BayerGBRG2RGB),
        ("grbg", cv2.COLOR_BayerGRBG2RGB),
    )
    for bits in (8, 16)
}

#: Every encoding taken as a picture.
ENCODINGS = (*LAYOUTS, *YUV422, *YUV420, *YUV444, *BAYER)

# OpenCV fills in the outermost pixels from their neighbours, and leaves all black what has none.
_SMALLEST_BAYER = 3

# BT.601, brightness 16 to 235, colour 16 to 240 around 128: what OpenCV takes the other YUV encodings for.
_BT601 = np.array([[1.164, 0.0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0.0]])
_YUV_TO_RGB = np.column_stack([_BT601, _BT601 @ [-16.0, -128.0, -128.0]])

_PNG_START, _JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"

#: Depth by REP-118. Grey levels made of distances are no picture a network was trained on, so they are refused.
DEPTH_ENCODINGS = ("16UC1", "32FC1")


def to_rgb(message: ImageMessage, *, max_side: int = 8192) -> np.ndarray:
    """The picture of an image message as (H, W, 3) uint8 RGB.

    The result is contiguous. An unpadded rgb8 message is not copied: the result looks into `message.data`. Alpha is
    dropped. 16-bit samples are scaled so that 65535 becomes 255, in the byte order that `is_bigendian` names. Rows may
    be padded (`step`). YUV is read by BT.601 in its limited range, as OpenCV does. The colours of a Bayer picture are
    interpolated bilinearly, after 16 bits became 8.

    Raises ImageError for any encoding not in ENCODINGS, for sizes of 0 or beyond `max_side`, for those the encoding
    cannot have (an odd width in YUV 4:2:2 and 4:2:0, an odd height in 4:2:0, Bayer below 3x3), and for data shorter
    than height x step (and the plane of colours behind it).
    """
    height, width, step, encoding = int(message.height), int(message.width), int(message.step), message.encoding
    _check_encoding(encoding)
    check_size(height, width, max_side)
    if encoding in LAYOUTS:
        layout = LAYOUTS[encoding]
        pixels = plane(message, (height, width, layout.channels), step, sample_bytes=layout.sample_bytes)
        code = _REORDER.get((layout.channels, layout.rgb))
        return np.ascontiguousarray(_to_bytes(pixels) if code is None else cv2.cvtColor(_to_bytes(pixels), code))
    if encoding in BAYER:
        if min(height, width) < _SMALLEST_BAYER:
            raise ImageError(
                f"{encoding} image of {width}x{height} pixels: colours are interpolated from {_SMALLEST_BAYER}x"
                f"{_SMALLEST_BAYER} pixels on; check the camera driver"
            )
        mosaic = plane(message, (height, width, 1), step, sample_bytes=2 if encoding.endswith("16") else 1)
        return np.asarray(cv2.cvtColor(_to_bytes(mosaic[..., 0]), BAYER[encoding]))
    if (encoding in YUV422 and width % 2) or (encoding in YUV420 and (width % 2 or height % 2)):
        raise ImageError(
            f"{encoding} image of {width}x{height} pixels: neighbours share their colour in this encoding, so the "
            f"width {'' if encoding in YUV422 else 'and the height '}must be even; check the camera driver"
        )
    if encoding in YUV422:
        return np.asarray(cv2.cvtColor(plane(message, (height, width, 2), step), YUV422[encoding]))
    luma = plane(message, (height, width, 1), step)[..., 0]
    if encoding in YUV420:
        chroma = plane(message, (height // 2, width // 2, 2), step, start=height * step)
        return np.asarray(cv2.cvtColorTwoPlane(luma, chroma, YUV420[encoding]))
    chroma = plane(message, (height, width, 2), 2 * step, start=height * step)
    yuv = np.dstack([np.maximum(luma, 16), chroma])  # OpenCV takes what is darker than black for black
    return np.asarray(cv2.transform(yuv, _YUV_TO_RGB))


def compressed_to_rgb(message: CompressedImageMessage, *, max_side: int = 8192) -> np.ndarray:
    """The picture of a compressed image message (JPEG or PNG) as (H, W, 3) uint8 RGB, contiguous.

    The data's own first bytes say what they are. `format` ("jpeg", "png", "rgb8; jpeg compressed bgr8" ...) says two
    things besides: that it is depth, and, as "compressed rgb8", that red and blue changed places before compression
    (sensor_msgs/CompressedImage: the pixel format given to the codec, and the codec takes every picture for bgr8).
    Alpha is dropped, 16 bits become 8, and the orientation a camera wrote into its JPEG is not applied: positions
    are those of the sensor, which the camera's calibration is about.

    Raises ImageError for other codecs, depth, sizes of 0 or beyond `max_side` (known from the header, before memory is
    taken for the picture), and data that is damaged (a JPEG or PNG that ends too early) or that OpenCV cannot decode.
    """
    origin, _, codec = message.format.partition(";")
    if "compressedDepth" in message.format or (codec and origin.strip() in DEPTH_ENCODINGS):
        raise ImageError(
            f"compressed image of format {message.format!r} is depth, not a picture; subscribe to the camera's colour "
            "topic"
        )
    data = memoryview(message.data)
    height, width = _compressed_size(data, message.format)
    check_size(height, width, max_side)
    if why := pictures.damage(data.tobytes()):
        raise ImageError(
            f"compressed image of {width}x{height} pixels cannot be decoded: {why} ({data.nbytes} bytes); check the "
            "camera driver and the network"
        )
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f"compressed image of {width}x{height} pixels cannot be decoded: {error}") from error
    if bgr is None or bgr.shape != (height, width, 3):
        raise ImageError(
            f"compressed image of {width}x{height} pixels cannot be decoded: its {data.nbytes} bytes are broken or "
            "cut off"
        )
    return np.asarray(bgr if "compressed rgb" in codec else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def fill_image(message: ImageMessage, pixels: np.ndarray, encoding: str) -> None:
    """Writes (H, W) or (H, W, C) uint8 pixels into an image message, unpadded. The header is the caller's.

    Raises ImageError if the array is not what `encoding` (an 8-bit one of LAYOUTS) describes.
    """
    _check_encoding(encoding)
    layout = LAYOUTS.get(encoding)
    if layout is None:
        raise ImageError(f"pictures are not sent as {encoding}; choose an 8-bit one of {', '.join(LAYOUTS)}")
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or layout.sample_bytes != 1 or pixels.ndim not in (2, 3) or channels != layout.channels:
        raise ImageError(f"an array of {pixels.dtype} {pixels.shape} cannot be sent as {encoding}")
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = pixels.shape[1] * layout.pixel_bytes
    # An array of bytes is taken over as it is; the constructor array("B", buffer) would walk it byte by byte.
    message.data = array("B")
    message.data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))


def check_size(height: int, width: int, max_side: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"image of {width}x{height} pixels: there is nothing to look at; check the camera driver")
    if max(height, width) > max_side:
        raise ImageError(
            f"image of {width}x{height} pixels is larger than the {max_side} allowed for a side; "
            "resize it, or raise the parameter max_image_side"
        )


def _compressed_size(data: memoryview, name: str) -> tuple[int, int]:
    """Height and width in pixels from the header of a JPEG or PNG. Raises ImageError if there is no such header."""
    size = None
    if data[:8] == _PNG_START:
        if data[12:16] == b"IHDR" and len(data) >= 24:
            size = struct.unpack_from(">II", data, 16)[::-1]
    elif data[:2] == _JPEG_START:
        size = _jpeg_size(data)
    else:
        raise ImageError(
            f"compressed image of format {name!r} with {data.nbytes} bytes is neither JPEG nor PNG; "
            "set the publisher's compression to one of these"
        )
    if size is None:
        raise ImageError(f"compressed image of format {name!r} with {data.nbytes} bytes has a broken header")
    return size


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Height and width from the first start-of-frame segment (ITU-T T.81, B.2.2), or None."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", data, at + 5)
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def plane(
    message: ImageMessage, shape: tuple[int, int, int], step: int, *, sample_bytes: int = 1, start: int = 0
) -> np.ndarray:
    """A view into the message's data: `shape` (rows, columns, channels), rows `step` bytes apart from byte `start` on.

    Raises ImageError for a step shorter than a row and for data that ends before the last one.
    """
    rows, columns, channels = shape
    pixel_bytes = sample_bytes * channels
    row_bytes = columns * pixel_bytes
    if step < row_bytes:
        raise ImageError(
            f"image step is {step} bytes, but a row of {columns} {message.encoding} pixels takes {row_bytes}; "
            "the publisher must set step to the full row length in bytes"
        )
    # The last row's padding may be missing: some drivers send no byte after the last pixel.
    available = memoryview(message.data).nbytes
    if available < start + (rows - 1) * step + row_bytes:
        raise ImageError(
            f"image data has {available} bytes, but {rows} rows of {step} bytes "
            f"{f'behind the first {start} bytes ' if start else ''}are announced; "
            "the publisher's height, step and data do not belong together"
        )
    return np.ndarray(
        shape=shape,
        dtype=("u1" if sample_bytes == 1 else ">u2" if message.is_bigendian else "<u2"),
        buffer=message.data,
        offset=start,
        strides=(step, pixel_bytes, sample_bytes),
    )


def _to_bytes(samples: np.ndarray) -> np.ndarray:
    """uint8 samples as they are, uint16 ones divided by 257 and rounded."""
    if samples.dtype.itemsize == 1:
        return samples
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _check_encoding(encoding: str) -> None:
    if encoding in DEPTH_ENCODINGS:
        raise ImageError(
            f"image encoding {encoding} is depth (REP-118), not a picture; subscribe to the camera's colour topic"
            + (", or publish as mono16 if these are grey levels" if encoding == "16UC1" else "")
        )
    if encoding not in ENCODINGS:
        raise ImageError(
            f"image encoding {encoding!r} is not supported; publish one of {', '.join(ENCODINGS)} "
            "(image_proc converts other camera formats)"
        )
