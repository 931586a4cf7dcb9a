"""Losses against naive references, optimiser groups, schedule, averaging, and the loop on a drawn data set."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from jmceln_core import checkpoint
from jmceln_core.config import ConfigError, DataConfig, LossConfig, OptimConfig, TrainConfig
from jmceln_core.model import Prediction, build_model
from jmceln_core.train import main
from jmceln_core.training.features import ImageFeatureCache, TextFeatureCache
from jmceln_core.training.loop import Trainer
from jmceln_core.training.losses import contrast_loss, dice_loss, grounding_loss
from jmceln_core.training.optimiser import AveragedWeights, cosine, parameter_groups

COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 200)}


def test_dice_loss_is_its_definition() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, 5, 7, dtype=torch.float64), (torch.rand(3, 5, 7) > 0.6).double()
    for n, loss in enumerate(dice_loss(logits, target)):
        both = first = second = 0.0
        for y in range(5):
            for x in range(7):
                p = 1 / (1 + math.exp(-float(logits[n, y, x])))
                both, first, second = both + p * float(target[n, y, x]), first + p, second + float(target[n, y, x])
        assert float(loss) == pytest.approx(1 - (2 * both + 1) / (first + second + 1), abs=1e-12)


def test_contrast_loss_is_a_softmax_over_mean_logits_of_the_rivals() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 4, dtype=torch.float64)
    masks = torch.rand(2, 5, 4, 4, dtype=torch.float64)
    masks[0, 3] = 0  # covers nothing: no rival
    targets = torch.tensor([[0, 1, 0, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
    rivals = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]], dtype=torch.bool)
    for n, loss in enumerate(contrast_loss(logits, masks, targets, rivals)):
        means = {
            k: float((logits[n] * masks[n, k]).sum() / masks[n, k].sum())
            for k in range(5)
            if rivals[n, k] and masks[n, k].sum() > 0
        }
        total = sum(math.exp(m) for m in means.values())
        meant = sum(math.exp(m) for k, m in means.items() if targets[n, k])
        assert float(loss) == pytest.approx(-math.log(meant / total), abs=1e-9)


def test_a_sentence_without_target_adds_no_contrast_and_a_finite_gradient() -> None:
    logits = torch.randn(2, 4, 4, requires_grad=True)
    masks = torch.rand(2, 3, 4, 4)
    targets = torch.tensor([[False, False, False], [True, False, False]])
    loss = contrast_loss(logits, masks, targets, torch.ones(2, 3, dtype=torch.bool))
    assert loss[0] == 0
    assert loss[1] > 0
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[0] == 0).all()


def _prediction(n: int, coarse: int) -> Prediction:
    logits = torch.randn(n, 2, 8, 8, requires_grad=True)
    return Prediction(
        logits, [torch.randn(m, 4, 4, requires_grad=True) for m in (coarse, n)], torch.randn(n), torch.randn(n), None
    )


def test_grounding_loss_counts_the_first_sentences_of_each_picture_and_absent_ones_for_presence_alone() -> None:
    torch.manual_seed(2)
    b, s, dense = 2, 3, 2
    masks = torch.zeros(b, 2, 8, 8)
    masks[:, 0, :4], masks[:, 1, 4:] = 1, 1
    targets = torch.zeros(b, s, 2, dtype=torch.bool)
    targets[0, 0, 0] = targets[1, 1, 1] = targets[1, 2, 0] = True  # rows 0 and 3 of the four that go on
    rivals = torch.ones_like(targets)
    prediction = _prediction(b * dense, b * s)
    _, terms = grounding_loss(prediction, masks, targets, rivals, LossConfig())
    truth = {0: masks[0, 0], 3: masks[1, 1]}
    per_row = [
        torch.nn.functional.cross_entropy(prediction.logits[n : n + 1], t.long()[None]).item() for n, t in truth.items()
    ]
    assert terms["cross_entropy"] == pytest.approx(np.mean(per_row), abs=1e-6)
    present = torch.tensor([1.0, 0.0, 0.0, 1.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(prediction.presence, present).item()
    assert terms["presence"] == pytest.approx(expected, abs=1e-6)
    # an absent sentence's masks have no influence at all
    prediction.logits.data[1] += 5
    assert grounding_loss(prediction, masks, targets, rivals, LossConfig())[1]["cross_entropy"] == pytest.approx(
        terms["cross_entropy"], abs=1e-6
    )


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    torch.manual_seed(3)
    masks, targets = torch.rand(1, 2, 8, 8).round(), torch.tensor([[[True, False], [False, True]]])
    weights = LossConfig(cross_entropy=1.5, dice=0.5, coarse=2, contrast=3, presence=4, iou=5)
    total, terms = grounding_loss(_prediction(2, 2), masks, targets, torch.ones_like(targets), weights)
    assert total.item() == pytest.approx(sum(getattr(weights, k) * v for k, v in terms.items()), rel=1e-5)
    assert terms.keys() == {"cross_entropy", "dice", "coarse", "contrast", "presence", "iou"}


def test_optimiser_groups_hold_every_learning_parameter_once_and_decay_no_vector() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.3)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3)]
    assert [tuple(p.shape) for p in plain["params"]] == [(4,), (4,), (4,), (2,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.1),  # warm-up starts above zero
        (9, 1.0),  # and ends at the peak
        (10, 1.0),
        (60, 0.5),  # halfway down
        (110, 0.0),
    ],
)
def test_cosine_schedule(step: int, factor: float) -> None:
    assert cosine(step, steps=110, warmup=10) == pytest.approx(factor, abs=1e-9)


def test_averaged_weights_start_as_a_mean_and_copy_buffers() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    model[0].weight.data.fill_(0.0)
    average = AveragedWeights(model, 0.9)
    seen = [0.0]
    for value in (1.0, 2.0, 3.0):
        model[0].weight.data.fill_(value)
        model[1].running_mean.fill_(value)
        average.update(model)
        seen.append(value)
        assert float(average.model[0].weight) == pytest.approx(np.mean(seen))
        assert float(average.model[1].running_mean) == value


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn pictures of coloured discs on grey, in the layout of `read_coco`."""
    root = tmp_path_factory.mktemp("data")
    (root / "discs" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations, sentences = [], [], []
    for image_id in range(1, 9):
        canvas = np.full((48, 64, 3), 128, np.uint8)
        for k, (name, colour) in enumerate(COLOURS.items()):
            centre = (11 + 21 * k, int(rng.integers(14, 34)))
            cv2.circle(canvas, centre, 8, colour[::-1], -1)
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            polygon = np.stack([centre[0] + 8 * np.cos(angle), centre[1] + 8 * np.sin(angle)], 1)
            annotation = 10 * image_id + k
            annotations.append(
                {
                    "id": annotation,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [centre[0] - 8, centre[1] - 8, 16, 16],
                    "segmentation": [polygon.flatten().tolist()],
                    "iscrowd": 0,
                }
            )
            sentences.append({"image_id": image_id, "ann_id": annotation, "kind": "short", "text": f"{name} ball"})
        cv2.imwrite(str(root / "discs" / "images" / f"{image_id}.png"), canvas)
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 48, "width": 64})
    (root / "discs" / "instances_train.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "sports ball"}]})
    )
    absent = [{"image_id": 1, "text": "the yellow ball"}]
    (root / "discs" / "expressions_train.json").write_text(json.dumps({"expressions": sentences, "absent": absent}))
    return root


