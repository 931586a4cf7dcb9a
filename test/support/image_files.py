"""Image files as cameras and programs write them, made of an array of pixels."""

from __future__ import annotations

import cv2
import numpy as np


def encoded(ending: str, rgb: np.ndarray, *options: int) -> bytes:
    """The bytes of an (H, W, 3) RGB or (H, W) grey picture in the format of the ending."""
    pixels = rgb if rgb.ndim == 2 else np.ascontiguousarray(rgb[..., ::-1])
    return cv2.imencode(ending, pixels, options)[1].tobytes()


def with_exif(jpeg: bytes, orientation: int, thumbnail: bytes = b"") -> bytes:
    """The JPEG with an EXIF segment that names the orientation (1 to 8), and a thumbnail behind it."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation]) + bytes(6) + thumbnail
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
