"""The coco reader, views that keep sentences true, and what the batches of training and validation hold."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from jmceln_core.config import DataConfig, ImageEncoderConfig
from jmceln_core.data.dataset import (
    ATTEMPTS,
    Batch,
    SampleBuilder,
    StepDataset,
    ValidationDataset,
    all_texts,
    collate,
    share_of,
)
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture, read_coco
from jmceln_core.data.readers import read_training
from jmceln_core.data.views import View
from jmceln_core.geometry import Letterbox
from jmceln_core.model.encoders import build_image_encoder
from jmceln_core.synthesis.enrich import enrich
from jmceln_core.training.features import ImageFeatureCache

HEIGHT, WIDTH = 60, 80
SIDE, SMALL = 96, 24  # of the letterboxed square and of the mask logits


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


@pytest.fixture
def data(tmp_path: Path) -> GroundingData:
    return read_coco(write(tmp_path), "train")


# the reader


def test_the_reader_fills_pictures_instances_and_all_three_sorts_of_sentences(data: GroundingData) -> None:
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


def test_a_picture_of_another_size_or_unreadable_is_an_error_naming_it(data: GroundingData) -> None:
    picture = data.pictures[1]
    with pytest.raises(DataError, match=r"1\.png.*80x60.*79x60"):
        replace(picture, width=79).load()
    picture.path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"1\.png"):
        picture.load()


# views


@pytest.mark.parametrize("index", range(6))
def test_a_view_moves_picture_and_mask_alike(data: GroundingData, index: int) -> None:
    picture = data.pictures[1]
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


def test_view_0_is_what_the_segmenter_sees_and_odd_views_are_mirrored(data: GroundingData) -> None:
    picture = data.pictures[1]
    plain = View.draw(picture, 0).image(picture, picture.load(), SIDE)
    assert (plain == Letterbox(HEIGHT, WIDTH, SIDE).image(picture.load())).all()
    for index, left_is_left in ((1, False), (2, True)):
        view = View.draw(picture, index)
        left, right = (view.mask(picture, i.mask(HEIGHT, WIDTH), SIDE) for i in picture.instances[:2])
        assert (np.nonzero(left)[1].mean() < np.nonzero(right)[1].mean()) == left_is_left


# samples: SampleBuilder, collate


def build(config: DataConfig, *, size: int = SIDE, mask_size: int = SMALL, instances: bool = False) -> SampleBuilder:
    return SampleBuilder(config, size, mask_size, instances=instances)


def discs(tmp_path: Path, count: int, *, seed: int = 0) -> tuple[Picture, list[Expression]]:
    """A grey picture of any shape with discs of distinct colours, and a sentence about each."""
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(90, 260, 2))
    canvas = np.full((height, width, 3), 120, np.uint8)
    instances, sentences = [], []
    for number, colour in enumerate(((220, 30, 30), (30, 200, 30), (30, 30, 220))[:count]):
        x, y = int(width * (0.2 + 0.3 * number)), int(rng.integers(20, height - 20))
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, (x, y), 14, 1, -1)
        canvas[mask > 0] = colour
        turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        outline = np.stack([x + 0.5 + 14.4 * np.cos(turn), y + 0.5 + 14.4 * np.sin(turn)], 1)
        instances.append(Instance(number + 1, "disc", [outline.ravel().tolist()], (x - 14, y - 14, 29, 29)))
        sentences.append(Expression(seed, (number + 1,), f"disc {'abc'[number]}"))
    path = tmp_path / f"discs_{seed}.png"
    cv2.imwrite(str(path), canvas[..., ::-1])
    return Picture(seed, path, height, width, tuple(instances)), sentences


def cover(square: np.ndarray, side: int) -> np.ndarray:
    """255 times the share of each of side x side pixels that a bool square covers."""
    step = square.shape[0] // side
    found = np.zeros((side, side))
    for y in range(side):
        for x in range(side):
            found[y, x] = 255 * square[y * step : (y + 1) * step, x * step : (x + 1) * step].mean()
    return found


def letterboxed(mask: np.ndarray, side: int) -> np.ndarray:
    """A bool mask in the square, more than half of each pixel's area counted on a grid `fine` times as fine."""
    height, width = mask.shape
    fine = 20
    scale = side / max(height, width)
    inner_w, inner_h = (max(1, int(np.floor(n * scale + 0.5))) for n in (width, height))
    rows = ((np.arange(inner_h * fine) + 0.5) * height / (inner_h * fine)).astype(int)
    columns = ((np.arange(inner_w * fine) + 0.5) * width / (inner_w * fine)).astype(int)
    share = mask[rows][:, columns].reshape(inner_h, fine, inner_w, fine).mean((1, 3))
    square = np.zeros((side, side))
    top, left = (side - inner_h) // 2, (side - inner_w) // 2
    square[top : top + inner_h, left : left + inner_w] = share
    return square


