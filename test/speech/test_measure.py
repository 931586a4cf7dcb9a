"""Measuring speech: the scores, the sounds, the speaker, and that the report counts exactly what went wrong."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jmceln_core.config import ConfigError
from jmceln_core.speech.audio import RATE
from jmceln_core.speech.bench import measure, noise, score
from jmceln_core.speech.bench.measure import ENDS, Sentence
from jmceln_core.speech.bench.speaker import VOICES, Speaker, SpeakerError
from jmceln_core.speech.engines import Transcription
from jmceln_core.speech.listener import Listener
from jmceln_core.speech.missing import EngineMissing

pytest.importorskip("jiwer")
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed: apt install flite")


# Sentences


def test_the_sentences_are_enough_and_the_splits_share_none() -> None:
    test, development = (measure.read_sentences(split) for split in measure.SPLITS)
    assert len(test) >= 70
    assert len(development) >= 40
    said = [score.normal(sentence.say) for sentence in (*test, *development)]
    assert len(set(said)) == len(said)
    for sentence in (*test, *development):
        assert sentence.say == sentence.say.lower()
        assert len(sentence.say.split()) <= 11
        words = iter(sentence.say.split())
        assert all(word in words for word in sentence.command.split()), sentence  # in this order
    assert 0.4 < np.mean([sentence.say == sentence.command for sentence in test]) < 0.6
    assert sum(sentence.ends for sentence in test) >= 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("development: []", "no list 'test'"),
        ("test: []", "no list 'test'"),
        ("test: [hello]", "test 1: expected fields"),
        ("test: [{say: a cup, command: a cup}, {say: a cup}]", "test 2: .*command"),
        ("test: [{say: a cup, command: a cup, end: true}]", "test 1: end: .*did you mean ends"),
        ("test: [{say: a cup, command: ''}]", "test 1: needs"),
        ("test: [{say: stop, command: stop, ends: true}]", "test 1: needs"),
        ("test: [{say: '?', command: a cup}]", "test 1: needs"),
    ],
)
def test_a_wrong_file_of_sentences_is_refused_by_entry(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sentences.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        measure.read_sentences("test", path)
    assert str(path) in str(raised.value)


def test_some_of_the_sentences_are_taken_evenly() -> None:
    sentences = [Sentence(f"sentence {n}", "x") for n in range(10)]
    assert measure.spread(sentences, 4) == [sentences[n] for n in (0, 2, 5, 7)]
    assert measure.spread(sentences, 99) == sentences
    assert measure.spread(sentences, 0) == []


# Scores


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The red mug, on the left.", "the red mug on the left"),
        ("the 2nd bottle", "the second bottle"),
        ("number 7", "number seven"),
        ("20 21st 12th 40th 99 13th 5th", "twenty twenty first twelfth fortieth ninety nine thirteenth fifth"),
        ("0 and 100", "zero and 100"),  # up to 99
        ("2x4", "2x4"),  # no number
        ("the man's T-shirt", "the mans t shirt"),
        ("the man’s __ cup", "the mans cup"),
        ("  \n", ""),
        ("...", ""),
    ],
)
def test_the_form_in_which_texts_are_compared(text: str, normal: str) -> None:
    assert score.normal(text) == normal
    assert score.normal(normal) == normal


@pytest.mark.parametrize(
    ("said", "heard", "counts", "differences"),
    [
        ("the red mug", "The red mug.", (3, 0, 0, 0), []),
        ("the red mug", "the rad mug", (3, 1, 0, 0), [("red", "rad")]),
        ("the red mug", "the mug", (3, 0, 1, 0), [("red", "")]),
        ("the red mug", "the red old mug", (3, 0, 0, 1), [("", "old")]),
        ("the 2nd mug", "the second mug", (3, 0, 0, 0), []),
        ("a b c d e", "b x d e f", (5, 1, 1, 1), [("a", ""), ("c", "x"), ("", "f")]),
        ("a b", "x y", (2, 2, 0, 0), [("a", "x"), ("b", "y")]),
        ("the mug", "", (2, 0, 2, 0), [("the", ""), ("mug", "")]),
        ("", "thank you", (0, 0, 0, 2), [("", "thank"), ("", "you")]),
        ("", "", (0, 0, 0, 0), []),
    ],
)
def test_word_errors(said: str, heard: str, counts: tuple[int, ...], differences: list[tuple[str, str]]) -> None:
    errors = score.word_errors(said, heard)
    assert (errors.words, errors.substitutions, errors.deletions, errors.insertions) == counts
    assert errors.count == sum(counts[1:])
    assert list(errors.differences) == differences


def test_the_rate_is_of_all_words_and_not_the_mean_of_rates() -> None:
    errors = [score.word_errors("a", "b"), score.word_errors("a b c d e f g h i", "a b c d e f g h i")]
    assert score.word_error_rate(errors) == 0.1
    assert math.isnan(score.word_error_rate([]))


@pytest.mark.parametrize(("right", "count"), [(0, 10), (5, 10), (10, 10), (63, 70), (1, 1)])
def test_wilsons_interval(right: int, count: int) -> None:
    interval = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert score.wilson(right, count) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_there_is_no_interval_of_nothing() -> None:
    assert all(map(math.isnan, score.wilson(0, 0)))


# Sounds


@pytest.mark.parametrize("kind", noise.SOUNDS)
def test_sounds_are_what_their_seed_says_and_neither_silent_nor_cut_off(kind: str) -> None:
    sound = noise.make(kind, 3.0, seed=5, level=0.1)
    assert sound.dtype == np.float32
    assert sound.shape == (3 * RATE,)
    assert np.isfinite(sound).all()
    assert np.array_equal(sound, noise.make(kind, 3.0, seed=5, level=0.1))
    peak, level = np.abs(sound).max(), np.sqrt(np.mean(sound.astype(np.float64) ** 2))
    if kind == "silence":
        assert peak == 0
        return
    assert not np.array_equal(sound, noise.make(kind, 3.0, seed=6, level=0.1))
    if kind == "dither":
        assert 0 < peak <= 1 / 32_768
    else:
        assert peak < 0.9901
        assert level == pytest.approx(0.1, rel=1e-4) or (level < 0.1 and peak > 0.989)
        assert np.mean(np.abs(sound) > 0.98) < 0.001
        assert abs(sound.mean()) < 0.2 * level


def slope(sound: np.ndarray) -> float:
    """Decibels by octave between 100 Hz and 6.4 kHz."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequency = np.fft.rfftfreq(len(sound), 1 / RATE)
    edges = 100 * 2.0 ** np.arange(7)
    pairs = itertools.pairwise(edges)
    levels = [10 * np.log10(power[(low <= frequency) & (frequency < high)].mean()) for low, high in pairs]
    return float(np.polyfit(range(6), levels, 1)[0])


