"""Sentences about a rendered scene: descriptions that single out what they mean, worded as people word them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from jmceln_core.synthesis import colours
from jmceln_core.synthesis.tabletop import catalogue, making
from jmceln_core.synthesis.tabletop.facts import (
    ANYTHING,
    Beside,
    Between,
    Colour,
    Corner,
    Description,
    Empty,
    Extreme,
    Facts,
    Filter,
    Holding,
    Inside,
    Lying,
    Material,
    Middle,
    Most,
    NextTo,
    Not,
    On,
    Ordinal,
    Part,
    Seen,
    Selector,
    Under,
)
from jmceln_core.synthesis.tabletop.scene import TABLE

Rng = np.random.Generator
T = TypeVar("T")

SMALLEST = 0.001  # of the picture: what is smaller is never meant, only taken into account
VISIBLE = 0.35  # of a thing: what is hidden more is never meant

# Nouns with no plural of the usual kind, or that count nothing.
_UNCOUNTED = re.compile(
    r"""\b(scissors|cards|food|fruit|cutlery|soap|glue|gum|milk|juice|butter|cheese|toothpaste|tape|mustard|soup|pudding
    |ketchup|popcorn|dice|sauce|dressing|spray|dish|drink|conditioner|shampoo|fluid|white\ out)$|\ of\ """,
    re.VERBOSE,
)
_IRREGULAR = {"knife": "knives", "die": "dice", "tomato": "tomatoes", "battery": "batteries"}
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_SHORT = ("1st", "2nd", "3rd", "4th", "5th", "6th")
# Wordings of selectors: (before the noun, after it).
_SORT = {"left": "side", "right": "side", "top": "level", "bottom": "level", "front": "front", "back": "back"}
_MOST = {
    "side": (("{side}", ""), ("", "on the {side}"), ("", "on {side}"), ("{side}most", ""), ("", "to the {side}"),
             ("far {side}", ""), ("", "{side}"), ("", "furthest to the {side}"), ("", "on the {side} side")),
    "level": (("{side}", ""), ("{level}", ""), ("", "at the {side}"), ("", "at {side}"), ("", "closest to the {side}")),
    "front": (("front", ""), ("closest", ""), ("nearest", ""), ("", "in front"), ("", "closest to us"),
              ("", "in the front"), ("", "nearest to the camera")),
    "back": (("back", ""), ("farthest", ""), ("", "in the back"), ("", "in back"), ("", "at the back"),
             ("", "furthest away")),
}  # fmt: skip
_ALONE = {
    "side": (("{side}", ""), ("", "on the {side}"), ("", "on {side}"), ("", "on the {side} side")),
    "level": (("{side}", ""), ("", "at the {side}"), ("", "at {side}")),
}
_CORNER = (("{side}", ""), ("", "{side}"), ("{level}", ""), ("", "in the {side}"))
_ORDINAL = (("{number}", "from the {side}"), ("{number}", "from {side}"), ("{number}", "from the {side}"))
_MIDDLE = (("middle", ""), ("", "in the middle"), ("", "in middle"), ("center", ""))
_DEGREES = {  # of a few; of two; of more
    "biggest": ("big", ("bigger", "larger"), ("biggest", "largest")),
    "smallest": ("small", ("smaller", "smaller"), ("smallest", "littlest")),
    "tallest": ("tall", ("taller", "taller"), ("tallest", "tallest")),
    "shortest": ("short", ("shorter", "shorter"), ("shortest", "shortest")),
    "longest": ("long", ("longer", "longer"), ("longest", "longest")),
}
_FLAT = ("plate", "tray", "cutting board")  # things lie on these, not in them
_COMMANDS = ("pick up", "grab", "give me", "hand me", "get", "take", "bring me")


@dataclass(frozen=True)
class Sentence:
    """`targets`: indices of the things meant (none, one or several); `kind` as in `grounding.Expression`."""

    text: str
    targets: tuple[int, ...]
    kind: str
    description: Description


def plural(noun: str) -> str | None:
    """The plural of a noun phrase; None if it is not counted that way."""
    if _UNCOUNTED.search(noun):
        return None
    *front, last = noun.split()
    regular = last + ("es" if last.endswith(("s", "x", "ch", "sh")) else "s")
    return " ".join([*front, _IRREGULAR.get(last, regular)])


class Writer:
    """Finds and words sentences about one picture."""

    def __init__(self, facts: Facts, rng: Rng) -> None:
        self.facts = facts
        self.rng = rng
        self._landmarks: dict[int, list[str]] = {}

    # -- wording ---------------------------------------------------------------------------------------------------

    def _pick(self, *choices: T) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def _filter_words(self, f: Filter) -> tuple[str, str]:
        """(before the noun, after it)"""
        match f:
            case Colour(name) | Material(name):
                return name, ""
            case Part(name):
                return "", f"with {self._article(name)}"
            case Not(Colour(name)):
                return "", self._pick(f"that is not {name}", f"that isn't {name}", f"that's not {name}")
            case Not(Part(name)):
                return "", self._pick(
                    f"without {name}", f"that has no {name.split(' ', 1)[1]}", f"with no {name.split(' ', 1)[1]}"
                )
            case Not(Inside(landmark)):
                where = f"{self._into(landmark)} {self._name(landmark)}"
                return "", self._pick(f"that is not {where}", f"not {where}", f"that isn't {where}")
            case Not(On(landmark)):
                where = f"on {self._name(landmark)}"
                return "", self._pick(f"that is not {where}", f"not {where}", f"that isn't {where}")
            case Not(Lying()):
                return self._pick(("upright", ""), ("standing", ""), ("", "standing up"), ("", "that is upright"))
            case Lying():
                return self._pick(
                    ("", "on its side"),
                    ("", "lying down"),
                    ("", "lying on its side"),
                    ("fallen", ""),
                    ("", "that fell over"),
                )
            case Empty():
                return self._pick(("empty", ""), ("", "with nothing in it"), ("empty", ""))
            case On(landmark):
                return "", f"{self._pick('on', 'on top of', 'sitting on', 'on')} {self._name(landmark)}"
            case Inside(landmark):
                return "", f"{self._into(landmark)} {self._name(landmark)}"
            case Under(landmark):
                return "", f"{self._pick('under', 'underneath', 'below')} {self._name(landmark)}"
            case Holding(landmark):
                name = self._name(landmark)
                end = self._into_of(self.facts.by_index[landmark].placed.inside)
                return "", self._pick(
                    f"with {name} {end} it", f"holding {name}" if end == "in" else f"with {name} {end} it"
                )
            case Beside(side, landmark):
                word = {
                    "left": self._pick("left of", "to the left of", "on the left of"),
                    "right": self._pick("to the right of", "on the right of", "just right of"),
                    "behind": self._pick("behind", "in back of", "behind"),
                    "front": "in front of",
                }[side]
                return "", f"{word} {self._name(landmark)}"
            case NextTo(landmark):
                return "", f"{self._pick('next to', 'beside', 'by', 'right next to', 'near')} {self._name(landmark)}"
            case Between(first, second):
                return "", f"between {self._name(first)} and {self._name(second)}"
        raise TypeError(f)

    def _article(self, part: str) -> str:
        """ "a red cap" or "the red cap"; "an orange cap"."""
        words = part.split(" ", 1)[1]
        return self._pick(f"the {words}", f"{'an' if words[0] in 'aeiou' else 'a'} {words}")

    def _into(self, landmark: int) -> str:
        return self._into_of(landmark)

    def _into_of(self, holder: int) -> str:
        nouns = self.facts.scene.things[holder].item.words.nouns if holder != TABLE else ()
        return "on" if nouns and nouns[0] in _FLAT else self._pick("in", "in", "inside")

    def _selector_words(self, selector: Selector, of: int) -> tuple[str, str]:
        """(before the noun, after it); `of`: how many it selects among."""
        match selector:
            case Most(side):
                sort = _SORT[side]
                choices = _MOST[sort] if of > 1 else _ALONE.get(sort, _MOST[sort])
                words = {"side": side, "level": "upper" if side == "top" else "lower"}
            case Corner((vertical, horizontal)):
                choices = _CORNER
                words = {"side": f"{vertical} {horizontal}", "level": "upper" if vertical == "top" else "lower"}
                words["level"] += f" {horizontal}"
            case Ordinal(number, side):
                choices = _ORDINAL
                if number == 2 and of > 3:
                    choices = (*choices, ("second to {side}most", ""))
                words = {
                    "side": side,
                    "number": self._pick(_ORDINALS[number - 1], _ORDINALS[number - 1], _SHORT[number - 1]),
                }
            case Middle():
                choices, words = _MIDDLE, {}
            case Extreme(by):
                plain, more, most = _DEGREES[by]
                choices, words = tuple((word, "") for word in (*(more if of == 2 else most), plain)), {}
        before, after = choices[int(self.rng.integers(len(choices)))]
        return before.format(**words), after.format(**words)

    def word(self, description: Description, count: int = 1, article: bool | None = None) -> str:
        """The words of a description; `count` > 1: of several things; `article`: with "the", or not, or either."""
        before, after = [], []
        for f in description.filters:
            b, a = self._filter_words(f)
            before.append(b)
            after.append(a)
        noun = description.noun
        if description.selector is not None:
            group = Description(noun, description.filters).truths(self.facts)
            of = sum(truth is not False for truth in group.values())
            related = any(not isinstance(f, (Colour, Material, Part, Empty)) for f in description.filters)
            for _ in range(8):
                b, a = self._selector_words(description.selector, of)
                if not (related and a):  # "the mug on the left behind the box" could be either's left
                    break
            before.insert(0, b)
            after.append(a)
        words = " ".join(w for w in (*before, noun if count == 1 else plural(noun) or noun, *after) if w)
        the = self.rng.random() < 0.6 if article is None else article
        return f"the {words}" if the else words

    # -- landmarks -------------------------------------------------------------------------------------------------

    def _names(self, index: int) -> list[str]:
        """Wordings, without a relation, that mean this thing alone."""
        if index not in self._landmarks:
            thing = self.facts.by_index.get(index)
            found: list[str] = []
            if thing is not None and thing.area > 0.7 * SMALLEST and thing.visible > 0.3:
                for noun in thing.placed.item.words.nouns[:3]:
                    for filters in ((), *((c,) for c in self._colours(thing))):
                        if Description(noun, filters).only(self.facts) == index:
                            found.append(self.word(Description(noun, filters), article=True))
                            break
            self._landmarks[index] = found
        return self._landmarks[index]

    def _name(self, index: int) -> str:
        return self._pick(*self._names(index))

    # -- finding ---------------------------------------------------------------------------------------------------

    def _colours(self, thing: Seen) -> list[Filter]:
        return [Colour(name) for name, truth in thing.colours.items() if truth]

    def _attributes(self, thing: Seen) -> list[Filter]:
        words = thing.placed.item.words
        found: list[Filter] = [*self._colours(thing), *(Part(part) for part in words.parts)]
        if words.material in ("wooden", "metal"):
            found.append(Material(words.material))
        lying = Lying().truth(self.facts, thing)
        if lying:
            found.append(Lying())
        elif lying is False and any(Lying().truth(self.facts, other) for other in self.facts.things):
            found.append(Not(Lying()))  # nobody says "upright" where nothing has fallen
        if Empty().truth(self.facts, thing):
            found.append(Empty())
        return found

    def _relations(self, thing: Seen) -> list[Filter]:
        """Those that hold, to things that can be named."""
        facts, found = self.facts, []
        named = [other for other in facts.things if other is not thing and self._names(other.index)]
        for other in named:
            k = other.index
            if k == facts.scene.bin or thing.index == facts.scene.bin:
                continue
            tried: list[Filter] = [On(k), Inside(k), Under(k), Holding(k), NextTo(k)]
            tried += [Beside(side, k) for side in ("left", "right", "behind", "front")]
            for f in tried:
                if isinstance(f, On) and thing.placed.inside == k:
                    continue
                if isinstance(f, Under) and other.placed.inside == thing.index:
                    continue
                if f.truth(facts, thing):
                    found.append(f)
        pairs = [(a.index, b.index) for a in named for b in named if a.index < b.index]
        found += [f for pair in pairs if facts.scene.bin not in pair and (f := Between(*pair)).truth(facts, thing)]
        return found

    def _negations(self, thing: Seen) -> list[Filter]:
        facts = self.facts
        found: list[Filter] = [Not(Colour(name)) for name in colours.NAMES if thing.colours[name] is False and any(
            other.colours[name] for other in facts.things)]  # fmt: skip
        found += [Not(Part(part)) for part in thing.placed.item.words.lacks]
        for other in facts.things:
            k = other.index
            if k in (thing.index, facts.scene.bin) or not self._names(k):
                continue
            inside = any(o.inside == k for o in facts.scene.things)
            f: Filter = Inside(k) if inside else On(k)
            if f.truth(facts, thing) is False and any(f.truth(facts, o) for o in facts.things):
                found.append(Not(f))
        return found

    def _selectors(self, kind: str) -> list[Selector]:
        if kind == "location":
            most = [Most(side) for side in ("left", "right", "left", "right", "front", "back", "top", "bottom")]
            return [*most, Middle(), *(Corner((v, h)) for v in ("top", "bottom") for h in ("left", "right"))]
        if kind == "ordinal":
            return [Ordinal(n, side) for n in (1, 2, 2, 3, 3, 4) for side in ("left", "right")]
        return [Extreme(by) for by in ("biggest", "smallest", "biggest", "smallest", "tallest", "shortest", "longest")]

    def _some(self, found: Sequence, count: int = 1) -> tuple:
        count = min(count, len(found))
        return tuple(found[int(k)] for k in self.rng.choice(len(found), count, replace=False)) if count else ()

    def _noun(self, thing: Seen, vague: float) -> str:
        words = thing.placed.item.words
        if self.rng.random() < vague:
            return self._pick(*ANYTHING[:3])
        if words.groups and self.rng.random() < 0.05:
            return self._pick(*words.groups)
        usual = words.nouns[: 1 + int(self.rng.integers(len(words.nouns)))]
        return self._pick(*usual)

    def _propose(self, thing: Seen, kind: str) -> Iterator[Description]:
        """Descriptions of that kind, most of them not singling the thing out."""
        attributes = self._attributes(thing)
        relations = self._relations(thing) if kind in ("relation", "full") else []
        negations = self._negations(thing) if kind == "negation" else []
        for _ in range(14):
            coloured = self._some(self._colours(thing)) if self.rng.random() < 0.3 else ()
            noun = self._noun(thing, 0.12 if kind in ("attribute", "location", "comparative") else 0.04)
            if kind == "short":
                one = self._some(attributes[:1]) if self.rng.random() < 0.4 else ()
                side = self._some(self._selectors("location")) if not one and self.rng.random() < 0.6 else (None,)
                yield Description(noun, one, side[0])
            elif kind in ("attribute", "appearance"):
                yield Description(
                    noun, self._some(attributes, 1 if kind == "attribute" else int(self.rng.integers(1, 3)))
                )
            elif kind in ("location", "ordinal", "comparative"):
                yield Description(noun, coloured, self._some(self._selectors(kind))[0])
            elif kind == "relation" and relations:
                yield Description(noun, coloured + self._some(relations))
            elif kind == "negation" and negations:
                f = self._some(negations)
                others = Description(noun).truths(self.facts)
                if sum(truth is not False for truth in others.values()) > 1:  # it rules something out
                    yield Description(noun, f)
            elif kind == "full":
                chosen = self._some(attributes) + (self._some(relations) if self.rng.random() < 0.6 else ())
                kinds = ("location", "location", "comparative", "ordinal")
                selector = self._some(self._selectors(self._pick(*kinds))) if len(chosen) < 2 else (None,)
                if chosen:
                    yield Description(noun, chosen, selector[0])

    def about(self, thing: Seen, kind: str) -> Sentence | None:
        """A sentence of that kind that means this thing alone; None if none is found."""
        for description in self._propose(thing, kind):
            noun_only = description.noun in ANYTHING and not description.filters
            if noun_only and description.selector is None:
                continue
            if self._clumsy(description) or description.only(self.facts) != thing.index:
                continue
            article = None if kind != "full" else self.rng.random() < 0.85
            text = self.word(description, article=article)
            if text.split()[-1] == "one" and text.startswith("one"):
                continue
            if self.rng.random() < 0.04:
                text = f"{self._pick(*_COMMANDS)} the {text.removeprefix('the ')}"
            return Sentence(text, (thing.index,), kind, description)
        return None

    @staticmethod
    def _clumsy(description: Description) -> bool:
        """Said by nobody: the same thing twice, a colour that the noun says."""
        upright = any(f == Lying() or f == Not(Lying()) for f in description.filters)
        if upright and description.noun in ("food", "drink", "dish", "toy"):
            return True
        names = [f.name for f in description.filters if isinstance(f, Colour)]
        if len(names) > len(set(names)) or any(name in description.noun.split() for name in names):
            return True
        parts = [f.name.split()[-1] for f in description.filters if isinstance(f, Part)]
        return len(parts) > 1

    def targets(self) -> list[Seen]:
        """The things that may be meant."""
        return [
            t
            for t in self.facts.things
            if t.area >= SMALLEST and t.visible >= VISIBLE and t.area < 0.4 and t.index != self.facts.scene.bin
        ]

    def absent(self, vocabulary: Sequence[str]) -> Sentence | None:
        """A sentence that surely nothing in the picture answers to, often a near miss."""
        facts, rng = self.facts, self.rng
        targets = self.targets()
        for _ in range(20):
            thing = targets[int(rng.integers(len(targets)))] if targets else None
            way = rng.random()
            if thing is None or way < 0.3:
                noun = self._pick(*vocabulary)
                coloured = (Colour(self._pick(*colours.NAMES)),) if rng.random() < 0.3 else ()
                if coloured and self._clumsy(Description(noun, coloured)):
                    continue
                description = Description(
                    noun, coloured, self._some(self._selectors("location"))[0] if rng.random() < 0.2 else None
                )
            elif way < 0.65:
                description = Description(self._noun(thing, 0.1), (Colour(self._pick(*colours.NAMES)),))
            else:
                named = [
                    o.index
                    for o in facts.things
                    if o is not thing and o.index != facts.scene.bin and self._names(o.index)
                ]
                if not named:
                    continue
                k = named[int(rng.integers(len(named)))]
                relations: list[Filter] = [
                    NextTo(k),
                    *(Beside(side, k) for side in ("left", "right", "behind", "front")),
                ]
                if facts.scene.things[k].item.flat_top:
                    relations.append(On(k))
                if facts.scene.things[k].item.opening:
                    relations += [Inside(k), Inside(k)]
                description = Description(self._noun(thing, 0.0), self._some(relations))
            if not self._clumsy(description) and description.nothing(facts):
                return Sentence(self.word(description), (), "absent", description)
        return None

    def plurals(self) -> Sentence | None:
        """A sentence about several things."""
        targets = self.targets()
        for _ in range(12):
            if len(targets) < 2:
                return None
            thing = targets[int(self.rng.integers(len(targets)))]
            noun = self._noun(thing, 0.15)
            if noun == "one" or plural(noun) is None:
                continue
            filters = self._some(self._colours(thing)) if noun in ANYTHING or self.rng.random() < 0.4 else ()
            holder = thing.placed.inside
            if holder not in (TABLE, self.facts.scene.bin) and self._names(holder) and self.rng.random() < 0.5:
                filters = (*filters, Inside(holder))
            description = Description(noun, filters)
            found = description.several(self.facts)
            if (
                not found
                or len(found) >= len(_COUNTS)
                or (noun in ANYTHING and not filters)
                or self._clumsy(description)
            ):
                continue
            many = self.word(description, len(found), article=False)
            count = _COUNTS[len(found)]
            openings = [f"all the {many}", f"all {many}", f"the {count} {many}", f"all {count} {many}", f"the {many}"]
            if len(found) == 2:
                openings = [f"both {many}", f"the two {many}", f"both the {many}"]
            return Sentence(self._pick(*openings), found, "plural", description)
        return None


# Kinds in the order they are tried for a target, with their weights.
KINDS = {
    "short": 1.6,
    "appearance": 1.0,
    "attribute": 1.3,
    "location": 1.5,
    "relation": 2.2,
    "ordinal": 2.4,
    "comparative": 2.6,
    "negation": 1.8,
    "full": 1.5,
}


_AMONG_ALIKE = ("ordinal", "comparative", "negation")  # of more use where there are several of a kind


@lru_cache(maxsize=2)
def vocabulary(split: str) -> tuple[str, ...]:
    """Nouns of all things that a split may show, the usual one and another of each: what may be asked for in vain."""
    nouns: set[str] = set()
    for name, (_, _, words, _) in catalogue.SCANNED.items():
        if (name in catalogue.HELD_OUT) == (split == "heldout"):
            nouns.update(words.nouns[:2])
    for _, maker in making.MAKERS:
        nouns.update(maker(np.random.default_rng(0)).words.nouns[:2])
    return tuple(sorted(nouns))


def write(facts: Facts, rng: Rng, nouns: Sequence[str], wanted: int = 12) -> list[Sentence]:
    """About `wanted` sentences of all kinds about one picture; `nouns` from `vocabulary`. Those that mean nothing are
    the only ones where nothing can be meant."""
    writer = Writer(facts, rng)
    targets = writer.targets()
    found: dict[str, Sentence] = {}
    if targets:
        names, weights = list(KINDS), np.array(list(KINDS.values()))
        chosen = [targets[int(k)] for k in rng.permutation(len(targets))[:6]]
        each = -(-(wanted - 3) // len(chosen))
        for thing in chosen:
            alike = sum(facts.noun(other, thing.placed.item.words.nouns[0]) is True for other in facts.things) > 1
            likely = weights * [3.0 if alike and name in _AMONG_ALIKE else 1.0 for name in names]
            kinds = rng.choice(names, len(names), replace=False, p=likely / likely.sum())
            made = 0
            for kind in kinds:
                sentence = writer.about(thing, str(kind))
                if sentence is not None and sentence.text not in found:
                    found[sentence.text] = sentence
                    made += 1
                if made == min(each, 4):
                    break
    for _ in range(2 if rng.random() < 0.6 else 1):
        sentence = writer.absent(nouns)
        if sentence is not None:
            found.setdefault(sentence.text, sentence)
    if rng.random() < 0.6 and (sentence := writer.plurals()) is not None:
        found.setdefault(sentence.text, sentence)
    return list(found.values())
