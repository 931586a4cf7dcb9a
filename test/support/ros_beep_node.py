"""The real speech_node around an engine that takes no time and hears beeps: the ROS tests are not about words."""

from __future__ import annotations

import time

import numpy as np

from jmceln_core.speech.engines import Engine, Transcription, load_engine
from jmceln_core.speech.listener import Listener
from jmceln_ros.common.lifecycle import run
from jmceln_ros.speech.settings import SpeechSettings
from jmceln_ros.speech_node import SpeechNode, configs

#: What is heard in a beep of so many Hz, and how surely.
SAYINGS = {
    400: ("Find the red mug, please.", 0.9),
    600: ("The blue cup.", 0.9),
    800: ("Stop!", 0.9),
    1000: ("The grim rug.", 0.3),
    1200: ("Robot, the apple.", 0.9),
    1400: ("crash", 0.9),
    1600: ("Robot.", 0.9),
}
SLOW_SECONDS = 0.5


class BeepEngine:
    """Knows a beep by its pitch. With the model "slow" it takes SLOW_SECONDS for each."""

    def __init__(self, model: str) -> None:
        self.name = f"beep {model}".strip()
        self._seconds = SLOW_SECONDS if model == "slow" else 0.0

    def transcribe(self, samples: np.ndarray) -> Transcription:
        time.sleep(self._seconds)
        strength = np.abs(np.fft.rfft(samples))
        pitch = strength.argmax() * 16_000 / len(samples)
        text, confidence = SAYINGS[min(SAYINGS, key=lambda known: abs(known - pitch))]
        if text == "crash":
            raise RuntimeError("the engine has crashed, or so")
        return Transcription(text, confidence)


class Loudness:
    """Whatever is loud is speech."""

    def probability(self, frame: np.ndarray) -> float:
        return float(np.sqrt(np.mean(frame**2)) > 0.02)

    def reset(self) -> None:
        pass


def make_engine(settings: SpeechSettings) -> Engine:
    """A model that is no beep's is left to the real engines, where it fails."""
    if settings.engine_model in ("", "slow"):
        return BeepEngine(settings.engine_model)
    return load_engine(settings.engine, model=settings.engine_model)


def make_listener(engine: Engine, settings: SpeechSettings) -> Listener:
    """As the node's own, but for the voice detector."""
    return Listener(engine, *configs(settings), detector=Loudness())


if __name__ == "__main__":
    run(lambda: SpeechNode(make_engine, make_listener), "speech_node")
