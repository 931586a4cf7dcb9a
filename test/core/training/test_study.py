"""Studies: what their files may say, what their rows become, what their tables say; and a small one trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jmceln_core import ablate
from jmceln_core.command import parse_training, training_parser
from jmceln_core.config import ConfigError, DataConfig, OptimConfig, TrainConfig, load_model_config
from jmceln_core.training import losses
from jmceln_core.training.ablation import TABLE_2, Ablation, Part, Row, Study, read_study, row_config
from support import ROOT
from support.discs import build, command, write_model

STUDY: dict[str, Any] = {
    "reference": 1,
    "rows": {
        1: {"name": "whole"},
        2: {"name": "no words", "model": ["words=false"], "train": ["loss.contrast=0", "optim.steps=2"]},
    },
    "parts": [
        {"name": "words", "row": 1, "without": 2},
        {"name": "words", "row": 1, "without": 2, "metric": "presence"},
    ],
}


def write_study(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(STUDY | changes))
    return path


# files


def test_a_study_is_rows_parts_and_a_reference(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path / "mine.yaml"))
    assert study == Study(
        {1: Row("whole"), 2: Row("no words", ("loss.contrast=0", "optim.steps=2"), ("words=false",))},
        (Part("words", 1, 2), Part("words", 1, 2, "presence")),
        1,
    )
    short = read_study(write_study(tmp_path / "short.yaml", parts=None, reference=2))
    assert (short.parts, short.reference) == ((), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": {}}, "row: no such field of a study"),
        ({"rows": {}}, "rows: expected"),
        ({"rows": ["whole"]}, "rows: expected"),
        ({"rows": {"one": {"name": "whole"}}}, "rows: expected"),  # rows have numbers
        ({"rows": {1: "whole"}}, "rows.1: expected fields of Row"),
        ({"rows": {1: {"model": ["words=false"]}}}, "rows.1: name is missing"),
        ({"rows": {1: {"name": "whole", "modle": []}}}, "rows.1.modle: no such field of Row; did you mean model?"),
        ({"rows": {1: {"name": "whole", "model": "words=false"}}}, "rows.1.model: expected a list"),
        ({"parts": [{"name": "words", "row": 1}]}, "parts.0: without is missing"),
        ({"parts": [{"name": "words", "row": 1, "without": 3}]}, "row 3: the rows are 1, 2"),
        ({"parts": [{"name": "words", "row": 1, "without": 2, "metric": "iou"}]}, "metric 'iou'"),
        ({"reference": 7}, "row 7: the rows are 1, 2"),
    ],
)
def test_a_file_that_is_not_a_study_names_itself_and_the_field(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_study(tmp_path / "mine.yaml", **changes)
    with pytest.raises(ConfigError) as error:
        read_study(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_row_changes_fields_of_training_and_network() -> None:
    config = TrainConfig(model="study", model_overrides=("channels=32",), data=DataConfig(root=Path("here")))
    changed = row_config(config, Row("x", ("data.sources=[a/b, c/d]", "optim.lr=1e-3"), ("fusion=neck",)), seed=4)
    assert changed.data == DataConfig(root=Path("here"), sources=("a/b", "c/d"))
    assert changed.optim == OptimConfig(lr=1e-3, seed=4)
    assert changed.model_overrides == ("channels=32", "fusion=neck")
    assert row_config(config, Row("x"), seed=0) == config
    with pytest.raises(ConfigError, match=r"optim\.step: no such field"):
        row_config(config, Row("x", ("optim.step=3",)), seed=0)


@pytest.mark.parametrize("name", ["data", "parts", "fusion"])
def test_the_studies_that_come_with_the_package_can_be_built(name: str) -> None:
    config, _ = parse_training(training_parser("x", ""), ["--config", "study"])
    study = read_study(ROOT / f"config/study/{name}.yaml")
    found = {}
    for number, row in study.rows.items():
        own = row_config(config, row, 0)
        model = load_model_config(own.model, own.model_overrides)
        losses.check(own.loss, model)
        assert {s.split("/")[1] for s in own.data.sources} == {"train"}
        found[number] = (own, model)
    for number in study.rows:  # each row differs from all others, in what its parts ask about
        assert found[number] not in [found[n] for n in study.rows if n != number]
    assert study.parts
    assert {s.split("/")[1] for s in config.data.val_sources} == {"heldout", "tote"}  # never trained on


# tables


def _ablation(sources: tuple[str, ...], outcomes: dict[tuple[int, int], dict[str, float]]) -> Ablation:
    config = TrainConfig(model="study", data=DataConfig(sources=("a/train",), val_sources=sources))
    study = Study({1: Row("whole"), 2: Row("no words", ("loss.dice=1",), ("words=false",))}, PARTS, reference=1)
    return Ablation(config, {1: 2_000_000, 2: 1_000_000}, range(2), outcomes, study)


PARTS = (Part("words", 1, 2), Part("words", 1, 2, "presence"))


def test_each_source_has_a_table_and_sentences_of_its_own() -> None:
    def run(one: float, two: float) -> dict[str, float]:
        return {"miou": 1.0, "pointing": 2.0, "miou/a/val": one, "miou/b/val": two, "presence/b/val": 50 + two}

    found = _ablation(
        ("a/val", "b/val"),
        {(1, 0): run(30, 20), (1, 1): run(40, 20), (2, 0): run(29, 21), (2, 1): run(38.9, 22.1)},
    )
    text = found.markdown()
    head, a, b = text.split("\n### ")
    assert "- row 1, whole: as above\n- row 2, no words: `loss.dice=1`, `words=false`" in head
    assert a.startswith("a/val\n")
    assert b.startswith("b/val\n")
    # the arithmetic is test_ablation's: 1.05 -/+ 12.7062 * 0.05
    assert "- words (row 1 - row 2): +1.05 (+0.41 to +1.69) points over 2 seeds: helps." in a
    assert "- words (row 1 - row 2): -1.55 (-8.54 to +5.44) points over 2 seeds: cannot tell at this budget.\n" in b
    assert "- words (presence, row 1 - row 2): -1.55" in b
    assert "presence, row" not in a  # it was not measured there
    assert "| 30.00, 40.00 |" in a
    assert "| 20.00, 20.00 |" in b
    assert "paper" not in text.lower()  # which has nothing to say about this
    plain = json.loads(json.dumps(found.plain()))
    assert [part["verdict"][:5] for part in plain["parts"]] == ["words"] * 3
    assert plain["parts"][0]["miou/a/val"]["mean"] == pytest.approx(1.05)
    assert plain["rows"][1]["model"] == ["words=false"]
    assert plain["rows"][1]["miou/b/val"]["by_seed"] == {"0": 21, "1": 22.1}


def test_one_source_has_one_table_without_a_heading() -> None:
    text = _ablation(("a/val",), {(1, 0): {"miou": 30.0, "pointing": 50.0, "presence": 90.0}}).markdown()
    assert "###" not in text
    assert "| 1 | whole | 30.00 | 30.00 | 50.00 | 90.00 | - | 2.00 |" in text
    assert "| 2 | no words | - | - | - | - | - | 1.00 |" in text
    assert "Presence: " in text


def test_table_2_names_the_fields_of_its_columns() -> None:
    config = TrainConfig(model="tiny")
    table = Ablation(config, {3: 1, 7: 1}, range(1), {}, TABLE_2).markdown()
    assert "| row | network | LSRAN | cascade | PAN | adaptive | embeddings | mIoU (95 %) |" in table
    assert "| 3 | + cascade | off | on | off | on | on | - |" in table
    assert "| 7 | static words instead of embeddings | on | on | on | on | off | - |" in table


# a run


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs to train on, and two sets of them to measure on, of which `far` has rule-made sentences alone."""
    root = build(tmp_path_factory.mktemp("data"))
    folder = root / "discs"
    instances, sentences = (
        json.loads((folder / f"{kind}_train.json").read_text()) for kind in ("instances", "expressions")
    )
    for split, ids in (("near", {1, 2, 3}), ("far", {4})):
        own = instances | {
            "images": [i for i in instances["images"] if i["id"] in ids],
            "annotations": [a for a in instances["annotations"] if a["image_id"] in ids],
        }
        origin = {"origin": "generated"} if split == "far" else {}
        said = {k: [e | origin for e in v if e["image_id"] in ids] for k, v in sentences.items()}
        (folder / f"instances_{split}.json").write_text(json.dumps(own))
        (folder / f"expressions_{split}.json").write_text(json.dumps(said))
    return root


