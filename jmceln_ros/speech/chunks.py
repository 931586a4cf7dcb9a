"""Sound in pieces, and how every known kind of message is read by its fields.

No ROS here: a message is whatever has the fields, so that no package of messages has to be installed to read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jmceln_core.speech.audio import RATES, AudioError

#: How samples may lie in the bytes of an AudioData, in GStreamer's names.
SAMPLE_FORMATS = ("S8", "U8", "S16LE", "S16BE", "S32LE", "S32BE", "F32LE", "F32BE")

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
    `overflow`: the device says that sound before it is missing. `deaf`: nobody was to listen just before it.
    """

    samples: np.ndarray
    rate: int
    channels: int
    stamp: float | None
    arrival: float
    frame_id: str = ""
    lost: float = 0.0
    overflow: bool = False
    deaf: bool = False

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
    """What the bytes of an AudioData mean; `sample_format` is one of SAMPLE_FORMATS."""

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
