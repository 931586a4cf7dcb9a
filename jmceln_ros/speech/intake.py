"""The queue of chunks between the callbacks and the one worker. No ROS here."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from jmceln_ros.speech.chunks import Chunk
from jmceln_ros.speech.supervisor import Supervisor

#: Seconds of sound that may wait for the worker, and pieces of it (they may be as short as one sample).
MAX_WAITING, MAX_PIECES = 30.0, 10_000

#: Seconds for which sound that was taken while nobody was to listen may still be on its way: as much as the QoS profile
#: "stream" holds in pieces of 20 ms.
LATE = 2.0

#: Seconds that shorter pieces are put together to before they are worked on: each costs as much as a long one.
PIECE = 0.02


class AudioIntake:
    """A queue of chunks between the callbacks, which never wait, and the one worker.

    At most MAX_WAITING seconds wait; when more comes, the oldest are given up, `on_drop` is told their seconds, and the
    next chunk says so in `lost`. The newest chunk always stays. A new intake is closed: it takes nothing until `open`.

    While it is `deaf` it takes nothing either. What came before is still there to be taken; the first chunk after it
    says so in `deaf`.
    """

    def __init__(self, on_drop: Callable[[float], None] = lambda seconds: None) -> None:
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._waiting: deque[Chunk] = deque()
        self._seconds = 0.0
        self._open = False
        self._deaf = False
        self._since = self._until = -math.inf  # when it became deaf, and when that ended
        self._ends = self._begins = False  # told to nobody yet: that it became deaf, that it hears again

    @property
    def deaf(self) -> bool:
        """Whether sound is thrown away."""
        return self._deaf

    def hear(self, whether: bool, now: float) -> None:
        """Takes chunks or throws them away, from `now` on (seconds of the clock of their stamps)."""
        with self._changed:
            if whether != self._deaf:
                return
            self._deaf = not whether
            if whether:
                self._until, self._begins = now, True
            else:
                self._since, self._ends = now, True
                self._changed.notify_all()

    def ended(self) -> bool:
        """Whether it became deaf since this was asked last, and everything before that was taken."""
        with self._changed:
            ended = self._ends and not self._waiting
            self._ends = self._ends and not ended
            return ended

    @property
    def seconds(self) -> float:
        """How much waits, without the chunk that was taken last."""
        return self._seconds

    def open(self) -> None:
        """Takes chunks from now on."""
        with self._changed:
            self._open = True

    def close(self) -> None:
        """Forgets the chunks, takes no more, and makes every `take` return None at once."""
        with self._changed:
            self._open = False
            self._waiting.clear()
            self._seconds = 0.0
            self._changed.notify_all()

    def put(self, chunk: Chunk) -> None:
        """Appends a chunk; of one that is longer than all that may wait the end is kept."""
        lost = 0.0
        longest = int(MAX_WAITING * chunk.rate) * chunk.channels
        if len(chunk.samples) > longest:
            kept = replace(chunk, samples=chunk.samples[-longest:])
            lost = chunk.seconds - kept.seconds
            chunk = replace(kept, stamp=None if chunk.stamp is None else chunk.stamp + lost, lost=lost)
        with self._changed:
            if not self._open or self._deaf or self._late(chunk):
                return
            if self._begins:
                chunk = replace(chunk, deaf=True)
                self._ends = self._begins = False
            self._waiting.append(chunk)
            self._seconds += chunk.seconds
            while len(self._waiting) > 1 and (self._seconds > MAX_WAITING or len(self._waiting) > MAX_PIECES):
                oldest = self._next()
                lost += oldest.seconds
                newer = self._waiting[0]
                self._waiting[0] = replace(newer, lost=newer.lost + oldest.lost + oldest.seconds)
            if len(self._waiting) == 1 or self._seconds >= PIECE:  # what `take` waits for
                self._changed.notify_all()
        if lost:
            self._on_drop(lost)

    def take(self, patience: float) -> Chunk | None:
        """The oldest chunk; None when nothing comes for `patience` seconds, and once the intake is closed or deaf.

        Chunks shorter than PIECE are waited for that long, and those that follow each other come as one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ends or not self._open, patience)
            if self._waiting:
                self._changed.wait_for(lambda: self._seconds >= PIECE or not self._open, PIECE)
            if not self._waiting:
                return None
            run = [self._next()]
            seconds = run[0].seconds
            while seconds < PIECE and self._waiting and _follows(self._waiting[0], run[0], seconds):
                run.append(self._next())
                seconds += run[-1].seconds
        if len(run) == 1:
            return run[0]
        return replace(run[0], samples=np.concatenate([chunk.samples for chunk in run]), arrival=run[-1].arrival)

    def _late(self, chunk: Chunk) -> bool:
        """Whether it was taken while nobody was to listen, and only comes now. By its stamp: without one it is new."""
        soon = chunk.arrival < self._until + LATE
        return soon and chunk.stamp is not None and self._since <= chunk.stamp < self._until

    def _next(self) -> Chunk:
        chunk = self._waiting.popleft()
        self._seconds = self._seconds - chunk.seconds if self._waiting else 0.0
        return chunk


def _follows(chunk: Chunk, first: Chunk, seconds: float) -> bool:
    """Whether the chunk can be put to those that began with `first` and last so long."""
    return (
        (chunk.rate, chunk.channels, chunk.samples.dtype, chunk.frame_id, chunk.stamp is None)
        == (first.rate, first.channels, first.samples.dtype, first.frame_id, first.stamp is None)
        and not chunk.lost
        and not chunk.overflow
        and not chunk.deaf
        and abs(chunk.begin - first.begin - seconds) <= Supervisor.TOLERANCE
    )
