"""speech_node and the two packages called audio_common_msgs: each is built by colcon, and sent from over DDS."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from diagnostic_msgs.msg import DiagnosticStatus

from jmceln_ros.tools.processes import NodeProcess
from ros.test_speech_node import BEEP_NODE, talking
from support.foreign_messages import build_messages
from support.ros_harness import START_TIMEOUT

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ARRAYS = "float32[] float32_data\nint32[] int32_data\nint16[] int16_data\nint8[] int8_data\nuint8[] uint8_data\n"
PACKAGES = {
    "mgonzs13": {
        "AudioData": ARRAYS,
        "AudioInfo": "int32 format\nint32 channels\nint32 rate\nint32 chunk\n",
        "Audio": "AudioData audio_data\nAudioInfo info\n",
        "AudioStamped": "std_msgs/Header header\nAudio audio\n",
    },
    "ros-drivers": {
        "AudioData": "uint8[] data\n",
        "AudioDataStamped": "std_msgs/Header header\nAudioData audio\n",
        "AudioInfo": "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\nstring coding_format\n",
    },
}

# Speaks in beeps, as the drivers of the two packages do; what it says is in its arguments: kind, pitch, coding.
SENDER = """
import sys, time
import numpy as np, rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
import audio_common_msgs.msg as kinds

kind, pitch, coding = sys.argv[1], float(sys.argv[2]), sys.argv[3]
rate, seconds = 22050, 0.6
tone = (0.4 * np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate) * 32767).astype(np.int16)
samples = np.stack([np.concatenate([tone, np.zeros(rate, np.int16)])] * 2, axis=1)  # stereo
rclpy.init()
node = rclpy.create_node("driver", namespace="foreign")
if kind == "AudioStamped":
    publisher = node.create_publisher(kinds.AudioStamped, "audio_common", qos_profile_sensor_data)
else:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    info = node.create_publisher(kinds.AudioInfo, "audio_info", latched)
    info.publish(kinds.AudioInfo(channels=2, sample_rate=rate, sample_format="S16LE", coding_format=coding))
    topic = "audio_common/data" if kind == "AudioData" else "audio_common"
    publisher = node.create_publisher(getattr(kinds, kind), topic, 10)
while not publisher.get_subscription_count():
    time.sleep(0.05)
time.sleep(1.0)  # what the info says has to be there first
begin = node.get_clock().now().nanoseconds
for at in range(0, len(samples), 512):
    part = samples[at : at + 512]
    stamp = rclpy.time.Time(nanoseconds=begin + round(at / rate * 1e9)).to_msg()
    if kind == "AudioStamped":
        message = kinds.AudioStamped()
        message.header.stamp = stamp
        message.audio.audio_data.int16_data.frombytes(part.tobytes())
        message.audio.info.format, message.audio.info.channels, message.audio.info.rate = 8, 2, rate
        message.audio.info.chunk = 512
    else:
        data = kinds.AudioData()
        data.data.frombytes(part.tobytes())
        message = data
        if kind == "AudioDataStamped":
            message = kinds.AudioDataStamped(audio=data)
            message.header.stamp = stamp
    publisher.publish(message)
    time.sleep(512 / rate)
time.sleep(1.0)
"""


@pytest.fixture(scope="module", params=PACKAGES)
def foreign(request, tmp_path_factory):
    """The name of the package's author, and variables with which the package is found."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, build_messages("audio_common_msgs", PACKAGES[request.param], folder)


def send(kind: str, pitch: int, coding: str = "wave") -> None:
    done = subprocess.run(
        [sys.executable, "-c", SENDER, kind, str(pitch), coding],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_kind_of_the_installed_package_is_heard_beside_our_own(foreign, tmp_path, monkeypatch):
    package, variables = foreign
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    remappings = {"__ns": "/foreign"}
    with NodeProcess(BEEP_NODE, tmp_path / "log", remappings=remappings) as process, talking("foreign") as person:
        person.meet()
        kinds = ("AudioStamped",) if package == "mgonzs13" else ("AudioDataStamped", "AudioData")
        for kind in kinds:
            send(kind, 400)
            (said,) = person.understood()
            assert (said.text, said.command) == ("Find the red mug, please.", "the red mug"), process.output
            assert said.duration == pytest.approx(0.6, abs=0.08)
            assert 0.4 < said.latency < 10.0
            person.forget()
        if package != "mgonzs13":
            send("AudioData", 400, "mp3")
            person.diagnosed(DiagnosticStatus.WARN, "sound coded as mp3, which is not decoded here")
            assert person.commands == []
        person.say(600)
        (said,) = person.understood()
        assert said.command == "the blue cup"
        assert "Traceback" not in process.output


def test_a_package_without_its_compiled_part_is_told_and_done_without(foreign, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", foreign[1]["PYTHONPATH"])
    remappings = {"__ns": "/foreign"}
    with NodeProcess(BEEP_NODE, tmp_path / "log", remappings=remappings) as process, talking("foreign") as person:
        person.meet()
        assert "audio_common_msgs is there and cannot be used" in process.output
        person.say(600)
        assert person.understood()[0].command == "the blue cup"


def test_the_foreign_kind_may_have_our_topic(foreign, tmp_path, monkeypatch):
    """Two types on one topic are more than the middleware bears: whoever remaps the foreign one has none of ours."""
    package, variables = foreign
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    remappings = {"__ns": "/foreign", "audio": "audio_common"}
    with NodeProcess(BEEP_NODE, tmp_path / "log", remappings=remappings) as process, talking("foreign") as person:
        person.until(lambda: person.count_publishers("speech_node/transcript"), START_TIMEOUT)
        send("AudioStamped" if package == "mgonzs13" else "AudioDataStamped", 400)
        assert person.understood()[0].command == "the red mug", process.output
