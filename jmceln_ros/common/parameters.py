"""Node parameters as dataclasses: one commented field a line, declared on a node with description, range and choices.

The dataclasses are the single place where names, defaults, ranges and descriptions stand: the nodes declare from them,
every change is checked against them, and `python -m jmceln_ros.common.parameters` prints docs/ros.md's tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from jmceln_core.speech.activity import ActivityConfig
from jmceln_core.speech.audio import RATES
from jmceln_core.speech.interpret import Interpreter, InterpreterConfig
from jmceln_core.speech.protocol import ENGINES

if TYPE_CHECKING:
    from rclpy.node import Node

Settings = TypeVar("Settings")


#: Names of quality of service profiles; jmceln_ros.common.qos, which needs ROS, says what they are.
PROFILE_NAMES = ("sensor_data", "latest", "stream", "reliable", "default", "latched", "system_default")

#: How samples may lie in the bytes of an AudioData, in GStreamer's names; jmceln_ros.speech.audio reads them.
SAMPLE_FORMATS = ("S8", "U8", "S16LE", "S16BE", "S32LE", "S32BE", "F32LE", "F32BE")


class ParameterProblem(ValueError):
    """A parameter value that is refused; the message says what is allowed."""


#: When a changed value takes effect; the middle two are lifecycle transitions.
AT_ONCE, AT_CONFIGURE, AT_ACTIVATE, AT_START = "at once", "at configure", "at activate", "at start"


def parameter(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    changes: str = AT_ONCE,
    name: str = "",
    any_type: bool = False,
    refuse: Callable[[Any], str] = lambda value: "",
) -> Any:
    """A dataclass field that is a node parameter.

    `low` and `high` (both or neither, inclusive) bound a number, `choices` lists a string's values. `changes` says when
    a new value takes effect; AT_START makes the parameter read-only. `name` is the parameter's if the field cannot have
    it (a dot). `any_type` accepts 0 where "0" is meant. `refuse` says what is allowed where a value is not, for what
    bounds cannot say.
    """
    return field(
        default=default,
        metadata={
            "description": description,
            "low": low,
            "high": high,
            "choices": choices,
            "changes": changes,
            "name": name,
            "any_type": any_type,
            "refuse": refuse,
        },
    )


def threshold(description: str) -> Any:
    """A parameter that goes before the checkpoint's own threshold when it is not negative."""
    return parameter(-1.0, f"{description}; negative is as the checkpoint says.", low=-1.0, high=1.0)


def profile(default: str, description: str, *, name: str) -> Any:
    """A parameter that names a quality of service (jmceln_ros.common.qos.PROFILES)."""
    return parameter(default, description, choices=PROFILE_NAMES, changes=AT_START, name=name)


def _no_rate(rate: int) -> str:
    """Why a microphone is not opened with this many samples per second."""
    fits = rate == 0 or RATES[0] <= rate <= RATES[1]
    return "" if fits else f"it must be 0, the device's own, or lie in {list(RATES)}"


