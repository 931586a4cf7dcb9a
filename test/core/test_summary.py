"""Counting: small layers by hand, and the network's parts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from jmceln_core.config import ModelConfig, from_dict
from jmceln_core.model import build_model
from jmceln_core.model.layers import MultiHeadAttention
from jmceln_core.model.lsran import WindowAttention
from jmceln_core.model.pan import PAN
from jmceln_core.summary import as_table, count, main, summarise, total

SMALL = {
    "name": "small",
    "image_size": 64,
    "image_encoder": {"name": "tiny", "channels": 8},
    "text_encoder": {"name": "tiny", "tokens": 8},
    "channels": 8,
    "stages": 2,
    "queries": 4,
    "heads": 2,
    "window": 4,
    "dilations": [1, 2],
    "head_channels": [8, 8, 4],
}


def small(**switches: object) -> ModelConfig:
    return from_dict(ModelConfig, SMALL | switches)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("module", "shapes", "macs"),
    [
        # output pixels x output channels x input channels x kernel
        (nn.Conv2d(3, 5, 3, padding=1), [(1, 3, 6, 7)], 6 * 7 * 5 * 3 * 9),
        (nn.Conv2d(3, 5, 3, stride=2, padding=1), [(2, 3, 6, 8)], 2 * 3 * 4 * 5 * 3 * 9),
        (nn.Conv2d(6, 6, 7, padding=3, groups=6), [(1, 6, 5, 5)], 5 * 5 * 6 * 49),
        (nn.Linear(8, 3), [(2, 5, 8)], 2 * 5 * 8 * 3),
        # four projections of C x C, and two products of 8 numbers for each pair of query (4) and key (10)
        (MultiHeadAttention(8, 2), [(1, 4, 8), (1, 10, 8), (1, 10, 8)], (4 + 10 + 10 + 4) * 64 + 2 * 4 * 10 * 8),
        # 2 x 2 windows of 9 places, the padding computed with the rest
        (WindowAttention(8, 2, 3), [(1, 8, 5, 6)], 36 * 4 * 64 + 2 * 4 * 9 * 9 * 8),
        (PAN(8), [(1, 8, 3, 4)] * 2, 12 * (8 * 14 + 14 * 49 + 8 * 2 + 2 * 4 * 9 + 4 * 8 * 9)),
        (nn.BatchNorm2d(3), [(1, 3, 6, 7)], 0),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else "",
)
def test_multiply_accumulates_by_hand(module: nn.Module, shapes: list[tuple[int, ...]], macs: int, device: str) -> None:
    module = module.to(device).eval().requires_grad_(False)
    inputs = [torch.zeros(shape, device=device) for shape in shapes]
    out, counted = count(module, module.forward, *inputs)
    assert counted == {"": macs}
    assert out.device.type == device


def test_parts_are_told_apart_whether_they_are_called_or_only_layers_inside_them() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.called = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 5)))
            self.opened = nn.ModuleList([nn.Sequential(nn.Linear(5, 7)), nn.Linear(7, 2)])
            self.called_too = nn.Linear(2, 2)  # begins like another part's name
            self.unused = nn.Linear(2, 2)

        def run(self, x: torch.Tensor) -> torch.Tensor:
            x = self.called_too(self.called_too(x))
            x = self.opened[1](self.opened[0](self.called(x)))
            return x @ torch.ones(2, 11)

    net = Net().requires_grad_(False)
    parts = ("called", "opened", "opened.1", "called_too", "unused")
    _, macs = count(net, net.run, torch.zeros(1, 2), parts=parts[:2])
    assert macs == {"called": 6 + 15, "opened": 35 + 14, "": 8 + 22}
    _, macs = count(net, net.run, torch.zeros(1, 2), parts=("called", "opened.1", "called_too", "unused"))
    assert macs == {"called": 21, "opened.1": 14, "called_too": 8, "unused": 0, "": 35 + 22}


def test_parameters_add_up_to_the_networks() -> None:
    for switches in ({}, {"cascade": False, "lsran": False}, {"image_encoder": {"name": "tiny", "frozen": True}}):
        config = small(**switches)
        model, parts = build_model(config), summarise(config)
        assert total(parts).parameters == sum(p.numel() for p in model.parameters())
        assert total(parts).learning == sum(p.numel() for p in model.parameters() if p.requires_grad)
        sizes = {part.name: part.parameters for part in parts}
        assert sizes["head"] == sum(p.numel() for p in model.head.parameters())
        assert sizes["others"] == (4 * 8 if config.cascade else 0)  # the queries


@pytest.mark.parametrize("fusion", ["neck", "queries"])
def test_macs_add_up_to_what_runs(fusion: str) -> None:
    """Against one count of the whole forward pass on real tensors."""
    beyond = ("words", "fine_skip", "deep_supervision", "presence_head", "positions", "colour_path")
    config = small(fusion=fusion, pan_gates="bounded", **dict.fromkeys(beyond, True))
    model = build_model(config).eval().requires_grad_(False)
    tokens, mask = model.text_encoder.tokenize(["a " * 8])
    _, whole = count(model, model.forward, torch.zeros(1, 3, 64, 64), (tokens, mask))
    parts = summarise(config)
    assert total(parts).macs_per_image + total(parts).macs_per_sentence == whole[""]
    colours = {part.name: part for part in parts}["colour path"]
    assert colours.parameters == sum(p.numel() for p in model.colour_path.parameters())
    # two layers at C3's size; a product of 3 x 3 and one with the 12 terms at every pixel, for these a product of 3 x 3
    assert colours.macs_per_image == 8 * 8 * 64 * (15 + 2 * 8) + 64 * 64 * (9 + 36)
    assert colours.macs_per_sentence == 0


def test_where_the_sentence_enters_decides_what_runs_once_per_image() -> None:
    neck, queries = ({p.name: p for p in summarise(small(fusion=fusion))} for fusion in ("neck", "queries"))
    assert neck["LSRAN"].macs_per_image == 0 < neck["LSRAN"].macs_per_sentence
    assert queries["LSRAN"].macs_per_sentence == 0 < queries["LSRAN"].macs_per_image
    assert queries["LSRAN"].macs_per_image == neck["LSRAN"].macs_per_sentence
    # the image's projections do not wait for the sentence
    assert neck["neck"].macs_per_image > 0
    assert neck["neck"].macs_per_sentence > 0
    assert queries["neck"].macs_per_sentence == 0
    for parts in (neck, queries):
        assert list(parts) == [
            *("image encoder", "text encoder", "neck", "LSRAN", "stage 1", "stage 2", "head", "others")
        ]
        assert parts["image encoder"].macs_per_sentence == parts["text encoder"].macs_per_image == 0


def test_head_by_hand() -> None:
    head = {p.name: p for p in summarise(small())}["head"]
    steps = 64 * 9 * 8 * 8 + 256 * 9 * 8 * 8 + 1024 * 9 * 8 * 4
    assert head.macs_per_sentence == steps + 64 * 64 * 4 * 2


@pytest.mark.parametrize("preset", ["paper", "base", "bundled"])
def test_the_documents_tables_are_what_the_command_prints(
    preset: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", preset]) == 0
    table = capsys.readouterr().out.partition("\n\n")[2]
    assert table in (repository / "docs" / "model.md").read_text(encoding="utf-8")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages=7", "--model", "bundled", "--json", "queries=21"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "bundled"
    assert [p["name"] for p in report["parts"]][5:-2] == [f"stage {i}" for i in range(1, 8)]
    whole = report["total"]
    for key in ("parameters", "learning", "macs_per_image", "macs_per_sentence"):
        assert whole[key] == sum(part[key] for part in report["parts"]) > 0
    assert whole["learning"] < whole["parameters"]  # its encoders are frozen


def test_table_and_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(SMALL))
    assert main(["--model", str(path), "lsran=false"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("small: one image of 64 x 64, one sentence of 8 tokens\n\n| part |")
    parts = summarise(small(lsran=False))
    assert as_table(parts) in out
    assert out.splitlines()[-1].split("|")[1:3] == [" total ", f" {total(parts).parameters / 1e6:.3f} "]
    assert asdict(parts[3]) == {**dict.fromkeys(asdict(parts[3]), 0), "name": "LSRAN"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "papre"], "the presets are ablation, base, bundled, nano, paper, study, tiny"),
        (["chanels=8"], "did you mean channels"),
        (["--model", "bundled", "image_size=450"], "multiple of 56"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
