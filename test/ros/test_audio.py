"""jmceln_ros.speech: sound by its fields, the queue, the watch over the stream, the diagnostic."""

from __future__ import annotations

import math
import sys
import threading
import time
import wave
from array import array
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmceln_core.speech.activity import ActivityConfig
from jmceln_core.speech.audio import AudioError, clipped, read_wav, to_mono
from jmceln_core.speech.engines import ENGINES
from jmceln_core.speech.interpret import InterpreterConfig
from jmceln_ros.common.diagnostics import Level
from jmceln_ros.common.parameters import named
from jmceln_ros.speech.chunks import SAMPLE_FORMATS, Chunk, RawFormat, raw_format, to_chunk
from jmceln_ros.speech.intake import MAX_PIECES, AudioIntake
from jmceln_ros.speech.microphone import Microphone
from jmceln_ros.speech.recordings import Recordings
from jmceln_ros.speech.settings import SpeechSettings
from jmceln_ros.speech.statistics import CLIPPED, DROPPED, UNUSABLE, Condition, HearingStatistics, judge
from jmceln_ros.speech.supervisor import Step, Supervisor

RAW = RawFormat(16_000, 1, "S16LE")
EMPTY = {name: [] for name in ("float32_data", "int32_data", "int16_data", "int8_data", "uint8_data")}


def header(stamp=0.0, frame_id=""):
    return SimpleNamespace(stamp=SimpleNamespace(sec=int(stamp), nanosec=round(stamp % 1 * 1e9)), frame_id=frame_id)


def own(stamp=0.0, rate=16_000, channels=1, **data):
    return SimpleNamespace(
        header=header(stamp, "ear"), rate=rate, channels=channels, **{"int16_data": [], "float32_data": [], **data}
    )


def of_portaudio(rate=16_000, channels=1, **data):
    """mgonzs13's AudioStamped."""
    info = SimpleNamespace(format=8, channels=channels, rate=rate, chunk=512)
    return SimpleNamespace(
        header=header(5.25), audio=SimpleNamespace(audio_data=SimpleNamespace(**{**EMPTY, **data}), info=info)
    )


def of_gstreamer(data, stamped=True):
    """ros-drivers' AudioDataStamped, or its AudioData."""
    raw = SimpleNamespace(data=array("B", data))
    return SimpleNamespace(header=header(7.5), audio=raw) if stamped else raw


def info(**fields):
    return SimpleNamespace(
        **{
            "channels": 2,
            "sample_rate": 44_100,
            "sample_format": "S16LE",
            "bitrate": 0,
            "coding_format": "wave",
            **fields,
        }
    )


# Messages by their fields.


@pytest.mark.parametrize(
    "data", [{"int16_data": array("h", [0, 16_384, -32_768])}, {"float32_data": array("f", [0.0, 0.5, -1.0])}]
)
def test_own_messages_hold_one_of_two_kinds_of_samples(data):
    chunk = to_chunk(own(3.5, **data), 9.0, RAW)
    assert to_mono(chunk.samples, chunk.channels).tolist() == [0.0, 0.5, -1.0]
    assert (chunk.rate, chunk.channels, chunk.stamp, chunk.begin, chunk.frame_id) == (16_000, 1, 3.5, 3.5, "ear")
    assert chunk.seconds == 3 / 16_000


def test_without_a_stamp_the_sound_ended_when_it_came():
    chunk = to_chunk(own(0.0, rate=8000, int16_data=array("h", [0] * 800)), 9.0, RAW)
    assert chunk.stamp is None
    assert chunk.begin == pytest.approx(8.9)


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("float32_data", array("f", [0.5, -0.5]), 0.5),
        ("int32_data", array("i", [2**30, -(2**30)]), 0.5),
        ("int24_data", array("i", [2**22, -(2**22)]), 0.5),
        ("int16_data", array("h", [2**14, -(2**14)]), 0.5),
        ("int8_data", array("b", [64, -64]), 0.5),
        ("uint8_data", array("B", [192, 64]), 0.5),
    ],
)
def test_every_array_of_portaudio_s_message(field, values, expected):
    chunk = to_chunk(of_portaudio(rate=48_000, channels=2, **{field: values}), 9.0, RAW)
    np.testing.assert_allclose(to_mono(chunk.samples, 1), [expected, -expected])
    assert (chunk.rate, chunk.channels, chunk.stamp) == (48_000, 2, 5.25)


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("sample_format", SAMPLE_FORMATS)
def test_every_format_of_bytes(sample_format, stamped):
    order = ">" if sample_format.endswith("BE") else "<"
    kind = {"S8": "i1", "U8": "u1", "S1": "i2", "S3": "i4", "F3": "f4"}[sample_format[:2]]
    half = 2 ** (8 * int(kind[1]) - 2)
    values = {"i": [half, -half], "u": [192, 64], "f": [0.5, -0.5]}[kind[0]]
    data = np.array(values, order + kind).tobytes()
    chunk = to_chunk(of_gstreamer(data, stamped), 9.0, RawFormat(22_050, 1, sample_format))
    np.testing.assert_allclose(to_mono(chunk.samples, 1), [0.5, -0.5])
    assert clipped(chunk.samples) == 0  # the type is one that is counted in
    assert (chunk.rate, chunk.stamp) == (22_050, 7.5 if stamped else None)


