"""The spoken demo: WAV files on the audio topic, through speech_node to `command`, and the mask that comes of it.

`make demo SPEECH=1` prints for every recording what was heard, what became of it, and the seconds that each step took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from std_msgs.msg import String

from jmceln_core.config import resource
from jmceln_core.speech.audio import RATE, AudioError, load
from jmceln_ros.common import qos
from jmceln_ros.msg import Audio, Transcript
from jmceln_ros.tools.client import Client, DemoError, Show, connected, explained, line, save_overlay, shown
from jmceln_ros.tools.processes import NodeProcess, executable

_CHUNK = RATE // 50  # samples: 20 ms
_SECONDS_TO_HEAR = 30.0


class Player(Client):
    """Plays sound to /audio in real time, silence between the recordings, and collects the transcripts."""

    def __init__(self) -> None:
        super().__init__()
        self._audio = self.create_publisher(Audio, "/audio", qos.PROFILES["default"])
        self._waiting = np.zeros(0, np.int16)
        self._played = 0  # samples
        self._began = self._now()
        self.transcripts: list[Transcript] = []
        self.active: list[str] = []
        self.create_subscription(Transcript, "/speech_node/transcript", self.transcripts.append, qos.RESULT)
        self.create_subscription(String, "/segment_node/active_command", self._on_active, qos.STATE)
        self.create_timer(_CHUNK / RATE, self._play)

    def _on_active(self, message: String) -> None:
        self.active.append(message.data)

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _play(self) -> None:
        """Publishes what is due: several pieces after a time in which this thread was busy elsewhere."""
        while self._began + (self._played + _CHUNK) / RATE <= self._now():
            piece, self._waiting = self._waiting[:_CHUNK], self._waiting[_CHUNK:]
            message = Audio(rate=RATE, channels=1)
            stamp = self._began + self._played / RATE
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(stamp * 1e9), 10**9)
            message.header.frame_id = "demo_microphone"
            message.int16_data = np.pad(piece, (0, _CHUNK - len(piece)))
            self._audio.publish(message)
            self._played += _CHUNK

    def say(self, samples: np.ndarray) -> Transcript | None:
        """Plays (n,) float32 at 16 kHz; the transcript, or None if none came."""
        self.transcripts.clear()
        self._waiting = (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
        self.spin(lambda: bool(self.transcripts), len(samples) / RATE + _SECONDS_TO_HEAR)
        return self.transcripts[0] if self.transcripts else None

    def listened_to(self) -> bool:
        """Whether speech_node is connected."""
        return bool(self._audio.get_subscription_count() and self.count_publishers("/speech_node/transcript"))


def recordings(folder: str) -> list[Path]:
    """The WAV files of a folder, or the demo's own. Raises DemoError, naming the folder, without any."""
    place = Path(folder).expanduser() if folder else resource("speech/demo/1_cup.wav").parent
    files = sorted(file for file in place.glob("*") if file.suffix.lower() == ".wav") if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise DemoError(f"{place}: no WAV files; give a folder with recordings of commands")
    return files


def run(
    show: Callable[[], Show], folder: str, output: Path, *, model: str = "", device: str = "", timeout: float = 60.0
) -> int:
    """Speaks every recording; returns how many came to nothing. Raises DemoError if a node does not come up.

    `show` gives the picture; it is called while the models load.
    """
    try:
        sounds = {file: load(file) for file in recordings(folder)}
    except AudioError as error:
        raise DemoError(str(error)) from error
    failures = 0
    settings = {"model": model, "device": device}
    with (
        NodeProcess(executable("segment_node"), output / "segment_node.log", parameters=settings) as segment,
        NodeProcess(executable("speech_node"), output / "speech_node.log") as speech,
        connected(Player) as client,
    ):
        print("segment_node and speech_node: loading the models ...", flush=True)
        picture = show()
        with explained(segment):
            client.wait_until_active(segment, 180.0)
        with explained(speech):
            client.wait_until_active(speech, 180.0, name="speech_node")
        with shown(picture, client, output, timeout):
            client.spin(client.listened_to, timeout)
            for file, samples in sounds.items():
                failures += not _one(client, file, samples, picture.name, output, timeout)
    return failures


def _one(client: Player, file: Path, samples: np.ndarray, frame_id: str, output: Path, timeout: float) -> bool:
    """Speaks one recording and prints what becomes of it; whether something did."""
    client.forget()
    client.active.clear()
    heard = client.say(samples)
    now, wall = time.monotonic(), time.time()
    if heard is None:
        print(f"  {file.name}: NOTHING WAS HEARD within {_SECONDS_TO_HEAR:.0f} s", flush=True)
        return False
    end = heard.header.stamp.sec + heard.header.stamp.nanosec * 1e-9 + heard.duration  # of the speech
    print(
        f"  {file.name}: {heard.text!r}, confidence {heard.confidence:.2f}, {heard.duration:.1f} s of speech, "
        f"heard {heard.latency:.2f} s after its end",
        flush=True,
    )
    if not heard.accepted:
        print(f"    REFUSED: {heard.reason}", flush=True)
        return False
    if not heard.command:
        client.spin(lambda: "" in client.active, timeout)
        print(
            "    ends the command: segment_node " + ("has none now" if "" in client.active else "DID NOT HEAR"),
            flush=True,
        )
        return "" in client.active
    answer = client.answer(heard.command, frame_id, now - (wall - end - heard.latency), timeout)
    if answer is None:
        print(f"    {heard.command!r:<34} NO ANSWER within {timeout:.0f} s", flush=True)
        return False
    print(
        f"    {line(heard.command, answer)}, {heard.latency + answer.latency:.2f} s after the end of the speech  "
        f"{save_overlay(output, frame_id, heard.command, answer)}",
        flush=True,
    )
    return True
