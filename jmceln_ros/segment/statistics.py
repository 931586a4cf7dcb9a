"""What segment_node says about itself on /diagnostics: counted here, judged here, in words a person understands."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jmceln_ros.common.diagnostics import Level, Percentiles, counts, diagnostic, duration

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus

#: Why a frame may be dropped in normal operation: a newer one came before the worker was free.
HARMLESS = frozenset({"overtaken"})

# Events of a kind that are remembered: a window of 10 s at 400 Hz. Different reasons that are counted apart.
_EVENTS = 4096
_REASONS = 32
_OTHER = "other"


@dataclass(frozen=True)
class Summary:
    """What Statistics counted. Rates are per second in the window, ages in seconds, infinite for what never was.

    `failing` says that nothing was answered since the last failure.
    """

    window: float  # seconds that rates, percentiles and `dropped` are about
    since: float  # seconds since the counting began
    received: int  # frames, in all
    answered: int  # frames, in all
    frame_rate: float
    answer_rate: float
    frame_age: float  # since the last frame came
    answer_age: float  # since the last answer
    latency: Percentiles  # an image's stamp to the publication of its answer
    model: Percentiles  # the network alone
    dropped: Mapping[str, int]  # reason to frames, in the window
    dropped_total: Mapping[str, int]  # and since the counting began
    failure: str  # the last one, in words; empty when there was none
    failure_age: float
    failing: bool


class Statistics:
    """Counts what happens to frames. Every method may be called from any thread; the memory is bounded.

    `window` is the time in seconds that rates and percentiles look back; `clock` gives seconds and never goes back.
    """

    def __init__(self, *, window: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Begins anew, as when the node becomes active."""
        with self._lock:
            self._began = self._clock()
            self._received: deque[float] = deque(maxlen=_EVENTS)
            self._answered: deque[tuple[float, float, float]] = deque(maxlen=_EVENTS)
            self._dropped: deque[tuple[float, str]] = deque(maxlen=_EVENTS)
            self._received_total = self._answered_total = 0
            self._dropped_total: Counter[str] = Counter()
            self._failure, self._failed_at, self._failing = "", -math.inf, False

    def received(self) -> None:
        """A frame came."""
        with self._lock:
            self._received.append(self._clock())
            self._received_total += 1

    def answered(self, latency: float, model_seconds: float) -> None:
        """A frame's answer was published, `latency` seconds (NaN: not known) after its stamp."""
        with self._lock:
            self._answered.append((self._clock(), latency, model_seconds))
            self._answered_total += 1
            self._failing = False

    def dropped(self, reason: str) -> None:
        """A frame was given up. `reason` is one of a few fixed ones: HARMLESS has those that are no trouble."""
        with self._lock:
            if len(self._dropped_total) >= _REASONS and reason not in self._dropped_total:
                reason = _OTHER
            self._dropped.append((self._clock(), reason))
            self._dropped_total[reason] += 1

    def failed(self, reason: str) -> None:
        """A frame, or something else the node tried, failed; `reason` says in words why."""
        with self._lock:
            self._failure, self._failed_at, self._failing = reason, self._clock(), True

    def summary(self) -> Summary:
        """All of it, as it is now."""
        with self._lock:
            now = self._clock()
            after = now - self._window
            answered = [event for event in self._answered if event[0] > after]
            return Summary(
                window=self._window,
                since=now - self._began,
                received=self._received_total,
                answered=self._answered_total,
                frame_rate=self._rate(self._received, now),
                answer_rate=self._rate([event[0] for event in self._answered], now),
                frame_age=now - self._received[-1] if self._received else math.inf,
                answer_age=now - self._answered[-1][0] if self._answered else math.inf,
                latency=Percentiles.of(latency for _, latency, _ in answered),
                model=Percentiles.of(seconds for _, _, seconds in answered),
                dropped=Counter(reason for at, reason in self._dropped if at > after),
                dropped_total=dict(self._dropped_total),
                failure=self._failure,
                failure_age=now - self._failed_at,
                failing=self._failing,
            )

    def _rate(self, times: Iterable[float], now: float) -> float:
        """Events per second in the window, or since the counting began, or since the first one remembered."""
        times = list(times)
        span = min(self._window, now - self._began)
        if len(times) == _EVENTS:
            span = min(span, now - times[0])
        recent = sum(at > now - self._window for at in times)
        return recent / span if span > 0 else 0.0


