"""How well something was heard: word errors and which words they are, and the interval of a share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jmceln_core.speech.missing import needed

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = {
    **{"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"},
    **{"twelve": "twelfth"},
}


class Difference(NamedTuple):
    """Words that differ: one said and another heard, or "" where nothing was said or heard."""

    said: str
    heard: str


@dataclass(frozen=True)
class WordErrors:
    """What it takes, in words, to make what was said of what was heard."""

    words: int  # that were said
    substitutions: int = 0
    deletions: int = 0  # said and not heard
    insertions: int = 0  # heard and not said
    differences: tuple[Difference, ...] = ()

    @property
    def count(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions


def normal(text: str) -> str:
    """The form in which texts are compared: case and punctuation do not count, and numbers are words.

    Apostrophes vanish ("man's" is "mans"); all else that is no letter or digit separates words; whole numbers below 100
    in digits become words, with "st", "nd", "rd" and "th" as ordinals ("2nd" is "second", "21" is "twenty one").
    """
    words = re.findall(r"[^\W_]+", re.sub("['’]", "", text.casefold()))
    return " ".join(_number(word) for word in words)


def _number(word: str) -> str:
    """Digits, if it is them, as words."""
    match = re.fullmatch(r"([0-9]{1,2})(st|nd|rd|th)?", word)
    if match is None:
        return word
    tens, ones = divmod(int(match[1]), 10)
    if tens < 2:
        words = [_ONES.split()[10 * tens + ones]]
    else:
        words = [_TENS.split()[tens - 2], *([_ONES.split()[ones]] if ones else [])]
    if match[2]:
        last = words[-1]
        words[-1] = _ORDINALS.get(last) or re.sub("y$", "ie", last) + "th"
    return " ".join(words)


def word_errors(said: str, heard: str) -> WordErrors:
    """The fewest errors in words between two texts, compared as `normal` says.

    A substitution, a deletion and an insertion cost the same; jiwer finds them. Raises EngineMissing without it.
    """
    with needed("jiwer"):
        import jiwer
    said_words, heard_words = normal(said).split(), normal(heard).split()
    found = jiwer.process_words(" ".join(said_words), " ".join(heard_words))
    differences: list[Difference] = []
    for part in found.alignments[0]:
        if part.type == "equal":
            continue
        left = said_words[part.ref_start_idx : part.ref_end_idx]
        right = heard_words[part.hyp_start_idx : part.hyp_end_idx]
        length = max(len(left), len(right))
        left, right = ([*some, *[""] * (length - len(some))] for some in (left, right))
        differences += map(Difference, left, right)
    return WordErrors(
        len(said_words), found.substitutions, found.deletions, found.insertions, differences=tuple(differences)
    )


def word_error_rate(errors: Sequence[WordErrors]) -> float:
    """All errors of some sentences over all their words, as a share; NaN without words. It can be above 1."""
    words = sum(each.words for each in errors)
    return sum(each.count for each in errors) / words if words else math.nan


def wilson(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % with this z: honest near 0 and 1, where the usual one is not. NaN of none.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    if count == 0:
        return math.nan, math.nan
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(centre - half, 0.0), min(centre + half, 1.0)
