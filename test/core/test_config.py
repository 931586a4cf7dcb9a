"""Configuration: presets, overrides, refusals that name the field, and where the files are."""

from __future__ import annotations

import dataclasses
import math
import shutil
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from jmceln_core import config as config_module
from jmceln_core import train
from jmceln_core.config import (
    Checked,
    ConfigError,
    DataConfig,
    ImageEncoderConfig,
    ModelConfig,
    Range,
    TrainConfig,
    apply_overrides,
    from_dict,
    load_model_config,
    ranges,
    read_yaml,
    resource,
    to_dict,
)

BEYOND_THE_PAPER = (
    *("positions", "words", "query_mixing", "pan_projection", "colour_path", "fine_skip"),
    *("deep_supervision", "mask_prompt"),
    *("coarse_residual", "presence_head", "iou_head"),
)


def test_the_paper_preset_is_the_papers_numbers() -> None:
    paper = load_model_config("paper")
    assert (paper.image_size, paper.channels, paper.stages, paper.queries, paper.heads) == (416, 1024, 6, 20, 8)
    assert (paper.image_encoder.name, paper.text_encoder.name, paper.text_encoder.tokens) == ("clip_rn101",) * 2 + (30,)
    assert paper.resize == "squash"
    assert (paper.fusion, paper.norm, paper.image_encoder.c5) == ("neck", "batch", "layer4")
    assert paper.lsran
    assert paper.cascade
    assert paper.pan
    assert paper.adaptive


def test_what_goes_beyond_the_paper_is_off_in_its_preset() -> None:
    paper = load_model_config("paper")
    assert paper.dense_from == 0
    assert not any(getattr(paper, name) for name in BEYOND_THE_PAPER)
    assert paper.pan_gates == "product"
    assert not paper.image_encoder.frozen
    assert not paper.text_encoder.frozen


@pytest.mark.parametrize("name", ["bundled", "nano", "tiny", "ablation", "study"])
def test_other_presets_and_older_checkpoints_are_letterboxed(name: str) -> None:
    config = load_model_config(name)
    assert config.resize == "letterbox"
    older = {key: value for key, value in to_dict(config).items() if key != "resize"}
    assert from_dict(ModelConfig, older) == config


def test_base_is_the_paper_at_another_width() -> None:
    paper, base = (to_dict(load_model_config(name)) for name in ("paper", "base"))
    assert {key for key in paper if paper[key] != base[key]} == {"name", "channels", "head_channels"}
    assert base["channels"] == 256


@pytest.mark.parametrize("name", ["paper", "base", "bundled", "nano", "tiny", "ablation", "study"])
def test_presets_are_named_after_their_file_and_survive_a_round_trip(name: str) -> None:
    config = load_model_config(name)
    assert config.name == name
    plain = to_dict(config)
    assert from_dict(ModelConfig, yaml.safe_load(yaml.safe_dump(plain))) == config


def test_a_preset_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nchannels: 64\n")
    assert load_model_config(path).channels == 64
    assert load_model_config(str(path), ["channels=32"]).channels == 32
    path.write_text("")
    assert load_model_config(path) == ModelConfig()


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("channels=64", "channels", 64),
        ("pan=false", "pan", False),
        ("pan=off", "pan", False),  # YAML's words
        ("dilations=[1, 2]", "dilations", (1, 2)),
        ("norm=group", "norm", "group"),
        ("image_encoder.c5=attention", "image_encoder", ImageEncoderConfig(c5="attention")),
        ("image_encoder={name: tiny, channels: 8}", "image_encoder", ImageEncoderConfig(name="tiny", channels=8)),
        ("image_encoder.pretrained=RN101.pt", "image_encoder", ImageEncoderConfig(pretrained="RN101.pt")),
        ("image_encoder.pretrained=false", "image_encoder", ImageEncoderConfig(pretrained=False)),
        ("name=a=b", "name", "a=b"),  # only the first = divides
    ],
)
def test_overrides(override: str, field: str, value: Any) -> None:
    changed = load_model_config("paper", [override])
    assert getattr(changed, field) == value
    assert dataclasses.replace(changed, **{field: getattr(load_model_config("paper"), field)}) == load_model_config(
        "paper"
    )


