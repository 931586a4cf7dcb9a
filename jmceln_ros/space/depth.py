"""Where a mask is in space: a depth image registered to the camera's image, and the camera's calibration.

*Registered* means that a pixel of the depth image and the pixel at the same place of the colour image look along the
same ray (`aligned_depth_to_color`, `depth_registered`). Points are in the camera's optical frame (REP-103): metres,
x right, y down, z forward; depth is z, not the distance.

The functions read any object with the fields of sensor_msgs/Image and CameraInfo, so nothing here imports ROS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np

from jmceln_ros.common.images import ImageError, ImageMessage, check_size, plane

#: REP-118: the encoding names the unit, here by numpy's type. mono16 is what 16UC1 becomes on its way through some
#: drivers and cv_bridge; depth_image_proc takes it for 16UC1 too.
DEPTH_TYPES = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
_MILLIMETRE = 0.001

# A surface's depths, sorted, have no holes: a bin of this relative width (4 cm at 1 m) with less than this share of the
# pixels is one. Sensor noise (1 % at 4 m) stays within a bin; the few pixels that a sensor invents between a thing and
# what is behind it are spread over many.
_BIN = 0.04
_HOLE = 0.01
# Of a large thing every second, third ... row and column is read: this many pixels tell a median well enough.
_ENOUGH = 20_000

# What drivers call an image without distortion, as words of a topic's name.
_RECTIFIED = {"rect", "rectified", "undistorted"}

# CameraInfo's distortion models, with how many numbers OpenCV takes for each.
_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


class CalibrationError(ValueError):
    """A CameraInfo that gives no ray for a pixel; the message says why."""


class DepthMessage(ImageMessage, Protocol):
    """The fields of sensor_msgs/Image, with the header."""

    header: Any


class CameraInfoMessage(Protocol):
    """The fields of sensor_msgs/CameraInfo that are read here."""

    height: int
    width: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    p: Sequence[float]
    binning_x: int
    binning_y: int
    roi: Any  # sensor_msgs/RegionOfInterest


def samples(message: ImageMessage, *, max_side: int = 8192) -> np.ndarray:
    """A depth message's pixels as they were sent, (H, W), without a copy: uint16 millimetres or float32 metres.

    Rows may be padded, and either byte order is read. Raises ImageError for an encoding that is not depth, sizes of 0
    or beyond `max_side`, and data shorter than announced.
    """
    if message.encoding not in DEPTH_TYPES:
        raise ImageError(
            f"depth image encoding {message.encoding!r} is not supported; publish one of {', '.join(DEPTH_TYPES)} "
            "(REP-118), or set the depth topic to the camera's registered depth"
        )
    height, width = int(message.height), int(message.width)
    check_size(height, width, max_side)
    dtype = np.dtype((">" if message.is_bigendian else "<") + DEPTH_TYPES[message.encoding])
    raw = plane(message, (height, width, dtype.itemsize), int(message.step))
    return raw.view(dtype)[..., 0]


def metres(depth: np.ndarray, scale: float = 0.0) -> np.ndarray:
    """float32 metres, with NaN where there is no depth: 0, NaN, infinities, below 0, and an integer type's largest.

    One unit of `depth` is `scale` metres; with 0 it is as REP-118 has it: integers are millimetres, floats metres.
    """
    values = depth.astype(np.float32)
    integer = depth.dtype.kind in "ui"
    known = values < (np.iinfo(depth.dtype).max if integer else np.inf)
    known &= values > 0
    if scale or integer:
        values *= np.float32(scale or _MILLIMETRE)
    values[~known] = np.nan
    return values


@dataclass(frozen=True)
class Intrinsics:
    """The ray of every pixel of one image.

    `width` and `height` are the image's, in pixels; 0 where the driver did not say. `distortion` is D of CameraInfo,
    empty for an image without distortion; `fisheye` says that it follows the equidistant model.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int = 0
    height: int = 0
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    @classmethod
    def of(cls, info: CameraInfoMessage, *, rectified: bool = False) -> Intrinsics:
        """The calibration of an image that comes with `info`.

        One CameraInfo serves the image as the sensor saw it (image_raw) and the one that image_proc has rectified
        (image_rect): K and D describe the first, the left 3x3 part of P the second. A driver's own image is of the
        first kind, and so is depth aligned to it; `is_rectified` tells by the topic's name. Where there is no
        distortion both agree, unless P also stands for a stereo pair's common focal length. P's fourth column, the
        second camera's shift, is not applied: points are in the image's own frame, as in depth_image_proc.

        K and P are those of the full sensor; region of interest and binning, in this order, lead to the image. A
        binned pixel is the middle of those it stands for.

        Raises CalibrationError where K is zero, which by CameraInfo.msg is an uncalibrated camera, and for a distortion
        model that is neither plumb_bob, rational_polynomial nor equidistant.
        """
        matrix, row = (info.p, 4) if rectified and info.p[0] else (info.k, 3)
        fx, cx, fy, cy = (float(matrix[at]) for at in (0, 2, row + 1, row + 2))
        if not (fx > 0 and fy > 0 and all(map(math.isfinite, (fx, fy, cx, cy)))):
            raise CalibrationError(
                "the camera is not calibrated: its camera_info has no focal length; run camera_calibration, or set the "
                "driver's camera_info_url"
            )
        distortion = tuple(float(value) for value in info.d)
        if rectified or not any(distortion):
            distortion = ()
        elif info.distortion_model not in _MODELS or len(distortion) not in _MODELS[info.distortion_model]:
            raise CalibrationError(
                f"the distortion model {info.distortion_model!r} with {len(distortion)} numbers is not known "
                f"({', '.join(_MODELS)} are); rectify the images with image_proc"
            )
        full = cls(
            fx,
            fy,
            cx - info.roi.x_offset,
            cy - info.roi.y_offset,
            int(info.roi.width or info.width),
            int(info.roi.height or info.height),
            distortion,
            bool(distortion) and info.distortion_model == "equidistant",
        )
        x, y = max(1, int(info.binning_x)), max(1, int(info.binning_y))
        return full._scaled(1 / x, 1 / y, full.width // x, full.height // y)

    def resized(self, width: int, height: int) -> Intrinsics:
        """The same view in an image of another size."""
        if not (self.width and self.height):
            return replace(self, width=width, height=height)
        return self._scaled(width / self.width, height / self.height, width, height)

    def ray(self, u: float, v: float) -> tuple[float, float]:
        """x / z and y / z of the points that are seen at (u, v); (0, 0) is the centre of the top left pixel."""
        if not self.distortion:
            return (u - self.cx) / self.fx, (v - self.cy) / self.fy
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        x, y = undistort(np.array([[[u, v]]], np.float64), matrix, np.array(self.distortion)).ravel()
        return float(x), float(y)

    def _scaled(self, x: float, y: float, width: int, height: int) -> Intrinsics:
        # Coordinates count from the centre of a pixel, sizes from its edge: half a pixel lies between.
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return replace(self, fx=self.fx * x, fy=self.fy * y, cx=cx, cy=cy, width=width, height=height)


def is_rectified(topic: str) -> bool:
    """Whether a topic's name says that its images are rectified.

    By the last part of the name that says anything: `image_rect`, `image_rect_color` (image_pipeline), `image_rect_raw`
    (RealSense), `rect/image` (ZED), `rectified/left/image`; `raw` alone, or no word, says no.
    """
    for part in reversed(topic.split("/")):
        words = set(part.lower().split("_"))
        if words & _RECTIFIED:
            return True
        if "raw" in words:
            return False
    return False


@dataclass(frozen=True)
class Located:
    """`point` (x, y, z) in metres in the optical frame, or None and the `reason` in words."""

    point: tuple[float, float, float] | None
    reason: str = ""


def locate(
    mask: np.ndarray,
    depth: np.ndarray,
    intrinsics: Intrinsics,
    *,
    erode: float = 3.0,
    least: int = 10,
    share: float = 1 / 3,
    scale: float = 0.0,
    near: float = 0.0,
    far: float = math.inf,
) -> Located:
    """A point on the thing under `mask`, (H, W) bool, from `depth`, (h, w) as `samples` or `metres` give it.

    Depth near an outline is a mixture, so `erode` pixels are taken off the mask, but at most half of the way to its
    middle: a thin thing stays. Where fewer than `least` pixels of the rest have depth, the whole mask is read.

    A mask has holes and errors behind which something else is seen. So the depths are parted into surfaces, at gaps
    of about 4 %, and the nearest one that has at least `share` and `least` of the pixels is the thing: what is seen
    through it or past it is farther away. The point lies on the ray through the middle of that surface's pixels, or,
    where the middle is not on it (a ring), through the middle of the part nearest to that; its z is the median depth of
    the tenth of the surface's pixels, at least `least`, around the ray.

    Depth nearer than `near` or beyond `far` metres is of no surface, but counts in the share: where a thing is mostly
    out of range, the little behind it is not taken for it. `scale` is that of `metres`.

    Everything is counted in pixels of the depth image, which may have another size than the mask if it has the same
    aspect ratio: the mask is read at the place nearest to each depth pixel. The calibration's image may, too. Of
    things larger than 20000 pixels every second, third ... row and column is read.
    """
    if not mask.any():
        return Located(None, "the mask is empty")
    for what, (height, width) in (
        ("the depth image", depth.shape),
        ("the image that camera_info describes", (intrinsics.height, intrinsics.width)),
    ):
        if width and height and not _same_aspect(mask.shape, (height, width)):
            return Located(
                None,
                f"{what} has {width}x{height} pixels, this image {mask.shape[1]}x{mask.shape[0]}: not the same view; "
                "use depth that is registered to this image, and the image's own camera_info",
            )
    view = intrinsics if intrinsics.width and intrinsics.height else intrinsics.resized(*mask.shape[::-1])
    view = view.resized(*depth.shape[::-1])
    inside, values, corner, step = _cut_out(mask, depth, scale)
    if not inside.any():
        return Located(None, "the thing is smaller than a pixel of the depth image")
    valid = inside & ~np.isnan(values)
    core = valid & _eroded(inside, erode / step)
    v, u = np.nonzero(core if np.count_nonzero(core) >= least else valid)
    if len(u) < least:
        return Located(
            None,
            f"{len(u)} of the thing's {np.count_nonzero(inside)} pixels have depth, {least} are needed; it may be too "
            "small, too near, too far, shiny or transparent for the depth camera",
        )
    z = values[v, u]
    fits = (z >= near) & (z <= far)
    needed = max(least, share * len(z))
    if np.count_nonzero(fits) < needed:
        out = z[~fits]
        return Located(
            None,
            f"{'' if not fits.any() else f'{len(out) / len(z):.0%} of '}the depth under the mask is {out.min():.2f} to "
            f"{out.max():.2f} m, outside depth_min {near:g} to depth_max {far:g}: check depth_scale",
        )
    u, v, z = u[fits], v[fits], z[fits]
    surface = _nearest_surface(z, needed)
    if surface is None:
        return Located(
            None,
            f"the depth under the mask is scattered from {z.min():.2f} to {z.max():.2f} m: no surface has {share:.0%} "
            f"of its {len(fits)} pixels, at least {least}",
        )
    column, row, forward = _aim(u[surface], v[surface], z[surface], least)
    x, y = view.ray(corner[0] + step * column, corner[1] + step * row)
    if not (math.isfinite(x) and math.isfinite(y)):
        return Located(None, "the distortion in camera_info leaves no ray for the thing; calibrate the camera anew")
    return Located((x * forward, y * forward, forward))


def point_of(
    mask: np.ndarray,
    depth: DepthMessage | None,
    info: CameraInfoMessage | None,
    *,
    frame_id: str = "",
    rectified: bool = False,
    max_side: int = 8192,
    **options: Any,
) -> Located:
    """`locate` from the messages as they came, None where none did; whatever is wrong with them is the reason.

    `frame_id` is that of the mask's image: depth in another frame is not registered to it. Empty is not compared.
    """
    if depth is None:
        return Located(None, "no depth image has come")
    if info is None:
        return Located(None, "no camera_info for this image")
    if frame_id and depth.header.frame_id not in ("", frame_id):
        return Located(
            None,
            f"the depth image is of the frame {depth.header.frame_id!r}, this image of {frame_id!r}: subscribe to "
            "depth that is registered to this image (aligned_depth_to_color, depth_registered)",
        )
    try:
        return locate(mask, samples(depth, max_side=max_side), Intrinsics.of(info, rectified=rectified), **options)
    except (ImageError, CalibrationError) as error:
        return Located(None, str(error))


def _same_aspect(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two images of (height, width) have the same shape, to a pixel of the smaller one."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(one[0], other[0])


def _cut_out(mask: np.ndarray, depth: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, tuple[int, int], int]:
    """The mask and the depth in metres in the mask's box, on every `step`-th row and column of the depth image.

    Also the first column and row, and `step`. Both are empty where the box lies between pixels of the depth image.
    """
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask, bool).view(np.uint8))
    area = np.count_nonzero(mask) * depth.size / mask.size
    step = max(1, math.isqrt(int(area / _ENOUGH)))
    rows, mask_rows = _nearest(depth.shape[0], mask.shape[0], top, height, step)
    columns, mask_columns = _nearest(depth.shape[1], mask.shape[1], left, width, step)
    inside = np.ascontiguousarray(np.asarray(mask, bool)[mask_rows][:, mask_columns])
    values = metres(depth[rows.start : rows.stop : step, columns.start : columns.stop : step], scale)
    return inside, values, (columns.start, rows.start), step


