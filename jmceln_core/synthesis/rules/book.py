"""The rules as data: what is said of things, in which words, each with an example that is tested.

A wording is a template: `{n}` is the noun phrase, `{a}` and `{b}` what it is related to, `{c}` a colour, part or
place.  Each has two weights: how often it is said of photographs (as the speakers of RefCOCO word it, short
and mostly without an article) and of rendered tables (as people speak to robots); 0 is never. When a rule holds is
measured by the world that it is said of: `placing` in photographs, `tabletop.facts` on rendered tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

Wordings = dict[str, float]
Pairs = dict[str, tuple[float, float]]

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
SHORT_ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th")
COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven")
COMMANDS: Pairs = {
    "pick up": (3, 1), "grab": (2, 1), "find": (2, 0), "show me": (1.5, 0), "get": (1, 1), "point at": (1, 0),
    "look at": (1, 0), "give me": (1, 1), "take": (1, 1), "where is": (1, 0), "go to": (1, 0), "hand me": (0, 1),
    "bring me": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A scene in which a sentence means these things, by their number from 1; and one in which it is not said.

    A photograph is drawn as "red cup 10 100 40 60, ...": colour (optional), kind, x, y, width and height in pixels of
    320 x 240; later things cover earlier ones, which is known where `covers` has the pair (front, back). A rendered
    table (`table`) is "red mug -15 0, ...": colour, noun, centimetres to the right and away from the camera; then, if
    wanted, the sides "5x5x12" in centimetres, "on 1", "in 1", "lying".
    """

    scene: str
    text: str
    means: tuple[int, ...]
    but: str = ""
    covers: tuple[tuple[int, int], ...] = ()
    table: bool = False


@dataclass(frozen=True)
class Rule:
    """One way to single things out. `kind` is a photograph's sentence's, `weight` how often it has such a one."""

    name: str
    kind: str
    weight: float
    wordings: Pairs
    examples: Sequence[Example]

    @cached_property
    def photograph(self) -> Wordings:
        """Templates with their weights in photographs."""
        return said_of(self.wordings, 0)

    @cached_property
    def table(self) -> Wordings:
        """Templates with their weights on rendered tables."""
        return said_of(self.wordings, 1)


def said_of(wordings: Pairs, world: int) -> Wordings:
    """What is ever said of photographs (0) or of rendered tables (1), with weights."""
    return {text: pair[world] for text, pair in wordings.items() if pair[world]}


def _on_table(scene: str, text: str, *means: int, but: str = "") -> Example:
    return Example(scene, text, means, but, table=True)


def _mirrored(rule: Rule) -> Rule:
    """The rule about the other side."""

    def turned(example: Example) -> Example:
        things = []
        for thing in example.scene.split(", "):
            before, numbers = _numbers(thing)
            across = -numbers[0] if example.table else 320 - numbers[0] - numbers[2]
            things.append(" ".join([*before, str(across), *map(str, numbers[1:])]))
        but = "" if not example.but else turned(replace(example, scene=example.but, but="")).scene
        return replace(example, scene=", ".join(things), text=example.text.replace("left", "right"), but=but)

    return replace(
        rule,
        name=rule.name.replace("left", "right"),
        wordings={text.replace("left", "right"): pair for text, pair in rule.wordings.items()},
        examples=[turned(example) for example in rule.examples],
    )


def _numbers(thing: str) -> tuple[list[str], list[int]]:
    words = thing.split()
    first = next(k for k, word in enumerate(words) if word.lstrip("-").isdigit())
    return words[:first], [int(word) for word in words[first:]]


_TWO = "cup 30 100 40 60, cup 230 100 40 60"
_ONE_ABOVE = "cup 140 30 40 40, cup 140 160 40 40"
_ROW = "cup 10 100 40 60, cup 70 100 40 60, cup 130 100 40 60, cup 190 100 40 60, cup 250 100 40 60"
_COLUMN = "cup 140 20 40 40, cup 140 80 40 40, cup 140 140 40 40, cup 140 195 40 40"
_FOUR = "cup 20 20 40 40, cup 250 20 40 40, cup 20 170 40 40, cup 250 170 40 40"
_AMID = "dog 20 100 40 40, cup 80 100 40 40, dog 140 100 40 40, cup 220 100 40 40"
_MUGS = "red mug -15 0, red mug 15 0"
_DEEP = "red mug -2 -12, red mug 2 15"
_THREE = "red mug -20 0, red mug 0 0, red mug 20 0"
_PENS = "red pen -15 0 8x2x2, red pen 15 0 8x2x2"

