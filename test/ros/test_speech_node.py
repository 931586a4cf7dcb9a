"""speech_node over real DDS: sound in by messages, commands and transcripts out. One process for most of it."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from support import ROOT

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from std_msgs.msg import String
from std_srvs.srv import SetBool

from jmceln_core.speech.audio import load
from jmceln_ros.common import qos
from jmceln_ros.msg import Audio, Transcript
from jmceln_ros.tools.processes import NodeProcess, executable
from support.ros_harness import START_TIMEOUT, TIMEOUT, Probe

pytestmark = pytest.mark.ros

BEEP_NODE = [sys.executable, str(ROOT / "test" / "support" / "ros_beep_node.py")]
DEMO = ROOT / "config" / "speech" / "demo"
RED_MUG, BLUE_CUP, STOP, UNSURE, ROBOT_APPLE, CRASH = 400, 600, 800, 1000, 1200, 1400  # Hz, as ros_beep_node has them
WARN, ERROR, OK = DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.OK


class Person(Probe):
    """Speaks in beeps and keeps what is made of them."""

    def __init__(self, context: rclpy.Context, namespace: str) -> None:
        super().__init__(context, namespace, command="say", of="speech_node")
        self.mouth = self.create_publisher(Audio, "audio", qos.PROFILES["default"])
        self.commands: list[str] = []
        self.transcripts: list[Transcript] = []
        self.create_subscription(String, "command", lambda m: self.commands.append(m.data), qos.COMMAND)
        self.create_subscription(Transcript, "speech_node/transcript", self.transcripts.append, qos.RESULT)

    def meet(self) -> None:
        """Waits until the node listens and is listened to: each side finds the other in its own time."""
        self.until(self.mouth.get_subscription_count, START_TIMEOUT)
        self.until(lambda: self.commands and self.transcripts, START_TIMEOUT, every=2.0, do=lambda: self.say(BLUE_CUP))
        self.spin(0.3)  # the second try may have been under way
        self.forget()

    def now(self) -> float:
        """Seconds."""
        return self.get_clock().now().nanoseconds * 1e-9

    def send(self, samples: np.ndarray, begin: float, *, rate=16_000, chunk=0.05, **more) -> float:
        """Publishes (n,) or (n, channels) samples in chunks of so many seconds; returns when the last one has ended."""
        step = max(1, round(chunk * rate))
        for number, at in enumerate(range(0, len(samples), step)):
            self.mouth.publish(self.message(samples[at : at + step], begin + at / rate, rate, **more))
            if number % 10 == 9:  # faster than any microphone, but not faster than a topic can be
                time.sleep(0.002)
        return begin + len(samples) / rate

    def message(self, samples: np.ndarray, stamp: float, rate=16_000, *, stamped=True) -> Audio:
        message = Audio(rate=rate, channels=1 if samples.ndim == 1 else samples.shape[1])
        message.header.frame_id = "ear"
        if stamped:
            message.header.stamp = rclpy.time.Time(nanoseconds=round(stamp * 1e9)).to_msg()
        if samples.dtype == np.int16:
            message.int16_data.frombytes(samples.tobytes())
        else:
            message.float32_data.frombytes(samples.astype(np.float32).tobytes())
        return message

    def say(self, pitch: int, seconds=0.6, *, rate=16_000, after=0.8, begin=0.0, **more) -> float:
        """Beeps, and is silent for a while; returns when that ends. It began just now unless `begin` says otherwise."""
        begin = begin or self.now()
        end = self.send(beep(pitch, seconds, rate), begin, rate=rate, **more)
        return self.send(np.zeros(round(after * rate), np.float32), end, rate=rate, **more)

    def understood(self, count=1, timeout=TIMEOUT) -> list[Transcript]:
        """Waits for so many transcripts."""
        self.until(lambda: len(self.transcripts) >= count, timeout)
        return self.transcripts

    def values(self) -> dict[str, str]:
        """Those of the next diagnostic, whatever its level: sound sent faster than it lasts has odd stamps."""
        self.spin(0.1)  # one may be on the way that was made before
        self.statuses.clear()
        return {pair.key: pair.value for pair in self.until(lambda: self.statuses)[0].values}

    def forget(self) -> None:
        super().forget()
        self.commands.clear()
        self.transcripts.clear()


def beep(pitch: int, seconds: float, rate=16_000, strength=0.4) -> np.ndarray:
    """(n,) float32."""
    return (strength * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@contextmanager
def talking(namespace):
    context = rclpy.Context()
    rclpy.init(context=context)
    person = Person(context, namespace)
    try:
        yield person
    finally:
        person.destroy_node()
        rclpy.shutdown(context=context)


@contextmanager
def node(log, namespace, command=BEEP_NODE, **parameters):
    remappings = {"__ns": f"/{namespace}"}
    with NodeProcess(command, log, parameters=parameters, remappings=remappings) as process:
        yield process
        assert process.exit_code in (None, 0), process.output
        assert "Traceback" not in process.output


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The node that most tests talk to."""
    with node(tmp_path_factory.mktemp("speech") / "log", "talk") as process:
        yield process


