"""From facts about the things of a picture to sentences: about one of them, about several, about none.

A fact has three values: true of a thing, false, in doubt (`Subject.facts` lacks it). A sentence is a noun with at most
two facts, or with their denial; it means all the things of which noun and facts are true, and is not said where any
thing leaves it in doubt. So existence comes with it: what fits several things means all of them, and what fits none of
the nouns' things is a near miss.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from jmceln_core.data.grounding import Expression, Instance, Picture
from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.rules import expressions
from jmceln_core.synthesis.rules.engine import spoken
from jmceln_core.synthesis.rules.logic import Truth, all_of
from jmceln_core.synthesis.rules.photograph import Scene

ANY = ("one", "thing")  # nouns for everything; "thing" only where there are things of several sorts
_BARE, _PLAIN, _DENIED, _BOTH = 2.0, 4.0, 2.5, 1.0  # how often people say such a sentence
_ALONE = 3.0  # a fragment without a noun ("red shirt"), as often as all nouns together
_IDLE = 0.03  # a denial that tells nothing apart
_TERSE = 0.3  # "man red shirt" for "man in a red shirt", as RefCOCO's speakers have it
_ARTICLES = 0.3  # of these 4 % begin with one; robots are spoken to in whole sentences, too
_COMMANDS = 0.04  # "pick up the red mug"; nobody shall be picked up


@dataclass(frozen=True)
class Fact:
    """What can be true or false of a thing, and how people put it.

    `before` stand before the noun ("red"), `after` behind it ("in a red shirt"; `many` behind several, where that
    differs: "in red shirts"), `alone` without one ("red shirt"); `denied` behind the noun where the fact is false
    ("that isn't red", "without a hat").
    """

    key: str
    kind: str  # of the sentence: "colour", "clothes", "action", ...
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    many: tuple[str, ...] = ()
    general: bool = False  # said of "one" and "thing" alone: no mug is "the mug that isn't a mug"


@dataclass(frozen=True)
class Subject:
    """A thing of a made picture: its instance, what it is called (`said`, with weights), by what other names a listener
    might take it (`heard`), and which facts are true or false of it; those it lacks are in doubt."""

    instance: Instance
    said: tuple[tuple[str, float], ...]
    heard: frozenset[str]
    facts: dict[str, bool] = field(default_factory=dict)

    def is_called(self, noun: str) -> Truth:
        """Whether the noun is true of it; None in doubt."""
        if noun in ANY or any(noun == name for name, _ in self.said):
            return True
        return None if noun in self.heard else False


class Staged(NamedTuple):
    """A made picture with what is known of it. `covers`: (front, back) instance ids, see `photograph.Scene`. `whole`:
    there is nothing in it but its subjects. `written`: sentences of people about its things that still tell them."""

    picture: Picture
    rgb: np.ndarray  # (H, W, 3) uint8
    subjects: tuple[Subject, ...]
    facts: tuple[Fact, ...]
    covers: tuple[tuple[int, int], ...] = ()
    whole: bool = True
    written: tuple[Expression, ...] = ()


class _Said(NamedTuple):
    kind: str
    weight: float
    noun: str
    claim: tuple[tuple[Fact, bool], ...]  # facts with the value that is claimed
    targets: tuple[int, ...]


def sentences(
    staged: Staged, rng: np.random.Generator, *, one: int = 12, several: int = 4, none: int = 4
) -> list[Expression]:
    """At most so many sentences that mean one thing, several and none, and beside a denial what it denies; every
    wording once.

    Origin is "generated"; kind that of the (last) fact, "name" for a bare noun, "negation" for a denied fact, "place"
    where a place tells apart what the words before leave. What means nothing has the kind of what is claimed.
    """
    said = list(_claims(staged))
    rows: dict[int, list[_Said]] = defaultdict(list)
    for s in said:
        rows[min(len(s.targets), 2)].append(s)
    made: dict[str, tuple[tuple[int, ...], str]] = {}
    clash: set[str] = set()
    fragments = {text for fact in staged.facts for text in fact.alone}
    commands = 0.0 if any(s.instance.category == "person" for s in staged.subjects) else _COMMANDS

    def add(text: str, targets: tuple[int, ...], kind: str) -> None:
        if made.setdefault(text, (targets, kind))[0] != targets:
            clash.add(text)

    claims = {(s.noun, s.claim): s for s in said}
    for s in _drawn(rows[1], rng, one):
        add(_worded(s, rng), s.targets, s.kind)
        # beside a denial what it denies, which differs in that alone
        denied = tuple((fact, True) for fact, claimed in s.claim if not claimed)
        if denied and (other := claims.get((s.noun, denied))):
            add(_worded(other, rng), other.targets, other.kind)
    for s in _drawn(rows[2], rng, several):
        single = rng.random() < 0.5 or any(fact.general for fact, _ in s.claim)  # "a mug" is one
        add(_worded(s, rng, 1 if single else len(s.targets)), s.targets, s.kind)
    for s in _drawn(rows[0], rng, none):
        add(_worded(s, rng), (), s.kind)
    if rows[2]:
        scene = Scene(staged.picture, staged.rgb, staged.covers)
        for s in _drawn(rows[2], rng, max(1, one // 3)):
            for target, text in _placed(scene, s, rng):
                add(text, (target,), "place")
    return [
        # nobody grabs a "red coat" whose owner is meant
        Expression(
            staged.picture.id,
            targets,
            text if text in fragments else spoken(text, rng, _ARTICLES, commands),
            kind,
            "generated",
        )
        for text, (targets, kind) in made.items()
        if text not in clash
    ]


def _claims(staged: Staged) -> Iterator[_Said]:
    """Every noun with no fact, one (true or denied) and two, that is in doubt of nothing."""
    subjects = staged.subjects
    weights: dict[str, float] = defaultdict(float)
    for s in subjects:
        total = sum(weight for _, weight in s.said)
        for name, weight in s.said:
            weights[name] += weight / total / len(subjects)
    weights["one"] = 0.25
    weights["thing"] = 0.1 if len({s.instance.category for s in subjects}) > 1 else 0.0
    for noun, often in weights.items():
        if not often:
            continue
        called = [s.is_called(noun) for s in subjects]
        plain = noun not in ANY
        if plain and None not in called:
            yield _Said("name", _BARE * often, noun, (), _ids(subjects, called))
        single: list[tuple[Fact, bool, list[Truth]]] = []
        for fact in staged.facts:
            values = [s.facts.get(fact.key) for s in subjects]
            for claimed in (True, False):
                if not _sayable(fact, claimed, noun):
                    continue
                true = [all_of(c, None if v is None else v == claimed) for c, v in zip(called, values, strict=True)]
                if None in true:
                    continue
                targets = _ids(subjects, true)
                kind, weight = (fact.kind, _PLAIN) if claimed else ("negation", _DENIED)
                if claimed and fact.alone and not plain:
                    weight *= _ALONE
                # a denial is mostly said where some of the things are what it denies
                if not claimed and not any(all_of(c, v) for c, v in zip(called, values, strict=True)):
                    weight *= _IDLE
                yield _Said(kind, weight * often, noun, ((fact, claimed),), targets)
                if claimed and targets:
                    single.append((fact, claimed, true))
        for k, (fact, _, true) in enumerate(single):
            for other, _, also in single[k + 1 :]:
                if fact.kind == other.kind and not (fact.before and other.after):
                    continue
                both = [all_of(a, b) for a, b in zip(true, also, strict=True)]
                if None in both or _ids(subjects, both) in (_ids(subjects, true), ()):
                    continue
                yield _Said(other.kind, _BOTH * often, noun, ((fact, True), (other, True)), _ids(subjects, both))


def _sayable(fact: Fact, claimed: bool, noun: str) -> bool:
    if fact.general and noun not in ANY:
        return False
    if claimed:
        return bool(fact.before or fact.after or (fact.alone and noun in ANY))
    return bool(fact.denied)


def _ids(subjects: Sequence[Subject], true: Sequence[Truth]) -> tuple[int, ...]:
    return tuple(s.instance.id for s, t in zip(subjects, true, strict=True) if t)


def _drawn(said: Sequence[_Said], rng: np.random.Generator, limit: int) -> list[_Said]:
    """Up to `limit`, by weight, every pair of targets and kind less likely once it was drawn."""
    if not said or not limit:
        return []
    # what there is much of (a picture has dozens of near misses in colours) is not said the more often for it
    keys = [(s.kind, s.targets) for s in said]
    total, most = dict.fromkeys(keys, 0.0), dict.fromkeys(keys, 0.0)
    for key, s in zip(keys, said, strict=True):
        total[key] += s.weight
        most[key] = max(most[key], s.weight)
    weights = np.array([s.weight * most[key] / total[key] for key, s in zip(keys, said, strict=True)])
    drawn = []
    for _ in range(min(limit, len(said), 3 * len({targets for _, targets in keys}))):
        k = int(rng.choice(len(said), p=weights / weights.sum()))
        drawn.append(said[k])
        weights[k] = 0
        weights[[key == keys[k] for key in keys]] *= 0.4
        if not weights.any():
            break
    return drawn


def _worded(s: _Said, rng: np.random.Generator, count: int = 1) -> str:
    """Noun and facts as people put them; in the plural for a `count` above 1."""

    def pick(wordings: Sequence[str]) -> str:
        return wordings[int(rng.integers(len(wordings)))]

    noun = s.noun if count == 1 else vocabulary.plural(s.noun)
    before: list[str] = []
    after: list[str] = []
    for fact, claimed in s.claim:
        if not claimed:
            after.append(pick(fact.denied))
            continue
        if count == 1 and len(s.claim) == 1 and fact.alone and s.noun in ANY:
            return pick(fact.alone)
        places = [before] * bool(fact.before) + [after] * bool(fact.after)
        place = places[int(rng.integers(len(places)))]
        behind = fact.many if count > 1 and fact.many else fact.after
        terse = tuple(text for text in fact.alone if " " in text)  # "man red shirt", but not "man shirt"
        if count == 1 and terse and s.noun not in ANY and rng.random() < _TERSE:
            behind = terse
        words = pick(fact.before if place is before else behind)
        verb, _, rest = words.partition(" ")
        # "wearing pants and a hat"
        place.append(f"and {rest}" if place is after and after and after[-1].startswith(f"{verb} ") else words)
    text = " ".join([*before, noun, *after])
    if noun == vocabulary.plural(s.noun):  # also one pair of scissors
        text = text.replace(" that isn't ", " that aren't ").replace(" that is ", " that are ")
    if count == 1:
        return text
    numbers = {2: ("both {}", "the two {}", "two {}"), 3: ("all three {}", "the three {}")}.get(count, ())
    numbers = () if s.noun in ANY else numbers  # nobody says "both ones"
    return pick([*numbers, "all the {}", "the {}", *(() if s.noun in ANY else ("all {}", "{}"))]).format(text)


def _placed(scene: Scene, s: _Said, rng: np.random.Generator) -> Iterator[tuple[int, str]]:
    """One of several that the words fit, told apart by its place, order or size: (instance id, text)."""
    if not all(claimed for _, claimed in s.claim) or any(fact.alone and s.noun in ANY for fact, _ in s.claim):
        return
    phrase = _worded(s._replace(claim=tuple((replace(f, after=()) if f.before else f, True) for f, _ in s.claim)), rng)
    things = [scene.thing(target) for target in s.targets]
    ways = []
    for t in things:
        others = [u for u in things if u is not t]
        for draft in expressions.located(scene, t, others, phrase, bare=False, sure=True):
            ways += [
                (w, t.instance.id, text) for text, often in draft.wordings.items() if (w := draft.weight * often) > 0
            ]
    if ways:
        weights = np.array([w for w, _, _ in ways])
        for k in rng.choice(len(ways), min(2, len(ways)), replace=False, p=weights / weights.sum()):
            yield ways[k][1:]
