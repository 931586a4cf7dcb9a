"""Triangle meshes as arrays: Wavefront files read, simple solids made. Metres, z up, right-handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from jmceln_core.data.grounding import DataError


@dataclass(frozen=True, eq=False)
class Mesh:
    """`vertices` (N, 3) float32 in metres; `faces` (M, 3) int32. Optional, a row for each vertex: `normals` (N, 3),
    `uv` (N, 2) with v = 0 at the texture's bottom row, `paint` (N, 3) uint8 RGB."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None = None
    uv: np.ndarray | None = None
    paint: np.ndarray | None = None

    def moved(self, rotation: np.ndarray | None = None, shift: Sequence[float] = (0, 0, 0)) -> Mesh:
        """Rotated about the origin by a (3, 3) matrix, which may also scale evenly, then shifted."""
        r = np.eye(3) if rotation is None else np.asarray(rotation)
        normals = self.normals
        if normals is not None:
            normals = (normals @ r.T / np.cbrt(np.linalg.det(r))).astype(np.float32)
        return replace(self, vertices=(self.vertices @ r.T + np.asarray(shift)).astype(np.float32), normals=normals)

    def painted(self, rgb: Sequence[int] | np.ndarray) -> Mesh:
        """The whole mesh in one colour."""
        return replace(self, paint=np.tile(np.asarray(rgb, np.uint8), (len(self.vertices), 1)))

    def surface_points(self, count: int) -> np.ndarray:
        """About `count` points (P, 3) spread evenly over the surface, the same ones for the same mesh, and the
        vertices, so that corners are among them."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        total = np.cumsum(area)
        # low-discrepancy numbers: no holes, no random state
        at = (np.arange(count) + 0.5) / count
        face = np.searchsorted(total, at * total[-1]).clip(0, len(area) - 1)
        u, v = (np.arange(count) * 0.754877666) % 1, (np.arange(count) * 0.569840291) % 1
        over = u + v > 1
        u[over], v[over] = 1 - u[over], 1 - v[over]
        inside = a[face] + u[:, None] * (b - a)[face] + v[:, None] * (c - a)[face]
        return np.concatenate([inside, self.vertices])


def read_obj(path: Path) -> Mesh:
    """Read a Wavefront file of triangles or polygons (v, vt, vn, f). Raises DataError naming the file."""
    columns: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: dict[tuple[int, int, int], int] = {}
    faces: list[tuple[int, int, int]] = []
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if not words:
                continue
            if words[0] in columns:
                columns[words[0]].append([float(word) for word in words[1:4]])
            elif words[0] == "f":
                corner = []
                for word in words[1:]:
                    parts = [int(part) if part else 0 for part in word.split("/")]
                    v, t, n = (*parts, 0, 0)[:3]
                    corner.append(corners.setdefault((v - 1, t - 1, n - 1), len(corners)))
                faces += [(corner[0], corner[k], corner[k + 1]) for k in range(1, len(corner) - 1)]
        v_at, t_at, n_at = np.array(list(corners)).T
        points, uvs, directions = (np.array(columns[key], np.float32) for key in ("v", "vt", "vn"))
        normals = directions[n_at] if len(directions) and n_at.min() >= 0 else None
        if normals is not None:
            length = np.linalg.norm(normals, axis=1, keepdims=True)
            normals = np.divide(normals, length, where=length > 0, out=np.zeros_like(normals))
        uv = uvs[t_at][:, :2] if len(uvs) and t_at.min() >= 0 else None
        return Mesh(points[v_at], np.array(faces, np.int32), normals, uv)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --objects must be the folder with NAME/mesh.obj") from None
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: not a Wavefront mesh ({error})") from None


def merge(*meshes: Mesh) -> Mesh:
    """All together. Paint and uv are kept if every part has them; normals are left to the renderer."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)])

    def joined(name: str) -> np.ndarray | None:
        parts = [getattr(mesh, name) for mesh in meshes]
        return None if any(part is None for part in parts) else np.concatenate(parts)

    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]), faces.astype(np.int32), None, joined("uv"), joined("paint")
    )


