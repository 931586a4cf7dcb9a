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


@lru_cache(maxsize=512)
def understand(sentence: str) -> tuple[Part, ...]:
    """The parts of a sentence, in its order; most have one.

    Parts are joined by "and" where each begins as a noun phrase does and only the last has more words about where its
    thing is: "the man with the hat and the bag" stays one.
    """
    return tuple(_part(piece) for piece in _coordinated(sentence))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:['’-][a-z0-9]+)*|,", text.lower())


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NUMBERS = {
    word: n for n, word in enumerate(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), start=2)
}
_NUMBERS |= {str(n): n for n in range(2, 21)}
_ARTICLES = _set("the these those my your his her our their its this that a an another")
_EACH = _set("every each everything everyone everybody")
_MANY = _set("several some few many various couple pair pairs multiple couples most")
_OPENS = _ARTICLES | _EACH | _MANY | _NUMBERS.keys() | {"both", "all", "one"}

# What people say to a robot before they name a thing.
_ASKING = _set(
    "please can could would you i we want need to find show give get bring fetch take pick grab hand put pass point "
    "look locate segment select highlight mark track follow clean wash remove see count me us up at for where are "
    "is and now"
)

# Words that end the noun and its adjectives: prepositions, relative pronouns, verbs.
_ENDS = _set(
    "on in at of with without by near next beside behind under underneath beneath above below between among from to "
    "for over against along around across inside outside into onto off through toward towards past beyond closest "
    "nearest farthest furthest about like except but who that which whose where when while as than because is are "
    "was were be being been has have had not isn't aren't wears sits stands lies holds looks eats walks faces rides "
    "plays hangs carries sleeps wear sit stand lie hold look eat walk face ride play hang carry sleep there here "
    "and or , touching"
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
    "round square salt still hot cold wet dry new bright pale"
)

_SIDE = re.compile(
    r"\s(?:on|at|in|to|near)\s(?:the\s|my\s|your\s|our\s)?(?:(?:very|far|top|bottom|upper|lower|front|back)\s)*"
    r"(?:left|right|top|bottom|middle|center|centre|front|back|background|foreground)(?:\s(?:side|edge|corner|end|hand|"
    r"hand\sside))?$"
)
_BUT = re.compile(
    r"^(?P<all>.+?),?\s+(?:but|except|excluding|apart\sfrom|aside\sfrom|other\sthan)\s(?:for\s|not\s)?"
    r"(?P<rest>(?:the|that|this|those|these|my|your|all|both|a|an|every)\s.+)$",
    re.IGNORECASE,
)


def _coordinated(sentence: str) -> Sequence[str]:
    """The pieces that "and" joins, without "both" before them; the sentence itself if none are joined."""
    text = re.sub(r"\bboth\s+(?=(?:the|my|your|a|an)\s.*\sand\s)", "", sentence)
    pieces = re.split(r",?\s+and\s+|,\s+", text)
    if len(pieces) < 2 or not re.search(r"\sand\s+[^,]*$", sentence) or _BUT.match(sentence):
        return [sentence]
    words = [_words(piece) for piece in pieces]
    if len(pieces) == 2 and (bare := _bare(*words)):
        return bare
    if all(words) and all(_is_phrase(w, text) for w, text in zip(words[:-1], pieces, strict=False)):
        first = _spoken(words[0])
        if first and first[0] in _OPENS and all(w[0] in _OPENS for w in words[1:]):
            return pieces
    return [sentence]


def _bare(one: list[str], other: list[str]) -> list[str]:
    """ "the mug and spoon", "cup and saucer": two nouns alone, for which there may be one article."""
    one = _spoken(one)
    if one[:1] == ["the"]:
        one = one[1:]
    if len(one) != 1 or len(other) != 1 or {*one, *other} & (_QUALITIES | _OPENS | _ENDS):
        return []
    return [f"the {noun}" for noun in (*one, *other)]


def _is_phrase(words: list[str], text: str) -> bool:
    """Whether this is a noun with what stands before it, and after it at most a side: "the mug on the left"."""
    rest = _spoken(_words(_SIDE.sub("", text.strip().lower())))
    return bool(rest) and not any(word in _ENDS or word in _ARTICLES or word.endswith("ing") for word in rest[1:-1])


def _spoken(words: list[str]) -> list[str]:
    """The words without what asks for the thing: "please show me the mugs" has "the mugs"."""
    start = next((i for i, word in enumerate(words) if word not in _ASKING), len(words))
    return words[start:]


def _part(text: str) -> Part:
    if found := _BUT.match(text):
        plural, count, noun = _quantity(found["all"])
        if plural:
            return Part(found["all"], True, count, understand(_named(found["rest"], noun)))
    plural, count, _ = _quantity(text)
    return Part(text, plural, count)


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
        elif word in _NUMBERS:
            count = _NUMBERS[word]
        elif word in ("one", "either", "any", "neither", "no", "another", "a", "an"):
            if words[1:2] not in (["couple"], ["pair"], ["few"]):
                return False, None, ""
        elif word not in _ARTICLES and word not in _MANY and not (word == "of" and (every or whole or some or count)):
            break
        some = some or word in _MANY
        words = words[1:]
    body = _body(words)
    if not body:  # "both", "the two on the left", "everything"
        return every or whole or some or bool(count), count, ""
    if every or (whole and count) or _is_plural(body, counted=whole or bool(count)):
        return True, count, body[-1]
    return False, None, body[-1]


def _body(words: list[str]) -> list[str]:
    """The noun with its adjectives."""
    end = next(
        (i for i, w in enumerate(words) if w in _ENDS or (i and len(w) > 4 and w.endswith("ing"))),
        len(words),
    )
    body = words[:end]
    while len(body) > 1 and (body[-1] in _AFTER or body[-1].endswith("ed")):
        body = body[:-1]
    return body


def _is_plural(body: list[str], *, counted: bool) -> bool:
    noun = body[-1].rpartition("-")[2]
    if noun in _IRREGULAR or (counted and noun in _ALIKE):
        return True
    if noun in _ONE_WITH_S or noun.endswith(("ss", "us", "is", "'s", "’s")) or not noun.endswith("s") or len(noun) < 4:
        return False
    return counted or noun not in _PAIRS or (noun == "glasses" and bool(_DRINKING & set(body)))


def _named(rest: str, noun: str) -> str:
    """ "the red one" with the noun that "one" stands for: "the red mug"."""
    if not noun:
        return rest
    rest = re.sub(r"\bones\b", noun, rest)
    return re.sub(r"\bone\b", _singular(noun), rest)


def _singular(noun: str) -> str:
    """ "mugs" -> "mug". Of words beyond those the plurals are known for, as it is."""
    irregular = {"people": "person", "children": "child", "feet": "foot", "teeth": "tooth", "mice": "mouse"}
    irregular |= {"geese": "goose", "knives": "knife", "leaves": "leaf", "loaves": "loaf", "shelves": "shelf"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("men"):
        return f"{noun[:-2]}an"
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("oes", "o")):
        if noun.endswith(ending) and len(noun) > len(ending) + 1:
            return noun[: -len(ending)] + instead
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
