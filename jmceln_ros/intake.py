"""What the node works on next: the newest frame together with the command in force, one job at a time.

Callbacks put frames and commands in and never wait; one worker takes jobs out. A frame that is overtaken by a newer one
before the worker is free is dropped, so the answer is never older than one frame plus one inference however slow the
model is. Frame and command leave together under one lock: no job mixes an old command's text with a new one's number.
"""

from __future__ import annotations

import threading
import time
import unicodedata
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Frame = TypeVar("Frame")


@dataclass(frozen=True)
class Command:
    """A sentence as it was received: its text, its arrival time (whatever the node's clock gives) and its number."""

    text: str
    arrival: Any
    sequence: int


@dataclass(frozen=True)
class Job(Generic[Frame]):
    """One frame to be answered for one command."""

    frame: Frame
    command: Command


class Intake(Generic[Frame]):
    """One place for a frame, one for a command.

    `mode` "track": the command stays in force and every frame taken up is answered for it. "once": it is answered with
    one frame and then waits for no more. `max_rate` bounds the jobs per second (0: no bound). Both may change any time.

    A new intake is closed: it keeps commands but no frames until `open`.
    """

    def __init__(self, *, mode: str = "track", max_rate: float = 0.0) -> None:
        self.mode = mode
        self.max_rate = max_rate
        self.dropped = 0  # frames overtaken before they could be taken up, while a command was in force
        self._changed = threading.Condition()
        self._open = False
        self._frame: Frame | None = None
        self._command: Command | None = None
        self._sequence = 0
        self._earliest = 0.0  # monotonic seconds before which no job may start, for max_rate

    @property
    def active(self) -> Command | None:
        """The command in force."""
        with self._changed:
            return self._command

    def open(self) -> None:
        """Takes frames from now on."""
        with self._changed:
            self._open = True

    def close(self) -> None:
        """Forgets the waiting frame, takes no more, and makes every `take` return None. The command is kept."""
        with self._changed:
            self._open = False
            self._frame = None
            self._changed.notify_all()

    def put(self, frame: Frame) -> None:
        """Offers a frame; it replaces the one still waiting."""
        with self._changed:
            if not self._open:
                return
            if self._frame is not None and self._command is not None:
                self.dropped += 1
            self._frame = frame
            self._changed.notify_all()

    def order(self, text: str, arrival: Any) -> Command | None:
        """Puts a new command in force and returns it; a blank text ends the one in force and returns None.

        Blank is white space and invisible characters alone. Commands are numbered from 1 in the order they come, blank
        ones included.
        """
        with self._changed:
            self._sequence += 1
            self._command = None if _blank(text) else Command(text, arrival, self._sequence)
            self._changed.notify_all()
            return self._command

    def take(self) -> Job[Frame] | None:
        """Waits for a frame and a command, and for `max_rate`, and returns both; None once the intake is closed."""
        with self._changed:
            while self._open:
                pause = self._earliest - time.monotonic()
                if self._frame is None or self._command is None:
                    self._changed.wait()
                elif pause > 0:
                    self._changed.wait(pause)
                else:
                    job = Job(self._frame, self._command)
                    self._frame = None
                    if self.max_rate > 0:
                        self._earliest = time.monotonic() + 1.0 / self.max_rate
                    return job
            return None

    def done(self, job: Job[Frame]) -> bool:
        """Says that the job was answered; in mode "once" its command, if still in force, is served and ends (True)."""
        with self._changed:
            served = self.mode == "once" and self._command is job.command
            if served:
                self._command = None
            return served


def _blank(text: str) -> bool:
    """Whether nothing is left of the text once Segmenter has taken white space, control and format characters away."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in text)
