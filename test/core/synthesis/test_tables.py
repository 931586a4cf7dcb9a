"""Composed tables: what a mask covers is the thing, what is said of colours is what the pixels show."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core.data.grounding import DataError, GroundingData, Instance, Picture
from jmceln_core.synthesis import colours
from jmceln_core.synthesis.composition import cutouts, tables
from jmceln_core.synthesis.composition.cutouts import read_cutouts
from jmceln_core.synthesis.composition.recolour import SHADES, colour_facts, dyed
from jmceln_core.synthesis.rules.facts import sentences

KINDS = (
    "mug",
    "knob",
    "dice",
    "jug",
    "pear",
    "lamp",
    "bell",
    "tile",
    "shell",
    "lid",
    "keyboard",
    "book",
    "crab",
    "belt",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Cut-outs of discs and bars in grays that differ from thing to thing, each twice."""
    root = tmp_path_factory.mktemp("cutouts")
    rows = []
    for k, kind in enumerate(KINDS):
        for n in range(2):
            pixels = np.zeros((90, 70, 4), np.uint8)
            cv2.ellipse(pixels, (35, 45), (30, 40 - 15 * n), 0, 0, 360, (90 + k, 90 + k, 90 + k, 255), -1)
            file = f"{kind}_{n}.png"
            cv2.imwrite(str(root / file), pixels)
            rows.append({
                "file": file, "kind": kind, "colour": "grey", "share": 1.0, "view": ("any", "side")[n],
                "origin": f"{kind}/{n}", "render": False,
            })  # fmt: skip
    (root / "cutouts.json").write_text(json.dumps(rows))
    return root


def test_the_same_number_and_seed_give_the_same_picture(folder):
    one, other = (tables.Tables(folder)(5, np.random.default_rng([1, 2])) for _ in range(2))
    assert np.array_equal(one.rgb, other.rgb)
    assert one.picture == other.picture
    assert [s.facts for s in one.subjects] == [s.facts for s in other.subjects]
    told = [sentences(x, np.random.default_rng(3)) for x in (one, other)]
    assert told[0] == told[1]


@pytest.mark.parametrize("seed", range(12))
def test_masks_are_apart_and_visible_and_facts_agree_with_their_pixels(folder, seed):
    staged = tables.Tables(folder)(seed, np.random.default_rng(seed))
    height, width = staged.picture.height, staged.picture.width
    assert staged.rgb.shape == (height, width, 3)
    total = np.zeros((height, width), int)
    for s in staged.subjects:
        mask = s.instance.mask(height, width)
        total += mask
        x, y, w, h = map(int, s.instance.box)
        assert mask.any()
        assert mask[y : y + h, x : x + w].sum() == mask.sum()
        # naive: each pixel of the thing by its name, one after the other
        _, possible = colours.name_pixels(staged.rgb[mask])
        share = {c: np.mean([(int(p) >> k) & 1 for p in possible]) for k, c in enumerate(colours.NAMES)}
        for colour in colours.NAMES:
            fact = s.facts.get(f"colour:{colour}")
            assert fact is not False or share[colour] < 0.3, (colour, share[colour])
            assert fact is not True or share[colour] >= 0.5, (colour, share[colour])
    assert total.max() == 1
    assert staged.picture.instances == tuple(s.instance for s in staged.subjects)


def test_twins_in_other_colours_are_there_and_told_apart(folder):
    made = tables.Tables(folder)
    right = several = 0
    for seed in range(40):
        staged = made(seed, np.random.default_rng(seed))
        kinds = {s.instance.id: s.instance.category for s in staged.subjects}
        for e in sentences(staged, np.random.default_rng(seed)):
            if e.kind == "colour" and len(e.targets) == 1:
                right += list(kinds.values()).count(kinds[e.targets[0]]) > 1
            several += e.kind == "name" and len(e.targets) > 1
    assert right > 40
    assert several > 20


