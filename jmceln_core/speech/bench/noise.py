"""Sound that is no speech, made by rule and seed: noises, music-like sound, silence; and speech in noise.

Nothing is recorded, so it is the same on every machine and free of anyone's rights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jmceln_core.speech.audio import RATE
from jmceln_core.speech.missing import needed

with needed("scipy"):
    from scipy import signal

#: Seconds of silence or noise around spoken sentences: the endpointer needs something to find their ends in.
BEFORE, AFTER = 0.5, 1.0

#: A frame of speech is active if its power is at least this share (-30 dB) of the loudest frame's.
ACTIVE_SHARE = 1e-3
ACTIVE_FRAME = 320  # samples: 20 ms

_PEAK = 0.99  # nothing is louder: what is scaled down keeps its ratios, what is cut off does not


def white(count: int, rng: np.random.Generator) -> np.ndarray:
    """The same power at every frequency."""
    return rng.standard_normal(count)


def pink(count: int, rng: np.random.Generator) -> np.ndarray:
    """Power falls as 1 / frequency: rain, traffic, many people far away."""
    return _coloured(count, rng, -0.5)


def brown(count: int, rng: np.random.Generator) -> np.ndarray:
    """Power falls as 1 / frequency^2: wind, a ship's engine."""
    return _coloured(count, rng, -1.0)


def hum(count: int, rng: np.random.Generator) -> np.ndarray:
    """A transformer at 50 or 60 Hz, with harmonics up to the twentieth, and some hiss."""
    base = rng.choice([50.0, 60.0])
    t = np.arange(count) / RATE
    tones = np.zeros(count)
    for harmonic in range(1, 21):
        tones += rng.uniform(0.2, 1.0) / harmonic * np.sin(2 * np.pi * (base * harmonic * t + rng.random()))
    return tones + 0.02 * rng.standard_normal(count)


def fan(count: int, rng: np.random.Generator) -> np.ndarray:
    """Air between 100 Hz and 1.2 kHz, louder and quieter a few times in ten seconds, and a faint tone of the blades."""
    t = np.arange(count) / RATE
    slow = 1 + 0.4 * np.sin(2 * np.pi * (rng.uniform(0.1, 0.5) * t + rng.random()))
    blades = 0.1 * np.sin(2 * np.pi * rng.uniform(80, 200) * t)
    return slow * (_unit(_band(count, rng, 100.0, 1_200.0)) + blades)


def clicks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Clicks of a few milliseconds, four a second: relays, keys, a spoilt contact."""
    return _events(count, rng, 4.0, lambda: _burst(rng, rng.uniform(0.002, 0.008), 1_000.0, 7_000.0))


def knocks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Dull knocks, one and a half a second: a table, a door, footsteps."""

    def knock() -> np.ndarray:
        seconds = rng.uniform(0.05, 0.2)
        body = _ring(rng.uniform(90, 350), seconds)
        thud = 0.5 * _burst(rng, seconds, 100.0, 800.0)
        return body + thud

    return _events(count, rng, 1.5, knock)


def chords(count: int, rng: np.random.Generator) -> np.ndarray:
    """An organ or a piano: chords of four notes with harmonics that die away, each of a second or so."""
    root = rng.uniform(110, 220)
    sound = np.zeros(count)
    begin = 0
    while begin < count:
        length = int(RATE * rng.uniform(0.4, 1.6))
        step = rng.choice([0, 3, 5, 7, 8, 10])
        third = rng.choice([3, 4])
        for interval in (0, third, 7, 12):
            _add(sound, begin, _note(root * 2 ** ((step + interval) / 12), length, rng.uniform(1, 4)))
        begin += length
    return sound


def drums(count: int, rng: np.random.Generator) -> np.ndarray:
    """A bass drum, a snare drum and a hi-hat, in bars of sixteen steps."""
    step = int(RATE * 60 / rng.uniform(80, 140) / 4)
    sound = np.zeros(count)
    for index, begin in enumerate(range(0, count, step)):
        place = index % 16
        if place in (0, 8) or (place % 4 == 2 and rng.random() < 0.2):
            _add(sound, begin, _ring(rng.uniform(50, 65), 0.3))
        if place in (4, 12):
            _add(sound, begin, 0.6 * _burst(rng, 0.15, 300.0, 5_000.0) + 0.4 * _ring(185.0, 0.15))
        if place % 2 == 0:
            _add(sound, begin, 0.2 * _burst(rng, 0.05, 5_000.0, 7_800.0))
    return sound