@pytest.fixture(scope="module")
def met(running):
    with talking("talk") as person:
        person.meet()
        yield person


@pytest.fixture
def person(met):
    """Beside an active node, with nothing said yet, and a stream that has ended."""
    assert met.state() == State.PRIMARY_STATE_ACTIVE
    met.forget()
    met.statuses.clear()
    return met


def stereo(samples):
    return np.stack([samples, samples], axis=1)


@pytest.mark.alone  # sound is best effort: on a busy machine a piece may be missing
@pytest.mark.parametrize(
    ("rate", "shape", "chunk"),
    [
        (16_000, lambda x: x, 0.02),
        (16_000, lambda x: (x * 32_767).astype(np.int16), 0.1),
        (8000, lambda x: (x * 32_767).astype(np.int16), 0.03),
        (48_000, lambda x: stereo((x * 32_767).astype(np.int16)), 0.01),
        (44_100, stereo, 0.3),
        (4000, lambda x: x, 1 / 4000),  # one sample each: thousands of messages
    ],
    ids=["float", "int16", "8 kHz", "48 kHz stereo", "44.1 kHz stereo float", "one-sample chunks"],
)
def test_what_is_said_becomes_a_command_whatever_the_sound_is_like(person, rate, shape, chunk):
    begin = person.now()
    length = 0.6 if chunk > 0.001 else 0.35
    end = person.send(shape(beep(RED_MUG, length, rate)), begin, rate=rate, chunk=chunk)
    person.send(shape(np.zeros(rate, np.float32)), end, rate=rate)
    (said,) = person.understood()
    assert (said.text, said.command, said.accepted, said.reason) == (
        "Find the red mug, please.",
        "the red mug",
        True,
        "",
    )
    assert said.confidence == pytest.approx(0.9)
    assert said.engine == "beep"
    assert said.duration == pytest.approx(length, abs=0.08)  # it is cut in frames of 32 ms
    assert said.header.frame_id == "ear"
    assert said.header.stamp.sec + 1e-9 * said.header.stamp.nanosec == pytest.approx(begin, abs=0.08)
    assert said.latency == pytest.approx(person.now() - begin - length, abs=1.0)
    person.until(lambda: person.commands == ["the red mug"])


def test_stop_is_an_empty_command(person):
    person.say(STOP)
    (said,) = person.understood()
    assert (said.text, said.command, said.accepted) == ("Stop!", "", True)
    person.until(lambda: person.commands == [""])


def test_what_is_refused_is_told_and_is_no_command(person):
    person.say(UNSURE)
    (said,) = person.understood()
    assert (said.text, said.command, said.accepted) == ("The grim rug.", "", False)
    assert "confidence 0.30 is below" in said.reason
    person.say(BLUE_CUP)
    person.until(lambda: person.commands)
    assert person.commands == ["the blue cup"]  # and not one before it
    values = person.values()
    assert values["last transcript"] == "'The blue cup.' (0.90): command 'the blue cup'"
    assert "not understood well enough" in values["refused"]
    assert "not measured" not in (values["engine time (50, 95, 99 %)"], values["latency (50, 95, 99 %)"])


