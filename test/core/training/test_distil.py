"""A small network that learns from a larger one's answers: what either sees, what is learned, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jmceln_core import checkpoint
from jmceln_core.config import (
    ConfigError,
    DataConfig,
    DistilConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    from_dict,
    load_model_config,
)
from jmceln_core.data.dataset import SampleBuilder
from jmceln_core.data.readers import read_training
from jmceln_core.model import build_model
from jmceln_core.train import main
from jmceln_core.training.distil import Teacher, shrunk
from jmceln_core.training.loop import Trainer
from jmceln_core.training.losses import Lesson
from support.discs import COLOURS, MODEL, build, write_model

SIDE = MODEL["image_size"]


def write_teacher(path: Path, **changes: Any) -> str:
    """A checkpoint with random weights of a network that sees twice as much and reads fewer tokens."""
    text = MODEL["text_encoder"] | {"tokens": 12}
    config = from_dict(ModelConfig, MODEL | {"name": "large", "image_size": 2 * SIDE, "text_encoder": text} | changes)
    torch.manual_seed(7)
    checkpoint.save(path, build_model(config).state_dict(), config)
    return str(path)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(data_root: Path, tmp_path: Path) -> TrainConfig:
    """Six steps of the student with a teacher whose answers are noise."""
    return TrainConfig(
        model=str(write_model(tmp_path / "small.yaml", pan=False)),
        data=DataConfig(root=data_root, sources=("discs/train",), validation=2, absent_share=0.2, mirror=0.5, crop=0.5),
        optim=OptimConfig(steps=6, images=2, sentences=3, dense=2, lr=1e-3, schedule="constant", clip=1.0, ema=0.9),
        loss=LossConfig(cross_entropy=2.0, dice=1.0, coarse=0.5, contrast=0.5, presence=0.25, iou=0.1),
        distil=DistilConfig(write_teacher(tmp_path / "large.safetensors"), mask=1.0, coarse=0.5, presence=0.5),
        validate_every=3,
        threads=1,
    )


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher who finds red, green and blue by their share of a pixel's light, and is never quite sure."""

    def answer(self: Teacher, images: torch.Tensor, texts: list[str]) -> Lesson:
        pixels = images.repeat_interleave(len(texts) // len(images), 0).float()
        shares = pixels / pixels.sum(1, keepdim=True)
        named = [next((c for c, name in enumerate(COLOURS) if name in text), None) for text in texts]
        found = [x[c or 0] > (1 if c is None else 0.45) for x, c in zip(shares, named, strict=True)]
        sure = torch.tensor([0.03 if c is None else 0.97 for c in named])
        return Lesson(0.02 + 0.96 * torch.stack(found).float(), sure)

    monkeypatch.setattr(Teacher, "__call__", answer)


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_teacher_and_student_see_the_same_view_and_the_student_its_area_average(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    assert trainer.feed.dataset is not None
    assert trainer.learner.teacher is not None
    (batch,) = trainer.feed.dataset[0]
    assert batch.images.shape == (2, 3, 2 * SIDE, 2 * SIDE)
    assert batch.truth.shape[2:] == (trainer.model_config.mask_size,) * 2
    seen: dict[str, Any] = {}

    def look(self: Teacher, images: torch.Tensor, texts: list[str]) -> Lesson:
        seen["teacher"], seen["texts"] = images, texts
        return ask(self, images, texts)

    ask = Teacher.__call__
    monkeypatch.setattr(Teacher, "__call__", look)
    trainer.model.register_forward_pre_hook(lambda module, arguments: seen.update(student=arguments[0]))
    trainer.learner.learn([batch], trainer.step)
    assert torch.equal(seen["teacher"], batch.images)
    assert seen["texts"] == [text for n, text in enumerate(batch.texts) if n % 3 < 2]
    torch.testing.assert_close(seen["student"], F.avg_pool2d(batch.images.float() / 255, 2), rtol=0, atol=0)
    plain = trainer.feed.validation[0].images
    trainer.validate()
    assert plain.shape[2:] == (SIDE, SIDE)
    assert seen["student"].dtype == torch.uint8
    assert shrunk(plain, SIDE) is plain


def test_a_larger_view_shows_the_same(data_root: Path) -> None:
    """The same crop, mirrored or not, and the same truth, but for what falls between the smaller view's pixels."""
    data = DataConfig(root=data_root, sources=("discs/train",), validation=2, mirror=0.5, crop=1.0, photometric=1.0)
    training, _ = read_training(data)
    small, large = (SampleBuilder(data, SIDE, SIDE // 4, instances=True, view_size=n * SIDE) for n in (0, 2))
    (key, said), *_ = training.by_picture().items()
    picture = training.pictures[key]
    for seed in range(10):
        one, two = (builder(picture, said, np.random.default_rng(seed)) for builder in (small, large))
        assert one.texts == two.texts
        average = shrunk(torch.from_numpy(two.image.transpose(2, 0, 1).copy())[None], SIDE)[0] * 255
        assert (average - torch.from_numpy(one.image.transpose(2, 0, 1).copy())).abs().mean() < 3
        for name in ("truth", "instances"):
            first, second = getattr(one, name), getattr(two, name)
            assert first.shape == second.shape
            assert np.abs(first.astype(float) - second).mean() < 6
    assert large(picture, said).image.shape == (SIDE, SIDE, 3)


def test_a_batch_that_is_learned_by_heart_is_what_the_teacher_says(
    config: TrainConfig, tmp_path: Path, oracle: None
) -> None:
    """With almost no truth: the masks and the presences are the teacher's, also how sure they are."""
    loss = LossConfig(cross_entropy=1e-4, presence=1e-4, iou=1e-4)
    settings = replace(config, loss=loss, optim=replace(config.optim, steps=200, dense=0, lr=5e-3, schedule="cosine"))
    trainer = Trainer(settings, tmp_path / "run", device="cpu")
    assert trainer.feed.dataset is not None
    assert trainer.learner.teacher is not None
    batch = trainer.feed.dataset[0]
    found = []
    for _ in range(trainer.steps):
        found.append(trainer.learner.learn(batch, trainer.step).found)
        trainer.step += 1
    assert found[-1]["distil_trusted"] == 1
    trainer.learner.wrapped.eval()
    with torch.no_grad():
        prediction = trainer.learner.predict(batch[0], dense=None)
    lesson = trainer.learner.teacher(batch[0].images, batch[0].texts)
    mask = F.adaptive_avg_pool2d(lesson.mask, prediction.logits.shape[2:])
    there = batch[0].present.flatten()
    away = (prediction.logits.softmax(1)[:, 1] - mask)[there].abs()
    assert away.mean() < 0.02
    assert prediction.presence is not None
    torch.testing.assert_close(prediction.presence.sigmoid(), lesson.presence, atol=0.02, rtol=0)


def test_parts_of_a_step_add_up_to_the_step(config: TrainConfig, tmp_path: Path, oracle: None) -> None:
    found = []
    for parts in (1, 2):
        settings = replace(config, optim=replace(config.optim, accumulate=parts))
        trainer = Trainer(settings, tmp_path / str(parts), device="cpu")
        assert trainer.feed.dataset is not None
        found.append(trainer.learner.learn(trainer.feed.dataset[0], trainer.step).found)
    assert found[0]["distil_trusted"] > 0
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one_and_the_teacher_stays_as_it_is(
    config: TrainConfig, tmp_path: Path
) -> None:
    whole = Trainer(config, tmp_path / "whole", device="cpu")
    whole.run()
    Trainer(replace(config, optim=replace(config.optim, steps=3)), tmp_path / "parts", device="cpu").run()
    Trainer(config, tmp_path / "parts", device="cpu").run()
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    for name in ("state", "last", "best"):
        one, two = (checkpoint.load_tensors(tmp_path / run / f"{name}.safetensors") for run in ("whole", "parts"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    kept = checkpoint.load(config.distil.teacher).state
    assert whole.learner.teacher is not None
    assert all(torch.equal(kept[name], x) for name, x in whole.learner.teacher.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in whole.learner.teacher.model.parameters())
    assert not any(module.training for module in whole.learner.teacher.model.modules())


def test_a_teacher_changes_neither_the_start_nor_the_truths_losses(config: TrainConfig, tmp_path: Path) -> None:
    """A teacher of the same size: the first step's data are the same, too."""
    teacher = write_teacher(tmp_path / "same.safetensors", image_size=SIDE)
    taught, alone = (
        Trainer(replace(config, distil=distil), tmp_path / name, device="cpu")
        for name, distil in (("taught", replace(config.distil, teacher=teacher)), ("alone", DistilConfig()))
    )
    for one, two in zip(taught.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(one, two)
    found, without = (t.learner.learn(t.feed.dataset[0], t.step).found for t in (taught, alone))  # type: ignore[index]
    assert {name for name in found if name.startswith("distil")} == found.keys() - without.keys()
    assert all(found[name] == value for name, value in without.items() if name not in ("loss", "gradient"))
    assert found["loss"] > without["loss"]


def test_the_students_cached_features_are_not_the_teachers(config: TrainConfig, tmp_path: Path) -> None:
    """The teacher reads the sentences and the pictures itself: with caches it says what it says without."""
    frozen = {kind: MODEL[kind] | {"frozen": True} for kind in ("image_encoder", "text_encoder")}
    settings = replace(
        config,
        model=str(write_model(tmp_path / "frozen.yaml", pan=False, **frozen)),
        data=replace(config.data, mirror=0.0, crop=0.0),
        distil=replace(config.distil, teacher=write_teacher(tmp_path / "same.safetensors", image_size=SIDE)),
    )
    cached = replace(settings, data=replace(settings.data, cache=tmp_path / "cache"))
    found = []
    for name, one in (("cached", cached), ("running", settings)):
        trainer = Trainer(one, tmp_path / name, device="cpu")
        assert trainer.feed.dataset is not None
        assert (trainer.feed.texts is not None) == (one is cached)
        found.append(trainer.learner.learn(trainer.feed.dataset[0], trainer.step).found)
    assert found[0] == pytest.approx(found[1], rel=5e-3)  # features are kept in fp16
    with pytest.raises(ConfigError, match=r"data\.cache keeps pictures of 64 x 64, the teacher sees 128 x 128"):
        Trainer(replace(cached, distil=config.distil), tmp_path / "larger", device="cpu")


@pytest.mark.parametrize(
    ("teacher", "student", "named"),
    [
        ({"image_size": 96}, (), "96 x 96, .* 64 x 64"),
        ({"image_size": 32}, (), "32 x 32, .* 64 x 64"),
        ({"resize": "squash"}, (), "resize=squash, the model with resize=letterbox"),
        ({"presence_head": False}, (), r"distil\.presence=0\.5 needs a teacher with presence_head=true"),
        ({}, ("presence_head=false",), r"distil\.presence=0\.5 needs a model with presence_head=true"),
        ({}, ("deep_supervision=false", "mask_prompt=false"), r"distil\.coarse=0\.5 needs .*deep_supervision=true"),
    ],
)
def test_a_teacher_that_cannot_teach_this_model_is_refused(
    config: TrainConfig, tmp_path: Path, teacher: dict[str, Any], student: tuple[str, ...], named: str
) -> None:
    distil = replace(config.distil, teacher=write_teacher(tmp_path / "other.safetensors", **teacher))
    with pytest.raises(ConfigError, match=named):
        Teacher(distil, load_model_config(config.model, student))


def test_the_command_says_what_a_teacher_needs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--distil.mask", "1", "--output", str(tmp_path / "run")])
    assert "distil.mask=1.0 without a teacher" in capsys.readouterr().err


def test_a_teacher_that_is_not_there_is_named(config: TrainConfig, tmp_path: Path) -> None:
    settings = replace(config, distil=replace(config.distil, teacher="nobody"))
    with pytest.raises(ConfigError, match=r"distil\.teacher: .*nobody"):
        Trainer(settings, tmp_path / "run", device="cpu")
