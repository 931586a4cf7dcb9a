"""Sentences spoken by flite, Debian's small speech synthesiser: sound to measure with, the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from jmceln_core.speech.audio import AudioError, load

#: Voices of flite: an American woman and an American man, a Scottish man, and an old robot. Each speaks at 16 kHz.
VOICES = ("slt", "rms", "awb", "kal16")

_SECONDS = 60.0  # a sentence takes a fraction of one


class SpeakerError(RuntimeError):
    """flite is missing or failed; the message says what to do."""


class Speaker:
    """Speaks sentences, each of them once: the WAV files are kept in `folder`, which is made when it is needed."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def say(self, text: str, voice: str = "slt", speed: float = 1.0) -> np.ndarray:
        """The sentence as float32 mono 16 kHz, (n,). At `speed` 1.1 it takes 1.1 times less time.

        Raises ValueError for an unknown voice, a speed outside 0.5 to 2 and an empty text, SpeakerError without flite,
        and OSError for a folder that cannot be written.
        """
        if voice not in VOICES:  # flite itself would speak with another one
            raise ValueError(f"no voice {voice!r}; the voices are {', '.join(VOICES)}")
        if not 0.5 <= speed <= 2:
            raise ValueError(f"speed={speed}: must lie in 0.5 to 2")
        if not text.strip():
            raise ValueError("an empty text cannot be spoken")
        digest = hashlib.sha256(f"{voice} {speed:.4f} {text}".encode()).hexdigest()
        path = self._folder / f"{digest[:32]}.wav"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder) as scratch:  # an interrupted run leaves no half a file
                made = Path(scratch, path.name)
                _flite("-voice", voice, "--setf", f"duration_stretch={1 / speed:.4f}", "-t", text, "-o", str(made))
                os.replace(made, path)
        try:
            samples = load(path)
        except AudioError as error:
            raise SpeakerError(f"{error}; delete the file, and it is made anew") from error
        if not samples.any():
            raise SpeakerError(
                f"flite made nothing but silence of {text!r} with voice {voice}; is it built with voices?"
            )
        return samples


def version() -> str:
    """What flite says of itself. Raises SpeakerError without it."""
    lines = _flite("--version", check=False).splitlines()  # its exit status is 1
    return next((line.strip().removeprefix("version: ") for line in lines if "version" in line), "unknown")


def _flite(*arguments: str, check: bool = True) -> str:
    try:
        done = subprocess.run(["flite", *arguments], capture_output=True, text=True, timeout=_SECONDS, check=check)
    except FileNotFoundError:
        raise SpeakerError("flite, which speaks the sentences, is not installed: apt install flite") from None
    except subprocess.CalledProcessError as error:
        raise SpeakerError(f"flite failed ({error.stderr.strip() or error}); try `flite -lv`") from error
    except subprocess.TimeoutExpired:
        raise SpeakerError(f"flite {' '.join(arguments)} did not end within {_SECONDS:.0f} s") from None
    return done.stdout
