"""The training loop on a drawn data set: what it leaves behind, what it learns, what it refuses."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from jmceln_core import checkpoint
from jmceln_core.config import (
    CompositionConfig,
    ConfigError,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from jmceln_core.data.grounding import DataError, GroundingData
from jmceln_core.data.readers import read_training
from jmceln_core.geometry import PAD_COLOUR, Letterbox
from jmceln_core.model import build_model
from jmceln_core.train import main
from jmceln_core.training import resume
from jmceln_core.training.board import Board
from jmceln_core.training.engine import check_torch
from jmceln_core.training.features import ImageFeatureCache, TextFeatureCache
from jmceln_core.training.feed import content_of
from jmceln_core.training.loop import Trainer
from jmceln_core.training.run_folder import RunFolder, State, TrainingError
from support.discs import MODEL, build, command, write_model

NO_BATCH_STATISTICS = ("pan=false",)  # the PAN's SwitchNorm sees the pictures that are worked off together


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(data_root: Path, tmp_path: Path) -> TrainConfig:
    """The bundled model's way: frozen encoders, cached features in several views, many sentences an image half."""
    frozen = {kind: MODEL[kind] | {"frozen": True} for kind in ("image_encoder", "text_encoder")}
    return TrainConfig(
        model=str(write_model(tmp_path / "small.yaml", **frozen)),
        data=DataConfig(
            root=data_root,
            sources=("discs/train",),
            validation=2,
            sampling="mixture",
            generated=3,
            absent=3,
            absent_share=0.1,
            mirror=0.5,
            views=2,
            cache=tmp_path / "cache",
        ),
        optim=OptimConfig(
            steps=6, images=2, sentences=3, dense=2, warmup=2, lr=6e-4, schedule="cosine", clip=1.0, ema=0.998
        ),
        loss=LossConfig(cross_entropy=2.0, dice=1.0, coarse=0.5, contrast=0.5, presence=0.25, iou=0.1),
        validate_every=3,
    )


@pytest.fixture
def small(data_root: Path, tmp_path: Path) -> TrainConfig:
    """The paper's way: everything learns, one sentence a picture, cross-entropy."""
    model = write_model(tmp_path / "plain.yaml", presence_head=False, iou_head=False)
    return TrainConfig(
        model=str(model),
        data=DataConfig(root=data_root, sources=("discs/train",), validation=2),
        optim=OptimConfig(epochs=2, images=4, lr=1e-3),
    )


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_ends_with_checkpoints_the_loader_takes_and_a_line_an_epoch(small: TrainConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Trainer(small, run, device="cpu").run()
    assert [(line["epoch"], line["step"]) for line in lines(run)] == [(1, 4), (2, 8)]  # 6 pictures, 18 things
    assert all(0 <= line["val_miou"] <= 1 and math.isfinite(line["loss"]) for line in lines(run))
    for name in ("last", "best"):
        saved = checkpoint.load(run / f"{name}.safetensors")
        saved.load_into(build_model(saved.config))
    assert json.loads((run / "config.json").read_text())["train"]["optim"]["images"] == 4
    start = json.loads((run / "starts.jsonl").read_text())
    assert start["step"] == 0
    assert start["packages"]["torch"] == torch.__version__.partition("+")[0]


def test_the_best_step_is_kept(config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.3, 0.5, 0.4])
    monkeypatch.setattr(Trainer, "validate", lambda self, board: {"val_miou": next(scores), "val_pointing": 0.0})
    Trainer(replace(config, validate_every=2), tmp_path / "run", device="cpu").run()
    steps = [checkpoint.load(tmp_path / "run" / f"{name}.safetensors").extra["step"] for name in ("best", "last")]
    assert steps == [4, 6]