def test_without_stamps_the_time_is_that_of_arrival(person):
    begin = person.now()
    for number in range(14):
        person.send(beep(RED_MUG, 0.1) * (number < 6), 0.0, stamped=False)
        person.spin(0.1)
    (said,) = person.understood()
    assert said.header.stamp.sec + 1e-9 * said.header.stamp.nanosec == pytest.approx(begin, abs=0.5)
    assert said.duration == pytest.approx(0.6, abs=0.08)
    assert 0.4 < said.latency < TIMEOUT


def test_who_leaves_out_the_pauses_is_heard_when_no_more_comes(person):
    person.say(RED_MUG, after=0.0)
    person.understood()
    assert person.commands == ["the red mug"]


def test_messages_without_sound_cost_nothing_but_a_warning(person):
    """What is said about each of them is in test_audio.py."""
    empty, both = Audio(rate=16_000, channels=1), person.message(beep(RED_MUG, 0.05), person.now())
    both.int16_data.append(1)
    uneven = person.message(np.zeros(3, np.float32), 0.0)
    uneven.channels = 2
    no_rate = person.message(np.zeros(5, np.float32), 0.0, rate=0)
    nan = person.message(np.full(800, np.nan, np.float32), 0.0)
    for message in (empty, both, uneven, no_rate, nan):
        person.mouth.publish(message)
    values = person.diagnosed(WARN, "5 messages could not be used, the last because: samples that are not finite")
    assert values["unusable messages"] == "5"
    person.say(BLUE_CUP)
    person.until(lambda: person.commands == ["the blue cup"])


def test_a_short_gap_is_filled_and_a_long_one_ends_the_utterance(person):
    """The time stays right, though a third of the beep never came."""
    begin = person.now()
    person.send(beep(RED_MUG, 0.3), begin)
    end = person.send(beep(RED_MUG, 0.3), begin + 0.6)
    person.send(np.zeros(16_000, np.float32), end)
    (said,) = person.understood()
    assert said.duration == pytest.approx(0.9, abs=0.08)
    assert int(person.diagnosed(WARN, "gaps in the sound")["gaps"]) >= 1
    begin = person.say(BLUE_CUP, 0.3, after=0.0)
    person.say(BLUE_CUP, 0.3, begin=begin + 0.7)
    person.understood(3)
    assert person.commands == ["the red mug", "the blue cup", "the blue cup"]


def test_time_that_goes_back_begins_a_new_stream(person):
    begin = person.say(RED_MUG)
    person.say(BLUE_CUP, begin=begin - 100)  # a bag that is played again
    first, second = person.understood(2)
    assert second.header.stamp.sec == pytest.approx(first.header.stamp.sec - 99, abs=2)
    person.diagnosed(WARN, "the stamps went back")


def test_a_change_in_mid_stream_is_followed(person):
    begin = person.say(RED_MUG, rate=16_000)
    person.say(BLUE_CUP, rate=48_000, begin=begin)
    person.until(lambda: person.commands == ["the red mug", "the blue cup"])
    person.diagnosed(WARN, "from 16000 Hz, 1 channels to 48000 Hz, 1 channels")


def test_a_declared_rate_that_is_not_the_real_one_is_told(person):
    begin = person.now()
    for number in range(40):
        person.mouth.publish(person.message(np.zeros(1600, np.float32), begin + 0.2 * number))
        time.sleep(0.002)
    person.diagnosed(WARN, "says 16000 Hz but brings 8000 samples a second")


def test_clipping_is_told(person):
    end = person.send(np.sign(beep(RED_MUG, 0.6)), person.now())
    person.send(np.zeros(16_000, np.float32), end)
    person.diagnosed(WARN, "samples at full scale: turn the microphone's gain down")


