"""How late an answer is, apart from the model: `python -m jmceln_ros.tools.benchmark [--seconds N] [--rows NAME ...]`.

For every row a camera, segment_node and a receiver, three processes, over DDS on this machine. The model is one that
takes no time, or sleeps for a known one, so what is measured is everything else: the transport of the image, its
decoding, taking it up, filling the Target, and the transport of that; the node's parameter `target_mask` is at its
default, so that the Target has no mask, and nobody listens to ~/mask. Fast DDS gets config/fastdds.xml, which
large images need (docs/ros.md); `--profile none` leaves it at its defaults. The first row has no
segment_node: the image alone, from the camera to the receiver, is the floor that this machine sets.

Prints a Markdown table. The exit code is 1 when a target is missed, 2 when nothing could be measured.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rclpy
from ament_index_python.packages import get_package_share_directory
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from jmceln_core.markdown import table
from jmceln_ros.common import fastdds, qos
from jmceln_ros.common.images import fill_image
from jmceln_ros.common.lifecycle import run
from jmceln_ros.msg import Target
from jmceln_ros.tools.processes import NodeProcess, isolate

if TYPE_CHECKING:
    from jmceln_core import Segmentation, Segmenter
    from jmceln_ros.segment.settings import SegmentSettings

WARM_SECONDS = 3.0  # after the first answer, before counting: allocators, the middleware's buffers, discovery
MEMORY_MIB_PER_MINUTE = 2.0  # growth of the node's memory that passes for none; a leaked VGA frame a second is 53
_PATIENCE = 120.0  # seconds for the processes to come up: importing torch on a busy machine


class BenchmarkError(RuntimeError):
    """Nothing can be measured; the message says why."""


@dataclass(frozen=True)
class Row:
    """A camera in front of a model, and how late its answers may be (milliseconds)."""

    name: str
    width: int
    height: int
    rate: float  # Hz of the camera
    model: float  # seconds the model sleeps
    median_ms: float = math.inf
    p99_ms: float = math.inf
    transport_ms: float = math.inf
    tracking: bool = False  # the node's parameter: answers held together over time, at a price
    direct: bool = False  # no node: the receiver takes the camera's images themselves

    @property
    def max_ms(self) -> float:
        """What a frame may wait for the model to be free, until the next one comes, and for its and its answer's way.

        The bound of the age of an answered frame less the model's time: nothing queues up, however slow the model is.
        """
        return 1e3 / self.rate + self.transport_ms


#: What is measured: a model that keeps up with the camera and one that does not, with small and large images.
ROWS = (
    Row("vga-transport", 640, 480, 30.0, 0.0, direct=True),
    Row("vga", 640, 480, 30.0, 0.0, median_ms=3.0, p99_ms=10.0),
    Row("vga-tracking", 640, 480, 30.0, 0.0, tracking=True),
    Row("vga-slow-model", 640, 480, 60.0, 1.0, transport_ms=10.0),
    Row("hd", 1920, 1080, 30.0, 0.0),
    Row("hd-slow-model", 1920, 1080, 60.0, 1.0, transport_ms=20.0),
)


@dataclass
class Recording:
    """What a receiver noted, one entry for each answer, and the node's memory by the second."""

    received: list[float] = field(default_factory=list)  # seconds, system time
    stamp: list[float] = field(default_factory=list)  # the same clock: when the camera published
    model: list[float] = field(default_factory=list)  # seconds
    latency: list[float] = field(default_factory=list)  # seconds from stamp to publication of the Target
    frame: list[int] = field(default_factory=list)  # the camera's count
    memory: list[tuple[float, int]] = field(default_factory=list)  # (seconds, bytes)

    def note(self, target: Target) -> None:
        """A Target, received now."""
        self.received.append(time.time())
        self.stamp.append(target.header.stamp.sec + 1e-9 * target.header.stamp.nanosec)
        self.model.append(target.model_seconds)
        self.latency.append(target.latency)
        self.frame.append(int(target.header.frame_id))

    def note_image(self, image: Image) -> None:
        """An image, received now, straight from the camera."""
        self.note(Target(header=image.header))


@dataclass(frozen=True)
class Result:
    """A row's figures. Milliseconds from the camera's publication to the receiver's callback, less the model's time."""

    row: Row
    seconds: float
    answers: int
    dropped: int  # frames published between the first and the last answered one that got no answer
    median_ms: float
    p99_ms: float
    max_ms: float
    node_median_ms: float  # the part of the median up to the publication of the Target
    growth: float  # of the node's memory, bytes a second by least squares

    @property
    def missed(self) -> list[str]:
        """The targets that were not reached, in words."""
        row = self.row
        bounds = (
            ("median", self.median_ms, row.median_ms, "ms"),
            ("99th percentile", self.p99_ms, row.p99_ms, "ms"),
            ("age of an answered frame less the model's time", self.max_ms, row.max_ms, "ms"),
            ("memory growth", self.growth_mib_per_minute, MEMORY_MIB_PER_MINUTE, "MiB a minute"),
        )
        return [
            f"{row.name}: {name} {value:.2f} {unit}, allowed {bound:.2f}"
            for name, value, bound, unit in bounds
            if not value < bound
        ]

    @property
    def growth_mib_per_minute(self) -> float:
        """`growth` in the unit of the table."""
        return self.growth * 60 / 2**20