def melody(count: int, rng: np.random.Generator) -> np.ndarray:
    """One voice like a violin's or a hummed tune: notes of a scale with vibrato and eight harmonics."""
    root = rng.uniform(150, 330)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12])
    sound = np.zeros(count)
    begin, place = 0, 3
    while begin < count:
        length = int(RATE * rng.choice([0.2, 0.4, 0.6, 0.8]))
        place = int(np.clip(place + rng.integers(-2, 3), 0, len(scale) - 1))
        t = np.arange(length) / RATE
        pitch = root * 2 ** (scale[place] / 12) * (1 + 0.01 * np.sin(2 * np.pi * rng.uniform(5, 6.5) * t))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        tone = sum(np.sin(h * phase) / h for h in range(1, 9))
        _add(sound, begin, tone * np.minimum(1, np.minimum(t, t[-1] - t) / 0.03))
        begin += length if rng.random() < 0.8 else 2 * length  # a rest now and then
    return sound


def band(count: int, rng: np.random.Generator) -> np.ndarray:
    """Chords, drums and a melody together."""
    return _unit(chords(count, rng)) + _unit(drums(count, rng)) + _unit(melody(count, rng))


def silence(count: int, rng: np.random.Generator) -> np.ndarray:
    """Nothing at all: a microphone that is muted."""
    return np.zeros(count)


def dither(count: int, rng: np.random.Generator) -> np.ndarray:
    """The last bit of 16, at random: a microphone that is on, in a room without a sound."""
    return rng.integers(-1, 2, count) / 32_768


#: All kinds of sound that is no speech, by name; each takes a count of samples and a random generator, and gives
#: float64 (count,) of any power.
SOUNDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    maker.__name__: maker
    for maker in (white, pink, brown, hum, fan, clicks, knocks, chords, drums, melody, band, silence, dither)
}

#: Of them those that have a power of their own, which is not changed.
QUIET = ("silence", "dither")


