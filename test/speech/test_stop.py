"""jmceln_core.speech.bench.stop: what is counted, with an engine and a speaker that need nothing."""

from __future__ import annotations

import numpy as np
import pytest

from jmceln_core.speech.audio import RATE
from jmceln_core.speech.bench import stop
from jmceln_core.speech.listener import Listener
from jmceln_core.speech.protocol import Transcription


class Beeps:
    """Says "shop" higher than all else."""

    def say(self, text, voice, speed):
        return np.sin(2 * np.pi * (900 if text == "shop" else 300) * np.arange(round(RATE / speed)) / RATE)


class Pitch:
    name = "pitch"

    def transcribe(self, samples):
        strength = np.abs(np.fft.rfft(samples))
        high = strength.argmax() * RATE / len(samples) > 600
        return Transcription("Shop." if high else "Stop.", 0.9)


class Loudness:
    def probability(self, frame):
        return float(np.abs(frame).max() > 0.008)

    def reset(self):
        pass


@pytest.mark.parametrize("level", stop.LEVELS)
def test_a_recording_has_its_level_and_its_room(level):
    speech = Beeps().say("stop", "slt", 1.0)
    quiet = stop.recording(speech, level, "quiet", seed=0)
    assert np.abs(quiet).max() == pytest.approx(0.5 * 10 ** (level / 20), rel=0.01)
    noisy = stop.recording(speech, level, "pink", seed=0)
    ratio = np.mean(quiet**2) / np.mean((noisy - quiet) ** 2) * len(quiet) / RATE  # the speech lasts a second
    assert 10 * np.log10(ratio) == pytest.approx(stop.SNR, abs=0.5)


def test_every_stop_and_nothing_else_is_counted():
    listener = Listener(Pitch(), detector=Loudness())
    found = stop.trials(listener, Beeps(), ("stop", "shop"), (1.0,))
    assert len(found) == 2 * len(stop.VOICES) * len(stop.LEVELS) * len(stop.ROOMS)
    assert all(trial.ended == (trial.text == "stop") for trial in found)
    assert "| text shop | 0 of 16 = 0% [0%, 19%] |" in stop.markdown(found)
