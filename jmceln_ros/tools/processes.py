"""Nodes as processes of their own, without the launch system: for the demo and the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix


def isolate(domain: int) -> None:
    """Keeps this process and its children apart from every robot on the network. Call it before `rclpy.init`."""
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    if os.environ.get("ROS_DISTRO") == "humble":  # knows the older variable only; later ones warn about it
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


def executable(name: str) -> list[str]:
    """The command that runs an executable of this package as colcon installed it.

    Raises FileNotFoundError, saying how to build, when there is none.
    """
    try:
        path = Path(get_package_prefix("jmceln_ros")) / "lib" / "jmceln_ros" / name
    except PackageNotFoundError:
        path = Path("lib/jmceln_ros") / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not installed; build with `colcon build` and source install/setup.bash")
    return [sys.executable, str(path)]


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Lets SIGINT and SIGTERM take effect at the end: one that came while a process starts would lose hold of it."""
    pending: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, _: pending.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        for came in pending:
            signal.raise_signal(came)


class NodeProcess:
    """A node's process, from `with` to its end; standard output and error go to the file `log`.

    It leaves the `with` by SIGINT, as from Ctrl-C, and by SIGKILL when that does not end it within `patience` seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        parameters: Mapping[str, str | float | bool] | None = None,
        remappings: Mapping[str, str] | None = None,
        patience: float = 15.0,
    ) -> None:
        self.log = log
        self.patience = patience
        self._command = [*command, "--ros-args"]
        for name, value in (parameters or {}).items():
            # Parameter values are YAML, of which JSON is a part: quoted, "0" and "" stay strings.
            self._command += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
        for name, value in (remappings or {}).items():
            self._command += ["-r", f"{name}:={value}"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NodeProcess:
        try:
            with self.log.open("wb") as log, _signals_deferred():
                # A session of its own: Ctrl-C in the terminal reaches the parent only, which then ends its children.
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException:
            if self._process is not None:
                self.interrupt()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.interrupt()

    @property
    def exit_code(self) -> int | None:
        """The process's exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What the node has logged so far."""
        return self.log.read_text(errors="replace")

    def interrupt(self) -> int:
        """Ends the process as Ctrl-C does and returns its exit code (-9 when it had to be killed)."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(self.patience)
            except subprocess.TimeoutExpired:
                pass
            finally:  # also when a second Ctrl-C ends the waiting
                if self._process.poll() is None:
                    self._process.kill()
        return self._process.wait()

    def kill(self) -> None:
        """Ends the process without warning, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
