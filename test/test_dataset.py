"""The reader, views that keep sentences true, and what a training batch holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from jmceln_core.config import DataConfig
from jmceln_core.data.dataset import GroundingBatches, Pool, build_pools, read_sources
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture, read_coco
from jmceln_core.data.views import View

HEIGHT, WIDTH = 60, 80


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def write(root: Path, name: str = "mine", count: int = 4, first: int = 1) -> Path:
    """`count` pictures, each with a red square on the left, a blue one on the right and a crowd given as a box."""
    folder = root / name
    (folder / "images").mkdir(parents=True)
    images, annotations, sentences = [], [], []
    for image_id in range(first, first + count):
        canvas = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
        for k, (x, colour, side) in enumerate(((8, (200, 0, 0), "left"), (50, (0, 0, 200), "right"))):
            cv2.rectangle(canvas, (x, 20), (x + 19, 39), colour, -1)
            annotation = {"id": 10 * image_id + k, "image_id": image_id, "category_id": 7, "iscrowd": 0}
            annotations.append(annotation | {"bbox": [x, 20, 20, 20], "segmentation": square(x, 20, 20)})
            sentences += [{"image_id": image_id, "ann_id": 10 * image_id + k, "text": f"{side} box"}] * 2
        crowd = {"id": 10 * image_id + 5, "image_id": image_id, "category_id": 7, "iscrowd": 1}
        annotations.append(crowd | {"bbox": [30, 50, 20, 8], "segmentation": []})
        cv2.imwrite(str(folder / "images" / f"{image_id}.png"), canvas[..., ::-1])
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH})
    instances = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "box"}]}
    absent = [{"image_id": first, "text": "the left dog"}]
    plural = [{"image_id": first, "ann_ids": [10 * first, 10 * first + 1], "text": "both boxes"}]
    (folder / "instances_train.json").write_text(json.dumps(instances))
    (folder / "expressions_train.json").write_text(
        json.dumps({"expressions": sentences, "absent": absent, "plural": plural})
    )
    return folder


def test_the_reader_fills_pictures_instances_and_all_three_sorts_of_sentences(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path), "train")
    assert sorted(data.pictures) == [1, 2, 3, 4]
    picture = data.pictures[1]
    assert picture.load()[30, 15].tolist() == [200, 0, 0]  # RGB
    left, _, crowd = picture.instances
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[20:40, 8:28] = True
    assert (left.mask(HEIGHT, WIDTH) == expected).all()
    assert crowd.crowd
    assert crowd.mask(HEIGHT, WIDTH).sum() == 20 * 8  # its box, as it has no outline
    targets = {e.text: e.targets for e in data.by_picture()[1]}
    assert targets == {"left box": (10,), "right box": (11,), "the left dog": (), "both boxes": (10, 11)}


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("instances_train.json", None, "instances_train.json"),  # a missing file
        ("expressions_train.json", "{", "not valid json"),  # a damaged one
        ("expressions_train.json", '{"expressions": [{"image_id": 99, "ann_id": 1, "text": "x"}]}', "99"),
        ("expressions_train.json", '{"expressions": [{"image_id": 1, "ann_id": 77, "text": "x"}]}', "77"),
        ("expressions_train.json", '{"expressions": [{"image_id": 1, "ann_id": 10}]}', "text"),  # a missing key
    ],
)
def test_the_reader_names_what_is_wrong(tmp_path: Path, file: str, change: str | None, named: str) -> None:
    folder = write(tmp_path)
    if change is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(change)
    with pytest.raises(DataError, match=named):
        read_coco(folder, "train")


def test_a_picture_of_another_size_or_unreadable_is_an_error_naming_it(tmp_path: Path) -> None:
    picture = read_coco(write(tmp_path), "train").pictures[1]
    with pytest.raises(DataError, match=r"1\.png.*80x60.*79x60"):
        replace(picture, width=79).load()
    picture.path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"1\.png"):
        picture.load()


@pytest.mark.parametrize("index", range(6))
def test_a_view_moves_picture_and_mask_alike(tmp_path: Path, index: int) -> None:
    picture = read_coco(write(tmp_path), "train").pictures[1]
    view = View.draw(picture, index)
    assert view == View.draw(picture, index)
    square_image = view.image(picture, picture.load(), 224).astype(int)
    for instance, channel in zip(picture.instances, (0, 2), strict=False):
        mask = view.mask(picture, instance.mask(HEIGHT, WIDTH), 224)
        inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
        outer = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) == 0
        strength = square_image[..., channel] - square_image[..., 1]
        assert inner.sum() > 100
        assert (strength[inner] > 80).all()
        other = square_image[..., 2 - channel] - square_image[..., 1] > 80
        assert (strength[outer & ~other] < 60).all()


def test_view_0_is_what_the_segmenter_sees_and_odd_views_are_mirrored(tmp_path: Path) -> None:
    from jmceln_core.geometry import Letterbox

    picture = read_coco(write(tmp_path), "train").pictures[1]
    plain = View.draw(picture, 0).image(picture, picture.load(), 96)
    assert (plain == Letterbox(HEIGHT, WIDTH, 96).image(picture.load())).all()
    for index, left_is_left in ((1, False), (2, True)):
        view = View.draw(picture, index)
        left, right = (view.mask(picture, i.mask(HEIGHT, WIDTH), 96) for i in picture.instances[:2])
        assert (np.nonzero(left)[1].mean() < np.nonzero(right)[1].mean()) == left_is_left


@pytest.fixture
def batches(tmp_path: Path) -> GroundingBatches:
    data = read_coco(write(tmp_path), "train")
    config = DataConfig(views=2, mirror=0.5)
    pools = build_pools(data, config, seed=0)
    return GroundingBatches(data, pools, config, images=2, sentences=3, image_size=96, mask_size=24, seed=0)


def test_a_batch_is_a_function_of_seed_and_step(batches: GroundingBatches) -> None:
    for step in (0, 5, 11):
        one, two = batches.batch(step), batches.batch(step)
        assert (one.texts, one.views) == (two.texts, two.views)
        assert torch.equal(one.targets, two.targets)
    assert any(batches.batch(0).texts != batches.batch(step).texts for step in range(1, 6))


def test_every_text_of_a_batch_is_true_of_its_mirrored_or_plain_masks(batches: GroundingBatches) -> None:
    known = batches.texts()
    seen = set()
    for step in range(30):
        batch = batches.batch(step)
        assert set(batch.texts) <= known
        assert batch.masks.shape == (2, 3, 24, 24)
        columns = torch.arange(24.0)
        for n, text in enumerate(batch.texts):
            b, s = divmod(n, 3)
            targets = batch.targets[b, s]
            if text in ("left box", "right box"):
                k = int(targets.nonzero().item())
                place = (batch.masks[b, k].sum(0) * columns).sum() / batch.masks[b, k].sum()
                other = (batch.masks[b, 1 - k].sum(0) * columns).sum() / batch.masks[b, 1 - k].sum()
                assert (place < other) == (text == "left box")
                seen.add((text, batch.views[b]))
            if text in ("the left dog", "the right dog"):
                assert not targets.any()
    assert {view for _, view in seen} == {(0, False), (0, True), (1, False), (1, True)}


def test_crowds_and_second_outlines_of_the_target_are_no_rivals() -> None:
    twins = (
        Instance(1, "box", square(10, 10, 20), (10, 10, 20, 20)),
        Instance(2, "box", square(10, 10, 21), (10, 10, 21, 21)),  # the same box, outlined again
        Instance(3, "box", square(50, 10, 20), (50, 10, 20, 20)),
        Instance(4, "box", square(30, 30, 20), (30, 30, 20, 20), crowd=True),
    )
    picture = Picture(1, Path("unused.png"), HEIGHT, WIDTH, twins)
    sentences = [Expression(1, (1,), "left box"), Expression(1, (3,), "right box"), Expression(1, (), "dog")]
    data = GroundingData({1: picture}, sentences)
    batches = GroundingBatches(
        data,
        {1: Pool(sentences, [], [])},
        DataConfig(),
        images=1,
        sentences=3,
        image_size=80,
        mask_size=20,
        seed=0,
    )
    batch = batches.collate([picture], [sentences])
    assert batch.targets[0].tolist() == [[True, False, False, False], [False, False, True, False], [False] * 4]
    everyone = [True, True, True, False]
    assert batch.rivals[0].tolist() == [[True, False, True, False], everyone, everyone]
    assert float(batch.masks[0, 0].sum()) == pytest.approx(25, abs=1)  # 20 x 20 pixels at a quarter of the side


def test_a_picture_without_instances_can_hold_sentences_that_match_nothing() -> None:
    picture = Picture(1, Path("unused.png"), HEIGHT, WIDTH)
    absent = [Expression(1, (), "the dog"), Expression(1, (), "the cat")]
    batches = GroundingBatches(
        GroundingData({1: picture}, absent),
        {1: Pool([], [], absent)},
        DataConfig(),
        images=1,
        sentences=2,
        image_size=80,
        mask_size=20,
        seed=0,
    )
    batch = batches.collate([picture], [absent])
    assert not batch.targets.any()
    assert not batch.rivals.any()


def test_validation_pictures_come_from_the_first_source_and_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path, "one", 6)
    write(tmp_path, "two", 3, first=100)
    config = DataConfig(root=tmp_path, sources=("one/train", "two/train"), validation=2)
    training, validation = read_sources(config)
    assert len(validation.pictures) == 2
    assert all(k < 100 for k in validation.pictures)
    assert not training.pictures.keys() & validation.pictures.keys()
    assert len(training.pictures) == 7
    assert {e.picture_id for e in training.expressions} <= training.pictures.keys()
    assert read_sources(config)[1].pictures.keys() == validation.pictures.keys()


def test_two_sources_with_the_same_picture_ids_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "one", 2)
    write(tmp_path, "two", 2)
    with pytest.raises(DataError, match="picture id 1"):
        read_sources(DataConfig(root=tmp_path, sources=("one/train", "two/train")))
