"""What speech_node says about itself on /diagnostics: counted here, judged here, in words a person understands."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from jmceln_ros.common.diagnostics import Level, Percentiles, counts, diagnostic, duration
from jmceln_ros.speech.supervisor import Supervisor

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus

#: More kinds of trouble, beside those of Supervisor.
CLIPPED, DROPPED, UNUSABLE = "samples at full scale", "seconds dropped", "unusable messages"

#: Samples at full scale within the window that are no trouble: a recording's loudest peak may stand there.
PEAKS = 10

# What a person can do about it; {amount} is what was counted within the window, {words} what was said last.
_REMEDIES = {
    Supervisor.RATE: "{words}",
    Supervisor.GAP: "{amount:.0f} gaps in the sound, the last {words}: check network, driver and QoS",
    Supervisor.BACK: "the stamps went back {amount:.0f} times, last {words}: let one source publish, with even stamps",
    Supervisor.FORMAT: "rate or channels changed {amount:.0f} times, last {words}: let only one source publish",
    CLIPPED: "{amount:.0f} samples at full scale: turn the microphone's gain down",
    DROPPED: "{amount:.1f} s of sound dropped, for it came faster than it was listened to",
    UNUSABLE: "{amount:.0f} messages could not be used, the last because: {words}",
}

_EVENTS = 4096  # of trouble that are remembered: beyond that the oldest leave the window early
_UTTERANCES = 100  # the last ones that percentiles are about
_CHUNKS = 100  # that the level is about at the most
_KINDS = 32  # different reasons that are counted apart
_OTHER = "other"
_PATIENCE = 3.0  # seconds without sound after which something is wrong


@dataclass(frozen=True)
class Summary:
    """What HearingStatistics counted. Ages in seconds, infinite for what never was; `level` in dB below full scale."""

    window: float  # seconds that `troubles` are about
    since: float  # seconds since the counting began
    received: float  # seconds of sound, in all
    audio_age: float  # since the last sound came
    level: float  # root of the mean square of the last second, -inf in digital silence
    troubles: Mapping[str, float]  # kind to amount, in the window
    troubles_total: Mapping[str, float]
    words: Mapping[str, str]  # kind to what was said about it last
    accepted: int  # utterances that became commands
    refused: Mapping[str, int]  # reason to utterances that did not
    transcript: str  # the last one, in words; empty when there was none
    engine: Percentiles  # seconds that the engine took for an utterance
    latency: Percentiles  # end of speech to publication
    failure: str  # the engine's last one, in words; empty when there was none
    failure_age: float
    failing: bool  # whether nothing was transcribed since


class HearingStatistics:
    """Counts what becomes of sound. Every method may be called from any thread; the memory is bounded.

    `window` is the time in seconds that troubles are looked back for; `clock` gives seconds and never goes back.
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
            self._received, self._received_at = 0.0, -math.inf
            self._powers: deque[tuple[float, float]] = deque(maxlen=_CHUNKS)  # seconds, mean square
            self._troubles: deque[tuple[float, str, float]] = deque(maxlen=_EVENTS)
            self._totals: Counter[str] = Counter()
            self._words: dict[str, str] = {}
            self._accepted = 0
            self._refused: Counter[str] = Counter()
            self._transcript = ""
            self._engine: deque[float] = deque(maxlen=_UTTERANCES)
            self._latency: deque[float] = deque(maxlen=_UTTERANCES)
            self._failure, self._failed_at, self._failing = "", -math.inf, False

    def received(self, seconds: float) -> None:
        """Sound came."""
        with self._lock:
            self._received += seconds
            self._received_at = self._clock()

    def listened(self, mono: np.ndarray, seconds: float) -> None:
        """Sound was listened to, (n,) in [-1, 1]."""
        if not len(mono):
            return
        with self._lock:
            self._powers.append((seconds, float(np.mean(np.square(mono, dtype=np.float64)))))
            while sum(length for length, _ in self._powers) - self._powers[0][0] >= 1.0:
                self._powers.popleft()

    def trouble(self, kind: str, words: str = "", amount: float = 1.0) -> None:
        """Something was wrong with the sound; `kind` is one of a few fixed ones."""
        with self._lock:
            self._troubles.append((self._clock(), kind, amount))
            self._totals[kind] += amount  # type: ignore[assignment]
            self._words[kind] = words

    def heard(self, transcript: str, *, refused: str, engine: float, latency: float) -> None:
        """An utterance was dealt with; `refused` is the reason why it is no command, empty when it is one.

        `transcript` is for people, `engine` and `latency` are in seconds, NaN where there are none.
        """
        with self._lock:
            self._transcript = transcript
            self._engine.append(engine)
            self._latency.append(latency)
            self._failing = self._failing and math.isnan(engine)
            if not refused:
                self._accepted += 1
                return
            kind = _kind(refused)
            self._refused[kind if kind in self._refused or len(self._refused) < _KINDS else _OTHER] += 1

    def failed(self, reason: str) -> None:
        """The engine or the voice detector failed; `reason` says in words why."""
        with self._lock:
            self._failure, self._failed_at, self._failing = reason, self._clock(), True

    def summary(self) -> Summary:
        """All of it, as it is now."""
        with self._lock:
            now = self._clock()
            troubles: Counter[str] = Counter()
            for at, kind, amount in self._troubles:
                if at > now - self._window:
                    troubles[kind] += amount  # type: ignore[assignment]
            length = sum(seconds for seconds, _ in self._powers)
            power = sum(seconds * square for seconds, square in self._powers) / length if length else 0.0
            return Summary(
                window=self._window,
                since=now - self._began,
                received=self._received,
                audio_age=now - self._received_at,
                level=10 * math.log10(power) if power > 0 else -math.inf,
                troubles=troubles,
                troubles_total=dict(self._totals),
                words=dict(self._words),
                accepted=self._accepted,
                refused=dict(self._refused),
                transcript=self._transcript,
                engine=Percentiles.of(self._engine),
                latency=Percentiles.of(self._latency),
                failure=self._failure,
                failure_age=now - self._failed_at,
                failing=self._failing,
            )


