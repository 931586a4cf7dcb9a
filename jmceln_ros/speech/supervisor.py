"""The watch over a stream of chunks: gaps, steps back in time, changes of the format, a wrong rate. No ROS here."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jmceln_ros.speech.chunks import Chunk


@dataclass(frozen=True)
class Step:
    """What to do before a chunk is listened to: end what is being said, begin anew, fill in seconds of silence."""

    ends: bool = False
    resets: bool = False
    fill: float = 0.0


class Supervisor:
    """Watches whether the chunks of a stream follow each other as their stamps say, and have the rate they declare.

    A chunk may come TOLERANCE early or late by its stamp: drivers stamp what they read out of a buffer. What is missing
    beyond that is a gap. It is filled with silence, so that the time stays right; one of more than SHORT seconds ends
    what is being said, and beyond LONG, or when the stamps jump back by more than SHORT, a new stream begins. What is
    early by less, or has the stamp of the chunk before it, is taken as the next piece: stamps that jitter put no
    silence into what is said. `report` is called with the kind of trouble, one of the constants below, and words for
    people.
    """

    GAP, BACK, FORMAT, RATE = "gaps", "steps back in time", "changes of rate or channels", "wrong rate"
    TOLERANCE, SHORT, LONG = 0.05, 0.5, 5.0  # seconds

    # Two clocks are never equally fast: a deviation within the tolerance is forgotten with these time constants in
    # seconds, by late chunks and by early ones. The second is longer: where stamps jitter, the latest are no gaps.
    _DRIFT, _DRIFT_BACK = 10.0, 40.0
    # When all chunks of so many seconds were early, the clock of the stamps was set back.
    _SETTLED = 1.0
    # The rate is measured over blocks of so many seconds, at most so many of them, and told when it is so far off.
    _BLOCK, _MOST, _OFF = 0.1, 100, 0.1
    # At least so many blocks; more by arrival, because a burst at one end of them weighs as much as it is long.
    _FEWEST, _FEWEST_UNSTAMPED = 20, 60

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._last: Chunk | None = None
        self._due: float  # when the next chunk should begin
        self._early: tuple[float, float]  # seconds of sound in a row that were too early, and by how much at the least
        self._restart(0.0)
        self._blocks: deque[tuple[float, float]] = deque(maxlen=self._MOST)  # begin, seconds by the declared rate

    def check(self, chunk: Chunk) -> Step:
        """What the next chunk of the stream means for what is listened to."""
        last, self._last = self._last, chunk
        begin, seconds = chunk.begin, chunk.seconds
        step = Step()
        if last is None:
            self._restart(begin)
        elif (chunk.rate, chunk.channels) != (last.rate, last.channels):
            self._report(
                self.FORMAT,
                f"from {last.rate} Hz, {last.channels} channels to {chunk.rate} Hz, {chunk.channels} channels",
            )
            self._blocks.clear()
            self._restart(begin)
            step = Step(ends=True, resets=True)
        elif chunk.lost or chunk.deaf:  # what is being said is not whole any more
            self._restart(begin)
            step = Step(resets=True)
        elif chunk.stamp is None:
            self._restart(begin)  # nothing to hold it against
            if chunk.overflow:
                self._report(self.GAP, "the device reports an overflow: this machine is too slow or too busy for it")
        else:
            step = self._continue(begin, seconds, back=begin < last.begin)
        self._measure(chunk)
        self._due += seconds
        return step

    def _continue(self, begin: float, seconds: float, *, back: bool) -> Step:
        """The step for a chunk with a stamp; `back`: it is before the last one's."""
        late = begin - self._due
        (early, least), self._early = self._early, (0.0, -math.inf)
        if abs(late) <= self.TOLERANCE:
            self._due += late * min(1.0, seconds / (self._DRIFT if late > 0 else self._DRIFT_BACK))
            return Step()
        if self._wrong_rate():  # every stamp is off then, and that is told already
            self._restart(begin)
            return Step()
        if late < 0:
            if back and not early:
                self._report(self.BACK, f"by {-late:.3f} s")
            if back and late < -self.SHORT:
                self._restart(begin)
                return Step(ends=True, resets=True)
            self._early = early + seconds, max(least, late)
            if self._early[0] >= self._SETTLED:
                self._restart(self._due + self._early[1])
            return Step()
        self._restart(begin)
        self._report(self.GAP, f"of {late:.3f} s")
        if late > self.LONG:
            return Step(ends=True, resets=True)
        return Step(ends=late > self.SHORT, fill=late)

    def _restart(self, begin: float) -> None:
        self._due = begin
        self._early = (0.0, -math.inf)

    def _measure(self, chunk: Chunk) -> None:
        begin, seconds = chunk.begin, chunk.seconds
        if self._blocks and self._blocks[-1][1] < self._BLOCK:
            start, so_far = self._blocks.pop()
            self._blocks.append((start, so_far + seconds))
            return
        if self._blocks and abs(begin - self._blocks[-1][0]) > self.LONG + self._blocks[-1][1]:
            self._blocks.clear()  # nobody published meanwhile, or the clock was set: no measure of a rate
        self._blocks.append((begin, seconds))
        if factor := self._wrong_rate():
            self._report(
                self.RATE,
                f"the sound says {chunk.rate} Hz but brings {chunk.rate * factor:.0f} samples a second: set the rate "
                "right where it is published",
            )

    def _wrong_rate(self) -> float:
        """How many times as many samples come as are declared; 0 while that is near enough to one, or not known.

        Lost chunks lower the mean alone and chunks that come in bursts the median alone: told is what both agree on.
        """
        stamped = self._last is not None and self._last.stamp is not None
        if len(self._blocks) < (self._FEWEST if stamped else self._FEWEST_UNSTAMPED):
            return 0.0
        begins, seconds = np.array(self._blocks).T
        between, declared = np.diff(begins), seconds[:-1]
        if between.sum() <= 0:
            return 0.0
        mean = float(declared.sum() / between.sum())
        median = float(np.median(declared / np.maximum(between, 1e-9)))
        low, high = 1.0 - self._OFF, 1.0 + self._OFF
        return mean if max(mean, median) < low or min(mean, median) > high else 0.0