@dataclass(frozen=True)
class Condition:
    """What the node is about while it counts.

    `state` is the lifecycle state's name, "configuring" while the model loads. `model` is the name of the one that is
    loaded, empty without one; `problem` says what is wrong with it, or why there is none. `command_age` is in seconds.
    `lost` is the command that was in force when the process before ended without being asked to, until another comes.
    `subscribed` is for how many seconds images have been subscribed to; `silence` says why none may be coming.
    `patience` is after how many seconds without an answer something is wrong; it must leave room for `max_rate`.
    """

    state: str = "active"
    model: str = ""
    problem: str = ""
    enabled: bool = True
    command: str = ""  # the one in force; empty without one
    command_age: float = math.nan
    lost: str = ""
    subscribed: float = math.inf
    silence: str = "check the camera, its topic and the QoS"
    patience: float = 10.0


def judge(summary: Summary, condition: Condition) -> tuple[Level, str]:
    """The level and the message of the node's diagnostic: the first of these rules that holds."""
    troubles = {reason: count for reason, count in summary.dropped.items() if reason not in HARMLESS}
    waited = min(summary.since, condition.command_age, condition.subscribed)  # how long there might have been answers
    rules = (
        (condition.state == "configuring", Level.OK, "loading the model"),
        (bool(condition.problem and not condition.model), Level.ERROR, f"no model: {condition.problem}"),
        (
            summary.failing and summary.failure_age <= summary.window,
            Level.ERROR,
            f"failed {summary.failure_age:.0f} s ago: {summary.failure}",
        ),
        (bool(condition.problem), Level.WARN, condition.problem),
        (condition.state != "active", Level.OK, f"{condition.state}: images are not answered"),
        (not condition.enabled, Level.OK, "disabled by ~/enable: images are not answered"),
        (
            bool(condition.lost),
            Level.WARN,
            f"waiting for a command: {condition.lost!r} was in force when the process before ended without being asked "
            "to, and is not now",
        ),
        (not condition.command, Level.OK, "waiting for a command"),
        (
            min(summary.frame_age, waited) > summary.window,
            Level.WARN,
            f"no image for {duration(min(summary.frame_age, summary.since, condition.subscribed))} while a command is "
            f"in force: {condition.silence}",
        ),
        (
            bool(troubles),
            Level.WARN,
            f"{sum(troubles.values())} images dropped in {summary.window:.0f} s: {counts(troubles)}",
        ),
        (
            min(summary.answer_age, waited) > condition.patience,
            Level.STALE,
            f"no answer for {duration(min(summary.answer_age, waited))} though images come: the model is very slow or "
            "stuck",
        ),
        (
            True,
            Level.OK,
            f"{summary.answer_rate:.1f} answers for {summary.frame_rate:.1f} images a second",
        ),
    )
    return next((level, message) for holds, level, message in rules if holds)


def to_status(
    summary: Summary, condition: Condition, *, name: str, hardware_id: str = "", values: Mapping[str, Any] | None = None
) -> DiagnosticStatus:
    """The diagnostic_msgs/DiagnosticStatus of the node called `name`; `values` are appended to its own.

    `hardware_id` is for what the node depends on: the camera's topic or the GPU.
    """
    level, message = judge(summary, condition)
    table = {
        "state": condition.state if condition.enabled else f"{condition.state}, disabled",
        "model": condition.model or "none",
        "command": condition.command or "none",
        "command lost": condition.lost or "none",
        "command age": duration(condition.command_age) if condition.command else "none",
        "images per second": f"{summary.frame_rate:.2f}",
        "answers per second": f"{summary.answer_rate:.2f}",
        "latency (50, 95, 99 %)": summary.latency,
        "model time (50, 95, 99 %)": summary.model,
        "images received": summary.received,
        "images answered": summary.answered,
        f"images dropped in {summary.window:g} s": counts(summary.dropped),
        "images dropped": counts(summary.dropped_total),
        "last failure": f"{duration(summary.failure_age)} ago: {summary.failure}" if summary.failure else "none",
        **(values or {}),
    }
    return diagnostic(level, message, table, name=name, hardware_id=hardware_id)


def gpu_memory(device: str = "") -> str:
    """The memory of the GPU in use, in words; "no GPU in use" without one. PyTorch is not loaded just to ask.

    `device` is PyTorch's name for it; without a number (cuda, or empty) it is the current one.
    """
    torch = sys.modules.get("torch")
    if torch is None or device.startswith("cpu") or not torch.cuda.is_initialized():
        return "no GPU in use"
    place = device if ":" in device else None
    try:
        free, total = torch.cuda.mem_get_info(place)
        own = torch.cuda.memory_reserved(place)
        return f"{_gib(own)} held by this node, {_gib(total - free)} of {_gib(total)} in use"
    except (RuntimeError, ValueError) as error:  # a GPU that has failed; the diagnostic is to say so, not to fail too
        return f"not known: {error}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