@pytest.fixture
def config(data_root: Path, tmp_path: Path) -> TrainConfig:
    """A run on the discs with small frozen random encoders."""
    model = {
        "name": "small",
        "image_size": 64,
        "image_encoder": {"name": "tiny", "frozen": True, "channels": 16},
        "text_encoder": {"name": "tiny", "frozen": True},
        "channels": 16,
        "heads": 2,
        "queries": 4,
        "stages": 2,
        "dense_from": 1,
        "fusion": "queries",
        "norm": "group",
        "window": 4,
        "dilations": [1, 2],
        "head_channels": [8, 8],
        **dict.fromkeys(("positions", "words", "query_mixing", "fine_skip"), True),
        **dict.fromkeys(("deep_supervision", "mask_prompt", "presence_head", "iou_head"), True),
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(model))
    return TrainConfig(
        model=str(path),
        data=DataConfig(root=data_root, sources=("discs/train",), validation=2, views=2, cache=tmp_path / "cache"),
        optim=OptimConfig(steps=6, images=2, sentences=3, dense=2, warmup=2),
        validate_every=3,
    )


def test_a_run_ends_with_checkpoints_the_loader_takes_and_a_line_a_validation(
    config: TrainConfig, tmp_path: Path
) -> None:
    Trainer(config, tmp_path / "run", device="cpu").run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert all(0 <= line["val_miou"] <= 1 and math.isfinite(line["loss"]) for line in lines)
    for name in ("last", "best"):
        saved = checkpoint.load(tmp_path / "run" / f"{name}.safetensors")
        saved.load_into(build_model(saved.config))


