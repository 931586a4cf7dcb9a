"""What the node works on next: the newest frame together with the command in force, or a question asked beside it.

Callbacks put frames, commands and questions in and never wait; one worker takes jobs out. A frame that is overtaken by
a newer one before the worker is free is dropped, so the answer is never older than one frame plus one inference however
slow the model is. Frame and command leave together under one lock: no job mixes an old command's text with a new one's
number.
"""

from __future__ import annotations

import math
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

Frame = TypeVar("Frame")

#: Questions that wait for the worker; more would wait longer than anyone who asks does. When all of them are refused at
#: once, who asked must have room for the answers: ten in rmw's profile for clients.
MAX_QUESTIONS = 8

# A frame that waits for its time is looked at again after so many seconds: max_rate may be another one by then.
_LONGEST_WAIT = 1.0


class Unanswerable(RuntimeError):
    """A question that gets no answer; the message says why and what to do about it."""


@dataclass(frozen=True)
class Command:
    """A sentence as it was received: its text, its arrival time (whatever the node's clock gives) and its number."""

    text: str
    arrival: Any
    sequence: int


@dataclass(frozen=True)
class Job(Generic[Frame]):
    """One frame to be answered for one command; `reply` is set for a question and takes its answer to who asked."""

    frame: Frame
    command: Command
    reply: Callable[[Any], None] | None = None