def test_a_study_trains_its_rows_and_measures_each_source(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(data_root, write_model(tmp_path / "small.yaml"), "--optim.steps", "3", "--overlays", "0")
    arguments += ["--study", str(write_study(tmp_path / "mine.yaml")), "--output", str(tmp_path / "out")]
    both = ["--data.val_sources", "[discs/near, discs/far]"]
    assert ablate.main([*arguments, *both, "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out/table.md").read_text().strip() in printed

    def last(run: Path) -> dict[str, Any]:
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])

    scores = last(tmp_path / "out/row1_seed0")
    for name in ("miou", "pointing"):  # nine sentences with a target on three pictures, three on the other one
        near, far = scores[f"val_{name}/discs/near"], scores[f"val_{name}/discs/far"]
        assert scores[f"val_{name}"] == pytest.approx((9 * near + 3 * far) / 12, abs=2e-6)
    assert last(tmp_path / "out/row2_seed1")["step"] == 2  # the row's own
    # each source as if it were the only one
    for split in ("near", "far"):
        alone = tmp_path / split
        one = ["--data.val_sources", f"[discs/{split}]", "--rows", "1", "--seeds", "1", "--output", str(alone)]
        assert ablate.main([*arguments, *one]) == 0
        found = last(alone / "row1_seed0")
        assert "val_miou/discs/near" not in found
        for name in ("miou", "pointing", "presence"):
            assert found[f"val_{name}"] == scores[f"val_{name}/discs/{split}"]
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert table["rows"][0]["miou/discs/far"]["by_seed"]["0"] == pytest.approx(100 * scores["val_miou/discs/far"])
    assert len(table["parts"]) == 4


def test_the_command_says_what_is_wrong_with_a_study(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(data_root, write_model(tmp_path / "small.yaml"), "--output", str(tmp_path / "out"))
    assert ablate.main([*arguments, "--study", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
    rows = {1: {"name": "whole"}, 2: {"name": "x", "model": ["deep_supervision=false", "mask_prompt=false"]}}
    path = write_study(tmp_path / "mine.yaml", rows=rows)  # its losses are on the coarse masks
    assert ablate.main([*arguments, "--study", str(path)]) == 2
    assert "deep_supervision=true" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # nothing was trained
    assert ablate.main([*arguments, "--study", str(path), "--rows", "3"]) == 2
    assert "row 3: the rows are 1, 2" in capsys.readouterr().err
