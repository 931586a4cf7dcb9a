"""Composed pictures: every mask against the pixels, what hides what, and that no sentence has become untrue.

The pictures are drawn: every thing has a flat colour of its own, so that the pixels alone tell where it is.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import DataError, GroundingData, Instance, Picture, read_coco
from jmceln_core.data.readers import read_training
from jmceln_core.synthesis import compose as command
from jmceln_core.synthesis.composition import cutting
from jmceln_core.synthesis.composition.backdrops import backdrop, looked_for, table
from jmceln_core.synthesis.composition.cutting import cuts_of
from jmceln_core.synthesis.composition.pasting import BRIGHTEN, DARKEN, GONE, HIDDEN, Composer
from jmceln_core.synthesis.composition.saying import Speaker
from jmceln_core.synthesis.rules import written
from jmceln_core.synthesis.rules.photograph import Scene

HEIGHT, WIDTH = 150, 200
KINDS = ("dog", "cup", "hammer", "person")
GROUND = (128, 128, 128)


def colour_of(number: int) -> tuple[int, int, int]:
    """A colour for each thing, all far apart in hue order and from the ground's grey."""
    h, s, v = (37 * number) % 180, 255 - 60 * (number // 5 % 2), 150 + 20 * (number % 3)
    return tuple(int(c) for c in cv2.cvtColor(np.uint8([[[h, s, v]]]), cv2.COLOR_HSV2RGB)[0, 0])


def draw(root: Path, pictures: list[list[tuple]], *, sentences=(), absent=(), plural=(), extra=None) -> Path:
    """Write pictures of (kind, x, y, w, h) boxes as ROOT/drawn, split train; later things cover earlier ones.

    sentences: (picture, thing, kind, text); ids: pictures from 1, things picture * 10 + place.
    """
    folder = root / "drawn"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, things in enumerate(pictures, 1):
        rgb = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
        for k, (kind, x, y, w, h) in enumerate(things):
            rgb[y : y + h, x : x + w] = colour_of(number + k)
            annotations.append({
                "id": 10 * number + k, "image_id": number, "category_id": KINDS.index(kind) + 1, "iscrowd": 0,
                "bbox": [x, y, w, h], "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            })  # fmt: skip
        cv2.imwrite(str(folder / "images" / f"{number}.png"), rgb[..., ::-1])
        image = {"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT}
        images.append(image | (extra or {}).get(number, {}))
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(KINDS)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "instances_train.json").write_text(text)
    said = {
        "expressions": [{"image_id": p, "ann_id": 10 * p + k, "kind": kind, "text": t} for p, k, kind, t in sentences],
        "absent": [{"image_id": p, "text": t} for p, t in absent],
        "plural": [{"image_id": p, "ann_ids": [10 * p + k for k in things], "text": t} for p, things, t in plural],
    }
    (folder / "expressions_train.json").write_text(json.dumps(said))
    return root


def many(count: int) -> list[list[tuple]]:
    """Pictures of two things each, of changing kinds."""
    return [
        [(KINDS[k % 3], 12 + k % 7, 60, 50, 60), (KINDS[(k + 1 + k // 3) % 3], 110, 50 + k % 5, 60, 45)]
        for k in range(count)
    ]


def many_said(count: int) -> list[tuple]:
    return [(p, 0, "short", things[0][0]) for p, things in enumerate(many(count), 1)]


def gathered(root: Path):
    data = read_coco(root / "drawn", "train")
    told = data.by_picture()
    cuts = [cut for p in data.pictures.values() for cut in cuts_of(p, p.load(), told[p.id])]
    return data, looked_for(root, ["drawn/train"]), cuts


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("drawn"), many(12), sentences=many_said(12))


@pytest.fixture(scope="module")
def scenes(drawn):
    """Composed pictures with their backdrops."""
    data, kinds, cuts = gathered(drawn)
    composer, found = Composer(cuts), []
    for seed in range(40):
        into = backdrop(data.pictures[1 + seed % 12], kinds[1 + seed % 12], 300)
        made = composer(into, 7, np.random.default_rng(seed))
        if made is not None:
            found.append((into, made))
    assert len(found) > 25
    return data, found


def shown(data: GroundingData, made, key: int) -> np.ndarray:
    """(3,) the colour that an instance was drawn in."""
    source, own = made.pasted[key].source if key in made.pasted else (None, made.origin[key])
    source = own // 10 if source is None else source
    return np.array(colour_of(source + own % 10), float)


def test_every_mask_is_where_the_pixels_show_its_thing(scenes):
    data, found = scenes
    for _, made in found:
        height, width = made.rgb.shape[:2]
        rest = np.ones((height, width), np.uint8)
        for i in made.picture.instances:
            mask = i.mask(height, width).astype(np.uint8)
            rest &= 1 - mask
            inside = made.rgb[cv2.erode(mask, np.ones((7, 7))) > 0].astype(float)
            gain = inside / np.maximum(shown(data, made, i.id), 1)
            gain = gain[:, shown(data, made, i.id) > 60]  # of dark channels a ratio says nothing
            assert (gain > DARKEN - 0.03).all()
            assert (gain < BRIGHTEN + 0.03).all()
        bare = made.rgb[cv2.erode(rest, np.ones((9, 9))) > 0]
        assert (np.abs(bare.astype(int) - GROUND).max(-1) < 4).all()  # nothing is there without a mask


def test_masks_share_no_pixel_and_no_thing_is_left_doubtful(scenes):
    _, found = scenes
    for into, made in found:
        size = made.rgb.shape[:2]
        assert sum(i.mask(*size).astype(int) for i in made.picture.instances).max() == 1
        assert all(share <= HIDDEN for share in made.hidden.values())
        gone = len(into.masks) - len(made.origin)
        for mask, instance in zip(into.masks, into.picture.instances, strict=True):
            if gone and instance.id not in made.origin.values():
                painted = sum(made.picture.instance(key).mask(*size) for key in made.pasted)
                assert painted[mask].mean() >= GONE


def test_what_is_in_front_is_what_the_pixels_show(scenes):
    _, found = scenes
    before = behind = 0
    for into, made in found:
        size, place = made.rgb.shape[:2], [i.id for i in into.picture.instances]
        for key, own in made.origin.items():
            outline = into.masks[place.index(own)]
            for pasted in made.pasted:
                share = (
                    made.picture.instance(pasted).mask(*size)[outline].mean()
                )  # of the outline: shows what was pasted
                if (key, pasted) in made.covers:
                    assert share < 0.02
                    assert made.hidden[pasted] > 0
                    behind += 1
                elif share > 0.05:
                    assert (pasted, key) in made.covers
                    before += 1
        assert not {pair[::-1] for pair in made.covers} & set(made.covers)
    assert min(before, behind) > 3


def test_of_two_layers_the_lower_is_in_front_whatever_their_order(scenes):
    _, found = scenes
    for _, made in found:
        bottoms = [sum(i.box[1::2]) for i in made.picture.instances if made.hidden[i.id] == 0 and i.id in made.pasted]
        assert all(a <= b + 1 for a, b in pairwise(bottoms))


# things as kind, x, y, w, h; which of them may be cut out
CUTTING = [
    ([("dog", 20, 20, 60, 60), ("cup", 120, 40, 50, 60)], {10, 11}),  # apart
    ([("dog", 0, 20, 60, 60), ("cup", 120, 40, 50, 60)], {11}),  # at the picture's border
    ([("dog", 20, 20, 60, 60), ("cup", 80, 20, 60, 60)], set()),  # touching: either may hide the other
    ([("dog", 20, 20, 20, 20), ("cup", 120, 40, 50, 60)], {11}),  # too small
    ([("dog", 20, 20, 120, 90), ("cup", 60, 40, 30, 40)], set()),  # the cup would come along with the dog
]


@pytest.mark.parametrize(("things", "expected"), CUTTING)
def test_only_whole_separate_things_are_cut_out(tmp_path, things, expected):
    _, _, cuts = gathered(draw(tmp_path, [things]))
    assert {cut.source[1] for cut in cuts} == expected


def test_compact_kinds_with_a_piece_missing_are_hidden_by_something():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    area = int(mask.sum())
    assert cutting.is_in_one_piece(mask, area, cutting.SOLID_COMPACT)
    mask[10:34, 10:34] = False
    assert not cutting.is_in_one_piece(mask, int(mask.sum()), cutting.SOLID_COMPACT)
    assert cutting.is_in_one_piece(mask, int(mask.sum()), cutting.SOLID)
    mask[:, 40:44] = False
    assert not cutting.is_in_one_piece(mask, int(mask.sum()), cutting.SOLID)  # two pieces


# sentence, category of the thing it was written of; whether it is about the thing's own look alone
APPEARANCE = [
    ("dark red pliers", "pliers", True),
    ("man in black sweater", "person", True),
    ("woman in gray top", "person", True),  # a top that is worn
    ("dog sitting", "dog", True),  # a pose is cut out, too
    ("orange tape measure", "tape measure", True),  # a colour, no fruit
    ("dog on the left", "dog", False),  # a place
    ("top dog", "dog", False),
    ("bigger dog", "dog", False),  # a comparison
    ("darkest cup", "cup", False),
    ("small hammer", "hammer", False),
    ("second screwdriver", "screwdriver", False),  # a count
    ("dog next to the cat", "dog", False),  # company
    ("cup with a spoon", "cup", False),
    ("man in the water", "person", False),  # not worn
    ("person on the horse", "person", False),
    ("dog chasing its tail", "dog", False),  # an action
    ("half hidden cup", "cup", False),  # what the camera saw
    ("the red one", "cup", False),  # of what kind?
]


@pytest.mark.parametrize(("text", "category", "expected"), APPEARANCE)
def test_sentences_that_depend_on_nothing_but_the_thing(text, category, expected):
    assert written.is_appearance(text, category) == expected


# sentence, colours of a rival; whether it surely cannot mean the rival
RIVALS = [
    ("red cup", ((30, 60, 215),), True),
    ("red cup", ((215, 25, 30),), False),
    ("cup", ((30, 60, 215),), False),  # no colour is said
    ("red and white cup", ((245, 245, 245),), True),  # no red on it
    ("black and white cup", ((245, 245, 245),), False),  # of shades that pass into each other all must be missing
    ("black cup", ((245, 245, 245),), True),
    ("red cup", ((30, 60, 215), (215, 25, 30)), False),  # of two rivals one fits
]


@pytest.mark.parametrize(("text", "paints", "expected"), RIVALS)
def test_a_colour_decides_only_where_no_rival_can_have_it(text, paints, expected):
    rgb, instances = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8), []
    for k, paint in enumerate(paints):
        rgb[40:90, 20 + 80 * k : 70 + 80 * k] = paint
        x = 20 + 80 * k
        polygon = [x, 40, x + 50, 40, x + 50, 90, x, 90]
        instances.append(Instance(k + 1, "cup", [polygon], (x, 40, 50, 50)))
    scene = Scene(Picture(1, Path("drawn.png"), HEIGHT, WIDTH, tuple(instances)), rgb)
    assert written.fits_none(scene, text, scene.things, {}) == expected


def said_of(root: Path, source: int, paste: str, seed: int = 0):
    """What is said of picture `source` with things of one kind pasted in, by (text, targets)."""
    data, kinds, cuts = gathered(root)
    composer = Composer([cut for cut in cuts if cut.category == paste and cut.source[0] != source])
    into = backdrop(data.pictures[source], kinds[source], 300)
    for k in range(seed, seed + 60):
        made = composer(into, 7, np.random.default_rng(k))
        if made is not None and not any(made.hidden[key] for key in made.origin):
            sentences = Speaker(data, cuts)(made, into, np.random.default_rng(0))
            own = {key: made.origin.get(key, -1) for key in made.hidden}
            return {(e.text, tuple(own[t] for t in e.targets)) for e in sentences if e.origin == "written"}
    raise AssertionError("nothing could be pasted beside the backdrop's own things")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    pictures = [
        [("dog", 30, 60, 36, 40), ("dog", 140, 60, 36, 40)],
        [("dog", 80, 60, 36, 40)],
        [("cup", 80, 60, 36, 40)],
    ]
    sentences = [
        (1, 0, "short", "left dog"),
        (1, 0, "full", "the dog beside the other one"),
        (1, 1, "guess", "far right"),
        (2, 0, "appearance", "striped dog"),
        (3, 0, "appearance", "striped cup"),
    ]
    absent, plural = (
        [(1, "the black cat"), (1, "the cup on the table"), (1, "something else")],
        [(1, (0, 1), "both dogs")],
    )
    return draw(tmp_path_factory.mktemp("told"), pictures, sentences=sentences, absent=absent, plural=plural)


def test_sentences_about_the_backdrop_stay_where_nothing_pasted_can_be_meant(told):
    said = said_of(told, 1, "cup")
    assert {("left dog", (10,)), ("both dogs", (10, 11)), ("the black cat", ())} <= said
    texts = {text for text, _ in said}
    assert texts.isdisjoint({"the dog beside the other one", "far right", "the cup on the table", "something else"})


def test_sentences_about_the_backdrop_go_where_one_of_the_kind_is_pasted(told):
    assert {text for text, _ in said_of(told, 1, "dog")}.isdisjoint({"left dog", "both dogs", "striped dog"})


def test_a_cut_brings_what_was_written_of_its_look_where_it_is_the_only_one(told):
    said = said_of(told, 2, "cup", seed=4)
    only = [targets for text, targets in said if text == "striped cup"]
    assert only in ([], [(-1,)])
    found = [said_of(told, 2, "cup", seed=k) for k in range(0, 40, 4)]
    assert any(("striped cup", (-1,)) in said for said in found)


def test_kinds_that_are_everywhere_are_pasted_only_where_they_were_looked_for(tmp_path):
    pictures = [[("person", 60, 40, 50, 80)], [("hammer", 60, 40, 50, 80)], [("dog", 60, 40, 50, 80)]]
    root = draw(tmp_path, pictures, extra={1: {"source": "street"}, 2: {"source": "bench"}, 3: {"source": "street"}})
    data, kinds, cuts = gathered(root)
    assert kinds == {1: {"person", "dog"}, 2: {"hammer"}, 3: {"person", "dog"}}
    pasted = {key: set() for key in data.pictures}
    for seed in range(60):
        key = 1 + seed % 3
        made = Composer(cuts)(backdrop(data.pictures[key], kinds[key], 300), 7, np.random.default_rng(seed))
        pasted[key] |= {cut.category for cut in made.pasted.values()} if made else set()
    assert "person" not in pasted[2]
    assert "person" in pasted[3]
    assert "hammer" in pasted[1]


def test_table_tops_hold_what_is_pasted_and_nothing_else(drawn, tmp_path):
    _, kinds, cuts = gathered(drawn)
    texture = tmp_path / "wood.png"
    cv2.imwrite(str(texture), np.full((300, 300, 3), 90, np.uint8))
    every = frozenset().union(*kinds.values())
    rng = np.random.default_rng(0)
    made = next(filter(None, (Composer(cuts)(table(texture, every, rng, 300), 7, rng) for _ in range(5))))
    assert len(made.picture.instances) == len(made.pasted) >= 2
    assert made.picture.complete
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        table(tmp_path / "none.png", every, rng)


def run(root: Path, out: Path, *extra: str) -> int:
    args = ["--root", str(root), "--sources", "[drawn/train]", "--pictures", "6", "--out", str(out), "--side", "300"]
    return command.main([*args, "--validation", "4", *extra])


def test_what_is_written_reads_back(drawn, tmp_path):
    assert run(drawn, tmp_path / "a") == 0
    data = read_coco(tmp_path / "a", "train")
    assert sorted(data.pictures) == [command.FIRST_ID + k for k in range(6)]
    assert all(p.complete and max(p.load().shape) == 300 for p in data.pictures.values())
    assert {e.origin for e in data.expressions} == {"generated", "written"}
    assert {len(e.targets) for e in data.expressions} >= {0, 1, 2}
    again = read_training(DataConfig(root=tmp_path, sources=("a/train",), validation=0))[0]
    assert again.expressions == data.expressions


def test_the_same_seed_gives_the_same_bytes(drawn, tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert run(drawn, tmp_path / name, "--seed", seed) == 0
    contents = [
        {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in (tmp_path / name).rglob("*")
            if file.is_file()
        }
        for name in "abc"
    ]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_pictures_held_out_for_validation_are_never_touched(tmp_path, capsys):
    root = draw(tmp_path, many(12), sentences=many_said(12))
    _, held = read_training(DataConfig(root=root, sources=("drawn/train",), validation=4))
    assert len(held.pictures) == 4
    for picture in held.pictures.values():
        picture.path.write_bytes(b"no picture")  # whoever reads one notices
    assert run(root, tmp_path / "a") == 0
    assert run(root, tmp_path / "b", "--validation", "0") == 2  # the files are needed as soon as nothing is held out
    assert "not a readable image" in capsys.readouterr().err


def test_errors_say_what_to_do(drawn, tmp_path, capsys):
    assert run(drawn, tmp_path / "a") == 0
    assert run(drawn, tmp_path / "a") == 2
    assert "choose another --out" in capsys.readouterr().err
    with pytest.raises(DataError, match="whole, separate things"):
        Composer([])
    incomplete = draw(tmp_path, many(6), sentences=many_said(6), extra={k: {"complete": False} for k in range(1, 7)})
    assert run(incomplete, tmp_path / "b") == 2
    assert "completely annotated" in capsys.readouterr().err
