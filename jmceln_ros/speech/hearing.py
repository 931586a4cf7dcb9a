"""The one thread in which sound is listened to, and what becomes of the errors on the way."""

from __future__ import annotations

import math
import threading
import traceback
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jmceln_core.speech.activity import FRAME
from jmceln_core.speech.audio import RATE, AudioError, Resampler, clipped, to_mono
from jmceln_core.speech.interpret import Decision
from jmceln_ros.speech.chunks import Chunk
from jmceln_ros.speech.intake import AudioIntake
from jmceln_ros.speech.statistics import CLIPPED, UNUSABLE, HearingStatistics
from jmceln_ros.speech.supervisor import Supervisor

if TYPE_CHECKING:
    from jmceln_core.speech.activity import Utterance
    from jmceln_core.speech.listener import Heard, Listener

#: Seconds without sound that end what is being said: who publishes speech only leaves out the pauses.
PATIENCE = 1.0

_SHARPNESS = 0.1  # seconds: what two entries of a Timeline differ by in the one or the other
_MEMORY = 900  # entries
_FRAME = FRAME / RATE  # seconds


class Timeline:
    """When the sound of a stream was taken, by the node's clock. Remembers the last minute and a half."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, float]] = []

    def add(self, seconds: float, stamp: float) -> None:
        """The sound at `seconds` was taken at `stamp`; later sound is added later."""
        if self._entries and seconds - self._entries[-1][0] < _SHARPNESS and abs(self.at(seconds) - stamp) < _SHARPNESS:
            return
        self._entries.append((seconds, stamp))
        if len(self._entries) > 2 * _MEMORY:
            del self._entries[:_MEMORY]

    def at(self, seconds: float) -> float:
        """When the sound at `seconds` was taken; NaN in an empty stream."""
        if not self._entries:
            return math.nan
        index = bisect_right(self._entries, (seconds, math.inf)) - 1
        begin, stamp = self._entries[max(index, 0)]
        return stamp + seconds - begin


@dataclass(frozen=True)
class Report:
    """What is published about an utterance: `heard`, or `failure` in words; `start` and `end` by the node's clock.

    They are NaN where the time is not known; `duration` always is.
    """

    heard: Heard | None
    failure: str
    start: float
    end: float
    duration: float
    frame_id: str


class Hearer:
    """Takes chunks from the intake, listens, and hands a Report of every utterance to `publish`.

    `log` has the methods of an rclpy logger. The listener is this thread's alone until `stop` has returned.
    """

    def __init__(
        self,
        intake: AudioIntake,
        listener: Listener,
        statistics: HearingStatistics,
        publish: Callable[[Report], None],
        log: Any,
    ) -> None:
        self._intake = intake
        self._listener = listener
        self._next: deque[Listener] = deque(maxlen=1)  # takes its place
        self._statistics = statistics
        self._publish = publish
        self._log = log
        self._frame_id = ""
        self._whole = True  # what is heard was said to its end
        self._stopped = threading.Event()
        self._supervisor = Supervisor(statistics.trouble)
        self._thread = threading.Thread(target=self._work, name="hear", daemon=True)

    def start(self) -> None:
        """Begins to listen."""
        self._intake.open()
        self._thread.start()

    def stop(self) -> None:
        """Waits for the engine, if it is at work, and ends. Nothing is published after this was called."""
        self._stopped.set()
        self._intake.close()
        self._thread.join()

    def use(self, listener: Listener) -> None:
        """Listens with this one from the next chunk on; what is being said ends there."""
        self._next.append(listener)

    def _work(self) -> None:
        self._begin()
        while not self._stopped.is_set():
            chunk = self._intake.take(PATIENCE)
            if chunk is None:
                self._guarded(self._cut_off if self._intake.ended() else self._end)
                continue
            if self._next:
                self._guarded(self._end)
                self._listener = self._next.pop()
                self._begin()
            self._guarded(partial(self._take, chunk))

    def _guarded(self, work: Callable[[], None]) -> None:
        """A fault costs a piece of sound, never the thread."""
        try:
            work()
        except AudioError as error:
            self._statistics.trouble(UNUSABLE, str(error))
            self._log.warning(f"sound not used: {error}", throttle_duration_sec=5.0)
        except Exception as error:
            self._log.debug(traceback.format_exc())
            self._fail(error)
            self._begin()

    def _fail(self, error: Exception) -> str:
        reason = f"{error} [{type(error).__name__}]"
        self._statistics.failed(reason)
        self._log.error(f"speech not understood: {reason}", throttle_duration_sec=5.0)
        return reason

    def _begin(self) -> None:
        """A new stream, at time 0. Never raises: it is what is left to do after everything else has failed."""
        self._resampler: Resampler | None = None
        self._held = 0.0  # seconds that the resampler holds back
        self._timeline = Timeline()
        try:
            self._listener.reset()
        except Exception as error:
            self._log.debug(traceback.format_exc())
            self._fail(error)

    def _end(self) -> None:
        """The sound ends here, for now: what is being said is an utterance."""
        found = [] if self._resampler is None else self._listener.feed(self._resampler.flush())
        self._resampler, self._held = None, 0.0
        for utterance in [*found, *self._listener.flush()]:
            self._hear(utterance)

    def _cut_off(self) -> None:
        """Nobody is to listen: what is being said ends here, and counts only if it ends the command."""
        self._whole = False
        try:
            self._end()
        finally:
            self._whole = True
        self._begin()

    def _take(self, chunk: Chunk) -> None:
        if chunk.deaf:
            self._cut_off()
        mono = to_mono(chunk.samples, chunk.channels)
        self._statistics.listened(mono, chunk.seconds)
        if count := clipped(chunk.samples):
            self._statistics.trouble(CLIPPED, amount=count)
        step = self._supervisor.check(chunk)
        if step.ends:
            self._end()
        if step.resets:
            self._begin()
        self._frame_id = chunk.frame_id
        if self._resampler is None:
            self._resampler = Resampler(chunk.rate)
        begin = chunk.begin
        if step.fill:
            mono = np.concatenate([np.zeros(round(step.fill * chunk.rate), np.float32), mono])
            begin -= step.fill
        self._timeline.add(self._listener.endpointer.time + self._held, begin)
        samples = self._resampler(mono)
        self._held += len(mono) / chunk.rate - len(samples) / RATE
        for utterance in self._listener.feed(samples):
            self._hear(utterance)

    def _hear(self, utterance: Utterance) -> None:
        if self._stopped.is_set():
            return
        # Both are bounds of frames, which need not be bounds of chunks: asked is for the sound inside.
        start = self._timeline.at(utterance.start + _FRAME) - _FRAME
        end = self._timeline.at(utterance.end - _FRAME) + _FRAME
        # The stream's own time stands still while no sound comes: the clock says how long ago the wake phrase was said.
        said = replace(utterance, start=max(0.0, start), end=max(0.0, end))
        heard, failure = None, ""
        try:
            heard = self._listener.hear(said)
        except Exception as error:
            self._log.debug(traceback.format_exc())
            failure = self._fail(error)
        if heard is not None and heard.decision.accepted and not (self._whole or heard.decision.ends):
            heard = replace(heard, decision=Decision(reason="the node was disabled while it was said: it may go on"))
        if self._stopped.is_set():
            return
        self._publish(Report(heard, failure, start, end, utterance.duration, self._frame_id))
