"""Answers one may look at: `python -m jmceln_core.evaluation.showcase [CHECKPOINT] --out docs/images/answers.jpg`.

A fixed list of sentences about pictures that may be shown: photographs that come with scikit-image, and the demo's
rendered table. All of them are on the sheet, right or wrong. Where each thing is was written down by looking, before
any model was asked, as a box; an answer passes if its anchor lies in the box, or, for what is not there, if it says so.
That is a look, not a measurement: the sentences are few.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jmceln_core import overlay
from jmceln_core.answer import Segmentation, Status
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.command import refused
from jmceln_core.extras import require
from jmceln_core.pictures import check_writable, write_picture
from jmceln_core.segmenter import Segmenter
from jmceln_core.synthesis import table_scene

CELL = (320, 240)  # width and height of an answer on the sheet, in pixels
COLUMNS = 4

Box = tuple[float, float, float, float]  # left, top, right, bottom; 1 is the picture's width or height


class Asked(NamedTuple):
    """A sentence about a picture, and where the anchor must lie; None: there is no such thing."""

    picture: str
    text: str
    box: Box | None


ASKED = (
    Asked("coffee", "the cup", (0.27, 0.04, 0.70, 0.78)),
    Asked("coffee", "the spoon", (0.53, 0.16, 0.72, 0.83)),
    Asked("coffee", "the saucer under the cup", (0.12, 0.16, 0.81, 0.98)),
    Asked("coffee", "the dog", None),
    Asked("astronaut", "the woman in the orange suit", (0.04, 0.03, 0.73, 1.0)),
    Asked("astronaut", "the helmet on the right", (0.55, 0.66, 1.0, 1.0)),
    Asked("astronaut", "the space shuttle behind her", (0.68, 0.0, 0.90, 0.56)),
    Asked("astronaut", "the flag", (0.0, 0.0, 0.2, 0.96)),
    Asked("rocket", "the white rocket", (0.47, 0.29, 0.53, 0.98)),
    Asked("rocket", "the tower on the far right", (0.86, 0.0, 1.0, 0.9)),
    Asked("cat", "the cat", (0.04, 0.0, 0.98, 1.0)),
    Asked("cat", "the nose", (0.50, 0.73, 0.67, 0.89)),
    Asked("table", "the blue mug", (0.40, 0.22, 0.62, 0.56)),
    Asked("table", "the mug on the left", (0.07, 0.34, 0.28, 0.63)),
    Asked("table", "the white mug", (0.72, 0.33, 0.91, 0.60)),
    Asked("table", "the apple on the right", (0.60, 0.57, 0.76, 0.76)),
    Asked("table", "the red apple", (0.27, 0.56, 0.42, 0.75)),
    Asked("table", "the apple that is not red", (0.60, 0.57, 0.76, 0.76)),
    Asked("table", "the biggest mug", (0.40, 0.22, 0.62, 0.56)),
    Asked("table", "the green mug", None),
)


def pictures() -> dict[str, np.ndarray]:
    """(H, W, 3) uint8 RGB by name. The photographs are CC0 or in the public domain, as scikit-image says of them."""
    require("train", "skimage")
    import skimage.data

    return {
        "coffee": skimage.data.coffee(),
        "cat": skimage.data.chelsea(),
        "astronaut": skimage.data.astronaut(),
        "rocket": skimage.data.rocket(),
        "table": table_scene.render()[0],
    }


def passes(asked: Asked, answer: Segmentation) -> bool:
    """Whether the answer's anchor lies where the sentence means, or says NOT_PRESENT to what is not there."""
    if asked.box is None or answer.anchor is None:
        return asked.box is None and answer.status is Status.NOT_PRESENT
    height, width = answer.mask.shape
    left, top, right, bottom = asked.box
    u, v = answer.anchor
    return left <= (u + 0.5) / width <= right and top <= (v + 0.5) / height <= bottom


def sheet(segmenter: Segmenter) -> tuple[np.ndarray, list[bool]]:
    """The (H, W, 3) uint8 RGB sheet of all answers, framed green or red, and which of them pass."""
    shown = pictures()
    cells, passed = [], []
    last = ""
    for asked in ASKED:
        rgb = shown[asked.picture]
        if asked.picture != last:
            segmenter.set_image(rgb)
            last = asked.picture
        answer = segmenter.segment(asked.text)
        passed.append(passes(asked, answer))
        drawn = cv2.resize(overlay.draw(rgb, answer, None), CELL, interpolation=cv2.INTER_AREA)
        overlay.title(drawn, f"{asked.text}: {answer.status.value} {answer.score:.2f}", 1)
        frame = (0, 160, 60) if passed[-1] else (220, 30, 30)
        cells.append(cv2.copyMakeBorder(drawn, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=frame))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    return np.vstack(rows), passed


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="draw a checkpoint's answers to a fixed list of sentences")
    parser.add_argument(
        "checkpoint", nargs="?", default=None, help="a file, or a bundled model's name; default: bundled"
    )
    parser.add_argument("--out", type=Path, required=True, help="the sheet, .jpg or .png")
    options = parser.parse_args(arguments)
    try:
        check_writable(options.out)
        drawn, passed = sheet(Segmenter.load(options.checkpoint))
        write_picture(options.out, drawn)
    except (CheckpointError, ValueError) as error:
        return refused("showcase", error)
    for asked, good in zip(ASKED, passed, strict=True):
        print(f"{'right' if good else 'WRONG'}  {asked.picture:10} {asked.text}")
    print(f"{sum(passed)} of {len(passed)} right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
