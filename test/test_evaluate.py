"""The evaluation loop, its report and its command line, on drawn pictures and a segmenter that answers by script."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

from jmceln_core import checkpoint
from jmceln_core import evaluate as command
from jmceln_core.config import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from jmceln_core.data.grounding import DataError, GroundingData, read_coco
from jmceln_core.evaluation import baselines, report
from jmceln_core.evaluation.protocol import named
from jmceln_core.evaluation.run import Record, evaluate, subset
from jmceln_core.model import build_model
from jmceln_core.segmenter import Segmentation, Segmenter, Status

LAVT, CRIS = named("lavt"), named("cris")
HEIGHT, WIDTH = 40, 60

# Picture 1: two 10x10 balls and a 20x10 (w x h) box; a picture with nothing but absent sentences; one with no sentence.
BOXES = {11: (0, 0, 10, 10, 1), 12: (50, 30, 10, 10, 1), 13: (20, 10, 20, 10, 2), 21: (20, 10, 30, 20, 2)}
SENTENCES = {
    "expressions": [
        {"image_id": 1, "ann_id": 11, "kind": "short", "text": "left ball"},
        {"image_id": 1, "ann_id": 12, "kind": "full", "text": "the ball at the lower right"},
        {"image_id": 1, "ann_id": 13, "kind": "short", "text": "box"},
        {"image_id": 2, "ann_id": 21, "kind": "short", "text": "the only box"},
    ],
    "absent": [{"image_id": 1, "text": "a cat"}, {"image_id": 3, "text": "a dog"}],
    "plural": [{"image_id": 1, "ann_ids": [11, 12], "text": "both balls"}],
}


@pytest.fixture
def root(tmp_path):
    """A data set of drawn pictures in the layout `read_coco` takes, split `drawn`."""
    (tmp_path / "images").mkdir()
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for picture in (1, 2, 3, 4):
        shown = pixels.copy()
        for key, (x, y, w, h, _) in BOXES.items():
            if key // 10 == picture:
                shown[y : y + h, x : x + w] = (200, 40, 40)
        cv2.imwrite(str(tmp_path / "images" / f"{picture}.png"), shown)
    annotations = [
        {
            "id": key,
            "image_id": key // 10,
            "category_id": category,
            "bbox": [x, y, w, h],
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
        for key, (x, y, w, h, category) in BOXES.items()
    ]
    images = [{"id": p, "file_name": f"{p}.png", "height": HEIGHT, "width": WIDTH} for p in (1, 2, 3, 4)]
    categories = [{"id": 1, "name": "ball"}, {"id": 2, "name": "box"}]
    (tmp_path / "instances_drawn.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (tmp_path / "expressions_drawn.json").write_text(json.dumps(SENTENCES))
    return tmp_path


@pytest.fixture
def data(root) -> GroundingData:
    return read_coco(root, "drawn")


def rectangle(x, y, w, h):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    return mask


class Scripted:
    """Answers as a Segmenter would, from a table: sentence -> (mask, anchor, status)."""

    name, device = "scripted", "cpu"

    def __init__(self, **answers):
        self.answers = {text.replace("_", " "): answer for text, answer in answers.items()}
        self.calls = []

    def set_image(self, rgb):
        assert rgb.dtype == np.uint8
        assert rgb.shape == (HEIGHT, WIDTH, 3)
        self.calls.append("image")

    def segment(self, text, *, probability=False):
        self.calls.append(text)
        nothing = (np.zeros((HEIGHT, WIDTH), bool), None, Status.NOT_PRESENT)
        mask, anchor, status = self.answers.get(text, nothing)
        return Segmentation(mask, status, 0.75, None, anchor, None, int(mask.sum()), None, 0.0)


def scripted():
    return Scripted(
        left_ball=(rectangle(0, 0, 10, 8), (4, 4), Status.FOUND),  # I 80, U 100: .8
        the_ball_at_the_lower_right=(rectangle(0, 0, 10, 10), (5, 5), Status.FOUND),  # the other ball: 0
        box=(rectangle(20, 10, 10, 10), (35, 15), Status.AMBIGUOUS),  # I 100, U 200: .5, the anchor beyond the mask
        the_only_box=(rectangle(20, 10, 30, 20), (5, 5), Status.LOW_CONFIDENCE),  # 1, the anchor astray
        both_balls=(rectangle(0, 0, 10, 10), (5, 5), Status.FOUND),  # I 100, U 200: .5
        a_cat=(rectangle(0, 0, 5, 5), (2, 2), Status.FOUND),  # should have been rejected; "a dog" is
    )


def values(summary):
    return {name: interval["value"] for name, interval in summary["metrics"].items()}


def test_every_sentence_once_and_the_image_half_once_a_picture(data):
    segmenter = scripted()
    found = evaluate(segmenter, data, protocol=LAVT)
    # Two calls to warm up, then picture by picture; picture 4 has no sentence and is not read.
    assert segmenter.calls[:2] == ["image", "something"]
    assert segmenter.calls[2:] == [
        *("image", "left ball", "the ball at the lower right", "box", "a cat", "both balls"),
        *("image", "the only box"),
        *("image", "a dog"),
    ]
    assert [record.text for record in found.records if record.first] == ["left ball", "the only box", "a dog"]
    assert all(record.seconds > 0 for record in found.records)


def test_records_hold_the_comparison_at_the_pictures_own_size(data):
    records = {record.text: record for record in evaluate(scripted(), data, protocol=LAVT).records}
    left = records["left ball"]
    assert dataclasses.replace(left, seconds=None) == Record(
        *(1, (11,), "left ball", "short", "written"),
        **{"intersection": 80, "union": 100, "area": 100, "pointed": True},
        **{"status": "found", "score": 0.75, "first": True},
    )
    assert (records["both balls"].intersection, records["both balls"].union) == (100, 200)
    assert (records["a cat"].union, records["a cat"].area, records["a cat"].pointed) == (25, 0, False)
    assert records["a dog"].rejected
    assert not records["a cat"].rejected
    assert not records["the only box"].pointed


def test_summary_counts_single_targets_apart_from_plural_and_absent(data):
    summary = report.summarise(evaluate(scripted(), data, protocol=LAVT), draws=200)
    assert values(summary) == pytest.approx(
        {
            "mIoU": (0.8 + 0 + 0.5 + 1) / 4,
            "oIoU": (80 + 0 + 100 + 600) / (100 + 200 + 200 + 600),
            **{"Pr@0.5": 3 / 4, "Pr@0.6": 2 / 4, "Pr@0.7": 2 / 4, "Pr@0.8": 2 / 4, "Pr@0.9": 1 / 4},
            "pointing": 2 / 4,
        }
    )
    assert (summary["sentences"], summary["pictures"]) == (4, 2)
    assert values(summary["plural"])["mIoU"] == 0.5
    # Two absent sentences, one rejected; the five with targets are all kept.
    assert values(summary["gres"]) == pytest.approx(
        {
            "gIoU": (0.8 + 0 + 0.5 + 1 + 0.5 + 0 + 1) / 7,
            "cIoU": (80 + 100 + 600 + 100) / (100 + 200 + 200 + 600 + 200 + 25),
            "N_acc": 1 / 2,
            "T_acc": 1,
        }
    )
    assert summary["status"]["absent"] == {"found": 1, "not_present": 1}
    assert summary["seconds"]["frame"]["count"] == 3
    assert summary["seconds"]["sentence"]["count"] == 4
    assert summary["machine"]["cores"] >= 1


def test_breakdowns_split_the_single_target_sentences(data):
    summary = report.summarise(evaluate(scripted(), data, protocol=LAVT), draws=200)
    assert values(summary["by_kind"]["full"])["mIoU"] == 0
    assert values(summary["by_kind"]["short"])["mIoU"] == pytest.approx(2.3 / 3)
    assert sum(row["sentences"] for row in summary["by_size"].values()) == 4
    assert set(summary["by_size"]) == {"small"}


@pytest.mark.parametrize(
    ("area", "size"),
    [(0, "small"), (1023, "small"), (1024, "medium"), (9215, "medium"), (9216, "large"), (10**9, "large")],
)
def test_coco_sizes(area, size):
    assert report.size_of(area) == size


def test_the_protocol_decides_what_counts_at_a_threshold(data):
    summary = report.summarise(evaluate(scripted(), data, protocol=CRIS), draws=50)
    assert values(summary)["Pr@0.5"] == 2 / 4  # the IoU of exactly .5 counts no more
    assert summary["protocol"]["name"] == "cris"


def test_generated_sentences_do_not_enter_the_main_metrics(data):
    expressions = [dataclasses.replace(e, origin="generated") if e.text == "left ball" else e for e in data.expressions]
    summary = report.summarise(evaluate(scripted(), GroundingData(data.pictures, expressions), protocol=LAVT), draws=50)
    assert (summary["sentences"], summary["generated"]["sentences"]) == (3, 1)
    assert values(summary["generated"])["mIoU"] == 0.8


# Trivial answers --------------------------------------------------------------------------------------------------


def test_trivial_answers(data):
    found = evaluate(scripted(), data, protocol=LAVT)
    summary = report.summarise(found, draws=50)["trivial"]
    assert list(summary) == list(baselines.TRIVIAL)
    # 100, 100, 200 and 600 pixels of 2400.
    assert values(summary["whole picture"])["mIoU"] == pytest.approx(1000 / 2400 / 4)
    # The middle 30 x 20 pixels: columns 15 to 45, rows 10 to 30.
    assert values(summary["centred box"])["mIoU"] == pytest.approx((0 + 0 + 200 / 600 + 500 / 700) / 4)
    # Its deepest points lie near the picture's middle: inside the only box, far from the balls.
    pointed = {record.text: record.pointed for record in found.trivial["centred box"]}
    assert pointed["the only box"]
    assert not pointed["left ball"]
    # Each ball against both, and the boxes alone of their class.
    of_class = values(summary["all of the right class"])
    assert of_class["mIoU"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert of_class["oIoU"] == pytest.approx(1000 / (200 + 200 + 200 + 600))
    assert values(summary["all of the right class"]["plural"])["mIoU"] == 1
    # They never reject, and say nothing of sentences without a target.
    assert "gres" not in summary["whole picture"]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 4), (480, 640)])
def test_centred_box_is_centred(height, width):
    mask = baselines.centred_box(height, width)
    assert mask.sum() == ((height + 1) // 2) * ((width + 1) // 2)
    rows, columns = np.nonzero(mask)
    assert abs((rows.min() + rows.max()) - (height - 1)) <= 1
    assert abs((columns.min() + columns.max()) - (width - 1)) <= 1


def test_class_oracle_skips_crowds_and_nameless_classes(data):
    picture = data.pictures[1]
    crowd = tuple(dataclasses.replace(i, crowd=i.id == 12) for i in picture.instances)
    assert baselines.all_of_class(dataclasses.replace(picture, instances=crowd), (11,)).sum() == 100
    nameless = tuple(dataclasses.replace(i, category="thing") for i in picture.instances)
    assert baselines.all_of_class(dataclasses.replace(picture, instances=nameless), (11,)) is None


def test_without_a_segmenter_no_picture_is_read(data, root):
    for file in (root / "images").iterdir():
        file.unlink()
    found = evaluate(None, data, protocol=LAVT)
    assert found.records == []
    assert len(found.trivial["centred box"]) == 5


def test_an_unreadable_picture_is_named(data, root):
    (root / "images" / "2.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"2\.png"):
        evaluate(scripted(), data, protocol=LAVT)


def test_subset_is_seeded_and_keeps_all_sentences_of_a_picture(data):
    chosen = {seed: subset(data, 2, seed) for seed in range(8)}
    assert all(len(part.pictures) == 2 for part in chosen.values())
    assert len({tuple(part.pictures) for part in chosen.values()}) > 1
    assert subset(data, 2, 3) == chosen[3]
    for part in chosen.values():
        assert part.expressions == [e for e in data.expressions if e.picture_id in part.pictures]
        assert 4 not in part.pictures  # it has no sentence
    assert len(subset(data, 100, 0).pictures) == 3
    assert subset(data, 0, 0).expressions == []


# What is written --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, root, tmp_path, capsys):
    """Runs the command line on the drawn data with the scripted segmenter; returns (status, its output folder)."""
    loaded = []
    monkeypatch.setattr(
        Segmenter, "load", classmethod(lambda _, name, **options: loaded.append((name, options)) or scripted())
    )

    def run(checkpoint="some.safetensors", *options, split="drawn"):
        output = tmp_path / "results" / "deep"
        arguments = [checkpoint, "--data.root", str(root), "--data.dataset", "coco", "--split", split]
        status = command.main([*arguments, "--output", str(output), "--draws", "100", *options])
        return status, output, loaded, capsys.readouterr()

    return run


def test_command_writes_json_records_and_tables(run):
    status, output, loaded, printed = run("some.safetensors", "--device", "cpu")
    assert status == 0
    assert loaded == [("some.safetensors", {"device": "cpu", "precision": None})]
    assert sorted(file.name for file in output.iterdir()) == ["metrics.json", "records.jsonl", "table.md"]

    def refuse(constant):
        raise AssertionError(f"{constant} is not json")

    summary = json.loads((output / "metrics.json").read_text(), parse_constant=refuse)
    assert (summary["model"], summary["split"], summary["dataset"]) == ("scripted", "drawn", "coco")
    miou = summary["metrics"]["mIoU"]
    assert miou["low"] <= miou["value"] <= miou["high"]

    records = [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]
    assert len(records) == 7
    assert {r["text"]: r["iou"] for r in records}["box"] == 0.5
    assert {r["text"]: r["status"] for r in records}["box"] == "ambiguous"

    table = (output / "table.md").read_text()
    assert table in printed.out
    heads = [line for line in table.splitlines() if "| sentences |" in line]
    assert len(heads) >= 3
    assert all("`lavt`" in head for head in heads)
    row = next(line for line in table.splitlines() if line.startswith("| scripted |"))
    assert row.startswith("| scripted | 4 | 2 | 0.575 [")
    # Every row of a table has as many cells as its head.
    for block in table.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_command_without_a_model_gives_the_trivial_answers(run):
    status, output, loaded, _ = run("none")
    assert status == 0
    assert not loaded
    summary = json.loads((output / "metrics.json").read_text())
    assert summary["model"] is None
    assert "metrics" not in summary
    assert set(summary["trivial"]) == set(baselines.TRIVIAL)
    assert not (output / "records.jsonl").exists()


def test_command_limits_pictures(run):
    _, output, _, _ = run("none", "--limit", "1")
    summary = json.loads((output / "metrics.json").read_text())
    assert summary["limit"] == 1
    assert all(row["pictures"] <= 1 for row in summary["trivial"].values())


def test_command_names_a_missing_file_and_writes_nothing(run):
    status, output, _, printed = run(split="nowhere")
    assert status == 2
    assert "instances_nowhere.json" in printed.err
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", "0"), "0 is not positive"),
        (("--draws", "-1"), "-1 is not positive"),
        (("--protocol", "mine"), "lavt"),
        (("--data.dataset", "nothing"), "coco"),
        (("--precision", "fp8"), "fp32"),
    ],
)
def test_command_refuses_before_any_work(run, capsys, options, message):
    with pytest.raises(SystemExit):
        run("none", *options)
    assert message in capsys.readouterr().err


def test_command_refuses_a_foreign_checkpoint(root, tmp_path, capsys):
    file = tmp_path / "foreign.safetensors"
    file.write_bytes(b"nonsense")
    assert command.main([str(file), "--data.root", str(root), "--split", "drawn", "--output", str(tmp_path / "o")]) == 2
    assert "foreign.safetensors" in capsys.readouterr().err


def test_a_checkpoint_of_a_tiny_network_from_file_to_table(root, tmp_path, capsys):
    config = ModelConfig(
        name="tiny",
        image_size=64,
        image_encoder=ImageEncoderConfig(name="tiny", channels=16),
        text_encoder=TextEncoderConfig(name="tiny", tokens=8),
        **{"channels": 16, "stages": 1, "queries": 3, "heads": 2, "window": 4, "head_channels": (8, 8, 8)},
    )
    torch.manual_seed(0)
    file = checkpoint.save(tmp_path / "tiny.safetensors", build_model(config).state_dict(), config)
    output = tmp_path / "results"
    arguments = [str(file), "--data.root", str(root), "--data.dataset", "coco", "--split", "drawn"]
    assert command.main([*arguments, "--output", str(output), "--device", "cpu"]) == 0
    summary = json.loads((output / "metrics.json").read_text())
    assert summary["model"] == "tiny"
    assert summary["sentences"] == 4
    assert 0 <= summary["metrics"]["mIoU"]["value"] <= 1
    assert summary["seconds"]["frame"]["median"] > 0
    assert "| tiny | 4 | 2 |" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(data):
    found = evaluate(scripted(), data, protocol=LAVT)
    assert report.summarise(found, draws=100, seed=4) == report.summarise(found, draws=100, seed=4)