def evaluate(row: Row, recording: Recording) -> Result:
    """The figures of a recording. Raises BenchmarkError when there are fewer than two answers."""
    if len(recording.received) < 2:
        raise BenchmarkError(f"{row.name}: {len(recording.received)} answers came; measure for longer (--seconds)")
    received, stamp, model = (np.array(v) for v in (recording.received, recording.stamp, recording.model))
    late = 1e3 * (received - stamp - model)
    return Result(
        row=row,
        seconds=received[-1] - received[0],
        answers=len(received),
        dropped=recording.frame[-1] - recording.frame[0] + 1 - len(received),
        median_ms=float(np.median(late)),
        p99_ms=float(np.percentile(late, 99)),
        max_ms=float(late.max()),
        node_median_ms=float(np.median(1e3 * (np.array(recording.latency) - model))),
        growth=slope(recording.memory),
    )


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """By least squares, how much the second number of the pairs grows while the first grows by one; 0 for one pair."""
    x, y = np.array(samples, float).reshape(-1, 2).T
    x = x - x.mean() if len(x) else x
    return float(x @ y / (x @ x)) if x.any() else 0.0


def markdown(results: Sequence[Result]) -> str:
    """A table of the results, a line each."""
    header = ["camera", "model", "seconds", "answers/s", "frames passed over", "median", "99 %", "max"]
    header += ["of the median in the node", "memory growth"]
    rows = []
    for result in results:
        row = result.row
        model = "no node" if row.direct else f"{row.model:g} s" + ", tracking" * row.tracking
        inside = "-" if row.direct else f"{result.node_median_ms:.2f} ms"
        rows.append((
            f"{row.width}x{row.height}, {row.rate:g} Hz", model, f"{result.seconds:.0f}",
            f"{(result.answers - 1) / result.seconds:.1f}", result.dropped,
            *(f"{ms:.2f} ms" for ms in (result.median_ms, result.p99_ms, result.max_ms)), inside,
            f"{result.growth_mib_per_minute:+.2f} MiB/min",
        ))  # fmt: skip
    return "\n".join(table(header, rows))


class Receiver(Node):
    """The robot's side: gives the command, notes when answers come."""

    def __init__(self, *, direct: bool = False) -> None:
        super().__init__("receiver")
        self.recording = Recording()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._person = self.create_publisher(String, "command", qos.COMMAND)
        self._state: Any = self.create_client(GetState, "/segment_node/get_state")
        if direct:
            self.create_subscription(Image, "image", lambda i: self.recording.note_image(i), qos.IMAGE_INPUT)
        else:
            self.create_subscription(Target, "/segment_node/target", lambda t: self.recording.note(t), qos.RESULT)

    def until(self, ready: Callable[[], Any], what: str, node: NodeProcess) -> None:
        """Receives until `ready()`. Raises BenchmarkError naming `what` if it takes too long or the node ends."""
        deadline = time.monotonic() + _PATIENCE
        while not ready():
            if node.exit_code is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"no {what}; {node.log.name} has:\n{node.output}")
            self._executor.spin_once(timeout_sec=0.1)

    def wait_until_active(self, node: NodeProcess) -> None:
        """Returns when segment_node answers images and has the command."""

        def active() -> bool:
            future = self._state.call_async(GetState.Request())
            self._executor.spin_until_future_complete(future, timeout_sec=0.5)
            return future.done() and future.result().current_state.id == State.PRIMARY_STATE_ACTIVE

        self.until(active, "active segment_node", node)
        self.until(self._person.get_subscription_count, "subscriber of the command", node)
        self._person.publish(String(data="the red mug"))

    def record(self, seconds: float, node: NodeProcess) -> Recording:
        """What is received from now on, and what memory the node takes."""
        self.recording = Recording()
        end, due = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < end:
            if now >= due:
                self.recording.memory.append((now, own_memory(node.pid)))
                due = now + 1.0
            self._executor.spin_once(timeout_sec=0.1)
        return self.recording