_LEFT = (
    Rule("left", "location", 4.0, {
        "left {n}": (5, 1), "{n} on left": (4, 1), "{n} on the left": (5, 1), "{n} left": (2, 1),
        "{n} to the left": (0.7, 1), "{n} on the left side": (0.6, 1), "{n} at left": (0.4, 0),
        "{n} on left side": (0.4, 0), "left side {n}": (0.2, 0),
    }, [Example(_TWO, "left cup", (1,), "cup 30 100 40 60, cup 42 30 40 60"),
        _on_table(_MUGS, "left mug", 1, but="red mug -15 0, red mug -15 20")]),
    Rule("far left", "location", 2.0, {
        "far left {n}": (3, 1), "{n} on far left": (2, 0), "leftmost {n}": (2, 1), "{n} on the far left": (3, 0),
        "{n} far left": (1.5, 0), "{n} farthest left": (0.4, 0), "{n} all the way to the left": (0.4, 0),
        "{n} furthest to the left": (0.4, 1),
    }, [Example(_ROW, "far left cup", (1,)), _on_table(_MUGS, "leftmost mug", 1, but="red mug -15 0")]),
    Rule("top left", "location", 1.5, {
        "top left {n}": (4, 1), "{n} top left": (3, 1), "{n} in the top left": (1, 1), "{n} on top left": (1, 0),
        "upper left {n}": (1.2, 1), "{n} upper left": (0.8, 0), "{n} at the top left": (1, 0),
        "{n} in the upper left": (0.5, 0),
    }, [Example(_FOUR, "top left cup", (1,), _FOUR + ", cup 50 50 40 40"),
        _on_table("red mug -15 15, red mug 15 -10", "top left mug", 1, but="red mug -15 -10, red mug 15 15")]),
    Rule("bottom left", "location", 1.5, {
        "bottom left {n}": (4, 1), "{n} bottom left": (3, 1), "{n} on bottom left": (1, 0),
        "{n} in the bottom left": (1, 1), "lower left {n}": (1.2, 1), "{n} lower left": (0.8, 0),
        "{n} at the bottom left": (1, 0),
    }, [Example(_FOUR, "bottom left cup", (3,), _FOUR + ", cup 50 140 40 40"),
        _on_table("red mug -15 -10, red mug 15 15", "bottom left mug", 1, but="red mug -15 15, red mug 15 -10")]),
    Rule("top left corner", "location", 1.2, {
        "{n} in top left corner": (2, 0), "{n} top left corner": (1.5, 0), "{n} in the top left corner": (2, 0),
        "{n} in the upper left corner": (1, 0),
    }, [Example("cup 0 0 40 40, cup 250 170 40 40", "cup in top left corner", (1,), _FOUR)]),
    Rule("bottom left corner", "location", 1.2, {
        "{n} in bottom left corner": (2, 0), "{n} bottom left corner": (1.5, 0),
        "{n} in the bottom left corner": (2, 0), "{n} in the lower left corner": (1, 0),
    }, [Example("cup 0 200 40 40, cup 250 20 40 40", "cup in bottom left corner", (1,), _FOUR)]),
    Rule("left of", "relation", 1.5, {
        "{n} left of {a}": (2, 1), "{n} to the left of {a}": (2, 1), "{n} on the left of {a}": (0.6, 1),
    }, [Example("cup 80 100 40 40, dog 145 100 40 40, cup 240 100 40 40", "cup left of the dog", (1,),
                "cup 80 100 40 40, dog 145 100 40 40, cup 140 20 40 40"),
        _on_table("red mug -15 0, blue bowl 0 0, red mug 15 0", "mug left of the bowl", 1,
                  but="red mug -15 0, blue bowl 0 0, red mug -25 0")]),
    Rule("bare left", "location", 0.7, {
        "left": (2, 0), "left one": (4, 0), "one on the left": (1.5, 0), "one on left": (0.5, 0),
    }, [Example(_TWO, "left one", (1,), _TWO + ", dog 120 20 60 40")]),
    Rule("bare far left", "location", 0.7, {
        "far left": (2, 0), "far left one": (4, 0), "one on the far left": (1.5, 0), "one on far left": (0.5, 0),
    }, [Example(_ROW, "far left one", (1,), _ROW + ", dog 120 20 60 40")]),
    Rule("bare top left", "location", 0.7, {
        "top left": (2, 0), "top left one": (2, 0), "one on the top left": (1, 0),
    }, [Example(_FOUR, "top left one", (1,), _FOUR + ", dog 140 100 40 40")]),
    Rule("bare bottom left", "location", 0.7, {
        "bottom left": (2, 0), "bottom left one": (2, 0), "one on the bottom left": (1, 0),
    }, [Example(_FOUR, "bottom left one", (3,), _FOUR + ", dog 140 100 40 40")]),
)  # fmt: skip

