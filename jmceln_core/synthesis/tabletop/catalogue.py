"""What can stand on the table, and what people call it.

Scanned things are read from a folder of NAME/mesh.obj; `SCANNED` says for each what a listener accepts as its name.
Made things are built by `making`. Things of both sorts are `Item`s.

Words have three values: true of a thing, doubtful (a listener might accept it), false. Doubtful ones never decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from jmceln_core.data.grounding import DataError, read_image
from jmceln_core.synthesis.tabletop.shapes import Mesh, read_obj, turned


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Scanned things and textures that only scenes of the split "heldout" show.
HELD_OUT = _names(
    """salad_dressing popcorn ycb_tomato_soup_can plastic_pear large_clamp stapler_2 remote_controller_1 conditioner
    frying_pan suger_2 ycb_scissors soap glue_2 small_marker"""
)
HELD_OUT_TEXTURES = _names(
    """martin_novak_wood_table brown_ceramic_tile canvas_sky_blue rustic_floor cream_plaster
    dark_gray_plaster"""
)


@dataclass(frozen=True)
class Words:
    """What may be said of a thing. `nouns` and `colours`: true ones, the usual first; `maybe_*`: doubtful ones."""

    nouns: tuple[str, ...]
    groups: tuple[str, ...] = ()  # wider nouns: "fruit", "tool"
    maybe_nouns: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    maybe_colours: tuple[str, ...] = ()
    material: str = ""  # "wooden", "metal", "plastic" ...; "" if it has no certain one
    maybe_materials: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()  # "a red cap", "a lid"
    lacks: tuple[str, ...] = ()  # "a lid" of a pot without one


@dataclass(frozen=True, eq=False)
class Item:
    """A thing ready to be placed. `poses`: (3, 3) rotations it can rest in, with their weights."""

    name: str
    mesh: Mesh
    words: Words
    poses: tuple[tuple[float, np.ndarray], ...]
    texture: np.ndarray | None = field(default=None, repr=False)  # (H, W, 3) uint8 RGB
    shine: float = 0.15  # 0 dull to 1 mirror-like highlights
    opening: float = 0.0  # inner radius in metres of what holds other things, 0 if nothing
    flat_top: bool = False  # other things can stand on it


# name | axis that is up | poses | nouns | wider nouns | doubtful nouns | colours | doubtful colours | material, parts
# Axis: x, y, z, with a minus for the downward one. Poses: u upright, l lying, b any side of a box, r any, f flat.
_TABLE = """
alphabet_soup | y | ul | soup can, can of soup, alphabet soup, can, tin \
    | food | container, box | blue | orange, yellow | metal
bbq_sauce | z | ul | bbq sauce, sauce bottle, bottle, barbecue sauce \
    | food | container, ketchup, ketchup bottle | brown | red, black |
butter | z | b | butter, butter box, box of butter, box | food \
    | container, carton | red | orange, blue, white, yellow |
chocolate_pudding | z | b | pudding box, chocolate pudding, box, box of pudding \
    | food | container, carton | brown | blue, white, black |
cream_cheese | z | b | cream cheese, cream cheese box, box | food \
    | container, carton, butter |  | gray, blue, white, purple |
ketchup | y | ul | ketchup, ketchup bottle, bottle, bottle of ketchup \
    | food | container, sauce, sauce bottle |  | red, orange, white, brown |
macaroni_and_cheese | z | b | mac and cheese, macaroni box, box, macaroni and cheese, box of macaroni \
    | food | container, carton |  | orange, yellow, red, blue |
milk | y | ub | milk carton, milk, carton, carton of milk | food, drink \
    | container, box, juice, bottle |  | red, white, black, blue |
orange_juice | y | ub | orange juice, juice carton, juice, carton, carton of juice \
    | food, drink | container, box, milk, orange, bottle |  | yellow, orange, red, green, white, blue |
popcorn | z | b | popcorn, popcorn box, box, box of popcorn | food \
    | container, carton |  | blue, yellow, red, white |
salad_dressing | y | ul | salad dressing, dressing bottle, bottle, bottle of dressing \
    | food | container, sauce, sauce bottle | white | green |
