"""Mirrored words: what flips, what stays, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_core.data.mirror import can_mirror, mirror_text
from support import ROOT

SHARED = ROOT.parent / "shared" / "data"

TABLE = [
    ("left guy", "right guy"),  # bare adjective
    ("guy on the right", "guy on the left"),  # with a preposition
    ("right", "left"),  # one word
    ("second from left", "second from right"),  # ordinals keep their number
    ("leftmost laptop", "rightmost laptop"),  # glued
    ("left-most cup", "right-most cup"),  # hyphenated
    ("right hand side bowl", "left hand side bowl"),  # the side said long
    ("lefthand chair", "righthand chair"),  # glued hand
    ("leftest one", "rightest one"),  # as people write it
    ("rightside top", "leftside top"),  # glued side
    ("bottomright corner", "bottomleft corner"),  # glued the other way round
    ("Left one", "Right one"),  # capital kept
    ("FAR RIGHT", "FAR LEFT"),  # capitals kept
    ("guy on rt", "guy on lt"),  # short form
    ("girl lft", "girl rght"),  # slip
    ("the car to the left of the bus", "the car to the right of the bus"),  # relation
    ("man facing right in black jacket", "man facing left in black jacket"),  # "in" plus clothes is no adverb
    (
        "guy fourth from right next to guy with glasses",
        "guy fourth from left next to guy with glasses",
    ),  # both
    ("car on right behind mans head", "car on left behind mans head"),  # side despite "behind"
    ("far right in front", "far left in front"),  # side despite "in front"
    ("bottom right above the plate", "bottom left above the plate"),  # side despite "above"
    ("cup in his right hand", "cup in his left hand"),  # the mirrored man holds it in the other hand
    ("the cup right behind the laptop", "the cup right behind the laptop"),  # adverb: directly
    ("white sheep right beside the brown one", "white sheep right beside the brown one"),  # adverb
    ("the player right under the frisbee", "the player right under the frisbee"),  # adverb
    ("broccoli right below the carrot", "broccoli right below the carrot"),  # adverb
    ("the one right next to us", "the one right next to us"),  # adverb
    ("bus right in the middle", "bus right in the middle"),  # adverb
    ("boat right in front", "boat right in front"),  # adverb
    ("otter at the back right staring right at us", "otter at the back left staring right at us"),  # one of each
    ("the left one right beside the wall", "the right one right beside the wall"),  # one of each
    ("upright bottle in bright light", "upright bottle in bright light"),  # inside other words
    ("leftover pizza", "leftover pizza"),  # another word
    ("no side here", "no side here"),  # nothing to do
    ("", ""),  # nothing at all
]

REFUSED = [
    "player with number 25",  # digits flip
    "batter 15",  # bare number
    "dial reading eight o'clock",  # hands flip
    "5 oclock",  # position by clock
    'the sign that says "stop"',  # quoted lettering
    "green sign says horsted",  # lettering
    "machine reading 400",  # lettering
    "wrench marked eleven",  # lettering
    "image just above the word dali",  # lettering
    "bus to Metrocentre",  # a name is lettering or a place
    "the second screwdriver",  # counted from where?
    "third bear cub",  # counted from where?
    "pliers left above the hammer",  # mirrored, "right above" would be an adverb
    "toys left behind",  # participle or side
    "right in back",  # opens the sentence: side or adverb
    "right side up mug",  # no side at all
    "the only one left",  # remaining
    "dog on L",  # a single letter
]

KEPT = [
    "second from left",  # direction said
    "second row",  # rows are vertical
    "woman reading a book",  # no lettering
    "2nd guy from right",  # an ordinal is no number on a shirt
    "TV on the left",  # capitals that are no name
    "LEFT GUY",  # shouting
    "the cup right behind the laptop",  # plain adverb
    "man's hat",  # apostrophe is no quote
    "right one",  # plain side
]


@pytest.mark.parametrize(("text", "mirrored"), TABLE)
def test_sides_are_swapped_and_adverbs_stay(text, mirrored):
    assert mirror_text(text) == mirrored
    assert mirror_text(mirrored) == text


@pytest.mark.parametrize("text", REFUSED)
def test_what_mirroring_would_break_is_refused(text):
    assert not can_mirror(text)


@pytest.mark.parametrize("text", KEPT)
def test_what_survives_is_not_refused(text):
    assert can_mirror(text)


WORDS = """left right Left RIGHT leftmost rightside lft rt far top bottom on the to from in front middle behind next of
hand , . - guy red cup above beside being was left-most all up there over"""


@given(st.lists(st.sampled_from(WORDS.split()), max_size=9).map(" ".join))
def test_mirroring_twice_gives_the_sentence_back(text):
    assert mirror_text(mirror_text(text)) == text


@given(st.text(max_size=40))
def test_any_text_survives(text):
    assert mirror_text(mirror_text(text)) == text
    assert isinstance(can_mirror(text), bool)


def test_real_sentences_survive_twice_and_mostly_mirror():
    source = SHARED / "coco_mini" / "expressions_train.json"
    if not source.is_file():
        pytest.skip("needs the shared development data")
    texts = [e["text"] for e in json.loads(source.read_text())["expressions"]]
    assert all(mirror_text(mirror_text(t)) == t for t in texts)
    assert sum(map(can_mirror, texts)) > 0.9 * len(texts)
    changed = sum(mirror_text(t) != t for t in texts)
    assert 0.15 * len(texts) < changed < 0.6 * len(texts)
