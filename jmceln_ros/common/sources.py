"""camera_node without ROS: its parameters, and its source, an image, a folder of images, a video file or a webcam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from jmceln_core import pictures
from jmceln_core.pictures import PictureError
from jmceln_ros.common.parameters import AT_START, parameter


@dataclass(frozen=True)
class CameraSettings:
    """Parameters of camera_node."""

    source: str = parameter(
        "",
        "An image, a folder of images, a video file, or a webcam's number (0) or device path.",
        any_type=True,
        changes=AT_START,
    )
    rate: float = parameter(
        0.0,
        "Pictures per second; 0 is the video's own rate, and 10 where there is none.",
        low=0.0,
        high=1000.0,
        changes=AT_START,
    )
    loop: bool = parameter(True, "Start again at the end; false ends the node after the last one.", changes=AT_START)
    frame_id: str = parameter(
        "camera_optical_frame", "Frame of the pictures' headers (REP-103: z forward, x right).", changes=AT_START
    )


class SourceError(RuntimeError):
    """A source that gives no pictures; the message names it and the remedy."""


class Source(Protocol):
    """A stream of pictures. `rate` is its own pace in Hz, 0 where it has none."""

    name: str
    rate: float

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 BGR pictures, from the first to the last. A webcam ends when it fails."""
        ...

    def close(self) -> None:
        """Lets the device or file go."""
        ...


def open_source(source: str) -> Source:
    """The source a text names: the path of an image, of a folder of images or of a video, or a webcam's number.

    Raises SourceError, naming the source, when it does not exist or gives no picture.
    """
    source = source.strip()
    if not source:
        raise SourceError("no source given; set the parameter source to an image, a folder, a video or a webcam number")
    if source.isdigit() or source.startswith("/dev/"):
        return _Webcam(source)
    try:
        path = Path(source).expanduser()
        exists = path.exists()
        files = pictures.in_folder(path) if path.is_dir() else None
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that may not be read
        raise SourceError(f"{source}: cannot be read ({getattr(error, 'strerror', error)})") from None
    if not exists:
        raise SourceError(f"{path}: there is no such file or folder; give an absolute path or check the spelling")
    if files is not None:
        if not files:
            raise SourceError(f"{path}: no images in this folder; it looks for {', '.join(sorted(pictures.SUFFIXES))}")
        return _Images(str(path), files)
    if path.suffix.lower() in pictures.SUFFIXES:
        return _Images(str(path), [path])
    return _Video(path)


class _Images:
    """Image files in a fixed order, upright as their EXIF says. One that cannot be read ends the stream with an error:
    a folder is either whole or says what is broken."""

    rate = 0.0

    def __init__(self, name: str, files: list[Path]) -> None:
        self.name = name
        self._files = files
        self._cached = _read(files[0])  # so that a broken source fails at start, and a single image is read once

    def frames(self) -> Iterator[np.ndarray]:
        yield self._cached
        for file in self._files[1:]:
            yield _read(file)

    def close(self) -> None:
        pass


class _Video:
    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._capture = cv2.VideoCapture(self.name)
        if not self._capture.isOpened() or not self._capture.grab():
            raise SourceError(
                f"{path}: OpenCV cannot read this as a video; convert it (ffmpeg -i IN -c:v mjpeg OUT.avi), "
                f"and name images with one of {', '.join(sorted(pictures.SUFFIXES))}"
            )
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0.0 < rate <= 1000.0 else 0.0  # containers without a rate report 0, nan or nonsense

    def frames(self) -> Iterator[np.ndarray]:
        # Opened anew instead of rewound: seeking is not exact in every container.
        self._capture.open(self.name)
        while True:
            read, picture = self._capture.read()
            if not read:
                return
            yield picture

    def close(self) -> None:
        self._capture.release()


class _Webcam:
    rate = 0.0

    def __init__(self, device: str) -> None:
        self.name = f"webcam {device}"
        self._capture = cv2.VideoCapture(int(device) if device.isdigit() else device)
        if not self._capture.isOpened():
            raise SourceError(
                f"{self.name} cannot be opened; see which there are with `ls /dev/video*`, whether another program "
                "holds it, and whether this user is in the group video"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a picture that waited in the driver would carry a late stamp

    def frames(self) -> Iterator[np.ndarray]:
        while True:
            read, picture = self._capture.read()
            if not read:
                raise SourceError(f"{self.name} stopped giving pictures; check the cable and the power of the USB port")
            yield picture

    def close(self) -> None:
        self._capture.release()


def _read(path: Path) -> np.ndarray:
    try:
        return cv2.cvtColor(pictures.read_picture(path), cv2.COLOR_RGB2BGR)
    except PictureError as error:
        raise SourceError(f"{error}; replace it or take it out of the folder") from None
