"""The cut-outs that pictures are composed of: a folder of things with an alpha channel, and a table of what they are.

`ROOT/cutouts.json` is a list of {file, kind, colour, share, view, origin, render}: `kind` is the thing's name, `colour`
a colour word or null for a mixed one, `share` how much of it has that colour, `view` side, top or any.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from tqdm import tqdm

from jmceln_core.data.grounding import DataError, GroundingData
from jmceln_core.synthesis import colours
from jmceln_core.synthesis.composition.cutting import Cut, cuts_of
from jmceln_core.synthesis.rules import kinds
from jmceln_core.synthesis.tabletop.catalogue import HELD_OUT

Split = Literal["train", "heldout"]

PARTS, HELD_OUT_PART = 12, 5  # kinds whose name's hash leaves this remainder are the held-out split's
CERTAIN = 0.6  # share of a cut-out's pixels that must have its colour
PLAIN = 0.45  # and that make it look like one of that colour when it is dyed
_SAME_SCAN = {"YcbScissors", "chefmate_8_frypan"}  # objects that scenes hold out under another name
# What stands alone in a picture of a table: several things, or no thing at all.
_UNFIT = frozenset({
    "ceiling fan", "smoke detector", "rug", "piano", "wheelchair", "chair", "wooden chair", "stack of books",
    "cup and saucer", "music keyboard",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cutout:
    """One of them, its pixels still in the file."""

    path: Path
    kind: str
    colour: str | None  # a basic colour term that is certain, or None
    view: str
    plain: bool  # mostly of one colour: dyed, it looks like a thing of that colour
    pixels: tuple[np.ndarray, np.ndarray] | None = None  # where they were cut out of a picture at hand

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 RGB and (h, w) uint8 alpha, cropped to what is there. DataError naming a bad file."""
        return self.pixels or _load(self.path)


@lru_cache(maxsize=1024)
def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4 or not (pixels[..., 3] > 127).any():
        raise DataError(f"{path}: not a picture with an alpha channel; fetch it again or take it out of cutouts.json")
    x, y, w, h = cv2.boundingRect((pixels[..., 3] > 0).view(np.uint8))
    pixels = pixels[y : y + h, x : x + w]
    return np.ascontiguousarray(pixels[..., 2::-1]), np.ascontiguousarray(pixels[..., 3])


def is_held_out(kind: str) -> bool:
    """Whether a kind is the split `heldout`'s, and never trained on as a cut-out."""
    return zlib.crc32(kind.encode()) % PARTS == HELD_OUT_PART


def read_cutouts(root: Path, split: Split) -> dict[str, list[Cutout]]:
    """Kind -> cut-outs of a split, which share no kind.

    Views of objects that rendered held-out scenes show are in neither. Raises DataError naming the file if there is
    none, or if it is no such table.
    """
    table = root / "cutouts.json"
    found: dict[str, list[Cutout]] = defaultdict(list)
    try:
        for row in json.loads(table.read_text()):
            kind, origin, share = row["kind"], str(row["origin"]).split("#")[0], row["share"] or 0.0
            if (
                kind in _UNFIT
                or is_held_out(kind) != (split == "heldout")
                or (row["render"] and origin in HELD_OUT | _SAME_SCAN)
            ):
                continue
            colour = colours.BASIC.get(row["colour"], row["colour"]) if share >= CERTAIN else None
            found[kind].append(Cutout(root / row["file"], kind, colour, row["view"], share >= PLAIN))
    except FileNotFoundError:
        raise DataError(f"{table}: no such file; cut-outs are a folder with cutouts.json") from None
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{table}: not a table of cut-outs ({error!r})") from None
    if not found:
        raise DataError(f"{table}: no cut-out of the split {split!r} in it")
    return dict(sorted(found.items()))


def cuts_from(photographs: GroundingData) -> Iterator[Cut]:
    """What can be cut out cleanly of annotated photographs, with what was written of it. A picture that cannot be read
    has none: where it is wanted itself, this is said."""
    said = photographs.by_picture()
    for picture in tqdm(photographs.pictures.values(), "cuts", unit="picture", disable=None):
        try:
            rgb = picture.load()
        except DataError:
            continue
        yield from cuts_of(picture, rgb, [e for e in said[picture.id] if e.origin == "written"])


def cut_from(cuts: Iterable[Cut]) -> dict[str, list[Cutout]]:
    """Kind -> those that lie on tables."""
    found: dict[str, list[Cutout]] = defaultdict(list)
    for cut in cuts:
        if is_held_out(cut.category):
            continue
        if cut.category not in kinds.BENEATH and kinds.length(cut.category) <= kinds.ON_TABLE:
            named, _ = colours.name_pixels(cut.rgb[cut.alpha > 127])
            shares = colours.by_word(colours.shares(named))
            colour = max(shares, key=lambda c: shares[c])
            certain = colour if shares[colour] >= CERTAIN else None
            found[cut.category].append(
                Cutout(Path(), cut.category, certain, "any", shares[colour] >= PLAIN, (cut.rgb, cut.alpha))
            )
    return found