def test_the_last_line_is_a_mean_over_its_own_steps(config: TrainConfig, tmp_path: Path) -> None:
    plain = replace(config, optim=replace(config.optim, steps=4), validate_every=4)
    uneven = replace(plain, validate_every=3)
    for run, settings in (("plain", plain), ("uneven", uneven)):
        Trainer(settings, tmp_path / run, device="cpu").run()
    first, last = (line["loss"] for line in lines(tmp_path / "uneven"))
    assert [line["loss"] for line in lines(tmp_path / "plain")] == [pytest.approx((3 * first + last) / 4, abs=1e-4)]


def test_parts_of_a_step_add_up_to_the_step(config: TrainConfig, tmp_path: Path) -> None:
    for parts in (1, 2):
        settings = replace(config, optim=replace(config.optim, accumulate=parts), model_overrides=NO_BATCH_STATISTICS)
        Trainer(settings, tmp_path / str(parts), device="cpu").run()
    for one, two in zip(lines(tmp_path / "1"), lines(tmp_path / "2"), strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=2e-6)


def test_workers_change_nothing(small: TrainConfig, tmp_path: Path) -> None:
    for workers in (0, 2):
        settings = replace(small, data=replace(small.data, workers=workers), optim=replace(small.optim, epochs=1))
        Trainer(settings, tmp_path / str(workers), device="cpu").run()
    assert lines(tmp_path / "0") == lines(tmp_path / "2")


@pytest.mark.parametrize("cached", [False, True])
def test_a_squashed_network_trains_and_validates_on_squashed_pictures(
    config: TrainConfig, tmp_path: Path, cached: bool
) -> None:
    """And its cached features are none of a letterboxed network's."""
    data = config.data if cached else replace(config.data, cache=None, views=1)
    feeds = {}
    for resize in ("letterbox", "squash"):
        settings = replace(config, data=data, model_overrides=(f"resize={resize}",))
        feeds[resize] = Trainer(settings, tmp_path / resize, device="cpu").feed
    feed = feeds["squash"]
    item, batch = feed.validation.items[0], feed.validation[0]
    box = Letterbox(48, 64, 64, "squash")
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0).numpy(), box.image(item.picture.load()))
    true = np.logical_or.reduce([i.mask(48, 64) for i in item.picture.instances if i.id in item.sentences[0].targets])
    seen = batch.truth[0, 0].numpy() > 127
    other = cv2.resize(box.mask(true).astype(np.float32), seen.shape, interpolation=cv2.INTER_AREA) > 0.5
    assert (seen == other).mean() > 0.99
    padded = torch.tensor(PAD_COLOUR)[:, None]
    assert (feeds["letterbox"].validation[0].images[0, :, 0] == padded).all()
    if cached:
        folders = {str(getattr(feed.builder.cache, "folder", "")) for feed in feeds.values()}
        assert len(folders) == 2


def test_cached_features_know_what_they_depend_on_and_any_text(config: TrainConfig, tmp_path: Path) -> None:
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    assert trainer.feed.dataset is not None
    cache, encoder = trainer.feed.builder.cache, trainer.model.image_encoder
    assert cache is not None
    folders = [ImageFeatureCache(tmp_path, encoder, 64, (blocks,)).folder for blocks in (8, 9)]
    assert folders[0] != folders[1]
    texts = TextFeatureCache(tmp_path, trainer.model.text_encoder, 30)
    texts.fill(["two\nlines", "the ball"])
    again = TextFeatureCache(tmp_path, trainer.model.text_encoder, 30)
    assert list(again.row) == list(texts.row)
    for one, two in zip(again.words, texts.words, strict=True):
        assert torch.equal(one, two)
    assert TextFeatureCache(tmp_path, trainer.model.text_encoder, 8).row == {}


