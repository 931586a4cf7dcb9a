"""python -m jmceln_ros.tools.demo: camera and segment node as two processes, commands sent and answered over DDS.

Shows a photograph and a rendered table of like objects, or a picture of one's own; prints one line for each command and
writes the overlays to demo_output/. Ends with code 1 when an answer did not come.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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

from jmceln_core.synthesis import table_scene
from jmceln_ros.common import qos
from jmceln_ros.common.images import to_rgb
from jmceln_ros.common.sources import SourceError, open_source
from jmceln_ros.msg import Target
from jmceln_ros.tools.processes import NodeProcess, executable, isolate

PHOTO_COMMANDS = ("the cup", "the spoon", "the saucer under the cup", "the dog")  # the last one is not there
TABLE_COMMANDS = ("the blue mug", "the mug on the left", "the apple on the right", "the red apple")
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
        self._command = self.create_publisher(String, "/command", qos.COMMAND)
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


def run(
    shows: Callable[[], list[Show]], output: Path, *, model: str = "", device: str = "", timeout: float = 60.0
) -> int:
    """Runs the demo and returns the number of commands without an answer. Raises DemoError if a node does not come up.

    `shows` is called while the model loads: drawing a scene takes seconds too.
    """
    failures = 0
    parameters = {"model": model, "device": device}
    with (
        NodeProcess(executable("segment_node"), output / "segment_node.log", parameters=parameters) as segment,
        connected(Client) as client,
    ):
        print("segment_node: loading the model ...", flush=True)
        with explained(segment):
            pictures = shows()
            client.wait_until_active(segment, 180.0)
        for show in pictures:
            settings: dict[str, str | float] = {"source": str(show.picture), "rate": _RATE, "frame_id": show.name}
            with NodeProcess(executable("camera_node"), output / "camera_node.log", parameters=settings) as camera:
                print(f"{show.name}: {show.picture}", flush=True)
                with explained(camera):
                    client.wait_for_pictures(show.name, camera, timeout)
                for command in show.commands:
                    answer = client.ask(command, show.name, timeout)
                    if answer is None:
                        failures += 1
                        print(f"  {command!r:<34} NO ANSWER within {timeout:.0f} s (see {segment.log})", flush=True)
                        continue
                    path = save_overlay(output, show.name, command, answer)
                    print(f"  {line(command, answer)}  {path}", flush=True)
    return failures


def save_overlay(output: Path, name: str, command: str, answer: Answer) -> Path:
    """Writes the answer's overlay to the folder and returns the file."""
    path = output / f"{name}_{re.sub(r'[^a-z0-9]+', '_', command.lower()).strip('_')}.png"
    cv2.imwrite(str(path), answer.overlay[..., ::-1])
    return path


def line(command: str, answer: Answer) -> str:
    """An answer in one line."""
    target = answer.target
    where = "-" if math.isnan(target.centroid_u) else f"({target.centroid_u:.1f}, {target.centroid_v:.1f})"
    return (
        f"{command!r:<34} {_STATUS[target.status]:<14} score {target.score:.2f}  centroid {where:<16} "
        f"latency {answer.latency * 1e3:5.0f} ms (model {target.model_seconds * 1e3:.0f} ms)"
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
def explained(node: NodeProcess) -> Iterator[None]:
    """Shows a node's own last words with the error that it caused."""
    try:
        yield
    except DemoError as error:
        tail = "\n".join(node.output.splitlines()[-15:])
        raise DemoError(f"{error}; its log ({node.log}) ends with:\n{tail}") from error


def default_shows(output: Path) -> list[Show]:
    """scikit-image's photograph of a coffee cup, and the rendered table. Writes both to `output`."""
    from skimage import data

    photo, table = output / "photo.png", output / "table.png"
    cv2.imwrite(str(photo), data.coffee()[..., ::-1])
    cv2.imwrite(str(table), table_scene.render()[0][..., ::-1])
    return [Show("photo", photo, PHOTO_COMMANDS), Show("table", table, TABLE_COMMANDS)]


def own_show(image: Path, commands: Sequence[str]) -> list[Show]:
    """The user's picture (or folder, or video) with the user's commands. Raises DemoError if it cannot be read."""
    try:
        open_source(str(image)).close()
    except SourceError as error:
        raise DemoError(str(error)) from error
    return [Show("own", image.expanduser().resolve(), tuple(commands))]


def main(args: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jmceln_ros.tools.demo", description=__doc__)
    parser.add_argument("--image", type=Path, help="picture, folder or video to show instead of the demo's own two")
    parser.add_argument("--command", action="append", default=[], help="sentence to send; may be given several times")
    parser.add_argument(
        "--speech",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="speak instead: WAV files through speech_node, the demo's own or those of a folder",
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the overlays and the logs")
    parser.add_argument(
        "--model", default="", help="bundled model's name or checkpoint's path; default: the bundled one"
    )
    parser.add_argument("--device", default="", help="cpu, cuda, ...; default: the GPU if there is one")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for each answer")
    options = parser.parse_args(args)
    # Terminated like interrupted: by an exception, so that the children are taken down on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    isolate(1 + os.getpid() % 100)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        if options.command and (options.image is None or options.speech is not None):
            raise DemoError("--command needs --image: the demo's own pictures and recordings have their own commands")
        if options.image and not options.command and options.speech is None:
            raise DemoError("--image needs at least one --command: what is to be found in it?")
        own = own_show(options.image, options.command) if options.image else []
        shows = (lambda: own) if own else (lambda: default_shows(options.output))
        settings = {"model": options.model, "device": options.device, "timeout": options.timeout}
        if options.speech is None:
            failures = run(shows, options.output, **settings)
        else:
            from jmceln_ros.tools import spoken_demo  # which is made of this module

            failures = spoken_demo.run(lambda: shows()[0], options.speech, options.output, **settings)
    except (DemoError, FileNotFoundError) as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if failures:
        print(f"demo failed: {failures} of the commands were not answered", file=sys.stderr)
        return 1
    print(f"overlays and logs are in {options.output}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