def _no_words(phrase: str) -> str:
    """Why nobody can say this."""
    try:
        Interpreter(InterpreterConfig(wake_phrase=phrase))
    except ValueError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class SegmentSettings:
    """Parameters of segment_node."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", changes=AT_START
    )
    model: str = parameter("", "Name of a bundled model or path of a checkpoint; empty is the bundled model.")
    device: str = parameter("", "Where the model runs: cpu, cuda, cuda:1 ...; empty is the GPU if there is one.")
    precision: str = parameter(
        "", "Number format of the model; empty is fp32, the others need a GPU.", choices=("", "fp32", "bf16", "fp16")
    )
    image_transport: str = parameter(
        "raw",
        "raw subscribes to image (sensor_msgs/msg/Image), compressed to image/compressed "
        "(sensor_msgs/msg/CompressedImage: JPEG or PNG).",
        choices=("raw", "compressed"),
    )
    mode: str = parameter(
        "track",
        "track answers every frame for the command in force, once answers one frame for each command.",
        choices=("track", "once"),
    )
    max_rate: float = parameter(
        0.0, "At most this many answers per second, to leave room for others; 0 is no limit.", low=0.0, high=1000.0
    )
    max_frame_age: float = parameter(
        0.0,
        "Frames whose stamp is more seconds ago are dropped; 0 is no limit. A frame without a stamp is taken.",
        low=0.0,
        high=3600.0,
    )
    max_image_side: int = parameter(
        8192, "Images with a longer side (pixels) are refused as broken or far too big.", low=1, high=65535
    )
    mask_threshold: float = threshold("A pixel belongs to the mask where its probability is above this")
    presence_threshold: float = threshold("NOT_PRESENT where the probability that the thing is there is below this")
    confidence_threshold: float = threshold("LOW_CONFIDENCE where the score is below this")
    ambiguity_threshold: float = threshold(
        "AMBIGUOUS where the second-largest of two sure regions has more than this share of the largest one's area"
    )
    tracking: bool = parameter(
        True, "In mode track, hold the answers to a command together over time (docs/tracking.md)."
    )
    tracking_margin: float = parameter(
        0.15, "What is present stays so down to this much below the presence threshold.", low=0.0, high=1.0
    )
    tracking_patience: float = parameter(
        0.3, "What is present is absent after this many seconds below that.", low=0.0, high=60.0
    )
    tracking_gate: float = parameter(
        0.15,
        "A centroid farther off than this share of the diagonal is believed at the second time.",
        low=0.0,
        high=1.0,
    )
    tracking_smoothing: float = parameter(
        0.1, "Time constant of the mean of centroid and anchor, seconds; 0 is none.", low=0.0, high=60.0
    )
    tracking_mask_smoothing: float = parameter(
        0.3, "Time constant of the mean of the masks' probabilities, seconds; 0 is none.", low=0.0, high=60.0
    )
    follow: float = parameter(
        0.0,
        "With tracking, share of the last frame's final queries in the first ones of the next; 0 is none.",
        low=0.0,
        high=1.0,
    )
    jpeg_quality: int = parameter(80, "Quality of overlay/compressed; 100 is the best and largest.", low=1, high=100)
    depth: bool = parameter(False, "Subscribe to depth and camera_info and say where the target is in space.")
    depth_slop: float = parameter(
        0.05, "Depth image and frame belong together when their stamps differ by no more seconds.", low=0.0, high=10.0
    )
    target_frame: str = parameter("", "Child frame of a transform broadcast to the target's point; empty is none.")
    qos_image: str = profile("latest", "QoS of image and image/compressed.", name="qos.image")
    qos_depth: str = profile("sensor_data", "QoS of depth and camera_info.", name="qos.depth")
    qos_command: str = profile("default", "QoS of the commands.", name="qos.command")
    qos_result: str = profile("reliable", "QoS of everything published about a frame.", name="qos.result")


_ACTIVITY, _INTERPRETER = ActivityConfig(), InterpreterConfig()


@dataclass(frozen=True)
class SpeechSettings:
    """Parameters of speech_node."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", changes=AT_START
    )
    engine: str = parameter(
        ENGINES[0],
        "What makes text of speech (docs/speech.md).",
        choices=ENGINES,
        changes=AT_CONFIGURE,
    )
    engine_model: str = parameter(
        "",
        "Folder of another model for the engine, or a name that whisper knows; empty is the engine's own.",
        changes=AT_CONFIGURE,
    )
    device: str = parameter("", "Where the engine runs: cpu, cuda, cuda:1 ...; empty is the cpu.", changes=AT_CONFIGURE)
    threads: int = parameter(
        0, "Threads of the engine; 0 leaves that to the engine.", low=0, high=256, changes=AT_CONFIGURE
    )
    words: str = parameter(
        "",
        "Names of things, with spaces between, that the engine is to expect; empty is a list of common ones.",
        changes=AT_CONFIGURE,
    )
    source: str = parameter(
        "topic",
        "Where the sound comes from: topic, microphone, microphone:NAME or :NUMBER, or the path of a WAV file or of a "
        "folder of them.",
        changes=AT_ACTIVATE,
    )
    loop: bool = parameter(False, "Play a file or folder again at its end.", changes=AT_ACTIVATE)
    microphone_rate: int = parameter(
        0,
        "Samples per second of the microphone, at least 4000; 0 is the device's own.",
        low=0,
        high=RATES[1],
        changes=AT_ACTIVATE,
        refuse=_no_rate,
    )
    raw_rate: int = parameter(
        16000, "Samples per second of AudioData while no AudioInfo says so.", low=RATES[0], high=RATES[1]
    )
    raw_channels: int = parameter(1, "Channels of AudioData while no AudioInfo says so.", low=1, high=64)
    raw_format: str = parameter("S16LE", "Samples of AudioData while no AudioInfo says so.", choices=SAMPLE_FORMATS)
    threshold: float = parameter(
        _ACTIVITY.threshold,
        "Speech begins where it is at least this probable, and ends 0.15 below, at half of it where that is more.",
        low=0.05,
        high=0.95,
    )
    pause: float = parameter(_ACTIVITY.pause, "Seconds without speech that end an utterance.", low=0.1, high=5.0)
    padding: float = parameter(
        _ACTIVITY.padding, "Seconds that are kept before and after the speech.", low=0.0, high=2.0
    )
    max_utterance: float = parameter(
        _ACTIVITY.max_utterance, "What goes on for more seconds without a pause is refused.", low=1.0, high=30.0
    )
    min_confidence: float = parameter(
        _INTERPRETER.min_confidence, "What the engine is less sure of is refused.", low=0.0, high=1.0
    )
    max_latency: float = parameter(
        10.0,
        "A command that was said more seconds ago is refused, unless it ends one; 0 is no limit.",
        low=0.0,
        high=3600.0,
    )
    wake_phrase: str = parameter(
        _INTERPRETER.wake_phrase,
        "With it only what begins with these words is a command; empty is none.",
        refuse=_no_words,
    )
    wake_window: float = parameter(
        _INTERPRETER.wake_window, "Seconds that the wake phrase, said alone, holds for.", low=0.0, high=60.0
    )
    qos_audio: str = profile("stream", "QoS of the sound.", name="qos.audio")
    qos_command: str = profile("default", "QoS of the commands.", name="qos.command")
    qos_result: str = profile("reliable", "QoS of the transcripts.", name="qos.result")


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