def test_cached_features_train_like_encoders_that_run(config: TrainConfig, tmp_path: Path) -> None:
    plain = replace(config, data=replace(config.data, views=1, mirror=0.0))
    Trainer(plain, tmp_path / "cached", device="cpu").run()
    Trainer(replace(plain, data=replace(plain.data, cache=None)), tmp_path / "running", device="cpu").run()
    for one, two in zip(lines(tmp_path / "cached"), lines(tmp_path / "running"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=2e-3)  # features are kept in fp16


def test_training_learns_the_discs_and_leaves_frozen_encoders_alone(config: TrainConfig, tmp_path: Path) -> None:
    longer = replace(config, optim=replace(config.optim, steps=60, lr=3e-3), validate_every=30)
    trainer = Trainer(longer, tmp_path / "run", device="cpu")
    before = {k: v.clone() for k, v in trainer.model.image_encoder.state_dict().items()}
    trainer.run()
    first, last = lines(tmp_path / "run")
    assert last["loss"] < first["loss"]
    assert last["contrast"] < 0.9 * math.log(3)  # better than guessing among three discs
    after = trainer.model.image_encoder.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_encoders_learn_unless_they_are_frozen(small: TrainConfig, tmp_path: Path) -> None:
    trainer = Trainer(small, tmp_path / "run", device="cpu")
    before = [
        p.detach().clone() for e in (trainer.model.image_encoder, trainer.model.text_encoder) for p in e.parameters()
    ]
    trainer.run()
    after = [p for e in (trainer.model.image_encoder, trainer.model.text_encoder) for p in e.parameters()]
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_coarse_masks_that_nothing_reads_do_not_learn(small: TrainConfig, tmp_path: Path) -> None:
    for read in ("true", "false"):
        settings = replace(small, model_overrides=(f"mask_prompt={read}",))
        trainer = Trainer(settings, tmp_path / read, device="cpu")
        assert trainer.model.coarse is not None
        assert {p.requires_grad for p in trainer.model.coarse.parameters()} == {read == "true"}


def test_tensorboard_has_losses_rates_metrics_and_pictures(small: TrainConfig, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = replace(small, optim=replace(small.optim, epochs=6), overlays=1)
    Trainer(settings, tmp_path / "run", device="cpu").run()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/cross_entropy", "rate/all", "val/val_miou"} <= set(tags["scalars"])
    assert [e.step for e in events.Scalars("val/val_miou")] == [4, 8, 12, 16, 20, 24]
    assert tags["images"] == ["val/0"]


def test_curves_that_cannot_be_written_are_said_once_and_end_no_run(
    small: TrainConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    board = Board(tmp_path / "tensorboard", step=0)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, unlimited[1]))  # no file can grow beyond this, as on a full disk
    try:
        for step in range(20):
            board.scalars("train", dict.fromkeys("abcdefghij", 1.0), step)
            time.sleep(0.01)
        board.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    said = capfd.readouterr()
    assert (said.out + said.err).count("TensorBoard's curves end here") == 1
    assert "Traceback" not in said.err


class Fatal(Dataset):
    """A data set whose reader gets a signal."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), self.number)
        return index


@pytest.mark.parametrize(("number", "remedy"), [(signal.SIGKILL, "memory is full"), (signal.SIGBUS, "--shm-size")])
def test_a_worker_that_dies_is_explained(small: TrainConfig, tmp_path: Path, number: int, remedy: str) -> None:
    trainer = Trainer(replace(small, data=replace(small.data, workers=1)), tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match=rf"data\.workers=1.*{remedy}"):
        list(trainer.feed.loader(Fatal(number)))


def test_a_small_shared_memory_is_named_with_its_remedy(data_root: Path, tmp_path: Path) -> None:
    """In a container of its own, whose /dev/shm holds less than a batch."""
    container = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    small = "mount -t tmpfs -o size=48k tmpfs /dev/shm"
    if shutil.which("unshare") is None or subprocess.run([*container, small], check=False).returncode:
        pytest.skip("no mount namespaces here")
    arguments = [*command(data_root, write_model(tmp_path / "small.yaml")), "--output", str(tmp_path / "run")]
    train = [sys.executable, "-m", "jmceln_core.train", *arguments, "--data.workers", "1"]
    done = subprocess.run(
        [*container, f'{small} && exec "$@"', "train", *train], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]  # before it the worker may have begun to say how it dies
    assert "data.workers=1): /dev/shm is too small" in last
    assert "docker run --shm-size" in last


def test_an_unreadable_picture_is_counted_and_the_run_goes_on(small: TrainConfig, tmp_path: Path) -> None:
    root = build(tmp_path / "broken")
    trainer = Trainer(replace(small, data=replace(small.data, root=root)), tmp_path / "run", device="cpu")
    assert trainer.feed.dataset is not None
    for picture in (trainer.feed.dataset.pictures[0], trainer.feed.validation.items[0].picture):
        picture.path.write_bytes(b"not a picture")
    trainer.run()
    assert [line["skipped_pictures"] for line in lines(tmp_path / "run")] == [pytest.approx(3, abs=2)] * 2
    assert [line["val_skipped"] for line in lines(tmp_path / "run")] == [1, 1]


def test_a_run_starts_from_a_checkpoint(small: TrainConfig, tmp_path: Path) -> None:
    Trainer(small, tmp_path / "first", device="cpu").run()
    path = str(tmp_path / "first" / "last.safetensors")
    second = Trainer(replace(small, start_from=path), tmp_path / "second", device="cpu")
    kept = checkpoint.load(path).state
    assert all(torch.allclose(kept[k], v, atol=1e-3) for k, v in second.model.state_dict().items())
    assert second.step == 0


def test_a_run_starts_from_a_checkpoint_that_lacks_parts_and_says_which_start_new(
    small: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(small, tmp_path / "first", device="cpu").run()
    path = str(tmp_path / "first" / "last.safetensors")
    kept = checkpoint.load(path).state

    def start(*overrides: str) -> tuple[dict[str, torch.Tensor], set[str], str]:
        """The state it starts with, the parts of it that are not the checkpoint's, and what was said."""
        capsys.readouterr()
        settings = replace(small, start_from=path, model_overrides=overrides)
        state = Trainer(settings, tmp_path / "-".join(overrides) / "run", device="cpu").model.state_dict()
        other = {k for k, v in state.items() if k not in kept or not torch.equal(kept[k], v)}
        parts = {k.partition(".pan.")[0] + ".pan" if ".pan." in k else k.split(".")[0] for k in other}
        return state, parts, capsys.readouterr().out

    _, new, said = start()
    assert (new, "start new" in said) == (set(), False)
    _, new, said = start("colour_path=true")
    assert new == {"colour_path"}
    assert f"start_from: {path}: these parts start new: colour_path\n" in said
    state, new, said = start("colour_path=true", "pan_gates=bounded")
    assert new == {"colour_path", "stages.1.pan"}
    assert "these parts start new: colour_path, stages.1.pan (pan_gates was product)\n" in said
    pan = {k.removeprefix("stages.1.pan."): v for k, v in state.items() if k.startswith("stages.1.pan.")}
    assert not torch.equal(pan["gate2.weight"], kept["stages.1.pan.gate2.weight"])
    assert not pan["norm.running_mean"].any()  # nor its statistics
    assert (pan["norm.running_var"] == 1).all()
    for override, message in (("channels=32", "of another shape"), ("fine_skip=false", "unexpected: ")):
        with pytest.raises(ConfigError, match=rf"start_from: .*{message}"):
            start(override)


def test_validation_adds_up_as_one_sentence_after_the_other(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, data=replace(config.data, names=3, absent=0, validation=3, cache=None, views=1))
    trainer = Trainer(config, tmp_path / "run", device="cpu")
    trainer.run()
    scores = trainer.validate()
    ious, hits = [], []
    told: dict[str, list[bool]] = {"accepted": [], "rejected": [], "names_accepted": [], "nothing_rejected": []}
    trainer.model.eval()
    for asked in trainer.feed.validation.items:
        sample = trainer.feed.builder(asked.picture, asked.sentences)
        image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))[None]
        with torch.no_grad():  # together: on its own a sentence is another product, equal to rounding only
            out = trainer.model(image, trainer.model.text_encoder.tokenize(sample.texts))
        for n in range(len(sample.texts)):
            there = bool(asked.sentences[n].targets)
            assert out.presence is not None
            sort = ("nothing_rejected", "names_accepted") if asked.existence else ("rejected", "accepted")
            told[sort[there]].append(bool(out.presence[n] > 0) == there)
            truth, margin = sample.truth[n] > 127, (out.logits[n, 1] - out.logits[n, 0]).numpy()
            if there and not asked.existence and truth.any():
                ious.append((truth & (margin > 0)).sum() / max(1, (truth | (margin > 0)).sum()))
                hits.append(bool(truth[np.unravel_index(margin.argmax(), margin.shape)]))
    assert scores["val_miou"] == pytest.approx(np.mean(ious), abs=1e-5)
    assert scores["val_pointing"] == pytest.approx(np.mean(hits))
    for name, right in told.items():
        assert bool(right) == (f"val_{name}" in scores)
        assert not right or scores[f"val_{name}"] == pytest.approx(np.mean(right))
    assert told["names_accepted"]
    assert told["nothing_rejected"]
    both = told["accepted"] + told["rejected"]
    assert scores["val_presence"] == pytest.approx(np.mean(both))