def revolved(profile: Sequence[tuple[float, float]], segments: int = 32) -> Mesh:
    """The solid of revolution about z of (radius, height) pairs in metres, listed from inside or below to outside or
    above, so that faces look outwards when the pairs run counter-clockwise. u runs around, v along the profile."""
    points = np.asarray(profile, np.float32)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    r, z = points[:, :1], points[:, 1:]
    xyz = np.stack([r * np.cos(angle), r * np.sin(angle), np.broadcast_to(z, (len(points), segments + 1))], -1)
    uv = np.stack(np.broadcast_arrays(angle / (2 * np.pi), (along / along[-1])[:, None]), -1)
    return Mesh(
        xyz.reshape(-1, 3).astype(np.float32),
        _grid_faces(len(points), segments + 1),
        None,
        uv.reshape(-1, 2).astype(np.float32),
    )


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    k = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    quads = np.stack([k, k + 1, k + columns + 1, k + columns], 1)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


@lru_cache(maxsize=1)
def _unit_box() -> Mesh:
    corners: list[np.ndarray] = []
    uv: list[tuple[int, int]] = []
    faces: list[tuple[int, int, int]] = []
    for axis in range(3):
        for sign in (-1, 1):
            # the texture's v goes upwards on the four sides
            a, b = (0, 1) if axis == 2 else (1 - axis, 2)
            quad = np.zeros((4, 3))
            quad[:, axis] = sign
            quad[:, a], quad[:, b] = (-1, 1, 1, -1), (-1, -1, 1, 1)
            outward = np.cross(quad[1] - quad[0], quad[2] - quad[1])[axis] * sign > 0
            k = len(corners)
            faces += [(k, k + 1, k + 2), (k, k + 2, k + 3)] if outward else [(k, k + 2, k + 1), (k, k + 3, k + 2)]
            corners += list(quad)
            uv += [(0, 0), (1, 0), (1, 1), (0, 1)]
    return Mesh(np.array(corners, np.float32), np.array(faces, np.int32), None, np.array(uv, np.float32))


def box(x: float, y: float, z: float) -> Mesh:
    """An upright box standing on z = 0 about the z axis; each face has the whole texture."""
    unit = _unit_box()
    return replace(unit, vertices=(unit.vertices * (x / 2, y / 2, z / 2) + (0, 0, z / 2)).astype(np.float32))


def cylinder(radius: float, height: float, segments: int = 28) -> Mesh:
    """An upright closed cylinder standing on z = 0."""
    return revolved([(0, 0), (radius, 0), (radius, height), (0, height)], segments)


def ball(radius: float, squash: float = 1.0) -> Mesh:
    """A ball standing on z = 0; `squash` is its height over its width."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 15)
    return revolved([(radius * np.cos(a), radius * squash * (1 + np.sin(a))) for a in angle], 28)


def ring(radius: float, tube: float, arc: float = 2 * np.pi) -> Mesh:
    """A torus, or the part of one over `arc` radians, lying about the origin in the plane z = 0."""
    around = np.linspace(-arc / 2, arc / 2, 33)
    about = np.linspace(0, 2 * np.pi, 13)
    a, t = around[:, None], about[None]
    wide = radius + tube * np.cos(t)
    xyz = np.stack(np.broadcast_arrays(wide * np.cos(a), wide * np.sin(a), tube * np.sin(t)), -1)
    uv = np.stack(np.broadcast_arrays((a + arc / 2) / arc, t / (2 * np.pi)), -1)
    return Mesh(
        xyz.reshape(-1, 3).astype(np.float32),
        _grid_faces(33, 13)[:, ::-1].copy(),
        None,
        uv.reshape(-1, 2).astype(np.float32),
    )


def open_box(x: float, y: float, z: float, wall: float) -> Mesh:
    """A box without its top: a floor and four walls `wall` metres thick; outer size x, y, z."""
    floor = box(x, y, wall)
    sides = [box(x, wall, z).moved(shift=(0, s * (y - wall) / 2, 0)) for s in (-1, 1)]
    ends = [box(wall, y - 2 * wall, z).moved(shift=(s * (x - wall) / 2, 0, 0)) for s in (-1, 1)]
    return merge(floor, *sides, *ends)


def vessel(outline: Sequence[tuple[float, float]], wall: float) -> Mesh:
    """An open round vessel: `outline` is its outer profile (radius, height) from the foot's edge up to the rim; inside
    it is `wall` metres smaller."""
    inner = [(max(r - wall, 1e-4), max(z, wall)) for r, z in outline]
    return revolved([(0, 0), *outline, *reversed(inner), (0, wall)])


def turned(axis: str, degrees: float) -> np.ndarray:
    """(3, 3) rotation about x, y or z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix
