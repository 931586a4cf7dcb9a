"""What an epoch gets beside the written sentences: rule-made and borrowed ones."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core.data.test_dataset import HEIGHT, WIDTH, square, write
from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import Expression, GroundingData, Instance, Picture, read_coco
from jmceln_core.synthesis.enrich import borrow, enrich


@pytest.fixture
def data(tmp_path: Path) -> GroundingData:
    return read_coco(write(tmp_path), "train")


def world(tmp_path: Path) -> GroundingData:
    """A cup in one picture, a dog and a cup in a second, a cat in an incomplete third; a bear in another folder."""

    def picture(number: int, kinds: tuple[str, ...], *, folder: str = "one", complete: bool = True) -> Picture:
        instances = tuple(
            Instance(10 * number + k, kind, square(5, 5, 9), (5, 5, 9, 9)) for k, kind in enumerate(kinds)
        )
        return Picture(number, tmp_path / folder / f"{number}.png", HEIGHT, WIDTH, instances, complete)

    pictures = [
        picture(1, ("cup",)),
        picture(2, ("dog", "cup")),
        picture(3, ("cat",), complete=False),
        picture(4, ("bear",), folder="two"),
        picture(5, (), folder="two"),
    ]
    sentences = [
        Expression(1, (10,), "a cup"),
        Expression(2, (20,), "the dog"),
        Expression(2, (21,), "another cup"),
        Expression(2, (20,), "a hound of sorts", origin="generated"),
        Expression(2, (20, 21), "the dog and the cup"),
        Expression(3, (30,), "the cat"),
        Expression(4, (40,), "a bear"),
    ]
    return GroundingData({p.id: p for p in pictures}, sentences)


def test_borrowed_sentences_are_about_kinds_that_a_completely_annotated_picture_has_none_of(tmp_path: Path) -> None:
    data = world(tmp_path)
    found: dict[int, set[str]] = {number: set() for number in data.pictures}
    for seed in range(30):
        drawn = borrow(data, 5, seed=seed)
        assert drawn == borrow(data, 5, seed=seed)
        for expression in drawn:
            assert expression.targets == ()
            assert expression.origin == "generated"  # nobody wrote it for this picture: validation never asks it
            found[expression.picture_id].add(expression.text)
    assert found == {
        1: {"the dog", "the cat"},  # no cup; no bear, for which nobody looked in this folder; nothing plural or made
        2: {"the cat"},
        3: set(),  # incomplete: what it lacks is not known
        4: set(),  # nothing else in its folder
        5: {"a bear"},
    }
    assert Counter(e.picture_id for e in borrow(data, 1, seed=0)) == {1: 1, 2: 1, 5: 1}


def call_suitcases(data: GroundingData) -> None:
    """Make the things ones that the rules have words for, without the crowds that may hide more of them."""
    for key, picture in data.pictures.items():
        boxes = tuple(replace(i, category="suitcase") for i in picture.instances if not i.crowd)
        data.pictures[key] = replace(picture, instances=boxes)


def test_enriched_data_keeps_what_there_was_and_adds_what_is_asked_for(data: GroundingData) -> None:
    assert enrich(data, DataConfig(), seed=0).expressions == data.expressions
    config = DataConfig(generated=3, plurals=2, absent=2)
    call_suitcases(data)
    richer = enrich(data, config, seed=0)
    assert richer.expressions[: len(data.expressions)] == data.expressions
    made = richer.expressions[len(data.expressions) :]
    assert made == enrich(data, config, seed=0).expressions[len(data.expressions) :]
    assert {e.origin for e in made} == {"generated"}
    assert {len(e.targets) for e in made} == {0, 1, 2}
    assert set(richer.pictures) == set(data.pictures)


def test_several_processes_make_the_same_sentences(data: GroundingData) -> None:
    config = DataConfig(generated=3, absent=2)
    call_suitcases(data)
    one = enrich(data, config, seed=0)
    assert len(one.expressions) > len(data.expressions)
    assert enrich(data, replace(config, workers=2), seed=0).expressions == one.expressions


def test_a_source_with_sentences_made_by_a_rule_has_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path)
    sentences = json.loads((folder / "expressions_train.json").read_text())
    for kind in sentences.values():
        for sentence in kind:
            if sentence["image_id"] == 1:
                sentence["origin"] = "generated"
    (folder / "expressions_train.json").write_text(json.dumps(sentences))
    data = read_coco(folder, "train")
    call_suitcases(data)
    assert {e.origin for e in data.by_picture()[1]} == {"generated"}
    assert {e.origin for e in data.by_picture()[2]} == {"written"}
    richer = enrich(data, DataConfig(absent=2), seed=0).by_picture()
    assert len(richer[1]) == len(data.by_picture()[1])
    assert len(richer[2]) > len(data.by_picture()[2])
