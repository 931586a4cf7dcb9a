"""Which written sentences stay true when a picture is composed of parts of others (`compose`).

A sentence was written by somebody who looked at another picture, so only what surely does not depend on that picture is
kept, judged by its words. Where a word is in doubt, the sentence is dropped: there are always more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from jmceln_core.synthesis import colours, vocabulary
from jmceln_core.synthesis.rules.photograph import Scene
from jmceln_core.synthesis.rules.placing import Thing

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


def set_of(text: str) -> frozenset[str]:
    """The words of a text, between spaces."""
    return frozenset(text.split())


# Words that place a thing in its picture.
PLACE = set_of(
    """left right lefthand righthand leftmost rightmost top bottom topmost upper lower uppermost lowermost up down mid
    middle center centre central side sides corner edge edges end ends front back rear behind foreground background near
    close far next beside besides between among amid around above below under underneath beneath over across along
    against inside outside opposite facing towards toward by from at to away off on first second third fourth fifth
    sixth last 1st 2nd 3rd 4th row column line here there where high highest low lowest distance distant frame picture
    image pic photo camera us me you viewer screen tilted diagonal vertical horizontal upside upright slanted
    sideways"""
)
# Words that compare it with others, or count it.
_COMPARED = set_of(
    """big large small little tiny huge giant mini medium long short tall thick thin wide narrow more most less least
    other others another same only both two three four five six all pair group couple several many each every single
    alone lone different rest whichever one's than bunch pile stack lots set"""
)
# Words that say how much of it could be seen.
_SEEN = set_of(
    """partial partially partly half halfway cut cropped blocked hidden visible barely seen shown blurry blurred covered
    obscured mostly part piece whole shadow reflection says poster attached stuck parked served"""
)
_POSES = set_of("wearing sitting standing lying laying walking running jumping smiling laughing sleeping")
_ER = set_of(  # words that end like comparatives and are none
    """silver leather hammer screwdriver driver cutter cutters pliers player computer water flower flowers paper sweater
    jumper slipper slippers copper rubber tiger deer otter drawer drawers toaster dryer drier zipper pepper butter beer
    cover washer letter letters finger fingers shoulder shoulders trailer scooter cruiser power bumper mixer blender
    roller rider skier surfer skater snowboarder skateboarder batter pitcher catcher toddler teenager soldier worker
    officer singer speaker chopper boxer setter retriever terrier shepherd river feather burger winter summer inner
    forest vest chest rest west whiskers stickers her sneakers trousers suspenders"""
)
# What somebody has on, so that it is cut out together with them, and how it is described.
_WORN = set_of(
    """shirt tee t shirts jacket coat sweater hoodie vest suit dress skirt pants trousers jeans shorts leggings uniform
    jersey robe clothes clothing outfit top blouse polo sweatshirt helmet hat cap beanie scarf glasses sunglasses shoes
    boots sneakers sandals tracksuit coveralls swimsuit hair beard stripes striped plaid checkered denim khakis camo
    reflective dark light blue red green yellow orange purple pink brown black white gray grey navy tan beige maroon
    teal turquoise olive khaki gold silver cream lime peach mint aqua salmon burgundy colorful bright and with a the an
    pale deep floral patterned hooded sleeveless leather long blond blonde"""
)
_FEMALE = set_of("woman women lady girl female she her")
_MALE = set_of("man men guy boy male gentleman he his dude")
_SHADES = {"grey": "gray", "navy": "blue", "golden": "yellow", "silver": "gray", "maroon": "red", "teal": "green"}


def words_of(text: str) -> list[str]:
    """The words of a sentence in lower case."""
    return _WORD.findall(text.lower())


@lru_cache(maxsize=1)
def _kinds_of_name() -> dict[str, frozenset[str]]:
    """Every name anybody may use for a thing, singular and plural, with the categories it may mean."""
    found: dict[str, set[str]] = {}
    for category in vocabulary.known_categories():
        for name in vocabulary.names_of(category).heard:
            for form in (name, vocabulary.plural(name), name + "s"):
                found.setdefault(form, set()).add(category)
    return {name: frozenset(categories) for name, categories in found.items()}


