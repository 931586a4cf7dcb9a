"""Sound as the rest of this package wants it: float32, one channel, 16 kHz, in [-1, 1]."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from jmceln_core.speech.missing import needed

#: Samples per second of everything that is listened to.
RATE = 16_000

#: Sampling rates that are taken: from telephones to laboratory microphones.
RATES = (4_000, 384_000)

_FULL_SCALE = 0.999  # at and beyond this a sample stands at the end of its range


class AudioError(ValueError):
    """Sound that cannot be used; the message names it and the remedy."""


def to_mono(samples: np.ndarray, channels: int = 1) -> np.ndarray:
    """The mean of the channels, float32 in [-1, 1], (n,).

    `samples` are interleaved: (n * channels,), or (n, channels); integers are scaled by their type's range, floats
    beyond [-1, 1] are cut off there. Raises AudioError for other types, NaN, and a frame that is not whole.
    """
    samples = np.asarray(samples)
    if channels < 1:
        raise AudioError(f"sound with {channels} channels; at least 1 is needed")
    if samples.size % channels:
        raise AudioError(f"{samples.size} samples cannot be shared out to {channels} channels: check `channels`")
    if samples.dtype == np.uint8:  # the one unsigned format of WAV files: silence is 128
        scaled = (samples.astype(np.float32) - 128.0) / 128.0
    elif samples.dtype.kind == "i":
        scaled = (samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    elif samples.dtype.kind == "f":
        if not np.isfinite(samples).all():
            raise AudioError(
                "samples that are not finite numbers (NaN or infinite); check the driver of the microphone"
            )
        scaled = np.clip(samples, -1.0, 1.0).astype(np.float32)
    else:
        raise AudioError(
            f"samples of type {samples.dtype}; int8, int16, int32, uint8, float32 or float64 are understood"
        )
    return scaled.reshape(-1, channels).mean(axis=1)


def clipped(samples: np.ndarray) -> int:
    """How many samples stand at the end of their range: the microphone's gain is too high."""
    samples = np.asarray(samples)
    if samples.dtype.kind == "f":
        return int((np.abs(samples) >= _FULL_SCALE).sum())
    ends = np.iinfo(samples.dtype)
    return int(((samples == ends.max) | (samples == ends.min)).sum())


class Resampler:
    """Any rate to 16 kHz, as a stream: the chunks may be of any length, and nothing is heard of where they join.

    Raises AudioError for a rate outside RATES.
    """

    def __init__(self, rate: int) -> None:
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(f"a sampling rate of {rate} Hz; it must lie in {RATES[0]} to {RATES[1]}")
        self.rate = rate
        self._stream = None
        if rate != RATE:
            with needed("soxr"):
                import soxr
            self._stream = soxr.ResampleStream(rate, RATE, 1, dtype="float32")

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The next chunk, (n,) float32, at 16 kHz; a few tens of milliseconds are held back until the next one."""
        return samples if self._stream is None or not len(samples) else self._stream.resample_chunk(samples)

    def flush(self) -> np.ndarray:
        """What was held back. The stream is at its end then."""
        empty = np.zeros(0, np.float32)
        return empty if self._stream is None else self._stream.resample_chunk(empty, last=True)


def read_wav(path: str | Path) -> tuple[np.ndarray, int]:
    """The samples of a WAV file as stored, (n, channels), and its rate in Hz. Raises AudioError with the path."""
    with needed("scipy"):
        from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold the title and the like
            rate, samples = wavfile.read(path)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the name and the permissions") from error
    except Exception as error:  # scipy reports a broken header by whatever it stumbles over
        raise AudioError(
            f"{path}: not a WAV file that can be read ({error}); convert it: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"
        ) from error
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path}: a sampling rate of {rate} Hz; it must lie in {RATES[0]} to {RATES[1]}")
    if not samples.size:
        raise AudioError(f"{path}: no samples in it; record it again")
    return samples.reshape(len(samples), -1), rate


def load(path: str | Path) -> np.ndarray:
    """A WAV file as float32 mono 16 kHz, (n,). Raises AudioError with the path."""
    samples, rate = read_wav(path)
    try:
        mono, resampler = to_mono(samples, samples.shape[1]), Resampler(rate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    return np.concatenate([resampler(mono), resampler.flush()])
