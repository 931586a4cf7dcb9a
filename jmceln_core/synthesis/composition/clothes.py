"""What is known of the people in a folder of labelled photographs, and what can be told of one in a made picture.

`ROOT/people.json` holds `labels` (number to name, of the pixels of `labels/ID.png`) and `images`: {id, file_name,
person_box, sex, garments [{label, area, colour, share, pattern}], label_doubt, say, dup_of?}; `say` is what somebody
told who looked: {short, fragment, full, hair, glasses, hat, carries, bad, others}. A fact is true where labels and
description agree, false where neither leaves room for it, in doubt otherwise; and in doubt where it is true but hidden.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jmceln_core.data.grounding import DataError
from jmceln_core.synthesis import colours, vocabulary
from jmceln_core.synthesis.composition.cutting import Cut
from jmceln_core.synthesis.rules import written
from jmceln_core.synthesis.rules.facts import Fact

SEEN = 0.6  # the least of a garment, or of a part of the body, that must be seen for anything to be said of it
WHOLE = 0.8  # and of somebody, for what was written of all of them
CERTAIN = 0.7  # share of a garment's pixels that must have its colour by the annotation
ALIKE = 0.6  # and that may be called so in the picture
PARTLY = 0.3  # less of a colour than that does not make somebody one "in" it, or a lively garment one of it
FEW = 12  # pixels
SCRAP = 0.02  # less of a colour than that, of all the pixels of somebody without labels, is not even on their shoes

_set = written.set_of


class Part(NamedTuple):
    """Of the body, from the head down in shares of its height; too small to judge on somebody less tall than that."""

    top: float
    bottom: float
    tall: int = 0  # pixels


HEAD, FACE, NECK = Part(0, 0.14), Part(0, 0.12, 190), Part(0.1, 0.4)
TORSO, TRUNK, LEGS, FEET, BODY = Part(0.14, 0.5), Part(0.14, 0.75), Part(0.45, 0.88), Part(0.9, 1), Part(0, 1)

NOT_CLOTHES = _set(
    """null hair skin accessories bag purse wallet necklace bracelet earrings ring watch glasses sunglasses"""
)
OUTER = _set("coat jacket blazer cardigan cape hoodie suit vest")
TOPS = _set("shirt t-shirt blouse top sweater sweatshirt jumper bodysuit")
UPPER = OUTER | TOPS | _set("dress romper")
LOWER = _set("pants jeans leggings shorts skirt")
# Where the labels have one of a group and the description another one, the description is right.
_GROUPS = (_set("dress skirt"), UPPER, OUTER, TOPS, LOWER)


@dataclass(frozen=True)
class Word:
    """A word for what people wear or carry: the labels it names; those of what some would call so too (`kin`), and of
    what the labels confuse with it unless the description names that as well (`near`)."""

    labels: frozenset[str]
    kin: frozenset[str]
    near: frozenset[str]
    part: Part = TORSO
    verbs: tuple[str, ...] = ("in", "wearing")
    denied: tuple[str, ...] = ("not wearing", "not in")
    plain: bool = True  # said without a colour too
    small: bool = False
    kind: str = "clothes"


def _word(line: str, *rest: Any, **named: Any) -> Word:
    labels, kin, near = map(_set, line.split("|"))
    return Word(labels, kin, near, *rest, **named)


_WITH: dict[str, Any] = {"verbs": ("with", "wearing", "in"), "denied": ("without", "not wearing", "with no")}
_CARRY: dict[str, Any] = {
    "verbs": ("with", "carrying"),
    "denied": ("without", "not carrying", "with no"),
    "kind": "carrying",
}
WORDS: dict[str, Word] = {
    "coat": _word("coat | jacket blazer cape cardigan suit hoodie vest | dress sweater"),
    "jacket": _word("jacket blazer | coat cape cardigan suit hoodie vest sweatshirt | shirt sweater romper"),
    "blazer": _word("blazer | jacket coat suit cardigan | vest cape"),
    "cardigan": _word("cardigan | sweater jacket coat blazer hoodie cape jumper | vest sweatshirt suit"),
    "suit": _word("suit | blazer jacket romper bodysuit | coat"),
    "sweater": _word(
        "sweater | jumper sweatshirt hoodie cardigan | shirt blouse top t-shirt jacket coat blazer dress cape bodysuit"
    ),
    "shirt": _word(
        """shirt t-shirt blouse top | sweater sweatshirt jumper bodysuit vest hoodie cardigan dress romper
        | jacket blazer coat suit cape""",
        plain=False,
    ),
    "t-shirt": _word("t-shirt | shirt blouse top sweatshirt bodysuit | sweater dress vest suit"),
    "vest": _word("vest | cape top bodysuit | jacket blazer coat cardigan shirt t-shirt blouse sweater suit"),
    "dress": _word("dress | romper bodysuit jumper cape | skirt coat shirt top blouse cardigan t-shirt", TRUNK),
    "skirt": _word("skirt | | dress shorts romper shirt coat", LEGS),
    "pants": _word("pants jeans | leggings romper bodysuit tights stockings jumper | shorts suit", LEGS),
    "jeans": _word("jeans | | pants leggings shorts romper tights", LEGS),
    "shorts": _word("shorts | romper | skirt pants jeans dress jumper bodysuit", LEGS),
    "tights": _word("tights stockings | leggings | pants jeans socks", LEGS, small=True),
    "boots": _word(
        "boots | shoes sneakers heels pumps wedges clogs | socks tights stockings leggings loafers flats",
        FEET, small=True, **_WITH,
    ),
    "shoes": _word(
        "shoes sneakers heels pumps flats loafers wedges clogs | boots sandals | socks",
        FEET, small=True, plain=False,
    ),
    "hat": _word("hat | hoodie | scarf accessories", HEAD, small=True, kind="hat", **_WITH),
    "scarf": _word("scarf | cape | cardigan sweater vest coat", NECK, small=True, **_WITH),
    "tie": _word("tie | | scarf accessories", NECK, small=True, **_WITH),
    "bag": _word("bag purse wallet | accessories |", BODY, small=True, **_CARRY),
}  # fmt: skip
# Other words for the labels, as the descriptions have them.
_CALLED = {
    word: label
    for label, words in {
        **dict.fromkeys(OUTER | TOPS | LOWER | _set("boots sandals socks tights stockings leggings belt tie"), ""),
        "coat": "overcoat trench parka tailcoat duffle", "jacket": "bomber", "sweater": "turtleneck pullover",
        "top": "tank corset", "t-shirt": "tee", "blouse": "tunic", "vest": "waistcoat", "cape": "poncho shawl kimono",
        "romper": "jumpsuit dungarees overalls outfit", "dress": "gown pinafore", "skirt": "kilt", "shoes": "shoe",
        "pants": "trousers slacks sweatpants", "hat": "beanie cap beret turban headscarf",
        "bag": "bags clutch handbag backpack tote briefcase basket purse wallet", "scarf": "neckerchief",
    }.items()
    for word in (label, *words.split())
}  # fmt: skip
_SHADES = {
    "grey": "gray", "navy": "blue", "denim": "blue", "tan": "brown", "camel": "brown orange", "beige": "brown white",
    "cream": "white yellow", "khaki": "green brown", "olive": "green brown", "burgundy": "red purple brown",
    "rust": "red orange brown", "mustard": "yellow orange brown", "gold": "yellow brown", "silver": "gray white",
    "teal": "green blue", "turquoise": "green blue", "mint": "green blue", "lime": "green yellow",
    "lilac": "purple pink", "coral": "pink orange red", "peach": "pink orange", "salmon": "pink orange",
    "camouflage": "green brown", "leopard": "brown yellow orange", "dark": "black",
}  # fmt: skip
_COLOURS = {c: frozenset((c,)) for c in colours.NAMES} | {word: _set(names) for word, names in _SHADES.items()}
_HAIR = {"blond": "gray", "brown": "black red", "black": "brown", "red": "brown", "gray": "blond"}  # own: in doubt
_TOKEN = re.compile(r"[a-z]+(?:-shirt)?")
_COMPOUND = re.compile(r"\b(?:{0}) (?:{0})\b".format("|".join(_CALLED)))  # "dress pants": pants, or a dress and pants
_CLAUSE = re.compile(r",|\b(?:and|in|with|wearing)\b")  # a colour before it is not that of a garment behind
_CHILD = _set("boy girl kid child baby toddler")  # also said of grown-ups
_DENIAL = _set("no not without isn't doesn't")


class Garment(NamedTuple):
    area: float  # share of all that the person wears
    colour: str | None  # where it is certain


class _Mention(NamedTuple):
    """Colours that a description gives to a garment; label "": to something that has no label."""

    label: str
    colours: frozenset[str]


@dataclass(frozen=True, eq=False)
class Person:
    """What is known of a person; the pixels are still in the files."""

    id: str
    same: str  # of all photographs of one person alike
    image: Path
    labels: Path
    box: tuple[int, int, int, int]  # x, y, w, h of the person in the photograph
    woman: bool | None  # None in doubt
    hair: str  # "" if hidden
    glasses: bool | None  # None in doubt
    alone: bool  # nobody else is in the photograph
    garments: Mapping[str, Garment]  # by label; those whose label is not in doubt
    renamed: Mapping[str, str]  # labels in the file that stand for others
    doubted: frozenset[str]  # labels that are in doubt
    said: frozenset[str]  # labels of what the description names
    mentions: tuple[_Mention, ...]
    cut: Cut | None = None  # of somebody cut out of an annotated photograph, with what was written; nothing is labelled

    def wears(self, word: Word) -> bool | None:
        """Whether the word names something the person wears; None also of a scrap of it."""
        there = self.garments.keys()
        if own := word.labels & there:
            # a strap is labelled as a bag, too: that somebody carries one was told
            sure = self.said & word.labels or not (word.kind == "carrying" or self.said & (word.kin | word.near))
            large = max(self.garments[k].area for k in own) >= (0.004 if word.small else 0.03)
            return True if sure and large else None
        near = word.labels | word.kin | (word.near - (self.said & there))
        return None if near & (there | self.said | self.doubted) else False


def read_people(root: Path) -> tuple[list[Person], tuple[str, ...]]:
    """Everybody who can be cut out of the folder's photographs, and the names of the labels by number.

    DataError if there is no table of them, or not one as expected.
    """
    path = root / "people.json"
    try:
        content = json.loads(path.read_text())
        named = {int(number): name for number, name in content["labels"].items()}
        entries = content["images"]
        pairs = {entry["id"]: entry.get("dup_of") or entry["id"] for entry in entries}
        people = [_read(root, entry, _first(entry["id"], pairs)) for entry in entries if not entry["say"]["bad"]]
        names = tuple(named.get(number, "null") for number in range(max(named) + 1))
        if unknown := {new for person in people for new in person.renamed.values()} - set(names):
            raise ValueError(f"no label is called {min(unknown)!r}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the folder must be the one that holds the people") from None
    except (json.JSONDecodeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a table of people as expected ({error!r})") from None
    return people, names


def person_of(cut: Cut) -> Person:
    """Somebody cut out of an annotated photograph: whatever they wear is in doubt, but for colours that are neither in
    their pixels nor in what was written of them."""
    texts = [text for _, text in cut.texts]
    grown = written.sex(text for text in texts if _CHILD.isdisjoint(written.words_of(text)))
    return Person(
        id="{}:{}".format(*cut.source),
        same="{}:{}".format(*cut.source),
        image=Path(),
        labels=Path(),
        box=(0, 0, *cut.alpha.shape[::-1]),
        woman={"female": True, "male": False}.get(grown),
        hair="",
        glasses=None,
        alone=False,
        garments={},
        renamed={},
        doubted=frozenset(_CALLED.values()),
        said=frozenset(),
        mentions=tuple(m for text in texts for m in _mentions(text)),
        cut=cut,
    )


def _first(key: str, pairs: Mapping[str, str]) -> str:
    """The picture at the end of a chain of duplicates; of a ring, the first by name."""
    chain = [key]
    while (after := pairs.get(chain[-1], chain[-1])) not in chain:
        chain.append(after)
    return min(chain[chain.index(after) :])


def _read(root: Path, entry: Mapping[str, Any], same: str) -> Person:
    say, total = entry["say"], sum(g["area"] for g in entry["garments"]) or 1
    carried = [m for m in _mentions(say["carries"] or "") if m.label == "bag"]
    mentions = [m for key in ("short", "fragment", "full") for m in _mentions(say[key])] + carried
    said = {m.label for m in mentions if m.label} - {"hat"} | ({"hat"} if say["hat"] else set())
    labelled, doubted = {g["label"] for g in entry["garments"]}, set(entry["label_doubt"])
    renamed: dict[str, str] = {}
    for group in _GROUPS:
        own, told = group & labelled, group & said
        if len(own) == len(told) == 1 and own != told and not renamed.keys() & own:
            (old,), (new,) = own, told
            renamed[old] = new
            labelled, doubted = labelled - {old} | {new}, doubted - {old}
    garments = {
        renamed.get(g["label"], g["label"]): Garment(g["area"] / total, _certain(g))
        for g in entry["garments"]
        if g["label"] not in doubted
    }
    x, y, w, h = entry["person_box"]
    return Person(
        entry["id"],
        same,
        root / entry["file_name"],
        root / "labels" / f"{entry['id']}.png",
        (x, y, w, h),
        None if "person" in say["full"].split() else entry["sex"] == "woman",
        colours.BASIC.get(say["hair"], say["hair"]) if say["hair"] != "hidden" else "",
        say["glasses"],
        not say["others"],
        garments,
        renamed,
        frozenset(doubted),
        frozenset(said),
        tuple(mentions),
    )


def _certain(garment: Mapping[str, Any]) -> str | None:
    colour = colours.BASIC.get(garment["colour"], garment["colour"])
    return colour if colour in colours.NAMES and garment["share"] >= CERTAIN and not garment["pattern"] else None


def _mentions(text: str) -> Iterator[_Mention]:
    """Each garment a description names with the colours before it, and the colours of what has no label."""
    found: frozenset[str] = frozenset()
    for token in _TOKEN.findall(text.lower()):
        found |= _COLOURS.get(token, frozenset())
        if token in _CALLED:
            yield _Mention(_CALLED[token], found)
            found = frozenset()
        elif token in ("hair", "haired"):
            found = frozenset()
    if found:
        yield _Mention("", found)


def may_be(rgb: np.ndarray) -> dict[str, float]:
    """The share of some pixels (n, 3) uint8 that may be called by each colour word."""
    return colours.by_word(colours.possible_shares(colours.name_pixels(rgb)[1]))


class Look:
    """What one sees of a person in a picture, and what can be told from it."""

    def __init__(
        self,
        person: Person,
        dyes: Mapping[str, str],
        names: tuple[str, ...],
        whole: np.ndarray,
        top: int,
        mask: np.ndarray,
        labels: np.ndarray,
        rgb: np.ndarray,
    ) -> None:
        """`dyes`: the colours, by label, that garments were given; `names`: of the labels. `whole` (h, w) uint8 are
        the labels of all of the person, at the size in the picture and from its row `top` on. Of the picture: `mask`
        (H, W) bool is what is seen of the person, `labels` (H, W) uint8 and `rgb` (H, W, 3) uint8 its pixels."""
        self.person, self.dyes, self.mask = person, dyes, mask
        self._names, self._labels = names, labels[mask]
        self._possible = colours.name_pixels(rgb[mask])[1]
        self._seen, self._all = (
            dict(zip(names, np.bincount(pixels, minlength=len(names)).tolist(), strict=True))
            for pixels in (self._labels, whole[whole > 0])
        )
        self._rows = np.bincount(np.nonzero(mask)[0] - top, minlength=len(whole)), np.count_nonzero(whole, 1)
        self._measured: dict[frozenset[str], dict[str, float]] = {}
        self._shown: dict[Part, bool] = {}

    @cached_property
    def _present(self) -> frozenset[str]:
        """Labels of which anything is seen."""
        return frozenset(name for name, count in self._seen.items() if count)

    @cached_property
    def _dress(self) -> frozenset[str]:
        return self._present - NOT_CLOTHES

    def shows(self, part: Part) -> bool:
        """Whether enough is seen of a part of the body to say what is not there."""
        if part not in self._shown:
            tall = len(self._rows[1])
            rows = slice(int(part.top * tall), max(round(part.bottom * tall), 1))
            seen, whole = (int(counts[rows].sum()) for counts in self._rows)
            self._shown[part] = seen >= SEEN * whole and tall >= part.tall
        return self._shown[part]

    @property
    def whole(self) -> bool:
        """Whether hardly anything of the person is hidden or cut off, and nothing of the head."""
        seen, whole = (int(counts.sum()) for counts in self._rows)
        return seen >= WHOLE * whole and self.shows(HEAD)

    def sees(self, labels: frozenset[str]) -> bool:
        """Whether enough is seen of the garments with these labels."""
        seen, whole = (sum(counts[k] for k in labels if k in counts) for counts in (self._seen, self._all))
        return seen >= FEW and seen >= SEEN * whole

    def _share(self, labels: frozenset[str], colour: str) -> float:
        """The share of what is seen of these garments that may be called by the colour word."""
        labels = labels & self._present
        if labels not in self._measured:
            wanted = np.array([name in labels for name in self._names])
            shares = colours.possible_shares(self._possible[wanted[self._labels]])
            self._measured[labels] = colours.by_word(shares)
        return self._measured[labels][colour]

    @cached_property
    def _told(self) -> list[_Mention]:
        """The colours that the description tells, but for what was dyed or may be meant by what was."""
        garments = self.person.garments
        return [m for m in self.person.mentions if not self.dyes or m.label in garments.keys() - self.dyes.keys()]

    def _lacks(self, labels: frozenset[str], colour: str) -> bool:
        """Whether nobody would find the colour on these garments, by their pixels and by the description."""
        if self._share(labels, colour) >= (SCRAP if self.person.cut else colours.TRACE[colour]):
            return False
        elsewhere = self.person.garments.keys() - labels
        return not any(colour in m.colours for m in self._told if m.label not in elsewhere)

    def _colour(self, labels: frozenset[str]) -> str | None:
        """The colour that the garments with these labels surely have, by the largest one."""
        there = labels & self._present & self.person.garments.keys()
        if not there:
            return None
        largest = max(sorted(there), key=lambda label: self._seen[label])
        colour = self.dyes.get(largest)
        if colour is None:
            colour = self.person.garments[largest].colour
            told = [m.colours for m in self.person.mentions if m.label == largest and m.colours]
            if told and not any(colour in names for names in told):
                return None
        return colour if colour is not None and self._share(labels, colour) >= ALIKE else None

    def wears(self, name: str, colour: str = "") -> bool | None:
        """Whether the person wears what the word says, in that colour. False also where only the knowledge of what
        is hidden says so: nobody would take the person for one who does."""
        word = WORDS[name]
        worn = self.person.wears(word)
        seen = self.sees(word.labels) if worn else self.shows(word.part)
        if not colour:
            return worn if seen or not worn else None
        if worn is False:
            return False
        if worn is None:
            return False if seen and self._lacks(self._dress | word.labels, colour) else None
        if not seen:
            return None
        own = self._colour(word.labels)
        if own == colour:
            return True
        other = own in colours.CHROMATIC and self._share(word.labels, colour) < PARTLY
        return False if other or self._lacks(word.labels, colour) else None

    def is_in(self, colour: str) -> bool | None:
        """Whether one would say that the person is in that colour: what the upper body wears is."""
        upper = UPPER & self._present
        if not upper or not self.sees(upper):
            return False if self.shows(TORSO) and self._lacks(self._dress, colour) else None
        own = self._colour(upper)
        if own == colour:
            return True
        other = own in colours.CHROMATIC and self._share(upper, colour) < PARTLY
        little = self._share(self._dress, colour) < PARTLY
        return False if little and (other or self._lacks(upper, colour)) else None

    def has_hair(self, colour: str) -> bool | None:
        """Whether the hair is of that colour; None if not enough of it is seen."""
        own = self.person.hair
        if not own or not self.sees(frozenset({"hair"})):
            return None
        return own == colour or (None if colour in _HAIR.get(own, "").split() else False)

    def has_glasses(self, name: str) -> bool | None:
        """Whether the person wears glasses of any sort, or "sunglasses" by `name`."""
        labelled = self.person.garments.keys() & {"glasses", "sunglasses"}
        if not self.person.glasses:
            return None if labelled or self.person.glasses is None else False
        sure = name == "glasses" or labelled == {"sunglasses"}
        return True if sure and self.shows(FACE) else None

    def misfits(self, text: str) -> bool:
        """Whether a sentence somebody wrote surely is not about this person, who wears nothing that may be called by
        one of its garments in its colour."""
        clauses = [] if _DENIAL & set(written.words_of(text)) else _CLAUSE.split(_COMPOUND.sub("", text.lower()))
        return any(
            all(self.wears(name, colour) is False for name in names for colour in m.colours)
            for clause in clauses
            for m in _mentions(clause)
            if m.colours and (names := [name for name, word in WORDS.items() if m.label in word.labels])
        )


class Question(NamedTuple):
    """A fact, how to find out whether it is true, and the part of the body one must see to deny it."""

    fact: Fact
    ask: Callable[[Look], bool | None]
    part: Part


def _wearing(name: str, colour: str = "") -> Fact:
    """The fact that somebody wears what the word says, in the colour."""
    word = WORDS[name]
    things = [f"{shade} {name}".strip() for shade in ((colour, "grey") if colour == "gray" else (colour,))]

    def phrases(verbs: tuple[str, ...], count: int = 1) -> tuple[str, ...]:
        several = [vocabulary.plural(thing) for thing in things]
        objects = several if count > 1 or several == things else [vocabulary.with_article(thing) for thing in things]
        return tuple(f"{verb} {thing}" for verb in verbs for thing in (things if verb.endswith(" no") else objects))

    return Fact(
        f"wears:{things[0]}",
        word.kind,
        after=phrases(word.verbs),
        alone=() if word.small else tuple(things),  # "the bag" is the bag, but "red coat" is who wears it
        denied=phrases(word.denied[:1] if colour else word.denied),
        many=phrases(word.verbs, count=2),
    )


def _questions() -> Iterator[Question]:
    for name, word in WORDS.items():
        if word.plain:
            yield Question(_wearing(name), partial(Look.wears, name=name), word.part)
        for c in colours.NAMES:
            yield Question(_wearing(name, c), partial(Look.wears, name=name, colour=c), word.part)
    for c in colours.NAMES:
        fact = Fact(f"in:{c}", "clothes", after=(f"in {c}", f"wearing {c}"), denied=(f"not in {c}", f"not wearing {c}"))
        yield Question(fact, partial(Look.is_in, colour=c), TORSO)
    for c in _HAIR:
        fact = Fact(f"hair:{c}", "hair", before=(f"{c} haired",), after=(f"with {c} hair",))
        yield Question(fact, partial(Look.has_hair, colour=c), HEAD)
    for name in ("glasses", "sunglasses"):
        fact = Fact(
            f"has:{name}",
            "glasses",
            after=(f"with {name}", f"wearing {name}"),
            denied=(f"without {name}", f"not wearing {name}", f"with no {name}"),
        )
        yield Question(fact, partial(Look.has_glasses, name=name), FACE)


QUESTIONS = tuple(_questions())