def test_what_bytes_mean_is_read_from_audio_info():
    assert raw_format(info()) == RawFormat(44_100, 2, "S16LE")
    assert raw_format(info(coding_format="", sample_format="f32le")).sample_format == "F32LE"
    with pytest.raises(AudioError, match=r"coded as mp3.*parameter format to wave"):
        raw_format(info(coding_format="mp3"))
    with pytest.raises(AudioError, match=r"'MULAW'.*S16LE"):
        raw_format(info(sample_format="MULAW"))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (own(), "an empty message: none of int16_data, float32_data"),
        (own(int16_data=[1], float32_data=[0.5]), "int16_data and float32_data are filled in one message"),
        (own(rate=0, int16_data=[1]), "a sampling rate of 0 Hz"),
        (own(rate=1_000_000, int16_data=[1]), "a sampling rate of 1000000 Hz"),
        (own(channels=0, int16_data=[1]), "sound with 0 channels"),
        (own(channels=2, int16_data=[1, 2, 3]), "3 samples cannot be shared out to 2 channels"),
        (of_portaudio(), "an empty message: none of float32_data, int32_data"),
        (of_portaudio(int8_data=[1], uint8_data=[1]), "int8_data and uint8_data are filled"),
        (of_gstreamer(b""), "an empty message: data"),
        (of_gstreamer(b"abc"), "3 bytes are no whole number of S16LE samples"),
    ],
)
def test_what_cannot_be_sound_is_refused_with_words(message, said):
    with pytest.raises(AudioError, match=said):
        to_chunk(message, 0.0, RAW)


# Which of the two packages of one name is installed.


class Kind:
    """A message class, as far as it is asked for its fields."""

    def __init__(self, *fields):
        self.fields = fields

    def get_fields_and_field_types(self):
        return dict.fromkeys(self.fields, "")


def test_the_installed_package_is_known_by_what_is_in_it(monkeypatch):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    pytest.importorskip("jmceln_ros.msg", reason="needs the built messages")
    from jmceln_ros.speech.topics import foreign_kinds

    def installed(**kinds):
        package, messages = ModuleType("some_msgs"), ModuleType("some_msgs.msg")
        for name, kind in kinds.items():
            setattr(messages, name, kind)
        monkeypatch.setitem(sys.modules, "some_msgs", package)
        monkeypatch.setitem(sys.modules, "some_msgs.msg", messages)
        return foreign_kinds("some_msgs")

    stamped, data, audio_info = Kind("header", "audio"), Kind("data"), Kind("channels", "sample_format")
    arrays, numbers = Kind("float32_data", "int16_data"), Kind("format", "rate")
    assert foreign_kinds("no_such_package") == {}
    assert installed(AudioStamped=stamped, AudioData=arrays, AudioInfo=numbers) == {"audio_common": stamped}
    assert installed(AudioData=data, AudioDataStamped=stamped, AudioInfo=audio_info) == {
        "audio_common/data": data,
        "audio_common": stamped,
        "audio_info": audio_info,
    }
    assert installed(AudioData=data) == {"audio_common/data": data}  # older ones have no more
    assert installed(AudioData=arrays, AudioDataStamped=stamped) == {}


# The queue.


def chunk(seconds=0.1, stamp=None, rate=16_000, channels=1, arrival=0.0, **more):
    return Chunk(np.zeros(round(seconds * rate) * channels, np.int16), rate, channels, stamp, arrival, **more)


def test_a_closed_queue_takes_nothing_and_an_open_one_keeps_the_order():
    intake = AudioIntake()
    intake.put(chunk())
    assert intake.take(0.0) is None
    intake.open()
    assert intake.take(0.01) is None
    first, second = chunk(arrival=1.0), chunk(arrival=2.0)
    intake.put(first)
    intake.put(second)
    assert intake.seconds == pytest.approx(0.2)
    assert intake.take(1.0) is first
    assert intake.seconds == pytest.approx(0.1)  # what waits, while the first one is worked on
    assert intake.take(1.0) is second
    assert intake.seconds == 0
    intake.put(first)
    intake.close()
    assert intake.take(1.0) is None


def test_at_most_thirty_seconds_wait_and_the_oldest_go_first():
    dropped = []
    intake = AudioIntake(dropped.append)
    intake.open()
    for number in range(600):  # ten minutes
        intake.put(chunk(1.0, rate=8000, channels=2, arrival=number))
    assert intake.seconds == pytest.approx(30)
    waiting = taken(intake)
    assert [c.arrival for c in waiting] == list(range(570, 600))
    assert sum(dropped) == pytest.approx(570)
    assert waiting[0].lost == pytest.approx(570)
    assert all(c.lost == 0 for c in waiting[1:])


