"""Sentences about a rendered scene: which descriptions are tried for what, drawn until one is true of it alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jmceln_core.synthesis import colours
from jmceln_core.synthesis.rules.book import COUNTS
from jmceln_core.synthesis.rules.engine import Rng, draw, drawn_text, spoken
from jmceln_core.synthesis.rules.logic import (
    ANYTHING,
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
from jmceln_core.synthesis.tabletop import catalogue, making
from jmceln_core.synthesis.tabletop.facts import Facts, Seen
from jmceln_core.synthesis.tabletop.scene import TABLE
from jmceln_core.synthesis.tabletop.wording import OF_TWO, SMALLEST, Teller, plural, said

VISIBLE = 0.35  # of a thing: what is hidden more is never meant

_TO_ONE = ("on top of", "in", "under", "holding", "next to", "left of", "right of", "behind", "in front of")
_SIDES = tuple(Most(side) for side in ("left", "right", "front", "back", "top", "bottom"))
_CORNERS = tuple(Corner((v, h)) for v in ("top", "bottom") for h in ("left", "right"))
# What is tried to tell a thing from its like, and how often.
SELECTORS: dict[str, dict[Selector, float]] = {
    "location": {place: 2.0 if place in _SIDES[:2] else 1.0 for place in (*_SIDES, Middle(), *_CORNERS)},
    "ordinal": {Ordinal(n, side): 2.0 if n in (2, 3) else 1.0 for n in (1, 2, 3, 4) for side in ("left", "right")},
    "comparative": {Extreme(by): 2.0 if by in ("biggest", "smallest") else 1.0 for by in OF_TWO},
}


@dataclass(frozen=True)
class Sentence:
    """`targets`: indices of the things meant (none, one or several); `kind` as in `grounding.Expression`."""

    text: str
    targets: tuple[int, ...]
    kind: str
    description: Description


@dataclass(frozen=True)
class Proposal:
    """A description that may or may not be true of what it is tried for."""

    weight: float
    description: Description


class Writer:
    """Finds and words sentences about one picture."""

    def __init__(self, facts: Facts, rng: Rng) -> None:
        self.facts = facts
        self.rng = rng
        self.teller = Teller(facts)

    def _attributes(self, thing: Seen) -> list[Claim]:
        words = thing.placed.item.words
        found: list[Claim] = [*self.teller.colours(thing), *(Part(part) for part in words.parts)]
        if words.material in ("wooden", "metal"):
            found.append(Material(words.material))
        lying = self.facts.holds(thing, Lying())
        if lying:
            found.append(Lying())
        elif lying is False and any(self.facts.holds(other, Lying()) for other in self.facts.things):
            found.append(Not(Lying()))  # nobody says "upright" where nothing has fallen
        if self.facts.holds(thing, Empty()):
            found.append(Empty())
        return found

    def _relations(self, thing: Seen) -> list[Claim]:
        """Those that hold, to things that can be named."""
        facts = self.facts
        if thing.index == facts.scene.bin:
            return []
        landmarks = self.teller.landmarks_of(thing)
        tried = [Relation(name, (k,)) for k in landmarks for name in _TO_ONE]
        tried += [Relation("between", (a, b)) for a in landmarks for b in landmarks if a < b]
        # what is in a thing is not on it, too
        own, held = thing.placed.inside, [o.index for o in facts.things if o.placed.inside == thing.index]
        spared = {Relation("on top of", (own,)), *(Relation("under", (k,)) for k in held)}
        return [claim for claim in tried if claim not in spared and facts.holds(thing, claim)]

    def _negations(self, thing: Seen) -> list[Claim]:
        """What is false of it and true of something else."""
        facts = self.facts
        denied: list[Claim] = [Colour(name) for name in colours.NAMES]
        for k in self.teller.landmarks_of(thing):
            inside = any(other.inside == k for other in facts.scene.things)
            denied.append(Relation("in" if inside else "on top of", (k,)))
        return [
            *(Not(Part(part)) for part in thing.placed.item.words.lacks),
            *(
                Not(claim)
                for claim in denied
                if facts.holds(thing, claim) is False and any(facts.holds(other, claim) for other in facts.things)
            ),
        ]

    @staticmethod
    def _nouns(thing: Seen, vague: float) -> dict[str, float]:
        """What the thing is called, the usual first: `vague` is the share of "thing" and its like."""
        words = thing.placed.item.words
        wider = 0.05 * (1 - vague) if words.groups else 0.0
        said = dict.fromkeys(ANYTHING[:3], vague / 3) | dict.fromkeys(words.groups, wider / max(len(words.groups), 1))
        count = len(words.nouns)
        for k, noun in enumerate(words.nouns):
            said[noun] = (1 - vague - wider) * sum(1 / m for m in range(k + 1, count + 1)) / count
        return said

    def proposals(self, thing: Seen, kind: str) -> Iterator[Proposal]:
        """Descriptions of that kind, most of them not singling the thing out."""
        filters = self._filters(thing, kind)
        vague = 0.12 if kind in ("attribute", "location", "comparative") else 0.04
        for noun, often in self._nouns(thing, vague).items():
            if kind == "negation" and len(named(self.facts, noun).truths) < 2:
                continue  # it rules nothing out
            for chosen, share in filters.items():
                for selector, part in _selectors(kind, chosen).items():
                    description = Description(noun, chosen, selector)
                    tells = chosen or selector or noun not in ANYTHING
                    if tells and not self._clumsy(description):
                        yield Proposal(often * share * part, description)

    def _filters(self, thing: Seen, kind: str) -> Filters:
        """The filters of that kind of description, with weights that sum to 1."""
        attributes = _evenly((claim,) for claim in self._attributes(thing))
        relations = _evenly((claim,) for claim in self._relations(thing)) if kind in ("relation", "full") else {}
        coloured = _mixed((0.7, {(): 1.0}), (0.3, _evenly((claim,) for claim in self.teller.colours(thing))))
        pairs = _evenly(a + b for a in attributes for b in attributes if a != b)
        match kind:
            case "short":
                return _mixed((0.6, {(): 1.0}), (0.4, dict.fromkeys(list(attributes)[:1], 1.0)))
            case "attribute":
                return attributes
            case "appearance":
                return _mixed((0.5, attributes), (0.5, pairs))
            case "relation":
                return _product(coloured, relations)
            case "negation":
                return _evenly((claim,) for claim in self._negations(thing))
            case "full":
                return _mixed((0.4, attributes), (0.6, _product(attributes, relations)))
        return coloured

    def about(self, thing: Seen, kind: str) -> Sentence | None:
        """A sentence of that kind that means this thing alone; None if none is found."""

        def say(proposal: Proposal, rng: Rng) -> str | None:
            alone = proposal.description.only(self.facts) == thing.index
            return drawn_text(self.teller.wordings(proposal.description), rng) if alone else None

        for text, proposal in draw(self.proposals(thing, kind), self.rng, 1, say, tries=14).items():
            text = spoken(text, self.rng, 0.85 if kind == "full" else 0.6, 0.04, world=1)
            return Sentence(text, (thing.index,), kind, proposal.description)
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

    def absent(self, nouns: Sequence[str]) -> Sentence | None:
        """A sentence that surely nothing in the picture answers to, often a near miss."""

        def say(proposal: Proposal, rng: Rng) -> str | None:
            nothing = proposal.description.nothing(self.facts)
            return drawn_text(self.teller.wordings(proposal.description), rng) if nothing else None

        for text, proposal in draw(self._misses(nouns), self.rng, 1, say, tries=20).items():
            return Sentence(spoken(text, self.rng, 0.6, 0.0), (), "absent", proposal.description)
        return None

    def _misses(self, nouns: Sequence[str]) -> Iterator[Proposal]:
        """Things that are not there; one that is there in another colour, or in another place."""
        facts, rng = self.facts, self.rng
        coloured = _evenly((Colour(name),) for name in colours.NAMES)
        here: list[tuple[float, Description]] = []
        if targets := self.targets():
            thing = targets[int(rng.integers(len(targets)))]
            usual = self._nouns(thing, 0.1).items()
            here += [(0.35 * w * v, Description(noun, f)) for noun, w in usual for f, v in coloured.items()]
            elsewhere: list[tuple[Claim, ...]] = []
            for k in self.teller.landmarks_of(thing):
                item = facts.scene.things[k].item
                names = ["next to", "left of", "right of", "behind", "in front of"]
                names += ["on top of"] * item.flat_top + ["in", "in"] * bool(item.opening)
                elsewhere += [(Relation(name, (k,)),) for name in names]
            usual = self._nouns(thing, 0.0).items()
            here += [(0.35 * w * v, Description(noun, f)) for noun, w in usual for f, v in _evenly(elsewhere).items()]
        filters = _mixed((0.7, {(): 1.0}), (0.3, coloured))
        for noun in rng.choice(nouns, 8):
            for f, v in filters.items():
                here.append((0.03 * v, Description(str(noun), f)))
                for place, w in _selectors("location", f).items():
                    here.append((0.0075 * v * w, Description(str(noun), f, place)))
        for weight, description in here:
            if not self._clumsy(description):
                yield Proposal(weight, description)

    def plurals(self) -> Sentence | None:
        """A sentence about several things."""

        def say(proposal: Proposal, rng: Rng) -> str | None:
            found = proposal.description.meant(self.facts).several
            if not found or len(found) >= len(COUNTS) or not all(thing.clear for thing in found):
                return None
            many = drawn_text(self.teller.wordings(proposal.description, len(found)), rng)
            rules = ("both",) if len(found) == 2 else ("several", "all", "counted")
            openings = {t: w for rule in rules for t, w in said(rule, n=many, count=COUNTS[len(found)]).items()}
            return drawn_text(openings, rng)

        for text, proposal in draw(self._groups(), self.rng, 1, say, tries=12).items():
            return Sentence(text, proposal.description.several(self.facts), "plural", proposal.description)
        return None

    def _groups(self) -> Iterator[Proposal]:
        """Descriptions that several things may answer to."""
        targets = self.targets()
        for thing in targets if len(targets) > 1 else ():
            coloured = _mixed((0.6, {(): 1.0}), (0.4, _evenly((claim,) for claim in self.teller.colours(thing))))
            holder = thing.placed.inside
            if holder not in (TABLE, self.facts.scene.bin) and self.teller.names(holder):
                coloured = _mixed((0.5, coloured), (0.5, _product(coloured, {(Relation("in", (holder,)),): 1.0})))
            for noun, often in self._nouns(thing, 0.15).items():
                for filters, share in coloured.items():
                    description = Description(noun, filters)
                    vague = noun == "one" or plural(noun) is None or (noun in ANYTHING and not filters)
                    if not vague and not self._clumsy(description):
                        yield Proposal(often * share, description)


Filters = dict[tuple[Claim, ...], float]


def _selectors(kind: str, chosen: tuple[Claim, ...]) -> Mapping[Selector | None, float]:
    """The selectors that go with such filters, None for none, with weights that sum to 1."""

    def shared(*parts: tuple[float, str]) -> dict[Selector | None, float]:
        return {
            selector: share * weight / sum(SELECTORS[name].values())
            for share, name in parts
            for selector, weight in SELECTORS[name].items()
        }

    if kind in SELECTORS:
        return shared((1.0, kind))
    if kind == "short" and not chosen:
        return {None: 0.4, **shared((0.6, "location"))}
    if kind == "full" and len(chosen) < 2:
        return shared((0.5, "location"), (0.25, "comparative"), (0.25, "ordinal"))
    return {None: 1.0}


def _evenly(filters: Iterable[tuple[Claim, ...]]) -> Filters:
    """Each as often as any other; what comes twice, twice as often."""
    listed = list(filters)
    return {chosen: listed.count(chosen) / len(listed) for chosen in listed}


def _mixed(*parts: tuple[float, Filters]) -> Filters:
    """Several sorts of filters in these shares; an empty sort leaves its share to the others."""
    total = sum(share for share, filters in parts if filters)
    return {chosen: share / total * w for share, filters in parts for chosen, w in filters.items()}


def _product(first: Filters, second: Filters) -> Filters:
    """One of each."""
    return {a + b: v * w for a, v in first.items() for b, w in second.items()}


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
        tried, weights = list(KINDS), np.array(list(KINDS.values()))
        chosen = [targets[int(k)] for k in rng.permutation(len(targets))[:6]]
        each = -(-(wanted - 3) // len(chosen))
        for thing in chosen:
            alike = sum(facts.called(other, thing.placed.item.words.nouns[0]) is True for other in facts.things) > 1
            likely = weights * [3.0 if alike and name in _AMONG_ALIKE else 1.0 for name in tried]
            kinds = rng.choice(tried, len(tried), replace=False, p=likely / likely.sum())
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
