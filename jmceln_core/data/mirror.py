"""The sentence that is true of the horizontally mirrored picture.

Flipping a picture left to right is the cheapest new picture there is, but only if the words follow. "right" is the
trouble: in "guy on the right" it is a side and must become "left", in "cup right behind the laptop" it only means
"directly".
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Written forms of the two sides, as pairs: mirroring twice gives the sentence back. Typing slips are paired too.
_PAIRS = (
    ("left", "right"),
    ("lefft", "rigth"),
    ("letf", "rihgt"),
    ("lfet", "rigyht"),
    ("leftt", "rightt"),
    ("lft", "rght"),
    ("lef", "righ"),
    ("leff", "rigt"),
    ("lt", "rt"),
    ("ltmost", "rtmost"),
    ("lefmost", "righmost"),
)
_SWAP = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}

# Words with a side glued on: "leftmost", "rightside", "leftlooking"; "bottomright", "onleft".
_GLUED_AFTER = re.compile(r"(left|right)[a-z]{2,}")
_GLUED_BEFORE = re.compile(
    r"(?:on|the|to|from|far|top|bottom|upper|lower|front|back|middle|center|centre|most)(left|right)"
)
_NO_SIDE = _words("leftover leftovers lefty lefties righteous rightly rightful rights")

# A word before "left"/"right" that makes it a side whatever follows: "on the right behind the car".
_SIDE_BEFORE = _words(
    """on the to from at in of far top bottom bot upper lower back front middle center centre extreme very farthest
    furthest farther further way its his her their our your my utmost most slightly more"""
)
# A word after it that makes it an adverb otherwise: "cup right behind the laptop", "toys left behind".
_ADVERB_BEFORE = _words(
    """behind above below under underneath beneath beside besides next near nearest by at on onto over against between
    after before around along across through inside outside into where there here now away up down off out to close
    alone open opposite amongst among atop"""
)
_IN_PLACE = _words("front middle center centre between back line foreground background corner half")
_PARTICIPLE = {"being", "been", "was", "were", "has", "have", "had", "got", "get", "gets"}  # "is being left"
_TOKEN = re.compile(r"[A-Za-z]+")

# What a mirrored picture shows wrongly: lettering, numbers, dials, traffic's and a ship's sides.
_LETTERING = re.compile(
    r"""["“”]|(?<![a-z])['‘][^'’]*['’](?![a-z])|\d(?!(?:st|nd|rd|th)\b|\d)|\bo'?\s?clock\b|clockwise
    |\bnumber(?:ed)?\b|\bsa(?:ys?|ying|id)\b|\bspell|\bmarked\b|\blabell?ed\b|\b(?:the\s+)?(?:word|letter|digit|numeral)s?\s+\w
    |\bread(?:s|ing)\s+(?!an?\b|the\b|in\b|on\b|books?\b|news|his\b|her\b|something\b|to\b|and\b|by\b|with\b|glasses\b|material\b|$)
    |\b(?:named|called|titled|written|lettered|inscribed|logo|roman)\b
    |\bdriver'?s?\s+side\b|\bpassenger'?s?\s+side\b|\bport\s?side\b|\bstarboard\b|\b(?:east|west)(?:ern)?\b
    |\bon\s+(?:the\s+)?[lr]\b|\bright\s+(?:side|way)\s+up\b|\b(?:all|that'?s)\s+right\b|\bright\s+angle
    |\b(?:only|last|what'?s)\s+(?:\w+\s+)?left\b""",
    re.IGNORECASE | re.VERBOSE,
)
_ORDINAL = re.compile(
    r"\b(?:first|second|third|fourth|fifth|sixth|seventh|eighth|last|1st|2nd|3rd|[4-9]th)\b", re.IGNORECASE
)
# With one of these the counting direction is said, or is not horizontal.
_COUNTED_FROM = re.compile(
    r"\b(?:from|in\s+from|left\w*|right\w*|rows?|down|up|top|bottom|upper|lower|back|front|shelf|above|below|under|behind"
    r"|closest|nearest|farthest|furthest|biggest|largest|tallest|smallest|longest|shortest|hand)\b",
    re.IGNORECASE,
)
_NO_NAME = {"TV", "I", "T", "DVD", "CD", "PC", "US", "SUV", "BBQ", "OJ", "RV", "Y", "V", "U", "L"}


def _cased(word: str, like: str) -> str:
    """`word` in the upper and lower case of `like`."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[0].isupper() else word


def _side_span(word: str) -> tuple[int, int] | None:
    """Where in a lower-case word the side stands, None if the word has none."""
    if word in _SWAP:
        return 0, len(word)
    if word in _NO_SIDE:
        return None
    if found := _GLUED_AFTER.fullmatch(word):
        return found.span(1)
    if found := _GLUED_BEFORE.fullmatch(word):
        return found.span(1)
    return None


def _uses(text: str) -> list[tuple[int, int, bool, bool]]:
    """Every written left/right of a sentence: (start, end, is a side, is doubtful).

    The decision looks at the neighbours only, never at which of the two sides it is: mirroring is then its own inverse.
    """
    tokens = list(_TOKEN.finditer(text))
    words = [t.group().lower() for t in tokens]
    uses = []
    for k, token in enumerate(tokens):
        span = _side_span(words[k])
        if span is None:
            continue
        start, end = token.start() + span[0], token.start() + span[1]
        before = words[k - 1] if k and "," not in text[tokens[k - 1].end() : token.start()] else ""
        gap = text[token.end() : tokens[k + 1].start()] if k + 1 < len(words) else ""
        after = words[k + 1 : k + 4] if gap and not gap.strip() else []
        adverb = False
        if span == (0, len(words[k])) and after:  # "rightmost" and the like are always sides
            place = [w for w in after[1:] if w != "the"][:1]
            adverb = after[0] in _ADVERB_BEFORE or (after[0] == "in" and bool(place) and place[0] in _IN_PLACE)
        adverb = adverb and before not in _SIDE_BEFORE and before not in _SWAP
        adverb = adverb or (before in _PARTICIPLE and after[:1] != ["of"])
        # "right above" without a side word is plainly an adverb; "left above", or "right in back" to open with, is not.
        plain = words[k] == "right" and before != "" and after[:1] != ["in"]
        plain = plain or (words[k] == "right" and after[:2] in (["next", "to"], ["in", "front"]))
        uses.append((start, end, not adverb, adverb and not plain))
    return uses


def mirror_text(text: str) -> str:
    """The sentence with its sides swapped: what is true of the picture flipped left to right.

    Case and spacing are kept, and `mirror_text(mirror_text(t)) == t`. Uses of "right" and "left" that are no side stay.
    Ask `can_mirror` first: lettering, dials and unsaid counting directions survive no mirror.
    """
    pieces, at = [], 0
    for start, end, side, _ in _uses(text):
        if side:
            written = text[start:end]
            pieces += [text[at:start], _cased(_SWAP[written.lower()], written)]
            at = end
    return "".join([*pieces, text[at:]])


def can_mirror(text: str) -> bool:
    """Whether `mirror_text(text)` is surely true of the mirrored picture.

    False for lettering ("sign that says ...", quoted words, numbers, names), dials, sides of a ship or a street,
    counting without a said direction ("the second screwdriver"), and left/right that may be a side or an adverb.
    """
    if _LETTERING.search(text) or any(doubtful for *_, doubtful in _uses(text)):
        return False
    if _ORDINAL.search(text) and not _COUNTED_FROM.search(text):
        return False
    if text.isupper():
        return True
    names = [w.group() for w in _TOKEN.finditer(text) if w.start() and w.group()[0].isupper()]
    return all(name in _NO_NAME or name.lower() in _SWAP for name in names)
