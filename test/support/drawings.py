"""Drawn pictures whose truth is known: of coloured shapes as annotated photographs, of solids as rendered tables."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from jmceln_core.data.grounding import Instance, Picture
from jmceln_core.synthesis.rules.photograph import Scene as Photograph
from jmceln_core.synthesis.tabletop import catalogue, making, shapes
from jmceln_core.synthesis.tabletop.facts import Facts
from jmceln_core.synthesis.tabletop.scene import TABLE, Camera, Placed, Scene

HEIGHT, WIDTH = 240, 320
PAINT = {
    "red": (215, 25, 30),
    "blue": (30, 60, 215),
    "green": (25, 150, 50),
    "yellow": (245, 220, 40),
    "white": (245, 245, 245),
    "black": (12, 12, 12),
    "none": (150, 128, 118),  # no colour word fits
}


def drawn(shapes, *, complete=True, crowd=()):
    """A picture of (kind, colour, x, y, w, h, round) shapes; later ones cover earlier ones. Returns (picture, rgb)."""
    rgb = np.full((HEIGHT, WIDTH, 3), (150, 140, 120), np.uint8)
    rgb[: HEIGHT // 20] = 255  # some white, so that black is not shadow
    owner = np.full((HEIGHT, WIDTH), -1)
    for k, (_, colour, x, y, w, h, is_round) in enumerate(shapes):
        canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
        if is_round:
            cv2.ellipse(canvas, (x + w // 2, y + h // 2), (max(w // 2, 1), max(h // 2, 1)), 0, 0, 360, 1, -1)
        else:
            canvas[y : y + h, x : x + w] = 1
        rgb[canvas > 0] = PAINT[colour]
        owner[canvas > 0] = k
    instances = []
    for k, (kind, *_) in enumerate(shapes):
        mask = np.asfortranarray(owner == k, np.uint8)
        if mask.any():
            rle = coco_mask.encode(mask)
            instances.append(Instance(k + 1, kind, rle, tuple(coco_mask.toBbox(rle)), crowd=k in crowd))
    return Picture(7, Path("drawn.png"), HEIGHT, WIDTH, tuple(instances), complete), rgb


def project(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) and depths (N,) of world points, by the pinhole's equations."""
    right, down, forward = camera.axes()
    moved = points - np.asarray(camera.position)
    depth = moved @ forward
    focal = camera.height / 2 / np.tan(np.radians(camera.field) / 2)
    pixels = np.stack([moved @ right, moved @ down], -1) / depth[:, None] * focal
    return pixels + np.array((camera.width / 2, camera.height / 2)), depth


def paint(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture without a renderer: triangles filled from far to near. rgb, instances, pixels of each thing alone."""
    camera = scene.camera
    instances = np.full((camera.height, camera.width), -1, np.int32)
    rgb = np.full((camera.height, camera.width, 3), 200, np.uint8)
    whole, drawn = np.zeros(len(scene.things)), []
    for index, thing in enumerate(scene.things):
        pixels, depth = project(camera, thing.world())
        if depth.min() < 0.05:
            continue
        alone = np.zeros(instances.shape, np.uint8)
        corners = (pixels[thing.item.mesh.faces] * 16 - 8).round().astype(np.int32)
        for face, triangle in zip(thing.item.mesh.faces, corners, strict=True):
            cv2.fillConvexPoly(alone, triangle, 1, shift=4)
            drawn.append((depth[face].mean(), index, triangle))
        whole[index] = alone.sum()
    colour = {k: making._PAINTS[t.item.words.colours[0]] if t.item.words.colours else (128, 90, 128)
              for k, t in enumerate(scene.things)}  # fmt: skip
    for _, index, triangle in sorted(drawn, key=lambda d: -d[0]):
        cv2.fillConvexPoly(instances, triangle, index, shift=4)
        cv2.fillConvexPoly(rgb, triangle, colour[index], shift=4)
    return rgb, instances, whole


def observed(scene: Scene) -> Facts:
    rgb, instances, whole = paint(scene)
    return Facts(scene, rgb, instances, whole)


def row(*things: Placed) -> Facts:
    """Seen from the front and above, x to the right."""
    camera = Camera((0, -0.7, 0.6), (0, 0, 0), 0, 50, 320, 240)
    scene = Scene(things, camera, (), 1.0, None, None, None, (1, 1))  # type: ignore[arg-type]
    return observed(scene)


def photograph(text, covers=()):
    """The photograph of a rule's example (`book.Example`)."""
    shapes_ = []
    for thing in text.split(", "):
        *words, x, y, w, h = thing.split()
        colour = words.pop(0) if words[0] in PAINT else "none"
        shapes_.append((" ".join(words), colour, int(x), int(y), int(w), int(h), False))
    return Photograph(*drawn(shapes_), covers)


def table(text):
    """The rendered table of a rule's example (`book.Example`)."""
    things: list[Placed] = []
    for thing in text.split(", "):
        look, noun, x, y, sides, where = re.fullmatch(
            r"(\S+) (\S+) (-?\d+) (-?\d+)(?: (\d+x\d+x\d+))?(?: (on \d|in \d|lying))?", thing
        ).groups()
        words = {
            "wooden": catalogue.Words((noun,), material="wooden"),
            "lidded": catalogue.Words((noun,), parts=("a lid",)),
            "lidless": catalogue.Words((noun,), lacks=("a lid",)),
        }.get(look, catalogue.Words((noun,), colours=(look,)))
        size = [int(side) / 100 for side in (sides or "5x5x5").split("x")]
        opening = 0.08 if noun == "bowl" else 0.0
        item = catalogue.Item(noun, shapes.box(*size), words, catalogue.resting("u"), opening=opening)
        rotation, at = np.eye(3), np.array([int(x) / 100, int(y) / 100, 0.0])
        on = inside = TABLE
        if where == "lying":
            rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
            at[2] = size[1] / 2
        elif where:
            below = int(where.split()[1]) - 1
            at[2] = things[below].world()[:, 2].max()
            on, inside = (below, TABLE) if where.startswith("on") else (TABLE, below)
        things.append(Placed(item, rotation, at, 1.0, on, inside, upright=where != "lying"))
    return row(*things)