class Intake(Generic[Frame]):
    """One place for a frame, one for a command, a short queue of questions.

    `mode` "track": the command stays in force and every frame taken up is answered for it. "once": it is answered with
    one frame and then waits for no more. `max_rate` bounds the jobs per second (0: no bound); a frame older than
    `max_frame_age` seconds (0: no bound) is not taken up. `age` gives a frame's age in seconds, nan if it is not known.
    All these may change any time. `on_drop` is told why, in a word or two, whenever a frame is given up while there is
    a command to answer; it must not call the intake.

    A new intake is closed: it keeps commands but no frames until `open`.
    """

    def __init__(
        self,
        *,
        mode: str = "track",
        max_rate: float = 0.0,
        max_frame_age: float = 0.0,
        age: Callable[[Frame], float] = lambda frame: math.nan,
        on_drop: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.mode = mode
        self.max_rate = max_rate
        self.max_frame_age = max_frame_age
        self._age = age
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._open = False
        self._paused = False
        self._frame: Frame | None = None  # waits to be taken up
        self._newest: Frame | None = None  # the last that came, for questions
        self._command: Command | None = None
        self._sequence = 0
        self._questions: deque[Job[Frame]] = deque()
        self._waiting: list[tuple[float, Job[Any]]] = []  # questions that lack something, and until when
        self._asked_last = False  # whether the last job taken was a question: then it is the stream's turn
        self._taken = -math.inf  # when the last frame was taken up, monotonic seconds
        self._rested = 0.0  # until when `rest` holds frames back

    @property
    def active(self) -> Command | None:
        """The command in force."""
        with self._changed:
            return self._command

    @property
    def paused(self) -> bool:
        """Whether nothing is taken out for now; commands and frames still come in."""
        return self._paused

    @property
    def waiting(self) -> bool:
        """Whether a question waits for a frame to come."""
        return any(question.frame is None for _, question in self._waiting)

    def open(self) -> None:
        """Takes frames and questions from now on."""
        with self._changed:
            self._open = True

    def close(self) -> list[Job[Frame]]:
        """Forgets the frames, takes no more, and makes every `take` return None. The command is kept.

        Returns the questions that will not be answered.
        """
        with self._changed:
            self._open = False
            self._frame = self._newest = None
            return self._give_up_questions()

    def pause(self, paused: bool) -> list[Job[Frame]]:
        """Stops handing out jobs, or goes on; returns the questions that will not be answered."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()
            return self._give_up_questions() if paused else []

    def put(self, frame: Frame) -> None:
        """Offers a frame; it replaces the one still waiting."""
        with self._changed:
            if not self._open:
                return
            if self._frame is not None and self._command is not None and not self._paused:
                self._on_drop("overtaken")
            self._frame = self._newest = frame
            if self._waiting and not self._stale(frame):
                for question in self._part(lambda _, question: question.frame is None):
                    self._questions.append(replace(question, frame=frame))
            self._changed.notify_all()

    def forget(self) -> None:
        """Lets go of the frames, as when no more will come for a while."""
        with self._changed:
            self._frame = self._newest = None

    def order(self, text: str, arrival: Any) -> Command:
        """Puts a new command in force and returns it; one with a blank text ends the one in force.

        Blank is white space and invisible characters alone. Commands are numbered from 1 in the order they come, blank
        ones included.
        """
        with self._changed:
            self._sequence += 1
            command = Command(text, arrival, self._sequence)
            self._command = None if blank(text) else command
            self._changed.notify_all()
            return command

    def ask(
        self,
        text: str,
        arrival: Any,
        reply: Callable[[Any], None],
        frame: Frame | None = None,
        *,
        patience: float = 0.0,
    ) -> None:
        """Asks about one frame beside the stream: the newest that came unless one is given.

        Without either it waits up to `patience` seconds for the next one (`waiting`); `overdue` has it after that. With
        one it waits as long for what belongs to it (`complete`), and is then answered without. The question's command
        has the number 0; a blank text asks for the command in force, with its own number.

        Raises Unanswerable if there is no frame, no command, or nobody to answer.
        """
        with self._changed:
            if not self._open:
                raise Unanswerable("the node is not active: activate it first (ros2 lifecycle set NODE activate)")
            if self._paused:
                raise Unanswerable("the node is disabled: call its service enable with true first")
            command = self._command if blank(text) else Command(text, arrival, 0)
            if command is None:
                raise Unanswerable("the sentence is blank and no command is in force: say what to look for")
            if len(self._questions) + len(self._waiting) >= MAX_QUESTIONS:
                raise Unanswerable(f"{MAX_QUESTIONS} questions wait already: ask again later")
            if frame is None:
                frame = self._newest
                if frame is None and patience > 0:
                    self._waiting.append((time.monotonic() + patience, Job(None, command, reply)))
                    return
                if frame is None:
                    raise Unanswerable("no image has come yet: check the camera and its topic, or send an image along")
                if self._stale(frame):
                    raise Unanswerable(
                        f"the newest image is {self._age(frame):.1f} s old, more than max_frame_age ("
                        f"{self.max_frame_age:g} s): check the camera, or send an image along"
                    )
            elif patience > 0:
                self._waiting.append((time.monotonic() + patience, Job(frame, command, reply)))
                return
            self._questions.append(Job(frame, command, reply))
            self._changed.notify_all()

    def complete(self, whether: Callable[[Frame], bool]) -> None:
        """Waits no longer for what belongs to the frames of which `whether` says so, as to questions with their own."""
        with self._changed:
            self._questions += self._part(lambda _, question: question.frame is not None and whether(question.frame))
            self._changed.notify_all()

    def overdue(self) -> list[Job[Any]]:
        """Gives up the questions for which no frame came in time, and returns them; those with one wait no longer."""
        with self._changed:
            now = time.monotonic()
            over = self._part(lambda until, _: until <= now)
            self._questions += (question for question in over if question.frame is not None)
            self._changed.notify_all()
            return [question for question in over if question.frame is None]

    def take(self) -> Job[Frame] | None:
        """Waits for a question, or for a frame and a command and the time `max_rate` leaves, and returns the job.

        A question goes before a frame, but not twice in a row when a frame is ready. None once the intake is closed.
        """
        with self._changed:
            while self._open:
                if self._frame is not None and self._command is not None and not self._paused and self._fresh():
                    pause = min(_LONGEST_WAIT, self._earliest() - time.monotonic())
                    ready = pause <= 0
                else:
                    pause, ready = None, False
                if self._questions and not (ready and self._asked_last):
                    self._asked_last = True
                    return self._questions.popleft()
                if ready:
                    return self._take_frame()
                self._changed.wait(pause)
            return None

    def done(self, job: Job[Frame]) -> bool:
        """Says that the job was answered; in mode "once" its command, if still in force, is served and ends (True)."""
        with self._changed:
            served = self.mode == "once" and job.reply is None and self._command is job.command
            if served:
                self._command = None
            return served

    def rest(self, seconds: float) -> None:
        """Takes no frame up for a while; questions are still handed out."""
        with self._changed:
            self._rested = max(self._rested, time.monotonic() + seconds)

    def _take_frame(self) -> Job[Frame]:
        assert self._frame is not None
        assert self._command is not None
        job = Job(self._frame, self._command)
        self._frame = None
        self._asked_last = False
        self._taken = time.monotonic()
        return job

    def _earliest(self) -> float:
        """Monotonic seconds before which no frame may be taken up, by `rest` and by max_rate as it is now."""
        return max(self._rested, self._taken + 1.0 / self.max_rate if self.max_rate > 0 else 0.0)

    def _fresh(self) -> bool:
        """Whether the waiting frame may be taken up; one that is too old is dropped."""
        assert self._frame is not None
        if not self._stale(self._frame):
            return True
        self._frame = None
        self._on_drop("too old")
        return False

    def _stale(self, frame: Frame) -> bool:
        return self.max_frame_age > 0 and self._age(frame) > self.max_frame_age  # an unknown age is not above anything

    def _part(self, which: Callable[[float, Job[Any]], bool]) -> list[Job[Any]]:
        """Takes questions out of those that lack something, and returns them."""
        taken = [which(*entry) for entry in self._waiting]
        parted = [question for (_, question), out in zip(self._waiting, taken, strict=True) if out]
        self._waiting = [entry for entry, out in zip(self._waiting, taken, strict=True) if not out]
        return parted

    def _give_up_questions(self) -> list[Job[Frame]]:
        given_up = [*self._questions, *(question for _, question in self._waiting)]
        self._questions.clear()
        self._waiting.clear()
        self._changed.notify_all()
        return given_up


def blank(text: str) -> bool:
    """Whether nothing is left of the text once Segmenter has taken white space, control and format characters away."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in text)