def named(kind: type[Any]) -> dict[str, Field[Any]]:
    """The fields of `kind` by the names of their parameters."""
    return {spec.metadata["name"] or spec.name: spec for spec in fields(kind)}


def check(kind: type[Any], values: dict[str, Any]) -> str:
    """Why these values by parameter name are refused, or "" when they are fine. Unknown names are passed over."""
    for name, spec in named(kind).items():
        if name not in values:
            continue
        value, meta = values[name], spec.metadata
        if meta["choices"] and value not in meta["choices"]:
            return f"{name} is {value!r}; choose one of {', '.join(map(repr, meta['choices']))}"
        if meta["low"] is not None and not meta["low"] <= value <= meta["high"]:
            return f"{name} is {value}; it must lie in [{meta['low']}, {meta['high']}]"
        if reason := meta["refuse"](value):
            return f"{name} is {value!r}; {reason}"
    return ""


def changed(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with these values by parameter name; unknown names are passed over."""
    own = named(type(settings))
    return replace(settings, **{own[name].name: value for name, value in values.items() if name in own})  # type: ignore[type-var]


def declare(node: Node, kind: type[Settings]) -> Settings:
    """Declares every field of `kind` on the node and returns their values (launch and params file taken in).

    Raises ParameterProblem for a value that is not allowed.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    values = {}
    for name, spec in named(kind).items():
        meta = spec.metadata
        descriptor = ParameterDescriptor(
            description=meta["description"], dynamic_typing=meta["any_type"], read_only=meta["changes"] == AT_START
        )
        if meta["choices"]:
            descriptor.additional_constraints = "one of " + ", ".join(map(repr, meta["choices"]))
        if meta["low"] is not None and isinstance(spec.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=meta["low"], to_value=meta["high"])]
        elif meta["low"] is not None:
            descriptor.integer_range = [IntegerRange(from_value=meta["low"], to_value=meta["high"], step=1)]
        values[name] = node.declare_parameter(name, spec.default, descriptor).value
    problem = check(kind, values)
    if problem:
        raise ParameterProblem(f"parameter {problem}")
    return changed(kind(), values)


def table(kind: type[Any]) -> str:
    """A Markdown table of a node's parameters, for docs/ros.md."""
    lines = ["| parameter | type | default | range | changes | meaning |", "|---|---|---|---|---|---|"]
    for name, spec in named(kind).items():
        meta = spec.metadata
        allowed = (
            ", ".join(c or "(empty)" for c in meta["choices"])
            if meta["low"] is None
            else f"{meta['low']:g} to {meta['high']:g}"
        )
        lines.append(
            f"| `{name}` | {type(spec.default).__name__} | `{json.dumps(spec.default)}` | {allowed} | "
            f"{meta['changes']} | {meta['description']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    nodes = {"segment_node": SegmentSettings, "speech_node": SpeechSettings, "camera_node": CameraSettings}
    print("\n\n".join(f"### {node}\n\n{table(kind)}" for node, kind in nodes.items()))