def test_who_is_called_something_has_the_articles_of_english():
    denied = {noun: tables._kind_fact(noun).denied[0] for noun in ("mug", "apple", "orange mug", "scissors")}
    assert list(denied.values()) == [
        "that isn't a mug", "that isn't an apple", "that isn't an orange mug", "that isn't scissors"
    ]  # fmt: skip


@pytest.mark.parametrize("colour", colours.NAMES)
def test_what_is_dyed_has_the_colours_name_and_keeps_its_shading(colour):
    rng = np.random.default_rng(0)
    shade = np.linspace(60, 190, 64)[:, None, None] * np.ones((64, 64, 1))
    rgb = (shade * np.array([0.9, 1.0, 0.7])).astype(np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[4:60, 4:60] = True
    made = dyed(rgb, mask, colour, rng)
    facts = colour_facts(made, mask, colour)
    assert facts[colour] is True, facts
    assert not [c for c, true in facts.items() if true and c != colour]
    light = cv2.cvtColor(made, cv2.COLOR_RGB2GRAY).mean(1)
    assert light[-8:].mean() > light[:8].mean() + 8  # still lit from below
    assert set(SHADES) == set(colours.NAMES)


def test_a_colour_that_is_neither_plain_nor_absent_stays_in_doubt():
    rgb = np.zeros((10, 10, 3), np.uint8)
    rgb[:, :3] = (190, 30, 40)  # three tenths red
    rgb[:, 3:] = (40, 90, 180)
    facts = colour_facts(rgb, np.ones((10, 10), bool), None)
    assert "red" not in facts
    assert "blue" not in facts  # nobody said so
    assert facts["green"] is False
    assert colour_facts(rgb, np.ones((10, 10), bool), "blue")["blue"] is True


def test_no_held_out_kind_is_cut_out_of_photographs(tmp_path):
    rgb = np.full((120, 160, 3), 40, np.uint8)
    cv2.ellipse(rgb, (80, 60), (40, 40), 0, 0, 360, (200, 30, 40), -1)
    cv2.imwrite(str(tmp_path / "x.png"), rgb)
    circle = cv2.ellipse2Poly((80, 60), (40, 40), 0, 0, 360, 5).flatten().tolist()
    pictures = {
        k: Picture(k, tmp_path / "x.png", 120, 160, (Instance(k, kind, [circle], (40, 20, 81, 81)),))
        for k, kind in enumerate(("apple", "book", "keyboard", "mouse"))
    }
    assert cutouts.is_held_out("book")
    assert set(cutouts.cut_from(cutouts.cuts_from(GroundingData(pictures)))) == {
        k for k in ("apple", "book", "keyboard", "mouse") if not cutouts.is_held_out(k)
    }


def test_splits_share_no_kind_and_leave_out_held_out_scans(folder, tmp_path):
    train, held = (set(read_cutouts(folder, split)) for split in ("train", "heldout"))
    assert train | held == set(KINDS)
    assert not train & held
    assert held
    rows = json.loads((folder / "cutouts.json").read_text())
    for row in rows:
        row |= {"render": True, "origin": "stapler_2#h" if row["kind"] == "mug" else "stapler_1#h"}
    (tmp_path / "cutouts.json").write_text(json.dumps(rows))
    assert "stapler_2" in cutouts.HELD_OUT
    assert set(read_cutouts(tmp_path, "train")) == train - {"mug"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("{", "not a table"),
        ('[{"kind": "mug"}]', "not a table"),
        ("[]", "no cut-out of the split"),
    ],
)
def test_bad_tables_are_refused_by_name(tmp_path, content, says):
    if content is not None:
        (tmp_path / "cutouts.json").write_text(content)
    with pytest.raises(DataError, match=f"cutouts.json.*{says}"):
        read_cutouts(tmp_path, "train")


def test_a_cut_out_without_alpha_is_refused_by_name(folder, tmp_path):
    cv2.imwrite(str(tmp_path / "plain.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"plain\.png.*alpha"):
        cutouts.Cutout(tmp_path / "plain.png", "mug", None, "any", True).load()
