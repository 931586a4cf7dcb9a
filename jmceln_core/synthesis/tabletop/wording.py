"""How descriptions of things on a rendered table are worded by the rules of the book."""

from __future__ import annotations

import itertools
import re

from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.rules.book import ORDINALS, RULES, SHORT_ORDINALS, Wordings
from jmceln_core.synthesis.rules.engine import filled, phrases
from jmceln_core.synthesis.rules.logic import (
    Claim,
    Colour,
    Corner,
    Description,
    Empty,
    Extreme,
    Lying,
    Material,
    Middle,
    Most,
    Not,
    Ordinal,
    Part,
    Relation,
    Selector,
    named,
)
from jmceln_core.synthesis.tabletop.facts import Facts, Seen
from jmceln_core.synthesis.tabletop.scene import TABLE

SMALLEST = 0.001  # of the picture: what is smaller is never meant, only taken into account

# Nouns with no plural of the usual kind, or that count nothing.
_UNCOUNTED = re.compile(
    r"""\b(scissors|cards|food|fruit|cutlery|soap|glue|gum|milk|juice|butter|cheese|toothpaste|tape|mustard|soup|pudding
    |ketchup|popcorn|dice|sauce|dressing|spray|dish|drink|conditioner|shampoo|fluid|white\ out)$|\ of\ """,
    re.VERBOSE,
)
_FLAT = ("plate", "tray", "cutting board")  # things lie on these, not in them
_DEPTH = {"front": "closest", "back": "farthest"}
OF_TWO = {
    "biggest": "bigger", "smallest": "smaller", "tallest": "taller", "shortest": "shorter", "longest": "longer",
}  # fmt: skip


def plural(noun: str) -> str | None:
    """The plural of a noun phrase; None if it is not counted that way."""
    if _UNCOUNTED.search(noun):
        return None
    *front, last = noun.split()
    return " ".join([*front, vocabulary.plural(last)])


class Teller:
    """Words what is said about one picture."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._landmarks: dict[int, list[str]] = {}

    def _claim(self, claim: Claim) -> Wordings:
        """How a claim is worded around the noun."""
        match claim:
            case Colour(name):
                return said("colour", c=name)
            case Material(name):
                return said("material", c=name)
            case Part(name):
                part = name.split(" ", 1)[1]
                return said("part", **{"c": part, "a c": vocabulary.with_article(part)})
            case Lying():
                return said("lying")
            case Empty():
                return said("empty")
            case Relation("between", (first, second)):
                pairs = itertools.product(self.names(first), self.names(second))
                return {text: w for a, b in pairs for text, w in said("between", a=a, b=b).items()}
            case Relation(name, (landmark,)):
                pairs = itertools.product(self._rules(name, landmark), self.names(landmark))
                return {text: w for rule, a in pairs for text, w in said(rule, a=f"the {a}").items()}
            case Not(Lying()):
                return said("upright")
            case Not(Colour(name)):
                return said("not the colour", c=name, be="is")
            case Not(Part(name)):
                return said("without the part", **{"c": name.split(" ", 1)[1], "a c": name})
            case Not(denied):
                wheres = {text.removeprefix("{n} "): w for text, w in self._claim(denied).items()}
                return {text: w * v for c, v in wheres.items() for text, w in said("not there", c=c).items()}
        raise TypeError(claim)

    def _rules(self, relation: str, landmark: int) -> tuple[str, ...]:
        """The rules that word a relation: things are in a bowl, but on a plate."""
        if relation == "in" and self._is_flat(landmark):
            return ("on",)
        if relation == "holding" and self._is_flat(self.facts.by_index[landmark].placed.inside):
            return ("with on it",)
        return (relation, "just right of") if relation == "right of" else (relation,)

    def _is_flat(self, holder: int) -> bool:
        return holder != TABLE and self.facts.scene.things[holder].item.words.nouns[0] in _FLAT

    def wordings(self, description: Description, count: int = 1) -> Wordings:
        """All ways to word a description, with weights; of several things for a `count` above 1."""
        noun = description.noun if count == 1 else plural(description.noun) or description.noun
        place = None
        if description.selector is not None:
            group = named(self.facts, description.noun).that(self.facts, *description.filters)
            place = _place(description.selector, len(group.truths))
            if not all(isinstance(f, (Colour, Material, Part, Empty)) for f in description.filters):
                # "the mug on the left behind the box" could be either's left
                place = {text: w for text, w in place.items() if text.endswith("{n}")} or place
        return phrases(noun, [self._claim(claim) for claim in description.filters], place)

    def names(self, index: int) -> list[str]:
        """Wordings, without an article or a relation, that mean this thing alone."""
        if index not in self._landmarks:
            thing = self.facts.by_index.get(index)
            found: list[str] = []
            if thing is not None and thing.area > 0.7 * SMALLEST and thing.visible > 0.3:
                for noun in thing.placed.item.words.nouns[:3]:
                    for filters in ((), *((c,) for c in self.colours(thing))):
                        if Description(noun, filters).only(self.facts) == index:
                            found += self.wordings(Description(noun, filters))
                            break
            self._landmarks[index] = found
        return self._landmarks[index]

    def landmarks_of(self, thing: Seen) -> list[int]:
        """What the thing can be related to: other things that can be named, never the bin."""
        bin_ = self.facts.scene.bin
        others = (other.index for other in self.facts.things if other is not thing)
        return [k for k in others if k != bin_ and self.names(k)]

    def colours(self, thing: Seen) -> list[Claim]:
        """The colours that are true of the thing."""
        return [Colour(name) for name, truth in thing.colours.items() if truth]


def said(rule: str, **fills: str) -> Wordings:
    """How a rule is worded on rendered tables."""
    return filled(RULES[rule].table, fills)


def _place(selector: Selector, of: int) -> Wordings:
    """How a selector among so many things is worded around the noun."""
    match selector:
        case Most(side) if side in _DEPTH:
            return said(_DEPTH[side])
        case Most(side):
            return said(side) | (said(f"far {side}") if of > 1 else {})
        case Corner((vertical, horizontal)):
            return said(f"{vertical} {horizontal}")
        case Ordinal(number, side):
            fills = {"number": ORDINALS[number - 1], "short": SHORT_ORDINALS[number - 1], "end": side}
            last = said("second to last", **fills) if number == 2 and of > 3 else {}
            return said("ordinal", **fills) | last
        case Middle():
            return said("middle")
        case Extreme(by):
            return said(OF_TWO[by] if of == 2 else by)
    raise TypeError(selector)