frying_pan | z | u | frying pan, pan, skillet |  | container, pot, bowl, dish | black | gray | metal
ramekin | z | u | ramekin, white bowl, bowl, small bowl | dish | container, cup, pot | white | gray | ceramic
plate | z | u | plate | dish | tray, lid | * |  |
red_bowl | z | u | bowl | dish | container, plate, pan, cup, pot | * |  |
ycb_banana | z | f | banana | fruit, food |  | yellow | green, brown |
ycb_cracker_box | z | b | box |  | container, carton, cereal box, block, book | * |  |
ycb_foam_brick | z | b | brick, foam brick |  | block, sponge, box | * |  |
ycb_gelatin_box | z | b | box |  | container, carton, block, brick | * |  |
ycb_master_chef_can | z | ul | can, tin, coffee can |  | container, cylinder, pot, jar, tub, food, soda can | * |  |
ycb_mustard_bottle | z | ul | bottle, squeeze bottle |  \
    | container, sauce, sauce bottle, ketchup, mustard, mustard bottle, ketchup bottle, food, dressing bottle | * |  |
ycb_potted_meat_can | z | ul | can, tin |  | container, box, food, block | * |  |
ycb_power_drill | z | f | drill, power drill | tool |  | * |  |
ycb_scissors | z | f | scissors, pair of scissors | tool |  |  | gray, orange, yellow, black |
ycb_tomato_soup_can | z | ul | can, tin |  | container, cylinder, food, soup can, soda can, can of soup | * |  |
black_marker | z | f | marker, pen, marker pen |  | tool, pencil |  | gray, black, green | plastic
blue_cup | z | ul | mug, cup, coffee mug, coffee cup | dish | container | * |  | ceramic, a handle
blue_marker | z | f | marker, pen, marker pen |  | tool, pencil | blue | black, gray | plastic
book_holder_1 | z | u | desk organizer, organizer, book holder |  | container, box, tray | * |  |
book_holder_2 | z | u | magazine holder, file holder, book holder |  | container, box, organizer | * |  |
conditioner | z | ul | conditioner, bottle, conditioner bottle \
    |  | container, shampoo, shampoo bottle, soap | blue | gray, white | plastic
correction_fluid | z | f | correction fluid, white out, correction pen \
    |  | pen, marker, tool, bottle, tube, lighter | blue | black, purple, white | plastic
flat_screwdriver | z | f | screwdriver, flathead screwdriver, flat screwdriver | tool |  |  | red, black, gray |
fork | z | f | fork | cutlery | tool, utensil |  | red, black | a red handle
glue_1 | z | ul | glue, glue bottle, bottle of glue, white glue, bottle \
    |  | container, tube | white | yellow, orange | plastic, a yellow cap
glue_2 | z | ul | glue, glue bottle, bottle |  | container, tube |  | white, gray, blue | plastic, a blue cap
knife | z | f | knife | cutlery | tool, utensil |  | red, black | a red handle
large_clamp | z | f | clamp, clip, spring clamp | tool | pliers | black | gray, orange, red |
large_marker | z | f | marker, pen, marker pen, expo marker |  | tool, pencil |  | white, black, gray | plastic
medium_clamp | z | f | clamp, clip, spring clamp | tool | pliers |  | gray, black, orange, red |
mini_claw_hammer_1 | z | f | hammer, claw hammer | tool |  |  | black, orange, gray, yellow |
orion_pie | z | b | pie box, box, snack box, cookie box | food | container, carton | red | black, brown |
phillips_screwdriver | z | f | screwdriver, phillips screwdriver | tool |  |  | blue, black, gray |
plastic_apple | z | r | apple | fruit, food | ball | red | brown, purple |
plastic_banana | z | f | banana | fruit, food |  | yellow | green |
plastic_lemon | z | r | lemon | fruit, food | ball | yellow | green |
plastic_orange | z | r | orange | fruit, food | ball | orange | red |
plastic_peach | z | r | peach | fruit, food | ball, apple, plum |  | red, orange, yellow |
plastic_pear | y | l | pear | fruit, food |  | green | yellow |
plastic_plum | z | r | plum | fruit, food | ball, apple | purple | red, black, brown |
plate_holder | z | u | dish rack, plate rack, rack, plate holder |  | stand | * |  |
poker_1 | z | b | deck of cards, cards, card box, playing cards, pack of cards \
    |  | box, card, container |  | black, red, white |
red_marker | z | f | marker, pen, marker pen |  | tool, pencil | red | black | plastic
remote_controller_1 | z | f | remote, remote control, tv remote |  | phone |  | gray, black, brown | plastic
remote_controller_2 | z | f | remote, remote control, tv remote |  | phone | gray | white, black, green | plastic
repellent | z | ul | spray bottle, spray, bottle, bug spray |  | container |  | green, blue | plastic
scissors | z | f | scissors, pair of scissors | tool |  |  | gray, orange, yellow, black |
shampoo | -y | ul | shampoo, shampoo bottle, bottle |  | container, conditioner, soap \
    | white | blue, brown, gray | plastic