def test_an_engine_that_fails_costs_one_utterance(person):
    begin = person.say(CRASH)
    (said,) = person.understood()
    assert not said.accepted
    assert said.reason == "the engine has crashed, or so [RuntimeError]"
    person.diagnosed(ERROR, "the engine has crashed")
    person.say(RED_MUG, begin=begin)
    person.until(lambda: person.commands == ["the red mug"])
    person.forget()
    person.statuses.clear()
    person.say(BLUE_CUP)
    person.until(lambda: any(s.level != ERROR for s in person.statuses))


@pytest.mark.alone  # ten minutes of sound in a second or two
def test_ten_minutes_without_a_pause_are_bounded_and_refused(person, running):
    memory = resident(running.pid)
    begin = person.now()
    second = beep(RED_MUG, 1.0)
    for number in range(600):
        person.mouth.publish(person.message(second, begin + number))
        time.sleep(0.002)
    person.until(lambda: any("longer than 10 s without a pause" in said.reason for said in person.transcripts))
    assert all(said.duration < 10.1 for said in person.transcripts)
    assert resident(running.pid) - memory < 100e6
    # What waits counts until it is worked on, and is listened to first; then the node is as it was.
    person.until(lambda: float(person.values()["seconds of sound that wait"]) < 0.1, 60.0)
    person.forget()
    person.say(BLUE_CUP, begin=begin + 601)  # after a pause: up to that, it was the tail of the monologue
    person.until(lambda: person.commands == ["the blue cup"])
    assert [said.command for said in person.understood()] == ["the blue cup"]


