"""What is asked about what is there and what is not, the shares of the answers, and the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core import checkpoint
from jmceln_core.answer import RawAnswer, Status
from jmceln_core.config import ConfigError, DecisionConfig
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture, read_coco
from jmceln_core.data.left_out import left_out_pictures, unknown_words
from jmceln_core.evaluation import existence
from jmceln_core.model import build_model
from jmceln_core.segmenter import Segmenter
from jmceln_core.synthesis.vocabulary import known_categories, names_of
from support.tiny import TINIER

HEIGHT, WIDTH = 40, 60
CONFIG = dataclasses.replace(TINIER, decision=DecisionConfig(present=0.5, confident=0.5))
# Of each picture: category, x, y, w, h, crowd. The sizes against 24 pixels, one percent of the picture.
TRAIN = {25: [("giraffe", 0, 0, 20, 30, 0)], 72: [("giraffe", 0, 0, 9, 9, 0), ("giraffe", 30, 0, 9, 9, 0)], 73: []}
HELDOUT = {
    163497: [("giraffe", 5, 5, 20, 20, 0), ("cell phone", 40, 0, 5, 5, 0), ("bird", 50, 0, 4, 6, 0)],
    8: [("person", 0, 0, 10, 30, 0), ("person", 20, 0, 3, 3, 0), ("dog", 30, 0, 9, 9, 0), ("dog", 40, 9, 9, 9, 1)],
}


def thing(key, category, x, y, w, h, crowd):
    return Instance(key, category, [[x, y, x + w, y, x + w, y + h, x, y + h]], (x, y, w, h), bool(crowd))


def drawn(things, **options):
    """Pictures by id, their instances numbered from ten times the id."""
    pictures = {
        key: Picture(
            *(key, Path(f"{key}.png"), HEIGHT, WIDTH),
            tuple(thing(10 * key + n, *values) for n, values in enumerate(rows)),
            **options,
        )
        for key, rows in things.items()
    }
    return GroundingData(pictures)


def write(folder, split, data, expressions=(), plural=(), absent=()):
    """A data set in the layout of `read_coco`, its pictures grey."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = sorted({i.category for p in data.pictures.values() for i in p.instances})
    for key in data.pictures:
        cv2.imwrite(str(folder / "images" / f"{key}.png"), np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    instances = {
        "images": [{"id": k, "file_name": f"{k}.png", "height": HEIGHT, "width": WIDTH} for k in data.pictures],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [
            {
                **{"id": i.id, "image_id": key, "category_id": names.index(i.category), "bbox": list(i.box)},
                **{"segmentation": i.segmentation, "iscrowd": int(i.crowd)},
            }
            for key, picture in data.pictures.items()
            for i in picture.instances
        ],
    }
    (folder / f"instances_{split}.json").write_text(json.dumps(instances))
    said = {"expressions": list(expressions), "plural": list(plural), "absent": list(absent)}
    (folder / f"expressions_{split}.json").write_text(json.dumps(said))


@pytest.fixture
def root(tmp_path):
    """coco_mini in miniature, and a set of pairs."""
    data = tmp_path / "data"
    write(data / "coco_mini", "train", drawn(TRAIN))
    write(data / "coco_mini", "heldout", drawn(HELDOUT))
    write(
        *(data / "twins", "heldout", drawn({1: [("cup", 0, 0, 20, 30, 0), ("cup", 40, 0, 20, 30, 0)]})),
        expressions=[
            {"image_id": 1, "ann_id": 10, "kind": "colour: twin", "text": "the red cup"},
            {"image_id": 1, "ann_id": 11, "kind": "colour", "text": "the blue cup"},
        ],
        plural=[{"image_id": 1, "ann_ids": [10, 11], "text": "both cups"}],
        absent=[{"image_id": 1, "text": "the green cup"}],
    )
    return data


class LeftThird(Segmenter):
    """Answers with the left third of the picture, and denies what it is told to."""

    denied: tuple[str, ...] = ()
    asked: list[list[str]]

    def __init__(self, model, config, **options):
        super().__init__(model, config, **options)
        self.asked = []

    def _see(self, square):
        return None

    def _look_for(self, sentences, image, letterbox, *, follow=0.0):
        self.asked.append(sentences)
        probability = np.zeros((HEIGHT, WIDTH), np.float32)
        probability[:, : WIDTH // 3] = 0.9
        return [RawAnswer(probability, 0.1 if text in self.denied else 0.9, None) for text in sentences]


@pytest.fixture
def segmenter():
    return LeftThird(build_model(CONFIG), CONFIG, device="cpu")


def said(data):
    return [(e.picture_id, e.text, e.targets, e.kind) for e in data.expressions]


# What is asked ----------------------------------------------------------------------------------------------------


def test_bare_names_of_what_is_plainly_there():
    # The bird covers one percent and not more; of the persons, one does, and a crowd makes the dog several.
    assert said(existence.bare_names(drawn(HELDOUT))) == [
        (163497, "the giraffe", (1634970,), "one"),
        (163497, "the phone", (1634971,), "one"),
        (8, "the person", (80, 81), "several"),
        (8, "the dog", (82,), "several"),
    ]
    assert not existence.bare_names(drawn(HELDOUT, complete=False)).expressions


def test_the_giraffes_are_told_apart_by_what_training_saw():
    asked = said(existence.giraffes(drawn(HELDOUT), drawn(TRAIN), {25, 73}))
    for text in existence.MISSION:
        assert [(key, targets, row) for key, spoken, targets, row in asked if spoken == text] == [
            (163497, (1634970,), f"{text}, kept out of training"),
            (25, (250,), f"{text}, kept out of training"),
            (72, (720, 721), f"{text}, trained on"),
        ]
    assert len(asked) == 6


def test_unknown_words_are_asked_where_no_such_thing_can_be():
    data = drawn({key: [("dog", 0, 0, 9, 9, 0)] for key in range(1, 4)} | {key: [] for key in range(4, 9)})
    words = {"the dog": "English", "das U-Boot": "other languages"}
    asked = said(existence.unknown(data, words))
    assert [(text, targets, row) for _, text, targets, row in asked] == [
        *[("the dog", (), "English")] * 2,
        *[("das U-Boot", (), "other languages")] * 2,
    ]
    assert said(existence.unknown(data, words)) == asked
    data.pictures[4] = dataclasses.replace(data.pictures[4], complete=False)
    drawings = [said(existence.unknown(data, words, seed=seed)) for seed in range(20)]
    assert {key for asked in drawings for key, text, *_ in asked if text == "the dog"} == {5, 6, 7, 8}
    assert {key for asked in drawings for key, text, *_ in asked if text != "the dog"} == {1, 2, 3, 5, 6, 7, 8}
    assert all(first[0] != second[0] for asked in drawings for first, second in (asked[:2], asked[2:]))


def test_pairs_by_the_beginning_of_their_kind_and_how_many_are_meant(root):
    assert [(e.text, e.kind) for e in existence.pairs(read_coco(root / "twins", "heldout")).expressions] == [
        ("the red cup", "colour, one thing"),
        ("the blue cup", "colour, one thing"),
        ("the green cup", "absent, nothing"),
        ("both cups", "plural, several things"),
    ]


# The lists --------------------------------------------------------------------------------------------------------


def test_the_shipped_lists():
    assert left_out_pictures() == {25, 136, 57345, 261712, 485895}
    groups = list(unknown_words().values())
    assert {group: groups.count(group) for group in groups} == dict.fromkeys(
        ("English", "other languages", "nonsense"), 20
    )
    # No word of the table of names, which sentences are made of, is among the unknown ones.
    known = {word for kind in known_categories() for name in names_of(kind).heard for word in name.split()}
    assert not known & {word for text in unknown_words() for word in text.lower().split()}


def test_the_shipped_lists_fit_the_development_data(shared_data):
    folder = shared_data("coco_mini")
    train, heldout = (read_coco(folder, split) for split in ("train", "heldout"))
    kept = {key for key in left_out_pictures() if existence._things(train.pictures[key], "giraffe")}
    assert kept == left_out_pictures()
    cutouts = json.loads((shared_data("cutouts") / "cutouts.json").read_text())
    texts = [e.text for data in (train, heldout) for e in data.expressions]
    known = {word for text in texts for word in text.lower().split()}
    known |= {word for row in cutouts for word in row["kind"].replace("_", " ").split()}
    words = {word for text in unknown_words() for word in text.lower().split()} - {"the", "a", "red", "big"}
    assert not known & words
    asked = existence.unknown(heldout, unknown_words())
    assert len(asked.expressions) == 120
    rows = [e.kind for e in existence.bare_names(heldout).expressions]
    assert (rows.count("one"), rows.count("several")) == (166, 97)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (left_out_pictures, "# ids\n25\n-3\n", r"list.txt:3: '-3' is not the id of a picture"),
        (left_out_pictures, "# none\n", "list.txt: has no entry"),
        (unknown_words, "English: a\nthe sextant\n", "list.txt:2: 'the sextant' is not GROUP: SENTENCE"),
        (unknown_words, "English:\n", "list.txt:1: 'English:' is not GROUP: SENTENCE"),
        (unknown_words, "English: a\n\nother: a\n", "list.txt:3: 'a' is there twice"),
    ],
)
def test_a_list_that_is_wrong_is_refused(tmp_path, read, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "list.txt")
    with pytest.raises(ConfigError, match=r"nowhere\.txt: cannot be read"):
        read(tmp_path / "nowhere.txt")