def make(kind: str, seconds: float, *, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """Sound of a kind, float32 mono 16 kHz, (n,); `level` is its root mean square (but QUIET have their own).

    Where its peaks would be beyond 0.99, all of it is quieter. Raises ValueError for a kind that is not in SOUNDS.
    """
    if kind not in SOUNDS:
        raise ValueError(f"no sound {kind!r}; there are {', '.join(SOUNDS)}")
    sound = SOUNDS[kind](round(seconds * RATE), np.random.default_rng(seed))
    if kind in QUIET:
        return sound.astype(np.float32)
    return _within(level * _unit(sound)).astype(np.float32)


def active(speech: np.ndarray) -> tuple[int, int, float]:
    """Where speech (n,) is active, as its first sample and the one after its last, and its power there (mean square).

    Frames of 20 ms count whose power is at least ACTIVE_SHARE of the loudest one's; pauses between words do not.
    Raises ValueError for silence.
    """
    speech = np.asarray(speech, np.float64)
    frames = -(-len(speech) // ACTIVE_FRAME)
    padded = np.pad(speech, (0, frames * ACTIVE_FRAME - len(speech)))
    energy = (padded.reshape(frames, ACTIVE_FRAME) ** 2).sum(axis=1)
    if not energy.any():
        raise ValueError("silence has no active part, so there is no ratio to its power")
    counted = np.flatnonzero(energy >= ACTIVE_SHARE * energy.max())
    samples = np.minimum((counted + 1) * ACTIVE_FRAME, len(speech)) - counted * ACTIVE_FRAME
    end = min(int(counted[-1] + 1) * ACTIVE_FRAME, len(speech))
    return int(counted[0]) * ACTIVE_FRAME, end, float(energy[counted].sum() / samples.sum())


def gain(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> float:
    """What to multiply noise by so that speech stands `snr_db` decibels above it:

        snr_db = 10 log10(power of the active part of the speech / power of all of the noise after the gain)

    with powers as mean squares, and the active part as in `active`. Raises ValueError where either is silence.
    """
    power = float(np.mean(np.asarray(noise, np.float64) ** 2)) if len(noise) else 0.0
    if power == 0:
        raise ValueError("the noise is silence: no gain gives it a power")
    return float(np.sqrt(active(speech)[2] / power / 10 ** (snr_db / 10)))


def add_noise(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech (n,) in noise (m,), float32, with noise alone for BEFORE seconds before it and AFTER seconds after it.

    For the ratio see `gain`. Only the first samples of the noise are used; raises ValueError if there are too few of
    them. Where the sum's peak would be beyond 0.99, all of it is quieter, which leaves the ratio as it is.
    """
    padded = pad(speech).astype(np.float64)
    if len(noise) < len(padded):
        raise ValueError(f"{len(noise)} samples of noise for {len(padded)}: it must last as long as speech and padding")
    used = np.asarray(noise[: len(padded)], np.float64)
    return _within(padded + gain(speech, used, snr_db) * used).astype(np.float32)


def pad(speech: np.ndarray) -> np.ndarray:
    """Speech (n,) with silence for BEFORE seconds before it and AFTER seconds after it."""
    return np.pad(speech, (round(BEFORE * RATE), round(AFTER * RATE)))


def _within(sound: np.ndarray) -> np.ndarray:
    """The same with its peak at 0.99 if it was higher."""
    return sound * min(1.0, _PEAK / max(float(np.abs(sound).max(initial=0.0)), _PEAK))


def _unit(sound: np.ndarray) -> np.ndarray:
    """The same with a root mean square of 1."""
    return sound / max(float(np.sqrt(np.mean(sound**2))), 1e-12)


def _coloured(count: int, rng: np.random.Generator, exponent: float) -> np.ndarray:
    """Noise whose amplitude goes as frequency^exponent, from 20 Hz on."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    shape = np.where(frequency >= 20, np.maximum(frequency, 20) ** exponent, 0)
    return np.fft.irfft(spectrum * shape, count)


def _band(count: int, rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """White noise between two frequencies in Hz."""
    sections = signal.butter(2, (low, high), "bandpass", fs=RATE, output="sos")
    return signal.sosfilt(sections, rng.standard_normal(count))


def _burst(rng: np.random.Generator, seconds: float, low: float, high: float) -> np.ndarray:
    """Noise between two frequencies that dies away."""
    count = max(int(seconds * RATE), 8)
    return _band(count, rng, low, high) * np.exp(-5 * np.arange(count) / count)


def _ring(frequency: float, seconds: float) -> np.ndarray:
    """A tone that begins an octave higher and dies away: something hollow that is struck."""
    count = int(seconds * RATE)
    t = np.arange(count) / RATE
    pitch = frequency * (1 + np.exp(-40 * t))
    return np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.exp(-5 * np.arange(count) / count)


def _note(frequency: float, length: int, decay: float) -> np.ndarray:
    """A note with six harmonics: it begins within 10 ms and dies away."""
    t = np.arange(length) / RATE
    tone = sum(np.sin(2 * np.pi * frequency * harmonic * t) / harmonic for harmonic in range(1, 7))
    return tone * np.minimum(1, t / 0.01) * np.exp(-decay * t) * np.minimum(1, (t[-1] - t) / 0.02)


def _events(count: int, rng: np.random.Generator, rate: float, maker: Callable[[], np.ndarray]) -> np.ndarray:
    """Events at random moments, `rate` of them a second, but at least one, of different loudness."""
    sound = np.zeros(count)
    for begin in rng.integers(0, count, max(rng.poisson(rate * count / RATE), 1)):
        _add(sound, int(begin), rng.uniform(0.3, 1.0) * maker())
    return sound


def _add(sound: np.ndarray, begin: int, part: np.ndarray) -> None:
    """Adds `part` from sample `begin` on, in place; what goes beyond the end is left out."""
    end = min(begin + len(part), len(sound))
    sound[begin:end] += part[: end - begin]
