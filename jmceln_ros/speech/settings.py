"""Parameters of speech_node."""

from __future__ import annotations

from dataclasses import dataclass

from jmceln_core.speech.activity import ActivityConfig
from jmceln_core.speech.audio import RATES
from jmceln_core.speech.interpret import Interpreter, InterpreterConfig
from jmceln_core.speech.protocol import ENGINES
from jmceln_ros.common.parameters import AT_ACTIVATE, AT_CONFIGURE, AT_START, parameter, profile
from jmceln_ros.speech.chunks import SAMPLE_FORMATS

_ACTIVITY, _INTERPRETER = ActivityConfig(), InterpreterConfig()


def _no_rate(rate: int) -> str:
    """Why a microphone is not opened with this many samples per second."""
    fits = rate == 0 or RATES[0] <= rate <= RATES[1]
    return "" if fits else f"it must be 0, the device's own, or lie in {list(RATES)}"


def _no_words(phrase: str) -> str:
    """Why nobody can say this."""
    try:
        Interpreter(InterpreterConfig(wake_phrase=phrase))
    except ValueError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class SpeechSettings:
    """Parameters of speech_node."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false leaves that to a lifecycle manager.", changes=AT_START
    )
    engine: str = parameter(
        ENGINES[0],
        "What makes text of speech (docs/speech.md).",
        choices=ENGINES,
        changes=AT_CONFIGURE,
    )
    engine_model: str = parameter(
        "",
        "Folder of another model for the engine, or a name that whisper knows; empty is the engine's own.",
        changes=AT_CONFIGURE,
    )
    device: str = parameter("", "Where the engine runs: cpu, cuda, cuda:1 ...; empty is the cpu.", changes=AT_CONFIGURE)
    threads: int = parameter(
        0, "Threads of the engine; 0 leaves that to the engine.", low=0, high=256, changes=AT_CONFIGURE
    )
    words: str = parameter(
        "",
        "Names of things, with spaces between, that the engine is to expect; empty is a list of common ones.",
        changes=AT_CONFIGURE,
    )
    source: str = parameter(
        "topic",
        "Where the sound comes from: topic, microphone, microphone:NAME or :NUMBER, or the path of a WAV file or of a "
        "folder of them.",
        changes=AT_ACTIVATE,
    )
    loop: bool = parameter(False, "Play a file or folder again at its end.", changes=AT_ACTIVATE)
    microphone_rate: int = parameter(
        0,
        "Samples per second of the microphone, at least 4000; 0 is the device's own.",
        low=0,
        high=RATES[1],
        changes=AT_ACTIVATE,
        refuse=_no_rate,
    )
    raw_rate: int = parameter(
        16000, "Samples per second of AudioData while no AudioInfo says so.", low=RATES[0], high=RATES[1]
    )
    raw_channels: int = parameter(1, "Channels of AudioData while no AudioInfo says so.", low=1, high=64)
    raw_format: str = parameter("S16LE", "Samples of AudioData while no AudioInfo says so.", choices=SAMPLE_FORMATS)
    threshold: float = parameter(
        _ACTIVITY.threshold,
        "Speech begins where it is at least this probable, and ends 0.15 below, at half of it where that is more.",
        low=0.05,
        high=0.95,
    )
    pause: float = parameter(_ACTIVITY.pause, "Seconds without speech that end an utterance.", low=0.1, high=5.0)
    padding: float = parameter(
        _ACTIVITY.padding, "Seconds that are kept before and after the speech.", low=0.0, high=2.0
    )
    max_utterance: float = parameter(
        _ACTIVITY.max_utterance, "What goes on for more seconds without a pause is refused.", low=1.0, high=30.0
    )
    min_confidence: float = parameter(
        _INTERPRETER.min_confidence, "What the engine is less sure of is refused.", low=0.0, high=1.0
    )
    max_latency: float = parameter(
        10.0,
        "A command that was said more seconds ago is refused, unless it ends one; 0 is no limit.",
        low=0.0,
        high=3600.0,
    )
    wake_phrase: str = parameter(
        _INTERPRETER.wake_phrase,
        "With it only what begins with these words is a command; empty is none.",
        refuse=_no_words,
    )
    wake_window: float = parameter(
        _INTERPRETER.wake_window, "Seconds that the wake phrase, said alone, holds for.", low=0.0, high=60.0
    )
    qos_audio: str = profile("stream", "QoS of the sound.", name="qos.audio")
    qos_command: str = profile("default", "QoS of the commands.", name="qos.command")
    qos_result: str = profile("reliable", "QoS of the transcripts.", name="qos.result")
