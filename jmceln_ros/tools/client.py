"""What both demos are made of: a client of the nodes that sends commands and collects answers, and what it shows."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from jmceln_ros.common import qos
from jmceln_ros.common.images import to_rgb
from jmceln_ros.msg import Target
from jmceln_ros.tools.processes import NodeProcess, executable

_RATE = 10.0  # Hz of the camera
_STATUS = {Target.FOUND: "FOUND", Target.NOT_PRESENT: "NOT_PRESENT", Target.LOW_CONFIDENCE: "LOW_CONFIDENCE"}
_STATUS[Target.AMBIGUOUS] = "AMBIGUOUS"


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True)
class Show:
    """A picture, and what is asked about it."""

    name: str
    picture: Path
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What came back for one command, and the seconds from sending the command to receiving it."""

    target: Target
    overlay: np.ndarray  # (H, W, 3) uint8 RGB
    latency: float


class Client(Node):
    """Sends commands and collects what segment_node answers."""

    def __init__(self) -> None:
        super().__init__("demo")
        self._command = self.create_publisher(String, "command", qos.COMMAND)
        self._states: dict[str, Any] = {}
        self._frames: set[str] = set()  # frame ids of the camera pictures seen
        self._targets: list[tuple[float, Target]] = []
        self._overlays: dict[tuple[int, int], Image] = {}
        self.create_subscription(Image, "/image", lambda m: self._frames.add(m.header.frame_id), qos.IMAGE_INPUT)
        self.create_subscription(Target, "/segment_node/target", self._on_target, qos.RESULT)
        self.create_subscription(Image, "/segment_node/overlay", self._on_overlay, qos.RESULT)

    def _on_target(self, message: Target) -> None:
        self._targets.append((time.monotonic(), message))

    def _on_overlay(self, message: Image) -> None:
        self._overlays[_stamp(message)] = message

    def wait_until_active(self, node: NodeProcess, timeout: float, *, name: str = "segment_node") -> None:
        """Returns when the node has its model and listens. Raises DemoError if it ends, fails or takes too long."""
        client = self._states.setdefault(name, self.create_client(GetState, f"/{name}/get_state"))
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if node.exit_code is not None:
                raise DemoError(f"{name} ended with code {node.exit_code}")
            future = client.call_async(GetState.Request())
            rclpy.spin_until_future_complete(self, future, timeout_sec=1.0)
            response = future.result() if future.done() else None
            state = response.current_state.id if response else State.PRIMARY_STATE_UNKNOWN
            if state == State.PRIMARY_STATE_ACTIVE:
                return
            # The node answers once its start is over: a state that is still unconfigured then is a failed one.
            if state == State.PRIMARY_STATE_UNCONFIGURED:
                raise DemoError(f"{name} could not load its model")
        raise DemoError(f"{name} was not ready after {timeout:.0f} s")

    def wait_for_pictures(self, frame_id: str, camera: NodeProcess, timeout: float) -> None:
        """Returns when a picture with that frame id has come. Raises DemoError if the camera ends or stays silent."""
        self.spin(lambda: frame_id in self._frames or camera.exit_code is not None, timeout)
        if frame_id not in self._frames:
            raise DemoError("camera_node published no picture")

    def ask(self, command: str, frame_id: str, timeout: float) -> Answer | None:
        """The first answer to the command that belongs to a picture with that frame id; None if none comes in time."""
        self.forget()
        begin = time.monotonic()
        self._command.publish(String(data=command))
        return self.answer(command, frame_id, begin, timeout)

    def forget(self) -> None:
        """Empties what was answered so far."""
        self._targets.clear()
        self._overlays.clear()

    def answer(self, command: str, frame_id: str, begin: float, timeout: float) -> Answer | None:
        """Waits for the answer to a command that somebody has sent at `begin` (time.monotonic()); None without one."""
        first: float | None = None
        answer: list[Answer] = []

        def answered() -> bool:
            nonlocal first
            for received, target in self._targets:
                if target.command == command and target.header.frame_id == frame_id:
                    first = first or received
                    overlay = self._overlays.get(_stamp(target))
                    if overlay is not None:
                        answer.append(Answer(target, to_rgb(overlay).copy(), first - begin))
                        return True
            return False

        self.spin(answered, timeout)
        return answer[0] if answer else None

    def spin(self, until: Callable[[], bool], timeout: float) -> None:
        """Receives until something holds or the time is over."""
        deadline = time.monotonic() + timeout
        while not until() and time.monotonic() < deadline:
            rclpy.spin_once(self, timeout_sec=0.1)


AnyClient = TypeVar("AnyClient", bound=Client)


def _stamp(message: Image | Target) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def save_overlay(output: Path, name: str, command: str, answer: Answer) -> Path:
    """Writes the answer's overlay to the folder and returns the file."""
    path = output / f"{name}_{re.sub(r'[^a-z0-9]+', '_', command.lower()).strip('_')}.png"
    cv2.imwrite(str(path), answer.overlay[..., ::-1])
    return path


def line(command: str, answer: Answer) -> str:
    """An answer in one line."""
    target = answer.target
    where = "-" if math.isnan(target.centroid_u) else f"({target.centroid_u:.1f}, {target.centroid_v:.1f})"
    several = f"  {len(target.instances)} things" if len(target.instances) > 1 else ""
    return (
        f"{command!r:<34} {_STATUS[target.status]:<14} score {target.score:.2f}  centroid {where:<16} "
        f"latency {answer.latency * 1e3:5.0f} ms (model {target.model_seconds * 1e3:.0f} ms){several}"
    )


@contextmanager
def connected(kind: type[AnyClient]) -> Iterator[AnyClient]:
    """A client of this kind on the ROS graph."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    client = kind()
    try:
        yield client
    finally:
        client.destroy_node()
        rclpy.shutdown()


@contextmanager
def shown(show: Show, client: Client, output: Path, timeout: float) -> Iterator[None]:
    """camera_node publishes the picture from here to the end of the `with`. Raises DemoError if none comes."""
    settings: dict[str, str | float] = {"source": str(show.picture), "rate": _RATE, "frame_id": show.name}
    with NodeProcess(executable("camera_node"), output / "camera_node.log", parameters=settings) as camera:
        print(f"{show.name}: {show.picture}", flush=True)
        with explained(camera):
            client.wait_for_pictures(show.name, camera, timeout)
        yield


@contextmanager
def explained(node: NodeProcess) -> Iterator[None]:
    """Shows a node's own last words with the error that it caused."""
    try:
        yield
    except DemoError as error:
        tail = "\n".join(node.output.splitlines()[-15:])
        raise DemoError(f"{error}; its log ({node.log}) ends with:\n{tail}") from error
