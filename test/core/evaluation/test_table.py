"""Checkpoints on many sets in one table: the sets' file, what is kept and taken up again, the command."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import pytest
import yaml

from jmceln_core.config import ConfigError
from jmceln_core.data.grounding import DataError
from jmceln_core.evaluation import report, table
from jmceln_core.evaluation.sets import EvalSet, digest, read_sets
from jmceln_core.segmenter import Segmenter
from support import discs, refer_miniature, tiny
from support.tiny import TINIER

SETS = {
    "written": {"root": "discs", "split": "train"},
    "drawn": {"root": "discs", "split": "train", "generated": 2, "plurals": 1, "absent": 1},
    "boxes": {"dataset": "refcocos", "root": "boxes", "split": "all"},
}


@pytest.fixture
def root(tmp_path):
    """Drawn discs, and two sentences with boxes about one of the pictures."""
    discs.build(tmp_path / "data", pictures=3)
    images = tmp_path / "data" / "boxes" / "images"
    images.mkdir(parents=True)
    shutil.copy(tmp_path / "data" / "discs" / "images" / "1.png", images)
    about = {"image": "1.png", "width": 64, "height": 48, "categories": {"hops": "2"}}
    boxes = [about | {"text": "red ball", "box_xyxy": [3, 5, 19, 21]}, about | {"text": "a cat", "box_xyxy": None}]
    (tmp_path / "data" / "boxes" / "all.json").write_text(json.dumps(boxes))
    return tmp_path / "data"


@pytest.fixture
def sets(tmp_path):
    path = tmp_path / "sets.yaml"
    path.write_text(yaml.safe_dump(SETS, sort_keys=False))
    return path


@pytest.fixture
def run(root, sets, tmp_path, capsys, monkeypatch):
    """Runs the command; returns (status, what it printed, the labels and sets it measured)."""
    networks = [
        tiny.write(tmp_path / f"{name}.safetensors", TINIER, seed=seed) for seed, name in enumerate(("one", "two"))
    ]
    measured = []
    measure = table._measure

    def spied(segmenter, data, folder, **options):
        measured.append(f"{folder.parent.name}/{folder.name}")
        return measure(segmenter, data, folder, **options)

    monkeypatch.setattr(table, "_measure", spied)

    def call(*options, checkpoints=None):
        measured.clear()
        named = [str(networks[0]), f"second={networks[1]}"] if checkpoints is None else checkpoints
        words = [*named, "--sets", str(sets), "--root", str(root), "--output", str(tmp_path / "out")]
        status = table.main([*words, "--draws", "20", "--device", "cpu", *options])
        return status, capsys.readouterr(), list(measured)

    return call


# The sets ---------------------------------------------------------------------------------------------------------


def test_the_shipped_sets_are_those_of_the_development_data(shared_data):
    sets = read_sets("bundled")
    assert list(sets) == [
        *("coco_mini_written", "coco_mini_generated", "tote", "refcoco_dev", "rendered_heldout", "refcocos")
    ]
    data_root = shared_data("coco_mini").parent
    found = {name: spec.load([data_root]) for name, spec in sets.items() if name != "rendered_heldout"}
    assert {e.origin for e in found["coco_mini_written"].expressions} == {"written"}
    drawn = found["coco_mini_generated"].expressions
    assert {e.origin for e in drawn} == {"generated"}
    assert {min(len(e.targets), 2) for e in drawn} == {0, 1, 2}
    assert not any(picture.complete for picture in found["refcoco_dev"].pictures.values())
    assert len(found["refcocos"].expressions) == 377


def test_the_fields_eight_splits_are_one_file(tmp_path):
    sets = read_sets("refer")
    assert [(spec.dataset, spec.split) for spec in sets.values()] == [
        *(("refcoco", "val"), ("refcoco", "testA"), ("refcoco", "testB")),
        *(("refcoco+", "val"), ("refcoco+", "testA"), ("refcoco+", "testB")),
        *(("refcocog", "val"), ("refcocog", "test")),
    ]
    assert not any(spec.subset or spec.split_by for spec in sets.values())  # all of the usual divisions
    root = refer_miniature.build(tmp_path)
    for spec in sets.values():
        assert dataclasses.replace(spec, subset=True).load([root]).expressions


def test_drawn_sentences_are_a_function_of_the_seed(root):
    spec = EvalSet(**SETS["drawn"])
    first = spec.load([root])
    assert first.expressions
    assert digest(first) == digest(spec.load([root]))
    assert digest(first) != digest(dataclasses.replace(spec, seed=1).load([root]))


def test_the_digest_tells_sentences_and_outlines_apart_but_not_places(root, tmp_path):
    spec = EvalSet(**SETS["written"])
    before = digest(spec.load([root]))
    shutil.copytree(root, tmp_path / "elsewhere")
    assert digest(spec.load([tmp_path / "elsewhere"])) == before
    for name, old, new in (("expressions", "red ball", "crimson ball"), ("instances", '"iscrowd": 0', '"iscrowd": 1')):
        path = tmp_path / "elsewhere" / "discs" / f"{name}_train.json"
        text = path.read_text()
        path.write_text(text.replace(old, new, 1))
        assert digest(spec.load([tmp_path / "elsewhere"])) != before
        path.write_text(text)


def test_a_limit_takes_so_many_pictures(root):
    for name in SETS:
        data = EvalSet(**SETS[name]).load([root], limit=1)
        assert len({e.picture_id for e in data.expressions}) == 1
        assert len(data.pictures) == 1


def test_the_first_root_that_has_the_folder_counts(root, tmp_path):
    spec = EvalSet(**SETS["written"])
    assert spec.folder([tmp_path / "empty", root]) == root / "discs"
    with pytest.raises(DataError, match=r"discs: no such folder below .*empty.*--root"):
        spec.load([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no set"),
        ("a: 3", "a: must be fields"),
        ("a: {root: x}", "a: split is missing"),
        ("a: {root: x, split: y, dataset: coca}", "a.dataset=coca: no such data set; there are coco"),
        ("a: {root: x, split: y, limits: 3}", r"a\.limits: no such field"),
        ("a/b: {root: x, split: y}", "'a/b': names a folder"),
    ],
)
def test_a_file_of_sets_that_is_wrong_is_refused(tmp_path, text, message):
    (tmp_path / "sets.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sets(tmp_path / "sets.yaml")


# The command ------------------------------------------------------------------------------------------------------


def test_one_command_one_table(run, tmp_path):
    status, printed, measured = run()
    assert status == 0
    assert measured == [f"{label}/{name}" for label in ("one", "second", "trivial") for name in SETS]
    out = tmp_path / "out"
    text = (out / "table.md").read_text()
    assert text in printed.out
    for label in ("one", "second"):
        for name in SETS:
            files = sorted(file.name for file in (out / label / name).iterdir())
            assert files == ["metrics.json", "records.jsonl", "reliability.svg", "table.md"]
    found = json.loads((out / "table.json").read_text())
    assert list(found) == list(SETS)
    assert found["written"]["one"] == json.loads((out / "one" / "written" / "metrics.json").read_text())
    # The numbers of the table are those of the records.
    records = report.read_records(out / "second" / "written" / "records.jsonl")
    single = [r for r in records if len(r.targets) == 1]
    miou = sum(r.intersection / r.union for r in single) / len(single)
    row = next(line for line in text.splitlines() if line.startswith("| written | second | 9 | 3 |"))
    assert row.split("|")[5].split()[0] == f"{miou:.3f}"
    assert all(record.presence is not None for record in records)
    # Beside it the trivial answers, and in the other sections every checkpoint.
    for name in ("whole picture", "centred box", "all of the right class"):
        assert f"| written | {name} | 9 | 3 |" in text
    for heading in (
        *("One target", "Boxes", "Sentences that mean nothing", "What the answers lie on", "What a status is worth"),
        *("What a score is worth", "By size", "By phrase", "Boxes by hops"),
    ):
        section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
        assert "| one |" in section
        assert "| second |" in section
    assert (
        "| drawn | discs, split train (dataset coco), rule-made sentences: 2 generated, 1 plurals, 1 absent |" in text
    )
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_the_same_command_goes_on_where_it_stopped(run, tmp_path, root):
    _, first, _ = run()
    shutil.rmtree(tmp_path / "out" / "second" / "drawn")
    (tmp_path / "out" / "one" / "boxes" / "metrics.json").write_text('{"half')
    kept = os.stat(tmp_path / "out" / "one" / "written" / "metrics.json").st_mtime_ns
    status, again, measured = run()
    assert (status, measured) == (0, ["one/boxes", "second/drawn"])
    assert again.out == first.out
    assert os.stat(tmp_path / "out" / "one" / "written" / "metrics.json").st_mtime_ns == kept


def test_another_checkpoint_or_other_sentences_are_measured_again(run, tmp_path, root):
    run("--only", "written", "boxes")
    tiny.write(tmp_path / "one.safetensors", TINIER, seed=7)  # under the same name
    _, _, measured = run("--only", "written", "boxes")
    assert measured == ["one/written", "one/boxes"]
    path = root / "discs" / "expressions_train.json"
    path.write_text(path.read_text().replace("red ball", "crimson ball", 1))
    _, _, measured = run("--only", "written", "boxes")
    assert measured == ["one/written", "second/written", "trivial/written"]
    _, _, measured = run("--only", "written", "boxes", "--limit", "1")
    assert measured == ["one/written", "second/written", "trivial/written"]  # of the one picture with boxes, the same


def test_what_was_interrupted_keeps_what_was_done(run, tmp_path, monkeypatch):
    ask = Segmenter.raw_answers

    def broken(self, texts):
        if "a cat" in texts:
            raise RuntimeError("not finite with precision 'fp16': use 'bf16'")
        return ask(self, texts)

    monkeypatch.setattr(Segmenter, "raw_answers", broken)
    status, printed, measured = run()
    assert status == 2
    assert "use 'bf16'" in printed.err
    assert measured == ["one/written", "one/drawn", "one/boxes"]
    assert not (tmp_path / "out" / "table.md").exists()
    monkeypatch.setattr(Segmenter, "raw_answers", ask)
    status, _, measured = run()
    assert (status, measured[:2]) == (0, ["one/boxes", "second/written"])


@pytest.mark.parametrize("named", [False, True])
def test_a_path_may_have_an_equals_sign(tmp_path, named):
    path = tiny.write(tmp_path / "lr=1e-3" / "best.safetensors", TINIER)
    found = table.Candidate.parse(f"label={path}" if named else str(path))
    assert (found.label, found.path) == ("label" if named else "best", path)


def test_the_protocol_is_the_tables(run):
    _, printed, _ = run("--only", "written")
    assert "compared at the picture's own size." in printed.out
    _, printed, measured = run("--only", "written", "--protocol", "lavt")
    assert measured == ["one/written", "second/written", "trivial/written"]  # anew
    assert "squashed to 480 x 480 pixels, none is rejected." in printed.out
    assert "(`lavt`)" in printed.out
    _, _, measured = run("--only", "written", "--protocol", "lavt", "--no-reject")
    assert not measured  # it rejects nothing as it is
    _, _, measured = run("--only", "written", "--no-reject")
    assert measured


def test_a_set_with_an_unreadable_picture_is_measured_again(run, root):
    picture = root / "discs" / "images" / "1.png"
    whole = picture.read_bytes()
    picture.write_bytes(b"not a picture")
    status, printed, _ = run("--only", "written")
    assert status == 0
    assert "written, one: **1 pictures cannot be read: their" in printed.out
    picture.write_bytes(whole)
    _, printed, measured = run("--only", "written")
    assert measured == ["one/written", "second/written"]
    assert "cannot be read" not in printed.out


def test_trivial_answers_alone(run):
    status, printed, measured = run(checkpoints=[])
    assert (status, measured) == (0, [f"trivial/{name}" for name in SETS])
    assert "| boxes | centred box | 1 | 1 |" in printed.out
    assert "What a status" not in printed.out


@pytest.mark.parametrize(
    ("checkpoints", "options", "message"),
    [
        (["nowhere.safetensors"], (), "nowhere.safetensors: no such file"),
        (["runs/lr=1e-3/best.safetensors"], (), "runs/lr=1e-3/best.safetensors: no such file"),
        (["a:b=bundled"], (), "'a:b': names a folder"),
        (["trivial=bundled"], (), "'trivial' is taken"),
        (["bundled", "bundled"], (), "'bundled' is taken: give the checkpoint another label"),
        ([], ("--only", "writen"), "--only writen: no such set"),
        ([], ("--sets", "nothing"), "eval/nothing.yaml"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(run, tmp_path, checkpoints, options, message):
    status, printed, measured = run(*options, checkpoints=checkpoints)
    assert status == 2
    assert message in printed.err
    assert not measured
    assert not (tmp_path / "out").exists()
