"""One's own data in COCO's json: what is taken, what is named and left out, what is refused by name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import DataError, GroundingData, read_coco
from jmceln_core.data.readers import read, read_training
from support.refer_miniature import build

HEIGHT, WIDTH = 60, 80
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
Content = dict[str, list[dict[str, Any]]]


def thing(key: Any = 7, image: Any = 1, **values: Any) -> dict[str, Any]:
    return {"id": key, "image_id": image, "category_id": 1, "bbox": [10, 10, 20, 20], "segmentation": [SQUARE]} | values


def cut(part: int) -> dict[str, Any]:
    """A compressed outline without its second half (2), or without its last letter (1)."""
    disc = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (40, 30), 15, 1, -1)
    counts = coco_mask.encode(np.asfortranarray(disc))["counts"].decode()
    return {"size": [HEIGHT, WIDTH], "counts": counts[: len(counts) // 2 if part == 2 else -1]}


def content(**lists: Any) -> Content:
    """Two pictures; in the first one a thing and a sentence that means it."""
    plain = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (1, 2)],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [thing()],
        "expressions": [{"image_id": 1, "ann_id": 7, "text": "the cup"}],
    }
    return plain | lists


def write(root: Path, values: Any) -> Path:
    (root / "images").mkdir(exist_ok=True)
    for n in (1, 2):
        cv2.imwrite(str(root / "images" / f"{n}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (root / "mine.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return root


def coco(root: Path, values: Any) -> GroundingData:
    return read_coco(write(root, values), "mine")


def test_ids_may_be_whole_numbers_in_any_spelling(tmp_path: Path) -> None:
    values = content(
        images=[{"id": "1", "file_name": "1.png", "height": "60", "width": 80.0}],
        categories=[{"id": "1", "name": "cup"}],
        annotations=[thing("7", 1.0), thing(8.0, "1", category_id=1.0)],
        expressions=[{"image_id": 1, "ann_id": 7, "text": "a"}],
        plural=[{"image_id": "1", "ann_ids": ["7", 8, 7], "text": "both"}],
    )
    data = coco(tmp_path, values)
    assert [(p.id, p.height, p.width) for p in data.pictures.values()] == [(1, HEIGHT, WIDTH)]
    assert [(i.id, i.category) for i in data.pictures[1].instances] == [(7, "cup"), (8, "cup")]
    assert [(e.picture_id, e.targets) for e in data.expressions] == [(1, (7,)), (1, (7, 8))]
    assert not data.notes


@pytest.mark.parametrize("seed", range(20))
def test_compressed_runs_are_those_of_pycocotools(tmp_path: Path, seed: int) -> None:
    """Of masks of every kind: what it compressed is read as the same pixels."""
    rng = np.random.default_rng(seed)
    mask = rng.random((HEIGHT, WIDTH)) < rng.choice([0.001, 0.02, 0.5, 0.98])
    mask[5, 5] = True
    made = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": [HEIGHT, WIDTH], "counts": made["counts"].decode()}
    (instance,) = coco(tmp_path, content(annotations=[thing(segmentation=segmentation)])).pictures[1].instances
    np.testing.assert_array_equal(instance.mask(HEIGHT, WIDTH), mask)


def test_a_polygon_of_an_odd_count_of_numbers_is_left_out(tmp_path: Path) -> None:
    data = coco(tmp_path, content(annotations=[thing(segmentation=[[0, 0, 9, 0, 9, 9, 5], SQUARE])]))
    assert any("1 polygon" in note for note in data.notes)


def test_a_file_written_by_windows_is_read(tmp_path: Path) -> None:
    write(tmp_path, content(expressions=[{"image_id": 1, "ann_id": 7, "text": "die Tasse für Müller"}]))
    path = tmp_path / "mine.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_coco(tmp_path, "mine").expressions[0].text == "die Tasse für Müller"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": [content()["images"][0] | {"id": "a1"}]}, "entry 0 of images: id is 'a1', must be a whole number"),
        ({"images": [content()["images"][0] | {"id": -3}]}, "id is -3, must be a whole number from 0 on"),
        ({"images": [content()["images"][0] | {"id": 1.5}]}, "id is 1.5, must"),
        ({"images": [content()["images"][0] | {"id": True}]}, "id is True, must"),
        ({"images": [content()["images"][0] | {"id": None}]}, "id is None, must"),
        ({"images": [content()["images"][0] | {"id": 2**63}]}, "id is 9223372036854775808, must"),
        ({"images": [content()["images"][0] | {"height": 0}]}, "height is 0, must be a whole number from 1 on"),
        ({"images": [content()["images"][0] | {"complete": "false"}]}, "complete is 'false', must be 0 or 1"),
        ({"images": [content()["images"][0] | {"file_name": 7}]}, "file_name is 7, must be a text"),
        ({"images": content()["images"][:1] * 2}, "entry 1 of images: another picture has the id 1"),
        ({"images": {}}, "images must be a list, not dict"),
        ({"images": [1]}, "entry 0 of images is 1, must be an object"),
        ({"annotations": [thing("UUID")]}, "entry 0 of annotations: id is 'UUID'"),
        ({"annotations": [thing(), thing()]}, "entry 1 of annotations: another annotation has the id 7"),
        ({"annotations": [thing(image=5)]}, "entry 0 of annotations: picture 5 is not in mine.json"),
        ({"annotations": [thing(iscrowd="0")]}, "iscrowd is '0', must be 0 or 1"),
        ({"annotations": [thing(bbox=[1, 2, 3])]}, r"bbox is \[1, 2, 3\], must be \[x, y, width, height\]"),
        ({"annotations": [thing(bbox="full")]}, "bbox is 'full', must"),
        ({"annotations": [thing(segmentation=SQUARE)]}, "must be a list of polygons"),
        ({"annotations": [thing(segmentation=[["a", "b", "c", "d", "e", "f"]])]}, "has what is no number"),
        ({"annotations": [thing(segmentation="7;8")]}, "neither a list of polygons nor RLE"),
        ({"annotations": [thing(segmentation={"size": [60, 80]})]}, "neither a list of polygons nor RLE"),
        ({"annotations": [thing(segmentation={"size": [80, 60], "counts": [4800]})]}, r"a mask of size \[80, 60\]"),
        ({"annotations": [thing(segmentation={"size": [60, 80], "counts": [1, 9]})]}, "are 10 pixels, .* has 4800"),
        ({"annotations": [thing(segmentation=cut(2))]}, r"runs of its RLE are \d+ pixels|its RLE is cut off"),
        ({"annotations": [thing(segmentation=cut(1))]}, r"runs of its RLE are \d+ pixels|its RLE is cut off"),
        ({"annotations": [thing(segmentation={"size": [60, 80], "counts": "oooo"})]}, "its RLE is cut off"),
        ({"annotations": [thing(segmentation={"size": [60, 80], "counts": "00"})]}, "are 0 pixels, .* has 4800"),
        ({"annotations": [thing(segmentation=[[0, 0, 1e8, 0, 1e8, 1e8, 0, 1e8]])]}, "more than 1,000,000 pixels away"),
        ({"annotations": None}, "annotations must be a list"),
        ({"expressions": [{"image_id": 1, "ann_id": 7, "text": 5}]}, "entry 0 of expressions: text is 5"),
        (
            {"expressions": [{"image_id": 2, "ann_id": 7, "text": "x"}]},
            "'x' means annotation 7, which picture 2 has not",
        ),
        ({"expressions": [{"image_id": 1, "text": "x"}]}, "entry 0 of expressions: the key 'ann_id' is missing"),
        ({"plural": [{"image_id": 1, "ann_ids": [], "text": "x"}]}, r"ann_ids is \[\], must be a list of annotations"),
        ({"plural": [{"image_id": 1, "ann_ids": 7, "text": "x"}]}, "ann_ids is 7, must be a list"),
        ({"absent": {"image_id": 1}}, "absent must be a list"),
    ],
)
def test_what_is_wrong_is_refused_by_name_in_a_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"mine\.json: .*{said}") as caught:
        coco(tmp_path, content(**change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("[]", "must be an object with"),
        ("3", "must be an object with"),
        (json.dumps(content()).replace("[10, 10, 20, 20]", "[NaN, 1, 2, 3]"), "not valid json .*NaN"),
        (json.dumps(content()).replace("[10, 10, 20, 20]", "[1, 1, -Infinity, 3]"), "not valid json .*-Infinity"),
        (json.dumps(content()).replace("[10, 10, 20, 20]", "[1, 1, 1e999, 3]"), "is not finite"),
        (json.dumps(content()).replace("[[10, 10, ", "[[1e999, 10, "), "finite numbers"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [}', "not valid json"),
        ('{"images": []}', "the key 'annotations' is missing"),
    ],
)
def test_what_is_no_such_json_is_refused_in_a_line(tmp_path: Path, file: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"mine\.json: .*{said}") as caught:
        coco(tmp_path, file)
    assert "\n" not in str(caught.value)


def area(data: GroundingData) -> list[int]:
    return [int(i.mask(HEIGHT, WIDTH).sum()) for i in data.pictures[1].instances]


@pytest.mark.parametrize(
    ("outline", "left_out"),
    [
        ([[1, 1, 20, 20], SQUARE], 1),  # pycocotools takes four numbers for a box
        ([SQUARE, [1, 1, 20, 20], []], 2),
        ([SQUARE, [200, 200, 210, 200, 210, 210]], 1),  # outside
        ([SQUARE, [-9, -9, -1, -9, -1, -1]], 1),
        ([SQUARE, [1, 1, 2, 2, 3]], 1),
    ],
)
def test_polygons_that_are_none_are_named_and_left_out(tmp_path: Path, outline: Any, left_out: int) -> None:
    whole = coco(tmp_path, content())
    data = coco(tmp_path, content(annotations=[thing(segmentation=outline)]))
    assert area(data) == area(whole) == [400]
    assert data.notes == [
        f"annotation 7 of 1.png: {left_out} polygons of less than three points, or outside the picture"
    ]
    assert len(data.expressions) == 1


NOTHING = [None, [], [[]], [[1, 1, 20, 20]], {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}]


@pytest.mark.parametrize("outline", NOTHING)
def test_a_box_is_never_taken_for_a_mask_that_is_meant(tmp_path: Path, outline: Any) -> None:
    values = content(
        annotations=[thing(segmentation=outline), thing(8)],
        plural=[{"image_id": 1, "ann_ids": [7, 8], "text": "both"}],
        absent=[{"image_id": 1, "text": "the dog"}],
    )
    data = coco(tmp_path, values)
    assert [(i.id, i.crowd) for i in data.pictures[1].instances] == [(7, True), (8, False)]
    assert [e.text for e in data.expressions] == ["the dog"]
    assert (
        "annotation 7 of 1.png: no outline that covers a pixel, and a box is no mask: taken for a crowd region"
        in data.notes
    )
    assert "'the cup' about 1.png: annotation 7 is a crowd region" in data.notes
    assert "'both' about 1.png: annotation 7 is a crowd region" in data.notes


def test_no_box_of_refers_is_learned_as_a_mask(tmp_path: Path) -> None:
    root = build(tmp_path)

    def learned() -> set[tuple[int, ...]]:
        training, _ = read_training(DataConfig(dataset="refcoco", root=root, subset=True))
        return {e.targets for e in training.expressions}

    before = learned()
    target = min(before)
    path = root / "refcoco" / "instances.json"
    values = json.loads(path.read_text())
    next(a for a in values["annotations"] if (a["id"],) == target)["segmentation"] = [[1, 1, 20, 20]]
    path.write_text(json.dumps(values))
    assert before - learned() == {target}


def test_crowds_and_what_is_outside_are_never_meant(tmp_path: Path) -> None:
    gone = thing(8, bbox=[200, 200, 9, 9], segmentation=[[200, 200, 209, 200, 209, 209]])
    values = content(
        annotations=[thing(iscrowd=1), gone, thing(9, bbox=[0, 0, 0, 0])],
        expressions=[
            {"image_id": 1, "ann_id": key, "text": said}
            for key, said in ((7, "crowd"), (8, "gone"), (9, "x"), (9, " "))
        ],
    )
    data = coco(tmp_path, values)
    assert [(i.id, i.crowd, i.box) for i in data.pictures[1].instances] == [
        (7, True, (10, 10, 20, 20)),
        (9, False, (10, 10, 20, 20)),  # the box of its outline
    ]
    assert [e.text for e in data.expressions] == ["x"]
    assert data.notes == [
        "annotation 8 of 1.png: 1 polygons of less than three points, or outside the picture",
        "annotation 8 of 1.png: nothing of it is in the picture",
        "'crowd' about 1.png: annotation 7 is a crowd region",
        "'gone' about 1.png: annotation 8 is left out",
        "a sentence about 1.png without a word",
    ]


def test_what_is_left_out_is_said_once_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, content(annotations=[thing(segmentation=[])]))
    read("coco", tmp_path, "mine")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "mine: 2 things and sentences" in record.getMessage()
    assert "jmceln_core.data.check" in record.getMessage()
    caplog.clear()
    write(tmp_path, content())
    read("coco", tmp_path, "mine")
    assert not caplog.records


def lose(data: Path) -> None:
    (data / "images" / "2.png").unlink()


@pytest.mark.parametrize("reader", ["read", "read_training"])
def test_missing_pictures_are_told_at_the_start_with_their_number(
    tmp_path: Path, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = content(annotations=[thing(), thing(8, 2)])
    values["expressions"] += [{"image_id": 2, "ann_id": 8, "text": "lost"}]
    lose(write(tmp_path, values))

    def said(subset: bool) -> GroundingData:
        if reader == "read":
            return read("coco", tmp_path, "mine", subset=subset)
        config = DataConfig(root=tmp_path, sources=("mine",), val_sources=("mine",), subset=subset)
        return read_training(config)[0]

    with pytest.raises(DataError, match=r"1 of 2 pictures are not there \(.*2\.png\); .*data\.subset"):
        said(subset=False)
    found = said(subset=True)
    assert [e.text for e in found.expressions] == ["the cup"]
    assert "1 of 2 pictures are not there" in caplog.text
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(DataError, match="2 of 2 pictures are not there"):
        said(subset=True)


def test_a_missing_file_moves_no_other_picture_into_training(tmp_path: Path) -> None:
    def split() -> tuple[set[int], set[int]]:
        config = DataConfig(root=tmp_path, sources=("mine",), validation=3, subset=True)
        training, validation = read_training(config)
        return set(training.pictures), set(validation.pictures)

    numbers = range(1, 9)
    values = content(
        images=[{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in numbers],
        annotations=[thing(n, n) for n in numbers],
        expressions=[{"image_id": n, "ann_id": n, "text": "the cup"} for n in numbers],
    )
    write(tmp_path, values)
    for n in numbers:
        cv2.imwrite(str(tmp_path / "images" / f"{n}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    training, validation = split()
    lost = {min(training), min(validation)}
    for n in lost:
        (tmp_path / "images" / f"{n}.png").unlink()
    assert split() == (training - lost, validation - lost)


def test_back_slashes_are_said(tmp_path: Path) -> None:
    values = content()
    values["images"][1]["file_name"] = "day\\2.png"
    write(tmp_path, values)
    with pytest.raises(DataError, match=r"1 of 2 pictures .*Back slashes in file_name"):
        read("coco", tmp_path, "mine")


def test_names_that_are_no_file_are_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "instances_mine.json").mkdir()
    for split, said in (("mine", "Is a directory"), ("a" * 300, "File name too long"), ("other", "no such file")):
        with pytest.raises(DataError, match=said):
            read_coco(tmp_path, split)
