"""A rendered table with several like objects on it: mugs and apples of different colour, size and place.

The demo shows it, and a camera that moves over it measures how answers flicker (jmceln_core.evaluation.flicker). Sphere
tracing of signed distances in numpy: soft shadows, a glossy glaze and a wooden table, so that a network trained
on photographs knows what it sees. Units are decimetres, y points up, the table is y = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

_LIGHT = np.array([-0.45, 0.8, -0.4]) / np.linalg.norm([-0.45, 0.8, -0.4])  # direction to the light
#: Where the camera stands and where it looks.
EYE, LOOK_AT = (0.0, 5.2, -9.0), (0.0, 0.55, 0.6)
_FOCAL = 1.75  # focal length in image heights
_WALL = 6.0  # z of the wall behind the table
_HIT = 2e-3  # distance at which a ray counts as on the surface


@dataclass(frozen=True)
class Thing:
    """One object: what it is, where it stands (x, z), its size in decimetres (height of a mug, width of an apple)."""

    kind: str
    colour: tuple[float, float, float]  # RGB in [0, 1]
    place: tuple[float, float]
    size: float
    turn: float = 0.0  # radians about the vertical: where a mug's handle points, 0 is to the right

    @property
    def centre(self) -> np.ndarray:
        """Centre of the bounding sphere."""
        return np.array([self.place[0], 0.5 * self.size, self.place[1]])

    @property
    def radius(self) -> float:
        """Radius of the bounding sphere."""
        return 0.95 * self.size

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (N,) of points (N, 3) to the surface."""
        local = (points - np.array([self.place[0], 0.0, self.place[1]])) / self.size
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        x, y, z = cos * local[:, 0] + sin * local[:, 2], local[:, 1], cos * local[:, 2] - sin * local[:, 0]
        return self.size * _SHAPES[self.kind](x, y, z)


#: What the demo shows, in the order of the identity map.
TABLE = (
    Thing("mug", (0.70, 0.06, 0.05), (-2.75, 0.6), 1.35, turn=0.4),
    Thing("mug", (0.05, 0.16, 0.55), (-0.1, 1.6), 1.75, turn=-0.5),
    Thing("mug", (0.86, 0.85, 0.82), (2.7, 0.9), 1.3, turn=2.7),
    Thing("apple", (0.62, 0.04, 0.04), (-1.1, -1.0), 0.95),
    Thing("apple", (0.36, 0.55, 0.06), (1.25, -1.15), 1.0),
)


