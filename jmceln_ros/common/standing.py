"""What is in force, kept in a file while the process lives: for the one that comes when it ends without being asked."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# Of a longer command its beginning is kept, in characters: enough to know it by, and no file grows beyond all bounds.
_LONGEST = 4096


@dataclass(frozen=True)
class Order:
    """What people have said to a node: whether to answer, and which command (empty: none)."""

    enabled: bool = True
    command: str = ""


class Standing:
    """The file of one node, by its full name and the ROS domain, in `folder`; empty is ROS_HOME, or ~/.ros.

    `before` is what was in force when the last process of that name ended without `close` since the machine was
    started; None if it closed, or another process of that name is alive. Where no file can be kept `problem` says why,
    and the rest has no effect.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.before: Order | None = None
        self.problem = ""
        home = folder or Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
        domain = os.environ.get("ROS_DOMAIN_ID") or "0"
        self._path = home / "jmceln_ros" / f"{name.strip('/').replace('/', '.')}-{domain}.json"
        self._file: int | None = None
        self._kept: Order | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                # the kernel lets it go with the process, however it ends
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
                raise
            self._file = file
            self.before = _read(file)
        except OSError as error:
            self.problem = f"{self._path}: {error.strerror or error}"

    def keep(self, order: Order) -> None:
        """Makes this what is in force. Of a command beyond 4096 characters the beginning is kept."""
        order = replace(order, command=order.command[:_LONGEST])
        if self._file is not None and order != self._kept:
            text = json.dumps({"boot": _boot(), **asdict(order)}).encode()
            with suppress(OSError):  # a full disk costs the memory, not the node
                os.pwrite(self._file, text, 0)
                os.ftruncate(self._file, len(text))
            self._kept = order

    def close(self) -> None:
        """Forgets it: the process ends because it was asked to."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = None


def _read(file: int) -> Order | None:
    """What the file says; None when it is empty, no longer true or broken."""
    try:
        # What follows a shorter text was not yet cut off.
        said, _ = json.JSONDecoder().raw_decode(os.pread(file, 1 << 20, 0).decode())
        order = Order(bool(said["enabled"]), str(said["command"]))
        return order if said["boot"] == _boot() else None
    except (ValueError, KeyError, TypeError):
        return None


def _boot() -> str:
    """Which start of the machine this is; empty where it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
