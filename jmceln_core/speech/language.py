"""How people ask for things: a trigram model of words that tells an engine what is likely to have been said.

A speech engine that knows all of English hears "yellow drain on the far track"; who asks a robot means the train. The
bundled model, config/speech/language.txt.gz, holds counts of words in referring expressions, and is made by

    python -m jmceln_core.speech.language TEXT_OR_JSON ... --out config/speech/language.txt.gz

from text files with a sentence in each line, and from json with sentences as `text` or `captions`. Sentences are
counted plain, with "the" before them, and in the polite frames of config/speech/frames.yaml.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from jmceln_core.config import read_yaml, resource
from jmceln_core.speech.interpret import normalise, plain

#: What stands before the first word and after the last.
BEGIN, END = "<s>", "</s>"

_LEAST = 1e-7  # probability in a search, where a word that was never counted must not cost more than all the sound
_UNKNOWN = 1e-5  # probability of a word that was never counted, before what is left over for all of those
# What is counted less often is left out: slips of the pen (a sentence gives a word four times), and size.
_MIN_WORD, _MIN_TRIGRAM = 8, 2
_ENDING_COUNT = 20  # of every sentence that ends a command
_LONGEST = 100  # characters of an expression
_ARTICLES = {
    "the",
    "a",
    "an",
    "this",
    "that",
    "these",
    "those",
    "all",
    "both",
    "every",
    "some",
    "my",
    "your",
    "his",
    "her",
}


class LanguageModel:
    """Word probabilities by Witten-Bell interpolation of trigram, bigram and word counts.

    p(w | uv) = (c(uvw) + t(uv) p(w | v)) / (c(uv) + t(uv)), with t(uv) the number of different words seen after uv; the
    same for p(w | v), and p(w) mixes with the constant probability of an unknown word (Witten and Bell 1991, method C).

    `counts` maps tuples of one, two and three words to how often they were seen. `words` are more words to expect, each
    as often as the average word.
    """

    def __init__(self, counts: Mapping[tuple[str, ...], int], words: Iterable[str] = ()) -> None:
        self._counts = dict(counts)
        singles = {key: count for key, count in self._counts.items() if len(key) == 1}
        average = max(round(sum(singles.values()) / max(len(singles), 1)), 1)
        for word in words:
            self._counts.setdefault((word,), average)
        totals: dict[tuple[str, ...], int] = defaultdict(int)
        kinds: dict[tuple[str, ...], int] = defaultdict(int)
        for key, count in self._counts.items():
            totals[key[:-1]] += count
            kinds[key[:-1]] += 1
        self._totals, self._kinds = totals, kinds
        #: Natural logarithm of probability(word, history), and of _LEAST where that is more.
        self.log_probability = lru_cache(maxsize=100_000)(self._log_probability)

    @classmethod
    def load(cls, path: str | Path | None = None, words: Iterable[str] = ()) -> LanguageModel:
        """The model of a file, or the bundled one. Raises OSError or ValueError with the path."""
        path = Path(path) if path else resource("speech/language.txt.gz")
        counts = {}
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                for line in file:
                    count, _, key = line.rstrip("\n").partition("\t")
                    counts[tuple(key.split(" "))] = int(count)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path}: no counts of words ({error}); make it with jmceln_core.speech.language"
            ) from error
        return cls(counts, words)

    def save(self, path: str | Path) -> None:
        """Writes the counts, one to a line; the same counts give the same bytes."""
        lines = (f"{count}\t{' '.join(key)}\n" for key, count in sorted(self._counts.items()))
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
            file.write("".join(lines).encode())

    def __contains__(self, word: str) -> bool:
        return (word,) in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def probability(self, word: str, history: tuple[str, ...]) -> float:
        """p(word | history), of which the last two words count; END is a word, BEGIN is not."""
        history = history[-2:]
        lower = self.probability(word, history[1:]) if history else _UNKNOWN
        kinds = self._kinds.get(history, 0)
        if not kinds:
            return lower
        return (self._counts.get((*history, word), 0) + kinds * lower) / (self._totals[history] + kinds)

    def _log_probability(self, word: str, history: tuple[str, ...]) -> float:
        return math.log(max(self.probability(word, history), _LEAST))

    def score(self, words: Sequence[str]) -> float:
        """Sum of `log_probability` over a whole sentence, its end included."""
        history: tuple[str, ...] = (BEGIN,)
        total = 0.0
        for word in (*words, END):
            total += self.log_probability(word, history)
            history = (*history, word)[-2:]
        return total


def count(sentences: Iterable[str], frames: Mapping[str, Sequence[str]], *, seed: int = 0) -> Counter[tuple[str, ...]]:
    """Counts for LanguageModel: every sentence alone, with an article, and framed; rare words and trigrams left out.

    `frames` is what config/speech/frames.yaml holds.
    """
    random = np.random.default_rng(seed)

    def choice(of: str) -> str:
        return frames[of][int(random.integers(len(frames[of])))]

    spoken = [words(phrase) for phrase in frames["ending"] for _ in range(_ENDING_COUNT)]
    for sentence in sentences:
        expression = normalise(sentence.replace("/", " "))
        if not expression or len(expression) > _LONGEST:
            continue
        definite = expression if expression.split()[0] in _ARTICLES else f"the {expression}"
        asked = f"{choice('asking')} {definite}"
        alone = choice("alone").format(definite)
        spoken += map(words, (expression, definite, choice("polite").format(asked), (asked, alone)[random.integers(2)]))
    times = Counter(word for sentence_words in spoken for word in sentence_words)
    counts: Counter[tuple[str, ...]] = Counter()
    for sentence_words in spoken:
        if any(times[word] < _MIN_WORD for word in sentence_words):
            continue
        padded = [BEGIN, *sentence_words, END]
        for at in range(1, len(padded)):
            for length in (1, 2, 3):
                if at + 1 >= length:
                    counts[tuple(padded[at + 1 - length : at + 1])] += 1
    return Counter({key: n for key, n in counts.items() if len(key) < 3 or n >= _MIN_TRIGRAM})


def words(text: str) -> list[str]:
    """The words of a text as they are counted: plain, hyphens apart."""
    return plain(text).replace("-", " ").split()


def sentences_of(path: str | Path) -> Iterator[str]:
    """The sentences of a text file (a line each) or of json (what is called `text`, `caption` or `captions` in it)."""
    path = Path(path)
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        yield from content.splitlines()
        return
    waiting = [json.loads(content)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            for key, value in item.items():
                if key in ("text", "caption", "captions"):
                    yield from [value] if isinstance(value, str) else value
                else:
                    waiting.append(value)
        elif isinstance(item, list):
            waiting += item


def _bare(text: str) -> tuple[str, ...]:
    """The words without an article before them."""
    found = words(text)
    return tuple(found[1:] if found[:1] in (["the"], ["a"], ["an"]) else found)


def main(args: Sequence[str] | None = None) -> int:
    """Counts and writes."""
    parser = argparse.ArgumentParser(prog="python -m jmceln_core.speech.language", description=__doc__)
    parser.add_argument("corpus", nargs="+", type=Path, help="text or json files with sentences")
    parser.add_argument("--without", type=Path, metavar="YAML", help="leave out the test sentences of this file")
    parser.add_argument("--out", type=Path, required=True, help="file to write (.txt.gz)")
    options = parser.parse_args(args)
    frames = read_yaml(resource("speech/frames.yaml"))
    tested = (
        {_bare(each.get("command", "")) for each in read_yaml(options.without)["test"]} if options.without else set()
    )
    sentences = (text for path in options.corpus for text in sentences_of(path) if _bare(text) not in tested)
    model = LanguageModel(count(sentences, frames))
    model.save(options.out)
    print(f"{options.out}: {len(model)} counts, {options.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