def test_parts_that_start_new_have_a_rate_of_their_own(small: TrainConfig, tmp_path: Path) -> None:
    Trainer(replace(small, optim=replace(small.optim, epochs=1)), tmp_path / "first", device="cpu").run()
    start = str(tmp_path / "first" / "last.safetensors")
    optim = replace(small.optim, new_lr=5.0, encoder_lr=0.1)
    settings = replace(small, start_from=start, model_overrides=("colour_path=true",), optim=optim)
    trainer = Trainer(settings, tmp_path / "second", device="cpu")
    path_of = {id(p): name for name, p in trainer.model.named_parameters()}
    rates = {path_of[id(p)]: g["lr"] for g in trainer.learner.optimiser.param_groups for p in g["params"]}
    assert {name for name, lr in rates.items() if lr == pytest.approx(5 * small.optim.lr)} == {
        name for name in rates if name.startswith("colour_path.")
    }
    assert len({round(lr / small.optim.lr, 3) for lr in rates.values()}) == 3
    # a run goes on with these rates, whatever its start's checkpoint has become
    trainer.run()
    (tmp_path / "second" / "last.safetensors").replace(start)
    again = Trainer(settings, tmp_path / "second", device="cpu")
    assert [(g["name"], g["initial_lr"], len(g["params"])) for g in again.learner.optimiser.param_groups] == [
        (g["name"], g["initial_lr"], len(g["params"])) for g in trainer.learner.optimiser.param_groups
    ]


