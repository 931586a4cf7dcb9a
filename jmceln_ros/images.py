"""sensor_msgs/Image to and from numpy, without cv_bridge.

`cv_bridge` would bring nothing here: an own table of layouts is shorter than asking whether the one that imports is the
ROS 2 one, and it also refuses depth as a picture, which `cv_bridge` turns into grey without a word.

The functions read and fill any object with the fields of sensor_msgs/Image, so nothing here imports ROS.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that are read and written here."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
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

#: Every encoding taken as a picture. The untyped 8UC3 and 8UC4 are OpenCV arrays, hence blue first.
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

#: Depth by REP-118. Grey levels made of distances are no picture a network was trained on, so they are refused.
DEPTH_ENCODINGS = ("16UC1", "32FC1")


def to_rgb(message: ImageMessage, *, max_side: int = 8192) -> np.ndarray:
    """The picture of an image message as (H, W, 3) uint8 RGB.

    The result is contiguous. An unpadded rgb8 message is not copied: the result looks into `message.data`. Alpha is
    dropped. 16-bit samples are scaled so that 65535 becomes 255, in the byte order that `is_bigendian` names. Rows may
    be padded (`step`).

    Raises ImageError for anything else, for sizes of 0 or beyond `max_side`, and for data shorter than height x step.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    layout = _layout(message.encoding)
    if height < 1 or width < 1:
        raise ImageError(f"image of {width}x{height} pixels: there is nothing to look at; check the camera driver")
    if max(height, width) > max_side:
        raise ImageError(
            f"image of {width}x{height} pixels is larger than the {max_side} allowed for a side; "
            "resize it, or raise the parameter max_image_side"
        )
    row_bytes = width * layout.pixel_bytes
    if step < row_bytes:
        raise ImageError(
            f"image step is {step} bytes, but a row of {width} {message.encoding} pixels takes {row_bytes}; "
            "the publisher must set step to the full row length in bytes"
        )
    # The last row's padding may be missing: some drivers send no byte after the last pixel.
    available = memoryview(message.data).nbytes
    if available < (height - 1) * step + row_bytes:
        raise ImageError(
            f"image data has {available} bytes, but {height} rows of {step} bytes are announced; "
            "the publisher's height, step and data do not belong together"
        )
    pixels: np.ndarray = np.ndarray(
        shape=(height, width, layout.channels),
        dtype=("u1" if layout.sample_bytes == 1 else ">u2" if message.is_bigendian else "<u2"),
        buffer=message.data,
        strides=(step, layout.pixel_bytes, layout.sample_bytes),
    )
    if layout.rgb != _RGB or layout.channels != 3:
        pixels = pixels[..., layout.rgb]
    if layout.sample_bytes == 2:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def fill_image(message: ImageMessage, pixels: np.ndarray, encoding: str) -> None:
    """Writes (H, W) or (H, W, C) uint8 pixels into an image message, unpadded. The header is the caller's.

    Raises ImageError if the array is not what `encoding` (an 8-bit one of LAYOUTS) describes.
    """
    layout = _layout(encoding)
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


def _layout(encoding: str) -> Layout:
    layout = LAYOUTS.get(encoding)
    if layout is not None:
        return layout
    if encoding in DEPTH_ENCODINGS:
        raise ImageError(
            f"image encoding {encoding} is depth (REP-118), not a picture; subscribe to the camera's colour topic"
            + (", or publish as mono16 if these are grey levels" if encoding == "16UC1" else "")
        )
    raise ImageError(
        f"image encoding {encoding!r} is not supported; publish one of {', '.join(LAYOUTS)} "
        "(image_proc converts raw and YUV camera formats)"
    )
