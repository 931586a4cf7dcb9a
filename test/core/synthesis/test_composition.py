"""Composed pictures in training: fresh, drawn by (seed, step), in the asked share, and readable when written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core.config import CompositionConfig, ConfigError, DataConfig, OptimConfig, TrainConfig
from jmceln_core.data.dataset import SampleBuilder, StepDataset
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture, read_coco
from jmceln_core.synthesis import make
from jmceln_core.synthesis.composition import live as composition
from jmceln_core.synthesis.composition.cutouts import cut_from, cuts_from
from jmceln_core.synthesis.composition.live import FIRST_ID, Composition
from jmceln_core.training.loop import Trainer
from support.discs import build, write_model


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    (folder / "cutouts").mkdir()
    for k, kind in enumerate(("mug", "knob", "dice", "jug", "pear", "lamp", "keyboard", "crab", "belt", "shoe")):
        pixels = np.zeros((80, 60, 4), np.uint8)
        cv2.circle(pixels, (30, 40), 28, (60 + 12 * k, 90, 140 - 8 * k, 255), -1)
        cv2.imwrite(str(folder / "cutouts" / f"{kind}.png"), pixels)
        rows.append({
            "file": f"{kind}.png", "kind": kind, "colour": None, "share": 0.9, "view": "any", "origin": kind,
            "render": False,
        })  # fmt: skip
    (folder / "cutouts" / "cutouts.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def photograph(root) -> GroundingData:
    path = root / "photo.png"
    cv2.imwrite(str(path), np.full((60, 80, 3), 200, np.uint8))
    thing = Instance(1, "dog", [[5, 5, 40, 5, 40, 50, 5, 50]], (5, 5, 35, 45))
    picture = Picture(3, path, 60, 80, (thing,), repeat=40)
    return GroundingData({3: picture}, [Expression(3, (1,), f"dog {k}") for k in range(4)])


def steps(root: Path, photograph: GroundingData, share: float) -> StepDataset:
    config = DataConfig(root=root, sampling="mixture", written=1.0, composition=CompositionConfig(share=share))
    composer = Composition(config.composition, root, absent_share=0.25) if share else None
    builder = SampleBuilder(config, 128, 32, instances=True, composition=composer)
    return StepDataset(photograph, builder, images=4, sentences=4, seed=1)


def test_steps_are_functions_of_their_number_and_pictures_are_fresh(root, photograph):
    one, other = (steps(root, photograph, 0.5) for _ in range(2))
    for step in (0, 7, one.steps_per_epoch + 2):
        a, b = one[step][0], other[step][0]
        assert a.texts == b.texts
        assert a.images.equal(b.images)
        assert a.truth.equal(b.truth)
    composed = [texts for step in range(25) for texts in _composed(one[step][0])]
    assert 30 < len(composed) < 70  # of 100, at a share of a half
    assert len(set(composed)) > 0.9 * len(composed)
    assert not [t for step in range(4) for t in _composed(steps(root, photograph, 0.0)[step][0])]


def _composed(batch) -> list[tuple[str, ...]]:
    groups = [tuple(batch.texts[k : k + 4]) for k in range(0, len(batch.texts), 4)]
    return [texts for texts in groups if not all(t.startswith("dog ") for t in texts)]


def test_sentences_keep_their_masks_and_the_share_that_means_nothing(root):
    composer = Composition(CompositionConfig(share=1.0), root, absent_share=0.25)
    absent = 0
    for seed in range(60):
        made = composer(8, np.random.default_rng(seed))
        assert made is not None
        picture, sentences = made
        assert picture.id >= FIRST_ID
        assert len(sentences) == 8
        assert picture.load().shape == (picture.height, picture.width, 3)
        ids = {i.id for i in picture.instances}
        assert all(set(e.targets) <= ids and e.picture_id == picture.id for e in sentences)
        absent += sum(not e.targets for e in sentences)
    assert 0.17 < absent / (60 * 8) < 0.33


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"share": 1.5}, "composition.share=1.5"),
        ({"kinds": ("moons",)}, "tables, people"),
        ({"kinds": ()}, "one or more"),
    ],
)
def test_bad_values_are_refused_by_name(values, says):
    with pytest.raises(ConfigError, match=says):
        CompositionConfig(**values)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cutouts\.json"):
        composition.makers(tmp_path, ["tables"])


def test_written_pictures_are_read_back_as_they_were_made(root, tmp_path, capsys):
    arguments = ["--root", str(root), "--kind", "tables", "--split", "train", "--pictures", "4", "--out", str(tmp_path)]
    assert make.main(arguments) == 0
    assert "4 pictures" in capsys.readouterr().out
    data = read_coco(tmp_path, "train")
    again = {p.id: (p, said) for p, _, said in make.made(
        composition.makers(root, ["tables"])["tables"], make.FIRST_ID["tables"], 4, 0, pairs=False
    )}  # fmt: skip
    assert data.pictures.keys() == again.keys()
    for key, picture in data.pictures.items():
        made, said = again[key]
        assert [i.category for i in picture.instances] == [i.category for i in made.instances]
        for a, b in zip(picture.instances, made.instances, strict=True):
            assert np.array_equal(a.mask(made.height, made.width), b.mask(made.height, made.width))
        assert set(data.by_picture()[key]) == set(said)
    assert make.main(arguments) == 2
    assert "there already" in capsys.readouterr().err


def test_a_run_trains_on_composed_pictures_and_refuses_cached_ones(root, tmp_path):
    for folder in ("cutouts",):
        (tmp_path / folder).symlink_to(root / folder)
    build(tmp_path)
    config = TrainConfig(
        model=str(write_model(tmp_path / "small.yaml", presence_head=False, iou_head=False)),
        data=DataConfig(
            root=tmp_path,
            sources=("discs/train",),
            validation=2,
            composition=CompositionConfig(share=0.7),
            absent_share=0.3,
        ),
        optim=OptimConfig(steps=3, images=4, sentences=2, lr=1e-3),
    )
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    known = {e.text for some in trainer.feed.dataset.expressions for e in some}
    assert any(set(trainer.feed.dataset[step][0].texts) - known for step in range(3))
    trainer.run()
    (line,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert math.isfinite(line["loss"])
    cached = replace(config, data=replace(config.data, cache=tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"composition.*data\.cache"):
        Trainer(cached, tmp_path / "other", device="cpu")


def test_things_of_the_training_pictures_are_among_the_cut_outs(root, tmp_path):
    rgb = np.full((120, 160, 3), 40, np.uint8)
    cv2.ellipse(rgb, (80, 60), (40, 40), 0, 0, 360, (200, 30, 40), -1)
    cv2.imwrite(str(tmp_path / "x.png"), rgb[..., ::-1])
    circle = cv2.ellipse2Poly((80, 60), (40, 40), 0, 0, 360, 5).flatten().tolist()
    things = (Instance(1, "apple", [circle], (40, 20, 81, 81)), Instance(2, "car", [circle], (40, 20, 81, 81)))
    pictures = [
        Picture(k, tmp_path / name, 120, 160, (thing,))
        for k, (name, thing) in enumerate([("x.png", things[0]), ("x.png", things[1]), ("gone.png", things[0])])
    ]
    photographs = GroundingData({picture.id: picture for picture in pictures})
    of_kind = cut_from(cuts_from(photographs))
    (apple,) = of_kind["apple"]
    assert apple.colour == "red"
    pixels, alpha = apple.load()
    assert pixels.shape[:2] == alpha.shape
    assert np.ptp(pixels[alpha > 200].astype(int), axis=0).max() == 0  # the thing alone
    assert "car" not in of_kind  # which stands on no table
    config = CompositionConfig(share=1.0, photographs=True)
    made = Composition(config, root, absent_share=0.0, photographs=photographs).makers["tables"]
    shown = {s.instance.category for seed in range(30) for s in made(seed, np.random.default_rng(seed)).subjects}
    assert "apple" in shown
    plain = Composition(CompositionConfig(share=1.0), root, absent_share=0.0, photographs=photographs)
    assert "apple" not in plain.makers["tables"].of_kind


def test_what_people_wrote_of_a_made_picture_is_said_of_it(root):
    staged = composition.makers(root, ["tables"])["tables"](5, np.random.default_rng(5))
    written = Expression(5, (staged.subjects[0].instance.id,), "the shiny one", "short", "generated")
    plain = composition.told(staged, np.random.default_rng(0))
    assert written not in plain
    assert set(composition.told(staged._replace(written=(written,)), np.random.default_rng(0))) == {*plain, written}


def test_pairs_are_about_things_with_their_like_beside_them(root):
    maker, told = composition.makers(root, ["tables"])["tables"], 0
    for picture, _, said in make.made(maker, 1, 20, 0, pairs=True):
        kinds = [i.category for i in picture.instances]
        told += sum(bool(e.targets) for e in said)
        for e in said:
            assert e.kind not in ("name", "place")
            for target in e.targets:
                assert kinds.count(picture.instance(target).category) > 1
    assert told > 20


def test_a_kind_that_does_not_exist_and_a_folder_of_which_nothing_can_be_said_are_told(root, monkeypatch):
    with pytest.raises(ConfigError, match=r"moons.*tables, people"):
        composition.makers(root, ["moons"])
    composer = Composition(CompositionConfig(share=1.0), root, absent_share=0.0)
    monkeypatch.setattr(composition, "told", lambda staged, rng: [])
    with pytest.raises(DataError, match="20 pictures of tables"):
        composer(2, np.random.default_rng(0))
