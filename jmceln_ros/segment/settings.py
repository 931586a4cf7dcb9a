"""Parameters of segment_node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jmceln_ros.common.parameters import AT_START, parameter, profile


def threshold(description: str) -> Any:
    """A parameter that goes before the checkpoint's own threshold when it is not negative."""
    return parameter(-1.0, f"{description}; negative is as the checkpoint says.", low=-1.0, high=1.0)


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
    lazy: bool = parameter(
        True,
        "Subscribe to images (depth, camera_info) only while there is something to answer; false is all the time "
        "while the node is active.",
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
    target_mask: str = parameter(
        "none",
        "The mask in target: none (it is on mask, with the same header), cropped to the box, or full.",
        choices=("none", "cropped", "full"),
    )
    jpeg_quality: int = parameter(80, "Quality of overlay/compressed; 100 is the best and largest.", low=1, high=100)
    depth: bool = parameter(False, "Subscribe to depth and camera_info and say where the target is in space.")
    depth_slop: float = parameter(
        0.05, "Depth image and frame belong together when their stamps differ by no more seconds.", low=0.0, high=10.0
    )
    depth_scale: float = parameter(
        0.0,
        "Metres per unit of the depth image; 0 is as REP-118 says: integers are millimetres, floats metres.",
        low=0.0,
        high=1000.0,
    )
    depth_min: float = parameter(
        0.05, "Depth nearer than so many metres is no thing's; 0 is no limit.", low=0.0, high=100000.0
    )
    depth_max: float = parameter(
        65.0, "Depth beyond so many metres is no thing's; 0 is no limit.", low=0.0, high=100000.0
    )
    rectified: str = parameter(
        "auto",
        "Whether the images are without distortion, so that P of camera_info is theirs, not K and D; auto goes by the "
        "topic's name.",
        choices=("auto", "true", "false"),
    )
    guesses: bool = parameter(
        False, "Publish point and detections of guesses (LOW_CONFIDENCE, AMBIGUOUS) as well as of what is FOUND."
    )
    target_frame: str = parameter("", "Child frame of a transform broadcast to the target's point; empty is none.")
    qos_image: str = profile("best_available", "QoS of image and image/compressed.", name="qos.image")
    qos_depth: str = profile("best_available", "QoS of depth and camera_info.", name="qos.depth")
    qos_command: str = profile("default", "QoS of the commands.", name="qos.command")
    qos_result: str = profile("reliable", "QoS of everything published about a frame.", name="qos.result")
