"""Which instance an answer lies on, on pictures drawn from rectangles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jmceln_core.data.grounding import Instance, Picture
from jmceln_core.evaluation import landing as module
from jmceln_core.evaluation.landing import landing
from jmceln_core.evaluation.scene import Scene

HEIGHT, WIDTH = 40, 60


def rectangle(x, y, w, h):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def thing(key, category, x, y, w, h, *, crowd=False):
    return Instance(key, category, [[x, y, x + w, y, x + w, y + h, x, y + h]], (x, y, w, h), crowd)


# Two people, one of them with a tie, and a crowd.
PICTURE = Picture(
    *(1, Path("1.png"), HEIGHT, WIDTH),
    (
        thing(1, "person", 0, 0, 10, 30),
        thing(2, "tie", 4, 8, 2, 6),
        thing(3, "person", 20, 0, 10, 30),
        thing(4, "person", 40, 0, 20, 30, crowd=True),
    ),
)


@pytest.mark.parametrize(
    ("mask", "targets", "expected"),
    [
        (rectangle(0, 0, 10, 30), (1,), module.RIGHT),
        (rectangle(0, 0, 10, 6), (1,), module.RIGHT),  # a poor mask, but on the right one
        (rectangle(20, 0, 10, 30), (1,), module.SAME_KIND),
        (rectangle(0, 0, 10, 30), (2,), module.OTHER_KIND),
        # A bit more than the tie has more pixels in common with its wearer, and lies on the tie all the same.
        (rectangle(4, 8, 2, 7), (2,), module.RIGHT),
        (rectangle(4, 8, 2, 7), (1,), module.OTHER_KIND),
        (rectangle(0, 32, 60, 8), (1,), module.BACKGROUND),
        (rectangle(0, 20, 10, 20), (1,), module.RIGHT),  # half on nothing
        (rectangle(0, 19, 10, 21), (1,), module.RIGHT),
        (rectangle(0, 21, 10, 19), (1,), module.BACKGROUND),  # more than half on nothing
        (rectangle(40, 0, 20, 30), (1,), module.BACKGROUND),  # a crowd is no instance
        (rectangle(0, 0, 0, 0), (1,), module.NO_ANSWER),
        (rectangle(20, 0, 10, 30), (1, 3), module.RIGHT),  # one of several
    ],
)
def test_landing(mask, targets, expected):
    assert landing(mask, Scene(PICTURE), targets) == expected


def test_of_two_outlines_of_one_thing_the_one_that_is_meant():
    twice = dataclasses.replace(PICTURE, instances=(*PICTURE.instances, thing(5, "person", 20, 0, 10, 30)))
    for target in (3, 5):
        assert landing(rectangle(20, 0, 10, 20), Scene(twice), (target,)) == module.RIGHT


def test_what_is_not_known_is_not_said():
    missing = dataclasses.replace(PICTURE, complete=False)
    assert landing(rectangle(0, 32, 60, 8), Scene(missing), (1,)) == module.UNANNOTATED
    nameless = tuple(dataclasses.replace(i, category="thing") for i in PICTURE.instances)
    scene = Scene(dataclasses.replace(PICTURE, instances=nameless))
    assert landing(rectangle(20, 0, 10, 30), scene, (1,)) == module.UNNAMED
    assert landing(rectangle(0, 0, 10, 30), scene, (1,)) == module.RIGHT


def test_in_the_networks_square():
    scene = Scene(PICTURE, 30)  # half the size, 5 rows of padding above
    square = np.zeros((30, 30), bool)
    square[5:20, 10:15] = True
    assert landing(square, scene, (3,)) == module.RIGHT
    assert landing(square, scene, (1,)) == module.SAME_KIND
