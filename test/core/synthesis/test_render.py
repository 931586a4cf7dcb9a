"""Rendered tabletop scenes: solids, resting, truth of the sentences, and the data set that comes out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core.data.grounding import DataError, read_coco
from jmceln_core.synthesis import render
from jmceln_core.synthesis.rules import logic
from jmceln_core.synthesis.rules.logic import Description, Relation
from jmceln_core.synthesis.tabletop import catalogue, making, sentences, shapes, wording
from jmceln_core.synthesis.tabletop.facts import Facts
from jmceln_core.synthesis.tabletop.scene import TABLE, HeightMap, Placed, Scene, compose
from support.drawings import observed, paint, row

OBJECTS = ("plastic_apple", "butter", "blue_cup", "phillips_screwdriver", "ycb_mustard_bottle", "soap", "frying_pan")


def write_obj(path: Path, mesh: shapes.Mesh) -> None:
    lines = [f"v {x} {y} {z}" for x, y, z in mesh.vertices] + [f"vt {u} {v}" for u, v in mesh.uv]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in mesh.faces]
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    """A folder like the real one, with simple solids under the scanned things' names."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "textures").mkdir()
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "textures" / "marble_floor.jpg"), rng.integers(150, 220, (64, 64, 3)))
    for k, name in enumerate(OBJECTS):
        (folder / name).mkdir()
        write_obj(folder / name / "mesh.obj", shapes.box(0.05 + 0.01 * k, 0.06, 0.08))
        cv2.imwrite(str(folder / name / "texture.jpg"), np.full((16, 16, 3), (40, 40, 200), np.uint8))
    return folder


