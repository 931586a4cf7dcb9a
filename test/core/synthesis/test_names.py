"""What is said of what is there and of what is not, about annotated photographs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core.config import DataConfig
from jmceln_core.data import readers
from jmceln_core.data.grounding import Expression, GroundingData, Instance, Picture
from jmceln_core.data.left_out import unknown_words
from jmceln_core.data.readers import read_training
from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.enrich import enrich
from jmceln_core.synthesis.rules import nonsense
from jmceln_core.synthesis.rules.expressions import COCO_KINDS
from jmceln_core.synthesis.rules.names import denials, names, nothing
from jmceln_core.synthesis.rules.photograph import Scene
from support.discs import build


def scene(*things: tuple[str, bool], complete: bool = True) -> Scene:
    """Things side by side, (category, crowd) each; their ids are 1, 2, ..."""
    instances = []
    for k, (category, crowd) in enumerate(things):
        x = 10 + 60 * k
        instances.append(
            Instance(k + 1, category, [[x, 20, x + 40, 20, x + 40, 80, x, 80]], (x, 20, 40, 60), crowd=crowd)
        )
    picture = Picture(7, Path("x.jpg"), 100, 20 + 60 * len(things), tuple(instances), complete)
    return Scene(picture, np.full((100, picture.width, 3), 127, np.uint8))


def targets(said: list[Expression]) -> dict[str, tuple[int, ...]]:
    opening = r"^((pick up|grab|find|show me|get|point at|look at|give me|take|where is|go to) )?(the )?"
    return {re.sub(opening, "", e.text): e.targets for e in said}


def many(make, count: int = 40) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for seed in range(count):
        found |= targets(make(np.random.default_rng(seed)))
    return found


def test_a_bare_name_means_everything_called_so():
    two = scene(("giraffe", False), ("giraffe", False), ("person", False))
    found = many(lambda rng: names(two, rng))
    assert found["giraffe"] == found["giraffes"] == (1, 2)
    assert found["animal"] == (1, 2)
    assert found["person"] == (3,)
    assert "woman" not in found  # it may be one


def test_a_name_that_may_be_anothers_is_not_said():
    # some would call the truck a car; a crowd of people has no outline of its own
    found = many(lambda rng: names(scene(("car", False), ("truck", False), ("person", True)), rng))
    assert "car" not in found
    assert "person" not in found
    assert found["vehicle"] == (1, 2)
    assert not names(scene(("car", False), complete=False), np.random.default_rng(0))


def said(text: str, *keys: int) -> Expression:
    return Expression(7, keys, text)


def test_what_was_said_of_one_is_denied_of_the_others():
    three = scene(("giraffe", False), ("giraffe", False), ("giraffe", False))
    found = many(lambda rng: denials(three, [said("the giraffe eating leaves", 2)], rng))
    assert found == dict.fromkeys(
        ("giraffe not eating leaves", "giraffe that isn't eating leaves", "giraffe that is not eating leaves"), (1, 3)
    )
    found = many(lambda rng: denials(three, [said("giraffe with a broken horn", 1)], rng))
    assert found == {"giraffe without a broken horn": (2, 3)}


def test_a_near_miss_is_denied_of_all():
    found = many(lambda rng: denials(scene(("giraffe", False)), [said("the giraffe drinking water")], rng))
    assert set(found.values()) == {(1,)}
    assert "giraffe not drinking water" in found


def test_what_is_true_of_all_is_denied_of_nothing_and_half_of_the_denials_are_such_at_most():
    one = scene(("giraffe", False))
    told = [said(f"giraffe eating {what}", 1) for what in ("leaves", "grass", "hay", "bread")]
    for seed in range(5):
        found = denials(one, told, np.random.default_rng(seed), limit=4)
        assert len(found) == 2
        assert not any(e.targets for e in found)
    two = scene(("giraffe", False), ("giraffe", False))
    assert set(many(lambda rng: denials(two, told, rng, limit=1)).values()) == {(2,)}


def test_what_others_were_said_to_do_too_is_not_denied_of_them():
    three = scene(("giraffe", False), ("giraffe", False), ("giraffe", False))
    told = [said("giraffe eating leaves", 2), said("the tall one eating some leaves", 3)]
    assert set(many(lambda rng: denials(three, told, rng)).values()) == {(1,)}
    # of two that were described in the same words, neither is the rest
    both = [said("giraffe eating leaves", 2), said("giraffe eating leaves", 3)]
    assert set(many(lambda rng: denials(three, both, rng)).values()) == {(1,)}


def test_denials_agree_with_what_is_plural_by_itself():
    found = many(lambda rng: denials(scene(("skis", False), ("skis", False)), [said("skis leaning on a rock", 1)], rng))
    assert {"skis that aren't leaning on a rock", "skis that are not leaning on a rock"} <= found.keys()
    assert not [text for text in found if " is" in text]


@pytest.mark.parametrize(
    "text",
    [
        "the giraffe standing in the background",  # a place
        "the giraffe eating from the left tree",  # a place: the other may eat there too
        "the giraffe not eating",  # a denial already
        "the tall giraffe",
        "the lion eating leaves",  # of which there is none
        "the giraffe with dark spots, eating leaves",  # which of the two is false?
        "the giraffe with the longest neck",
        "the giraffe with its neck bent",
        "the woman in red",  # whoever else is a woman is not known
    ],
)
def test_what_cannot_be_denied_safely_is_left_alone(text):
    two = scene(("giraffe", False), ("giraffe", False), ("person", False))
    assert not many(lambda rng: denials(two, [said(text, 1)], rng), 5)


def test_words_for_nothing_name_nothing_that_is_there():
    here = scene(("cup", False), ("dog", False), ("tennis racket", False))
    heard = {n for t in here.things for n in t.names.heard}
    found = many(lambda rng: nothing(here, [said("the train near the cup", 1)], rng), 300)
    # nobody looked for lamps there, and a train was seen
    coco = {n for kind in COCO_KINDS for n, _ in vocabulary.names_of(kind).said}
    others = {n for kind in vocabulary.known_categories()[80:] for n, _ in vocabulary.names_of(kind).said} - coco
    assert "lamp" in others
    assert not others & found.keys()
    assert "train" not in found
    assert not many(lambda rng: nothing(here, [], rng, kinds=()), 300).keys() & coco
    assert len(found) > 150
    assert not any(found.values())
    for text in found:
        assert not heard & {text, *(" ".join(text.split()[-k:]) for k in (1, 2))}, text
    known = {n for kind in vocabulary.known_categories() for n, _ in vocabulary.names_of(kind).said}
    assert sum(text in known for text in found) > 30  # kinds that other pictures have


def test_what_is_measured_with_is_in_no_training():
    small = {"the", "a", "el", "la", "le", "il", "o", "das", "der", "die", "η", "big", "red"}
    measured, trained = (set(" ".join(x).lower().split()) - small for x in (unknown_words(), nonsense.UNKNOWN))
    assert not measured & trained
    rng = np.random.default_rng(0)
    made = {nonsense.nonsense(rng) for _ in range(20000)}
    assert not unknown_words().keys() & made
    real = {w for kind in vocabulary.known_categories() for n in vocabulary.names_of(kind).heard for w in n.split()}
    assert not real & {word for text in made for word in text.split()}


def test_enrich_adds_them_to_photographs(tmp_path):
    here = scene(("giraffe", False), ("giraffe", False))
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), here.rgb)
    picture = Picture(7, path, here.picture.height, here.picture.width, here.picture.instances)
    data = GroundingData({7: picture}, [said("the giraffe eating leaves", 2)])
    made = enrich(data, DataConfig(names=4), seed=0).expressions[1:]
    kinds = {e.kind for e in made}
    assert kinds == {"name", "negation", "absent"}
    assert all(e.origin == "generated" for e in made)
    assert enrich(data, DataConfig(), seed=0).expressions == data.expressions


@pytest.mark.parametrize("held_out", [0, 2])
def test_pictures_that_are_measured_with_are_never_trained_on(tmp_path, monkeypatch, held_out):
    build(tmp_path)
    config = DataConfig(root=tmp_path, sources=("discs/train",), validation=held_out)
    every = [set(part.pictures) for part in read_training(config)]
    away = set(sorted(every[0])[:2])
    monkeypatch.setattr(readers, "left_out_pictures", lambda: away)
    training, validation = read_training(replace(config, left_out=True))
    assert set(training.pictures) | set(validation.pictures) == (every[0] | every[1]) - away
    assert not {e.picture_id for e in training.expressions} & away
    assert [set(part.pictures) for part in read_training(config)] == every
