"""Sound in any form becomes float32 mono 16 kHz; what cannot is refused with words."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import resample_poly

from jmceln_core.speech.audio import RATE, AudioError, Resampler, clipped, load, read_wav, to_mono
from jmceln_core.speech.missing import EngineMissing


def tone(rate, seconds=1.0, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1.0, 0.0, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1.0, 0.5]),
        (np.array([-128, 64], np.int8), [-1.0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1.0, 0.0, 0.5]),  # the unsigned format of WAV: silence is 128
        (np.array([0.25, 3.0, -3.0], np.float64), [0.25, 1.0, -1.0]),  # cut off at full scale
        (np.array([], np.int16), []),
    ],
)
def test_samples_of_every_type_are_scaled_alike(samples, expected):
    mono = to_mono(samples)
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, expected)


def test_channels_are_averaged_flat_or_in_columns():
    stereo = np.array([[1.0, 0.0], [0.5, -0.5], [-1.0, -1.0]], np.float32)
    np.testing.assert_array_equal(to_mono(stereo, 2), [0.5, 0.0, -1.0])
    np.testing.assert_array_equal(to_mono(stereo.ravel(), 2), [0.5, 0.0, -1.0])


@pytest.mark.parametrize(
    ("samples", "channels", "said"),
    [
        (np.array([0.0, np.nan], np.float32), 1, "not finite"),
        (np.array([0.0, np.inf], np.float32), 1, "not finite"),
        (np.array([1 + 1j]), 1, "complex128"),
        (np.array(["a"]), 1, "float32"),
        (np.zeros(3, np.int16), 2, "3 samples cannot be shared out to 2 channels"),
        (np.zeros(3, np.int16), 0, "0 channels"),
    ],
)
def test_what_is_no_sound_is_refused_with_words(samples, channels, said):
    with pytest.raises(AudioError, match=said):
        to_mono(samples, channels)


def test_clipping_is_counted():
    assert clipped(np.array([32767, -32768, 32766, 0], np.int16)) == 2
    assert clipped(np.array([1.0, -1.2, 0.9], np.float32)) == 2


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("chunk", [1, 441, 100_000])
def test_resampling_in_chunks_is_the_tone_at_16_khz(rate, chunk):
    seconds = 0.2 if chunk == 1 else 1.0
    sound = tone(rate, seconds).astype(np.float32)
    resampler = Resampler(rate)
    out = [resampler(sound[i : i + chunk]) for i in range(0, len(sound), chunk)]
    out = np.concatenate([*out, resampler.flush()])
    assert out.dtype == np.float32
    assert abs(len(out) - RATE * seconds) <= 2
    inner = slice(500, min(len(out), int(RATE * seconds)) - 500)
    np.testing.assert_allclose(out[inner], tone(RATE, seconds)[inner], atol=0.01)


def test_what_is_above_8_khz_is_not_folded_down():
    sound = tone(48_000, hertz=11_000.0).astype(np.float32)
    resampler = Resampler(48_000)
    out = np.concatenate([resampler(sound), resampler.flush()])
    assert np.abs(out[500:-500]).max() < 0.01
    assert np.abs(resample_poly(sound, 1, 1)[::3]).max() > 0.4  # as it would be without a filter


@pytest.mark.parametrize("rate", [0, -16_000, 3_999, 1_000_000])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        Resampler(rate)


def test_without_soxr_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    Resampler(RATE)  # nothing to resample
    with pytest.raises(EngineMissing, match="pip install soxr"):
        Resampler(48_000)


@pytest.mark.parametrize(
    "samples",
    [
        (tone(48_000) * 32767).astype(np.int16),
        np.stack([tone(48_000)] * 2, axis=1).astype(np.float32),
        (tone(48_000) * 127 + 128).astype(np.uint8),
    ],
    ids=["int16", "float32 stereo", "uint8"],
)
def test_wav_files_of_every_kind(tmp_path, samples):
    wavfile.write(tmp_path / "tone.wav", 48_000, samples)
    stored, rate = read_wav(tmp_path / "tone.wav")
    assert rate == 48_000
    assert stored.dtype == samples.dtype
    assert stored.shape == (48_000, samples.ndim)
    sound = load(tmp_path / "tone.wav")
    assert abs(len(sound) - RATE) <= 2
    np.testing.assert_allclose(sound[500:15_500], tone(RATE)[500:15_500], atol=0.02)


def test_a_file_that_is_no_wav_is_named(tmp_path):
    for name, content in {"empty.wav": b"", "text.wav": b"hello", "cut.wav": b"RIFF\x24\x00\x00\x00WAVEfmt "}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match=rf"{name}.*ffmpeg"):
            load(tmp_path / name)
    for kind in (np.zeros(0, np.int16), np.zeros((0, 2), np.float32)):
        wavfile.write(tmp_path / "silent.wav", 16_000, kind)
        with pytest.raises(AudioError, match=r"silent\.wav: no samples in it"):
            load(tmp_path / "silent.wav")
    with pytest.raises(AudioError, match=r"missing\.wav: cannot be read"):
        load(tmp_path / "missing.wav")
