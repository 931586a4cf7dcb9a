"""How many things a sentence asks for: "the mug", "both mugs", "the mug and the spoon", "every mug but the red one".

English grammar in a few word lists. Whatever they do not settle is taken for one thing: then an answer of several is
AMBIGUOUS, and a robot asks instead of acting. docs/model.md says how often they are right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Part:
    """A part of a sentence that the network can be asked for itself.

    `plural`: it means several things, `count` of them if it says a number. The things of `without` are not meant.
    """

    text: str
    plural: bool = False
    count: int | None = None
    without: tuple[Part, ...] = ()


_LONGEST, _MOST = 300, 8  # characters and questions; beyond, a sentence is asked as it is, as if for one thing


@lru_cache(maxsize=512)
def understand(sentence: str) -> tuple[Part, ...]:
    """The parts of a sentence, in its order; most have one.

    Parts are joined by "and" where each begins as a noun phrase does and only the last has more words about where its
    thing is: "the man with the hat and the bag" stays one. A sentence of more than 300 characters, or of more than 8
    questions to the network, stays one too.
    """
    whole = (Part(sentence),)
    if len(sentence) > _LONGEST:
        return whole
    pieces = _coordinated(_said(sentence))
    parts = tuple(_part(piece) for piece in pieces) if len(pieces) > 1 else (_part(sentence),)
    return parts if sum(1 + len(part.without) for part in parts) <= _MOST else whole


def _said(sentence: str) -> str:
    """The sentence with single spaces, and no "please" at its end."""
    return re.sub(r",? please[.!]?$", "", " ".join(sentence.split()), flags=re.IGNORECASE)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:['’-][a-z0-9]+)*|,", text.lower())


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NUMBERS = {"dozen": 12} | {
    word: n
    for n, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2
    )
}
_NUMBERS |= {str(n): n for n in range(2, 21)}
_ARTICLES = _set("the these those my your his her our their its this that a an another")
_EACH = _set("every each everything everyone everybody")
_MANY = _set("several some few many various pairs multiple couples most lot lots")
_TWO = _set("couple pair")
_WHICH = _set("first last next other same only just exactly")
_OPENS = _ARTICLES | _EACH | _MANY | _TWO | _NUMBERS.keys() | {"both", "all", "one"}

# What people say to a robot before they name a thing.
_ASKING = _set(
    "please can could would you i we want need to find show give get bring fetch take pick grab hand put pass point "
    "look locate segment select highlight mark track follow clean wash remove see count me us up at for where are "
    "is and now hey hi hello ok okay robot i'd like go turn on , then"
)

# Words that end the noun and its adjectives: prepositions, relative pronouns, verbs.
_ENDS = _set(
    "on in at of with without by near next beside behind under underneath beneath above below between among from to "
    "for over against along around across inside outside into onto off through toward towards past beyond closest "
    "nearest farthest furthest about like except but who that which whose where when while as than because is are "
    "was were be being been has have had not isn't aren't wears sits stands lies holds looks eats walks faces rides "
    "plays hangs carries sleeps wear sit stand lie hold look eat walk face ride play hang carry sleep there here "
    "and or , touching &"
)
# After the noun without a word of their own between.
_AFTER = _set("left right together both all alone alike too only please nearby away")

_IRREGULAR = _set(
    "people men women children feet teeth mice geese oxen skis policemen firemen fishermen snowmen businessmen "
    "policewomen grandchildren others cacti dice couple kiwis taxis bikinis menus"
)
_ALIKE = _set("sheep fish deer moose bison buffalo aircraft")
_ONE_WITH_S = _set(
    "gas lens canvas atlas series species news always perhaps bias christmas pyjamas pajamas plus yes his hers its "
    "this as was does has chaos cosmos asparagus rhinoceros stairs sideways phillips"
)
# One thing in two halves, unless they are counted: "both scissors".
_PAIRS = _set(
    "scissors glasses sunglasses spectacles goggles binoculars pliers tongs tweezers pincers shears clippers "
    "cutters calipers headphones earphones trousers pants jeans shorts leggings tights"
)
_DRINKING = _set("wine drinking water champagne beer shot cocktail juice whisky whiskey martini pint")
# Joined to another by "and", these are no things: "the red and white bus", "the left and right one".
_QUALITIES = _set(
    "black white red green blue yellow orange brown grey gray pink purple silver gold golden beige tan dark light "
    "big small large tall short long old young left right top bottom front back up down clean dirty full empty "
    "round square hot cold wet dry new bright pale first second third fourth last leftmost rightmost "
    "upper lower nearer closer bigger smaller other middle"
)

_SIDE = re.compile(
    r"\s(?:on|at|in|to|near)\s(?:the\s|my\s|your\s|our\s)?(?:(?:very|far|top|bottom|upper|lower|front|back)\s)*"
    r"(?:left|right|top|bottom|middle|center|centre|front|back|background|foreground)(?:\s(?:side|edge|corner|end|hand|"
    r"hand\sside))?$"
)
_BUT = re.compile(
    r"^(?P<all>.+?),? (?:but|except|excluding|apart from|aside from|other than) (?:for |not )?(?P<rest>.+)$",
    re.IGNORECASE,
)


def _coordinated(sentence: str) -> list[str]:
    """The pieces that "and" joins, without "both" before them, each with its noun; the sentence itself if none are."""
    joiner = r"(?:and|&|as well as)"
    if not re.search(rf" {joiner} [^,]*$", sentence, re.IGNORECASE) or _BUT.match(sentence):
        return [sentence]
    text = re.sub(r"\bboth (?=(?:the|my|your|a|an) )", "", sentence, flags=re.IGNORECASE)
    pieces = re.split(rf",? {joiner} |, ", text, flags=re.IGNORECASE)
    words = [_spoken(_words(piece)) for piece in pieces]
    if len(pieces) == 2 and (bare := _bare(*words)):
        return bare
    if not all(words) or not all(some[0] in _OPENS for some in words) or not all(map(_is_phrase, pieces[:-1])):
        return [sentence]
    nouns = [_noun(piece) for piece in pieces]
    if not nouns[-1]:
        return [sentence]  # "the mugs on the left and the right"
    made = []
    for piece, noun, others in zip(pieces, nouns, [nouns[-1], *nouns], strict=False):
        # "the red mug and the blue one", "the first and the third mug"
        made.append(_named(piece, others) if noun else f"{piece} {nouns[-1]}")
    return made


def _bare(one: list[str], other: list[str]) -> list[str]:
    """ "the mug and spoon", "cup and saucer": two nouns alone, for which there may be one article."""
    if one[:1] == ["the"]:
        one = one[1:]
    if len(one) != 1 or len(other) != 1 or {*one, *other} & (_QUALITIES | _OPENS | _ENDS):
        return []
    return [f"the {noun}" for noun in (*one, *other)]


def _is_phrase(text: str) -> bool:
    """Whether this is a noun with what stands before it, and after it at most a side: "the mug on the left"."""
    rest = _spoken(_words(_SIDE.sub("", text.strip().lower())))
    while rest and (rest[0] in _OPENS or rest[0] == "of"):
        rest = rest[1:]
    return bool(rest) and not any(word in _ENDS or word in _ARTICLES or word.endswith("ing") for word in rest[:-1])


def _noun(text: str) -> str:
    """The noun of a phrase; empty where it has only what would stand before one ("the red", "the first")."""
    _, _, noun = _quantity(text)
    return "" if noun in _QUALITIES else noun


def _spoken(words: list[str]) -> list[str]:
    """The words without what asks for the thing: "please show me the mugs" has "the mugs"."""
    start = next((i for i, word in enumerate(words) if word not in _ASKING), len(words))
    return words[start:]


def _part(text: str) -> Part:
    said = _said(text)
    if found := _BUT.match(said):
        plural, count, noun = _quantity(found["all"])
        without = understand(_named(found["rest"], noun))
        if plural and all(_says_what(part) for part in without):
            return Part(found["all"], True, count, without)
        return Part(text)
    plural, count, _ = _quantity(said)
    words = _spoken(_words(said))
    if plural and {"and", "&", ","} & set(words[: _end(words, but=("and", "&", ","))]):
        return Part(text)  # "cups, plates and spoons": of which of them FOUND would be said is not known
    return Part(text, plural, count)


def _says_what(part: Part) -> bool:
    """Whether there is something to leave out in it: not "mine", "two" or "on the table"."""
    words = _words(part.text)
    return bool(words) and words[0] not in _ENDS and (part.plural or words[0] in _ARTICLES) and bool(_noun(part.text))


def _quantity(phrase: str) -> tuple[bool, int | None, str]:
    """Whether a noun phrase is in the plural, how many it says, and its noun."""
    words = _spoken(_words(phrase))
    every = whole = some = False
    count: int | None = None
    while words:
        word = words[0]
        if word in _EACH or word == "them":
            every = True
        elif word == "both":
            count, whole = 2, True
        elif word == "all":
            whole = True
            every = len(words) == 1 or words[1] in _ARTICLES or words[1] == "of"
        elif word in _NUMBERS or word in _TWO:
            count = count or _NUMBERS.get(word, 2)
            some = some or word in _TWO
        elif word in ("one", "either", "any", "neither", "no", "another", "a", "an"):
            if words[1:2] not in (["couple"], ["pair"], ["few"], ["dozen"], ["lot"]):
                return False, None, [word, *_body(words[1:])][-1]
        elif word in _MANY or (word in ("these", "those") and not _body(words[1:])):
            some = True
        elif word not in _ARTICLES and word not in _WHICH and not (word == "of" and (every or whole or some or count)):
            break
        words = words[1:]
    body = _body(words)
    if not body:  # "both", "the two on the left", "everything"
        return every or whole or some or bool(count), count, ""
    counted = whole or bool(count)
    if some and count and body[-1] in _PAIRS:  # a pair of scissors
        counted, count = False, None
    if every or (whole and count) or _is_plural(body, counted=counted):
        return True, count, body[-1]
    return False, None, body[-1]


def _body(words: list[str]) -> list[str]:
    """The noun with its adjectives."""
    body = words[: _end(words)]
    while len(body) > 1 and (body[-1] in _AFTER or body[-1].endswith("ed")):
        body = body[:-1]
    return body


def _end(words: list[str], but: Sequence[str] = ()) -> int:
    """Where the noun with its adjectives ends, at a word of _ENDS `but` these."""
    return next(
        (
            i
            for i, word in enumerate(words)
            if (word in _ENDS and word not in but) or (i and len(word) > 4 and word.endswith("ing"))
        ),
        len(words),
    )


def _is_plural(body: list[str], *, counted: bool) -> bool:
    noun = body[-1].rpartition("-")[2]
    if noun in _IRREGULAR or (counted and noun in _ALIKE):
        return True
    if noun in _ONE_WITH_S or noun.endswith(("ss", "us", "is", "'s", "’s")) or not noun.endswith("s") or len(noun) < 4:
        return False
    return counted or noun not in _PAIRS or (noun == "glasses" and bool(_DRINKING & set(body)))


def _named(text: str, noun: str) -> str:
    """ "the red one" with the noun that "one" stands for: "the red mug"; "those there": "the mugs there"."""
    if not noun:
        return text
    text = re.sub(r"^(?:those|the ones)\b", f"the {_plural(noun)}", text, flags=re.IGNORECASE)
    text = re.sub(r"\bones\b", _plural(noun), text, count=1, flags=re.IGNORECASE)
    return re.sub(r"(?<!\bno )\bone\b", _singular(noun), text, count=1, flags=re.IGNORECASE)


_PLURALS = {
    "person": "people",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "mouse": "mice",
    "goose": "geese",
    "bus": "buses",
} | {
    f"{stem}f{'e' * (stem in ('kni', 'wi', 'li'))}": f"{stem}ves"
    for stem in _set("kni wi li lea loa shel wol scar hal cal thie")
}
_SINGULARS = {plural: singular for singular, plural in _PLURALS.items()}


def _plural(noun: str) -> str:
    """ "mug" -> "mugs"; what is a plural stays one."""
    if noun in _PLURALS or _is_plural([noun], counted=True):
        return _PLURALS.get(noun, noun)
    if noun.endswith("man"):
        return f"{noun[:-2]}en"
    if re.search(r"(?:s|x|ch|sh)$", noun):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if re.search(r"[^aeiou]y$", noun) else f"{noun}s"


def _singular(noun: str) -> str:
    """ "mugs" -> "mug"; what is none stays as it is."""
    if noun in _SINGULARS or not _is_plural([noun], counted=True):
        return _SINGULARS.get(noun, noun)
    if noun.endswith("men"):
        return f"{noun[:-2]}an"
    if re.search(r"(?:ss|sh|ch|x|tato|mato|mango|hero)es$", noun):
        return noun[:-2]
    if noun.endswith("ies") and noun[:-3] not in _set("cook mov brown p t hood vegg smooth self zomb gen"):
        return f"{noun[:-3]}y"
    return noun[:-1] if noun.endswith("s") else noun