def test_of_one_endless_chunk_the_end_is_kept():
    dropped = []
    intake = AudioIntake(dropped.append)
    intake.open()
    samples = np.repeat(np.arange(600, dtype=np.int16), 16_000)
    intake.put(Chunk(samples, 8000, 2, 100.0, 0.0))
    (kept,) = taken(intake)
    assert (kept.seconds, kept.samples[-1], kept.stamp, kept.lost) == (30.0, 599, 670.0, 570.0)
    assert dropped == [570.0]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([4000, 11_025, 16_000, 44_100, 48_000, 96_000, 384_000]) | st.integers(4000, 384_000),
    st.integers(1, 8),  # channels
    st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.3, 1 / 3, 10.0, 29.9, 30.0, 31.0]) | st.floats(0, 40), max_size=20),
)
def test_whatever_the_lengths_the_newest_chunk_stays(rate, channels, lengths):
    """Sums of many lengths come to a little more than thirty seconds, by the last bit."""
    intake = AudioIntake()
    intake.open()
    for number, seconds in enumerate(lengths):
        intake.put(Chunk(silence(round(seconds * rate) * channels), rate, channels, 1000.0 * number, number))
        assert intake.seconds <= 30.000001
    if lengths:
        assert taken(intake)[-1].arrival == len(lengths) - 1
        assert intake.seconds == 0


def silence(samples):
    """(samples,) that take no memory."""
    return np.broadcast_to(np.int16(0), samples)


def taken(intake):
    """All that waits."""
    return list(iter(lambda: intake.take(0.0), None))


def test_one_sample_chunks_are_bounded_by_their_number():
    intake = AudioIntake()
    intake.open()
    for number in range(MAX_PIECES + 100):
        intake.put(chunk(1 / 16_000, arrival=number / 16_000))
    assert sum(len(piece.samples) for piece in taken(intake)) == MAX_PIECES


def test_short_chunks_that_follow_each_other_come_as_one():
    intake = AudioIntake()
    intake.open()
    samples = np.arange(1600, dtype=np.int16)
    for number in samples:
        intake.put(Chunk(samples[number : number + 1], 16_000, 1, 100 + number / 16_000, 200 + number / 16_000, "ear"))
    pieces = taken(intake)
    assert [len(piece.samples) for piece in pieces] == [320] * 5
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), samples)
    assert [piece.stamp for piece in pieces] == pytest.approx([100 + 0.02 * n for n in range(5)])
    assert pieces[0].arrival == pytest.approx(200 + 319 / 16_000)
    assert (pieces[0].rate, pieces[0].channels, pieces[0].frame_id) == (16_000, 1, "ear")


SHORT = {"seconds": 0.005, "stamp": 100.0, "arrival": 100.005}


@pytest.mark.parametrize(
    "other",
    [
        {"rate": 8000},
        {"channels": 2},
        {"stamp": None},
        {"stamp": 100.2},
        {"stamp": 99.8},
        {"lost": 1.0},
        {"overflow": True},
        {"frame_id": "other"},
    ],
)
def test_what_does_not_follow_comes_by_itself(other):
    intake = AudioIntake()
    intake.open()
    intake.put(chunk(**SHORT))
    intake.put(chunk(**{**SHORT, "stamp": 100.005, "arrival": 100.01, **other}))
    assert len(taken(intake)) == 2


def test_samples_of_two_types_are_not_put_together():
    intake = AudioIntake()
    intake.open()
    intake.put(chunk(**SHORT))
    intake.put(Chunk(np.zeros(80, np.float32), 16_000, 1, 100.005, 100.01))
    assert [piece.samples.dtype for piece in taken(intake)] == [np.int16, np.float32]


def test_taking_waits_and_closing_wakes_it():
    intake = AudioIntake()
    intake.open()
    got = []
    thread = threading.Thread(target=lambda: got.extend([intake.take(20.0), intake.take(20.0)]))
    thread.start()
    only = chunk()
    intake.put(only)
    while intake.seconds:
        time.sleep(0.01)
    intake.close()
    thread.join(5.0)
    assert not thread.is_alive()
    assert got == [only, None]


# The watch over the stream.


class Told(list):
    """Kinds of trouble in the order in which they were reported."""

    def __call__(self, kind, words):
        assert words
        self.append(kind)
        self.words = words


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def supervisor(told):
    return Supervisor(told)


def run(supervisor, stamps, seconds=0.1, **more):
    return [supervisor.check(chunk(seconds, stamp, **more)) for stamp in stamps]


def test_an_even_stream_is_no_trouble_however_short_its_chunks(supervisor, told):
    assert set(run(supervisor, [100 + n / 16_000 for n in range(20_000)], 1 / 16_000)) == {Step()}
    assert told == []


def test_late_stamps_of_a_busy_driver_and_a_slow_clock_are_no_trouble(supervisor, told):
    late = np.random.default_rng(0).uniform(0.0, 0.04, 3000)
    drift = 1.0002  # a cheap crystal, for a minute and a half
    assert set(run(supervisor, [100 + 0.032 * drift * n + late[n] for n in range(3000)], 0.032)) == {Step()}
    assert told == []


@pytest.mark.parametrize(
    ("gap", "step", "kinds"),
    [
        (0.02, Step(), []),  # within what drivers do
        (0.2, Step(fill=0.2), ["gaps"]),
        (0.49, Step(fill=0.49), ["gaps"]),
        (0.7, Step(ends=True, fill=0.7), ["gaps"]),
        (30.0, Step(ends=True, resets=True), ["gaps"]),
        (-0.2, Step(), ["steps back in time"]),
        (-3.0, Step(ends=True, resets=True), ["steps back in time"]),
    ],
)
def test_what_is_missing_is_filled_in_or_ends_what_is_said(supervisor, told, gap, step, kinds):
    run(supervisor, [100.0, 100.1])
    after = supervisor.check(chunk(stamp=100.2 + gap))
    assert (after.ends, after.resets, round(after.fill, 6)) == (step.ends, step.resets, step.fill)
    assert told == kinds
    assert set(run(supervisor, [100.3 + gap, 100.4 + gap])) == {Step()}
    assert told == kinds