# The answers ------------------------------------------------------------------------------------------------------


def test_shares_of_statuses_and_of_anchors_on_what_is_meant(root, segmenter):
    segmenter.denied = ("the green cup",)
    rows = existence.summarise(existence.ask(segmenter, existence.pairs(read_coco(root / "twins", "heldout"))))
    assert segmenter.asked == [["the red cup", "the blue cup", "the green cup", "both cups"]]  # in one go
    values = {row: {name: share["value"] for name, share in part["metrics"].items()} for row, part in rows.items()}
    none = dict.fromkeys((status.name for status in Status), 0)
    assert values == {
        "colour, one thing": none | {"FOUND": 1, existence.ANCHOR: 0.5, existence.NUMBER: 1},
        "plural, several things": none | {"FOUND": 1, existence.ANCHOR: 1, existence.NUMBER: 0},
        "absent, nothing": none | {"NOT_PRESENT": 1, existence.ANCHOR: None, existence.NUMBER: None},
    }


def test_who_denies_what_is_there_is_not_on_it(root, segmenter):
    data = existence.pairs(read_coco(root / "twins", "heldout"))
    segmenter.denied = ("the red cup", "both cups")
    answers = {a.expression.text: (a.status, a.on_it) for a in existence.ask(segmenter, data)}
    assert answers == {
        "the red cup": (Status.NOT_PRESENT, False),
        "the blue cup": (Status.FOUND, False),
        "the green cup": (Status.FOUND, False),
        "both cups": (Status.NOT_PRESENT, False),
    }


