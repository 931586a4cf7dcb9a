"""A microphone of this machine as a source of sound, by the optional package sounddevice. No ROS here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from jmceln_core.speech.audio import AudioError
from jmceln_ros.speech.chunks import Chunk

#: Seconds of a chunk; between two tries to open a device that is not there; without sound, after which one is gone.
CHUNK, RETRY, SILENT = 0.02, 3.0, 2.0


class Microphone:
    """Hands what a microphone records to `put`.

    `device` is a part of its name or its number, empty for the system's own choice; `rate` 0 is the device's own. As
    long as it is not there, `trouble` says why, `report` is told once for every new reason, and it is tried again every
    RETRY seconds, also after it was unplugged. `now` is the clock of the chunks' arrival, seconds.
    """

    ended = False

    def __init__(
        self,
        device: str,
        put: Callable[[Chunk], None],
        *,
        now: Callable[[], float],
        report: Callable[[str], object],
        rate: int = 0,
    ) -> None:
        self.name = f"microphone {device}".strip()
        self.trouble = ""
        self._device: str | int | None = int(device) if device.isdecimal() else device or None
        self._put = put
        self._now = now
        self._report = report
        self._rate = rate
        self._stopped = threading.Event()
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._record, name="microphone", daemon=True)

    def start(self) -> None:
        """Begins to record, or to try to."""
        self._thread.start()

    def stop(self) -> None:
        """Ends recording and lets the device go."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _record(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._open():
                    self.trouble = ""
                    self._heard.clear()
                    while self._heard.wait(SILENT) and not self._stopped.is_set():
                        self._heard.clear()
                        self._stopped.wait(SILENT / 4)
                if not self._stopped.is_set():
                    raise AudioError(f"{self.name} has stopped giving sound; check its cable")
            except Exception as error:  # of PortAudio, or of whatever it finds on this machine
                self._tell(str(error) if isinstance(error, AudioError) else f"{self.name} cannot be opened: {error}")
            self._stopped.wait(RETRY)

    def _open(self) -> Any:
        """The stream, which records inside a `with`. Raises AudioError with the remedy."""
        try:
            import sounddevice
        except ImportError as error:
            raise AudioError(f"{self.name} needs the package sounddevice ({error}): pip install sounddevice") from error
        except OSError as error:
            raise AudioError(f"{self.name} needs PortAudio ({error}): sudo apt install libportaudio2") from error
        if self.trouble:  # PortAudio lists the devices once: a plugged-in one is seen after it began anew
            sounddevice._terminate()
            sounddevice._initialize()
        try:
            found = sounddevice.query_devices(self._device, "input")
        except (ValueError, sounddevice.PortAudioError) as error:
            known = [f"{d['index']} {d['name']!r}" for d in sounddevice.query_devices() if d["max_input_channels"] > 0]
            raise AudioError(
                f"{self.name}: there is no such device ({error}); these record here: {', '.join(known) or 'none'}"
            ) from error
        rate = self._rate or int(found["default_samplerate"])

        def take(data: np.ndarray, frames: int, times: Any, status: Any) -> None:
            self._heard.set()
            samples = data.reshape(-1).copy()  # the buffer is PortAudio's and is used again
            self._put(Chunk(samples, rate, data.shape[1], None, self._now(), overflow=bool(status.input_overflow)))

        return sounddevice.InputStream(
            samplerate=rate,
            blocksize=max(1, int(CHUNK * rate)),
            device=found["index"],
            channels=min(2, found["max_input_channels"]),
            dtype="int16",
            callback=take,
        )

    def _tell(self, reason: str) -> None:
        if reason != self.trouble:
            self._report(reason)
        self.trouble = reason