_PLACES = (
    Rule("top", "location", 1.3, {
        "top {n}": (4, 1), "{n} on top": (1.5, 0), "{n} at the top": (3, 1), "upper {n}": (1.2, 1),
        "{n} at top": (0.8, 1), "highest {n}": (0.5, 0),
    }, [Example(_ONE_ABOVE, "top cup", (1,), _TWO), _on_table(_DEEP, "mug at the top", 2, but=_MUGS)]),
    Rule("bottom", "location", 1.3, {
        "bottom {n}": (4, 1), "{n} on bottom": (1.5, 0), "{n} at the bottom": (3, 1), "lower {n}": (1.2, 1),
        "lowest {n}": (0.8, 0), "{n} at bottom": (0, 1),
    }, [Example(_ONE_ABOVE, "bottom cup", (2,), _TWO), _on_table(_DEEP, "mug at bottom", 1, but=_MUGS)]),
    Rule("far top", "location", 1.0, {"{n} closest to the top": (0, 1)},
         [_on_table(_DEEP, "mug closest to the top", 2, but=_MUGS)]),
    Rule("far bottom", "location", 1.0, {"{n} closest to the bottom": (0, 1)},
         [_on_table(_DEEP, "mug closest to the bottom", 1, but=_MUGS)]),
    Rule("middle", "location", 4.0, {
        "middle {n}": (5, 1), "{n} in middle": (3, 1), "{n} in the middle": (5, 1), "center {n}": (1.5, 1),
        "{n} in center": (0.8, 0), "{n} in the center": (0.8, 0), "{n} middle": (1, 0),
    }, [Example(_ROW, "middle cup", (3,), _COLUMN), _on_table(_THREE, "middle mug", 2, but=_MUGS)]),
    Rule("bare top", "location", 0.7, {
        "top": (1, 0), "top one": (3, 0), "one on top": (1, 0), "one at the top": (1, 0),
    }, [Example(_ONE_ABOVE, "top one", (1,), _ONE_ABOVE + ", dog 20 100 40 40")]),
    Rule("bare bottom", "location", 0.7, {"bottom": (1, 0), "bottom one": (3, 0), "one at the bottom": (1, 0)},
         [Example(_ONE_ABOVE, "bottom one", (2,), _ONE_ABOVE + ", dog 20 100 40 40")]),
    Rule("bare middle", "location", 0.7, {
        "middle": (2, 0), "middle one": (3, 0), "one in the middle": (2, 0), "center one": (0.7, 0), "center": (0.5, 0),
    }, [Example(_ROW, "middle one", (3,), _ROW + ", dog 120 20 60 40")]),
    Rule("ordinal", "ordinal", 3.0, {
        "{number} {n} from {end}": (3, 2), "{number} {n} from the {end}": (3, 4), "{n} {number} from {end}": (1.5, 0),
        "{short} {n} from {end}": (1, 1), "{short} {n} from the {end}": (0, 2), "{n} {short} from {end}": (0.7, 0),
    }, [Example(_ROW, "second cup from left", (2,), _TWO), Example(_ROW, "4th cup from left", (4,), _COLUMN),
        _on_table(_THREE, "second mug from the left", 2, but=_MUGS),
        _on_table(_THREE, "3rd mug from the right", 1, but=_MUGS)]),
    Rule("bare ordinal", "ordinal", 3.0, {
        "{number} from {end}": (4, 0), "{number} from the {end}": (1.5, 0), "{short} from {end}": (1.2, 0),
    }, [Example(_ROW, "second from right", (4,), _ROW + ", dog 120 20 60 40")]),
    Rule("bare ordinal one", "ordinal", 3.0, {"{number} one from the {end}": (0.7, 0)},
         [Example(_ROW, "first one from the left", (1,), _ROW + ", dog 120 20 60 40")]),
    Rule("ordinal in a column", "ordinal", 3.0, {
        "{number} {n} from the {end}": (3, 0), "{n} {number} from the {end}": (1.5, 0),
        "{short} {n} from the {end}": (1, 0), "{n} {short} from the {end}": (0.7, 0),
    }, [Example(_COLUMN, "second cup from the top", (2,), _ROW)]),
    Rule("bare ordinal in a column", "ordinal", 3.0, {
        "{number} from the {end}": (1.5, 0), "{short} from the {end}": (1.2, 0),
    }, [Example(_COLUMN, "third from the top", (3,), _COLUMN + ", dog 20 100 40 40")]),
    Rule("second to last", "ordinal", 1.0, {"second to {end}most {n}": (0, 3)},
         [_on_table(_THREE + ", red mug 30 0", "second to leftmost mug", 2, but=_THREE)]),
)  # fmt: skip

