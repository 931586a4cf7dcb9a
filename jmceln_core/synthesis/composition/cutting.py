"""Cutting things out of photographs, where their annotated outlines are clean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from jmceln_core.data.grounding import Expression, Instance, Picture
from jmceln_core.data.mirror import can_mirror
from jmceln_core.synthesis.rules import kinds, written

# Areas in pixels of the source, other figures are shares.
SMALLEST = 900
LARGEST = 0.6  # of the source picture
SOLID, SOLID_COMPACT = 0.3, 0.88  # of the convex hull; of compact kinds
TOUCHING = 0.1  # of the outline may touch other annotated things
# Kinds of written sentences that tell what a thing looks like.
TOLD = frozenset({
    "appearance", "attribute", "short", "guess", "people: clothes", "people: looks", "people: fragment",
    "twins: attribute", "twins: description",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cut:
    """A thing cut out of a photograph: its box's pixels, how much of each is the thing, and what was written of it that
    depends on nothing else in its picture."""

    source: tuple[int, int]  # picture and instance id
    category: str
    rgb: np.ndarray  # (h, w, 3) uint8
    alpha: np.ndarray  # (h, w) uint8, 255: the thing
    texts: tuple[tuple[str, str], ...]  # (kind, text)
    mirrors: bool  # may be shown mirrored


def cuts_of(picture: Picture, rgb: np.ndarray, sentences: Sequence[Expression]) -> Iterator[Cut]:
    """The things of a picture that can be cut out cleanly: in one piece, not cut by the picture's border, not hidden by
    and not hiding another annotated thing.

    rgb: (H, W, 3) uint8, the picture's own pixels; sentences: the written ones about it.
    """
    masks = {i.id: i.mask(picture.height, picture.width) for i in picture.instances}
    for instance in picture.instances:
        if instance.crowd or not _is_clean(instance, picture, masks) or _is_filled(masks[instance.id], rgb):
            continue
        x0, y0, x1, y1 = bounds(masks[instance.id], margin=2)
        said = [e for e in sentences if e.targets == (instance.id,)]
        kept = tuple(
            (e.kind, e.text) for e in said if e.kind in TOLD and written.is_appearance(e.text, instance.category)
        )
        yield Cut(
            (picture.id, instance.id),
            instance.category,
            rgb[y0:y1, x0:x1].copy(),
            softened(masks[instance.id])[y0:y1, x0:x1].copy(),
            kept,
            instance.category not in kinds.LETTERED and all(can_mirror(e.text) for e in said),
        )


def bounds(mask: np.ndarray, margin: int = 0) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a (H, W) bool mask's box, widened by `margin` pixels within the picture."""
    xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    height, width = mask.shape
    return (
        max(int(xs[0]) - margin, 0),
        max(int(ys[0]) - margin, 0),
        min(int(xs[-1]) + 1 + margin, width),
        min(int(ys[-1]) + 1 + margin, height),
    )


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def softened(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 coverage of a mask drawn in: outlines are annotated a little too far out, and pixels at a border
    show both sides of it."""
    inner = cv2.erode(mask.astype(np.uint8) * 255, _CROSS)
    return cv2.GaussianBlur(inner, (0, 0), 0.8)


def _is_clean(instance: Instance, picture: Picture, masks: dict[int, np.ndarray]) -> bool:
    mask = masks[instance.id]
    area = int(np.count_nonzero(mask))
    if not SMALLEST <= area <= LARGEST * mask.size:
        return False
    x0, y0, x1, y1 = bounds(mask)
    if x0 < 3 or y0 < 3 or x1 > picture.width - 3 or y1 > picture.height - 3:
        return False
    solid = SOLID_COMPACT if instance.category in kinds.COMPACT else SOLID
    return (
        is_in_one_piece(mask[y0:y1, x0:x1], area, solid)
        and is_free(instance, picture, masks)
        and _is_empty(instance, picture, masks)
    )


def is_in_one_piece(mask: np.ndarray, area: int, solid: float = SOLID) -> bool:
    """Whether a (h, w) bool mask of that many pixels hangs together and fills that share of its convex hull."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    largest = int(np.bincount(labels[mask]).max())
    hull = float(cv2.contourArea(cv2.convexHull(cv2.findNonZero(mask.astype(np.uint8)))))
    return largest > 0.95 * area and area > solid * hull


def _is_empty(instance: Instance, picture: Picture, masks: dict[int, np.ndarray]) -> bool:
    """Whether no other annotated thing lies on it: it would be pasted along, unannotated."""
    mask = masks[instance.id]
    return not any(
        np.count_nonzero(mask & masks[other.id]) > 0.3 * np.count_nonzero(masks[other.id])
        for other in picture.instances
        if other is not instance
    )


def _is_filled(mask: np.ndarray, rgb: np.ndarray) -> bool:
    """Whether the outline takes in a piece of the background, as a polygon does around a saw's frame: told where that
    is of one colour."""
    x0, y0, x1, y1 = bounds(mask, margin=6)
    inside, pixels = mask[y0:y1, x0:x1].astype(np.uint8), rgb[y0:y1, x0:x1].astype(np.int16)
    ring = pixels[(cv2.dilate(inside, _CROSS, iterations=5) > cv2.dilate(inside, _CROSS, iterations=2))]
    if not len(ring) or ring.std(0).max() > 12:
        return False
    alike = np.abs(pixels - np.median(ring, 0)).max(-1) < 14
    core = cv2.erode(inside, _CROSS, iterations=2) > 0
    return bool(np.mean(alike[core]) > 0.08) if core.any() else False


def is_free(instance: Instance, picture: Picture, masks: dict[int, np.ndarray]) -> bool:
    """Whether the outline touches hardly anything else annotated, but for surfaces the thing may stand or lie on."""
    mask = masks[instance.id].astype(np.uint8)
    x0, y0, x1, y1 = bounds(masks[instance.id], margin=4)
    ring = cv2.dilate(mask[y0:y1, x0:x1], _CROSS, iterations=3) > cv2.erode(mask[y0:y1, x0:x1], _CROSS)
    others = np.zeros_like(ring)
    for other in picture.instances:
        if other is not instance and not (other.category in kinds.BENEATH and instance.category not in kinds.BENEATH):
            others |= masks[other.id][y0:y1, x0:x1]
    return bool(np.count_nonzero(ring & others) <= TOUCHING * np.count_nonzero(ring))