def names_in(text: str) -> list[str]:
    """The names of things in a sentence, the longest ones that fit, in order: "boy with red backpack" has two."""
    words, known = words_of(text), _kinds_of_name()
    found, k = [], 0
    while k < len(words):
        name = next((n for n in (" ".join(words[k : k + size]) for size in (3, 2, 1)) if n in known), "")
        if name:
            found.append(name)
        k += len(name.split()) or 1
    return found


def noun_of(text: str, category: str) -> str:
    """The name, singular or plural, that a sentence calls a thing of this category by; empty if it has none, or also
    names things of other categories."""
    heard = vocabulary.names_of(category).heard
    own = heard | {vocabulary.plural(name) for name in heard}
    names = [name for name in names_in(text) if name in own or name not in _WORN]
    return names[0] if names and all(name in own for name in names) else ""


def is_appearance(text: str, category: str) -> bool:
    """Whether the sentence says a name of the thing and what it looks like, and nothing about its surroundings, its
    size or what it does to others: "dark red pliers", "man in black sweater"."""
    words = words_of(text)
    if not noun_of(text, category) or any(_depends(word) for word in words if word not in ("top", "long")):
        return False
    for k, word in enumerate(words):
        dressed = category == "person" and set(words[k + 1 :]) <= _WORN
        if word == "in" and not dressed:
            return False
        if word in ("with", "of") and category == "person" and not dressed:
            return False
        if word in ("top", "long") and not (k and category == "person" and words[k - 1] in _WORN):
            return False
    return True


def _depends(word: str) -> bool:
    """Whether a word says something of the picture, not of the thing alone."""
    if word in PLACE or word in _COMPARED or word in _SEEN:
        return True
    if word.endswith("ing"):
        return word not in _POSES and len(word) > 5
    return word.endswith(("er", "est")) and len(word) > 3 and word not in _ER and word not in _kinds_of_name()


def is_plain(text: str, category: str) -> bool:
    """Whether the sentence names the thing and no other kind of thing, and compares or places it at most among its
    own kind: "dog on the left", "second hammer from the top"."""
    relative = {"other", "others", "another", "rest", "next", "beside", "between", "behind", "front"}
    return bool(noun_of(text, category)) and relative.isdisjoint(words_of(text))


def colours_in(text: str) -> list[str]:
    """The basic colour terms of a sentence."""
    return [c for c in (_SHADES.get(word, word) for word in words_of(text)) if c in colours.NAMES]


def sex(texts: Iterable[str]) -> str:
    """ "female" or "male" where all that is said about a person agrees, else empty."""
    words = {word for text in texts for word in words_of(text)}
    female, male = bool(words & _FEMALE), bool(words & _MALE)
    return "" if female == male else "female" if female else "male"


def fits_none(scene: Scene, text: str, rivals: Sequence[Thing], said: dict[int, list[str]]) -> bool:
    """Whether a sentence surely is not true of any of these things: one of its colours is nowhere on them (of black,
    white, gray and brown, which shade into each other: none of them is), or they are people told to be of the other
    sex. `said`: what was written about the instances."""
    wanted, shades = sex([text]), colours_in(text)
    lively = [shade for shade in shades if shade in colours.CHROMATIC]

    def misfit(u: Thing) -> bool:
        possible = {shade: scene.may_be(u, shade) for shade in shades}
        if not all(possible[shade] for shade in lively) or (shades and not any(possible.values())):
            return True
        known = said.get(u.instance.id, [])
        is_ = sex(known) if u.category == "person" and len(known) > 1 else ""
        return bool(wanted and is_) and wanted != is_

    return all(not u.instance.crowd and misfit(u) for u in rivals)
