"""Every rule of the book says what its examples say: of the right things, and not where it must not."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from jmceln_core.synthesis.rules import expressions
from jmceln_core.synthesis.rules.book import RULES, Example, Rule
from jmceln_core.synthesis.rules.engine import phrases
from jmceln_core.synthesis.rules.logic import all_of, negated
from jmceln_core.synthesis.tabletop import sentences
from support.drawings import photograph, table

Said = dict[str, set[tuple[int, ...]]]


@cache
def said_of_photograph(scene: str, covers: tuple[tuple[int, int], ...]) -> Said:
    """All that can be said of a photograph without an article: what each text means."""
    world, said = photograph(scene, covers), defaultdict(set)
    for thing in world.targets:
        for draft in expressions._drafts(world, thing):
            for text in draft.wordings if draft.weight > 0 else ():
                said[text].add((thing.key,))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        several = expressions.plurals(world, rng, limit=60, articles=0)
        for e in several + expressions.absent(world, rng, limit=60, articles=0, kinds=("zebra",)):
            said[e.text].add(e.targets)
    return said


@cache
def said_of_table(scene: str) -> Said:
    """All that can be said of a rendered table with one claim or selector, likewise; things are numbered from 1."""
    facts, said = table(scene), defaultdict(set)
    writer = sentences.Writer(facts, np.random.default_rng(0))
    for thing in writer.targets():
        for kind in sorted(sentences.KINDS.keys() - {"full", "appearance"}):
            for proposal in writer.proposals(thing, kind):
                if proposal.description.only(facts) == thing.index:
                    for text in writer.teller.wordings(proposal.description):
                        said[text].add((thing.index + 1,))
    for _ in range(100):
        if sentence := writer.plurals():
            said[sentence.text].add(tuple(k + 1 for k in sentence.targets))
    return said


def check(rule: Rule, example: Example) -> None:
    templates = rule.table if example.table else rule.photograph
    patterns = [re.sub(r"\\{.*?\\}", ".+", re.escape(template)) for template in templates]
    assert not rule.wordings or any(re.fullmatch(p, example.text) for p in patterns), "none of the rule's wordings"

    def said(scene: str) -> set[tuple[int, ...]]:
        of = said_of_table(scene) if example.table else said_of_photograph(scene, example.covers)
        return of.get(example.text, set())

    assert said(example.scene) == {example.means}
    if example.but:
        assert not said(example.but) if example.means else () not in said(example.but)


def check_is_shown(rule: Rule) -> None:
    """There is an example in each world that the rule is said of."""
    shown = {example.table for example in rule.examples}
    worlds = {world for world, said in ((False, rule.photograph), (True, rule.table)) if said}
    assert shown == (worlds or {False}), f"{rule.name}: no example of each of its worlds, or of another"


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_what_its_examples_say(name):
    rule = RULES[name]
    check_is_shown(rule)
    for example in rule.examples:
        check(rule, example)


@pytest.mark.parametrize("examples", [[], RULES["left"].examples[:1], RULES["left"].examples[1:]])
def test_a_rule_without_an_example_in_each_of_its_worlds_is_found(examples):
    with pytest.raises(AssertionError, match="no example"):
        check_is_shown(replace(RULES["left"], examples=examples))


@pytest.mark.parametrize("name", ["left", "colour", "next to", "counted", "beyond the last"])
def test_wrong_examples_are_found(name):
    rule = RULES[name]
    for example in rule.examples:
        wrong = [replace(example, means=(*example.means, 7)), replace(example, text="the other one")]
        wrong += [replace(example, but=example.scene)]
        for one in wrong:
            with pytest.raises(AssertionError):
                check(rule, one)


def test_most_rules_have_an_example_of_where_they_are_not_said():
    without = {rule.name for rule in RULES.values() if not any(example.but for example in rule.examples)}
    # what is told from what hides it needs to know what hides what
    known = {rule.name for rule in RULES.values() if all(example.covers for example in rule.examples)}
    assert without == known


def test_what_hides_what_is_not_guessed():
    for rule in RULES.values():
        for example in rule.examples:
            if example.covers:
                assert example.text not in said_of_photograph(example.scene, ())


@pytest.mark.parametrize(
    ("truths", "expected"),
    [((), True), ((True, True), True), ((True, None), None), ((None, False), False), ((False, True), False)],
)
def test_three_values(truths, expected):
    assert all_of(*truths) is expected
    assert negated(expected) is (None if expected is None else not expected)


def test_words_stand_around_the_noun_in_their_order():
    red, lid, left = {"red {n}": 1.0}, {"{n} with a lid": 2.0, "lidded {n}": 1.0}, {"left {n}": 3.0, "{n} on left": 1.0}
    assert phrases("mug", [red, lid], left) == {
        "left red mug with a lid": 6.0,
        "red mug with a lid on left": 2.0,
        "left red lidded mug": 3.0,
        "red lidded mug on left": 1.0,
    }