@pytest.mark.parametrize(("kind", "decibels"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_the_colours_of_noise(kind: str, decibels: float) -> None:
    assert slope(noise.make(kind, 10.0)) == pytest.approx(decibels, abs=0.2)


def test_an_unknown_sound_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'grey'.*white"):
        noise.make("grey", 1.0)


def tone(seconds: float, amplitude: float, frequency: float = 1_000.0) -> np.ndarray:
    """Its power is amplitude^2 / 2 in every 20 ms."""
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def test_the_active_part_is_without_silence_and_pauses_and_whispers() -> None:
    silent = np.zeros(RATE // 10)
    quiet = tone(0.1, 0.5 * math.sqrt(0.9e-3))  # a little more than 30 dB below the loudest
    speech = np.concatenate([silent, quiet, tone(0.2, 0.5), silent, tone(0.1, 0.25), silent])
    begin, end, power = noise.active(speech)
    assert (begin, end) == (RATE * 2 // 10, RATE * 6 // 10)
    assert power == pytest.approx((2 * 0.125 + 0.03125) / 3, rel=1e-12)
    louder = np.concatenate([tone(0.1, 0.5 * math.sqrt(1.1e-3)), tone(0.1, 0.5)])
    assert noise.active(louder)[0] == 0
    assert noise.active(tone(0.203, 0.5))[1] == round(0.203 * RATE)  # the last frame is not whole
    with pytest.raises(ValueError, match="silence has no active part"):
        noise.active(np.zeros(100))


@pytest.mark.parametrize("decibels", [-5.0, 0.0, 10.0, 20.0])
def test_the_ratio_is_exact(decibels: float) -> None:
    speech = np.concatenate([np.zeros(RATE // 2), tone(0.5, 0.3)])
    sound = np.random.default_rng(0).standard_normal(5 * RATE)
    scaled = noise.gain(speech, sound, decibels) * sound
    assert 10 * math.log10(0.045 / np.mean(scaled**2)) == pytest.approx(decibels, abs=1e-9)


def test_noise_is_around_the_speech_too_and_nothing_is_cut_off() -> None:
    speech = tone(1.0, 0.9).astype(np.float32)
    sound = noise.make("white", 4.0, seed=3)
    mixed = noise.add_noise(speech, sound, 6.0)
    assert mixed.dtype == np.float32
    assert len(mixed) == round((noise.BEFORE + 1 + noise.AFTER) * RATE)
    assert np.abs(mixed).max() == pytest.approx(0.99, abs=1e-6)  # it would have been above 1
    scale = float(mixed[0] / sound[0])
    speech_again = (mixed - scale * sound[: len(mixed)].astype(np.float64))[RATE // 2 : 3 * RATE // 2]
    assert abs(np.corrcoef(speech_again, speech)[0, 1]) > 1 - 1e-9
    ratio = 10 * math.log10(np.mean(speech_again**2) / np.mean((scale * sound[: len(mixed)]) ** 2))
    assert ratio == pytest.approx(6.0, abs=1e-4)
    padding = np.concatenate([mixed[: RATE // 2], mixed[-RATE:]])
    assert padding.std() == pytest.approx(scale * sound.std(), rel=0.05)
    with pytest.raises(ValueError, match="as long as"):
        noise.add_noise(speech, sound[:RATE], 6.0)
    with pytest.raises(ValueError, match="silence"):
        noise.add_noise(speech, np.zeros(4 * RATE), 6.0)


# The speaker


def test_without_flite_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpeakerError, match="apt install flite"):
        Speaker(tmp_path / "spoken").say("the cup")
    assert not list((tmp_path / "spoken").iterdir())


def test_what_flite_would_get_wrong_silently_is_refused(tmp_path: Path) -> None:
    speaker = Speaker(tmp_path)
    with pytest.raises(ValueError, match=r"'alice'.*slt, rms, awb, kal16"):
        speaker.say("the cup", "alice")
    with pytest.raises(ValueError, match="speed=0"):
        speaker.say("the cup", speed=0)
    with pytest.raises(ValueError, match="empty"):
        speaker.say(" ")


@needs_flite
@pytest.mark.parametrize("voice", VOICES)
def test_the_speaker_speaks(tmp_path: Path, voice: str) -> None:
    speaker = Speaker(tmp_path)
    samples = speaker.say("the red mug on the left", voice)
    assert samples.dtype == np.float32
    assert 0.8 * RATE < len(samples) < 3 * RATE
    assert 0.1 < np.abs(samples).max() <= 1
    faster = speaker.say("the red mug on the left", voice, speed=1.25)
    assert len(samples) / len(faster) == pytest.approx(1.25, abs=0.08)
    assert len(list(tmp_path.iterdir())) == 2


@needs_flite
def test_a_sentence_is_spoken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Speaker(tmp_path).say("stop")
    monkeypatch.setenv("PATH", "")
    assert np.array_equal(Speaker(tmp_path).say("stop"), samples)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"RIFF")
    with pytest.raises(SpeakerError, match=f"{file.name}.*delete the file"):
        Speaker(tmp_path).say("stop")


# The measurement, with a speaker whose sentences are tones, a detector of loudness, and an engine that knows the tones

SENTENCES = [
    Sentence("the red mug", "the red mug"),
    Sentence("please find the second cup", "the second cup"),
    Sentence("stop", "", ends=True),
    Sentence("the dog on the sofa", "the dog on the sofa"),
]


class Tones:
    """Speaks sentence n as a tone of 400 + 200 n Hz, a second long at speed 1."""

    def say(self, text: str, voice: str, speed: float) -> np.ndarray:
        index = [sentence.say for sentence in SENTENCES].index(text)
        return tone(1 / speed, 0.5, 400.0 + 200 * index).astype(np.float32)


class Loud:
    """Takes for speech what is louder than any of the noise."""

    def probability(self, frame: np.ndarray) -> float:
        return float(np.mean(frame**2) > 0.05)

    def reset(self) -> None:
        pass


class Ear:
    """Says `texts` of the tones it hears: the first if it is clean, the second in noise; `otherwise` without a tone."""

    def __init__(
        self,
        texts: dict[str, tuple[str, str]] | None = None,
        otherwise: str = "",
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = "an ear"
        self.texts = {s.say: (s.say, s.say) for s in SENTENCES} | (texts or {})
        self.otherwise = otherwise
        self.after = after

    def transcribe(self, samples: np.ndarray) -> Transcription:
        self.after()
        power = np.abs(np.fft.rfft(samples)) ** 2
        frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
        place = int(power.argmax())
        index = (frequency[place] - 400) / 200
        near = power[max(place - 20, 0) : place + 20].sum() / max(power.sum(), 1e-9)
        if abs(index - round(index)) > 0.05 or round(index) not in range(4) or near < 0.5:
            return Transcription(self.otherwise, 0.9)
        return Transcription(self.texts[SENTENCES[round(index)].say][int(near < 0.99)], 0.9)


def listener(ear: Ear | None = None) -> Listener:
    return Listener(ear or Ear(), detector=Loud())


def test_every_mistake_is_counted_and_nothing_else() -> None:
    clumsy = Ear(
        {
            "the red mug": ("The red mug.", "the rad mug"),
            "please find the second cup": ("Please find the 2nd cup!", "find the second cup"),  # a word lost, no harm
            "stop": ("stop", "sausage"),
            "the dog on the sofa": ("the dog on sofa", ""),
        }
    )
    listeners = {"moonshine": listener(clumsy), "whisper": listener()}
    found = measure.measure(
        listeners,
        Tones(),
        SENTENCES,
        voices=("slt",),
        conditions=("clean", "snr10", "fast"),
        noise_minutes=0,
        latency_sentences=0,
    )
    rows = {(row["condition"], row["engine"]): row for row in found["rows"]}
    assert len(rows) == 6
    clean, noisy = rows["clean", "moonshine"], rows["snr10", "moonshine"]
    assert (clean["right"], clean["sentences"], clean["accuracy"]) == (3, 4, 0.75)
    assert (clean["words"], clean["substitutions"], clean["deletions"], clean["insertions"]) == (14, 0, 1, 0)
    assert clean["word_error_rate"] == 1 / 14
    assert clean["interval"] == list(score.wilson(3, 4))
    assert (noisy["right"], noisy["substitutions"], noisy["deletions"], noisy["insertions"]) == (1, 2, 6, 0)
    assert rows["fast", "moonshine"]["right"] == 3
    for condition in ("clean", "snr10", "fast"):
        assert (rows[condition, "whisper"]["right"], rows[condition, "whisper"]["word_error_rate"]) == (4, 0)
    for row in rows.values():
        assert 0 < row["engine_real_time"] < row["chain_real_time"] * 2 < 2

    whole = {(row["condition"], row["voice"], row["engine"]): row for row in found["totals"]}
    assert len(whole) == 16  # three conditions and all, slt alone and all voices, two engines
    assert (whole["snr10", "all", "moonshine"]["right"], whole["snr10", "all", "moonshine"]["silent"]) == (1, 1)
    assert whole["all", "slt and rms", "moonshine"]["right"] == 3 + 1 + 3
    assert whole["all", "all", "whisper"]["sentences"] == 12

    trials = {(t["condition"], t["engine"], t["say"]): t for t in found["trials"]}
    assert len(trials) == 24
    trial = trials["snr10", "moonshine", "stop"]
    assert (trial["heard"], trial["commands"], trial["expected"]) == ("sausage", ("sausage",), ENDS)
    assert trials["snr10", "moonshine", "the dog on the sofa"]["refusals"] == ("no words in it",)
    assert trials["clean", "whisper", "stop"]["commands"] == (ENDS,)
    assert trials["clean", "whisper", "stop"]["recorded"] == pytest.approx(2.5)
    assert trials["fast", "whisper", "stop"]["recorded"] == pytest.approx(1.5 + 1 / 1.1, abs=1e-4)
    assert found["rules"] == {"sentences": 4, "right": 4, "wrong": []}

    text = measure.markdown(json.loads(json.dumps(found, allow_nan=False)))
    for part in (
        "| clean | slt | moonshine | 7.1% | 0, 1, 0 of 14 | 3/4 = 75.0% [30.1%, 95.4%] |",
        "| snr10 | slt | moonshine | 57.1% | 2, 6, 0 of 14 | 1/4 = 25.0% [4.6%, 69.9%] |",
        "| snr10 | all | moonshine | 57.1% | 1 | 2 | 1 | 1/4 = 25.0% [4.6%, 69.9%] |",
        "| moonshine, no noise, slt: at least 90% right | 3/4 = 75.0% [30.1%, 95.4%] | MISSED |",
        "## Sentences that failed: 5 of 24",
        "| moonshine | the dog on the sofa | the dog on sofa | the > (nothing) | the dog on sofa | the dog on the sofa "
        "| slt clean, slt fast |",
        "| moonshine | the red mug | the rad mug | red > rad | the rad mug | the red mug | slt snr10 |",
        "| moonshine | stop | sausage | stop > sausage | sausage | (ends) | slt snr10 |",
        "| moonshine | the | (nothing) | 4 |",  # once in each "the dog on sofa", twice where nothing was heard
    ):
        assert part in text
    assert "whisper | the" not in text


def test_a_sentence_that_falls_apart_into_two_commands_is_wrong() -> None:
    sentence = SENTENCES[0]
    assert measure._same(["The red mug"], sentence)
    assert not measure._same(["the red mug", "the red mug"], sentence)
    assert not measure._same([], sentence)
    assert not measure._same([ENDS], sentence)
    assert measure._same([ENDS], SENTENCES[2])
    assert not measure._same([""], SENTENCES[2])


def test_the_same_run_is_the_same_noise_and_another_seed_is_another() -> None:
    first, second, third = (measure.record(Tones(), SENTENCES[0], "slt", "pink10", seed=n) for n in (0, 0, 1))
    assert np.array_equal(first.samples, second.samples)
    assert not np.array_equal(first.samples, third.samples)
    assert (first.begin, first.end) == (0.5, 1.5)
    clean = measure.record(Tones(), SENTENCES[0], "slt", "clean")
    assert not clean.samples[: RATE // 2].any()
    assert not clean.samples[-RATE:].any()


def test_ten_minutes_are_ten_minutes() -> None:
    sounds = measure.not_speech(10)
    assert sum(seconds for _, _, seconds in sounds) == pytest.approx(600)
    assert {kind for kind, _, _ in sounds} == set(noise.SOUNDS)
    assert len(set(sounds)) == len(sounds)


def test_what_is_heard_where_nobody_speaks_is_listed() -> None:
    listeners = {
        "moonshine": listener(Ear(otherwise="Thank you for watching!")),
        "whisper": Listener(Ear(otherwise="the red cup"), detector=AlwaysSpeech()),
    }
    rows = measure.false_accepts(listeners, minutes=0.8)  # 24 sounds of two seconds
    assert len(rows) == 2 * 24
    assert sum(row["seconds"] for row in rows) == pytest.approx(2 * 48)
    polite, eager = ([row for row in rows if row["engine"] == engine] for engine in listeners)
    assert sum(row["utterances"] for row in polite) == 0
    undetected = [row["undetected"] for row in polite]
    assert {(row["utterances"], row["accepted"]) for row in undetected} == {(1, 0)}
    refused = [row["texts"][0] for row in undetected if row["texts"] and row["texts"][0]["text"].startswith("Thank")]
    assert len(refused) > 15
    assert "speech engines write it on noise" in refused[0]["reason"]
    accepted = sum(row["accepted"] for row in eager)
    assert 15 < accepted <= 24
    found = {"engines": dict.fromkeys(listeners, "x"), "false_accepts": rows, "latency": []}
    verdicts = {row["target"].split(":")[0]: row for row in measure.targets(found, [])}
    assert verdicts["moonshine"]["met"]
    assert not verdicts["whisper"]["met"]
    assert verdicts["whisper"]["found"] == f"{accepted} in 0.8 minutes"
    assert any("'the red cup' (ACCEPTED)" in str(row) for row in measure._quiet_rows(rows))


class AlwaysSpeech:
    def probability(self, frame: np.ndarray) -> float:
        return 1.0

    def reset(self) -> None:
        pass


def test_latency_is_from_the_end_of_the_speech_to_the_command() -> None:
    now = 0.0

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Fading(Tones):
        """Ends softly, which the detector does not notice, and with silence, which is no speech."""

        def say(self, text: str, voice: str, speed: float) -> np.ndarray:
            loud = super().say(text, voice, speed)
            return np.concatenate([loud, loud[: RATE // 5] / 5, np.zeros(RATE // 10, np.float32)])

    recording = measure.record(Fading(), SENTENCES[1], "slt", "clean")
    ear = Ear(after=lambda: pass_by(0.3))
    found = measure.replay(listener(ear), recording, clock=lambda: now, sleep=pass_by)
    assert found is not None
    assert found.speech == pytest.approx(1.2)
    assert 0.3 - 0.032 <= found.waited <= 0.3 + 0.032 + 0.02  # a frame and a chunk
    assert found.total == pytest.approx(found.waited + 0.3)
    assert now == pytest.approx(2.8)  # what the engine took was made up for
    silent = measure.Recording(SENTENCES[1], np.zeros(RATE, np.float32), 0.5, 0.6)
    assert measure.replay(listener(), silent, clock=lambda: now, sleep=pass_by) is None


def test_latencies_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([measure.Latency("a", 1.0, 0.5, 0.1, 0.6), measure.Latency("b", 0.5, 0.5, 0.3, 0.8), None])
    monkeypatch.setattr(measure, "replay", lambda listener, recording: next(answers))
    recording = measure.record(Tones(), SENTENCES[1], "slt", "clean")
    found = measure.latencies(listener(), [recording] * 3)
    assert (found["sentences"], found["heard"], found["within"]) == (3, 2, 1)
    assert found["ratio"] == pytest.approx({"median": 1.1, "p95": 0.6 + 0.95 * 1.0})
    assert found["engine_seconds"]["median"] == pytest.approx(0.2)
    row = {"engine": "moonshine", "busy": 2} | found
    (verdict,) = measure.targets({"engines": {}, "false_accepts": [], "latency": [row]}, [])
    assert not verdict["met"]
    assert verdict["found"] == "median 1.10, 95th percentile 1.55"
    assert measure._latency_row(row)[:3] == ("moonshine", "beside 2 busy processes", "2 of 3")


def test_busy_processes_are_busy_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen
    monkeypatch.setattr(measure.subprocess, "Popen", lambda *a, **k: started.append(start(*a, **k)) or started[-1])

    def fail() -> None:
        with measure.busy(2):
            assert len(started) == 2
            assert all(process.poll() is None for process in started)
            raise RuntimeError("something")

    with pytest.raises(RuntimeError, match="something"):
        fail()
    assert all(process.poll() is not None for process in started)


# The command


class Fakes:
    """Stands for load_engine: moonshine is there, whisper is not."""

    def __call__(self, name: str, **options: object) -> Ear:
        if name == "whisper":
            raise EngineMissing("listening needs faster-whisper: pip install faster-whisper")
        return Ear()


@pytest.fixture
def without_whisper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "load_engine", Fakes())
    monkeypatch.setattr(measure, "Listener", lambda engine: Listener(engine, detector=Loud()))
    monkeypatch.setattr(measure.speaker, "version", lambda: "2.2")
    monkeypatch.setattr(measure.speaker, "Speaker", lambda folder: Tones())
    monkeypatch.setattr(measure, "read_sentences", lambda split: SENTENCES)


@pytest.mark.usefixtures("without_whisper")
def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    arguments = ["--conditions", "clean", "--voices", "slt", "--sentences", "2", "--noise-minutes", "0"]
    assert measure.main([*arguments, "--latency-sentences", "0", "--threads", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert (out / "measure.md").read_text() == printed.removesuffix("\n")
    assert "2/2 = 100.0%" in printed
    assert "Left out: whisper: listening needs faster-whisper: pip install faster-whisper." in printed
    written = json.loads((out / "measure.json").read_text())
    assert written["about"]["sentences"] == 2
    assert written["machine"]["threads"] == 1
    assert written["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert {"Python", "flite", "jiwer", "numpy"} <= set(written["versions"])
    assert [trial["say"] for trial in written["trials"]] == ["the red mug", "stop"]


@pytest.mark.usefixtures("without_whisper")
def test_an_engine_that_is_named_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main(["--engines", "moonshine", "whisper", "--out", str(tmp_path)]) == 2
    assert "pip install faster-whisper" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_flite_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measure.main(["--out", str(tmp_path / "out")]) == 2
    assert "apt install flite" in capsys.readouterr().err


def test_without_any_engine_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, **options: object) -> Ear:
        raise EngineMissing(f"{name} is not there: pip install {name}")

    monkeypatch.setattr(measure, "load_engine", missing)
    with pytest.raises(EngineMissing, match=r"pip install moonshine.*pip install whisper"):
        measure.load_listeners(None)