def volume(mesh: shapes.Mesh) -> float:
    """By the divergence theorem; negative where faces look inwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


# ---- the naive reading of a description, from the masks and the scene


class Naive:
    def __init__(self, scene: Scene, instances: np.ndarray) -> None:
        self.scene = scene
        self.height, self.width = instances.shape
        self.surfaces: dict[int, np.ndarray] = {}
        self.pixels = {k: np.argwhere(instances == k) for k in np.unique(instances) if k >= 0}

    def x(self, k: int) -> float:
        return float(self.pixels[k][:, 1].mean()) / self.width

    def y(self, k: int) -> float:
        return float(self.pixels[k][:, 0].mean()) / self.height

    def distance(self, k: int) -> float:
        """Along the ground from the camera, of the middle of what the thing covers."""
        camera = self.scene.camera
        ahead = np.subtract(camera.target, camera.position)[:2]
        points = self.scene.things[k].world()
        return float((points.max(0) + points.min(0))[:2] / 2 @ ahead / np.linalg.norm(ahead))

    def size(self, k: int) -> float:
        return float(np.prod(np.ptp(self.scene.things[k].item.mesh.vertices, axis=0)) * self.scene.things[k].scale ** 3)

    def surface(self, k: int) -> np.ndarray:
        if k not in self.surfaces:
            thing = self.scene.things[k]
            self.surfaces[k] = thing.scale * thing.item.mesh.surface_points(300) @ thing.rotation.T + thing.position
        return self.surfaces[k]

    def noun(self, k: int, noun: str) -> bool:
        words = self.scene.things[k].item.words
        return noun in (*words.nouns, *words.groups, *logic.ANYTHING)

    def satisfies(self, k: int, f: logic.Claim) -> bool:
        thing, words = self.scene.things[k], self.scene.things[k].item.words
        match f:
            case logic.Not(inner):
                return not self.satisfies(k, inner)
            case logic.Colour(name):
                return name in words.colours
            case logic.Material(name):
                return words.material == name
            case logic.Part(name):
                return name in words.parts
            case logic.Lying():
                return abs(thing.rotation[2, 2]) < 0.5
            case logic.Empty():
                return k not in [v for other in self.scene.things for v in (other.inside, other.on)]
            case Relation("on top of", (landmark,)):
                return thing.on == landmark and thing.inside != landmark
            case Relation("in", (landmark,)):
                return thing.inside == landmark
            case Relation("under", (landmark,)):
                return self.scene.things[landmark].on == k and self.scene.things[landmark].inside != k
            case Relation("holding", (landmark,)):
                return self.scene.things[landmark].inside == k
            case Relation("left of", (landmark,)):
                return self.x(k) < self.x(landmark)
            case Relation("right of", (landmark,)):
                return self.x(k) > self.x(landmark)
            case Relation("behind", (landmark,)):
                return self.distance(k) > self.distance(landmark) and abs(self.x(k) - self.x(landmark)) < 0.3
            case Relation("in front of", (landmark,)):
                return self.distance(k) < self.distance(landmark) and abs(self.x(k) - self.x(landmark)) < 0.3
            case Relation("next to", (landmark,)):
                a, b = (self.surface(i) for i in (k, landmark))
                return bool(np.linalg.norm(a[:, None] - b[None], axis=-1).min() < 0.07)
            case Relation("between", (first, second)):
                a, b, c = (np.array((self.x(i) * self.width, self.y(i) * self.height)) for i in (first, second, k))
                return bool((a - c) @ (b - c) < 0)  # it sees them on opposite sides
        raise TypeError(f)

    def selected(self, group: list[int], selector: logic.Selector) -> int:
        match selector:
            case logic.Most("left"):
                return min(group, key=self.x)
            case logic.Most("right"):
                return max(group, key=self.x)
            case logic.Most("top"):
                return min(group, key=self.y)
            case logic.Most("bottom"):
                return max(group, key=self.y)
            case logic.Most("front"):
                return min(group, key=self.distance)
            case logic.Most("back"):
                return max(group, key=self.distance)
            case logic.Corner((vertical, horizontal)):
                one, other = self.selected(group, logic.Most(vertical)), self.selected(group, logic.Most(horizontal))
                assert one == other
                return one
            case logic.Ordinal(number, side):
                return sorted(group, key=self.x, reverse=side == "right")[number - 1]
            case logic.Middle():
                return sorted(group, key=self.x)[len(group) // 2]
            case logic.Extreme("biggest"):
                return max(group, key=self.size)
            case logic.Extreme("smallest"):
                return min(group, key=self.size)
            case logic.Extreme(by):
                sign = -1 if by == "shortest" else 1
                things = self.scene.things
                if by == "longest":
                    return max(
                        group, key=lambda k: np.ptp(things[k].item.mesh.vertices, axis=0).max() * things[k].scale
                    )
                return max(group, key=lambda k: sign * np.ptp(things[k].world()[:, 2]))
        raise TypeError(selector)

    def described(self, description: Description) -> list[int]:
        seen = [k for k in self.pixels if description.noun not in logic.ANYTHING or k != self.scene.bin]
        group = [
            k for k in seen if self.noun(k, description.noun) and all(self.satisfies(k, f) for f in description.filters)
        ]
        return [self.selected(group, description.selector)] if description.selector and group else group


# ---- solids


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (shapes.box(0.1, 0.2, 0.3), 0.1 * 0.2 * 0.3),
        (shapes.cylinder(0.1, 0.3, 200), np.pi * 0.1**2 * 0.3),
        (shapes.ball(0.1), 4 / 3 * np.pi * 0.1**3),
        (shapes.ring(0.1, 0.02), 2 * np.pi**2 * 0.1 * 0.02**2),
        (shapes.open_box(0.2, 0.2, 0.1, 0.01), 0.2 * 0.2 * 0.01 + 2 * (0.2 + 0.18) * 0.01 * 0.1),
        (shapes.vessel([(0.1, 0), (0.1, 0.2)], 0.01), np.pi * (0.1**2 * 0.2 - 0.09**2 * 0.19)),
    ],
)
def test_solids_have_their_volume_and_look_outwards(mesh, expected):
    # the walls of an open box stand in its floor: that much is counted twice
    assert volume(mesh) == pytest.approx(expected, rel=0.06)


def test_all_made_things_are_closed_enough_to_have_an_outside():
    for weight, maker in making.MAKERS:
        for seed in range(3):
            item = maker(np.random.default_rng(seed))
            assert weight > 0
            assert volume(item.mesh) > 0, item.name
            assert item.mesh.faces.max() < len(item.mesh.vertices)
            assert (item.mesh.paint is None) != (item.texture is None), "one look each"
            assert item.texture is None or item.mesh.uv is not None
            assert not set(item.words.nouns) & set(item.words.maybe_nouns)


def test_obj_is_read_as_written_and_errors_name_the_file(tmp_path):
    solid = shapes.cylinder(0.05, 0.1)
    write_obj(tmp_path / "mesh.obj", solid)
    read = shapes.read_obj(tmp_path / "mesh.obj")
    assert volume(read) == pytest.approx(volume(solid), rel=1e-3)
    np.testing.assert_allclose(read.vertices[read.faces], solid.vertices[solid.faces], atol=1e-6)
    (tmp_path / "bad.obj").write_text("v 0 0 0\nf 1 2 x")
    with pytest.raises(DataError, match=r"bad\.obj"):
        shapes.read_obj(tmp_path / "bad.obj")
    with pytest.raises(DataError, match="--objects"):
        shapes.read_obj(tmp_path / "none.obj")


def test_what_is_dropped_rests_on_what_it_touches_first():
    heights = HeightMap()
    assert heights.drop(shapes.box(0.1, 0.1, 0.1).surface_points(500)) == (pytest.approx(0, abs=1e-6), TABLE)
    heights.add(shapes.box(0.1, 0.1, 0.1).surface_points(4000), 7)
    lift, owner = heights.drop(shapes.ball(0.02).surface_points(1000))
    assert (lift, owner) == (pytest.approx(0.1, abs=1e-3), 7)
    far = shapes.ball(0.02).moved(shift=(0.3, 0, 0))
    assert heights.drop(far.surface_points(1000)) == (pytest.approx(0, abs=1e-6), TABLE)


# ---- scenes


def test_scenes_depend_on_the_seed_alone_and_things_lie_where_they_should(objects):
    kinds = set()
    for seed in range(12):
        scene, again = (compose(np.random.default_rng(seed), objects) for _ in range(2))
        assert [t.item.name for t in scene.things] == [t.item.name for t in again.things]
        for a, b in zip(scene.things, again.things, strict=True):
            np.testing.assert_array_equal(a.world(), b.world())
        assert scene.camera == again.camera
        for index, thing in enumerate(scene.things):
            points = thing.world()
            assert points[:, 2].min() > -1e-6
            assert thing.on < index
            assert thing.inside < index
            if thing.on == TABLE and thing.inside == TABLE:
                assert points[:, 2].min() < 0.005
            if thing.inside != TABLE:
                holder = scene.things[thing.inside].world()
                middle = (points.max(0) + points.min(0)) / 2
                assert np.all(holder.min(0)[:2] < middle[:2])
                assert np.all(middle[:2] < holder.max(0)[:2])
            kinds |= {("on", thing.on != TABLE), ("in", thing.inside != TABLE), ("bin", scene.bin != TABLE)}
    assert len(kinds) == 6, "stacked and not, in holders and not, bins and tables"


def test_held_out_things_are_in_held_out_scenes_only(objects):
    assert len(catalogue.HELD_OUT) == 14
    assert set(catalogue.SCANNED) > catalogue.HELD_OUT
    for split in render.SPLITS:
        names = {t.item.name for seed in range(8) for t in compose(np.random.default_rng(seed), objects, split).things}
        scanned = names & set(OBJECTS)
        assert scanned
        assert (scanned <= catalogue.HELD_OUT) == (split == "heldout")
        assert split == "heldout" or not scanned & catalogue.HELD_OUT


def test_a_folder_without_objects_is_named(tmp_path):
    with pytest.raises(DataError, match="no scanned object"):
        compose(np.random.default_rng(0), tmp_path)


# ---- sentences


def test_every_sentence_is_true_of_its_targets_alone(objects):
    counts: dict[str, int] = {}
    nouns = sentences.vocabulary("train")
    for seed in range(16):
        rng = np.random.default_rng((5, seed))
        scene = compose(rng, objects)
        rgb, instances, whole = paint(scene)
        naive = Naive(scene, instances)
        for sentence in sentences.write(Facts(scene, rgb, instances, whole), rng, nouns):
            found = naive.described(sentence.description)
            assert sorted(found) == sorted(sentence.targets), (seed, sentence)
            for k in sentence.targets:
                pixels = len(naive.pixels[k])
                assert pixels > 0.0005 * instances.size
                assert sentence.kind == "plural" or pixels > max(0.001 * instances.size, 0.3 * whole[k])
            counts[sentence.kind] = counts.get(sentence.kind, 0) + 1
    assert set(counts) == {*sentences.KINDS, "absent", "plural"}, counts
    assert 9 * 16 < sum(counts.values()) < 15 * 16


def test_words_follow_the_description(objects):
    """What a description says is in its sentence, and no side that it does not say."""
    for seed in range(8):
        rng = np.random.default_rng((6, seed))
        facts_ = observed(compose(rng, objects))
        for sentence in sentences.write(facts_, rng, sentences.vocabulary("train")):
            d = sentence.description
            assert (wording.plural(d.noun) if sentence.kind == "plural" else d.noun) in sentence.text
            assert sentence.text == sentence.text.lower().strip()
            assert "  " not in sentence.text
            said = {f.name for f in d.filters if isinstance(f, logic.Colour)}
            said |= {f.claim.name for f in d.filters if isinstance(f, logic.Not) and isinstance(f.claim, logic.Colour)}
            assert all(name in sentence.text for name in said)
            sides = [
                getattr(x, name) for x in (*d.filters, d.selector) for name in ("side", "sides") if hasattr(x, name)
            ]
            sides += [f.name.split() for f in d.filters if isinstance(f, Relation)]
            for side in ("left", "right"):
                if side in sentence.text.replace("right next to", "").replace("just right of", "right of").split():
                    assert any(side in s for s in sides), sentence
            if any(isinstance(f, logic.Not) for f in d.filters):
                assert any(
                    word in sentence.text
                    for word in (" not ", "isn't", "'s not", "without", " no ", "upright", "standing")
                )


def lone(words: catalogue.Words, at: tuple[float, float], size: float = 0.05, name: str = "thing") -> Placed:
    item = catalogue.Item(name, shapes.box(size, size, size), words, catalogue.resting("u"))
    return Placed(item, np.eye(3), np.array([*at, 0.0]))


def mug(colour: str, *at: float, size: float = 0.05) -> Placed:
    return lone(catalogue.Words(("mug",), maybe_nouns=("bowl",), colours=(colour,)), at, size)  # type: ignore[arg-type]


def test_doubt_keeps_sentences_from_being_sure():
    left, right = mug("red", -0.15, 0), mug("blue", 0.15, 0)
    two = row(left, right)
    assert Description("mug", (), logic.Most("left")).only(two) == 0
    assert Description("mug", (logic.Colour("blue"),)).only(two) == 1
    assert Description("mug").only(two) is None  # two of them
    assert Description("mug").several(two) == (0, 1)
    assert Description("mug", (logic.Not(logic.Colour("red")),)).only(two) == 1
    assert Description("bowl").only(two) is None  # may be taken for one
    assert not Description("bowl").nothing(two)
    assert Description("plate").nothing(two)
    assert Description("mug", (Relation("left of", (1,)),)).only(two) == 0
    assert Description("mug", (Relation("behind", (1,)),)).nothing(two) is False  # beside it: not surely not behind
    close = row(mug("red", -0.15, 0), mug("red", -0.15, 0.2))  # one behind the other: neither is the left one
    assert Description("mug", (), logic.Most("left")).only(close) is None
    assert Description("mug", (), logic.Most("back")).only(close) == 1
    assert Description("mug", (), logic.Extreme("biggest")).only(two) is None  # the same size
    sizes = row(mug("red", -0.15, 0), mug("red", 0.15, 0, size=0.09))
    assert Description("mug", (), logic.Extreme("biggest")).only(sizes) == 1
    three = row(mug("red", -0.2, 0), mug("red", 0, 0), mug("red", 0.2, 0))
    assert Description("mug", (), logic.Middle()).only(three) == 1
    assert Description("mug", (), logic.Ordinal(3, "right")).only(three) == 0
    assert Description("mug", (Relation("between", (0, 2)),)).only(three) == 1


def test_every_selector_has_words_for_one_two_or_none():
    scenes = [row(mug("red", -0.1, 0)), row(mug("red", -0.1, 0), mug("red", 0.1, 0.1))]
    for facts_ in scenes:
        teller = wording.Teller(facts_)
        for noun in ("mug", "plate"):
            for kind in ("location", "ordinal", "comparative"):
                for selector in sentences.SELECTORS[kind]:
                    texts = teller.wordings(Description(noun, (), selector))
                    assert texts
                    for text in texts:
                        assert noun in text
                        assert len(text.split()) > 1
                        assert "{" not in text


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("mug", "mugs"), ("wooden box", "wooden boxes"), ("knife", "knives"), ("scissors", None), ("can of soup", None)],
)
def test_plural(noun, expected):
    assert wording.plural(noun) == expected


# ---- pictures


@pytest.fixture(scope="module")
def renderer():
    pytest.importorskip("vtkmodules", reason="pip install -r requirements/render.txt")
    from jmceln_core.synthesis.tabletop.renderer import Renderer

    return Renderer()


def test_renderer_sees_what_the_pinhole_says(objects, renderer):
    from jmceln_core.synthesis.tabletop.renderer import unproject

    for seed in (1, 4, 9):
        scene = compose(np.random.default_rng(seed), objects)
        view = renderer.render(scene)
        _, expected, whole = paint(scene)
        assert view.rgb.shape == (scene.camera.height, scene.camera.width, 3)
        assert (view.instances == expected).mean() > 0.97  # the painter errs where triangles cross
        points = unproject(scene.camera, view.depth)
        ground = (view.instances < 0) & (np.abs(points[..., :2]) < np.array(scene.table_size) / 2.1).all(-1)
        np.testing.assert_allclose(points[ground & (points[..., 2] > -0.3)][:, 2], 0, atol=2e-3)
        for index, thing in enumerate(scene.things):
            seen = points[view.instances == index]
            if len(seen):
                world = thing.world()
                assert np.all(seen.min(0) > world.min(0) - 0.004)
                assert np.all(seen.max(0) < world.max(0) + 0.004)
        big = whole > 400
        np.testing.assert_allclose(view.whole[big], whole[big], rtol=0.25)
        again = renderer.render(scene)
        np.testing.assert_array_equal(view.rgb, again.rgb)


def run(objects: Path, out: Path, *more: str) -> int:
    return render.main(["--objects", str(objects), "--out", str(out), *more])


def test_the_data_set_is_read_and_an_interrupted_run_goes_on(objects, tmp_path, renderer, capsys):
    assert run(objects, tmp_path / "a", "--scenes", "4", "--depth") == 0
    assert run(objects, tmp_path / "a", "--scenes", "2", "--split", "heldout") == 0
    data = read_coco(tmp_path / "a", "train")
    assert sorted(data.pictures) == [render.FIRST_PICTURE + k for k in range(4)]
    assert not data.pictures.keys() & read_coco(tmp_path / "a", "heldout").pictures.keys()
    for picture in data.pictures.values():
        pixels = picture.load()
        assert picture.complete
        together = sum(i.mask(picture.height, picture.width).astype(int) for i in picture.instances)
        assert np.max(together) == 1, "masks do not overlap"
        depth = cv2.imread(str(tmp_path / "a" / "depth" / f"{picture.path.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        assert depth.shape == pixels.shape[:2]
        assert 100 < np.median(depth) < 5000  # millimetres
    assert {e.kind for e in data.expressions} > {"short", "absent"}

    # cut off in the middle of the third scene's line, then resumed: the same files
    (tmp_path / "b").mkdir()
    lines = (tmp_path / "a" / "scenes_train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "scenes_train.jsonl").write_text("".join(lines[:3]) + lines[3][:50])
    (tmp_path / "b" / "images").mkdir()
    for line in lines[1:3]:
        name = json.loads(line)["image"]["file_name"]
        (tmp_path / "b" / "images" / name).write_bytes((tmp_path / "a" / "images" / name).read_bytes())
    assert run(objects, tmp_path / "b", "--scenes", "4") == 0
    for name in ("instances_train.json", "expressions_train.json", "images/render_train_000003.jpg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name

    assert run(objects, tmp_path / "b", "--scenes", "4", "--seed", "1") == 1
    assert "take that seed" in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes_give_the_same_pictures(objects, tmp_path, renderer):
    assert run(objects, tmp_path / "one", "--scenes", "6") == 0
    assert run(objects, tmp_path / "two", "--scenes", "6", "--workers", "2") == 0
    for path in (tmp_path / "one" / "images").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "images" / path.name).read_bytes()
    assert (tmp_path / "one/instances_train.json").read_bytes() == (tmp_path / "two/instances_train.json").read_bytes()
