"""A scene: which things, where they rest, what surrounds them, the lights and the camera. No pictures are made here.

Nothing falls or collides: a thing comes down from above onto a height map of all that is there and stays where it first
touches. That one rule puts things on tables, on boxes, into bowls and on heaps in a bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from jmceln_core.synthesis.tabletop import catalogue, making
from jmceln_core.synthesis.tabletop.catalogue import Item, Words
from jmceln_core.synthesis.tabletop.shapes import open_box, turned

Rng = np.random.Generator
Triple = tuple[float, float, float]
TABLE = -1  # the index of what rests on nothing else

_CELL = 0.004  # metres, of the height map
_HALF = 0.7  # metres from its middle to its edge
_FLUSH = 0.003  # metres that a thing on the table may seem to be above it


@dataclass(frozen=True, eq=False)
class Placed:
    """A thing at its place: world = scale * rotation @ mesh + position. `on` and `inside` are indices of other things
    of the scene or TABLE; what lies in something also rests on something in there."""

    item: Item
    rotation: np.ndarray
    position: np.ndarray
    scale: float = 1.0
    on: int = TABLE
    inside: int = TABLE
    upright: bool = True

    @property
    def extents(self) -> np.ndarray:
        """(3,) metres: the mesh's own size, the longest first."""
        return np.sort(np.ptp(self.item.mesh.vertices, axis=0))[::-1] * self.scale

    def world(self) -> np.ndarray:
        """(N, 3) vertices in metres in the world, z up and the table top at 0."""
        return self.scale * self.item.mesh.vertices @ self.rotation.T + self.position


@dataclass(frozen=True)
class Camera:
    """A pinhole at `position` looking at `target`, both in metres; `roll` degrees about its axis; `field` of view
    in degrees from the picture's top to its bottom."""

    position: Triple
    target: Triple
    roll: float
    field: float
    width: int
    height: int

    @property
    def elevation(self) -> float:
        """Degrees that it looks down; 90 is straight down."""
        away = np.subtract(self.target, self.position)
        return float(np.degrees(np.arcsin(-away[2] / np.linalg.norm(away))))

    def axes(self) -> np.ndarray:
        """(3, 3): rows are the picture's right, its down and the viewing direction in world coordinates (REP-103's
        optical frame)."""
        forward = np.subtract(self.target, self.position)
        forward = forward / np.linalg.norm(forward)
        up = np.array((0.0, 0, 1)) if abs(forward[2]) < 0.999 else np.array((0.0, 1, 0))
        right = np.cross(forward, up)
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        c, s = np.cos(np.radians(self.roll)), np.sin(np.radians(self.roll))
        return np.stack([c * right + s * down, c * down - s * right, forward])


@dataclass(frozen=True)
class Light:
    """Parallel light from `direction` (towards the light, unit length), RGB in [0, 1] times `strength`."""

    direction: Triple
    colour: Triple
    strength: float


@dataclass(frozen=True, eq=False)
class Surface:
    """A look for a table top, floor or wall: a texture repeated every `tile` metres, tinted."""

    texture: np.ndarray
    tile: float
    tint: Triple = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """All that the renderer and the sentences need. `key` is the first light, the one that throws shadows."""

    things: tuple[Placed, ...]
    camera: Camera
    lights: tuple[Light, ...]
    ambient: float
    table: Surface
    floor: Surface
    walls: Surface
    table_size: tuple[float, float]
    bin: int = TABLE  # the thing that is the bin of the whole scene, if it is one

    @property
    def key(self) -> Light:
        return self.lights[0]