_SIZES = (
    Rule("biggest", "size", 2.0, {"biggest {n}": (3, 1), "largest {n}": (2.5, 1), "big {n}": (2, 1)},
         [Example("cup 20 60 110 110, cup 180 80 60 60, cup 250 80 60 60", "biggest cup", (1,),
                  "cup 20 60 66 64, cup 180 80 60 60, cup 250 80 60 60"),
          _on_table("red mug -15 0 9x9x9, red mug 0 0, red mug 15 0", "largest mug", 1, but=_THREE)]),
    Rule("bigger", "size", 2.0, {
        "bigger {n}": (3, 1), "larger {n}": (2.5, 1), "big {n}": (2.5, 1), "large {n}": (1, 0),
    }, [Example("cup 20 60 110 110, cup 180 80 60 60", "bigger cup", (1,), "cup 20 60 66 64, cup 180 80 60 60"),
        _on_table("red mug -15 0 9x9x9, red mug 15 0", "bigger mug", 1, but=_MUGS)]),
    Rule("smallest", "size", 1.5, {
        "smallest {n}": (3, 1), "small {n}": (2, 1), "little {n}": (0.8, 0), "tiny {n}": (0.3, 0),
        "littlest {n}": (0, 1),
    }, [Example("cup 20 60 100 100, cup 130 60 100 100, cup 250 80 50 50", "smallest cup", (3,), _ROW),
        _on_table("red mug -15 0, red mug 0 0 9x9x9, red mug 15 0 9x9x9", "littlest mug", 1, but=_THREE)]),
    Rule("smaller", "size", 1.5, {"smaller {n}": (4, 2), "small {n}": (2.5, 1), "little {n}": (0.8, 0)},
         [Example("cup 20 60 110 110, cup 180 80 60 60", "smaller cup", (2,), "cup 20 60 66 64, cup 180 80 60 60"),
          _on_table("red mug -15 0 9x9x9, red mug 15 0", "smaller mug", 2, but=_MUGS)]),
    Rule("closest", "size", 2.0, {
        "closest {n}": (3, 1), "{n} closest to us": (2, 1), "{n} in front": (3, 1), "front {n}": (3, 1),
        "nearest {n}": (1, 1), "{n} closest to the camera": (1, 0), "{n} closest": (0.7, 0),
        "{n} in the front": (1, 1), "{n} nearest to us": (0.5, 0), "{n} nearest the camera": (0.4, 0),
        "{n} in the foreground": (0.7, 0), "{n} nearest to the camera": (0, 1),
    }, [Example("car 20 60 60 40, car 150 90 130 120", "closest car", (2,), "car 20 60 60 40, car 150 60 130 40"),
        _on_table(_DEEP, "closest mug", 1, but=_MUGS)]),
    Rule("farthest", "size", 1.2, {
        "farthest {n}": (1.5, 1), "{n} in back": (2, 1), "back {n}": (2, 1), "{n} in the back": (3, 1),
        "{n} in background": (1, 0), "{n} farthest away": (1, 0), "{n} in the background": (1.5, 0),
        "{n} furthest away": (0.7, 1), "{n} at the back": (0, 1),
    }, [Example("car 20 60 60 40, car 150 90 130 120", "farthest car", (1,), "car 20 60 60 40, car 150 60 130 40"),
        _on_table(_DEEP, "mug at the back", 2, but=_MUGS)]),
    Rule("second biggest", "size", 1.5, {
        "second biggest {n}": (3, 0), "second largest {n}": (2, 0), "2nd biggest {n}": (0.7, 0),
    }, [Example("cup 10 60 120 120, cup 140 60 80 80, cup 230 60 40 40", "second biggest cup", (2,), _ROW)]),
    Rule("second smallest", "size", 0.7, {"second smallest {n}": (3, 0), "2nd smallest {n}": (0.7, 0)},
         [Example("cup 5 60 130 130, cup 140 60 90 90, cup 235 60 50 50, cup 290 60 24 24", "second smallest cup", (3,),
                  _ROW)]),
    Rule("tallest", "size", 1.0, {"tallest {n}": (0, 2), "tall {n}": (0, 1)},
         [_on_table("red mug -15 0 5x5x12, red mug 0 0 5x5x6, red mug 15 0 5x5x6", "tallest mug", 1, but=_THREE)]),
    Rule("taller", "size", 1.0, {"taller {n}": (0, 2), "tall {n}": (0, 1)},
         [_on_table("red mug -15 0 5x5x12, red mug 15 0 5x5x6", "taller mug", 1, but=_MUGS)]),
    Rule("shortest", "size", 1.0, {"shortest {n}": (0, 2), "short {n}": (0, 1)},
         [_on_table("red mug -15 0 5x5x6, red mug 0 0 5x5x12, red mug 15 0 5x5x12", "shortest mug", 1, but=_THREE)]),
    Rule("shorter", "size", 1.0, {"shorter {n}": (0, 2), "short {n}": (0, 1)},
         [_on_table("red mug -15 0 5x5x12, red mug 15 0 5x5x6", "shorter mug", 2, but=_MUGS)]),
    Rule("longest", "size", 1.0, {"longest {n}": (0, 2), "long {n}": (0, 1)},
         [_on_table("red pen -16 0 14x2x2, red pen 0 0 8x2x2, red pen 15 0 8x2x2", "longest pen", 1, but=_PENS)]),
    Rule("longer", "size", 1.0, {"longer {n}": (0, 2), "long {n}": (0, 1)},
         [_on_table("red pen -15 0 14x2x2, red pen 15 0 8x2x2", "longer pen", 1, but=_PENS)]),
)  # fmt: skip