def render(
    things: tuple[Thing, ...] = TABLE,
    *,
    width: int = 640,
    height: int = 480,
    eye: tuple[float, float, float] = EYE,
    look_at: tuple[float, float, float] = LOOK_AT,
) -> tuple[np.ndarray, np.ndarray]:
    """The scene as (H, W, 3) uint8 RGB, and (H, W) int8: whose pixel it is, an index into `things`, -1 for none.

    The camera at `eye` looks at the point `look_at` and is held level. It must stand above the table, before the wall.
    """
    fine = 2  # samples per pixel and direction
    camera, target = np.array(eye), np.array(look_at)
    directions = _rays(width * fine, height * fine, target - camera)
    depth, owner = _trace(np.broadcast_to(camera, directions.shape), directions, things)
    table = np.where(directions[:, 1] < 0, -camera[1] / np.minimum(directions[:, 1], -1e-9), np.inf)
    wall = (_WALL - camera[2]) / directions[:, 2]
    ground = owner < 0
    on_wall = ground & (wall < table)
    depth = np.where(ground, np.minimum(table, wall), depth)
    points = camera + depth[:, None] * directions

    normals = np.zeros_like(points)
    normals[ground] = (0.0, 1.0, 0.0)
    normals[on_wall] = (0.0, 0.0, -1.0)
    albedo = np.zeros_like(points)
    albedo[ground] = _wood(points[ground])
    albedo[on_wall] = (0.62, 0.64, 0.60)
    gloss = np.where(ground, 0.04, 0.0)
    for index, thing in enumerate(things):
        mine = owner == index
        normals[mine] = _normals(thing, points[mine])
        albedo[mine], gloss[mine] = _surface(thing, points[mine])

    lit = np.zeros(len(points))
    towards = normals @ _LIGHT
    facing = towards > 0
    lit[facing] = _light_reaching(points[facing] + 0.01 * normals[facing], things)
    diffuse = np.clip(towards, 0, 1) * lit
    sky = (0.5 + 0.5 * normals[:, 1]) * _openness(points, normals, things)
    half = _LIGHT - directions
    half /= np.sqrt(_dot(half, half))[:, None]
    shine = gloss * lit * np.clip(_dot(normals, half), 0, 1) ** 60
    light = 0.95 * diffuse[:, None] * (1.0, 0.96, 0.88) + 0.5 * sky[:, None] * (0.88, 0.94, 1.0)
    linear = albedo * light + shine[:, None]
    picture = (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8).reshape(height * fine, width * fine, 3)
    owners = owner.reshape(height * fine, width * fine)[fine // 2 :: fine, fine // 2 :: fine]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), owners.astype(np.int8)


def _mug(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    around = np.hypot(x, z)
    outer = _box2(around, y - 0.5, 0.38, 0.48) - 0.02
    inner = _box2(around, y - 0.62, 0.33, 0.52) - 0.01
    handle = np.hypot(_box2(x - 0.40, y - 0.52, 0.10, 0.12) - 0.12, z) - 0.05
    return np.minimum(np.maximum(outer, -inner), np.maximum(handle, 0.36 - around))


def _apple(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    around = np.hypot(x, z)
    # A torus of nearly no hole has the dimple; the stem is a thin slanted cylinder.
    flesh = np.hypot(np.abs(around - 0.16), (y - 0.44) * 0.82) - 0.335
    stem = np.maximum(np.hypot(x - 0.1 * (y - 0.6), z) - 0.022, np.abs(y - 0.78) - 0.14)
    return np.minimum(flesh, stem) * 0.9


_SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {"mug": _mug, "apple": _apple}


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products (N,) of vectors (N, 3)."""
    return np.einsum("ij,ij->i", a, b)


def _box2(a: np.ndarray, b: np.ndarray, half_a: float, half_b: float) -> np.ndarray:
    """Signed distance to a rectangle about the origin, in the plane (a, b)."""
    da, db = np.abs(a) - half_a, np.abs(b) - half_b
    return np.hypot(np.maximum(da, 0), np.maximum(db, 0)) + np.minimum(np.maximum(da, db), 0)


def _rays(width: int, height: int, forward: np.ndarray) -> np.ndarray:
    """Unit directions (H * W, 3) through the pixel centres of a level camera that looks along `forward`."""
    forward = forward / np.linalg.norm(forward)
    right = np.cross((0.0, 1.0, 0.0), forward)
    right /= np.linalg.norm(right)
    up = np.cross(forward, right)
    v, u = np.mgrid[:height, :width] + 0.5
    u, v = (u.ravel() - width / 2) / (height * _FOCAL), (height / 2 - v.ravel()) / (height * _FOCAL)
    rays = forward + u[:, None] * right + v[:, None] * up
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _trace(starts: np.ndarray, directions: np.ndarray, things: tuple[Thing, ...]) -> tuple[np.ndarray, np.ndarray]:
    """First hit of every ray: its distance (inf for none) and the index of the thing (-1)."""
    depth, owner = np.full(len(starts), np.inf), np.full(len(starts), -1)
    for index, thing in enumerate(things):
        rays, near, far = _through_sphere(starts, directions, thing)
        travelled = near.copy()
        alive = np.arange(len(rays))
        for _ in range(80):
            at = starts[rays[alive]] + travelled[alive, None] * directions[rays[alive]]
            gap = thing.distance(at)
            hit = alive[gap < _HIT]
            closer = hit[travelled[hit] < depth[rays[hit]]]
            depth[rays[closer]], owner[rays[closer]] = travelled[closer], index
            travelled[alive] += gap
            alive = alive[(gap >= _HIT) & (travelled[alive] < far[alive])]
            if not len(alive):
                break
    return depth, owner


def _through_sphere(
    starts: np.ndarray, directions: np.ndarray, thing: Thing
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the rays that meet the thing's bounding sphere, and where they enter and leave it."""
    to_centre = thing.centre - starts
    along = _dot(to_centre, directions)
    square = thing.radius**2 - (_dot(to_centre, to_centre) - along**2)
    rays = np.flatnonzero((square > 0) & (along + np.sqrt(np.maximum(square, 0)) > 0))
    half = np.sqrt(square[rays])
    return rays, np.maximum(along[rays] - half, 0.0), along[rays] + half


def _light_reaching(points: np.ndarray, things: tuple[Thing, ...]) -> np.ndarray:
    """Share (N,) of a broad light that reaches each point: rays that pass a thing closely lie in its half shadow."""
    lit = np.ones(len(points))
    directions = np.broadcast_to(_LIGHT, points.shape)
    for thing in things:
        rays, near, far = _through_sphere(points, directions, thing)
        travelled = np.maximum(near, 0.02)
        for _ in range(28):
            gap = thing.distance(points[rays] + travelled[:, None] * _LIGHT)
            lit[rays] = np.minimum(lit[rays], np.clip(9.0 * gap / np.maximum(travelled, 0.05), 0, 1))
            travelled = np.minimum(travelled + np.clip(gap, 0.03, 0.4), far)
    return lit


def _openness(points: np.ndarray, normals: np.ndarray, things: tuple[Thing, ...]) -> np.ndarray:
    """Share (N,) of the sky a point sees, from the distances to all things a little above the surface."""
    seen = np.ones(len(points))
    for reach in (0.15, 0.4):
        above = points + reach * normals
        for thing in things:
            away = above - thing.centre
            near = np.flatnonzero(_dot(away, away) < (thing.radius + reach) ** 2)
            gap = np.clip(thing.distance(above[near]), 0, reach) / reach
            seen[near] = np.minimum(seen[near], 0.35 + 0.65 * gap)
    return seen


def _normals(thing: Thing, points: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3): the gradient of the distance."""
    step = 1e-3
    gradient = np.stack(
        [thing.distance(points + step * axis) - thing.distance(points - step * axis) for axis in np.eye(3)], axis=1
    )
    return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)


def _surface(thing: Thing, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (N, 3) and gloss (N,) of the thing's surface."""
    local = (points - np.array([thing.place[0], 0.0, thing.place[1]])) / thing.size
    colour = np.tile(np.array(thing.colour), (len(points), 1))
    around = np.hypot(local[:, 0], local[:, 2])
    if thing.kind == "mug":
        inside = (around < 0.355) & (local[:, 1] > 0.1)
        colour[inside] = 0.25 * colour[inside] + 0.6  # a light glaze within
        return colour, np.full(len(points), 0.55)
    streaks = 0.5 + 0.5 * np.sin(9 * np.arctan2(local[:, 2], local[:, 0]) + 4 * np.sin(7 * local[:, 1]))
    colour += 0.10 * streaks[:, None] * np.array([1.0, 0.55, 0.1])
    colour[(local[:, 1] > 0.68) & (around < 0.06)] = (0.16, 0.09, 0.04)  # stem
    return colour, np.full(len(points), 0.3)


def _wood(points: np.ndarray) -> np.ndarray:
    """Colour (N, 3) of the table: boards along x with a wavy grain."""
    x, z = points[:, 0], points[:, 2]
    board = np.floor(z / 1.6)
    grain = np.sin(22 * z + 3 * np.sin(0.7 * x + 2.1 * board) + 1.5 * np.sin(2.3 * x + board))
    fine = np.sin(95 * z + 6 * np.sin(1.9 * x + board))
    tone = 0.40 + 0.035 * grain + 0.02 * fine + 0.05 * np.sin(12.9 * board)
    tone = np.where(np.abs(z / 1.6 - np.round(z / 1.6)) < 0.012, 0.45 * tone, tone)
    return tone[:, None] * np.array([1.0, 0.66, 0.38])