def test_a_picture_that_cannot_be_read_costs_its_sentences(root, segmenter, caplog):
    data = existence.pairs(read_coco(root / "twins", "heldout"))
    broken = dataclasses.replace(next(iter(data.pictures.values())), id=99, path=root / "gone.png")
    more = Expression(99, (), "a cat", data.expressions[0].kind)
    data = GroundingData(data.pictures | {99: broken}, [*data.expressions, more])
    answers = existence.ask(segmenter, data)
    assert [(a.expression.text, a.on_it) for a in answers if a.status is None] == [("a cat", False)]
    assert "gone.png" in caplog.text
    rows = existence.summarise(answers, draws=10)
    assert rows[more.kind]["unread"] == 1
    text = existence.markdown(
        {"interval": {"level": 0.95, "draws": 10}, "checkpoints": {}, "limit": None, "found": {"x": {"Twins": rows}}}
    )
    assert f"{more.kind}, x: 1 sentences count 0" in text
    with pytest.raises(DataError, match=r"gone\.png"):
        existence.ask(segmenter, GroundingData({99: broken}, [more]))


def test_pictures_are_what_the_intervals_draw():
    said_of = {1: [True] * 4, 2: [False] * 4, 3: [False]}
    answers = [
        existence.Answer(Expression(key, (1,), "the cup", "one"), Status.FOUND if hit else Status.AMBIGUOUS, hit, hit)
        for key, hits in said_of.items()
        for hit in hits
    ]
    row = existence.summarise(answers, draws=200)["one"]
    assert (row["sentences"], row["pictures"]) == (9, 3)
    found = row["metrics"]["FOUND"]
    assert (found["value"], found["low"], found["high"]) == (pytest.approx(4 / 9), 0, 1)