def test_validation_says_which_share_of_what_pans_add_is_live(config: TrainConfig, tmp_path: Path) -> None:
    three = ("stages=4", "pan_gates=bounded")  # of which the last three are dense
    trainer = Trainer(replace(config, model_overrides=three), tmp_path / "run", device="cpu")
    with torch.no_grad():
        for stage, dead in zip(trainer.model.stages[1:], (4, 8, 16), strict=True):
            stage.pan.norm.weight.fill_(100)
            stage.pan.norm.weight[:dead] = 0
    assert trainer.validate()["val_pan_live"] == pytest.approx((12 / 16 + 8 / 16 + 0) / 3)
    assert not any(stage.pan.norm._forward_hooks for stage in trainer.model.stages[1:])
    without = Trainer(replace(config, model_overrides=("pan=false",)), tmp_path / "without", device="cpu")
    assert "val_pan_live" not in without.validate()


def test_a_loss_that_is_not_finite_is_skipped_and_counted_and_many_end_the_run(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jmceln_core.training import losses, step

    real = losses.grounding_loss

    small = replace(small, model_overrides=("norm=batch",))  # its statistics must survive as well

    def broken(steps: Callable[[int], bool]) -> Trainer:
        trainer = Trainer(replace(small, validate_every=2), tmp_path / "run", device="cpu")

        def loss(*arguments: object) -> object:
            total, terms = real(*arguments)  # type: ignore[arg-type]
            if steps(trainer.step):
                assert all(s.isfinite().all() for s in trainer.learner.statistics)
                for statistic in trainer.learner.statistics:
                    statistic.data.fill_(math.nan)  # as a forward pass that overflows leaves them
                return total * math.nan, terms
            return total, terms

        monkeypatch.setattr(losses, "grounding_loss", loss)
        return trainer

    trainer = broken(lambda step: step == 2)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.run()
    assert [line["skipped_steps"] for line in lines(tmp_path / "run")] == [0, 1, 0, 0]
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path / "run"))
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    assert any(not torch.equal(b, p) for b, p in zip(before, trainer.model.parameters(), strict=True))

    monkeypatch.setattr(step, "DIVERGED", 3)
    small = replace(small, optim=replace(small.optim, epochs=4))
    kept = (tmp_path / "run" / "state.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"3 steps in a row .*optim\.lr"):
        broken(lambda step: True).run()
    assert (tmp_path / "run" / "state.safetensors").read_bytes() != kept  # step 10 was saved, counted as skipped
    assert lines(tmp_path / "run")[-1]["skipped_steps"] == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optim": {"images": 3, "accumulate": 2}}, "optim.images=3"),
        ({"optim": {"images": 200}}, "200"),
        ({"optim": {"accumulate": 4}, "model_overrides": ("fusion=neck", "norm=batch")}, "norm=batch"),
        (
            {"optim": {"images": 1}, "model_overrides": ("fusion=neck", "norm=batch"), "sync_norm": True},
            r"norm=batch .* two or more, or model_overrides",
        ),
        ({"loss": {"presence": 1.0}}, "presence_head"),
        ({"model_overrides": ("iou_head=true",)}, "loss.iou=0"),
        ({"start_from": "nowhere.safetensors"}, "start_from: .*nowhere"),
        ({"precision": "16-mixed"}, "16-mixed"),
        ({"strategy": "fsdp"}, "torchrun"),
        ({"data": {"views": 2}}, "data.cache"),
        ({"data": {"cache": Path("x")}}, "frozen"),
    ],
)
def test_what_cannot_be_combined_is_said_before_anything_runs(
    small: TrainConfig, tmp_path: Path, change: dict, named: str
) -> None:
    for name, value in change.items():
        value = replace(getattr(small, name), **value) if isinstance(value, dict) else value
        small = replace(small, **{name: value})
    with pytest.raises((ConfigError, DataError), match=named):
        Trainer(small, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(("version", "enough"), [("2.11.0", False), ("2.9.1+cpu", False), ("2.13.0+cu130", True)])
def test_a_pytorch_that_is_too_old_is_named(version: str, enough: bool) -> None:
    if enough:
        check_torch(version)
    else:
        with pytest.raises(ConfigError, match=r"PyTorch 2\.\d+.* pip install 'torch>=2\.13'"):
            check_torch(version)


def test_a_run_of_another_model_or_order_is_not_resumed(config: TrainConfig, tmp_path: Path) -> None:
    Trainer(config, tmp_path / "run", device="cpu").run()
    with pytest.raises(ConfigError, match="another model"):
        Trainer(replace(config, model_overrides=("channels=32",)), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="sentences: 3, now 4"):
        Trainer(replace(config, optim=replace(config.optim, sentences=4)), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="sampling: mixture, now object"):
        Trainer(replace(config, data=replace(config.data, sampling="object")), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="ema"):
        Trainer(replace(config, optim=replace(config.optim, ema=0.0)), tmp_path / "run", device="cpu")


def test_what_a_run_is_validated_on_may_not_change(small: TrainConfig, tmp_path: Path) -> None:
    """With another hold-out, pictures that were trained on would be validated on."""
    half = replace(small, optim=replace(small.optim, steps=1))
    Trainer(half, tmp_path / "run", device="cpu").run()
    for change, said in (
        ({"validation": 3}, "validation: 2, now 3"),
        ({"val_sentences": 1}, "val_sentences: 0, now 1"),
        ({"mirror": 0.5}, r"mirror: 0\.0, now 0\.5"),
    ):
        with pytest.raises(ConfigError, match=said):
            Trainer(replace(half, data=replace(half.data, **change)), tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match=r"model\.dilations: \[1, 2\], now \[1, 3\]"):  # weights of the same shapes
        Trainer(replace(half, model_overrides=("dilations=[1,3]",)), tmp_path / "run", device="cpu")
    folder = RunFolder(tmp_path / "run")
    state = folder.load_state()
    assert state is not None
    older = {key: value for key, value in state.notes["order"].items() if not key.startswith("model.")}
    folder.save_state(State(state.tensors, state.notes | {"order": older}))  # before there was a resize
    with pytest.raises(ConfigError, match=r"model\.resize: letterbox, now squash"):
        Trainer(replace(half, model_overrides=("resize=squash",)), tmp_path / "run", device="cpu")
    other = state.notes["order"] | {"content": "0123456789abcdef"}  # the files were changed under their names
    folder.save_state(State(state.tensors, state.notes | {"order": other}))
    with pytest.raises(ConfigError, match="content: 0123456789abcdef, now "):
        Trainer(half, tmp_path / "run", device="cpu")
    folder.save_state(state)
    elsewhere = tmp_path / "link"
    elsewhere.symlink_to(half.data.root)
    same = replace(half, data=replace(half.data, root=elsewhere, workers=1))
    assert Trainer(same, tmp_path / "run", device="cpu").step == 1


def test_a_picture_that_comes_or_goes_is_other_content(small: TrainConfig) -> None:
    training, validation = read_training(small.data)
    content = content_of(training, validation)
    assert content == content_of(*read_training(small.data))
    first = next(iter(training.pictures))
    fewer = GroundingData({k: v for k, v in training.pictures.items() if k != first}, training.expressions)
    reworded = GroundingData(training.pictures, [replace(training.expressions[0], text="x"), *training.expressions[1:]])
    assert len({content, content_of(fewer, validation), content_of(reworded, validation)}) == 3


def test_a_device_that_there_is_not_is_refused_by_name(small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--device abacus: no such device; give cpu, cuda or cuda:N"):
        Trainer(small, tmp_path / "run", device="abacus")


def changed(value: object) -> object:
    """Another value of a field, by what it is now."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return 1 if value != 1 else type(value)(0.5) + 2
    if isinstance(value, CompositionConfig):
        return replace(value, share=0.5)
    others = {str: "mixture", tuple: (1,), type(None): Path("features")}
    return next((v for kind, v in others.items() if isinstance(value, kind)), Path("elsewhere"))


@pytest.mark.parametrize("name", [f.name for f in fields(DataConfig)])
def test_every_field_of_the_data_is_compared_at_a_resume_or_is_harmless(name: str) -> None:
    def order(data: DataConfig) -> dict[str, object]:
        return resume.order_of(TrainConfig(data=data), ModelConfig(), 5)

    data = DataConfig(shards="shards")
    other = replace(data, **{name: changed(getattr(data, name))})
    assert other != data
    assert (order(other) == order(data)) == (name in resume.HARMLESS)
    assert json.loads(json.dumps(order(data))) == order(data)  # as the state keeps it


def test_a_changed_setting_is_said_and_a_finished_run_stays(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(config, tmp_path / "run", device="cpu").run()
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    capsys.readouterr()
    Trainer(replace(config, optim=replace(config.optim, lr=1e-4)), tmp_path / "run", device="cpu").run()
    said = capsys.readouterr().out
    assert "train.optim.lr: 0.0006 -> 0.0001" in said
    assert "nothing to do" in said
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_the_command_takes_a_recipe_by_name_and_names_what_is_wrong(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "small.yaml")
    arguments = [*command(data_root, model), "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main([*arguments, "--optim.stepps", "3"])
    assert "stepps" in capsys.readouterr().err
    assert main([*arguments, "--data.root", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert main(["--config", "tiny", *arguments, "--optim.steps", "1"]) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert (settings["optim"]["steps"], settings["data"]["sampling"]) == (1, "object")


@pytest.mark.parametrize("recipe", ["paper", "bundled", "bundled_gpu", "nano", "tiny", "ablation", "study"])
def test_the_recipes_that_come_with_the_package_are_whole(recipe: str) -> None:
    from jmceln_core.config import from_dict, load_model_config, read_yaml, resource
    from jmceln_core.training import losses

    config = from_dict(TrainConfig, read_yaml(resource(f"train/{recipe}.yaml")))
    losses.check(config.loss, load_model_config(config.model))
    if recipe == "paper":  # section 4: AdamW 6e-6, polynomial 0.9, 60 epochs, batch 20, cross-entropy; nothing else
        assert config.loss == LossConfig(cross_entropy=1.0)
        assert (config.optim.lr, config.optim.schedule, config.optim.power) == (6e-6, "polynomial", 0.9)
        assert (config.optim.epochs, config.optim.images * config.optim.sentences) == (60, 20)
        assert config == replace(TrainConfig(), data=config.data)
        assert config.data == replace(DataConfig(), dataset="refcoco", workers=config.data.workers)


def test_overfitting_one_batch_reaches_095(data_root: Path, tmp_path: Path) -> None:
    """Proof that the whole network learns: the small preset, six sentences about two pictures, every part learning."""
    settings = TrainConfig(
        model="tiny",
        data=DataConfig(root=data_root, sources=("discs/train",), validation=2, sampling="sentence"),
        optim=OptimConfig(steps=150, images=2, sentences=3, lr=3e-3, schedule="cosine"),
        loss=LossConfig(cross_entropy=1.0, dice=1.0),
        threads=1,
    )
    trainer = Trainer(settings, tmp_path / "run", device="cpu")
    assert trainer.feed.dataset is not None
    batch = trainer.feed.dataset[0]
    for _ in range(trainer.steps):
        trainer.learner.learn(batch, trainer.step)
        trainer.step += 1
    trainer.learner.wrapped.eval()
    with torch.no_grad():
        prediction = trainer.learner.predict(batch[0], dense=None)
    guess = (prediction.logits[:, 1] > prediction.logits[:, 0]).numpy()
    truth = (batch[0].truth.flatten(0, 1) > 127).numpy()
    ious = [(g & t).sum() / (g | t).sum() for g, t in zip(guess, truth, strict=True) if t.any()]
    assert len(ious) >= 4
    print(f"mean IoU {np.mean(ious):.3f}")  # docs/results.md: pytest -s shows it
    assert np.mean(ious) > 0.95


def test_a_run_on_shards_goes_on_in_the_middle_of_an_epoch(small: TrainConfig, tmp_path: Path) -> None:
    from jmceln_core.data.readers import read_training
    from jmceln_core.data.shards import write_shards

    training, _ = read_training(small.data)
    write_shards(training, tmp_path / "shards", description={}, pictures_per_shard=2)
    data = replace(small.data, shards=str(tmp_path / "shards"), workers=1)
    settings = replace(small, data=data, optim=replace(small.optim, schedule="constant"), validate_every=3)
    Trainer(settings, tmp_path / "whole", device="cpu").run()
    part = replace(settings, optim=replace(settings.optim, steps=3))
    Trainer(part, tmp_path / "parts", device="cpu").run()
    assert lines(tmp_path / "parts")[-1]["epoch"] == 0.75
    # the rest with other workers: the order of the samples does not depend on them
    rest = replace(settings, data=replace(data, workers=0))
    Trainer(rest, tmp_path / "parts", device="cpu").run()
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
