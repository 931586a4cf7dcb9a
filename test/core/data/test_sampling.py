"""What an epoch consists of: every thing once, every sentence once, or sorts of sentences mixed in given shares."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import Expression
from jmceln_core.data.sampling import Group, Outline, outline, plan_picture

# three things with three, one and two written sentences, a rule-made one about the first, two that match nothing
ABOUT = Outline((0, 0, 0, 1, 2, 2, 0, -1, -1), (True,) * 6 + (False, False, True))
MEANT, ABSENT = set(range(7)), {7, 8}
OBJECT, SENTENCE = DataConfig(sampling="object"), DataConfig(sampling="sentence")


def plan(config: DataConfig, sentences: int = 1, *, epoch: int = 0, about: Outline = ABOUT, seed: int = 0) -> list[int]:
    """All sentence numbers of an epoch, group by group."""
    groups = plan_picture(5, about, config, sentences=sentences, seed=seed, epoch=epoch)
    assert all(isinstance(g, Group) and g.picture == 5 and len(g.sentences) == sentences for g in groups)
    return [number for group in groups for number in group.sentences]


def test_an_outline_numbers_what_is_meant_and_tells_written_from_made() -> None:
    expressions = [
        Expression(1, (30,), "cup"),
        Expression(1, (), "dog"),
        Expression(1, (20, 30), "both"),
        Expression(1, (30,), "left cup", origin="generated"),
        Expression(1, (20,), "mug"),
    ]
    assert outline(expressions) == Outline((0, -1, 1, 0, 2), (True, True, True, False, True))


def test_object_takes_every_thing_once_and_over_epochs_all_its_sentences() -> None:
    seen: Counter[int] = Counter()
    epochs = 300
    for epoch in range(epochs):
        drawn = plan(OBJECT, epoch=epoch)
        assert sorted(ABOUT.things[i] for i in drawn) == [0, 1, 2]
        seen.update(drawn)
    assert seen.keys() == MEANT  # those that match nothing are not asked for
    assert seen[3] == epochs
    for number in (0, 1, 2, 6):  # the first thing's four, alike: a quarter each, within four standard deviations
        assert seen[number] / epochs == pytest.approx(1 / 4, abs=4 * np.sqrt(3 / 16 / epochs))


def test_sentence_takes_every_sentence_once_whatever_it_means() -> None:
    for epoch in range(5):
        assert sorted(plan(SENTENCE, epoch=epoch)) == list(range(9))
    assert plan(SENTENCE, epoch=0) != plan(SENTENCE, epoch=1)


@pytest.mark.parametrize(("config", "whole"), [(OBJECT, 3), (SENTENCE, 9)])
@pytest.mark.parametrize("sentences", [2, 4, 5, 8, 12])
def test_the_last_group_is_filled_up_with_the_pictures_own_sentences(
    config: DataConfig, whole: int, sentences: int
) -> None:
    for epoch in range(20):
        drawn = plan(config, sentences, epoch=epoch)
        assert len(drawn) == -(-whole // sentences) * sentences
        once, more = drawn[:whole], drawn[whole:]
        if config is OBJECT:
            assert sorted(ABOUT.things[i] for i in once) == [0, 1, 2]
            assert set(more) <= MEANT
        else:
            assert sorted(once) == list(range(9))
        if len(more) <= (len(MEANT) if config is OBJECT else whole):
            assert len(set(more)) == len(more)  # none twice while there are others


def test_absent_share_replaces_so_many_of_the_drawn_ones() -> None:
    config = DataConfig(sampling="object", absent_share=0.3)
    drawn = [number for epoch in range(500) for number in plan(config, epoch=epoch)]
    share = np.mean([number in ABSENT for number in drawn])
    assert share == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / len(drawn)))
    assert set(drawn) == MEANT | ABSENT
    nothing_absent = Outline((0, 1), (True, True))
    assert sorted(plan(config, about=nothing_absent)) == [0, 1]


def test_grefcocos_absent_sentences_are_things_of_their_own() -> None:
    config = DataConfig(dataset="refcoco,grefcoco", sampling="object")
    for epoch in range(5):
        drawn = plan(config, epoch=epoch)
        assert sorted(set(drawn) & ABSENT) == sorted(ABSENT)
        assert len(drawn) == 3 + 2
    nothing_meant = Outline((-1, -1, -1), (True,) * 3)
    assert len(plan(config, 2, about=nothing_meant)) == 4
    given = DataConfig(dataset="grefcoco", sampling="object", absent_share=0.5)  # another share was asked for
    assert len(plan(given)) == 3


def test_mixture_draws_sorts_in_their_shares_and_none_twice_in_a_group() -> None:
    config = DataConfig(sampling="mixture", written=0.65, absent_share=0.1)
    things = (0, 0, 0, 1, 2, 2) + (0,) * 6 + (-1,) * 6
    about = Outline(things, (True,) * 6 + (False,) * 12)
    counts: Counter[str] = Counter()
    for epoch in range(600):
        groups = plan_picture(5, about, config, sentences=2, seed=0, epoch=epoch)
        assert len(groups) == 3  # as often as its six written sentences fill
        for _, numbers in groups:
            assert len(set(numbers)) == 2
            counts.update("absent" if n >= 12 else "made" if n >= 6 else "written" for n in numbers)
    for sort, share in {"written": 0.65 * 0.9, "made": 0.35 * 0.9, "absent": 0.1}.items():
        assert counts[sort] / counts.total() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 3600))


def test_mixture_draws_written_near_misses_as_often_among_the_absent_as_written_sentences_among_the_others() -> None:
    config = DataConfig(sampling="mixture", written=0.75, absent_share=0.4)
    about = Outline((0,) * 20 + (-1,) * 24, (True,) * 10 + (False,) * 10 + (True,) * 4 + (False,) * 20)
    drawn = [n for epoch in range(600) for n in plan(config, 4, epoch=epoch, about=about)]
    absent = [n for n in drawn if n >= 20]
    assert len(absent) / len(drawn) == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / len(drawn)))
    # a group takes four sentences, no more than there are written near misses
    share = np.mean([n < 24 for n in absent])
    assert share == pytest.approx(0.75, abs=4 * np.sqrt(0.1875 / len(absent)))


def test_mixture_repeats_only_when_all_are_used_up() -> None:
    config = DataConfig(sampling="mixture", written=0.5, absent_share=0.1)
    about = Outline((0, 1, 0), (True, True, False))
    for epoch in range(30):
        numbers = plan(config, 7, epoch=epoch, about=about)
        assert sorted(numbers[:3]) == sorted(numbers[3:6]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("about", "written"),
    [
        (Outline((0, 0), (False, False)), 1.0),  # made ones alone, and none of them asked for
        (Outline((0, -1), (True, False)), 0.0),  # written ones alone, and none of them asked for
        (Outline((-1, -1), (True, True)), 0.5),  # nothing that means something
        (Outline((), ()), 0.5),
    ],
)
def test_mixture_leaves_out_a_picture_the_shares_ask_nothing_of(about: Outline, written: float) -> None:
    config = DataConfig(sampling="mixture", written=written, absent_share=0.2)
    assert plan(config, 2, about=about) == []


def test_a_picture_of_absent_sentences_alone_has_groups_for_sentence_only() -> None:
    about = Outline((-1, -1, -1), (True,) * 3)
    assert sorted(plan(SENTENCE, about=about)) == [0, 1, 2]
    assert plan(DataConfig(sampling="object", absent_share=1.0), about=about) == []
    assert plan(SENTENCE, about=Outline((), ())) == []


@given(
    st.lists(st.tuples(st.integers(-1, 4), st.booleans()), max_size=12),
    st.sampled_from(("object", "sentence", "mixture")),
    st.integers(1, 6),
    st.integers(0, 3),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_any_plan_is_a_function_of_seed_epoch_and_picture(
    pairs: list[tuple[int, bool]], sampling: str, sentences: int, epoch: int, written: float, absent: float
) -> None:
    about = Outline(tuple(t for t, _ in pairs), tuple(w for _, w in pairs))
    config = DataConfig(sampling=sampling, written=written, absent_share=absent)  # type: ignore[arg-type]
    drawn = plan(config, sentences, epoch=epoch, about=about)
    assert drawn == plan(config, sentences, epoch=epoch, about=about)
    assert set(drawn) <= set(range(len(pairs)))
    assert len(drawn) == len(plan(config, sentences, epoch=epoch + 1, about=about))  # epochs are equally long


def test_the_turns_of_a_picture_that_is_taken_up_repeatedly_differ() -> None:
    mixture = DataConfig(sampling="mixture", absent_share=0.2)
    turns = [plan_picture(5, ABOUT, mixture, sentences=4, seed=0, epoch=0, turn=turn) for turn in range(20)]
    assert turns[0] == plan_picture(5, ABOUT, mixture, sentences=4, seed=0, epoch=0)
    assert len({tuple(groups) for groups in turns}) > 10


def test_plans_differ_between_pictures_seeds_and_epochs() -> None:
    plans: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for value in range(12):
        plans["seed"].add(tuple(plan(SENTENCE, seed=value)))
        plans["epoch"].add(tuple(plan(SENTENCE, epoch=value)))
        (group,) = plan_picture(value, ABOUT, SENTENCE, sentences=9, seed=0, epoch=0)
        plans["picture"].add(group.sentences)
    assert all(len(found) == 12 for found in plans.values())
