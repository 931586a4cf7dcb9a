"""Node parameters as dataclasses: one commented field a line, declared on a node with description, range and choices.

The dataclasses are the single place where names, defaults, ranges and descriptions stand: the nodes declare from them,
every change is checked against them, and `python -m jmceln_ros.parameters` prints docs/ros.md's tables from them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rclpy.node import Node

Settings = TypeVar("Settings")


class ParameterProblem(ValueError):
    """A parameter value that is refused; the message says what is allowed."""


def parameter(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
    any_type: bool = False,
) -> Any:
    """A dataclass field that is a node parameter.

    `low` and `high` (both or neither, inclusive) bound a number, `choices` lists a string's values. A `live` parameter
    takes effect at once; the others are read when the node is configured. `any_type` accepts 0 where "0" is meant.
    """
    return field(
        default=default,
        metadata={
            "description": description,
            "low": low,
            "high": high,
            "choices": choices,
            "live": live,
            "any_type": any_type,
        },
    )


@dataclass(frozen=True)
class SegmentSettings:
    """Parameters of segment_node."""

    autostart: bool = parameter(True, "Configure and activate at start; false leaves that to a lifecycle manager.")
    model: str = parameter("", "Name of a bundled model or path of a checkpoint; empty is the bundled model.")
    device: str = parameter("", "Where the model runs: cpu, cuda, cuda:1 ...; empty is the GPU if there is one.")
    precision: str = parameter(
        "", "Number format of the model; empty is fp32, the others need a GPU.", choices=("", "fp32", "bf16", "fp16")
    )
    compressed: bool = parameter(
        False, "Subscribe to image/compressed (sensor_msgs/msg/CompressedImage: JPEG or PNG) instead of image."
    )
    mode: str = parameter(
        "track",
        "track answers every frame for the command in force, once answers one frame for each command.",
        choices=("track", "once"),
        live=True,
    )
    max_rate: float = parameter(
        0.0,
        "At most this many answers per second, to leave room for others; 0 is no limit.",
        low=0.0,
        high=1000.0,
        live=True,
    )
    max_image_side: int = parameter(
        8192, "Images with a longer side (pixels) are refused as broken or far too big.", low=1, high=65535, live=True
    )


@dataclass(frozen=True)
class CameraSettings:
    """Parameters of camera_node."""

    source: str = parameter(
        "", "An image, a folder of images, a video file, or a webcam's number (0) or device path.", any_type=True
    )
    rate: float = parameter(
        0.0, "Pictures per second; 0 is the video's own rate, and 10 where there is none.", low=0.0, high=1000.0
    )
    loop: bool = parameter(True, "Start again at the end; false ends the node after the last picture.")
    frame_id: str = parameter("camera_optical_frame", "Frame of the pictures' headers (REP-103: z forward, x right).")


def check(kind: type[Any], values: dict[str, Any]) -> str:
    """Why these parameter values are refused, or "" when they are fine. Names that `kind` lacks are passed over."""
    for spec in fields(kind):
        if spec.name not in values:
            continue
        value, meta = values[spec.name], spec.metadata
        if meta["choices"] and value not in meta["choices"]:
            return f"{spec.name} is {value!r}; choose one of {', '.join(map(repr, meta['choices']))}"
        if meta["low"] is not None and not meta["low"] <= value <= meta["high"]:
            return f"{spec.name} is {value}; it must lie in [{meta['low']}, {meta['high']}]"
    return ""


def declare(node: Node, kind: type[Settings]) -> Settings:
    """Declares every field of `kind` on the node and returns their values (launch and params file taken in)."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    values = {}
    for spec in fields(kind):  # type: ignore[arg-type]
        meta = spec.metadata
        descriptor = ParameterDescriptor(description=meta["description"], dynamic_typing=meta["any_type"])
        if meta["choices"]:
            descriptor.additional_constraints = "one of " + ", ".join(map(repr, meta["choices"]))
        if meta["low"] is not None and isinstance(spec.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=meta["low"], to_value=meta["high"])]
        elif meta["low"] is not None:
            descriptor.integer_range = [IntegerRange(from_value=meta["low"], to_value=meta["high"], step=1)]
        values[spec.name] = node.declare_parameter(spec.name, spec.default, descriptor).value
    problem = check(kind, values)
    if problem:
        raise ParameterProblem(f"parameter {problem}")
    return kind(**values)


def table(kind: type[Any]) -> str:
    """A Markdown table of a node's parameters, for docs/ros.md."""
    lines = ["| parameter | type | default | range | changes | meaning |", "|---|---|---|---|---|---|"]
    for spec in fields(kind):
        meta = spec.metadata
        allowed = (
            ", ".join(c or "(empty)" for c in meta["choices"])
            if meta["low"] is None
            else f"{meta['low']:g} to {meta['high']:g}"
        )
        when = "at once" if meta["live"] else "at configure"
        lines.append(
            f"| `{spec.name}` | {type(spec.default).__name__} | `{json.dumps(spec.default)}` | {allowed} | {when} | "
            f"{meta['description']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"### segment_node\n\n{table(SegmentSettings)}\n\n### camera_node\n\n{table(CameraSettings)}")