# The command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(root, tmp_path, capsys, monkeypatch):
    """Runs the command on a checkpoint that LeftThird loads; returns (status, what it printed)."""
    path = checkpoint.save(tmp_path / "one.safetensors", build_model(CONFIG).state_dict(), CONFIG)
    monkeypatch.setattr(existence, "Segmenter", LeftThird)

    def call(*options, checkpoints=(str(path), f"again={path}")):
        words = [*checkpoints, "--root", str(root), "--out", str(tmp_path / "out"), "--draws", "20", "--device", "cpu"]
        return existence.main([*words, *options]), capsys.readouterr()

    return call


def test_one_command_one_table(run, tmp_path, root):
    status, printed = run("--pairs", "twins=twins/heldout", "--pairs", f"once more={root}/twins/heldout")
    assert status == 0
    text = (tmp_path / "out" / "existence.md").read_text()
    assert text in printed.out
    summary = json.loads((tmp_path / "out" / "existence.json").read_text())
    assert list(summary["found"]) == ["one", "again"]
    assert summary["found"]["one"]["twins"] == summary["found"]["one"]["once more"]
    for heading, rows in {
        "Bare names": ("| one | again | 2 | 1 | 0.000 | 0.500 | 1.000 | 1.000 |", "| several | one | 2 | 1 |"),
        "The mission's sentence": (
            "| the giraffe, kept out of training | one | 2 | 2 | 0.000 [0.000, 0.000] | 1.000 [1.000, 1.000] |",
            "| the giraffe, trained on | one | 1 | 1 | 0.000 | 0.000 | 0.000 | 1.000 |",
        ),
        "Unknown words": ("| English | one | 40 | 2 | 0.000 [0.000, 0.000] | – | – | 1.000 [1.000, 1.000] |",),
        "twins": ("| absent, nothing | one | 1 | 1 |", "| colour, one thing | one | 2 | 1 | 0.000 | 0.500 |"),
        "once more": ("| plural, several things | again | 1 | 1 |",),
    }.items():
        section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
        for row in rows:
            assert row in section


def test_a_limit_takes_so_many_pictures_of_each_part(run, tmp_path):
    assert run("--limit", "1")[0] == 0
    summary = json.loads((tmp_path / "out" / "existence.json").read_text())
    pictures = [row["pictures"] for part in summary["found"]["one"].values() for row in part.values()]
    assert pictures
    assert set(pictures) == {1}


@pytest.mark.parametrize(
    ("checkpoints", "options", "message"),
    [
        (["nowhere.safetensors"], (), "nowhere.safetensors: no such file"),
        (["bundled", "bundled"], (), "'bundled' is taken"),
        (["bundled"], ("--pairs", "twins"), "--pairs twins: must be NAME=FOLDER/SPLIT"),
        (["bundled"], ("--pairs", "a=twins/heldout", "--pairs", "a=twins/x"), "'a' is taken"),
        (["bundled"], ("--pairs", "Bare names=twins/heldout"), "the name is taken"),
        (["bundled"], ("--pairs", "a=twins/nosplit"), "instances_nosplit.json: no such file"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(run, tmp_path, checkpoints, options, message):
    status, printed = run(*options, checkpoints=checkpoints)
    assert status == 2
    assert message in printed.err
    assert not (tmp_path / "out").exists()