def test_truth_and_instances_are_the_letterboxed_masks(tmp_path: Path) -> None:
    for seed in range(4):
        picture, sentences = discs(tmp_path, 3, seed=seed)
        both = [*sentences, Expression(seed, (1, 3), "a and c"), Expression(seed, (), "disc d")]
        sample = build(DataConfig(), size=80, mask_size=40, instances=True)(picture, both)
        shares = [letterboxed(i.mask(picture.height, picture.width), 80) for i in picture.instances]
        squares = [s > 0.5 for s in shares]
        doubtful = np.logical_or.reduce([abs(s - 0.5) < 0.06 for s in shares])  # the fine grid is not exact
        meant = [squares[0], squares[1], squares[2], squares[0] | squares[2], np.zeros((80, 80), bool)]
        for row, wanted in zip(sample.truth, meant, strict=True):
            off = abs(row - cover(wanted, 40))
            assert (off <= cover(doubtful, 40) + 1).all()
            assert (off > 1).mean() < 0.02
        for row, wanted in zip(sample.instances, squares, strict=True):
            assert (abs(row - cover(wanted, 10)) <= cover(doubtful, 10) + 1).all()
        assert sample.present.tolist() == [True] * 4 + [False]
        assert sample.targets.tolist() == [
            [True, False, False],
            [False, True, False],
            [False, False, True],
            [True, False, True],
            [False] * 3,
        ]
        assert sample.rivals.all()


def test_image_and_truth_without_a_draw_are_the_plain_letterbox(data: GroundingData) -> None:
    picture = data.pictures[1]
    busy = DataConfig(mirror=1.0, crop=1.0, photometric=1.0)
    sample = build(busy, mask_size=SIDE)(picture, data.by_picture()[1][:1])
    box = Letterbox(HEIGHT, WIDTH, SIDE)
    assert (sample.image == box.image(picture.load())).all()
    assert (sample.truth[0] == 255 * box.mask(picture.instances[0].mask(HEIGHT, WIDTH))).all()
    assert sample.texts == ["left box"]


@pytest.mark.parametrize("config", [DataConfig(crop=1), DataConfig(photometric=1), DataConfig(mirror=1)])
def test_every_drawn_view_differs_from_the_plain_one_somewhere(data: GroundingData, config: DataConfig) -> None:
    picture, sentences = data.pictures[1], data.by_picture()[1][:1]
    plain = build(config)(picture, sentences)
    drawn = [build(config)(picture, sentences, np.random.default_rng(n)) for n in range(5)]
    assert any((sample.image != plain.image).any() for sample in drawn)


def test_truth_covers_the_same_thing_whatever_the_view(tmp_path: Path) -> None:
    config = DataConfig(mirror=0.5, crop=0.8, photometric=0.8)
    changed = Counter[str]()
    for seed in range(24):
        picture, sentences = discs(tmp_path, 3, seed=seed)
        plain = build(config, mask_size=SIDE)(picture, sentences)
        sample = build(config, mask_size=SIDE)(picture, sentences, np.random.default_rng(seed))
        changed["views"] += bool((sample.image != plain.image).any())
        changed["mirrored"] += centre(sample.truth[0])[0] > centre(sample.truth[2])[0]
        image = sample.image.astype(int)
        for channel, truth in enumerate(sample.truth > 127):
            others = [c for c in range(3) if c != channel]
            strength = image[..., channel] - image[..., others].max(-1)
            inner = cv2.erode(truth.astype(np.uint8), np.ones((3, 3))) > 0
            around = cv2.dilate(truth.astype(np.uint8), np.ones((3, 3))) > 0
            assert truth.sum() > 30
            assert (strength[inner] > 60).all()  # every pixel of it shows the disc's own colour
            assert (strength[~around] < 40).all()  # and no other pixel does
            assert sample.texts[channel] == sentences[channel].text  # says no side: nothing to swap
    assert changed["views"] > 20
    assert 5 < changed["mirrored"] < 19