_HIDING = "dog 60 80 60 60, dog 90 90 60 60"
_COVERING = "hammer 60 80 60 60, hammer 90 90 60 60"
_BOTH = "dog 60 80 60 60, cup 90 90 60 60"
_TOOLS = "hammer 60 80 60 60, wrench 90 90 60 60"


def _hiding(scene: str, text: str, *means: int) -> Example:
    """The second thing is known to hide a part of the first."""
    return Example(scene, text, means, covers=((2, 1),), but="")


_RELATIONS = (
    Rule("in front", "relation", 4.0, {
        "{n} in front": (3, 0), "front {n}": (3, 0), "{n} in the front": (1.5, 0),
        "{n} in front of the other one": (2, 0), "{n} up front": (0.5, 0), "{n} in front of the other {n}": (1, 0),
    }, [_hiding(_HIDING, "dog in front", 2)]),
    Rule("behind the other", "relation", 4.0, {
        "{n} behind": (2, 0), "{n} in back": (2, 0), "back {n}": (2, 0), "{n} in the back": (2, 0),
        "{n} behind the other one": (2.5, 0), "{n} behind the other {n}": (1, 0), "partly hidden {n}": (1, 0),
        "{n} that is partly hidden": (0.7, 0),
    }, [_hiding(_HIDING, "dog behind the other one", 1)]),
    Rule("on top of the other", "relation", 3.0, {
        "{n} on top of the other one": (2, 0), "{n} on top of the other {n}": (1, 0),
        "{n} lying on the other one": (0.7, 0),
    }, [_hiding(_COVERING, "hammer on top of the other one", 2)]),
    Rule("under the other", "relation", 3.0, {
        "{n} under the other one": (2, 0), "{n} underneath": (1.5, 0), "{n} under the other {n}": (1, 0),
        "{n} beneath the other one": (0.7, 0), "partly covered {n}": (1, 0), "{n} that is partly covered": (0.7, 0),
    }, [_hiding(_COVERING, "hammer underneath", 1)]),
    Rule("just right of", "relation", 1.5, {"{n} just right of {a}": (0, 1)},
         [_on_table("red mug 15 0, blue bowl 0 0, red mug -15 0", "mug just right of the bowl", 1,
                    but="red mug 15 0, blue bowl 0 0, red mug 25 0")]),
    Rule("above", "relation", 1.0, {"{n} above {a}": (3, 0), "{n} right above {a}": (0.5, 0), "{n} over {a}": (0.5, 0)},
         [Example("cup 145 50 40 40, dog 145 100 40 40, cup 145 160 40 40", "cup above the dog", (1,),
                  "cup 145 50 40 40, dog 145 100 40 40, cup 100 50 40 40")]),
    Rule("below", "relation", 1.0, {"{n} below {a}": (3, 0), "{n} beneath {a}": (0.4, 0)},
         [Example("cup 145 50 40 40, dog 145 100 40 40, cup 145 160 40 40", "cup below the dog", (3,),
                  "cup 145 150 40 40, dog 145 100 40 40, cup 100 150 40 40")]),
    Rule("next to", "relation", 2.0, {
        "{n} next to {a}": (4, 1), "{n} beside {a}": (1.5, 1), "{n} by {a}": (1.5, 1), "{n} near {a}": (1, 1),
        "{n} right next to {a}": (0.7, 1),
    }, [Example("cup 100 100 40 40, dog 145 100 40 40, cup 10 100 40 40", "cup next to the dog", (1,),
                "cup 100 100 40 40, dog 145 100 40 40, cup 200 100 40 40"),
        _on_table("red mug -6 0, blue bowl 0 0, red mug 25 0", "mug beside the bowl", 1,
                  but="red mug -6 0, blue bowl 0 0, red mug 6 0")]),
    Rule("riding", "relation", 3.0, {"{n} on {a}": (4, 0), "{n} riding {a}": (2, 0)},
         [Example("horse 100 100 90 90, person 120 50 40 85, person 260 60 40 130", "person riding the horse", (2,),
                  "horse 100 100 90 90, person 120 50 40 150, person 260 60 40 130")]),
    Rule("on a seat", "relation", 2.0, {"{n} on {a}": (3, 0), "{n} sitting on {a}": (1, 0)},
         [Example("bench 40 120 120 80, person 60 80 50 90, person 240 60 50 150", "person sitting on the bench", (2,),
                  "bench 40 120 120 80, person 60 80 50 150, person 240 60 50 150")]),
    Rule("with", "relation", 2.5, {"{n} with {a}": (4, 0)},
         [Example("person 40 60 50 150, umbrella 85 70 40 40, person 220 60 50 150", "person with the umbrella", (1,),
                  "person 40 60 50 150, umbrella 85 70 140 40, person 220 60 50 150")]),
    Rule("on", "relation", 1.2, {"{n} on {a}": (3, 1)},
         [Example("dining table 20 100 120 120, cup 60 110 30 40, cup 220 110 30 40", "cup on the table", (2,),
                  "dining table 20 100 220 120, cup 60 110 30 40, cup 180 110 30 40"),
          _on_table("red plate 0 0 20x20x1, blue mug 0 0 in 1, blue mug 25 0", "mug on the plate", 2,
                    but="red plate 0 0 20x20x1, blue mug 20 0, blue mug 25 0")]),
    Rule("in", "relation", 1.2, {"{n} in {a}": (2, 2), "{n} on {a}": (1, 0), "{n} inside {a}": (0, 1)},
         [Example("bowl 60 100 120 100, apple 100 120 30 30, apple 240 120 30 30", "apple in the bowl", (2,),
                  "bowl 60 100 120 100, apple 100 120 30 30, apple 140 120 30 30"),
          _on_table("red bowl 0 0 20x20x1, blue mug 0 0 in 1, blue mug 25 0", "mug inside the bowl", 2,
                    but="red bowl 0 0 20x20x1, blue mug 20 0, blue mug 25 0")]),
    Rule("behind", "relation", 3.0, {
        "{n} behind {a}": (4, 2), "{n} in back of {a}": (0.4, 1), "{n} partly hidden by {a}": (0.7, 0),
    }, [_hiding(_BOTH, "dog behind the cup", 1),
        _on_table("blue bowl 0 -5, red mug 0 15, red mug 15 -20", "mug behind the bowl", 2,
                  but="blue bowl 0 -5, red mug 0 15, red mug 4 20")]),
    Rule("in front of", "relation", 3.0, {"{n} in front of {a}": (4, 1)},
         [_hiding(_BOTH, "cup in front of the dog", 2),
          _on_table("blue bowl 0 5, red mug 0 -15, red mug 15 20", "mug in front of the bowl", 2,
                    but="blue bowl 0 5, red mug 0 -15, red mug 4 -20")]),
    Rule("under", "relation", 2.5, {
        "{n} under {a}": (3, 1), "{n} underneath {a}": (0.7, 1), "{n} beneath {a}": (0.7, 0),
        "{n} partly covered by {a}": (0.7, 0), "{n} below {a}": (0, 1),
    }, [_hiding(_TOOLS, "hammer under the wrench", 1),
        _on_table("blue box 0 0 9x9x5, red mug 0 0 on 1, blue box 20 0 9x9x5", "box below the mug", 1,
                  but="blue box 0 0 9x9x5, red mug -15 0, blue box 20 0 9x9x5")]),
    Rule("on top of", "relation", 2.5, {
        "{n} on top of {a}": (3, 1), "{n} lying on {a}": (1, 0), "{n} on {a}": (0, 2), "{n} sitting on {a}": (0, 1),
    }, [_hiding(_TOOLS, "wrench on top of the hammer", 2),
        _on_table("blue box 0 0 9x9x5, red mug 0 0 on 1, red mug 20 0", "mug sitting on the box", 2,
                  but="blue box 0 0 9x9x5, red mug -15 0, red mug 20 0")]),
    Rule("holding", "relation", 1.0, {
        "{n} with {a} in it": (0, 1), "{n} with {a} inside it": (0, 1), "{n} holding {a}": (0, 1),
    }, [_on_table("red bowl 0 0 20x20x1, blue mug 0 0 in 1, red bowl 30 0 20x20x1", "bowl holding the mug", 1,
                    but="red bowl 0 0 20x20x1, blue mug 15 10, red bowl 30 0 20x20x1")]),
    Rule("with on it", "relation", 1.0, {"{n} with {a} on it": (0, 1)},
         [_on_table("red plate 0 0 20x20x1, blue mug 0 0 in 1, red plate 30 0 20x20x1", "plate with the mug on it", 1,
                    but="red plate 0 0 20x20x1, blue mug 15 10, red plate 30 0 20x20x1")]),
    Rule("between", "relation", 1.0, {
        "{n} between the {a} and the {b}": (2, 1), "{n} between {a} and {b}": (1, 0),
    },
         [Example("dog 20 100 40 40, cup 80 100 40 40, sheep 140 100 40 40, cup 220 100 40 40",
                  "cup between the dog and the sheep", (2,),
                  "dog 20 100 40 40, cup 80 100 40 40, sheep 200 100 40 40, cup 140 100 40 40"),
          _on_table("green box -15 0, red mug 0 0, blue bowl 15 0, red mug 25 0", "mug between the box and the bowl", 2,
                    but="green box -15 0, red mug 0 10, blue bowl 15 0, red mug 5 5")]),
    Rule("between two", "relation", 1.0, {"{n} between the two {a}": (2, 0), "{n} between {a}": (0.7, 0)},
         [Example(_AMID, "cup between the two dogs", (2,),
                  "dog 20 100 40 40, cup 80 100 40 40, dog 200 100 40 40, cup 140 100 40 40")]),
)  # fmt: skip

