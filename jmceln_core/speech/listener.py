"""The whole way from sound to a command: endpointer, engine, interpreter."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from jmceln_core.speech.activity import ActivityConfig, Detector, Endpointer, Utterance, raised
from jmceln_core.speech.interpret import Decision, Interpreter, InterpreterConfig
from jmceln_core.speech.protocol import Engine, Transcription

# Engines mishear what is soft: an utterance is raised to this peak, at most so many times.
_LOUD = 0.5, 100.0


@dataclass(frozen=True)
class Heard:
    """An utterance that was dealt with.

    `start` and `end` of its speech are seconds of the stream, `seconds` is what the engine took, NaN if it was not
    asked.
    """

    text: str
    confidence: float
    decision: Decision
    start: float
    end: float
    seconds: float


class Listener:
    """Hears commands in a stream of sound. Not for several threads at a time.

    `feed` is cheap and says what was spoken, `hear` runs the engine: a caller in a hurry can tell the two apart.
    """

    def __init__(
        self,
        engine: Engine,
        activity: ActivityConfig | None = None,
        interpreter: InterpreterConfig | None = None,
        *,
        detector: Detector | None = None,
    ) -> None:
        self.engine = engine
        self.endpointer = Endpointer(activity, detector)
        self.interpreter = Interpreter(interpreter)

    def feed(self, samples: np.ndarray) -> list[Utterance]:
        """Takes the next chunk, (n,) float32 mono 16 kHz, of any length; the utterances that ended with it."""
        return self.endpointer.feed(samples)

    def flush(self) -> list[Utterance]:
        """The sound ends here: what is being said is an utterance now."""
        return self.endpointer.flush()

    def reset(self) -> None:
        """A new stream begins, at time 0."""
        self.endpointer.reset()
        self.interpreter.reset()

    def hear(self, utterance: Utterance) -> Heard:
        """Transcribes and decides. What was cut off at its greatest length is refused unread."""
        if utterance.cut:
            longest = self.endpointer.config.max_utterance
            decision = Decision(reason=f"longer than {longest:g} s without a pause: not a command")
            return Heard("", 0.0, decision, utterance.start, utterance.end, math.nan)
        begin = time.perf_counter()
        samples = utterance.samples * raised(float(np.abs(utterance.samples).max(initial=0.0)), *_LOUD)
        heard: Transcription = self.engine.transcribe(samples)
        seconds = time.perf_counter() - begin
        decision = self.interpreter.decide(heard, utterance.start, utterance.end)
        return Heard(heard.text, heard.confidence, decision, utterance.start, utterance.end, seconds)
