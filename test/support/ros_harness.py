"""What the ROS tests share: a probe that plays camera, person and robot (conftest.py gives them a domain)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import rclpy.parameter
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String

from jmceln_ros.common import qos
from jmceln_ros.common.images import fill_image
from jmceln_ros.msg import Target
from jmceln_ros.srv import Segment

COLOUR_NODE = [sys.executable, str(Path(__file__).with_name("ros_colour_node.py"))]
START_TIMEOUT = 180.0  # seconds for a process to come up: importing torch on a busy machine
TIMEOUT = 20.0


class Probe(Node):
    """Publishes images and commands, keeps every Target, mask, overlay and camera image it receives.

    `of` is the node whose services are called and whose diagnostics are kept.
    """

    def __init__(
        self, context: rclpy.Context, namespace: str = "", command: str = "command", of: str = "segment_node"
    ) -> None:
        super().__init__("probe", context=context, namespace=namespace)
        self._of = of
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)
        self.camera = self.create_publisher(Image, "image", qos.IMAGE_OUTPUT)
        self.person = self.create_publisher(String, command, qos.COMMAND)
        self.targets: list[Target] = []
        self.masks: list[Image] = []
        self.overlays: list[Image] = []
        self.statuses: list[DiagnosticStatus] = []
        self.active: list[str] = []
        self.images: list[Image] = []
        self.create_subscription(Target, "segment_node/target", self.targets.append, qos.RESULT)
        self.create_subscription(Image, "segment_node/mask", self.masks.append, qos.RESULT)
        self.create_subscription(String, "segment_node/active_command", self._on_active, qos.STATE)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.RESULT)
        self._count = 0
        self._get_state = self.create_client(GetState, f"{of}/get_state")
        self._asked: tuple[float, Any] = (0.0, None)  # when for the state, monotonic, and what will have the answer

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = f"{self.get_namespace().rstrip('/')}/{self._of}:"
        self.statuses += [status for status in message.status if status.name.startswith(own)]

    def _on_active(self, message: String) -> None:
        self.active.append(message.data)

    def forget(self) -> None:
        """Empties what was received."""
        for received in (self.targets, self.masks, self.overlays, self.images):
            received.clear()

    def watch_overlay(self) -> None:
        """Subscribes to the overlay, which is drawn only then."""
        self.create_subscription(Image, "segment_node/overlay", self.overlays.append, qos.RESULT)

    def watch_images(self) -> None:
        """Subscribes to the camera topic."""
        self.create_subscription(Image, "image", self.images.append, qos.IMAGE_INPUT)

    def until(self, ready: Callable[[], Any], timeout: float = TIMEOUT, *, every: float = 0.0, do: Any = None) -> Any:
        """Spins until `ready()` is truthy and returns that; calls `do()` at the start and each `every` seconds."""
        deadline = time.monotonic() + timeout
        due = 0.0
        while time.monotonic() < deadline:
            if do is not None and time.monotonic() >= due:
                do()
                due = time.monotonic() + (every or timeout)
            if result := ready():
                return result
            self._executor.spin_once(timeout_sec=0.02)
        raise AssertionError(f"not within {timeout} s")

    def spin(self, seconds: float) -> None:
        """Receives for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def connected(self) -> bool:
        """Whether segment_node is active and its topics are there; to images it subscribes when it has a command."""
        if not (self.person.get_subscription_count() and self.count_publishers("segment_node/target")):
            return False
        at, future = self._asked
        if future is None or future.done() or time.monotonic() > at + 1.0:  # some are lost: to a killed node, at first
            self._asked = time.monotonic(), self._get_state.call_async(GetState.Request())
        return future is not None and future.done() and future.result().current_state.id == State.PRIMARY_STATE_ACTIVE

    def call(self, kind: Any, service: str, **request: Any) -> Any:
        """Calls a service of the node and returns the response."""
        client = self.create_client(kind, f"{self._of}/{service}")
        self.until(client.service_is_ready, START_TIMEOUT)
        future = client.call_async(kind.Request(**request))
        self.until(future.done, START_TIMEOUT)
        self.destroy_client(client)
        return future.result()

    def set_parameter(self, name: str, value: str | float) -> str:
        """Sets one parameter of the node; returns "" or the reason of the refusal."""
        parameter = rclpy.parameter.Parameter(name, value=value).to_parameter_msg()
        (result,) = self.call(SetParameters, "set_parameters", parameters=[parameter]).results
        return "" if result.successful else result.reason

    def diagnosed(self, level: bytes, said: str, timeout: float = TIMEOUT) -> dict[str, str]:
        """Waits for a diagnostic of this level and with these words, and returns its values."""
        self.statuses.clear()
        status = self.until(
            lambda: next((s for s in self.statuses if s.level == level and said in s.message), None), timeout
        )
        return {pair.key: pair.value for pair in status.values}

    def ask(self, text: str, image: Image | None = None) -> Segment.Response:
        """Calls ~/segment."""
        return self.call(Segment, "segment", command=text, image=image or Image())

    def change(self, transition: int) -> bool:
        """Asks for a lifecycle transition; returns whether it was made."""
        return self.call(ChangeState, "change_state", transition=Transition(id=transition)).success

    def state(self) -> int:
        """The id of the node's lifecycle state; asked anew every two seconds, for one answer may be lost while the node
        comes up and does not know this client yet."""
        client = self.create_client(GetState, f"{self._of}/get_state")
        self.until(client.service_is_ready, START_TIMEOUT)
        asked: list[Any] = []
        answered = lambda: next((future for future in asked if future.done()), None)  # noqa: E731
        ask = lambda: asked.append(client.call_async(GetState.Request()))  # noqa: E731
        future = self.until(answered, START_TIMEOUT, every=2.0, do=ask)
        self.destroy_client(client)
        return future.result().current_state.id

    def image(self, pixels: np.ndarray, encoding: str = "rgb8", frame_id: str = "") -> Image:
        """An image message stamped now; a frame id of its own if none is given."""
        self._count += 1
        message = Image()
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = frame_id or f"frame_{self._count}"
        fill_image(message, pixels, encoding)
        return message

    def command(self, text: str) -> None:
        """Sends a command and waits until the node has it.

        Sent again when that takes long: after a node was killed, its like may be listening or not yet.
        """
        self.active.clear()
        self.until(lambda: text in self.active, every=3.0, do=lambda: self.person.publish(String(data=text)))

    def show(self, message: Image, *, timeout: float = TIMEOUT) -> Target:
        """Publishes an image, as often as needed (image transport is best effort), and returns its Target."""
        self.until(self.camera.get_subscription_count)  # a command makes it one
        return self.until(
            lambda: next((t for t in self.targets if t.header == message.header), None),
            timeout,
            every=1.0,
            do=lambda: self.camera.publish(message),
        )


@contextmanager
def probing(namespace: str = "", command: str = "command", of: str = "segment_node") -> Iterator[Probe]:
    """A probe with a context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    probe = Probe(context, namespace, command, of)
    try:
        yield probe
    finally:
        probe.destroy_node()
        rclpy.shutdown(context=context)


def patches() -> np.ndarray:
    """(48, 64, 3) uint8 RGB: a red patch at the left, a blue one at the right, grey elsewhere."""
    picture = np.full((48, 64, 3), 90, np.uint8)
    picture[10:20, 5:25] = (220, 20, 30)
    picture[30:40, 40:60] = (10, 40, 210)
    return picture


def mask_of(message: Image) -> np.ndarray:
    """(H, W) uint8 of a mono8 message."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
