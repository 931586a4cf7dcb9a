"""The command `python -m jmceln_core.predict`: one picture, one sentence, one answer."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core import predict
from jmceln_core.answer import Segmentation, Status
from jmceln_core.config import DecisionConfig
from jmceln_core.segmenter import Segmenter
from support import ROOT, tiny
from support.tiny import TINY

KEYS = ["status", "score", "centroid", "anchor", "box", "area", "seconds", "instances"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint with random weights that answers with some mask."""
    config = dataclasses.replace(TINY, name="little", decision=DecisionConfig(mask=0.0, confident=0.0))
    return tiny.write(tmp_path_factory.mktemp("model") / "little.safetensors", config)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    return path


def run(capsys, *arguments):
    """Exit status, standard output, standard error."""
    status = predict.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_json_is_one_object_and_nothing_else(capsys, picture, model):
    status, out, err = run(capsys, picture, "the red mug", "--json", "--model", model, "--device", "cpu")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert list(answer) == KEYS
    assert out.count("\n") == 1
    assert answer["status"] in [s.value for s in Status]
    assert answer["area"] == 2000  # threshold 0: every pixel
    assert answer["box"] == [0, 0, 50, 40]
    assert answer["centroid"] == [24.5, 19.5]
    assert answer["seconds"] > 0


def test_a_process_of_its_own_prints_only_json(picture, model):
    command = [sys.executable, "-m", "jmceln_core.predict", picture, "mug", "--json", "--model", model]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == KEYS


def test_a_chatty_library_does_not_spoil_the_json(capsys, picture, model, monkeypatch):
    load = Segmenter.load

    def chatty(*arguments, **options):
        print("downloading ...")
        return load(*arguments, **options)

    monkeypatch.setattr(Segmenter, "load", chatty)
    status, out, err = run(capsys, picture, "mug", "--json", "--model", model)
    assert status == 0
    assert list(json.loads(out)) == KEYS
    assert "downloading" in err


def test_text_for_people(capsys, picture, model):
    status, out, _ = run(capsys, picture, "mug", "--model", model)
    assert status == 0
    for part in ("score 0.", "centroid (24.5, 19.5)", "anchor (", "box 50x40 at (0, 0)", "2000 pixels", " s\n"):
        assert part in out


def test_overlay(capsys, picture, model, tmp_path):
    status, _, _ = run(capsys, picture, "mug", "--model", model, "--out", tmp_path / "overlay.png")
    assert status == 0
    drawn, original = cv2.imread(str(tmp_path / "overlay.png")), cv2.imread(str(picture))
    assert drawn.shape == original.shape
    assert (drawn != original).mean() > 0.5  # the whole picture is tinted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "missing.png"}, "missing.png: no such file"),
        ({"image": "text.png"}, "text.png: not a readable image"),
        ({"image": "."}, ": a folder, not a picture"),
        ({"image": "a" * 300 + ".png"}, ".png: cannot be read (File name too long)"),
        ({"out": "a" * 300 + "/o.png"}, "File name too long"),
        ({"text": " "}, "the sentence ' ' is empty"),
        ({"model": "bundeld"}, "no bundled checkpoint 'bundeld'"),
        ({"model": "missing.safetensors"}, "missing.safetensors: no such file"),
        ({"model": "text.png"}, "text.png: truncated, or not a safetensors file"),
        ({"device": "gpu"}, "device='gpu': no such device"),
        ({"precision": "fp16"}, "precision='fp16' needs a CUDA device"),
        ({"out": "overlay.xyz"}, "overlay.xyz: pictures cannot be written with that suffix; use .png or .jpg"),
        ({"out": "missing/overlay.png"}, "the folder missing does not exist"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_status_2(capsys, picture, model, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("not a picture")
    given = {
        "image": picture,
        "text": "mug",
        "model": model,
        "device": "cpu",
        "precision": "fp32",
        "out": "o.png",
    } | change
    image, text = given.pop("image"), given.pop("text")
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    status, out, err = run(capsys, image, text, "--json", *options)
    assert status == 2
    assert out == ""
    assert err.startswith("predict: ")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("o.png").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["picture.png"], ["a.png", "mug", "--nonsense"], ["a.png", "mug", "--precision", "int4"]]
)
def test_bad_command_lines(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        predict.main(arguments)
    assert caught.value.code == 2


def test_nothing_found_is_null_in_json_and_short_in_text():
    nothing = Segmentation(np.zeros((2, 2), bool), Status.NOT_PRESENT, 0.125, None, None, None, 0, None, 0.5)
    assert json.dumps(predict.as_json(nothing)) == (
        '{"status": "not_present", "score": 0.125, "centroid": null, "anchor": null, "box": null, "area": 0, '
        '"seconds": 0.5, "instances": []}'
    )
    assert predict.as_text(nothing) == "not_present, score 0.12, 0.50 s"