@pytest.mark.parametrize("jitter", [0.06, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_stamps_that_jitter_put_next_to_no_silence_into_what_is_said(supervisor, told, jitter, seed):
    off = np.random.default_rng(seed).uniform(-jitter, jitter, 1600)
    steps = run(supervisor, [100 + 0.032 * n + off[n] for n in range(1600)], 0.032)  # 51 s
    assert sum(step.fill for step in steps) < 0.5
    assert sum(step.fill for step in steps[300:]) < 0.1
    assert not any(step.ends or step.resets for step in steps)


@pytest.mark.parametrize(("count", "seconds"), [(4, 0.032), (8, 0.02), (16, 0.01)])
def test_several_chunks_under_one_stamp_are_no_trouble(supervisor, told, count, seconds):
    busy = np.random.default_rng(0).uniform(0.0, 0.01, 1000)
    stamps = [100 + count * seconds * (n // count) + busy[n // count] for n in range(round(50 / seconds))]
    steps = run(supervisor, stamps, seconds)
    assert set(steps) == {Step()}
    assert told == []


def test_a_clock_that_is_set_back_a_little_is_followed_and_told_once(supervisor, told):
    run(supervisor, [100 + 0.1 * n for n in range(20)])
    assert set(run(supervisor, [101.7 + 0.1 * n for n in range(20)])) == {Step()}
    assert told == ["steps back in time"]
    (after,) = run(supervisor, [103.9])  # a gap by the new time; by the old one it would be none
    assert after.fill == pytest.approx(0.2, abs=0.01)


def test_another_rate_or_number_of_channels_begins_a_new_stream(supervisor, told):
    run(supervisor, [100.0])
    assert supervisor.check(chunk(stamp=100.1, rate=48_000)) == Step(ends=True, resets=True)
    assert supervisor.check(chunk(stamp=100.2, rate=48_000, channels=2)) == Step(ends=True, resets=True)
    assert supervisor.check(chunk(stamp=100.3, rate=48_000, channels=2)) == Step()
    assert told == ["changes of rate or channels"] * 2
    assert "from 48000 Hz, 1 channels to 48000 Hz, 2 channels" in told.words


def test_what_was_dropped_here_is_no_gap_of_the_stream_and_what_was_said_is_forgotten(supervisor, told):
    run(supervisor, [100.0])
    assert supervisor.check(chunk(stamp=140.0, lost=39.9)) == Step(resets=True)
    assert told == []


@pytest.mark.parametrize("factor", [0.5, 0.88, 1.12, 3.0])  # samples per declared one
def test_a_wrong_rate_is_measured_by_the_stamps(supervisor, told, factor):
    run(supervisor, [100 + 0.1 * n / factor for n in range(60)])
    assert told[-20:] == ["wrong rate"] * 20  # and what it looked like before is not told any more
    assert "says 16000 Hz" in told.words
    assert f"brings {16_000 * factor:.0f} samples" in told.words


@pytest.mark.parametrize("factor", [0.93, 1.07])
def test_a_rate_that_is_nearly_right_is_let_pass(supervisor, told, factor):
    run(supervisor, [100 + 0.1 * n / factor for n in range(100)])
    assert "wrong rate" not in told


def test_lost_chunks_are_gaps_and_no_wrong_rate(supervisor, told):
    lost = np.random.default_rng(1).random(200) < 0.3
    run(supervisor, [100 + 0.1 * n for n in range(200) if not lost[n]])
    assert set(told) == {"gaps"}


def test_without_stamps_the_rate_is_measured_by_arrival_and_bursts_are_no_trouble(supervisor, told):
    for n in range(200):
        supervisor.check(chunk(0.1, arrival=100 + 0.5 * (n // 5)))  # five at a time
    assert told == []
    for n in range(100):
        supervisor.check(chunk(0.1, arrival=400 + 0.2 * n))
    assert set(told) == {"wrong rate"}


def test_an_overflow_of_the_device_is_told(supervisor, told):
    supervisor.check(chunk(arrival=1.0))
    assert supervisor.check(chunk(arrival=1.1, overflow=True)) == Step()
    assert told == ["gaps"]


@given(st.lists(st.tuples(st.floats(0.01, 0.4), st.just(0.0) | st.floats(0.0, 4.9)), min_size=1, max_size=60))
def test_the_time_stays_right_whatever_is_missing(pieces):
    told = Told()
    supervisor, stamp, heard = Supervisor(told), 100.0, 0.0
    for seconds, gap in pieces:
        part = chunk(seconds, stamp)
        step = supervisor.check(part)
        assert not step.resets
        if Supervisor.RATE in told:  # where every other piece is missing, it looks like one
            break
        heard += step.fill + part.seconds
        stamp += part.seconds
        # Within the tolerance, of which a little is forgotten all the time.
        assert heard == pytest.approx(stamp - 100.0, abs=Supervisor.TOLERANCE * (1.001 + heard / 10))
        stamp += gap


# What is said about it.


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def statistics(clock):
    return HearingStatistics(clock=clock)


def active(**more):
    return Condition(**{"state": "active", "engine": "beep", "source": "/audio", **more})


@pytest.mark.parametrize(
    ("kind", "words", "amount", "said"),
    [
        (Supervisor.GAP, "of 0.2 s", 1.0, "1 gaps in the sound, the last of 0.2 s"),
        (Supervisor.BACK, "by 3 s", 1.0, "the stamps went back 1 times"),
        (Supervisor.FORMAT, "from here to there", 1.0, "changed 1 times, last from here to there"),
        (Supervisor.RATE, "the rate is wrong: do this", 1.0, "the rate is wrong: do this"),
        (CLIPPED, "", 200.0, "200 samples at full scale: turn the microphone's gain down"),
        (DROPPED, "", 12.34, "12.3 s of sound dropped"),
        (UNUSABLE, "because", 1.0, "1 messages could not be used, the last because: because"),
    ],
)
def test_trouble_is_a_warning_for_ten_seconds(statistics, clock, kind, words, amount, said):
    statistics.received(1.0)
    statistics.trouble(kind, words, amount)
    level, message = judge(statistics.summary(), active())
    assert level == Level.WARN
    assert said in message
    clock.now += 10.5
    statistics.received(1.0)
    assert judge(statistics.summary(), active())[0] == Level.OK
    assert statistics.summary().troubles_total == {kind: amount}


def test_a_loudest_peak_is_no_clipping(statistics):
    statistics.received(1.0)
    statistics.trouble(CLIPPED, amount=3)
    assert judge(statistics.summary(), active())[0] == Level.OK


def test_the_first_rule_that_holds_decides(statistics, clock):
    def verdict(**more):
        return judge(statistics.summary(), active(**more))

    assert verdict()[0] == Level.OK  # it has only just begun
    clock.now += 4
    assert verdict() == (Level.WARN, "no sound from /audio for 4.0 s: check the source, its topic and the QoS")
    assert verdict(source_problem="no microphone") == (Level.ERROR, "no microphone")
    assert verdict(ended=True, source="talk.wav") == (Level.OK, "talk.wav was played to its end")
    statistics.received(0.1)
    assert verdict() == (Level.OK, "listening; last: nothing said yet")
    statistics.heard("'Stop' (0.90): the command ends", refused="", engine=0.1, latency=0.7)
    assert "last: 'Stop'" in verdict()[1]
    assert verdict(source_problem="no microphone")[0] == Level.OK  # but there is sound
    assert verdict(problem="no engine", state="unconfigured") == (Level.ERROR, "no engine")
    assert verdict(state="inactive") == (Level.OK, "inactive: nobody listens")
    assert verdict(state="configuring") == (Level.OK, "loading the engine")
    statistics.failed("it crashed")
    clock.now += 2
    assert verdict() == (Level.ERROR, "failed 2 s ago: it crashed")
    statistics.heard("nothing", refused="it crashed", engine=math.nan, latency=0.1)
    assert verdict()[0] == Level.ERROR  # that was the failure itself
    statistics.heard("'Go' (0.90)", refused="", engine=0.1, latency=0.1)
    assert verdict()[0] == Level.OK


def test_an_engine_that_was_not_asked_is_no_success_and_takes_no_time(statistics):
    statistics.failed("it crashed")
    statistics.heard("''", refused="longer than 10 s", engine=math.nan, latency=0.5)
    summary = statistics.summary()
    assert summary.failing
    assert str(summary.engine) == "not measured"
    statistics.heard("'Go' (0.90)", refused="", engine=0.2, latency=0.5)
    statistics.heard("''", refused="longer than 10 s", engine=math.nan, latency=0.5)
    assert statistics.summary().engine.p50 == pytest.approx(0.2)


def test_refusals_are_counted_by_what_they_have_in_common(statistics):
    for words in ("confidence 0.3 is below 0.6", "confidence 0.5 is below 0.60: no", "'bye': noise", '"I\'m": noise'):
        statistics.heard("", refused=words, engine=0.1, latency=0.2)
    for number in range(100):
        statistics.heard("", refused="reason " + "x" * number, engine=0.1, latency=0.2)
    refused = statistics.summary().refused
    assert (refused["confidence N is below N"], refused["noise"]) == (2, 2)
    assert sum(refused.values()) == 104
    assert len(refused) <= 33
    assert refused["other"] == 70


def test_the_level_is_that_of_the_last_second(statistics):
    assert statistics.summary().level == -math.inf
    loud, quiet = np.full(160, 0.5, np.float32), np.full(160, 0.05, np.float32)
    for _ in range(300):
        statistics.listened(loud, 0.01)
    assert statistics.summary().level == pytest.approx(-6.0, abs=0.1)
    for _ in range(105):
        statistics.listened(quiet, 0.01)
    assert statistics.summary().level == pytest.approx(-26.0, abs=0.1)


# Recordings and microphones as sources.


def write_wav(path, samples, rate=16_000):
    samples = np.asarray(samples, np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def play(path, **more):
    chunks, problems = [], []
    source = Recordings(str(path), chunks.append, now=time.monotonic, report=problems.append, **more)
    source.start()
    return source, chunks, problems


def test_recordings_are_played_in_real_time_with_silence_after_each(tmp_path, monkeypatch):
    monkeypatch.setattr("jmceln_ros.speech.recordings.SILENCE", 0.5)
    write_wav(tmp_path / "b.wav", np.full((800, 2), 7), 8000)
    write_wav(tmp_path / "a.wav", np.full(1600, 5))
    (tmp_path / "broken.wav").write_text("no sound")
    (tmp_path / "notes.txt").write_text("not a recording")
    write_wav(tmp_path / "empty.wav", [])
    (tmp_path / "folder.wav").mkdir()
    begin = time.monotonic()
    source, chunks, problems = play(tmp_path)
    while not source.ended and time.monotonic() < begin + 20:
        time.sleep(0.02)
    assert source.ended
    assert time.monotonic() - begin >= 2 * (0.1 + 0.5)
    assert [(c.rate, c.channels) for c in chunks] == [(16_000, 1)] * (len(chunks) // 2) + [(8000, 2)] * (
        len(chunks) // 2
    )
    assert all(c.seconds == pytest.approx(0.02) for c in chunks)
    sound = [c.samples[0] for c in chunks if c.samples.any()]
    assert sound == [5] * 5 + [7] * 5
    assert np.diff([c.arrival for c in chunks]).max() < 1.0
    broken, empty, folder = problems
    assert "broken.wav: not a WAV file" in broken
    assert "empty.wav: no samples in it" in empty
    assert "folder.wav: cannot be read" in folder
    assert source.name == str(tmp_path)


def test_whatever_is_wrong_with_one_file_the_others_are_played(tmp_path, monkeypatch):
    monkeypatch.setattr("jmceln_ros.speech.recordings.SILENCE", 0.1)
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, np.full(160, 5))

    def strange(path):
        if path.name == "a.wav":
            raise MemoryError("as large as a house")
        return read_wav(path)

    monkeypatch.setattr("jmceln_ros.speech.recordings.read_wav", strange)
    source, chunks, problems = play(tmp_path)
    deadline = time.monotonic() + 20
    while not source.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.ended
    assert any(c.samples.any() for c in chunks)
    assert problems == [f"{tmp_path / 'a.wav'}: as large as a house [MemoryError]"]


def test_stopping_reads_no_more_files(tmp_path, monkeypatch):
    read = []
    for number in range(50):
        write_wav(tmp_path / f"{number:02}.wav", np.full(1600, 5))
    monkeypatch.setattr("jmceln_ros.speech.recordings.read_wav", lambda path: read.append(path) or read_wav(path))
    source, chunks, _ = play(tmp_path)
    while not chunks:
        time.sleep(0.01)
    source.stop()
    assert len(read) == 1


def test_a_recording_in_a_loop_goes_on_until_it_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("jmceln_ros.speech.recordings.SILENCE", 0.2)
    write_wav(tmp_path / "a.wav", np.full(160, 5))
    source, chunks, _ = play(tmp_path / "a.wav", loop=True)
    deadline = time.monotonic() + 20
    while sum(bool(c.samples.any()) for c in chunks) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not source.ended
    source.stop()
    count = len(chunks)
    time.sleep(0.1)
    assert (len(chunks), sum(bool(c.samples.any()) for c in chunks)) == (count, 2)


def test_where_there_is_nothing_to_be_played_the_path_is_named(tmp_path):
    (tmp_path / "broken.wav").write_text("no sound")
    (tmp_path / "empty").mkdir()
    write_wav(tmp_path / "nothing.wav", [])
    for path, said in (
        (tmp_path / "nowhere.wav", "there is no such file or folder"),
        ("", "there is no such file or folder"),
        (tmp_path / "empty", "no WAV files"),
        (tmp_path / "broken.wav", "not a WAV file"),
        (tmp_path / "nothing.wav", "no samples in it"),
    ):
        with pytest.raises(AudioError, match=said) as caught:
            play(path)
        assert str(path) in str(caught.value)


class Device:
    """What sounddevice would be, with one microphone that gives three chunks and falls silent."""

    PortAudioError = RuntimeError
    devices: list = []  # noqa: RUF012
    opened = 0

    def _terminate(self):
        pass

    def _initialize(self):
        self.devices = [{"index": 3, "name": "USB ear", "max_input_channels": 1, "default_samplerate": 44_100.0}]

    def query_devices(self, device=None, kind=None):
        if kind is None:
            return self.devices
        if not self.devices:
            raise ValueError("No input device matching")
        return self.devices[0]

    def InputStream(self, *, samplerate, blocksize, device, channels, dtype, callback):
        self.opened += 1
        assert (samplerate, blocksize, device, channels, dtype) == (44_100, 882, 3, 1, "int16")
        for number in range(3):
            status = SimpleNamespace(input_overflow=number == 2)
            callback(np.full((blocksize, 1), number, np.int16), blocksize, None, status)
        return threading.Lock()  # anything with a `with`


def test_a_microphone_is_tried_again_until_it_is_there_and_after_it_has_gone(monkeypatch):
    device = Device()
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    monkeypatch.setattr("jmceln_ros.speech.microphone.RETRY", 0.05)
    monkeypatch.setattr("jmceln_ros.speech.microphone.SILENT", 0.05)
    chunks, problems = [], []
    microphone = Microphone("ear", chunks.append, now=time.monotonic, report=problems.append)
    microphone.start()
    deadline = time.monotonic() + 20
    while device.opened < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    microphone.stop()
    assert "microphone ear: there is no such device" in problems[0]
    assert "microphone ear has stopped giving sound" in problems[1]
    assert [c.samples[0] for c in chunks[:3]] == [0, 1, 2]
    assert [c.overflow for c in chunks[:3]] == [False, False, True]
    assert (chunks[0].rate, chunks[0].stamp) == (44_100, None)


def test_a_device_is_a_number_or_a_part_of_a_name():
    """ "²" is a digit by its looks only."""
    for device, meant in (("3", 3), ("", None), ("ear", "ear"), ("²", "²"), ("-1", "-1")):
        microphone = Microphone(device, lambda chunk: None, now=time.monotonic, report=print)
        assert microphone._device == meant


def test_a_missing_sounddevice_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    problems = []
    microphone = Microphone("", lambda chunk: None, now=time.monotonic, report=problems.append)
    microphone.start()
    deadline = time.monotonic() + 20
    while not problems and time.monotonic() < deadline:
        time.sleep(0.01)
    microphone.stop()
    assert "pip install sounddevice" in problems[0]
    assert microphone.trouble == problems[0]


# The worker's own parts.


def test_a_timeline_knows_when_sound_was_taken():
    from jmceln_ros.speech.hearing import Timeline

    line = Timeline()
    assert math.isnan(line.at(1.0))
    for n in range(1000):
        line.add(n * 0.02, 100 + n * 0.02)
    line.add(20.0, 500.0)  # after a pause without sound
    assert line.at(7.123) == pytest.approx(107.123)
    assert line.at(19.9) == pytest.approx(119.9)
    assert line.at(20.5) == pytest.approx(500.5)


def test_parameters_have_the_engines_and_defaults_of_the_core():
    pytest.importorskip("rclpy", reason="needs ROS 2")
    pytest.importorskip("jmceln_ros.msg", reason="needs the built messages")
    from jmceln_ros.speech_node import configs

    assert named(SpeechSettings)["engine"].metadata["choices"] == ENGINES
    assert configs(SpeechSettings()) == (ActivityConfig(), InterpreterConfig())


class Said(list):
    """What a Hearer publishes; waits for it."""

    def wait(self, count=1, seconds=20.0):
        deadline = time.monotonic() + seconds
        while len(self) < count:
            assert time.monotonic() < deadline, self
            time.sleep(0.005)


LOG = SimpleNamespace(**dict.fromkeys(("debug", "warning", "error"), lambda *args, **more: None))


class Ears:
    """A Hearer around an engine for beeps."""

    def __init__(self, engine="", **parameters):
        pytest.importorskip("rclpy", reason="needs ROS 2")
        pytest.importorskip("jmceln_ros.msg", reason="needs the built messages")
        from jmceln_ros.speech.hearing import Hearer
        from support.ros_beep_node import BeepEngine, make_listener

        def listener(**parameters):
            return make_listener(BeepEngine(engine), SpeechSettings(**parameters))

        self.listener = listener
        self.said, self.statistics = Said(), HearingStatistics()
        self.intake = AudioIntake(lambda seconds: self.statistics.trouble(DROPPED, amount=seconds))
        self.kind = Hearer
        self.first = listener(**parameters)

    def __enter__(self):
        self.hearer = self.kind(self.intake, self.first, self.statistics, self.said.append, LOG)
        self.hearer.start()
        return self

    def __exit__(self, *error):
        self.hearer.stop()

    def beep(self, pitch, stamp=None, *, seconds=0.4, after=0.6):
        """Puts a beep and what comes after it, at once; it has come just now."""
        for part in (
            0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * 16_000)) / 16_000),
            np.zeros(round(after * 16_000)),
        ):
            self.intake.put(Chunk(part.astype(np.float32), 16_000, 1, stamp, time.monotonic()))
            stamp = None if stamp is None else stamp + len(part) / 16_000


def test_stopping_waits_for_one_utterance_at_most_and_publishes_none():
    with Ears("slow") as ears:
        for number in range(25):
            ears.beep(600, 100.0 + number)
        ears.said.wait()
        assert ears.intake.seconds > 15  # what waits is known while it is worked off
        time.sleep(0.2)  # in the middle of the next one
        begin, published = time.monotonic(), len(ears.said)
        ears.hearer.stop()
        assert time.monotonic() - begin < 2.0
        assert len(ears.said) == published


def test_one_long_chunk_is_left_where_it_stops():
    """Ten utterances in one message."""
    with Ears("slow") as ears:
        tone = 0.4 * np.sin(2 * np.pi * 600 * np.arange(6400) / 16_000)
        sound = np.tile(np.concatenate([tone, np.zeros(9600)]), 10).astype(np.float32)
        ears.intake.put(Chunk(sound, 16_000, 1, 100.0, 110.0))
        ears.said.wait()
        begin = time.monotonic()
        ears.hearer.stop()
        assert time.monotonic() - begin < 2.0
        assert len(ears.said) <= 2


@pytest.mark.parametrize(("after", "accepted"), [(0.0, True), (2.0, False)])
def test_the_wake_phrase_does_not_outlast_a_pause_without_sound(monkeypatch, after, accepted):
    """The sound has no stamps, and none comes: the stream's own time stands still."""
    monkeypatch.setattr("jmceln_ros.speech.hearing.PATIENCE", 0.1)
    with Ears(wake_phrase="robot", wake_window=1.5) as ears:
        ears.beep(1600, after=0.0)  # "Robot."
        ears.said.wait()
        assert "waiting for the command" in ears.said[0].heard.decision.reason
        time.sleep(after)
        ears.beep(600, after=0.0)
        ears.said.wait(2)
        assert ears.said[1].heard.decision.accepted is accepted


def test_a_listener_that_comes_while_another_is_put_in_place_is_used():
    ears = Ears()

    class Interrupted(ears.kind):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "_listener" and value is second:
                self.use(third)

    ears.kind = Interrupted
    second, third = ears.listener(), ears.listener()
    with ears:
        ears.hearer.use(second)
        ears.beep(600)
        ears.said.wait()
        ears.beep(600)
        ears.said.wait(2)
        assert ears.hearer._listener is third


def test_a_voice_detector_that_cannot_begin_anew_does_not_end_the_thread():
    ears = Ears()
    detector = ears.first.endpointer._detector
    probability = detector.probability

    def broken(*args):
        raise RuntimeError("the detector is broken")

    with ears:
        detector.probability = detector.reset = broken
        ears.beep(600, 100.0)
        deadline = time.monotonic() + 20
        while not ears.statistics.summary().failing and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "the detector is broken" in ears.statistics.summary().failure
        detector.probability, detector.reset = probability, lambda: None
        ears.beep(600, 200.0)
        ears.said.wait()


@pytest.mark.alone
@pytest.mark.parametrize("stamped", [True, False])
def test_one_sample_chunks_at_48_khz_are_kept_up_with(stamped):
    """Two seconds in real time: nothing is dropped, next to nothing waits, and the command is understood."""
    sound = np.concatenate([0.4 * np.sin(2 * np.pi * 600 * np.arange(24_000) / 48_000), np.zeros(72_000)]).astype(
        np.float32
    )
    with Ears() as ears:
        begin, waiting = time.monotonic(), []
        for number in range(len(sound)):
            if number % 48 == 0:  # a sleep is not as short as a sample
                time.sleep(max(0.0, begin + number / 48_000 - time.monotonic()))
                waiting.append(ears.intake.seconds)
            stamp = 100 + number / 48_000 if stamped else None
            ears.intake.put(Chunk(sound[number : number + 1], 48_000, 1, stamp, time.monotonic()))
        ears.said.wait()
        assert ears.said[0].heard.text == "The blue cup."
        assert ears.said[0].duration == pytest.approx(0.5, abs=0.1)
        assert max(waiting) < 0.1
        assert "seconds dropped" not in ears.statistics.summary().troubles_total


RATES = st.sampled_from([4000, 8000, 16_000, 22_050, 48_000, 384_000])
STREAM = st.lists(
    st.tuples(
        RATES,
        st.integers(1, 3),  # channels
        st.sampled_from(["int8", "uint8", "int16", "int32", "float32", "float64"]),
        st.integers(0, 2000),  # frames
        st.none() | st.floats(-10.0, 10.0),  # how far the stamp is off
        st.sampled_from([0.0, 0.0, 0.0, 5.0]),  # lost
        st.sampled_from(["noise", "noise", "NaN", "all at the end of the range"]),
    ),
    max_size=30,
)


@settings(max_examples=100)
@given(STREAM, st.integers(0, 2**32 - 1))
def test_no_stream_of_chunks_ends_the_worker(stream, seed):
    """After whatever came before, somebody is understood. One listener for all: it is begun anew each time."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    pytest.importorskip("jmceln_ros.msg", reason="needs the built messages")
    from jmceln_ros.speech.hearing import Hearer
    from support.ros_beep_node import BeepEngine, make_listener

    intake, reports, random = AudioIntake(), [], np.random.default_rng(seed)
    hearer = Hearer(intake, make_listener(BeepEngine(""), SpeechSettings()), HearingStatistics(), reports.append, LOG)
    hearer.start()
    now = 100.0
    for rate, channels, kind, frames, off, lost, content in stream:
        samples = random.uniform(-0.3, 0.3, frames * channels)
        if content == "NaN" and frames and kind[0] == "f":
            samples[-1] = np.nan
        ends = np.iinfo(kind).max if kind[0] in "iu" else 1.0
        samples = np.full(frames * channels, ends) if content[0] == "a" else samples * ends
        intake.put(Chunk(samples.astype(kind), rate, channels, None if off is None else now + off, now, lost=lost))
        now += frames / rate
    begin = now + 100.0
    tone = (0.4 * np.sin(2 * np.pi * 600 * np.arange(9600) / 16_000)).astype(np.float32)
    for n, samples in enumerate((tone, np.zeros(16_000, np.float32))):
        intake.put(Chunk(samples, 16_000, 1, begin + 0.6 * n, begin))
    deadline = time.monotonic() + 20
    while not (reports and abs(reports[-1].start - begin) < 0.05):
        assert time.monotonic() < deadline, reports
        time.sleep(0.001)
    assert reports[-1].heard.text == "The blue cup."
    assert reports[-1].end == pytest.approx(begin + 0.6, abs=0.05)
    hearer.stop()
