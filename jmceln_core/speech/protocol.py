"""What every speech engine is to the rest of this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: Names for `engines.load_engine`; the first is the default.
ENGINES = ("moonshine", "whisper")


@dataclass(frozen=True)
class Transcription:
    """Text as the engine writes it, with its capitals and stops; `confidence`, 0 to 1, is the geometric mean of its
    tokens' probabilities."""

    text: str
    confidence: float


class Engine(Protocol):
    """Makes text of speech."""

    name: str

    def transcribe(self, samples: np.ndarray) -> Transcription:
        """What is said in `samples`, (n,) float32 mono at 16 kHz. Not to be called from two threads at a time."""
        ...