def test_an_interrupted_run_resumes_to_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    Trainer(config, tmp_path / "whole", device="cpu").run()

    class Stopped(Exception):
        pass

    interrupted = Trainer(config, tmp_path / "parts", device="cpu")
    draw = interrupted.batches.batch

    def stop_at_five(step: int) -> object:
        if step == 5:
            raise Stopped
        return draw(step)

    interrupted.batches.batch = stop_at_five  # type: ignore[method-assign,assignment]
    with pytest.raises(Stopped):
        interrupted.run()
    resumed = Trainer(config, tmp_path / "parts", device="cpu")
    assert resumed.step == 3
    resumed.run()
    whole, parts = (load_file(tmp_path / run / "state.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_the_last_line_is_a_mean_over_its_own_steps(config: TrainConfig, tmp_path: Path) -> None:
    plain = replace(config, optim=replace(config.optim, steps=4), validate_every=4)
    uneven = replace(plain, validate_every=3)
    for run, settings in (("plain", plain), ("uneven", uneven)):
        Trainer(settings, tmp_path / run, device="cpu").run()

    def losses(run: str) -> list[float]:
        return [json.loads(line)["loss"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]

    first, last = losses("uneven")
    assert losses("plain") == [pytest.approx((3 * first + last) / 4, abs=1e-4)]


def test_cached_features_know_what_they_depend_on_and_any_text(config: TrainConfig, tmp_path: Path) -> None:
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    picture = next(iter(trainer.batches.data.pictures.values()))
    elsewhere = replace(picture, path=tmp_path / "discs" / "images" / picture.path.name)
    assert trainer.images.path(picture, 0) != trainer.images.path(elsewhere, 0)
    encoder = trainer.model.image_encoder
    assert (
        ImageFeatureCache(tmp_path, encoder, 64, (8,)).folder != ImageFeatureCache(tmp_path, encoder, 64, (9,)).folder
    )
    texts = TextFeatureCache(tmp_path, trainer.model.text_encoder, 30)
    texts.fill(["two\nlines", "the ball"])
    again = TextFeatureCache(tmp_path, trainer.model.text_encoder, 30)
    assert list(again.row) == list(texts.row)
    for one, two in zip(again.words, texts.words, strict=True):
        assert torch.equal(one, two)
    assert TextFeatureCache(tmp_path, trainer.model.text_encoder, 8).row == {}


def test_a_run_of_another_model_is_not_resumed(config: TrainConfig, tmp_path: Path) -> None:
    Trainer(config, tmp_path / "run", device="cpu").run()
    other = replace(config, model_overrides=("channels=32",))
    with pytest.raises(ConfigError, match="another model"):
        Trainer(other, tmp_path / "run", device="cpu")


def test_training_learns_the_discs_and_leaves_frozen_encoders_alone(config: TrainConfig, tmp_path: Path) -> None:
    longer = replace(config, optim=replace(config.optim, steps=60, lr=3e-3), validate_every=30)
    trainer = Trainer(longer, tmp_path / "run", device="cpu")
    before = {k: v.clone() for k, v in trainer.model.image_encoder.state_dict().items()}
    trainer.run()
    first, last = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert last["loss"] < first["loss"]
    assert last["contrast"] < 0.9 * math.log(3)  # better than guessing among three discs
    after = trainer.model.image_encoder.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_command_names_a_wrong_field_and_a_missing_folder(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", config.model, "--output", str(tmp_path / "run"), "--device", "cpu"]
    with pytest.raises(SystemExit):
        main([*arguments, "--optim.stepps", "3"])
    assert "stepps" in capsys.readouterr().err
    missing = ["--data.sources", "[discs/train]", "--data.root", str(tmp_path / "nowhere")]
    assert main([*arguments, *missing]) == 2
    assert "nowhere" in capsys.readouterr().err
