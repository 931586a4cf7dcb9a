"""Scenes to pictures with VTK, off screen, on a CPU: RGB with shadows, an exact map of instances, depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (registers the render window)
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkFloatArray, vtkObject, vtkPoints, vtkUnsignedCharArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkFiltersCore import vtkPolyDataNormals
from vtkmodules.vtkRenderingCore import vtkActor, vtkLight, vtkPolyDataMapper, vtkRenderer, vtkRenderWindow, vtkTexture

from jmceln_core.synthesis.tabletop.scene import Camera, Scene, Surface
from jmceln_core.synthesis.tabletop.shapes import Mesh, box

_FLOOR = -0.75  # metres: a table's height
_ROOM = 2.6  # metres from the middle to a wall
_SHADOW_SIZE = 640  # pixels of the shadow map


@dataclass(frozen=True, eq=False)
class View:
    """`rgb` (H, W, 3) uint8; `instances` (H, W) int: the index of the thing seen, -1 for none; `depth` (H, W) float32
    metres along the viewing direction (REP-118), 0 where nothing is; `whole` (things,) pixels of each thing inside the
    frame if nothing hid it."""

    rgb: np.ndarray
    instances: np.ndarray
    depth: np.ndarray
    whole: np.ndarray


def _polydata(mesh: Mesh) -> vtkPolyData:
    data = vtkPolyData()
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(mesh.vertices), deep=True))
    data.SetPoints(points)
    cells = vtkCellArray()
    cells.SetData(3, numpy_to_vtkIdTypeArray(np.ascontiguousarray(mesh.faces, np.int64).ravel(), deep=True))
    data.SetPolys(cells)
    attributes = data.GetPointData()
    if mesh.uv is not None:
        attributes.SetTCoords(numpy_to_vtk(np.ascontiguousarray(mesh.uv, np.float32), deep=True))
    if mesh.paint is not None:
        colours: vtkUnsignedCharArray = numpy_to_vtk(np.ascontiguousarray(mesh.paint), deep=True)
        attributes.SetScalars(colours)
    if mesh.normals is not None:
        attributes.SetNormals(numpy_to_vtk(np.ascontiguousarray(mesh.normals, np.float32), deep=True))
        return data
    smooth = vtkPolyDataNormals()
    smooth.SetInputData(data)
    smooth.SetFeatureAngle(40)
    smooth.ConsistencyOff()
    smooth.Update()
    return smooth.GetOutput()


def _texture(rgb: np.ndarray, repeat: bool) -> vtkTexture:
    image = vtkImageData()
    image.SetDimensions(rgb.shape[1], rgb.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(rgb[::-1]).reshape(-1, 3), deep=True))
    texture = vtkTexture()
    texture.SetInputData(image)
    texture.InterpolateOn()
    texture.MipmapOn()
    texture.SetRepeat(repeat)
    return texture


def _matrix(rotation: np.ndarray, position: np.ndarray) -> vtkMatrix4x4:
    matrix = vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, float(rotation[row, column]))
        matrix.SetElement(row, 3, float(position[row]))
    return matrix


def _actor(data: vtkPolyData, matrix: vtkMatrix4x4 | None = None) -> vtkActor:
    mapper = vtkPolyDataMapper()
    mapper.SetInputData(data)
    actor = vtkActor()
    actor.SetMapper(mapper)
    if matrix is not None:
        actor.SetUserMatrix(matrix)
    return actor


def _quad(corner: Sequence[float], along: Sequence[float], across: Sequence[float], tile: float) -> Mesh:
    c, a, b = (np.asarray(v, np.float32) for v in (corner, along, across))
    size = np.array([np.linalg.norm(a), np.linalg.norm(b)]) / tile
    vertices = np.stack([c, c + a, c + a + b, c + b])
    uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * size
    return Mesh(vertices, np.array([(0, 1, 2), (0, 2, 3)], np.int32), None, uv.astype(np.float32))


class _Window:
    """An off-screen window with one renderer."""

    def __init__(self, samples: int) -> None:
        self.window = vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(samples)
        self.renderer = vtkRenderer()
        self.renderer.AutomaticLightCreationOff()
        self.window.AddRenderer(self.renderer)

    def shoot(self, width: int, height: int) -> None:
        if tuple(self.window.GetSize()) != (width, height):
            self.window.SetSize(width, height)
        self.window.Render()

    def rgb(self) -> np.ndarray:
        width, height = self.window.GetSize()
        pixels = vtkUnsignedCharArray()
        self.window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 1, pixels, 0)
        return vtk_to_numpy(pixels).reshape(height, width, 4)[::-1, :, :3]

    def z(self) -> np.ndarray:
        width, height = self.window.GetSize()
        values = vtkFloatArray()
        self.window.GetZbufferData(0, 0, width - 1, height - 1, values)
        return vtk_to_numpy(values).reshape(height, width)[::-1]


class Renderer:
    """Renders scenes one after the other; what does not change between them (windows, scanned meshes) stays loaded."""

    def __init__(self) -> None:
        vtkObject.GlobalWarningDisplayOff()
        self._colour = _Window(samples=4)
        self._plain = _Window(samples=0)
        self._meshes: dict[int, tuple[Mesh, vtkPolyData]] = {}
        self._textures: dict[int, tuple[np.ndarray, vtkTexture]] = {}

    def _data(self, mesh: Mesh) -> vtkPolyData:
        if id(mesh) not in self._meshes:
            if len(self._meshes) > 400:
                self._meshes.clear()
            self._meshes[id(mesh)] = (mesh, _polydata(mesh))
        return self._meshes[id(mesh)][1]

    def _skin(self, rgb: np.ndarray, repeat: bool) -> vtkTexture:
        if id(rgb) not in self._textures:
            if len(self._textures) > 150:
                self._textures.clear()
            self._textures[id(rgb)] = (rgb, _texture(rgb, repeat))
        return self._textures[id(rgb)][1]

    def _aim(self, window: _Window, camera: Camera) -> tuple[float, float]:
        view = window.renderer.GetActiveCamera()
        view.ParallelProjectionOff()
        view.SetPosition(*camera.position)
        axes = camera.axes()
        view.SetFocalPoint(*(np.asarray(camera.position) + axes[2]))
        view.SetViewUp(*(-axes[1]))
        view.SetViewAngle(camera.field)
        near, far = 0.05, 12.0
        view.SetClippingRange(near, far)
        return near, far

    def render(self, scene: Scene) -> View:
        """The scene as its camera sees it, clean: no noise, no blur (`photograph`)."""
        camera = scene.camera
        things = [
            (self._data(thing.item.mesh), _matrix(thing.scale * thing.rotation, thing.position))
            for thing in scene.things
        ]
        backdrop = self._backdrop(scene)
        instances, z, whole = self._plain_passes(scene, things, backdrop)
        near, far = self._aim(self._plain, camera)
        depth = (near * far / (far - z * (far - near))).astype(np.float32)
        depth[z >= 1] = 0
        rgb = self._lit(scene, things, backdrop)
        shade = self._shadow(scene, things, depth) * _creases(depth)
        return View((rgb * shade[..., None]).clip(0, 255).astype(np.uint8), instances, depth, whole)

    def _backdrop(self, scene: Scene) -> list[tuple[vtkPolyData, Surface | None, float]]:
        """Table, floor and walls: mesh, look, brightness."""
        x, y = scene.table_size
        slab = box(x, y, 0.035).moved(shift=(0, 0, -0.0352)).painted((150, 140, 130))
        top = _quad((-x / 2, -y / 2, 0), (x, 0, 0), (0, y, 0), scene.table.tile)
        r, h = _ROOM, 4.5
        floor = _quad((-r, -r, _FLOOR), (2 * r, 0, 0), (0, 2 * r, 0), scene.floor.tile)
        sides = [
            _quad((-r, r, _FLOOR), (2 * r, 0, 0), (0, 0, h), scene.walls.tile),
            _quad((r, -r, _FLOOR), (-2 * r, 0, 0), (0, 0, h), scene.walls.tile),
            _quad((r, r, _FLOOR), (0, -2 * r, 0), (0, 0, h), scene.walls.tile),
            _quad((-r, -r, _FLOOR), (0, 2 * r, 0), (0, 0, h), scene.walls.tile),
        ]
        drawn: list[tuple[vtkPolyData, Surface | None, float]] = [(_polydata(slab), None, 0.8)]
        drawn += [(_polydata(top), scene.table, 1.0), (_polydata(floor), scene.floor, 0.7)]
        return drawn + [(_polydata(side), scene.walls, 0.9) for side in sides]

    def _plain_passes(self, scene: Scene, things: list, backdrop: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Instances, z buffer in [0, 1] and each thing's own pixels, exact at the pixels' centres."""
        window, camera = self._plain, scene.camera
        window.renderer.RemoveAllViewProps()
        actors = []
        for data, matrix in [(data, None) for data, *_ in backdrop] + things:
            actor = _actor(data, matrix)
            actor.GetMapper().ScalarVisibilityOff()
            actor.GetProperty().LightingOff()
            window.renderer.AddActor(actor)
            actors.append(actor)
        for actor in actors[: len(backdrop)]:
            actor.GetProperty().SetColor(0, 0, 0)
        own = actors[len(backdrop) :]
        for index, actor in enumerate(own):
            actor.GetProperty().SetColor(1.0, (8 * (index // 32) + 4) / 255, (8 * (index % 32) + 4) / 255)
        self._aim(window, camera)
        window.shoot(camera.width, camera.height)
        seen = window.rgb().astype(int)
        instances = np.where(seen[..., 0] > 128, (seen[..., 1] // 8) * 32 + seen[..., 2] // 8, -1)
        z = window.z().copy()
        # what each would cover alone, at half size
        for actor in actors:
            actor.VisibilityOff()
        whole = np.zeros(len(own))
        for index, actor in enumerate(own):
            actor.VisibilityOn()
            window.shoot(camera.width // 2, camera.height // 2)
            whole[index] = 4 * (window.rgb()[..., 0] > 128).sum()
            actor.VisibilityOff()
        return instances, z, whole

    def _lit(self, scene: Scene, things: list, backdrop: list) -> np.ndarray:
        window, camera = self._colour, scene.camera
        window.renderer.RemoveAllViewProps()
        window.renderer.RemoveAllLights()
        for data, surface, brightness in backdrop:
            actor = _actor(data)
            tone = (brightness,) * 3
            if surface is not None:
                actor.SetTexture(self._skin(surface.texture, True))
                tone = tuple(brightness * v for v in surface.tint)  # type: ignore[assignment]
            self._finish(actor, scene.ambient, tone, 0.04)
            window.renderer.AddActor(actor)
        for thing, (data, matrix) in zip(scene.things, things, strict=True):
            actor = _actor(data, matrix)
            if thing.item.texture is not None:
                actor.GetMapper().ScalarVisibilityOff()
                actor.SetTexture(self._skin(thing.item.texture, False))
            self._finish(actor, scene.ambient, (1.0, 1.0, 1.0), thing.item.shine)
            window.renderer.AddActor(actor)
        for light in scene.lights:
            lamp = vtkLight()
            lamp.SetLightTypeToSceneLight()
            lamp.SetPositional(False)
            lamp.SetPosition(*light.direction)
            lamp.SetFocalPoint(0, 0, 0)
            lamp.SetColor(*light.colour)
            lamp.SetIntensity(light.strength)
            window.renderer.AddLight(lamp)
        self._aim(window, camera)
        window.shoot(camera.width, camera.height)
        return window.rgb().astype(np.float32)

    @staticmethod
    def _finish(actor: vtkActor, ambient: float, tone: Sequence[float], shine: float) -> None:
        look = actor.GetProperty()
        look.SetColor(*tone)
        look.SetAmbient(ambient)
        look.SetDiffuse(1.0)
        look.SetSpecular(0.6 * shine)
        look.SetSpecularPower(8 + 50 * shine)

    def _shadow(self, scene: Scene, things: list, depth: np.ndarray) -> np.ndarray:
        """(H, W) factors: 1 in the key light, less where a thing is in its way (a shadow map, softened)."""
        camera, key = scene.camera, scene.key
        window = self._plain
        window.renderer.RemoveAllViewProps()
        for data, matrix in things:
            actor = _actor(data, matrix)
            actor.GetMapper().ScalarVisibilityOff()
            actor.GetProperty().LightingOff()
            window.renderer.AddActor(actor)
        towards = np.asarray(key.direction) / np.linalg.norm(key.direction)
        up = np.array((0.0, 0, 1)) if abs(towards[2]) < 0.95 else np.array((0.0, 1, 0))
        right = np.cross(up, towards)
        right /= np.linalg.norm(right)
        up = np.cross(towards, right)
        reach, near, far = 0.8, 0.5, 4.5
        view = window.renderer.GetActiveCamera()
        view.ParallelProjectionOn()
        view.SetParallelScale(reach)
        view.SetPosition(*(2.5 * towards))
        view.SetFocalPoint(0, 0, 0)
        view.SetViewUp(*up)
        view.SetClippingRange(near, far)
        window.shoot(_SHADOW_SIZE, _SHADOW_SIZE)
        first = near + (far - near) * window.z()  # metres from the light's plane, linear in a parallel view
        points = unproject(camera, depth)
        column = (points @ right / reach + 1) / 2 * _SHADOW_SIZE - 0.5
        row = (1 - points @ up / reach) / 2 * _SHADOW_SIZE - 0.5
        distance = 2.5 - points @ towards
        nearest = cv2.remap(
            np.ascontiguousarray(first),
            column.astype(np.float32),
            row.astype(np.float32),
            cv2.INTER_NEAREST,
            borderValue=far,
        )
        dark = ((nearest < distance - 0.006) & (depth > 0)).astype(np.float32)
        dark = cv2.GaussianBlur(dark, (0, 0), 1.4)
        total = scene.ambient + sum(light.strength for light in scene.lights)
        return 1 - 0.75 * key.strength / total * dark


def _creases(depth: np.ndarray) -> np.ndarray:
    """(H, W) factors below 1 where the surface is hollow: insides, feet, corners. Of two places to either side, the
    middle is compared with their mean; a place much nearer or farther belongs to something else and does not count."""
    reach = 8
    wide = cv2.copyMakeBorder(depth, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    height, width = depth.shape
    hollow = np.zeros_like(depth)
    for step in (3, reach):
        for dx, dy in ((step, 0), (0, step), (step * 5 // 7, step * 5 // 7), (step * 5 // 7, -step * 5 // 7)):
            ends = [
                wide[reach + s * dy : reach + s * dy + height, reach + s * dx : reach + s * dx + width] - depth
                for s in (-1, 1)
            ]
            near = (abs(ends[0]) < 0.06) & (abs(ends[1]) < 0.06)
            hollow += near * (-(ends[0] + ends[1]) / (0.003 * step)).clip(0, 1)
    return 1 - 0.07 * cv2.GaussianBlur(hollow, (0, 0), 1.2)


def unproject(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """World points (H, W, 3) in metres of a depth picture (H, W), through the pixels' centres."""
    height, width = depth.shape
    focal = height / 2 / np.tan(np.radians(camera.field) / 2)
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (np.arange(height) + 0.5 - height / 2) / focal
    rays = np.stack(np.broadcast_arrays(x[None], y[:, None], 1.0), -1)
    return (rays * depth[..., None]) @ camera.axes() + np.asarray(camera.position)


def photograph(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """What a camera makes of a clean picture (H, W, 3) uint8: exposure, white balance, blur, noise."""
    picture: np.ndarray = rgb * rng.uniform(0.85, 1.25) * rng.uniform(0.95, 1.05, 3)
    picture = picture.astype(np.float32)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.1)))
    if rng.random() < 0.5:
        picture += rng.normal(0, rng.uniform(1, 7), (*picture.shape[:2], 1)).astype(np.float32)
    if rng.random() < 0.2:
        picture += rng.normal(0, rng.uniform(1, 4), picture.shape).astype(np.float32)
    return picture.clip(0, 255).astype(np.uint8)
