"""Trivial answers: what a table must beat before it says anything about understanding a sentence.

whole picture           every pixel
centred box             half the width and half the height (a quarter of the area), in the middle
all of the right class  the union of every instance of the target's class: an oracle that is *told* the class and cannot
                        tell one instance from another; unknown where the data set does not name its classes

Each mask gets its anchor by the Segmenter's own rule.
"""

from __future__ import annotations

import numpy as np

from jmceln_core.answer import deepest_point
from jmceln_core.data.grounding import Expression, Picture
from jmceln_core.evaluation.scene import Region, Scene

WHOLE, BOX, CLASS = "whole picture", "centred box", "all of the right class"
TRIVIAL = (WHOLE, BOX, CLASS)
NAMELESS = "thing"  # the category the readers give where a data set names none

Answer = tuple[Region, tuple[float, float] | None]


def whole_picture(height: int, width: int) -> np.ndarray:
    """(H, W) bool, all true."""
    return np.ones((height, width), bool)


def centred_box(height: int, width: int) -> np.ndarray:
    """(H, W) bool: the middle half of the rows and of the columns, rounded up to at least one pixel."""
    box_height, box_width = (height + 1) // 2, (width + 1) // 2
    top, left = (height - box_height) // 2, (width - box_width) // 2
    mask = np.zeros((height, width), bool)
    mask[top : top + box_height, left : left + box_width] = True
    return mask


def all_of_class(picture: Picture, targets: tuple[int, ...]) -> np.ndarray | None:
    """(H, W) bool union of the picture's instances of the targets' classes, crowd regions left out.

    None where there is no target or its class has no name.
    """
    classes = {picture.instance(target).category for target in targets}
    if not classes or NAMELESS in classes:
        return None
    mask = np.zeros((picture.height, picture.width), bool)
    for instance in picture.instances:
        if instance.category in classes and not instance.crowd:
            mask |= instance.mask(picture.height, picture.width)
    return mask


class TrivialAnswers:
    """The trivial answers to the sentences about one scene, each computed once."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._known: dict[tuple[str, tuple[int, ...]], Answer | None] = {}

    def answer(self, name: str, expression: Expression) -> Answer | None:
        """(mask, anchor (u, v)) of the trivial answer `name` in the scene; None where it does not know one."""
        targets = expression.targets if name == CLASS else ()
        if (name, targets) not in self._known:
            mask = self._mask(name, targets)
            if mask is not None:
                mask = self._scene.place(mask)
            self._known[name, targets] = None if mask is None else (Region(mask), deepest_point(mask))
        return self._known[name, targets]

    def _mask(self, name: str, targets: tuple[int, ...]) -> np.ndarray | None:
        picture = self._scene.picture
        height, width = picture.height, picture.width
        if name == WHOLE:
            return whole_picture(height, width)
        if name == BOX:
            return centred_box(height, width)
        if name == CLASS:
            return all_of_class(picture, targets)
        raise ValueError(f"no trivial answer named {name!r}; known: {', '.join(TRIVIAL)}")