class HeightMap:
    """The height of all that is there over a square about the origin, and whose it is."""

    def __init__(self) -> None:
        count = round(2 * _HALF / _CELL)
        self.height = np.zeros((count, count), np.float32)
        self.owner = np.full((count, count), TABLE)

    def _cells(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = ((points[:, :2] + _HALF) / _CELL).astype(int).clip(0, len(self.height) - 1)
        return cells[:, 0], cells[:, 1]

    def drop(self, points: np.ndarray) -> tuple[float, int]:
        """How far (metres) points (P, 3) have to move up to rest, and the index of what they then touch."""
        at = self._cells(points)
        lift = self.height[at] - points[:, 2]
        first = int(lift.argmax())
        return float(lift[first]), int(self.owner[at][first])

    def add(self, points: np.ndarray, index: int) -> None:
        at = self._cells(points)
        before = self.height.copy()
        np.maximum.at(self.height, at, points[:, 2].astype(np.float32))
        self.owner[self.height > before] = index


class _Arranger:
    """Places things one after the other."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.map = HeightMap()
        self.things: list[Placed] = []
        self._clouds: dict[int, np.ndarray] = {}

    def _cloud(self, item: Item) -> np.ndarray:
        if id(item.mesh) not in self._clouds:
            self._clouds[id(item.mesh)] = item.mesh.surface_points(5000)
        return self._clouds[id(item.mesh)]

    def pose(self, item: Item, tilt: float = 0.0) -> tuple[np.ndarray, bool]:
        """A rotation the thing may rest in, turned about the vertical, and whether it is the upright one."""
        weights = np.array([weight for weight, _ in item.poses])
        pick = int(self.rng.choice(len(weights), p=weights / weights.sum()))
        base = item.poses[pick][1]
        lean = turned("x", self.rng.normal(0, tilt)) @ turned("y", self.rng.normal(0, tilt)) if tilt else np.eye(3)
        return lean @ turned("z", self.rng.uniform(0, 360)) @ base, bool(np.allclose(base, np.eye(3)))

    def settle(self, placed: Placed, at: np.ndarray) -> tuple[Placed, np.ndarray]:
        """The thing come down at (x, y), and its surface points there."""
        points = placed.scale * self._cloud(placed.item) @ placed.rotation.T
        points[:, :2] += at
        lift, owner = self.map.drop(points)
        points[:, 2] += lift
        return replace(placed, position=np.array([*at, lift]), on=owner), points

    def keep(self, placed: Placed, points: np.ndarray) -> None:
        self.map.add(points, len(self.things))
        self.things.append(placed)

    def beside(self, item: Item, scale: float, reach: float) -> bool:
        """On the table, touching nothing, within `reach` metres of the middle. False: no room was found."""
        for attempt in range(24):
            rotation, upright = self.pose(item)
            far = reach * (1 + attempt / 24)
            at = far * np.sqrt(self.rng.random()) * np.array([np.cos(a := self.rng.uniform(0, 2 * np.pi)), np.sin(a)])
            placed, points = self.settle(Placed(item, rotation, np.zeros(3), scale, upright=upright), at)
            if placed.on == TABLE and points[:, 2].min() < _FLUSH and abs(points[:, :2]).max() < _HALF - 0.02:
                self.keep(placed, points)
                return True
        return False

    def upon(self, item: Item, scale: float) -> bool:
        """On the flat top of something that is there already, which it does not overhang much."""
        hosts = [k for k, t in enumerate(self.things) if t.item.flat_top and t.inside == TABLE and self._level(t)]
        for host in self.rng.permutation(hosts)[:3] if hosts else ():
            below = self.things[host].world()
            middle, room = (below.max(0) + below.min(0))[:2] / 2, np.ptp(below, axis=0)[:2].min() / 2
            rotation, upright = self.pose(item)
            at = middle + self.rng.uniform(-0.2, 0.2, 2) * room
            placed, points = self.settle(Placed(item, rotation, np.zeros(3), scale, upright=upright), at)
            reach = np.abs(points[:, :2] - middle).max()
            if placed.on == host and points[:, 2].min() > below[:, 2].max() - 0.006 and reach < 1.6 * room:
                self.keep(placed, points)
                return True
        return False

    def into(self, item: Item, scale: float) -> bool:
        """Into (or onto: a plate) something open that is there already."""
        hosts = [k for k, t in enumerate(self.things) if t.item.opening and t.upright and t.inside == TABLE]
        for host in self.rng.permutation(hosts)[:3] if hosts else ():
            holder = self.things[host]
            room = holder.item.opening * holder.scale
            for _ in range(4):
                rotation, upright = self.pose(item)
                at = holder.position[:2] + self._offset(holder) + self.rng.uniform(-0.5, 0.5, 2) * room
                placed, points = self.settle(
                    Placed(item, rotation, np.zeros(3), scale, inside=host, upright=upright), at
                )
                reach = np.linalg.norm(points[:, :2] - holder.position[:2] - self._offset(holder), axis=1).max()
                top = holder.world()[:, 2].max()
                deep = points[:, 2].min() < max(0.5 * top, 0.02)
                if reach < 1.15 * room and deep and (placed.on == host or self._inside(placed.on) == host):
                    self.keep(placed, points)
                    return True
        return False

    def _offset(self, holder: Placed) -> np.ndarray:
        """From a holder's origin to the middle of its opening; the frying pan's origin is between pan and handle."""
        if holder.item.name != "frying_pan":
            return np.zeros(2)
        vertices = holder.item.mesh.vertices
        wide = vertices[np.abs(vertices[:, 1]) > 0.85 * vertices[:, 1].max()]  # the pan's two sides
        return (holder.scale * holder.rotation @ np.array([wide[:, 0].mean(), 0, 0]))[:2]

    def _inside(self, index: int) -> int:
        return TABLE if index == TABLE else self.things[index].inside

    def _level(self, placed: Placed) -> bool:
        """Whether one of its own axes is vertical."""
        return bool(np.abs(placed.rotation[2]).max() > 0.9999)

    def heap(self, item: Item, scale: float, inner: np.ndarray, inside: int) -> bool:
        """Anywhere in a bin of half inner size (2,), askew."""
        for _ in range(8):
            rotation, upright = self.pose(item, tilt=float(self.rng.choice([2, 8, 20])))
            at = self.rng.uniform(-1, 1, 2) * inner * 0.9
            points = scale * self._cloud(item) @ rotation.T
            high, low = points[:, :2].max(0), points[:, :2].min(0)
            if np.any(high - low > 2 * inner):
                continue
            at = np.clip(at, -inner - low, inner - high)
            placed, points = self.settle(Placed(item, rotation, np.zeros(3), scale, inside=inside, upright=upright), at)
            if points[:, 2].max() < 0.32:
                self.keep(placed, points)
                return True
        return False


def _draw(rng: Rng, folder: Path, names: list[str]) -> Iterator[tuple[Item, float]]:
    """Things with their scales without end: mostly new ones, and runs of several of a kind."""
    while True:
        copies = int(rng.choice([1, 1, 1, 2, 2, 3, 4, 5]))
        resize = bool(rng.random() < 0.4)
        if rng.random() < 0.5:
            item = catalogue.scanned(folder, str(rng.choice(names)))
            plain = catalogue.SCANNED[item.name][3]
            for _ in range(copies):
                scale = float(rng.uniform(0.65, 1.3) if resize and copies > 1 else rng.uniform(0.92, 1.08))
                yield (making.painted(rng, item) if plain else item), scale
        else:
            weights = np.array([weight for weight, _ in making.MAKERS])
            maker = making.MAKERS[int(rng.choice(len(weights), p=weights / weights.sum()))][1]
            item = maker(rng)
            same = bool(rng.random() < 0.3)
            for _ in range(copies):
                yield item, float(rng.uniform(0.65, 1.3) if same and resize else 1.0)
                item = item if same else maker(rng)


def _triple(values: np.ndarray | Sequence[float]) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _surface(rng: Rng, paths: list[Path], tile: tuple[float, float]) -> Surface:
    """A photographed texture, wood, cloth with a pattern, or a plain colour."""
    size = float(rng.uniform(*tile))
    tint = _triple(rng.uniform(0.75, 1.05) * rng.uniform(0.92, 1.0, 3))
    kind = rng.random()
    if paths and kind < 0.6:
        return Surface(catalogue.read_texture(paths[int(rng.integers(len(paths)))]), size, tint)
    if kind < 0.72:
        return Surface(making.wood(rng, 256), size, tint)
    base = making.paint(rng, making.any_colour(rng)).astype(np.float32)
    base = 0.5 * base + 0.5 * base.mean() if rng.random() < 0.8 else base
    cloth = np.tile(base, (128, 128, 1))
    if kind < 0.88:  # checks or stripes
        other = making.paint(rng, making.any_colour(rng)).astype(np.float32)
        width = int(rng.choice([8, 16, 32]))
        stripes = (np.arange(128) // width) % 2
        on = stripes[:, None] * np.ones(128) if rng.random() < 0.4 else (stripes[:, None] + stripes[None]) / 2
        cloth = cloth + on[..., None] * rng.uniform(0.3, 1) * (other - cloth)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (128, 128)).astype(np.float32), (0, 0), float(rng.uniform(0.5, 6)))
    cloth = cloth * (1 + 0.04 * grain[..., None] / grain.std())
    return Surface(cloth.clip(0, 255).astype(np.uint8), size, tint)


def _lights(rng: Rng) -> tuple[tuple[Light, ...], float]:
    """One to three lights and the ambient share; a white thing in full light comes out between 0.9 and 1.2."""
    strengths = np.array([1.0, *rng.uniform(0.15, 0.6, int(rng.integers(0, 3)))])
    ambient = float(rng.uniform(0.3, 0.5))
    strengths *= (rng.uniform(0.9, 1.2) - ambient) / strengths.sum()
    lights = []
    for strength in strengths:
        around, high = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(40, 85))
        direction = (np.cos(around) * np.cos(high), np.sin(around) * np.cos(high), np.sin(high))
        warm = rng.normal(0, 0.05)
        colour = (min(1.0, 1 + warm), 1.0, min(1.0, 1 - warm))
        # brighter the lower it stands, for a table is lit by the cosine
        lights.append(Light(_triple(direction), _triple(colour), float(strength / np.sin(high))))
    return tuple(lights), ambient


def _camera(rng: Rng, above: bool, reach: float, height: float) -> Camera:
    width, tall = [(448, 336), (448, 336), (448, 336), (480, 360), (512, 384), (512, 288), (448, 448), (336, 448)][
        int(rng.integers(8))
    ]
    field = float(rng.uniform(30, 62))
    elevation = np.radians(rng.uniform(68, 90) if above else rng.uniform(22, 58))
    narrow = np.radians(field) / 2 if tall <= width else np.arctan(np.tan(np.radians(field) / 2) * width / tall)
    distance = max((reach + 0.05) / np.tan(narrow) * rng.uniform(0.65, 1.25), 0.3) + height / 2
    around = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(around) * np.cos(elevation), np.sin(around) * np.cos(elevation), np.sin(elevation)])
    target = np.array([*rng.normal(0, 0.12 * reach, 2), 0.3 * height])
    position = target + distance * direction
    roll = rng.uniform(-180, 180) if above and rng.random() < 0.3 else rng.normal(0, 3)
    return Camera(_triple(position), _triple(target), float(roll), field, width, tall)


def compose(rng: Rng, folder: Path, split: str = "train") -> Scene:
    """One scene from the scanned things in `folder` and made ones, as a function of the generator's state alone.

    `split` "heldout" takes the scanned things and textures that "train" never shows. Raises DataError without any.
    """
    names, textures = catalogue.scanned_names(folder, split), catalogue.texture_paths(folder, split)
    arranger = _Arranger(rng)
    stream = _draw(rng, folder, names)
    in_bin = rng.random() < 0.32
    wanted = int(rng.integers(5, 17) if in_bin else rng.integers(3, 15))
    if in_bin:
        size = np.array([rng.uniform(0.32, 0.55), rng.uniform(0.26, 0.42), rng.uniform(0.08, 0.2)])
        shell = open_box(size[0], size[1], size[2], 0.008)
        words = Words(
            ("bin", "box", "crate", "tote"),
            (),
            ("container", "tray", "basket", "open box", "drawer", "tray", "bucket"),
            lacks=("a lid",),
        )
        crate = making.painted(
            rng,
            Item("bin", shell, words, catalogue.resting("u"), opening=float(size[:2].min() / 2)),
            str(rng.choice(["gray", "black", "blue", "white", "brown", "red", "green"])),
        )
        placed, points = arranger.settle(Placed(crate, np.eye(3), np.zeros(3)), np.zeros(2))
        arranger.keep(placed, points)
        for item, scale in (next(stream) for _ in range(wanted)):
            arranger.heap(item, scale, size[:2] / 2 - 0.012, inside=0)
        reach, height = float(np.linalg.norm(size[:2]) / 2 * rng.uniform(0.7, 1.1)), float(size[2])
    else:
        reach = float(rng.uniform(0.1, 0.14) + 0.022 * wanted)
        holders = int(rng.choice([0, 0, 1, 1, 2]))
        for _ in range(holders):
            arranger.beside(making.HOLDERS[int(rng.integers(len(making.HOLDERS)))](rng), 1.0, 0.8 * reach)
        for item, scale in (next(stream) for _ in range(wanted)):
            way = rng.random()
            done = (way < 0.22 and arranger.into(item, scale)) or (0.22 < way < 0.45 and arranger.upon(item, scale))
            if not done:
                arranger.beside(item, scale, reach)
        height = 0.12
    above = rng.random() < (0.85 if in_bin else 0.2)
    lights, ambient = _lights(rng)
    return Scene(
        tuple(arranger.things),
        _camera(rng, above, reach, height),
        lights,
        ambient,
        _surface(rng, textures, (0.3, 1.2)),
        _surface(rng, textures, (0.6, 1.5)),
        _surface(rng, textures, (0.6, 2.0)),
        (float(rng.uniform(0.9, 2.2)), float(rng.uniform(0.8, 1.6))),
        bin=0 if in_bin else TABLE,
    )
