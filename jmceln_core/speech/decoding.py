"""Beam search for an engine that writes token by token; a language model has a say at the end of every word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmceln_core.speech.language import BEGIN, END, LanguageModel, words

#: What stands for a space in the vocabularies of SentencePiece.
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


_UNLIKELY = 3.0  # natural logarithm: the end is a choice only where it is at most this much below the likeliest token,
# and no text at all only where it is the likeliest


@dataclass(frozen=True)
class Hypothesis:
    """A beginning of a text. `sound` is the logarithm of its tokens' probability by the engine, `language` what the
    language model added for the words that are complete; `word` is the last one, which may go on."""

    tokens: tuple[int, ...] = ()
    sound: float = 0.0
    language: float = 0.0
    said: tuple[str, ...] = ()
    word: str = ""
    ended: bool = False

    @property
    def score(self) -> float:
        """By which hypotheses are compared."""
        return self.sound + self.language


class BeamSearch:
    """The `width` best texts, one token longer at every step.

    A text scores log p(tokens | sound) + weight * log p(words) + bonus * number of words; the bonus makes up for what
    the language model takes for every word. Texts that differ in capitals and punctuation only count as one. `pieces`
    are the vocabulary's tokens as bytes, SPACE before each new word; `end` is the token that ends a text. Without a
    `language` this is beam search by sound alone.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        end: int,
        *,
        width: int,
        language: LanguageModel | None = None,
        weight: float = 0.0,
        bonus: float = 0.0,
    ) -> None:
        self._pieces = pieces
        self._end = end
        self._width = width
        self._language = language
        self._weight = weight
        self._bonus = bonus
        self.alive = [Hypothesis()]
        self._best: Hypothesis | None = None  # of those that ended

    def extend(self, logits: np.ndarray) -> list[int]:
        """Goes on by one token; returns which of the old `alive` each new one continues.

        `logits` is (len(alive), vocabulary). Empty when nothing that goes on is better than what has ended.
        """
        logs = logits.astype(np.float64)
        logs -= logs.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        likely = np.argpartition(-logs, min(self._width, logs.shape[1] - 1), axis=1)[:, : self._width]
        best: dict[tuple[object, ...], tuple[Hypothesis, int]] = {}
        for parent, hypothesis in enumerate(self.alive):
            for token in likely[parent].tolist():
                # Whether the sound has ended is the engine's to say: short texts are cheap to the language model.
                least = logs[parent].max() - (_UNLIKELY if hypothesis.tokens else 0.0)
                if token == self._end and logs[parent, token] < least:
                    continue
                longer = self._longer(hypothesis, token, float(logs[parent, token]))
                if longer.ended:
                    if self._best is None or longer.score > self._best.score:
                        self._best = longer
                    continue
                key = (*longer.said, *words(longer.word.replace(SPACE, " ")), longer.word.endswith(SPACE))
                if key not in best or longer.score > best[key][0].score:
                    best[key] = (longer, parent)
        chosen = sorted(best.values(), key=lambda pair: -pair[0].score)[: self._width]
        if self._best is not None:
            chosen = [pair for pair in chosen if pair[0].score > self._best.score]
        self.alive = [hypothesis for hypothesis, _ in chosen]
        return [parent for _, parent in chosen]

    @property
    def best(self) -> Hypothesis:
        """The best text that has ended; while none has, the best one that goes on."""
        return self._best or self.alive[0]

    def _longer(self, hypothesis: Hypothesis, token: int, log: float) -> Hypothesis:
        tokens, sound = (*hypothesis.tokens, token), hypothesis.sound + log
        if token == self._end:
            hypothesis = self._complete(hypothesis)
            added = self._value(hypothesis.said, END)
            return replace(
                hypothesis, tokens=tokens, sound=sound, language=hypothesis.language + added, word="", ended=True
            )
        piece = self._pieces[token].decode(errors="replace")
        if piece.startswith(SPACE):
            hypothesis = self._complete(hypothesis)
        return replace(hypothesis, tokens=tokens, sound=sound, word=hypothesis.word + piece)

    def _complete(self, hypothesis: Hypothesis) -> Hypothesis:
        """The last word is whole: the language model judges it."""
        said, added = hypothesis.said, 0.0
        for word in words(hypothesis.word.replace(SPACE, " ")):
            added += self._value(said, word) + self._bonus
            said = (*said, word)
        return replace(hypothesis, said=said, language=hypothesis.language + added, word="")

    def _value(self, said: tuple[str, ...], word: str) -> float:
        if self._language is None:
            return 0.0
        return self._weight * self._language.log_probability(word, (BEGIN, *said)[-2:])
