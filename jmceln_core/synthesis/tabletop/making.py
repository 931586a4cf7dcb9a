"""Made things: solids with a name, a named colour and a material, a new one at every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from jmceln_core.synthesis import colours
from jmceln_core.synthesis.tabletop.catalogue import Item, Words, resting
from jmceln_core.synthesis.tabletop.shapes import (
    Mesh,
    ball,
    box,
    cylinder,
    merge,
    open_box,
    revolved,
    ring,
    turned,
    vessel,
)

Rng = np.random.Generator

# Paint is drawn about these (RGB), so that after the light has had its way the name still holds.
_PAINTS = {
    "black": (22, 22, 24),
    "white": (238, 238, 236),
    "gray": (128, 128, 130),
    "red": (196, 24, 28),
    "orange": (240, 124, 20),
    "yellow": (244, 212, 32),
    "green": (34, 148, 52),
    "blue": (28, 76, 190),
    "purple": (116, 38, 140),
    "pink": (244, 140, 180),
    "brown": (112, 66, 30),
}
_LIVELY = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")


def paint(rng: Rng, name: str) -> np.ndarray:
    """(3,) uint8 RGB of a shade of the named colour."""
    shade = np.array(_PAINTS[name]) * rng.uniform(0.85, 1.12) + rng.normal(0, 6, 3)
    return shade.clip(0, 255).astype(np.uint8)


def any_colour(rng: Rng, but: str = "") -> str:
    names = [name for name in colours.NAMES if name != but]
    weights = np.array([2.0 if name in _LIVELY else 0.7 for name in names])
    return str(rng.choice(names, p=weights / weights.sum()))


def painted(rng: Rng, item: Item, colour: str | None = None) -> Item:
    """The thing in one named colour, bottles with a cap in another, tins with bare ends."""
    colour = colour or any_colour(rng)
    words = replace(item.words, colours=(colour,), maybe_colours=())
    height = item.mesh.vertices[:, 2]
    share = (height - height.min()) / max(np.ptp(height), 1e-6)
    skin = np.tile(paint(rng, colour), (len(height), 1))
    if "bottle" in words.nouns and rng.random() < 0.7:
        cap = any_colour(rng, but=colour)
        skin[share > 0.84] = paint(rng, cap)
        words = replace(words, parts=(f"a {cap} cap", f"a {cap} top"), maybe_colours=(cap,))
        if item.name == "ycb_mustard_bottle" and colour == "yellow":
            words = replace(words, nouns=("mustard bottle", "mustard", "bottle"))
    elif words.nouns[0] == "can" and rng.random() < 0.8:
        skin[abs(share - 0.5) > 0.46] = (176, 178, 182)
        words = replace(words, maybe_colours=("gray",))
    elif "drill" in words.nouns:
        skin[share < 0.25] = paint(rng, "black")
        words = replace(words, maybe_colours=("black",))
    return replace(item, mesh=replace(item.mesh, paint=skin), words=words, texture=None)


def wood(rng: Rng, size: int = 128) -> np.ndarray:
    """(size, size, 3) uint8: grain along the first axis."""
    tone = np.array([(196, 148, 96), (168, 116, 66), (214, 174, 124), (120, 78, 44)][rng.integers(4)])
    lines = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), sigmaX=1.2, sigmaY=25)
    rings = np.sin(np.linspace(0, rng.uniform(8, 30), size)[None] + 4 * lines / lines.std())
    return (
        (tone * (1 + 0.06 * rings[..., None] + 0.04 * (lines / lines.std())[..., None])).clip(0, 255).astype(np.uint8)
    )


def label(rng: Rng, colour: str, height: int = 160, width: int = 160) -> np.ndarray:
    """(height, width, 3) uint8: packaging mostly in one colour, with shapes and lettering on it."""
    picture = np.tile(paint(rng, colour), (height, width, 1)).astype(np.uint8)
    ink = [tuple(int(v) for v in paint(rng, any_colour(rng, but=colour))) for _ in range(3)]
    if rng.random() < 0.5:
        y = int(height * rng.uniform(0.1, 0.8))
        picture[y : y + int(height * rng.uniform(0.05, 0.2))] = ink[0]
    for _ in range(rng.integers(1, 4)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(width * rng.uniform(0.05, 0.2)), int(height * rng.uniform(0.05, 0.18)))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, ink[1], -1, cv2.LINE_AA)
    for _ in range(rng.integers(1, 4)):
        word = "".join(rng.choice(list("AEIOULNRSTMKPDGBC"), rng.integers(3, 9)))
        at = (int(rng.integers(0, width // 3)), int(rng.integers(height // 6, height)))
        cv2.putText(
            picture,
            word,
            at,
            int(rng.integers(0, 5)),
            float(rng.uniform(0.5, 1.3)),
            ink[2],
            int(rng.integers(1, 4)),
            cv2.LINE_AA,
        )
    return picture


def _say(nouns: str, groups: str = "", maybe: str = "", **more: Any) -> Words:
    """Words from lists with commas."""

    def split(cell: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in cell.split(",") if word.strip())

    return Words(split(nouns), split(groups), split(maybe), **more)


def _dyed(rng: Rng, mesh: Mesh, words: Words, poses: str, colour: str | None = None, **more: Any) -> Item:
    """An item all in one colour."""
    colour = colour or any_colour(rng)
    words = replace(words, colours=(colour,))
    return Item(words.nouns[0], mesh.painted(paint(rng, colour)), words, resting(poses), **more)


def _finished(rng: Rng, mesh: Mesh, words: Words, poses: str, wooden: float = 0.3, **more: Any) -> Item:
    """Of painted or bare wood, plastic or metal."""
    if rng.random() < wooden and mesh.uv is not None:
        words = replace(words, material="wooden", maybe_colours=("brown", "orange", "yellow", "white", "gray"))
        return Item(words.nouns[0], mesh, words, resting(poses), wood(rng), shine=0.05, **more)
    return _dyed(rng, mesh, replace(words, maybe_materials=("plastic", "wooden")), poses, shine=0.2, **more)


def _block(rng: Rng) -> Item:
    size = rng.uniform(0.025, 0.06)
    sides = (size, size, size) if rng.random() < 0.6 else tuple(size * rng.uniform(0.6, 2, 3))
    cube = "cube, block" if sides[0] == sides[1] == sides[2] else "block, brick"
    return _finished(rng, box(*sides), _say(cube, "", "box, toy"), "b", flat_top=True)


def _cylinder(rng: Rng) -> Item:
    radius = rng.uniform(0.015, 0.035)
    return _finished(
        rng,
        cylinder(radius, radius * rng.uniform(1.2, 4)),
        _say("cylinder", "", "block, can, roll, toy"),
        "ul",
        flat_top=True,
    )


def _ball(rng: Rng) -> Item:
    return _dyed(rng, ball(rng.uniform(0.018, 0.05)), _say("ball", "toy", "sphere"), "u", shine=rng.uniform(0.05, 0.6))


def _ring(rng: Rng) -> Item:
    radius = rng.uniform(0.025, 0.06)
    return _finished(
        rng, ring(radius, radius * rng.uniform(0.18, 0.35)), _say("ring, hoop", "", "donut, circle, toy"), "u", 0.2
    )


def _cone(rng: Rng) -> Item:
    radius = rng.uniform(0.02, 0.04)
    return _finished(
        rng, revolved([(0, 0), (radius, 0), (0, radius * rng.uniform(1.8, 3))]), _say("cone", "", "toy"), "u", 0.3
    )


def _bowl(rng: Rng) -> Item:
    r, h = rng.uniform(0.05, 0.1), rng.uniform(0.03, 0.06)
    outline = [(0.45 * r, 0), (0.75 * r, 0.3 * h), (r, h)]
    return _finished(
        rng, vessel(outline, 0.003), _say("bowl", "dish", "container, plate, cup, pot"), "u", 0.15, opening=0.75 * r
    )


def _cup(rng: Rng) -> Item:
    r, h = rng.uniform(0.028, 0.042), rng.uniform(0.07, 0.12)
    words = _say("cup", "dish", "container, glass, mug, pot, bucket", lacks=("a handle",))
    return _dyed(rng, vessel([(0.75 * r, 0), (r, h)], 0.002), words, "ul", opening=0.75 * r)


def _mug(rng: Rng) -> Item:
    r, h = rng.uniform(0.035, 0.047), rng.uniform(0.075, 0.11)
    handle = ring(0.3 * h, 0.06 * h, np.pi * 1.1).moved(turned("x", 90), (r, 0, h / 2))
    words = _say("mug, cup, coffee mug", "dish", "container", parts=("a handle",))
    return _dyed(rng, merge(vessel([(0.92 * r, 0), (r, 0.1 * h), (r, h)], 0.004), handle), words, "ul", opening=0.8 * r)


def _plate(rng: Rng) -> Item:
    r = rng.uniform(0.075, 0.13)
    return _finished(
        rng,
        vessel([(0.6 * r, 0), (r, 0.018)], 0.004),
        _say("plate, dish", "", "tray, bowl, saucer, lid"),
        "u",
        0.1,
        opening=0.7 * r,
    )


def _tray(rng: Rng) -> Item:
    x, y = rng.uniform(0.18, 0.32), rng.uniform(0.12, 0.22)
    words = _say("tray", "", "box, plate, container, bin, board")
    return _finished(rng, open_box(x, y, rng.uniform(0.015, 0.03), 0.006), words, "u", 0.3, opening=0.4 * min(x, y))


def _crate(rng: Rng) -> Item:
    x, y, z = rng.uniform(0.12, 0.24), rng.uniform(0.1, 0.18), rng.uniform(0.06, 0.11)
    words = _say("open box, box, bin", "", "container, crate, tray, basket, drawer", lacks=("a lid",))
    return _finished(rng, open_box(x, y, z, 0.005), words, "u", 0.3, opening=0.42 * min(x, y))


def _lidded(rng: Rng) -> Item:
    """A round pot or a box, with a lid of another colour."""
    base, top = any_colour(rng), ""
    top = any_colour(rng, but=base)
    if rng.random() < 0.5:
        r, h = rng.uniform(0.03, 0.05), rng.uniform(0.05, 0.1)
        body, lid, what = cylinder(r, h), cylinder(1.06 * r, 0.16 * h).moved(shift=(0, 0, h)), "jar, pot"
        doubt, poses = "container, can, tub, tin, bottle", "ul"
    else:
        x, y, h = rng.uniform(0.07, 0.16), rng.uniform(0.06, 0.12), rng.uniform(0.04, 0.08)
        body, lid, what = box(x, y, h), box(x + 0.006, y + 0.006, 0.014).moved(shift=(0, 0, h)), "box"
        doubt, poses = "container, tub, crate", "u"
    words = _say(what, "", doubt, colours=(base,), maybe_colours=(top,), parts=(f"a {top} lid", "a lid"))
    mesh = merge(body.painted(paint(rng, base)), lid.painted(paint(rng, top)))
    return Item(words.nouns[0], mesh, words, resting(poses), flat_top=poses == "u")


def _packet(rng: Rng) -> Item:
    colour = any_colour(rng)
    sides = sorted(rng.uniform(0.03, 0.2, 3), reverse=True)
    words = _say("box, carton", "", "container, package, block", colours=(colour,), lacks=())
    mesh = box(sides[1], max(sides[2], 0.02), min(sides[0], 2.5 * sides[1]))
    return Item("box", mesh, words, resting("b"), label(rng, colour), flat_top=True)


def _tin(rng: Rng) -> Item:
    colour = any_colour(rng)
    r = rng.uniform(0.026, 0.045)
    h = r * rng.uniform(1.6, 3.6)
    side = revolved([(r, 0), (r, h)])
    words = _say("can, tin", "food", "container, cylinder, bottle, jar", colours=(colour,), maybe_colours=("gray",))
    art = label(rng, colour, 160, 320)
    art[:7], art[-7:] = 180, 180  # the rims; the ends take their colour from them
    ends = [revolved([(0, z), (r, z)] if z == 0 else [(r, z), (0, z)]) for z in (0.0, h)]
    ends = [replace(end, uv=np.full_like(end.uv, 0.01)) for end in ends]
    if rng.random() < 0.35:
        words = replace(words, nouns=("soda can", "can", "pop can"), groups=("drink",))
    return Item(words.nouns[0], merge(side, *ends), words, resting("ul"), art, shine=0.5, flat_top=True)


def _bottle(rng: Rng) -> Item:
    r, h = rng.uniform(0.022, 0.042), rng.uniform(0.13, 0.25)
    body, cap = any_colour(rng), ""
    cap = any_colour(rng, but=body)
    neck = rng.uniform(0.3, 0.6) * r
    solid = revolved([(0, 0), (r, 0), (r, 0.62 * h), (neck, 0.82 * h), (neck, 0.9 * h), (0, 0.9 * h)]).painted(
        paint(rng, body)
    )
    top = cylinder(1.15 * neck, 0.11 * h).moved(shift=(0, 0, 0.89 * h)).painted(paint(rng, cap))
    parts = [solid, top]
    maybe = [cap]
    if rng.random() < 0.5:
        band = any_colour(rng, but=body)
        parts.append(revolved([(1.01 * r, 0.18 * h), (1.01 * r, rng.uniform(0.3, 0.5) * h)]).painted(paint(rng, band)))
        maybe.append(band)
    words = _say(
        "bottle", "", "container", colours=(body,), maybe_colours=tuple(maybe), parts=(f"a {cap} cap", f"a {cap} top")
    )
    return Item("bottle", merge(*parts), words, resting("ul"), shine=0.5)


def _book(rng: Rng) -> Item:
    x, y, z = rng.uniform(0.1, 0.2), rng.uniform(0.14, 0.26), rng.uniform(0.012, 0.04)
    colour = any_colour(rng, but="white")
    art = label(rng, colour)
    page = box(x * 0.97, y * 0.96, z - 0.005).moved(shift=(0.004, 0, 0.0025))
    cover = [box(x, y, 0.0025), box(x, y, 0.0025).moved(shift=(0, 0, z - 0.0025))]
    spine = box(0.003, y, z).moved(shift=(-x / 2, 0, 0))
    art[-4:, -4:] = 235  # a corner of paper white for the pages
    page = replace(page, uv=np.full_like(page.uv, (0.99, 0.01)))
    words = _say("book, notebook", "", "box, magazine", colours=(colour,), maybe_colours=("white",))
    return Item("book", merge(page, *cover, spine), words, resting("u"), art, flat_top=True)


def _sponge(rng: Rng) -> Item:
    low, high = rng.choice(["yellow", "blue", "pink", "orange"]), rng.choice(["green", "gray"])
    body = merge(
        box(0.1, 0.065, 0.024).painted(paint(rng, low)),
        box(0.1, 0.065, 0.009).moved(shift=(0, 0, 0.024)).painted(paint(rng, high)),
    )
    return Item(
        "sponge", body, _say("sponge", "", "brick, block", maybe_colours=(str(low), str(high))), resting("u"), shine=0.0
    )


def _tape(rng: Rng) -> Item:
    r, w = rng.uniform(0.03, 0.05), rng.uniform(0.015, 0.04)
    solid = revolved([(0.65 * r, 0), (r, 0), (r, w), (0.65 * r, w), (0.65 * r, 0)])
    colour = str(rng.choice(["brown", "yellow", "gray", "black", "blue", "red", "white"]))
    return _dyed(
        rng, solid, _say("roll of tape, tape, tape roll", "", "ring, tool"), "u", colour, shine=0.5, opening=0.0
    )


def _phone(rng: Rng) -> Item:
    x, y = rng.uniform(0.065, 0.078), rng.uniform(0.135, 0.16)
    case = box(x, y, 0.008).painted(paint(rng, colour := any_colour(rng)))
    glass = box(0.93 * x, 0.95 * y, 0.001).moved(shift=(0, 0, 0.008)).painted((12, 13, 18))
    words = _say("phone, cell phone, smartphone", "", "tablet, remote", maybe_colours=(colour, "black"))
    return Item("phone", merge(case, glass), words, resting("u"), shine=0.9, flat_top=True)


def _pencil(rng: Rng) -> Item:
    h, r = rng.uniform(0.11, 0.18), 0.004
    shaft = revolved([(0, 0), (r, 0), (r, h), (0, h)], 6)
    tip = revolved([(r, h), (0.001, h + 0.018)], 6)
    colour = any_colour(rng, but="brown")
    mesh = merge(shaft.painted(paint(rng, colour)), tip.painted((214, 170, 120)))
    words = _say("pencil", "", "pen, marker, stick", colours=(colour,))
    return Item("pencil", mesh.moved(turned("x", 90)), words, resting("f"))


def _wrench(rng: Rng) -> Item:
    h = rng.uniform(0.12, 0.22)
    w = 0.1 * h
    bar = box(w, 0.8 * h, 0.05 * h)
    jaw = ring(0.085 * h, 0.032 * h, np.pi * 1.5).moved(turned("z", -90), (0, -0.44 * h, 0.03 * h))
    eye = ring(0.075 * h, 0.03 * h).moved(shift=(0, 0.45 * h, 0.03 * h))
    words = _say("wrench, spanner", "tool", "", material="metal", maybe_colours=("gray", "white", "black"))
    return Item("wrench", merge(bar, jaw, eye).painted((150, 153, 160)), words, resting("f"), shine=0.9)


def _nut(rng: Rng) -> Item:
    r = rng.uniform(0.018, 0.03)
    angle = np.arange(7) * np.pi / 3
    solid = revolved([(0.55 * r, 0), (r, 0), (r, 0.8 * r), (0.55 * r, 0.8 * r), (0.55 * r, 0)], len(angle) - 1)
    words = _say("nut, hex nut", "", "ring, bolt, tool", material="metal", maybe_colours=("gray", "white", "black"))
    return Item("nut", solid.painted((158, 158, 160)), words, resting("f"), shine=0.9)


def _egg(rng: Rng) -> Item:
    solid = ball(rng.uniform(0.02, 0.024), 1.3).moved(turned("x", 90))
    colour = str(rng.choice(["white", "brown"]))
    item = _dyed(rng, solid, _say("egg", "food", "ball"), "f", colour, shine=0.2)
    return (
        item
        if colour == "white"
        else replace(
            item,
            mesh=solid.painted((206, 152, 110)),
            words=replace(item.words, colours=(), maybe_colours=("brown", "orange", "pink")),
        )
    )


def _tennis_ball(rng: Rng) -> Item:
    solid = ball(0.033).painted((206, 226, 60))
    return Item(
        "tennis ball",
        solid,
        _say("tennis ball, ball", "toy", "apple", maybe_colours=("yellow", "green")),
        resting("u"),
        shine=0.0,
    )


def _tomato(rng: Rng) -> Item:
    solid = merge(
        ball(rng.uniform(0.026, 0.038), 0.8).painted(paint(rng, "red")),
        revolved([(0.012, 0.0), (0.0, 0.004)], 5).moved(shift=(0, 0, 0.05)).painted((40, 110, 40)),
    )
    return Item(
        "tomato",
        solid,
        _say("tomato", "vegetable, food", "apple, ball, fruit", colours=("red",)),
        resting("u"),
        shine=0.6,
    )


def _carrot(rng: Rng) -> Item:
    h = rng.uniform(0.11, 0.17)
    root = revolved([(0.002, 0), (0.012, 0.5 * h), (0.016, 0.95 * h), (0, h)]).painted((236, 116, 28))
    leaf = cylinder(0.004, 0.025).moved(shift=(0, 0, h)).painted((60, 140, 50))
    words = _say("carrot", "vegetable, food", "cone", colours=("orange",))
    return Item("carrot", merge(root, leaf).moved(turned("x", 90)), words, resting("f"))


def _cucumber(rng: Rng) -> Item:
    h, r = rng.uniform(0.12, 0.2), rng.uniform(0.016, 0.022)
    solid = revolved([(0, 0), (0.7 * r, 0.03 * h), (r, 0.15 * h), (r, 0.85 * h), (0.7 * r, 0.97 * h), (0, h)])
    item = _dyed(
        rng,
        solid.moved(turned("x", 90)),
        _say("cucumber", "vegetable, food", "zucchini, pickle"),
        "f",
        "green",
        shine=0.4,
    )
    return item


def _candle(rng: Rng) -> Item:
    r, h = rng.uniform(0.018, 0.035), rng.uniform(0.05, 0.12)
    colour = any_colour(rng, but="black")
    wick = cylinder(0.0012, 0.012).moved(shift=(0, 0, h)).painted((30, 30, 30))
    words = _say("candle", "", "cylinder, roll", colours=(colour,))
    return Item("candle", merge(cylinder(r, h).painted(paint(rng, colour)), wick), words, resting("u"), shine=0.3)


def _battery(rng: Rng) -> Item:
    r, h = 0.0085, 0.05
    low, high = any_colour(rng, but="gray"), any_colour(rng)
    mesh = merge(
        cylinder(r, 0.7 * h).painted(paint(rng, low)),
        cylinder(r, 0.28 * h).moved(shift=(0, 0, 0.7 * h)).painted(paint(rng, high)),
        cylinder(0.4 * r, 0.05 * h).moved(shift=(0, 0, 0.98 * h)).painted((190, 190, 190)),
    )
    return Item("battery", mesh, _say("battery", "", "cylinder", maybe_colours=(low, high)), resting("l"), shine=0.6)


def _die(rng: Rng) -> Item:
    size = rng.uniform(0.018, 0.035)
    colour = str(rng.choice(["white", "red", "blue", "green", "black"]))
    face = np.tile(paint(rng, colour), (64, 64, 1)).astype(np.uint8)
    ink = (20, 20, 20) if colour == "white" else (240, 240, 240)
    for at in ((16, 16), (48, 48), (16, 48), (48, 16), (32, 32))[: rng.integers(1, 6)]:
        cv2.circle(face, at, 7, ink, -1, cv2.LINE_AA)
    words = _say("die, dice", "toy", "cube, block", colours=(colour,))
    return Item("die", box(size, size, size), words, resting("u"), face)


def _cutting_board(rng: Rng) -> Item:
    x, y = rng.uniform(0.18, 0.3), rng.uniform(0.14, 0.22)
    return _finished(
        rng, box(x, y, 0.015), _say("cutting board, board", "", "tray, book, plate"), "u", 0.8, opening=0.4 * y
    )


def _basket(rng: Rng) -> Item:
    r, h = rng.uniform(0.07, 0.11), rng.uniform(0.07, 0.12)
    return _dyed(
        rng,
        vessel([(0.8 * r, 0), (r, h)], 0.004),
        _say("bucket, bin", "", "container, basket, bowl, pot, cup, tub"),
        "u",
        opening=0.75 * r,
    )


def _glass_jar(rng: Rng) -> Item:
    r, h = rng.uniform(0.03, 0.045), rng.uniform(0.07, 0.11)
    body, lid = str(rng.choice(["red", "orange", "brown", "yellow", "green", "purple"])), ""
    lid = any_colour(rng, but=body)
    mesh = merge(
        revolved([(0, 0), (r, 0), (r, 0.75 * h), (0.85 * r, 0.85 * h), (0, 0.85 * h)]).painted(paint(rng, body)),
        cylinder(0.9 * r, 0.15 * h).moved(shift=(0, 0, 0.85 * h)).painted(paint(rng, lid)),
    )
    words = _say(
        "jar",
        "food",
        "container, pot, bottle, can, jam",
        colours=(body,),
        maybe_colours=(lid,),
        parts=(f"a {lid} lid", "a lid"),
    )
    return Item("jar", mesh, words, resting("ul"), shine=0.8)


# (weight, maker)
MAKERS: tuple[tuple[float, Callable[[Rng], Item]], ...] = (
    (3, _block), (2, _cylinder), (2, _ball), (1.2, _ring), (0.8, _cone), (2, _bowl), (2, _cup), (2, _mug),
    (1.5, _plate), (0.7, _tray), (1, _crate), (1.5, _lidded), (2.2, _packet), (2, _tin), (2.5, _bottle),
    (1.5, _book), (0.8, _sponge), (1, _tape), (0.8, _phone), (1, _pencil), (0.8, _wrench), (0.5, _nut),
    (0.6, _egg), (0.6, _tennis_ball),
    (0.8, _tomato), (0.8, _carrot), (0.6, _cucumber), (0.7, _candle), (0.5, _battery), (0.6, _die),
    (0.5, _cutting_board), (0.7, _basket), (1.2, _glass_jar),
)  # fmt: skip
HOLDERS = (_bowl, _plate, _tray, _crate, _basket, _cutting_board, _cup, _mug)


def make(rng: Rng) -> Item:
    """One made thing."""
    weights = np.array([weight for weight, _ in MAKERS])
    return MAKERS[int(rng.choice(len(MAKERS), p=weights / weights.sum()))][1](rng)