def centre(mask: np.ndarray) -> tuple[float, float]:
    """(x, y) of a mask's mean pixel."""
    rows, columns = np.nonzero(mask > 127)
    return float(columns.mean()), float(rows.mean())


def test_mirroring_swaps_sides_and_words_and_leaves_what_it_cannot_say(data: GroundingData) -> None:
    picture = data.pictures[1]
    config = DataConfig(mirror=1.0)
    one, two = Expression(1, (10,), "left box"), Expression(1, (11,), "right box")
    lettered = Expression(1, (11,), 'the box that says "left"')
    sample = build(config, instances=True)(picture, [one, two], np.random.default_rng(0))
    assert sample.texts == ["right box", "left box"]
    assert centre(sample.truth[0])[0] > SMALL / 2 > centre(sample.truth[1])[0]
    for k in range(2):  # instances are mirrored with the rest, and each keeps its number
        assert abs(centre(sample.instances[k])[0] / (SIDE // 8) - centre(sample.truth[k])[0] / SMALL) < 0.06
    plain = build(config)(picture, [one, two])
    assert (sample.image == plain.image[:, ::-1]).all()
    left_alone = build(config)(picture, [one, lettered], np.random.default_rng(0))
    assert left_alone.texts == ["left box", lettered.text]
    assert (left_alone.image == plain.image).all()


def test_crowds_and_second_outlines_of_the_target_are_no_rivals() -> None:
    twins = (
        Instance(1, "box", square(10, 10, 20), (10, 10, 20, 20)),
        Instance(2, "box", square(10, 10, 21), (10, 10, 21, 21)),  # the same box, outlined again
        Instance(3, "box", square(50, 10, 20), (50, 10, 20, 20)),
        Instance(4, "box", square(30, 30, 20), (30, 30, 20, 20), crowd=True),
    )
    picture = Picture(1, Path("twins.png"), HEIGHT, WIDTH, twins, encoded=blank())
    sentences = [Expression(1, (1,), "left box"), Expression(1, (3,), "right box"), Expression(1, (), "dog")]
    # a square of 160 pixels, instances at an eighth of it: 20, a quarter of the picture's width
    sample = build(DataConfig(), size=160, mask_size=40, instances=True)(picture, sentences)
    assert sample.targets.tolist() == [[True, False, False, False], [False, False, True, False], [False] * 4]
    everyone = [True, True, True, False]
    assert sample.rivals.tolist() == [[True, False, True, False], everyone, everyone]
    assert sample.instances[0].sum() / 255 == pytest.approx(25, abs=1)  # 20 x 20 pixels at a quarter of the side


def test_what_a_sentence_means_is_always_among_its_rivals() -> None:
    crowd = Instance(1, "box", square(10, 10, 20), (10, 10, 20, 20), crowd=True)
    picture = Picture(1, Path("crowd.png"), HEIGHT, WIDTH, (crowd,), encoded=blank())
    sample = build(DataConfig(), instances=True)(picture, [Expression(1, (1,), "boxes")])
    assert sample.rivals.tolist() == sample.targets.tolist() == [[True]]


def blank(height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """The bytes of a picture's file."""
    return bytes(cv2.imencode(".png", np.full((height, width, 3), 99, np.uint8))[1])


def test_a_picture_without_instances_can_hold_sentences_that_match_nothing() -> None:
    picture = Picture(1, Path("empty.png"), HEIGHT, WIDTH, encoded=blank())
    absent = [Expression(1, (), "the dog"), Expression(1, (), "the cat")]
    for instances in (False, True):
        batch = collate([build(DataConfig(), instances=instances)(picture, absent)])
        assert not batch.truth.any()
        assert batch.present.tolist() == [[False, False]]
        assert batch.instances.shape == (1, 0, SIDE // 8, SIDE // 8)
        assert batch.targets.shape == batch.rivals.shape == (1, 2, 0)


def test_without_instances_nothing_is_made_of_them(data: GroundingData) -> None:
    batch = collate([build(DataConfig())(data.pictures[1], data.by_picture()[1][:2])])
    assert batch.instances.shape[1] == batch.targets.shape[2] == batch.rivals.shape[2] == 0


def test_collate_pads_instances_that_cover_nothing_and_keeps_the_order(data: GroundingData, tmp_path: Path) -> None:
    builder = build(DataConfig(), instances=True)
    picture, sentences = discs(tmp_path, 1, seed=1)
    one = builder(picture, sentences * 2)
    two = builder(data.pictures[1], data.by_picture()[1][1:3])
    batch = collate([one, two], ["x.png: not readable"])
    assert batch.images.shape == (2, 3, SIDE, SIDE)
    assert batch.images.dtype == batch.truth.dtype == batch.instances.dtype == torch.uint8
    for n, sample in enumerate((one, two)):
        count = len(sample.instances)
        assert torch.equal(batch.images[n], torch.from_numpy(sample.image.transpose(2, 0, 1).copy()))
        assert torch.equal(batch.truth[n], torch.from_numpy(sample.truth))
        assert torch.equal(batch.instances[n, :count], torch.from_numpy(sample.instances))
        assert torch.equal(batch.targets[n, :, :count], torch.from_numpy(sample.targets))
        assert torch.equal(batch.rivals[n, :, :count], torch.from_numpy(sample.rivals))
        assert not batch.instances[n, count:].any()
        assert not batch.targets[n, :, count:].any()
        assert not batch.rivals[n, :, count:].any()
    assert batch.instances.shape[1] == 3
    assert batch.texts == ["disc a", "disc a", "left box", "right box"]
    assert batch.trunk == ()
    assert batch.skipped == ("x.png: not readable",)


def test_cached_features_come_with_their_view_and_are_mirrored_with_it(data: GroundingData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_image_encoder(ImageEncoderConfig(name="tiny", channels=8), pretrained=False)
    cache = ImageFeatureCache(tmp_path / "features", encoder, SIDE)
    cache.fill(encoder, data.pictures.values(), [0, 1, 2])
    config = DataConfig(views=3, mirror=0.5)
    builder = SampleBuilder(config, SIDE, SIDE, cache=cache)
    picture, sentences = data.pictures[2], data.by_picture()[2][::2]
    shown = Counter[tuple[bool, ...]]()
    for n in range(40):
        sample = builder(picture, sentences, np.random.default_rng(n))
        red, blue = centre(sample.truth[0]), centre(sample.truth[1])
        for place, channel in ((red, 0), (blue, 2)):  # what the truth covers has the colour in the cached square
            pixel = sample.image[round(place[1]), round(place[0])].astype(int)
            assert pixel[channel] - np.delete(pixel, channel).max() > 60
        assert sample.texts == (["left box", "right box"] if red[0] < blue[0] else ["right box", "left box"])
        views = [cache.read(picture, v, mirrored=m) for v in range(3) for m in (False, True)]
        same = [(image == sample.image).all() and all(map(torch.equal, trunk, sample.trunk)) for image, trunk in views]
        assert sum(same) == 1
        shown[tuple(same)] += 1
    assert len(shown) == 6  # every view, mirrored and not


# what an epoch is made of


def test_an_epoch_takes_up_a_source_as_often_as_asked(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", first=11)
    config = DataConfig(
        root=tmp_path, sources=("one/train", "two/train"), repeat=(3, 1), validation=1, sampling="sentence"
    )
    training, _ = read_training(config)
    steps = StepDataset(training, build(config), images=1, sentences=2, seed=0)
    taken = Counter(group.picture for group in steps._plan(0))
    often = {steps.pictures[number].id: count for number, count in taken.items()}
    twos = [often[key] for key in (12, 13, 14)]  # 11 and 1 have further sentences
    ones = [count for key, count in often.items() if 1 < key < 11]
    assert set(twos) == {2}
    assert set(ones) == {6}
    with pytest.raises(DataError, match=r"data\.repeat"):
        read_training(replace(config, repeat=(1,)))


@pytest.mark.parametrize("sampling", ["object", "sentence", "mixture"])
@pytest.mark.parametrize("mirror", [0.0, 0.5])
def test_texts_of_all_batches_are_known_before(data: GroundingData, sampling: str, mirror: float) -> None:
    config = DataConfig(
        sampling=sampling,  # type: ignore[arg-type]
        mirror=mirror,
        generated=2,
        absent=2,
        absent_share=0.3,
    )
    richer = enrich(data, config, seed=0)
    known = all_texts(richer, config)
    steps = StepDataset(richer, build(config), images=2, sentences=3, seed=0)
    seen = {text for step in range(30) for batch in steps[step] for text in batch.texts}
    assert seen <= known
    assert ("the right dog" in known) == (mirror > 0)
    assert known >= {e.text for e in richer.expressions}


def test_an_instance_made_of_a_mask_has_it_and_its_box() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:25, 30:37] = mask[20, 50] = True
    made = Instance.of_mask(7, "box", mask, crowd=True)
    assert (made.id, made.category, made.crowd, made.box) == (7, "box", True, (30, 10, 21, 15))
    assert (made.mask(HEIGHT, WIDTH) == mask).all()


# the steps of training


def equal(one: Batch, two: Batch) -> bool:
    """Whether two batches hold the same, bit for bit."""
    tensors = [(a, b) for a, b in zip(one, two, strict=True) if isinstance(a, Tensor) and isinstance(b, Tensor)]
    trunks = len(one.trunk) == len(two.trunk) and all(map(torch.equal, one.trunk, two.trunk))
    return one.texts == two.texts and trunks and all(torch.equal(a, b) for a, b in tensors)


def joined(batches: list[Batch]) -> Batch:
    """Batches one after the other, as one."""
    first = batches[0]
    whole: dict[str, Any] = {"texts": [text for batch in batches for text in batch.texts]}
    for name, value in first._asdict().items():
        if isinstance(value, Tensor):
            whole[name] = torch.cat([getattr(batch, name) for batch in batches])
    return first._replace(**whole)


def test_every_text_of_a_batch_is_true_of_its_mirrored_or_plain_masks(data: GroundingData) -> None:
    config = DataConfig(sampling="sentence", mirror=0.5, crop=0.5)
    steps = StepDataset(data, build(config, instances=True), images=2, sentences=3, seed=0)
    seen = Counter[tuple[str, bool]]()
    for step in range(30):
        (batch,) = steps[step]
        assert batch.truth.shape == (2, 3, SMALL, SMALL)
        for n, text in enumerate(batch.texts):
            b, s = divmod(n, 3)
            truth, targets = batch.truth[b, s].numpy(), batch.targets[b, s]
            if text in ("left box", "right box"):
                k = int(targets.nonzero().item())
                other = batch.instances[b, 1 - k].numpy()
                assert (centre(truth)[0] / SMALL < centre(other)[0] / (SIDE // 8)) == (text == "left box")
                seen[text, k == 0] += 1
            if text in ("the left dog", "the right dog"):
                assert not targets.any()
                assert not truth.any()
                assert not batch.present[b, s]
    assert len(seen) == 4  # each side's words of each box
    assert min(seen.values()) > 5


@pytest.mark.parametrize(("sampling", "per_picture"), [("object", 3), ("sentence", 6)])
def test_an_epoch_holds_every_thing_or_every_sentence_once(
    data: GroundingData, sampling: str, per_picture: int
) -> None:
    config = DataConfig(sampling=sampling)  # type: ignore[arg-type]
    del data.pictures[2], data.pictures[3], data.pictures[4]
    data.expressions = [e for e in data.expressions if e.picture_id == 1]
    steps = StepDataset(data, build(config), images=1, sentences=1, seed=3)
    assert steps.steps_per_epoch == per_picture
    for epoch in range(3):
        texts = [steps[epoch * per_picture + n][0].texts[0] for n in range(per_picture)]
        once = ["both boxes", "left box", "right box"]
        assert sorted(texts) == (once if sampling == "object" else sorted([*once, "left box", "right box", DOG]))


DOG = "the left dog"


def test_epochs_are_shuffled_anew_and_the_rest_of_one_is_left_out(data: GroundingData) -> None:
    steps = StepDataset(data, build(DataConfig()), images=4, sentences=1, seed=0)
    assert (steps.groups, steps.steps_per_epoch) == (9, 2)  # two things a picture, and both boxes of the first
    orders = {tuple(t for n in (0, 1) for t in steps[2 * epoch + n][0].texts) for epoch in range(6)}
    assert len(orders) > 3


def test_a_step_is_a_function_of_seed_and_step(data: GroundingData) -> None:
    config = DataConfig(sampling="sentence", mirror=0.5, crop=0.5, photometric=0.5, absent_share=0.2)

    def steps(seed: int = 0) -> StepDataset:
        return StepDataset(data, build(config, instances=True), images=2, sentences=3, seed=seed)

    one, two = steps(), steps()
    backwards = {step: two[step] for step in (11, 5, 0)}
    for step in (0, 5, 11):
        assert equal(one[step][0], backwards[step][0])
    assert not equal(one[0][0], steps(seed=1)[0][0])
    assert any(not equal(one[0][0], one[step][0]) for step in range(1, 4))


@pytest.mark.parametrize(("world", "parts"), [(1, 2), (2, 1), (2, 2), (4, 1), (1, 4)])
def test_processes_and_parts_cut_a_step_exactly(data: GroundingData, world: int, parts: int) -> None:
    config = DataConfig(sampling="sentence", mirror=0.5, crop=0.5, photometric=0.5)
    builder = build(config, instances=True)
    common = {"images": 4, "sentences": 2, "seed": 5}
    whole = StepDataset(data, builder, **common)  # type: ignore[arg-type]
    shares = [
        StepDataset(data, builder, **common, parts=parts, rank=rank, world=world)  # type: ignore[arg-type]
        for rank in range(world)
    ]
    for step in range(2 * whole.steps_per_epoch):
        pieces = [batch for dataset in shares for batch in dataset[step]]
        assert len(pieces) == world * parts
        assert all(len(piece.images) == 4 // (world * parts) for piece in pieces)
        assert equal(joined(pieces), whole[step][0])


def test_workers_of_a_loader_give_the_same_steps_in_order(data: GroundingData) -> None:
    steps = StepDataset(data, build(DataConfig(mirror=0.5)), images=4, sentences=1, seed=0, parts=2)
    loaders = [DataLoader(steps, batch_size=None, sampler=range(3, 8), num_workers=workers) for workers in (0, 2)]
    for n, (alone, helped) in enumerate(zip(*loaders, strict=True)):
        assert equal(joined(alone), joined(helped))
        assert equal(joined(alone), joined(steps[3 + n]))


def test_an_unreadable_picture_is_replaced_and_named(data: GroundingData) -> None:
    data.pictures[3].path.write_bytes(b"not an image")
    steps = StepDataset(data, build(DataConfig()), images=3, sentences=1, seed=0, parts=3)
    named = 0
    for step in range(9):
        for batch, again in zip(steps[step], steps[step], strict=True):
            assert batch.images.shape[0] == 1
            assert equal(batch, again)
            assert batch.skipped == again.skipped
            assert all("3.png" in text for text in batch.skipped)
            named += bool(batch.skipped)
    assert named == 6  # two things of picture 3 in each of three epochs
    data.pictures[3].path.unlink()
    assert any("3.png" in text for batch in steps[0] + steps[1] + steps[2] for text in batch.skipped)


def test_a_replacement_is_as_large_as_what_it_replaces(data: GroundingData) -> None:
    data.pictures[1].path.unlink()
    for sampling in ("object", "sentence", "mixture"):
        config = DataConfig(sampling=sampling)  # type: ignore[arg-type]
        steps = StepDataset(data, build(config), images=2, sentences=3, seed=0)
        batches = [steps[step][0] for step in range(4)]
        assert any(b.skipped for b in batches)
        assert all(len(b.texts) == 6 and b.truth.shape[:2] == (2, 3) for b in batches)


def test_pictures_none_of_which_can_be_read_are_an_error(data: GroundingData) -> None:
    for picture in data.pictures.values():
        picture.path.write_bytes(b"")
    steps = StepDataset(data, build(DataConfig()), images=2, sentences=1, seed=0)
    with pytest.raises(DataError, match=rf"{ATTEMPTS} pictures in a row.*\d\.png"):
        steps[0]


def test_more_pictures_a_step_than_an_epoch_has_are_refused(data: GroundingData) -> None:
    with pytest.raises(DataError, match=r"9 groups of 1 sentences.*optim\.images=10"):
        StepDataset(data, build(DataConfig()), images=10, sentences=1, seed=0)


@pytest.mark.parametrize(("images", "world", "parts", "share"), [(20, 1, 1, 20), (20, 2, 5, 2), (8, 8, 1, 1)])
def test_a_step_is_shared_out_evenly(images: int, world: int, parts: int, share: int) -> None:
    assert share_of(images, world=world, parts=parts) == share


@pytest.mark.parametrize(("images", "world", "parts", "multiple"), [(20, 8, 1, 8), (20, 2, 4, 8), (1, 2, 1, 2)])
def test_a_step_that_cannot_be_shared_out_is_refused_with_the_remedy(
    images: int, world: int, parts: int, multiple: int
) -> None:
    with pytest.raises(DataError, match=rf"optim\.images={images} .*{world} processes.*multiple of {multiple}$"):
        share_of(images, world=world, parts=parts)


# validation


def test_validation_asks_every_written_sentence_of_every_picture(data: GroundingData) -> None:
    made = Expression(2, (20,), "a rule's box", origin="generated")
    many = [Expression(3, (30,), f"box {n}") for n in range(20)]
    known = data.expressions + many
    validation = ValidationDataset(
        GroundingData(data.pictures, [*known, made]), build(DataConfig(mirror=1.0, crop=1.0))
    )
    batches = [validation[n] for n in range(len(validation))]
    assert sorted(t for b in batches for t in b.texts) == sorted(e.text for e in known)
    assert all(len(b.images) == 1 and 1 <= len(b.texts) <= ValidationDataset.CHUNK for b in batches)
    plain = Letterbox(HEIGHT, WIDTH, SIDE).image(data.pictures[1].load())
    assert (batches[0].images[0].permute(1, 2, 0).numpy() == plain).all()
    asked = {t: bool(p) for b in batches for t, p in zip(b.texts, b.present[0], strict=True)}
    assert not asked[DOG]
    assert asked["left box"]


def test_validation_asks_rule_made_sentences_of_a_picture_that_has_no_others(data: GroundingData) -> None:
    made = [Expression(key, (10 * key,), f"made {key}", origin="generated") for key in data.pictures]
    known = [e for e in data.expressions if e.picture_id != 1]
    validation = ValidationDataset(GroundingData(data.pictures, known + made), build(DataConfig()))
    asked = {e.text for picture, some, _ in validation.items for e in some if picture.id == 1}
    assert asked == {"made 1"}
    written = {e.picture_id for e in known}
    assert not {e.text for p, some, _ in validation.items for e in some if p.id in written} & {e.text for e in made}


@pytest.mark.parametrize(("limit", "meant", "absent"), [(1, 1, 1), (2, 2, 1), (6, 6, 2), (50, 12, 5)])
def test_validation_on_so_many_sentences_of_a_picture(limit: int, meant: int, absent: int) -> None:
    picture = Picture(1, Path("x.png"), HEIGHT, WIDTH, (Instance(1, "box", square(9, 9, 9), (9, 9, 9, 9)),))
    sentences = [Expression(1, (1,), f"box {n}") for n in range(12)] + [Expression(1, (), f"dog {n}") for n in range(5)]
    validation = ValidationDataset(GroundingData({1: picture}, sentences), build(DataConfig(val_sentences=limit)))
    asked = [e for _, some, _ in validation.items for e in some]
    assert sum(bool(e.targets) for e in asked) == meant
    assert sum(not e.targets for e in asked) == absent
    assert len({e.text for e in asked}) == len(asked)


def test_validation_names_a_picture_it_cannot_read_and_needs_one_that_it_can(data: GroundingData) -> None:
    validation = ValidationDataset(data, build(DataConfig()))
    assert validation[0].skipped == ()
    data.pictures[1].path.unlink()
    assert len(validation[0].skipped) == 1
    assert "1.png" in validation[0].skipped[0]
    for picture in data.pictures.values():
        picture.path.unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"none of the validation pictures.*1\.png"):
        validation[0]


def test_validation_without_a_sentence_that_means_something_is_refused(data: GroundingData) -> None:
    absent = [e for e in data.expressions if not e.targets]
    with pytest.raises(DataError, match="no sentence that means something"):
        ValidationDataset(GroundingData(data.pictures, absent), build(DataConfig()))