def resident(pid: int) -> float:
    """Bytes that the process holds."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * float(line.split()[1])


def test_who_comes_late_hears_and_is_heard(person):
    person.say(RED_MUG)
    person.understood()
    with talking("talk") as late:
        late.meet()
        late.say(BLUE_CUP)
        late.until(lambda: late.commands == ["the blue cup"])
        assert [said.command for said in late.understood()] == ["the blue cup"]
    person.until(lambda: person.commands == ["the red mug", "the blue cup"])


def test_parameters_change_what_is_accepted_at_once(person):
    assert person.set_parameter("min_confidence", 0.2) == ""
    person.say(UNSURE)
    person.until(lambda: person.commands == ["the grim rug"])
    assert person.set_parameter("min_confidence", 0.5) == ""
    assert person.set_parameter("wake_phrase", "robot") == ""
    person.say(BLUE_CUP)
    person.understood(2)
    assert "the wake phrase 'robot' was not said" in person.transcripts[1].reason
    person.say(ROBOT_APPLE)
    person.until(lambda: person.commands == ["the grim rug", "the apple"])
    assert person.set_parameter("wake_phrase", "") == ""


def enable(person, whether):
    """Calls ~/enable, when what was sent before has arrived."""
    person.spin(0.3)
    response = person.call(SetBool, "enable", data=whether)
    assert response.success
    return response.message


def test_deaf_while_the_robot_speaks(person):
    """What is said meanwhile is nothing, whenever it comes; what was begun before is not glued to what comes after."""
    person.send(beep(RED_MUG, 0.4), person.now())  # no pause behind it: it may go on
    assert "disabled" in enable(person, False)
    deaf = person.now()
    (said,) = person.understood()
    assert (said.accepted, said.command) == (False, "")
    assert "disabled while it was said" in said.reason
    person.say(BLUE_CUP)
    assert person.diagnosed(OK, "disabled by ~/enable")["state"] == "active, disabled"
    assert enable(person, True) == "enabled"
    person.say(STOP, begin=deaf + 0.05)  # it was on its way
    person.send(beep(RED_MUG, 0.6), end := person.now())
    person.send(np.zeros(12_800, np.float32), end + 0.6)
    person.until(lambda: person.commands == ["the red mug"])
    person.spin(0.3)
    assert [round(said.duration, 1) for said in person.transcripts[1:]] == [0.6]
    assert person.commands == ["the red mug"]
    assert person.values()["state"] == "active"


def test_a_stop_that_was_said_just_before_counts(person):
    person.send(beep(STOP, 0.4), person.now())
    enable(person, False)
    person.until(lambda: person.commands == [""])
    enable(person, True)
    assert [said.text for said in person.understood()] == ["Stop!"]


def test_what_was_said_too_long_ago_is_told_and_no_command(person):
    begin = person.say(RED_MUG, begin=person.now() - 30)
    (said,) = person.understood()
    assert (said.text, said.command, said.accepted) == ("Find the red mug, please.", "", False)
    assert "too late: said " in said.reason
    assert "max_latency is 10 s" in said.reason
    begin = person.say(STOP, begin=begin)  # late, but better than never
    person.until(lambda: person.commands == [""])
    assert person.set_parameter("max_latency", 0.0) == ""
    person.say(BLUE_CUP, begin=begin)
    person.until(lambda: person.commands == ["", "the blue cup"])
    assert person.set_parameter("max_latency", 10.0) == ""
    assert "too late" in person.values()["refused"]


def test_parameters_that_are_not_allowed_are_refused_with_the_reason(person):
    assert "choose one of 'moonshine', 'whisper'" in person.set_parameter("engine", "parrot")
    assert "pause" in person.set_parameter("pause", 9.0)
    assert person.set_parameter("qos.audio", "reliable")  # read-only
    assert "has no words; leave it empty" in person.set_parameter("wake_phrase", "(robot)")
    assert "it must be 0" in person.set_parameter("microphone_rate", 3999)
    person.say(RED_MUG)
    person.until(lambda: person.commands == ["the red mug"])


def test_every_transition_twice(person, running):
    for _ in range(2):
        assert person.change(Transition.TRANSITION_DEACTIVATE)
        person.diagnosed(OK, "inactive: nobody listens")
        person.until(lambda: not person.mouth.get_subscription_count())
        person.say(RED_MUG)
        assert person.change(Transition.TRANSITION_CLEANUP)
        assert person.diagnosed(OK, "unconfigured: nobody listens")["engine"] == "none"
        assert person.change(Transition.TRANSITION_CONFIGURE)
        assert person.change(Transition.TRANSITION_ACTIVATE)
        person.meet()
        person.say(BLUE_CUP)
        person.until(lambda: person.commands)
        assert person.commands == ["the blue cup"]
        person.forget()
    assert running.exit_code is None


# Nodes of their own.


def test_killed_while_disabled_it_stays_disabled_and_says_so(tmp_path):
    remappings = {"__ns": "/deaf"}
    with NodeProcess(BEEP_NODE, tmp_path / "1", remappings=remappings) as process, talking("deaf") as person:
        enable(person, False)
        process.kill()
    with node(tmp_path / "2", "deaf") as process, talking("deaf") as person:
        person.diagnosed(OK, "disabled by ~/enable", START_TIMEOUT)
        assert "disabled, as the process before was when it ended without being asked to" in process.output
        assert enable(person, True) == "enabled"
        person.meet()


def test_a_missing_engine_is_named_and_the_node_lives_on(tmp_path):
    """The real node where a package is not installed."""
    program = "import sys; sys.modules['moonshine_cpp'] = None; from jmceln_ros.speech_node import main; main()"
    with node(tmp_path / "log", "mute", [sys.executable, "-c", program]) as process, talking("mute") as person:
        person.diagnosed(ERROR, "pip install moonshine_cpp", START_TIMEOUT)
        assert "[FATAL]" in process.output
        assert "pip install moonshine_cpp" in process.output
        assert person.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert not person.change(Transition.TRANSITION_CONFIGURE)
        assert person.set_parameter("threshold", 0.4) == ""
        person.diagnosed(ERROR, "pip install moonshine_cpp")


def test_a_source_that_is_not_there_is_named_and_another_can_be_given(tmp_path):
    """A microphone, which is waited for; a folder, which is not; a topic of another kind; then the right one."""
    given = {"source": "microphone:nobody's", "engine_model": "slow"}
    with node(tmp_path / "log", "deaf", **given) as process, talking("deaf") as person:
        person.diagnosed(ERROR, "microphone nobody's", START_TIMEOUT)
        assert "[ERROR]" in process.output
        assert person.state() == State.PRIMARY_STATE_ACTIVE
        assert person.set_parameter("source", str(tmp_path / "nowhere")) == ""
        assert person.change(Transition.TRANSITION_DEACTIVATE)
        assert not person.change(Transition.TRANSITION_ACTIVATE)
        person.diagnosed(ERROR, f"{tmp_path / 'nowhere'}': there is no such file or folder")
        assert "[FATAL]" in process.output
        (tmp_path / "empty.wav").write_bytes(b"")
        for source, said in (
            ("~nosuchuser/talk.wav", "source '~nosuchuser/talk.wav': "),
            ("talk" * 75, f"source '{'talk' * 75}': "),
            (str(tmp_path / "empty.wav"), "empty.wav: not a WAV file"),
        ):
            assert person.set_parameter("source", source) == ""
            assert not person.change(Transition.TRANSITION_ACTIVATE)
            person.until(lambda said=said: said in process.output)
        person.destroy_publisher(person.mouth)
        wrong = person.create_publisher(Transcript, "audio", qos.PROFILES["default"])
        assert person.set_parameter("source", "topic") == ""
        assert person.change(Transition.TRANSITION_ACTIVATE)
        person.diagnosed(ERROR, "/deaf/audio brings jmceln_ros/msg/Transcript")
        person.destroy_publisher(wrong)
        person.mouth = person.create_publisher(Audio, "audio", qos.PROFILES["default"])
        person.meet()
        person.say(RED_MUG)
        (said,) = person.understood()
        assert (said.command, said.engine) == ("the red mug", "beep slow")
        assert float(person.values()["engine time (50, 95, 99 %)"].split(",")[0]) >= 500  # ms


def test_a_wake_phrase_that_nobody_can_say_is_refused_at_the_start(tmp_path):
    with NodeProcess(BEEP_NODE, tmp_path / "log", parameters={"wake_phrase": "..."}) as process:
        deadline = time.monotonic() + START_TIMEOUT
        while process.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.exit_code
        assert "wake_phrase is '...'; the wake phrase '...' has no words" in process.output


@pytest.mark.skipif(find_spec("moonshine_cpp") is None, reason="needs the default engine: pip install moonshine_cpp")
@pytest.mark.slow
def test_the_installed_node_plays_recordings_to_the_real_engine(tmp_path):
    """Executable, Silero, Moonshine and rules, as they come: a folder with one wish, one stop, one broken file."""
    folder = tmp_path / "talk"
    folder.mkdir()
    for name in ("1_cup.wav", "5_stop.wav"):
        shutil.copy(DEMO / name, folder)
    (folder / "0_broken.wav").write_bytes(b"RIFF")
    given = {"source": str(folder), "threads": 1}
    # They are played once: this side has to be there before.
    with talking("real") as person, node(tmp_path / "log", "real", executable("speech_node"), **given) as process:
        first, last = person.understood(2, START_TIMEOUT)
        assert "cup" in first.command
        assert first.command in first.text.casefold()
        assert (last.command, last.accepted) == ("", True)
        person.until(lambda: person.commands == [first.command, ""])
        assert first.engine.startswith("moonshine")
        assert 0.3 < first.duration < len(load(DEMO / "1_cup.wav")) / 16_000
        assert 0.3 < first.latency < 10.0
        assert "0_broken.wav: not a WAV file" in process.output
        person.diagnosed(OK, "was played to its end")
        begin = time.monotonic()
        assert process.interrupt() == 0
        assert time.monotonic() - begin < 10.0
