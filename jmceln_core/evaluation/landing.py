"""Which annotated instance an answer lies on: the failure table."""

from __future__ import annotations

import numpy as np

from jmceln_core.evaluation.baselines import NAMELESS
from jmceln_core.evaluation.scene import Scene

RIGHT, SAME_KIND, OTHER_KIND = "right one", "same kind, wrong one", "another kind"
BACKGROUND, NO_ANSWER = "background", "no answer"
UNNAMED = "wrong one, kind not named"  # where the data set does not name its classes
UNANNOTATED = "nothing annotated"  # in place of BACKGROUND where things of the picture may lack masks
LANDINGS = (RIGHT, SAME_KIND, OTHER_KIND, UNNAMED, BACKGROUND, UNANNOTATED, NO_ANSWER)


def landing(mask: np.ndarray, scene: Scene, targets: tuple[int, ...]) -> str:
    """One of LANDINGS for a (H, W) bool answer to a sentence that means the instances with the ids `targets`.

    With more than half of its pixels on no instance (crowd regions are none) an answer lies on the background, else on
    the instance whose mask has the largest IoU with it. IoU and not common pixels: a tie lies within its wearer, and a
    plate within the table. What the answer is worth is another matter: the right one may be hit with a poor mask.
    """
    if not mask.any():
        return NO_ANSWER
    nothing = mask.copy()
    best, landed = 0.0, None
    for instance, truth in scene.things:
        common = np.count_nonzero(mask & truth)
        if not common:
            continue
        nothing &= ~truth
        iou = common / np.count_nonzero(mask | truth)
        # of two outlines of one thing the one that is meant
        if iou > best or (iou == best and instance.id in targets):
            best, landed = iou, instance
    if landed is None or 2 * np.count_nonzero(nothing) > np.count_nonzero(mask):
        return BACKGROUND if scene.picture.complete else UNANNOTATED
    if landed.id in targets:
        return RIGHT
    kinds = {scene.picture.instance(target).category for target in targets}
    if NAMELESS in kinds:
        return UNNAMED
    return SAME_KIND if landed.category in kinds else OTHER_KIND