_CUPS = "red cup 20 90 50 50, blue cup 90 90 50 50, red cup 160 90 50 50"
_PEOPLE = "red person 40 60 50 150, blue person 220 60 50 150"
_COLOURS = "red mug -15 0, blue mug 15 0"

_LOOKS = (
    Rule("name", "category", 4.0, {"{n}": (1, 1)},
         [Example("cup 30 100 40 60, dog 230 100 60 60", "cup", (1,), _TWO),
          _on_table("red mug -15 0, blue bowl 15 0", "mug", 1, but=_MUGS)]),
    Rule("colour", "colour", 6.0, {"{c} {n}": (1, 1)},
         [Example(_CUPS, "blue cup", (2,), _CUPS + ", blue cup 230 90 50 50"),
          _on_table(_COLOURS, "red mug", 1, but=_MUGS)]),
    Rule("clothes", "colour", 6.0, {"{n} in {c}": (4, 0), "{n} wearing {c}": (1, 0)},
         [Example(_PEOPLE, "person in red", (1,), "red person 40 60 50 150, red person 220 60 50 150")]),
    Rule("material", "attribute", 1.0, {"{c} {n}": (0, 1)},
         [_on_table("wooden mug -15 0, red mug 15 0", "wooden mug", 1, but="wooden mug -15 0, wooden mug 15 0")]),
    Rule("part", "attribute", 1.0, {"{n} with the {c}": (0, 1), "{n} with {a c}": (0, 1)},
         [_on_table("lidded jar -15 0, lidless jar 15 0", "jar with a lid", 1,
                   but="lidded jar -15 0, lidded jar 15 0")]),
    Rule("lying", "attribute", 1.0, {
        "{n} on its side": (0, 1), "{n} lying down": (0, 1), "{n} lying on its side": (0, 1), "fallen {n}": (0, 1),
        "{n} that fell over": (0, 1),
    }, [_on_table("red bottle -15 0 lying, red bottle 15 0", "fallen bottle", 1,
                  but="red bottle -15 0, red bottle 15 0")]),
    Rule("upright", "attribute", 1.0, {
        "upright {n}": (0, 1), "standing {n}": (0, 1), "{n} standing up": (0, 1), "{n} that is upright": (0, 1),
    }, [_on_table("red bottle -15 0 lying, red bottle 15 0", "upright bottle", 2,
                  but="red bottle -15 0, red bottle 15 0")]),
    Rule("empty", "attribute", 1.0, {"empty {n}": (0, 2), "{n} with nothing in it": (0, 1)},
         [_on_table("red bowl 0 0 20x20x1, blue mug 0 0 in 1, red bowl 30 0 20x20x1", "empty bowl", 3,
                    but="red bowl 0 0 20x20x1, red bowl 30 0 20x20x1")]),
    Rule("not the colour", "negation", 1.5, {
        "{n} that {be} not {c}": (3, 1), "{n} that {be}n't {c}": (2, 1), "{n} that's not {c}": (0, 1),
    }, [Example(_CUPS, "cup that is not red", (2,), _CUPS + ", blue cup 230 90 50 50"),
        _on_table(_COLOURS, "mug that's not blue", 1, but=_MUGS)]),
    Rule("not in the colour", "negation", 1.5, {"{n} not in {c}": (2, 0), "{n} not wearing {c}": (2, 0)},
         [Example(_PEOPLE, "person not wearing blue", (1,), "red person 40 60 50 150, red person 220 60 50 150")]),
    Rule("not on the side", "negation", 0.7, {"{n} that {be} not on the {end}": (2, 0), "{n} not on the {end}": (1, 0)},
         [Example(_TWO, "cup not on the right", (1,), _ONE_ABOVE)]),
    Rule("without the part", "negation", 1.0, {
        "{n} without {a c}": (0, 1), "{n} that has no {c}": (0, 1), "{n} with no {c}": (0, 1),
    }, [_on_table("lidded jar -15 0, lidless jar 15 0", "jar with no lid", 2,
                 but="lidless jar -15 0, lidless jar 15 0")]),
    Rule("not there", "negation", 1.0, {
        "{n} that is not {c}": (0, 1), "{n} not {c}": (0, 1), "{n} that isn't {c}": (0, 1),
    }, [_on_table("red bowl 0 0 20x20x1, blue mug 0 0 in 1, blue mug 25 0", "mug that isn't in the bowl", 3,
                  but="red bowl 0 0 20x20x1, blue mug 20 0, blue mug 25 0")]),
)  # fmt: skip

