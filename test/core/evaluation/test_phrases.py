"""Kinds of phrase by a sentence's words."""

from __future__ import annotations

import pytest

from jmceln_core.evaluation.phrases import KINDS, OTHER, kinds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", OTHER),
        ("the only box", OTHER),
        ("", OTHER),
        # location
        ("left ball", "location"),
        ("the ball at the lower right", "location"),
        ("fridge in back", "location"),
        ("cup far left", "location"),
        ("bottom left corner of pic", "location"),
        ("the one on the left of the picture", "location"),
        ("in the middle", "location"),
        ("girl closest to the camera", "location comparative"),
        # attribute
        ("rainbow umbrella", "attribute"),
        ("the large metal refrigerator", "attribute"),
        ("pizza with meat", "attribute"),
        ("man in gray sweatshirt", "attribute"),
        ("person in long black coat", "attribute"),
        ("man in red", "attribute"),
        ("the person in a red top", "attribute"),  # something to wear, not a place
        ("the wine glass lying on its side", "attribute"),
        ("orange cup", "attribute"),
        ("the orange on the left", "location"),  # the fruit
        # relation
        ("person right behind the bike", "relation"),
        ("the can to the right of the banana", "relation"),
        ("cup on the left side of the plate", "relation"),
        ("orange in bowl", "relation"),
        ("apple in the white bowl", "attribute relation"),
        ("person right next to the boat", "relation"),
        ("the mouse in front of the keyboard", "relation"),
        ("person on right holding the kite", "location relation"),
        ("man on the far right behind the car", "location relation"),
        ("the box on top of the book", "relation"),
        # ordinal
        ("second guy from left", "location ordinal"),
        ("3rd zebra", "ordinal"),
        ("the last suitcase", "ordinal"),
        # comparative
        ("the biggest bear", "comparative"),
        ("taller boy", "comparative"),
        ("the cup nearer than the plate", "comparative"),
        ("the bigger one on the right", "location comparative"),
        # negation
        ("bowl that isn't blue", "attribute negation"),
        ("the cup that is not red", "attribute negation"),
        ("The Box Without A Lid.", "negation"),
        ("the bowl that isn’t there", "negation"),
    ],
)
def test_kinds(text, expected):
    assert " ".join(kinds(text)) == expected


def test_all_kinds_together_stand_in_one_order():
    text = "the second big cup on the left that is not behind the taller bottle"
    assert kinds(text) == KINDS


def test_words_within_words_do_not_count():
    assert kinds("knot notebook leftover undertaker") == (OTHER,)