def own_memory(pid: int) -> int:
    """Bytes in RAM that are a process's own, without files and shared memory (Linux: RssAnon)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return 1024 * int(value.split()[0])
    raise BenchmarkError(f"process {pid} has ended")


def default_profile() -> Path:
    """config/fastdds.xml, of the checkout or as colcon installed it."""
    checkout = Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"
    return checkout if checkout.is_file() else Path(get_package_share_directory("jmceln_ros")) / "config/fastdds.xml"


def measure(row: Row, seconds: float, folder: Path) -> Result:
    """Runs a row's processes, their logs in `folder`, and returns the figures. Call `rclpy.init` before."""
    settings: dict[str, str | float | bool] = {"model": str(row.model), "tracking": row.tracking}
    node = NodeProcess(_process("null_node"), folder / f"{row.name}_node.log", parameters=settings)
    stream: dict[str, str | float | bool] = {"width": row.width, "height": row.height, "rate": row.rate}
    camera = NodeProcess(_process("camera"), folder / f"{row.name}_camera.log", parameters=stream)
    receiver = Receiver(direct=row.direct)
    try:
        if row.direct:
            with camera:
                receiver.until(lambda: receiver.recording.received, "image", camera)
                receiver.record(WARM_SECONDS, camera)
                return evaluate(row, receiver.record(seconds, camera))
        with node:
            receiver.wait_until_active(node)
            with camera:
                receiver.until(lambda: receiver.recording.received, "answer", node)
                receiver.record(WARM_SECONDS, node)
                return evaluate(row, receiver.record(seconds, node))
    finally:
        receiver.destroy_node()


def _process(function: str) -> list[str]:
    return [sys.executable, "-c", f"from jmceln_ros.tools.benchmark import {function}; {function}()"]


class Camera(Node):
    """One picture again and again, stamped when it is published, with its number for a frame id."""

    def __init__(self) -> None:
        super().__init__("camera")
        width: int = self.declare_parameter("width", 640).value
        height: int = self.declare_parameter("height", 480).value
        rate: float = self.declare_parameter("rate", 30.0).value
        self._message = Image()
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        fill_image(self._message, noise, "bgr8")
        self._count = 0
        self._publisher = self.create_publisher(Image, "image", qos.IMAGE_OUTPUT)
        self.create_timer(1.0 / rate, self._tick)

    def _tick(self) -> None:
        self._count += 1
        self._message.header.frame_id = str(self._count)
        self._message.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(self._message)


def camera() -> None:
    """The camera's process."""
    run(Camera, "camera")


def null_node() -> None:
    """segment_node's process, with a model that sleeps for as many seconds as the parameter `model` says."""
    from jmceln_ros.segment_node import SegmentNode

    run(lambda: SegmentNode(null_segmenter), "segment_node")


def null_segmenter(settings: SegmentSettings) -> Segmenter:
    """A Segmenter without a network: every answer is the same box, a quarter of the picture."""
    from jmceln_core import Segmenter  # not above: the receiver is a robot's process, without torch
    from jmceln_core.answer import RawAnswer, decide
    from jmceln_core.config import ModelConfig

    class NullSegmenter(Segmenter):
        def __init__(self, seconds: float) -> None:  # no network, hence no super().__init__()
            self.config = ModelConfig(name="null")
            self.decision = self.config.decision
            self._seconds = seconds
            self.forget()

        def forget(self) -> None:
            self._size = 0, 0
            self._answer: Segmentation | None = None

        def set_image(self, rgb: np.ndarray) -> None:
            if rgb.shape[:2] != self._size:
                height, width = self._size = rgb.shape[:2]
                likelihood = np.zeros((height, width), np.float32)
                likelihood[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1.0
                self._answer = decide(RawAnswer(likelihood, None, None), self.decision, probability=True)

        def segment(self, text: str, **_: Any) -> Segmentation:
            if self._seconds:
                time.sleep(self._seconds)
            assert self._answer is not None
            return self._answer

    return NullSegmenter(float(settings.model))


def _machine() -> str:
    from jmceln_core.evaluation.machine import describe  # imports torch: after the measuring

    found = describe()
    ros = f"ROS {os.environ.get('ROS_DISTRO', '?')}, {rclpy.get_rmw_implementation_identifier()}"
    return f"Machine: cpu {found['cpu']}, cores {found['cores']}. {ros}, Python {platform.python_version()}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_ros.tools.benchmark", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="to measure for each row (default: 60)")
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--profile", default=str(default_profile()), help="file of Fast DDS's settings, or none")
    options = parser.parse_args(arguments)
    # Terminated like interrupted: by an exception, so that the children are taken down on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.profile != "none":
        # before rclpy.init, for this process and those it starts
        os.environ[fastdds.variable()] = str(Path(options.profile).resolve())
    isolate(1 + os.getpid() % 50)  # the tests take those beyond
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    results = []
    try:
        with tempfile.TemporaryDirectory(prefix="jmceln_ros_benchmark_") as folder:
            os.environ.setdefault("ROS_LOG_DIR", folder)
            for row in (row for row in ROWS if row.name in options.rows):
                print(f"{row.name}: {options.seconds:g} s ...", file=sys.stderr, flush=True)
                results.append(measure(row, options.seconds, Path(folder)))
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.shutdown()
    print(f"{_machine()} Fast DDS profile: {Path(options.profile).name}.\n\n{markdown(results)}")
    missed = [line for result in results for line in result.missed]
    print("\n" + ("\n".join(f"MISSED {line}" for line in missed) or "Every target is met."))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
