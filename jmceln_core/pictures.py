"""Picture files: the one reader of training, evaluation, prediction and camera_node. OpenCV alone, no torch.

A picture comes as RGB in 8 bits, **upright** as its EXIF says, which is how annotation tools show it. Grey, palette and
CMYK files become RGB, alpha is dropped, of an animation it is the first frame. A file that ends too early, or whose
check sums do not fit, is refused: decoders fill up what is missing with grey.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_FLAGS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
_PNG_START, _JPEG_START, _JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras keep in 16


class PictureError(ValueError):
    """A file that is no picture, or a damaged one; the message names it and the remedy."""


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file. Raises PictureError."""
    return decode(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises PictureError naming a file that is not there, a folder, or what else cannot be read."""
    try:
        if path.is_dir():
            raise PictureError(f"{path}: a folder, not a picture")
        if path.exists() and not path.is_file():
            raise PictureError(f"{path}: not a file")  # a pipe or a device could be waited for without end
        return path.read_bytes()
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})") from None


def decode(data: bytes, name: object, *, upright: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file's bytes; not `upright`: as it is stored. Raises PictureError with `name` in front.

    Grey in 16 bits is often 10, 12 or 14 bits of a camera: it is scaled by the least of 8, 10, 12, 14 and 16 bits that
    hold its brightest pixel. Colours in 16 bits are scaled by all 16.
    """
    if why := damage(data):
        raise PictureError(f"{name}: a damaged image, {why}; copy or fetch it again")
    flags = _FLAGS if upright else _FLAGS | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise PictureError(f"{name}: not a readable image ({error.err}); convert it to PNG or JPEG") from None
    if pixels is None:
        raise PictureError(f"{name}: not a readable image; convert it to PNG or JPEG")
    grey = pixels.ndim == 2
    if pixels.dtype == np.uint16:
        brightest = int(pixels.max()) if grey else 65535
        bits = next(bits for bits in _DEPTHS if brightest < 1 << bits)
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / ((1 << bits) - 1))
    if pixels.dtype != np.uint8:
        raise PictureError(f"{name}: an image of {pixels.dtype}, not of 8 or 16 bits; convert it to PNG or JPEG")
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB)


def damage(data: bytes) -> str:
    """What is wrong with the structure of a JPEG or PNG file, in words; "" for a whole one and for other formats.

    A JPEG (ITU-T T.81, annex B) must come to an end of image after its first scan; what lies behind it (a second
    picture, a video) is not looked at. A PNG's chunks must have their check sums and end with IEND. Bits that changed
    within a JPEG's scan cannot be told from a picture.
    """
    if not data:
        return "an empty file"
    if data.startswith(_JPEG_START):
        # from behind, where it is as a rule
        return "" if data.rfind(_JPEG_END, _first_scan(data)) >= 0 else "it ends too early"
    if data.startswith(_PNG_START):
        return _png_damage(data)
    return ""


def _first_scan(data: bytes) -> int:
    """Where a JPEG's first scan begins, behind the thumbnail that EXIF may hold; the file's end if there is none."""
    at = len(_JPEG_START)
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 4:  # decoders pass over what lies between segments
        marker = data[at + 1]
        if marker == 0xDA:
            return at
        # a fill byte, a marker that stands alone, or one with a segment behind it
        at += 1 if marker in (0x00, 0xFF) else 2
        if marker not in (0x00, 0x01, 0xFF) and not 0xD0 <= marker <= 0xD9:
            at += struct.unpack_from(">H", data, at)[0]
    return len(data)


def _png_damage(data: bytes) -> str:
    view, at = memoryview(data), len(_PNG_START)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"its part {kind.decode('latin-1')!r} has another check sum"
        if kind == b"IEND":
            return ""
        at = end + 4
    return "it ends too early"


def in_folder(folder: Path) -> list[Path]:
    """The folder's files with a picture's suffix, in counting order (2 before 10). Hidden files and folders are passed
    over. Raises OSError for a folder that cannot be read."""
    return sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir()),
        key=lambda path: counting(path.name),
    )


def counting(name: str) -> tuple[list[str | int], str]:
    """What names are sorted by so that the numbers in them count."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))], name


def check_writable(path: Path) -> None:
    """Raises ValueError unless a picture can be written to `path`: a known suffix in a folder that exists."""
    if not cv2.haveImageWriter(str(path)):
        raise ValueError(f"{path}: pictures cannot be written with that suffix; use .png or .jpg")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB. Raises ValueError naming the file if it cannot be written."""
    if not cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)):
        raise ValueError(f"{path}: cannot be written; is the folder writable?")
