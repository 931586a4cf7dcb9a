"""WAV files as a source of sound: a file, or a folder of them one after the other, in real time. No ROS here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jmceln_core.speech.audio import AudioError, read_wav
from jmceln_ros.speech.chunks import Chunk

#: Seconds of a chunk, and of silence after every file: more than any sensible `pause`.
CHUNK, SILENCE = 0.02, 1.5


class Recordings:
    """Plays WAV files to `put`, as a microphone would, from `start` to the end or, with `loop`, until `stop`.

    A file that cannot be read is passed over; `report` is told why. `now` is the clock of the chunks' arrival, seconds.
    """

    def __init__(
        self,
        path: str,
        put: Callable[[Chunk], None],
        *,
        now: Callable[[], float],
        report: Callable[[str], object],
        loop: bool = False,
    ) -> None:
        self._path = Path(path).expanduser()
        self.name = str(self._path)
        self.trouble = ""
        self.ended = False
        self._put = put
        self._now = now
        self._report = report
        self._loop = loop
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._play, name="recordings", daemon=True)
        self._files: list[Path] = []

    def start(self) -> None:
        """Begins to play. Raises AudioError, naming the path, where there is nothing to be played."""
        if self._path == Path() or not self._path.exists():
            raise AudioError(
                f"source {self.name!r}: there is no such file or folder; give a path, or topic, microphone or "
                "microphone:NAME"
            )
        self._files = [self._path]
        if self._path.is_dir():
            self._files = sorted(file for file in self._path.iterdir() if file.suffix.lower() == ".wav")
            if not self._files:
                raise AudioError(f"source {self.name!r}: no WAV files (*.wav) in this folder")
        else:
            read_wav(self._path)  # a folder may have broken files among others; this is the only one
        self._thread.start()

    def stop(self) -> None:
        """Ends playing, at once."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _play(self) -> None:
        again = True
        while again and not self._stopped.is_set():
            played = [self._play_one(file) for file in self._files]
            if any(played):
                self.trouble = ""
            again = self._loop and any(played)
        self.ended = True

    def _play_one(self, file: Path) -> bool:
        """Whether it could be played; nothing that is wrong with one file keeps the others from it."""
        if self._stopped.is_set():
            return False
        try:
            samples, rate = read_wav(file)
            self._feed(samples, rate)
            self._feed(np.full((int(SILENCE * rate), samples.shape[1]), _silence(samples.dtype), samples.dtype), rate)
        except Exception as error:
            self.trouble = str(error) if isinstance(error, AudioError) else f"{file}: {error} [{type(error).__name__}]"
            self._report(self.trouble)
            return False
        return True

    def _feed(self, samples: np.ndarray, rate: int) -> None:
        """(n, channels) samples, a chunk at a time, each when its last sample would have been taken."""
        step = max(1, int(CHUNK * rate))
        begin = time.monotonic()
        for at in range(0, len(samples), step):
            part = samples[at : at + step]
            due = begin + (at + len(part)) / rate
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                return
            self._put(Chunk(part.reshape(-1), rate, samples.shape[1], None, self._now()))


def _silence(kind: np.dtype) -> int:
    return 128 if kind == np.uint8 else 0