small_clamp | z | f | clamp, clip, spring clamp | tool | pliers |  | gray, black, orange, red |
small_marker | z | f | marker, pen, marker pen |  | tool, pencil |  | white, black, gray | plastic
soap | z | f | soap, bar of soap |  | box, sponge | blue |  |
spoon | z | f | spoon | cutlery | tool, utensil |  | red, black | a red handle
stapler_1 | z | u | stapler | tool |  |  | green, gray, blue |
stapler_2 | z | f | stapler | tool |  |  | white, gray, brown |
suger_1 | z | ul | gum, gum container, tub, jar, candy jar | food | container, bottle, can, cup | green | yellow |
suger_2 | z | ul | gum, gum container, tub, jar, candy jar | food \
    | container, bottle, can, cup |  | white, red, blue |
toothpaste_1 | z | f | toothpaste, tube of toothpaste, tube |  | container, bottle | white | green, black |
"""
_OPENINGS = {"frying_pan": 0.09, "ramekin": 0.036, "plate": 0.1, "red_bowl": 0.065, "blue_cup": 0.033}


def _list(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split(",") if word.strip())


def _rows() -> dict[str, tuple[str, str, Words, bool]]:
    rows = {}
    for line in _TABLE.strip().splitlines():
        name, axis, poses, nouns, groups, maybe, colours, maybe_colours, rest = (c.strip() for c in line.split("|"))
        more = _list(rest)
        parts = tuple(word for word in more if " " in word)
        material = next((word for word in more if " " not in word), "")
        plain = colours == "*"
        words = Words(
            _list(nouns),
            _list(groups),
            _list(maybe),
            () if plain else _list(colours),
            _list(maybe_colours),
            material,
            (),
            parts,
        )
        rows[name] = (axis, poses, words, plain)
    return rows


# name: (axis, poses, words, whether it takes any colour)
SCANNED = _rows()


def upright(axis: str) -> np.ndarray:
    """(3, 3) rotation that turns a mesh's own `axis` (x, y, z, -x, -y, -z) upwards."""
    turn = {
        "x": ("y", -90.0),
        "y": ("x", 90.0),
        "z": ("x", 0.0),
        "-x": ("y", 90.0),
        "-y": ("x", -90.0),
        "-z": ("x", 180.0),
    }
    return turned(*turn[axis])


def resting(poses: str) -> tuple[tuple[float, np.ndarray], ...]:
    """Weighted rotations for the letters of the table above, from the upright pose."""
    found: list[tuple[float, np.ndarray]] = []
    for letter in poses:
        if letter in "uf":
            found.append((3.0, np.eye(3)))
        if letter in "lb":
            found += [(0.35, turned("x", 90)), (0.35, turned("y", 90)), (0.35, turned("x", -90))]
        if letter == "b":
            found.append((0.8, np.eye(3)))
        if letter == "r":
            found += [(0.3, turned("x", a) @ turned("y", b)) for a in (0, 50, 140) for b in (0, 35, -70)]
    return tuple(found)


@lru_cache(maxsize=256)
def _load(folder: Path, name: str) -> tuple[Mesh, np.ndarray | None]:
    axis, *_ = SCANNED[name]
    mesh = read_obj(folder / name / "mesh.obj")
    middle = (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    path = folder / name / "texture.jpg"
    return mesh.moved(shift=-middle).moved(upright(axis)), read_texture(path) if path.is_file() else None


@lru_cache(maxsize=64)
def read_texture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises DataError naming the file."""
    return read_image(path)


def scanned_names(folder: Path, split: str) -> list[str]:
    """The scanned things of a split that are in the folder. Raises DataError if there are none."""
    names = [
        name
        for name in SCANNED
        if (name in HELD_OUT) == (split == "heldout") and (folder / name / "mesh.obj").is_file()
    ]
    if not names:
        raise DataError(f"{folder}: no scanned object of the split {split!r} in it; --objects names the folder")
    return names


def texture_paths(folder: Path, split: str) -> list[Path]:
    """Textures for tables, floors and walls of a split (may be empty: plain colours and patterns serve as well)."""
    return [
        p for p in sorted((folder / "textures").glob("*.jpg")) if (p.stem in HELD_OUT_TEXTURES) == (split == "heldout")
    ]


def scanned(folder: Path, name: str) -> Item:
    """One scanned thing, as delivered; where it is `plain`, give it a colour by `making.painted`."""
    _, poses, words, plain = SCANNED[name]
    mesh, texture = _load(folder, name)
    return Item(
        name,
        mesh,
        words,
        resting(poses),
        None if plain else texture,
        opening=_OPENINGS.get(name, 0.0),
        flat_top="b" in poses or name in ("ycb_master_chef_can", "alphabet_soup", "ycb_potted_meat_can"),
    )
