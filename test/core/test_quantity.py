"""How many things sentences ask for, in the words people use, and in those of our own rules and of the data at hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jmceln_core.quantity import Part, understand
from jmceln_core.synthesis.rules.book import RULES
from support import ROOT


@pytest.mark.parametrize(
    ("sentence", "count"),
    [
        ("both mugs", 2),
        ("all apples", None),
        ("all of the red apples", None),
        ("two cups", 2),
        ("the 3 cups on the left", 3),
        ("the mugs", None),
        ("bring me the clean mugs, please", None),
        ("the giraffes not eating grass", None),
        ("the mugs that are not red", None),
        ("every mug", None),
        ("each of the cups", None),
        ("everything on the table", None),
        ("people", None),
        ("both of them", 2),
        ("the two on the left", 2),
        ("all the fruit", None),
        ("both sheep", 2),
        ("both scissors", 2),
        ("the wine glasses", None),
        ("a couple of spoons", 2),
        ("a pair of shoes", 2),
        ("two of the three red mugs", 2),
        ("the first two mugs", 2),
        ("exactly two mugs", 2),
        ("a dozen eggs", 12),
        ("twelve eggs", 12),
        ("a lot of apples", None),
        ("these", None),
        ("the other two", 2),
        ("Hey robot, give me the mugs", None),
        ("robot, the mugs", None),
        ("I'd like the two mugs", 2),
        ("go to the mugs", None),
        ("some of the boxes", None),
        ("the children's shoes", None),
    ],
)
def test_plural(sentence, count):
    assert understand(sentence) == (Part(sentence, plural=True, count=count),)


@pytest.mark.parametrize(
    "sentence",
    [
        "the mug",
        "the giraffe not eating grass",
        "the bus",
        "the red and white bus",
        "the glass with the straws",
        "woman holding plates",
        "the man in the glasses",
        "the scissors",
        "one of the mugs",
        "any of the cups",
        "the second cup from the left",
        "the three legged dog",
        "the man with the hat and the bag",
        "the apple between the mug and the plate",
        "the mug to the left of the bowls",
        "the thing the bear and the saucer are sitting on",
        "the person wearing a pink cap and a padded jacket",
        "the salt and pepper shaker",
        "the black and white dog",
        "the dog in all black",
        "the mug other than the red one",
        "a pair of scissors",
        "the first mug",
        # which of them would be found is not known
        "cups, plates and spoons",
        "the plates and cups on the left",
        "two cups and plates on the left",
        "the red and blue mugs",
        "the white washing machine and dryer on the left",
        # nor what is to be left out
        "every mug except mine",
        "all apples except two",
        "the mugs but not on the table",
        "all mugs but him",
        "the mugs " * 40,  # nobody says that
        " and ".join(["the mug"] * 9),
        "nobody knows this",
        "and",
        ", ,",
        "?!",
        "белая кружка",
    ],
)
def test_one_thing(sentence):
    """Or left to the network: AMBIGUOUS if it turns out to be several."""
    assert understand(sentence) == (Part(sentence),)


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("the mug and the spoon", ["the mug", "the spoon"]),
        ("both the mug and the spoon", ["the mug", "the spoon"]),
        ("The mug and the spoon.", ["The mug", "the spoon."]),
        ("give me the mug and the spoon on the plate", ["give me the mug", "the spoon on the plate"]),
        ("the mug, the spoon and the plate", ["the mug", "the spoon", "the plate"]),
        ("the mug, the spoon, and the plate", ["the mug", "the spoon", "the plate"]),
        ("the mug on the left and the mug on the right", ["the mug on the left", "the mug on the right"]),
        ("the mug and spoon", ["the mug", "the spoon"]),
        ("cup and saucer", ["the cup", "the saucer"]),
        ("two cups and a plate", ["two cups", "a plate"]),
        ("all the red mugs and the blue mug", ["all the red mugs", "the blue mug"]),
        ("all the red mugs and all the blue mugs", ["all the red mugs", "all the blue mugs"]),
        ("all my mugs and the spoon", ["all my mugs", "the spoon"]),
        ("the mug AND the spoon, please", ["the mug", "the spoon"]),
        ("the mug as well as the spoon", ["the mug", "the spoon"]),
        ("the mug & the spoon", ["the mug", "the spoon"]),
        ("go to the mug and the spoon", ["go to the mug", "the spoon"]),
        ("the red mug and the blue one", ["the red mug", "the blue mug"]),
        ("the red and the blue mug", ["the red mug", "the blue mug"]),
        ("the first and the third mug", ["the first mug", "the third mug"]),
        ("two mugs and the red one", ["two mugs", "the red mug"]),
        ("the mug on the left side and the one on the right", ["the mug on the left side", "the mug on the right"]),
        ("the salt and the pepper", ["the salt", "the pepper"]),
    ],
)
def test_joined(sentence, parts):
    found = understand(sentence)
    assert [part.text for part in found] == parts
    assert not any(part.without for part in found)
    assert [part.plural for part in found] == ["cups" in text or "mugs" in text for text in parts]


@pytest.mark.parametrize(
    ("sentence", "all_of", "without"),
    [
        ("every mug but the red one", "every mug", ["the red mug"]),
        ("all mugs except the red one", "all mugs", ["the red mug"]),
        (
            "all of the boxes, except for the blue one and the white one",
            "all of the boxes",
            ["the blue box", "the white box"],
        ),
        ("the mugs but not the red ones", "the mugs", ["the red mugs"]),
        ("everything but the knife", "everything", ["the knife"]),
        ("all mugs but red ones", "all mugs", ["red mugs"]),
        ("every mug but the red ones", "every mug", ["the red mugs"]),
        ("every mug except those on the left", "every mug", ["the mugs on the left"]),
        ("all fruits but bananas", "all fruits", ["bananas"]),
        ("every mug except the one with one handle", "every mug", ["the mug with one handle"]),
        ("all shoes but the red one", "all shoes", ["the red shoe"]),
        ("all cookies but the big one", "all cookies", ["the big cookie"]),
        ("all buses but the red one", "all buses", ["the red bus"]),
        ("all scarves but the red one", "all scarves", ["the red scarf"]),
        ("all glasses but the red one", "all glasses", ["the red glass"]),
        ("all berries but the red one", "all berries", ["the red berry"]),
        ("all the children but the tall one", "all the children", ["the tall child"]),
        ("every box but the red ones", "every box", ["the red boxes"]),
        ("all the people other than the man on the left", "all the people", ["the man on the left"]),
    ],
)
def test_all_but_some(sentence, all_of, without):
    (part,) = understand(sentence)
    assert (part.text, part.plural) == (all_of, True)
    assert [other.text for other in part.without] == without
    several = any(word in sentence for word in ("ones", "those", "bananas"))
    assert [other.plural for other in part.without] == [several] * len(without)


def several(sentence: str) -> bool:
    return len(parts := understand(sentence)) > 1 or parts[0].plural


def test_the_examples_of_the_book_of_rules():
    """What the network is taught to take for several things is a plural here; nothing that it takes for one is."""
    examples = [example for rule in RULES.values() for example in rule.examples if example.means]
    assert sum(len(example.means) > 1 for example in examples) >= 5
    for example in examples:
        assert several(example.text) == (len(example.means) > 1), example


@pytest.mark.parametrize("said", ["coco_mini/expressions_heldout.json", "more/expressions_tote.json"])
def test_sentences_that_people_wrote(said):
    """The word lists were made with the training sentences in sight; these are not those. Prints its figures."""
    path = ROOT.parent / "shared" / "data" / said
    if not path.is_file():
        pytest.skip(f"no {path}: the written sentences are not at hand")
    sentences = json.loads(path.read_text())
    plural, single = sentences["plural"], [e["text"] for e in sentences["expressions"]]
    heard, wrong = [several(e["text"]) for e in plural], [text for text in single if several(text)]
    print(f"{said}: {sum(heard)} of {len(plural)} plurals, {len(wrong)} of {len(single)} others taken for one: {wrong}")
    assert np.mean(heard) >= 0.95
    assert len(wrong) <= 0.035 * len(single)
    counts = [(understand(e["text"])[0].count, len(e["ann_ids"])) for e in plural]
    assert all(count in (None, number) for count, number in counts)