def _nearest(pixels: int, mask_pixels: int, start: int, length: int, step: int) -> tuple[range, np.ndarray]:
    """Along one axis, the depth pixels to whose centres the nearest mask pixel is one of `length` from `start` on.

    And that mask pixel for every `step`-th of them.
    """
    nearest = (2 * np.arange(pixels) + 1) * mask_pixels // (2 * pixels)
    first, last = np.searchsorted(nearest, (start, start + length))
    return range(int(first), int(last)), nearest[first:last:step]


def _eroded(mask: np.ndarray, pixels: float) -> np.ndarray:
    """The mask without its outermost `pixels`, but at most half of the way to its middle; outside is background."""
    framed = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    return np.asarray(distance > min(pixels, float(distance.max(initial=0)) / 2))


def _nearest_surface(z: np.ndarray, needed: float) -> np.ndarray | None:
    """(N,) bool: which of the depths z, (N,) metres, belong to the nearest surface with `needed` pixels; or None."""
    bins = np.floor(np.log(z) / _BIN).astype(np.intp)
    bins -= bins.min()
    counts = np.bincount(bins)
    filled = counts > _HOLE * len(z)
    # Bins in a row are one surface; they share a number, counted from 1.
    numbers = np.cumsum(np.diff(filled, prepend=False) & filled)
    sizes = np.bincount(numbers[filled], weights=counts[filled])
    large = np.flatnonzero(sizes >= needed)
    return (filled & (numbers == large[0]))[bins] if len(large) else None


def _aim(u: np.ndarray, v: np.ndarray, z: np.ndarray, least: int) -> tuple[float, float, float]:
    """A place (u, v) in the middle of a surface's pixels, (N,) each, and the median depth around it."""

    def around(place: tuple[float, float]) -> np.ndarray:
        """The tenth of the pixels that is nearest to a place."""
        count = max(least, len(z) // 10)
        return np.argpartition(np.hypot(u - place[0], v - place[1]), count - 1)[:count]

    place = float(u.mean()), float(v.mean())
    distance = np.hypot(u - place[0], v - place[1])
    if distance.min() > 1:  # beside the surface: into the middle of the part that is nearest
        part = around((u[distance.argmin()], v[distance.argmin()]))
        middle = part[np.hypot(u[part] - u[part].mean(), v[part] - v[part].mean()).argmin()]
        place = float(u[middle]), float(v[middle])
    return (*place, float(np.median(z[around(place)])))