def _kind(reason: str) -> str:
    """A reason without what is different each time: what was said, numbers, and the details behind a colon."""
    general = re.sub(r"'[^']*'|\"[^\"]*\"", "...", reason).removeprefix("...: ").partition(":")[0]
    return re.sub(r"\d+(\.\d+)?", "N", general)


@dataclass(frozen=True)
class Condition:
    """What the node is about while it counts.

    `state` is the lifecycle state's name, "configuring" while the engine loads; `problem` says why there is no engine,
    or no source, `source_problem` why no sound may come from the source. `source` is for people.
    """

    state: str = "active"
    engine: str = ""
    problem: str = ""
    source: str = ""
    source_problem: str = ""
    ended: bool = False  # the recordings were played to their end
    enabled: bool = True  # by the service ~/enable
    extra: Mapping[str, Any] = field(default_factory=dict)  # more values to be shown


def judge(summary: Summary, condition: Condition) -> tuple[Level, str]:
    """The level and the message of the node's diagnostic: the first of these rules that holds."""
    quiet = min(summary.audio_age, summary.since) > _PATIENCE
    troubles = "; ".join(_troubles(summary, condition))
    rules = (
        (condition.state == "configuring", Level.OK, "loading the engine"),
        (bool(condition.problem), Level.ERROR, condition.problem),
        (condition.state != "active", Level.OK, f"{condition.state}: nobody listens"),
        (not condition.enabled, Level.OK, "disabled by ~/enable: what is said is thrown away"),
        (bool(condition.source_problem and quiet), Level.ERROR, condition.source_problem),
        (
            summary.failing and summary.failure_age <= summary.window,
            Level.ERROR,
            f"failed {summary.failure_age:.0f} s ago: {summary.failure}",
        ),
        (condition.ended, Level.OK, f"{condition.source} was played to its end"),
        (bool(troubles), Level.WARN, troubles),
        (True, Level.OK, f"listening; last: {summary.transcript or 'nothing said yet'}"),
    )
    return next((level, message) for holds, level, message in rules if holds)


def _troubles(summary: Summary, condition: Condition) -> list[str]:
    """What was wrong with the sound lately, the worst first."""
    quiet = min(summary.audio_age, summary.since)
    silent = f"no sound from {condition.source} for {duration(quiet)}: check the source, its topic and the QoS"
    return [silent] * (quiet > _PATIENCE) + [
        remedy.format(amount=summary.troubles[kind], words=summary.words[kind])
        for kind, remedy in _REMEDIES.items()
        if summary.troubles.get(kind, 0.0) > (PEAKS if kind == CLIPPED else 0.0)
    ]


def to_status(summary: Summary, condition: Condition, *, name: str, hardware_id: str = "") -> DiagnosticStatus:
    """The diagnostic_msgs/DiagnosticStatus of the node called `name`; `hardware_id` is for the source of the sound."""
    level, message = judge(summary, condition)
    table = {
        "state": condition.state if condition.enabled else f"{condition.state}, disabled",
        "engine": condition.engine or "none",
        "source": condition.source or "none",
        "seconds of sound received": f"{summary.received:.1f}",
        "level": f"{summary.level:.1f} dB of full scale" if summary.received else "not known",
        "last transcript": summary.transcript or "none",
        "commands": summary.accepted,
        "refused": counts(summary.refused),
        **{kind: f"{summary.troubles_total.get(kind, 0.0):g}" for kind in _REMEDIES},
        "engine time (50, 95, 99 %)": summary.engine,
        "latency (50, 95, 99 %)": summary.latency,
        "last failure": f"{duration(summary.failure_age)} ago: {summary.failure}" if summary.failure else "none",
        **condition.extra,
    }
    return diagnostic(level, message, table, name=name, hardware_id=hardware_id)
