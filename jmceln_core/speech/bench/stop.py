"""How often "stop" is heard, said fast and softly, and how often something else is taken for it:

    python -m jmceln_core.speech.bench.stop

What is said (STOPS, OTHERS) is spoken by flite, four voices, fast and softly, in a quiet room and in pink noise 15 dB
below it, and heard by what speech_node hears with.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jmceln_core.markdown import table
from jmceln_core.speech.audio import RATE
from jmceln_core.speech.bench import noise
from jmceln_core.speech.bench.score import wilson
from jmceln_core.speech.bench.speaker import VOICES, Speaker, SpeakerError
from jmceln_core.speech.engines import ENGINES, load_engine
from jmceln_core.speech.listener import Heard, Listener
from jmceln_core.speech.missing import EngineMissing

STOPS = ("stop", "stop it")
OTHERS = ("shop", "top", "step", "spot", "start", "the stop sign")
SPEEDS = (1.3, 1.6)
LEVELS = (-20, -30)  # decibels below a peak of half of full scale
ROOMS = ("quiet", "pink")
SNR = 15.0  # decibels, but for the quiet room, which has the last of 16 bits at random
SOUNDS = tuple(kind for kind in noise.SOUNDS if kind not in noise.QUIET)


@dataclass(frozen=True)
class Trial:
    """What was said, and how: a row of LEVELS, SPEEDS and ROOMS; whether it ended the command in force."""

    text: str
    voice: str
    speed: float
    level: int
    room: str
    ended: bool


def recording(speech: np.ndarray, level: int, room: str, seed: int) -> np.ndarray:
    """Speech (n,) at a level, with what is around it in a room before, during and after it, float32 (m,)."""
    speech = speech / np.abs(speech).max() * 0.5 * 10 ** (level / 20)
    seconds = len(noise.pad(speech)) / RATE
    if room == "quiet":
        return noise.pad(speech).astype(np.float32) + noise.make("dither", seconds, seed=seed)
    return noise.add_noise(speech, noise.make(room, seconds, seed=seed), SNR)


def heard(listener: Listener, samples: np.ndarray) -> list[Heard]:
    """What becomes of a recording (n,), from its beginning to its end."""
    listener.reset()
    return [listener.hear(utterance) for utterance in [*listener.feed(samples), *listener.flush()]]


def trials(listener: Listener, speaker: Speaker, texts: Iterable[str], speeds: Iterable[float]) -> list[Trial]:
    """Every text in every voice, speed, level and room. Raises SpeakerError without flite."""
    found = []
    for text, voice, speed, level, room in itertools.product(texts, VOICES, speeds, LEVELS, ROOMS):
        seed = zlib.crc32(f"{text} {voice} {speed} {level} {room}".encode())
        said = heard(listener, recording(speaker.say(text, voice, speed), level, room, seed))
        found.append(Trial(text, voice, speed, level, room, any(one.decision.ends for one in said)))
    return found


def markdown(found: Sequence[Trial]) -> str:
    """Shares by every property of a trial, with 95 % Wilson intervals."""
    counts: dict[tuple[str, object], list[bool]] = defaultdict(list)
    for trial in found:
        for name in ("text", "voice", "speed", "level", "room"):
            counts[name, getattr(trial, name)].append(trial.ended)
        counts["all", ""].append(trial.ended)
    rows = []
    for (name, value), ended in counts.items():
        low, high = wilson(sum(ended), len(ended))
        share = f"{sum(ended)} of {len(ended)} = {np.mean(ended):.0%} [{low:.0%}, {high:.0%}]"
        rows.append((f"{name} {value}".strip(), share))
    return "\n".join(table(("", "ended the command"), rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.speech.bench.stop", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--model", default="", help="of the engine; empty is its own")
    parser.add_argument("--speech", default="runs/speech/spoken", help="folder for what flite has spoken")
    options = parser.parse_args(arguments)
    try:
        listener, speaker = Listener(load_engine(options.engine, model=options.model)), Speaker(options.speech)
        print(f"Said to stop:\n\n{markdown(trials(listener, speaker, STOPS, SPEEDS))}\n")
        print(f"Something else:\n\n{markdown(trials(listener, speaker, OTHERS, SPEEDS[:1]))}\n")
    except (EngineMissing, SpeakerError) as error:
        print(error, file=sys.stderr)
        return 2
    ended = [
        any(one.decision.ends for one in heard(listener, noise.make(kind, 20.0, level=level)))
        for kind, level in itertools.product(SOUNDS, (0.1, 0.01, 0.001))
    ]
    print(f"Nobody speaks: {sum(ended)} of {len(ended)} sounds of 20 s ended the command")
    return 0


if __name__ == "__main__":
    sys.exit(main())
