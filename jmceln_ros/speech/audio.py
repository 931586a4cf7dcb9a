"""Sound that comes as messages: every known kind read by its fields, a bounded queue, and a watch over the stream.

No ROS here: a message is whatever has the fields, so that no package of messages has to be installed to read it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from jmceln_core.speech.audio import RATES, AudioError
from jmceln_ros.common.parameters import SAMPLE_FORMATS

#: Seconds of sound that may wait for the worker, and pieces of it (they may be as short as one sample).
MAX_WAITING, MAX_PIECES = 30.0, 10_000

#: Seconds that shorter pieces are put together to before they are worked on: each costs as much as a long one.
PIECE = 0.02

# Fields of mgonzs13's AudioData with the types of their samples. int24_data, of older versions, are 24 bits in 32.
_ARRAYS = {
    "float32_data": np.float32,
    "int32_data": np.int32,
    "int24_data": np.int32,
    "int16_data": np.int16,
    "int8_data": np.int8,
    "uint8_data": np.uint8,
}
_LETTERS = {"S": "i", "U": "u", "F": "f"}


@dataclass(frozen=True)
class Chunk:
    """A piece of sound. `samples` (frames * channels,), interleaved, of any type that to_mono takes; `rate` in Hz.

    `stamp` is when the first sample was taken, None where that is not known, and `arrival` when the piece came, both in
    seconds of the node's clock. `lost`: seconds of sound before it that were given up because too much waited.
    `overflow`: the device says that sound before it is missing.
    """

    samples: np.ndarray
    rate: int
    channels: int
    stamp: float | None
    arrival: float
    frame_id: str = ""
    lost: float = 0.0
    overflow: bool = False

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / (self.rate * self.channels)

    @property
    def begin(self) -> float:
        """When its first sample was taken, or may have been: without a stamp it came as soon as it was complete."""
        return self.arrival - self.seconds if self.stamp is None else self.stamp


class Source(Protocol):
    """Where chunks come from: topics, a microphone, recordings."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def trouble(self) -> str:
        """Why no sound comes from it, in words; empty when it should."""
        ...

    @property
    def ended(self) -> bool:
        """Whether all of it was played."""
        ...

    def start(self) -> None:
        """Begins to hand chunks over. Raises AudioError if it never can."""
        ...

    def stop(self) -> None:
        """Ends; no chunk comes after it."""
        ...


@dataclass(frozen=True)
class RawFormat:
    """What the bytes of an AudioData mean; `sample_format` is one of parameters.SAMPLE_FORMATS."""

    rate: int
    channels: int
    sample_format: str


def to_chunk(message: Any, arrival: float, raw: RawFormat) -> Chunk:
    """The sound in a message of any known kind.

    These are jmceln_ros/Audio, and of the two packages called audio_common_msgs the AudioStamped of the one
    (mgonzs13) and AudioData and AudioDataStamped of the other (ros-drivers), which are bytes that `raw` explains.
    Raises AudioError for an empty message and for one whose fields contradict each other.
    """
    stamp, frame_id = _header(message)
    if is_bytes(message):
        samples = _from_bytes(getattr(message, "audio", message).data, raw.sample_format)
        rate, channels = raw.rate, raw.channels
    elif hasattr(message, "int16_data"):
        samples = _the_filled_one(message, {name: _ARRAYS[name] for name in ("int16_data", "float32_data")})
        rate, channels = message.rate, message.channels
    else:
        samples = _the_filled_one(message.audio.audio_data, _ARRAYS)
        rate, channels = message.audio.info.rate, message.audio.info.channels
    return _checked(Chunk(samples, int(rate), int(channels), stamp, arrival, frame_id))


def is_bytes(message: Any) -> bool:
    """Whether the samples are bytes, which have to be explained: AudioData and AudioDataStamped of ros-drivers."""
    return hasattr(getattr(message, "audio", message), "data")


def raw_format(info: Any) -> RawFormat:
    """What an AudioInfo (ros-drivers) says. Raises AudioError for what is not plain samples: MP3, unknown formats."""
    if info.coding_format.upper() not in ("", "WAVE", "WAV", "RAW", "PCM"):
        raise AudioError(
            f"sound coded as {info.coding_format}, which is not decoded here; set the driver's parameter format to wave"
        )
    if info.sample_format.upper() not in SAMPLE_FORMATS:
        raise AudioError(
            f"samples of the format {info.sample_format!r}; set the driver's sample_format to one of "
            f"{', '.join(SAMPLE_FORMATS)}"
        )
    return RawFormat(info.sample_rate, info.channels, info.sample_format.upper())


def _header(message: Any) -> tuple[float | None, str]:
    """Stamp in seconds, None where it is not set, and frame id."""
    if not hasattr(message, "header"):
        return None, ""
    stamp = message.header.stamp
    return (stamp.sec + 1e-9 * stamp.nanosec) or None, message.header.frame_id


def _the_filled_one(holder: Any, kinds: dict[str, Any]) -> np.ndarray:
    filled = [name for name in kinds if len(getattr(holder, name, ()))]
    if not filled:
        raise AudioError(f"an empty message: none of {', '.join(kinds)} is filled")
    if len(filled) > 1:
        raise AudioError(f"{' and '.join(filled)} are filled in one message; fill the one that holds the samples")
    samples = np.asarray(getattr(holder, filled[0]), kinds[filled[0]])
    return samples << 8 if filled[0] == "int24_data" else samples


def _from_bytes(data: Any, sample_format: str) -> np.ndarray:
    if not len(data):
        raise AudioError("an empty message: data is not filled")
    letter, bits, order = sample_format[0], int(sample_format.strip("SUFLBE")), sample_format[-2:]
    kind = np.dtype(f"{'>' if order == 'BE' else '<'}{_LETTERS[letter]}{bits // 8}")
    if len(data) % kind.itemsize:
        raise AudioError(f"{len(data)} bytes are no whole number of {sample_format} samples; check the format")
    return np.asarray(data, np.uint8).view(kind).astype(kind.newbyteorder("="), copy=False)


def _checked(chunk: Chunk) -> Chunk:
    if chunk.channels < 1:
        raise AudioError(f"sound with {chunk.channels} channels; set channels to how many there are")
    if not RATES[0] <= chunk.rate <= RATES[1]:
        raise AudioError(f"a sampling rate of {chunk.rate} Hz; it must lie in {RATES[0]} to {RATES[1]}")
    if len(chunk.samples) % chunk.channels:
        raise AudioError(f"{len(chunk.samples)} samples cannot be shared out to {chunk.channels} channels")
    return chunk


class AudioIntake:
    """A queue of chunks between the callbacks, which never wait, and the one worker.

    At most MAX_WAITING seconds wait; when more comes, the oldest are given up, `on_drop` is told their seconds, and the
    next chunk says so in `lost`. The newest chunk always stays. A new intake is closed: it takes nothing until `open`.
    """

    def __init__(self, on_drop: Callable[[float], None] = lambda seconds: None) -> None:
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._waiting: deque[Chunk] = deque()
        self._seconds = 0.0
        self._open = False

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
            if not self._open:
                return
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
        """The oldest chunk; None when nothing comes for `patience` seconds, and once the intake is closed.

        Chunks shorter than PIECE are waited for that long, and those that follow each other come as one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open, patience)
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
        and abs(chunk.begin - first.begin - seconds) <= Supervisor.TOLERANCE
    )


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
        elif chunk.lost:  # what is being said is not whole any more
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
