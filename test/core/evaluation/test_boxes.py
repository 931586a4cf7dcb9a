"""Sentences with boxes: the reader, box IoU, the evaluation."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from jmceln_core.answer import RawAnswer
from jmceln_core.config import DecisionConfig
from jmceln_core.data.grounding import DataError
from jmceln_core.data.refcocos import BoxExpression, read_boxes
from jmceln_core.evaluation import boxes
from jmceln_core.evaluation.boxes import box_iou, box_of, evaluate, summarise

HEIGHT, WIDTH = 40, 60
ENTRIES = [
    ("a.png", "left ball", [0, 0, 10, 10], "2"),
    ("a.png", "a cat", None, "2"),
    ("b.png", "box", [20.5, 10, 40, 30], "3"),
    ("b.png", "a dog", None, "2"),
    ("b.png", "right ball", [50, 30, 60, 40], "2"),
]


def entry(image, text, box, hops):
    return {"image": image, "width": WIDTH, "height": HEIGHT, "text": text, "box_xyxy": box} | {
        "categories": {"hops": hops, "type": ["verb"]}
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    (tmp_path / "drawn.json").write_text(json.dumps([entry(*values) for values in ENTRIES]))
    return tmp_path


class Scripted:
    """Says what a network would, from a table: sentence -> (x, y, w, h, presence)."""

    name, device, decision = "scripted", "cpu", DecisionConfig(present=0.35)
    answers = {  # noqa: RUF012
        "left ball": (0, 0, 10, 5, 0.9),  # IoU .5
        "a cat": (0, 0, 60, 40, 0.6),
        "box": (20, 10, 20, 20, 0.8),  # the box begins half a pixel later
        "a dog": (0, 0, 0, 0, 0.1),
        "right ball": (0, 0, 5, 5, 0.3),
    }

    def set_image(self, rgb):
        assert rgb.shape == (HEIGHT, WIDTH, 3)

    def raw_answers(self, texts):
        return [self.raw(*self.answers.get(text, (0, 0, 0, 0, 0.5))) for text in texts]

    def raw(self, x, y, w, h, presence):
        map_ = np.full((HEIGHT, WIDTH), 0.1, np.float32)
        map_[y : y + h, x : x + w] = 0.8
        return RawAnswer(map_, presence, None)


def test_reader(root):
    data = read_boxes(root, "drawn")
    assert [picture.path.name for picture in data.pictures.values()] == ["a.png", "b.png"]
    assert [e.picture_id for e in data.expressions] == [0, 0, 1, 1, 1]
    assert data.expressions[2].box == (20.5, 10.0, 40.0, 30.0)
    assert data.expressions[2].hops == 3
    assert data.expressions[1].box is None
    assert data.pictures[0].load().shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"box_xyxy": [5, 5, 5, 9]}, r"entry 1.*no area"),
        ({"box_xyxy": [5, 5, 9]}, r"entry 1"),
        ({"width": 61}, r"entry 1.*another size"),
        ({"width": "wide"}, r"entry 1.*width is 'wide', must be a whole number from 1 on"),
        ({"image": 7}, r"entry 1.*image is 7, must be a text"),
        ({"text": None}, r"entry 1.*text is None, must be a text"),
        ({"box_xyxy": [0, 0, float("nan"), 9]}, r".*NaN is no number of json's"),
        ({"categories": {}}, r"entry 1.*hops"),
        ({"categories": {"hops": "many"}}, r"entry 1.*many"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(root, change, message):
    entries = [entry(*values) for values in ENTRIES]
    entries[1] |= change
    (root / "drawn.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match=r"drawn\.json: .*" + message):
        read_boxes(root, "drawn")


@pytest.mark.parametrize(("text", "message"), [("{}", "must be a list"), ("[", "cannot be read")])
def test_a_file_of_another_kind_is_refused(root, text, message):
    (root / "drawn.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_boxes(root, "drawn")
    with pytest.raises(DataError, match="elsewhere"):
        read_boxes(root, "elsewhere")


def test_box_of_a_mask():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    assert box_of(mask) is None
    mask[3, 7] = mask[9, 20] = True
    assert box_of(mask) == (7, 3, 21, 10)


def test_box_iou_against_counted_pixels():
    rng = np.random.default_rng(0)
    for _ in range(50):
        masks = np.zeros((2, 20, 30), bool)
        for mask in masks:
            (x0, x1), (y0, y1) = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in (30, 20))
            mask[y0:y1, x0:x1] = True
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert box_iou(*map(box_of, masks)) == pytest.approx(expected)
    assert box_iou(None, (0, 0, 1, 1)) == 0


def test_records_and_summary(root):
    found = evaluate(Scripted(), read_boxes(root, "drawn"))
    records = {record.text: record for record in found.records}
    assert list(records) == [values[1] for values in ENTRIES]
    assert {text: record.iou for text, record in records.items()} == {
        **{"left ball": 0.5, "a cat": 0, "box": pytest.approx(390 / 400), "a dog": 0, "right ball": 0}
    }
    assert [text for text, record in records.items() if record.pointed] == ["left ball", "box"]
    assert [text for text, record in records.items() if record.first] == ["left ball", "box"]
    summary = summarise(found, draws=50)
    assert {name: part["value"] for name, part in summary["metrics"].items()} == pytest.approx(
        {"box IoU": (0.5 + 390 / 400 + 0) / 3, "Pr@0.5": 2 / 3, "pointing": 2 / 3}
    )
    assert {hops: part["sentences"] for hops, part in summary["by_hops"].items()} == {"2": 2, "3": 1}
    assert summary["by_hops"]["3"]["metrics"]["Pr@0.5"]["value"] == 1
    gres = summary["gres"]
    # 95 % of three is all of them: the lowest presence of a target, .3, lies above that of "a dog" alone.
    assert {name: part["value"] for name, part in gres["metrics"].items()} == pytest.approx(
        {"N_acc": 1 / 2, "T_acc": 2 / 3, "N_acc@95": 1 / 2}
    )
    assert (gres["absent"], gres["threshold"], gres["threshold_of"]) == (2, 0.3, "presence")
    assert {name: (part["count"], part["right"]["value"]) for name, part in summary["answers"].items()} == {
        "found": (3, pytest.approx(2 / 3)),
        "not_present": (2, 1 / 2),
    }
    assert summary["calibration"]["answers"] == 3


def test_an_anchor_is_inside_a_box_by_its_pixels_centre():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    expression = BoxExpression(0, "box", (20.5, 10, 40, 30), 2)
    inside = {u: boxes._record(expression, mask, (u, 15)).pointed for u in (19.9, 20.0, 39.5, 39.6)}
    assert inside == {19.9: False, 20.0: True, 39.5: True, 39.6: False}


def test_an_unreadable_picture_costs_its_sentences(root):
    (root / "images" / "a.png").write_bytes(b"not a picture")
    found = evaluate(Scripted(), read_boxes(root, "drawn"))
    assert [record.text for record in found.records if record.unread] == ["left ball", "a cat"]
    summary = summarise(found, draws=10)
    assert summary["metrics"]["Pr@0.5"]["value"] == pytest.approx(1 / 3)
    assert (summary["unread"]["pictures"], summary["unread"]["sentences"]) == (1, 2)
    (root / "images" / "b.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"b\.png"):
        evaluate(Scripted(), read_boxes(root, "drawn"))


def test_trivial_answers_without_a_model(root):
    (root / "images" / "a.png").unlink()  # no picture is read
    found = evaluate(None, read_boxes(root, "drawn"))
    assert found.records == []
    summary = summarise(found, draws=50)
    assert set(summary["trivial"]) == {"whole picture", "centred box"}
    whole = summary["trivial"]["whole picture"]["metrics"]["box IoU"]["value"]
    assert whole == pytest.approx((100 + 390 + 100) / 2400 / 3)
    # The middle 30 x 20 pixels, columns 15 to 45 and rows 10 to 30, hold the box.
    centred = summary["trivial"]["centred box"]["metrics"]
    assert centred["box IoU"]["value"] == pytest.approx(390 / 600 / 3)
    assert centred["pointing"]["value"] == pytest.approx(1 / 3)


def test_written_files(root, tmp_path):
    about = {"checkpoint": "none", "dataset": "refcocos", "split": "drawn", "split_by": "", "subset": False}
    about |= {"limit": None, "root": str(root)}
    folder = tmp_path / "out"
    summary = boxes.write(evaluate(Scripted(), read_boxes(root, "drawn")), folder, about=about, draws=20)
    assert json.loads((folder / "metrics.json").read_text()) == summary
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert lines[1]["box"] is None
    assert lines[2]["box"] == [20.5, 10, 40, 30]
    table = (folder / "table.md").read_text()
    assert "## Sentences with a box" in table
    assert "| 3 | scripted | 1 | 1 | 0.975 | 1.000 | 1.000 |" in table
    assert "rejected by presence below 0.3000" in table
    assert (folder / "reliability.svg").exists()


def test_the_development_data_is_read_whole(shared_data):
    data = read_boxes(shared_data("refcocos"), "refcocos")
    assert (len(data.expressions), len(data.pictures)) == (377, 345)
    assert sum(e.box is None for e in data.expressions) == 14
    assert {e.hops for e in data.expressions} == {2, 3, 4, 5}