def test_later_overrides_win_and_leave_their_neighbours_alone() -> None:
    changed = load_model_config("bundled", ["channels=64", "image_encoder.channels=32", "channels=32"])
    assert changed.channels == changed.image_encoder.channels == 32
    assert changed.image_encoder.name == "dinov2_vits14"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("channels", "an override is written field=value"),
        ("chanels=8", "chanels: no such field of ModelConfig; did you mean channels?"),
        ("image_encoder.nam=tiny", "image_encoder.nam: no such field of ImageEncoderConfig; did you mean name?"),
        ("zzz=1", "zzz: no such field of ModelConfig; the fields are name, image_size"),
        ("channels=wide", "channels: expected int, got 'wide'"),
        ("channels=8.0", "channels: expected int, got 8.0"),
        ("channels=true", "channels: expected int, got True"),
        ("pan=1", "pan: expected bool, got 1"),
        ("image_encoder.pretrained=1", "image_encoder.pretrained: expected true, false or a text, got 1"),
        ("norm=layer", "norm: 'layer' is not one of batch, group"),
        ("image_encoder.name=vgg", "name: 'vgg' is not one of clip_rn101, dinov2_vits14, tiny_vit_5m, tiny"),
        ("image_encoder=tiny", "image_encoder: expected fields of ImageEncoderConfig, got 'tiny'"),
        ("name.first=x", "name is a value, it has no fields"),
        ("dilations=3", "dilations: expected a list, got 3"),
        ("dilations=[1, x]", "dilations: expected int, got 'x'"),
        ("dilations=[1", "the value is not valid YAML"),
        ("decision.mask=half", "decision.mask: expected float, got 'half'"),
    ],
)
def test_a_bad_override_names_the_field_and_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_model_config("paper", [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["channels=0"], "channels=0: must be at least 1"),
        (["stages=0"], "stages=0: must be at least 1"),
        (["heads=-1"], "heads=-1"),
        (["dilations=[]"], "dilations=[]: must be one or more numbers"),
        (["head_channels=[8, 0]"], "head_channels=[8, 0]"),
        (["channels=30"], "channels=30: must be divisible by 4"),
        (["channels=36"], "channels=36: must be divisible by heads=8"),
        (["fusion=queries", "cascade=false"], "fusion=queries needs cascade=true"),
        (["mask_prompt=true"], "mask_prompt=true needs deep_supervision=true"),
        (["coarse_residual=true"], "coarse_residual=true needs deep_supervision=true"),
        (["iou_head=true", "cascade=false"], "presence_head and iou_head need cascade=true"),
        (["dense_from=6"], "dense_from=6: must be below stages=6"),
        (["dense_from=-1"], "dense_from=-1"),
        (["image_encoder.blocks=[]"], "image_encoder.blocks=[]"),
        (["image_encoder.blocks=[8, 99]"], "image_encoder.blocks=[8, 99]: must be from 1 to 12"),
        (["text_encoder.tokens=78"], "text_encoder.tokens=78: clip_rn101 reads no more than 77"),
        (["decision.mask=1.5"], "decision.mask=1.5: must be from 0 to 1"),
        (["image_encoder.tuned_blocks=4"], "image_encoder.tuned_blocks=4: 1 to 12 blocks of a dinov2_vits14"),
        (
            ["image_encoder={name: dinov2_vits14, frozen: true, tuned_blocks: 13}"],
            "image_encoder.tuned_blocks=13",
        ),
        (["image_encoder.fine_layers=0"], "fine_layers=0"),
        (["image_encoder.fine_channels=33"], "fine_channels=33"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_model_config("paper", overrides)
    assert message in str(error.value)


# a number of which every value means something
FREE = {"DecisionConfig.offset"}
CONFIGURATIONS = [kind for kind in vars(config_module).values() if isinstance(kind, type) and issubclass(kind, Checked)]


def is_number(hint: Any) -> bool:
    return any(kind in (int, float) for kind in (hint, *typing.get_args(hint)))


@pytest.mark.parametrize("kind", CONFIGURATIONS, ids=lambda kind: kind.__name__)
def test_every_number_of_every_configuration_has_a_range_and_is_refused_outside_it(kind: type) -> None:
    numbers = {name for name, hint in typing.get_type_hints(kind).items() if is_number(hint)}
    allowed = ranges(kind)
    assert numbers == allowed.keys() | {name.split(".")[1] for name in FREE if name.startswith(kind.__name__ + ".")}
    for name, place in allowed.items():
        several = typing.get_origin(typing.get_type_hints(kind)[name]) is tuple
        for bad in (place.low - 1, *([place.high + 1] if place.high < math.inf else []), math.nan, math.inf):
            with pytest.raises(ConfigError) as error:
                kind(**{name: (place.low, bad) if several else bad})
            assert f"{kind.AT}{name}=" in str(error.value)  # type: ignore[attr-defined]
            assert str(error.value).endswith(f"must be {place}")


def test_no_configuration_goes_unchecked() -> None:
    made = {k for k in vars(config_module).values() if isinstance(k, type) and k.__name__.endswith("Config")}
    assert len(made) == 10
    assert made <= set(CONFIGURATIONS)


@pytest.mark.parametrize(
    ("place", "inside", "outside"),
    [
        (Range(0), (0, 0.5, 7e9), (-1e-9, math.inf, math.nan, "1", None)),
        (Range(0, 1), (0, 1), (-0.1, 1.1)),
        (Range(0, 1, below=True), (0, 0.999), (1, 1.5)),
    ],
)
def test_ranges(place: Range, inside: tuple[Any, ...], outside: tuple[Any, ...]) -> None:
    assert all(number in place for number in inside)
    assert not any(number in place for number in outside)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--optim.lr", "-1"), "optim.lr=-1.0: must be at least 0"),
        (("--optim.images", "0"), "optim.images=0: must be at least 1"),
        (("--optim.accumulate", "0"), "optim.accumulate=0: must be at least 1"),
        (("--optim.sentences", "0"), "optim.sentences=0: must be at least 1"),
        (("--optim.ema", "1.5"), "optim.ema=1.5: must be from 0 to below 1"),
        (("--optim.dense", "2"), "optim.dense=2: must be at most optim.sentences=1, or 0 for all"),
        (("--data.workers", "-1"), "data.workers=-1: must be at least 0"),
        (("--data.mirror", "3"), "data.mirror=3.0: must be from 0 to 1"),
        (("--data.validation", "-1"), "data.validation=-1: must be at least 0"),
        (("--data.composition.share", "2"), "data.composition.share=2.0: must be from 0 to 1"),
    ],
)
def test_the_command_refuses_a_number_in_one_line(
    option: tuple[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        train.main([*option, "--output", str(tmp_path / "run")])
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    from_file = tmp_path / "recipe.yaml"
    *parents, name = option[0].removeprefix("--").split(".")
    values: dict[str, Any] = {name: yaml.safe_load(option[1])}
    for parent in reversed(parents):
        values = {parent: values}
    from_file.write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as end:
        train.main(["--config", str(from_file), "--output", str(tmp_path / "run")])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_help_says_what_each_field_means_and_which_numbers_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "AdamW, peak (paper); at least 0 (type: float, default: 6e-06)" in said
    assert "share of views that are mirrored, with mirrored words; from 0 to 1" in said
    assert "averaged weights, which are then what is validated and kept; 0: none (paper); from 0 to below 1" in said


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="no model preset 'papre'; the presets are ablation, base, bundled, nano, paper, study, tiny"
    ):
        load_model_config("papre")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"- 1\n- 2\n", "expected fields, got list"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"5: x\n", "5: no such field"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_model_config(path)
    assert message == "5: no such field" or str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: No such file"):
        read_yaml(tmp_path / "gone.yaml")


@pytest.mark.parametrize("text", ["6e-4", "6.0e-4", ".0006"])
def test_floats_in_any_notation(text: str) -> None:
    """YAML takes 6e-4 for a string."""
    values = apply_overrides({}, [f"optim.lr={text}"])
    assert from_dict(TrainConfig, values).optim.lr == pytest.approx(6e-4)
    whole = from_dict(TrainConfig, {"optim": {"clip": 1}}).optim.clip
    assert isinstance(whole, float)


def test_paths_survive_a_round_trip() -> None:
    config = from_dict(TrainConfig, {"data": {"root": "data", "sources": ["a/train"]}})
    assert config.data == DataConfig(root=Path("data"), sources=("a/train",))
    assert to_dict(config)["data"]["root"] == "data"
    assert from_dict(TrainConfig, to_dict(config)) == config


def test_the_training_recipe_of_the_bundled_model_loads() -> None:
    config = from_dict(TrainConfig, read_yaml(resource("train/bundled.yaml")))
    assert load_model_config(config.model, config.model_overrides).name == "bundled"
    assert config.data.sources


def test_resources_are_found_in_a_checkout(repository: Path) -> None:
    assert resource("model/paper.yaml") == repository / "config" / "model" / "paper.yaml"


def test_resources_of_an_installed_package_lie_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "jmceln_core"
    (package / "_config" / "model").mkdir(parents=True)
    shutil.copy(resource("model/base.yaml"), package / "_config" / "model" / "base.yaml")
    monkeypatch.setattr(config_module, "__file__", str(package / "config.py"))
    assert resource("model/base.yaml") == package / "_config" / "model" / "base.yaml"
    with pytest.raises(ConfigError) as error:
        resource("model/other.yaml")
    for place in (package / "_config", tmp_path / "site" / "config"):
        assert str(place / "model" / "other.yaml") in str(error.value)