_SEVERAL = (
    Rule("several", "plural", 3.0, {"{n}": (2, 0), "the {n}": (1, 1)},
         [Example(_TWO, "the cups", (1, 2), "cup 30 100 40 60"), _on_table(_THREE, "the mugs", 1, 2, 3, but=_COLOURS)]),
    Rule("all", "plural", 3.0, {"all the {n}": (1.5, 1), "all {n}": (1, 1)},
         [Example(_TWO, "all the cups", (1, 2)), _on_table(_THREE, "all mugs", 1, 2, 3, but="red mug -15 0")]),
    Rule("both", "plural", 3.0, {
        "both {n}": (4, 1), "the two {n}": (1.5, 1), "two {n}": (0.5, 0), "both the {n}": (0, 1),
    }, [Example(_TWO, "both cups", (1, 2), _ROW), Example(_CUPS, "both red cups", (1, 3), _ROW),
        _on_table(_MUGS, "both the mugs", 1, 2, but=_THREE)]),
    Rule("counted", "plural", 3.0, {"the {count} {n}": (1, 1), "all {count} {n}": (1.5, 1)},
         [Example(_ROW, "all five cups", (1, 2, 3, 4, 5), _TWO),
          _on_table(_THREE, "the three mugs", 1, 2, 3, but=_MUGS)]),
    Rule("several on the side", "plural", 1.0, {"{n} on the {end}": (1, 0)},
         [Example("cup 10 60 40 40, cup 60 140 40 40, cup 250 100 40 40", "both cups on the left", (1, 2), _ROW)]),
)  # fmt: skip

