"""The sheet of answers: what passes, and that every sentence is on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core.answer import Segmentation, Status
from jmceln_core.evaluation.showcase import ASKED, CELL, COLUMNS, Asked, main, passes, pictures

EMPTY = np.zeros((100, 200), bool)
NOTHING = Segmentation(EMPTY, Status.NOT_PRESENT, 0.1, None, None, None, 0, None, 0.0)
FOUND = replace(NOTHING, status=Status.FOUND, anchor=(50.0, 50.0))


@pytest.mark.parametrize(
    ("box", "answer", "right"),
    [
        ((0.2, 0.4, 0.3, 0.6), FOUND, True),
        ((0.3, 0.4, 0.5, 0.6), FOUND, False),  # beside it
        ((0.2, 0.6, 0.3, 0.8), FOUND, False),  # above it
        ((0.2, 0.4, 0.3, 0.6), NOTHING, False),
        (None, NOTHING, True),
        (None, FOUND, False),
    ],
)
def test_an_answer_passes_if_it_points_into_the_box_or_rightly_says_no(box, answer: Segmentation, right: bool) -> None:
    assert passes(Asked("table", "the mug", box), answer) == right


def test_every_sentence_is_about_a_picture_that_is_there_and_has_a_box_within_it() -> None:
    shown = pictures()
    for asked in ASKED:
        assert shown[asked.picture].dtype == np.uint8
        if asked.box is not None:
            left, top, right, bottom = asked.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
    assert [a.picture for a in ASKED] == sorted((a.picture for a in ASKED), key=[a.picture for a in ASKED].index)


def test_the_sheet_has_every_answer(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny_checkpoint), "--out", str(tmp_path / "sheet.png")]) == 0
    rows = -(-len(ASKED) // COLUMNS)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (rows * (CELL[1] + 6), COLUMNS * (CELL[0] + 6), 3)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(ASKED) + 1
    assert printed[-1] == f"{sum(line.startswith('right') for line in printed)} of {len(ASKED)} right"
    assert main(["nowhere.safetensors", "--out", str(tmp_path / "sheet.png")]) == 2
    assert "nowhere" in capsys.readouterr().err
