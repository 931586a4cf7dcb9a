"""The ablation: its seven networks, its arithmetic against numbers worked out by hand, and that it goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from jmceln_core import ablate
from jmceln_core.config import ConfigError, DataConfig, LossConfig, OptimConfig, TrainConfig, load_model_config, to_dict
from jmceln_core.training import ablation
from jmceln_core.training.ablation import TABLE_2, Ablation, t_interval
from support.refer_miniature import build

ROWS, PARTS = TABLE_2.rows, TABLE_2.parts
CONFIG = TrainConfig(model="tiny", optim=OptimConfig(steps=10))


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [  # printed tables of the t distribution
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.975, 3, 3.18245),
        (0.975, 4, 2.77645),
        (0.95, 5, 2.01505),
        (0.995, 10, 3.16927),
        (0.975, 29, 2.04523),
        (0.975, 120, 1.97993),
    ],
)
def test_t_interval_is_as_wide_as_the_tables_say(probability: float, freedom: int, expected: float) -> None:
    found = t_interval(range(freedom + 1), 2 * probability - 1)
    error = math.sqrt((freedom + 2) / 12)  # of n whole numbers in a row the variance is n (n + 1) / 12
    assert found.value == pytest.approx(freedom / 2)
    assert found.high - found.value == pytest.approx(expected * error, rel=3e-6)
    assert found.value - found.low == pytest.approx(expected * error, rel=3e-6)


def test_t_interval() -> None:
    # mean 7/3, variance (16 + 1 + 25) / 9 / 2 = 7/3, standard error sqrt(7) / 3, times 4.30265
    found = t_interval([1.0, 2.0, 4.0])
    assert found.value == pytest.approx(7 / 3)
    assert found.high - found.value == pytest.approx(4.302653 * math.sqrt(7) / 3, rel=1e-6)
    assert found.value - found.low == pytest.approx(found.high - found.value)
    one = t_interval([3.0])
    assert one.value == 3
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(t_interval([]).value)
    assert t_interval([2.0, 2.0]) == (2, 2, 2)
    with pytest.raises(ValueError, match="level=1"):
        t_interval([2.0, 2.0], 1)


def _ablation(miou: dict[int, list[float]]) -> Ablation:
    outcomes = {
        (row, seed): {"miou": v, "pointing": v + 10} for row, values in miou.items() for seed, v in enumerate(values)
    }
    seeds = range(max(len(v) for v in miou.values()))
    return Ablation(CONFIG, dict.fromkeys(miou, 1_234_567), seeds, outcomes)


def test_differences_are_paired_by_seed() -> None:
    # rows 5 and 4 scatter by 10, their differences by seed are 1, 2, 4 as in test_t_interval
    found = _ablation({4: [30.0, 40.0, 50.0], 5: [31.0, 42.0, 54.0]})
    difference = found.difference(5, 4)
    assert difference.value == pytest.approx(7 / 3)
    assert difference.high == pytest.approx(7 / 3 + 4.302653 * math.sqrt(7) / 3, rel=1e-6)
    row = next(line for line in found.markdown().splitlines() if line.startswith("| 4 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # 40 -/+ 4.30265 * 10 / sqrt(3) = 24.84; -7/3 -/+ 3.7946
    assert cells == [
        "4",
        "without PAN",
        *("on", "on", "off", "on", "on"),
        "40.00 (15.16 to 64.84)",
        "30.00, 40.00, 50.00",
        "50.00 (25.16 to 74.84)",
        "-2.33 (-6.13 to +1.46)",
        "1.23",
        "69.46",
    ]


def test_a_difference_is_taken_over_the_seeds_both_rows_have() -> None:
    found = _ablation({4: [30.0, 40.0, 50.0], 5: [31.0, 42.0]})
    assert found.difference(5, 4).value == pytest.approx(1.5)
    assert len(found.values(4)) == 3


def test_verdicts() -> None:
    pan, adaptive = PARTS[4], PARTS[5]
    assert (pan.row, pan.without) == (5, 4)
    assert (adaptive.row, adaptive.without) == (5, 6)
    found = _ablation({4: [30.0, 40.0], 5: [31.0, 41.1], 6: [32.0, 42.3]})
    # 1.05 -/+ 12.7062 * 0.05; -1.1 -/+ 12.7062 * 0.1
    assert "+1.05 (+0.41 to +1.69) points over 2 seeds: helps. In the paper: +0.97." in found.verdict(pan)
    assert "-1.10 (-2.37 to +0.17) points over 2 seeds: cannot tell at this budget." in found.verdict(adaptive)
    found = _ablation({5: [31.0, 41.0], 6: [32.0, 42.1]})
    assert "-1.05 (-1.69 to -0.41) points over 2 seeds: hurts. In the paper: +1.32." in found.verdict(adaptive)
    assert found.verdict(pan) == ""  # row 4 was not asked for
    found = _ablation({5: [31.0], 7: [32.0]})
    assert "one seed: cannot tell" in found.verdict(PARTS[6])
    text = found.markdown()
    assert "| 32.00 | 32.00 | 42.00 | +1.00 |" in text
    assert "One seed: there are no intervals" in text
    assert json.loads(json.dumps(found.plain()))["rows"][1]["miou"] == {
        "mean": 32.0,
        "low": None,
        "high": None,
        "by_seed": {"0": 32.0},
        "minus_row_5": {"mean": 1.0, "low": None, "high": None},
    }


def test_rows_are_table_2_and_one_more() -> None:
    built = {n: load_model_config("tiny", row.model) for n, row in ROWS.items()}
    off = {n: {name for name in TABLE_2.switches if not getattr(model, name)} for n, model in built.items()}
    assert off == {
        1: {"lsran", "cascade"},
        2: {"cascade"},
        3: {"lsran", "pan"},
        4: {"pan"},
        5: set(),
        6: {"adaptive"},
        7: {"contextual"},
    }
    learned = {n: ablation._learned(ablation.row_config(CONFIG, row, 0)) for n, row in ROWS.items()}
    # PAN, LSRAN and stages cost parameters; the adaptive embeddings of row 6 cost none
    assert learned[1] < learned[2] < learned[4] < learned[5] == learned[6]
    assert learned[1] < learned[3] < learned[4]
    assert learned[7] != learned[5]


class Recorder:
    """In the place of Trainer: notes what is trained, and leaves what a finished run leaves."""

    trained: list[str]
    stop_in = ""  # the run that does not get to its end

    def __init__(self, config: TrainConfig, output: Path, *, device: str | None) -> None:
        self.config, self.output = config, output

    def run(self) -> None:
        type(self).trained.append(self.output.name)
        self.output.mkdir(parents=True, exist_ok=True)
        model = load_model_config(self.config.model, self.config.model_overrides)
        known = {"train": to_dict(self.config), "model": to_dict(model)}
        (self.output / "config.json").write_text(json.dumps(known))
        last = 5 if self.output.name == self.stop_in else 10
        lines = [{"step": s, "epoch": s / 10, "val_miou": s / 100, "val_pointing": s / 50} for s in (5, 10)]
        (self.output / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines if x["step"] <= last))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(ablation, "Trainer", Recorder)
    monkeypatch.setattr(Recorder, "trained", [], raising=False)
    monkeypatch.setattr(Recorder, "stop_in", "")
    return Recorder


def test_the_same_command_again_goes_on(recorder: type[Recorder], tmp_path: Path) -> None:
    said: list[str] = []
    recorder.stop_in = "row5_seed3"
    config = replace(CONFIG, optim=replace(CONFIG.optim, seed=3))

    def again(seeds: int = 2) -> Ablation:
        recorder.trained.clear()
        return ablation.run(config, tmp_path, rows=[5, 1], seeds=seeds, say=said.append)

    found = again()
    assert recorder.trained == ["row1_seed3", "row5_seed3"]  # and no further
    assert found.values(1) == {3: pytest.approx(10.0)}  # the last line's, not the best one's
    assert found.values(5) == {}
    assert "goes on" in said[-1]
    recorder.stop_in = ""
    again()
    assert recorder.trained == ["row5_seed3", "row1_seed4", "row5_seed4"]  # a seed's rows after each other
    written = json.loads((tmp_path / "table.json").read_text())
    again()
    assert recorder.trained == []
    assert json.loads((tmp_path / "table.json").read_text()) == written
    again(seeds=3)
    assert recorder.trained == ["row1_seed5", "row5_seed5"]


def test_a_run_of_another_configuration_is_not_taken_for_this_one(recorder: type[Recorder], tmp_path: Path) -> None:
    ablation.run(CONFIG, tmp_path, rows=[1], seeds=1)
    elsewhere = replace(CONFIG, data=DataConfig(root=Path("other")), threads=1)
    ablation.run(elsewhere, tmp_path, rows=[1], seeds=1)  # the same data in another place
    known = tmp_path / "row1_seed0" / "config.json"
    before = json.loads(known.read_text())
    del before["train"]["precision"], before["model"]["contextual"]  # written before there were these fields
    known.write_text(json.dumps(before))
    ablation.run(CONFIG, tmp_path, rows=[1], seeds=1)
    other = replace(CONFIG, optim=replace(CONFIG.optim, lr=1e-3))
    with pytest.raises(ConfigError, match=r"row1_seed0.*optim\.lr: 6e-06 -> 0\.001.*another --output"):
        ablation.run(other, tmp_path, rows=[1], seeds=1)
    assert recorder.trained == ["row1_seed0"]


def test_what_cannot_be_trained_is_said_before_anything_is(recorder: type[Recorder], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"row 8: the rows are 1, 2"):
        ablation.run(CONFIG, tmp_path, rows=[5, 8], seeds=1)
    with pytest.raises(ConfigError, match="seeds=0"):
        ablation.run(CONFIG, tmp_path, rows=[5], seeds=0)
    with pytest.raises(ConfigError, match="cascade"):  # row 1 has no stages to supervise
        ablation.run(replace(CONFIG, loss=LossConfig(coarse=0.5)), tmp_path, rows=[5, 1], seeds=1)
    assert recorder.trained == []


def test_all_rows_train_and_make_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "data", pictures=6)
    arguments = ["--config", "tiny", "--data.root", str(tmp_path / "data"), "--data.subset", "true"]
    arguments += ["--optim.steps", "2", "--optim.images", "2", "--overlays", "0", "--output", str(tmp_path / "out")]
    arguments += ["--seeds", "1", "--device", "cpu"]
    assert ablate.main(arguments) == 0
    printed = capsys.readouterr().out
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.strip() in printed
    for number, row in ROWS.items():
        assert f"| {number} | {row.name} |" in table
        metrics = [json.loads(x) for x in (tmp_path / f"out/row{number}_seed0/metrics.jsonl").read_text().splitlines()]
        assert f"| {100 * metrics[-1]['val_miou']:.2f} |" in table
    found = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [row["row"] for row in found["rows"]] == list(ROWS)
    assert len(found["parts"]) == len(PARTS)
    with monkeypatch.context() as patch:
        patch.setattr(ablation, "Trainer", None)  # nothing is left to train
        assert ablate.main(arguments) == 0
    assert ablate.main([*arguments, "--rows", "9"]) == 2
    assert "the rows are" in capsys.readouterr().err