_NOTHING = (
    Rule("wrong colour", "absent", 0.4, {}, [Example(_CUPS, "green cup", (), _CUPS + ", green cup 230 90 50 50")]),
    Rule("empty side", "absent", 0.5, {},
         [Example("cup 230 100 40 60, cup 270 30 40 60", "left cup", (), _TWO)]),
    Rule("beyond the last", "absent", 0.4, {
        "{number} {n} from the {end}": (2, 0), "{number} {n} from {end}": (1, 0),
    }, [Example(_TWO, "third cup from the left", (), _ROW)]),
    Rule("relation that fails", "absent", 0.08, {},
         [Example("cup 20 100 40 40, dog 245 100 40 40", "cup right of the dog", (),
                 "dog 20 100 40 40, cup 75 100 40 40")]),
    Rule("missing kind", "absent", 1.0, {"{n}": (1, 0)}, [Example(_TWO, "zebra", (), "zebra 30 100 40 60")]),
    Rule("missing kind at a side", "absent", 1.0, {"{n} on the left": (0.05, 0), "{n} on the right": (0.05, 0)},
         [Example(_TWO, "zebra on the left", (), "zebra 30 100 40 60")]),
)  # fmt: skip

RULES = {
    rule.name: rule
    for rule in (*_LEFT, *map(_mirrored, _LEFT), *_PLACES, *_SIZES, *_RELATIONS, *_LOOKS, *_SEVERAL, *_NOTHING)
}
