"""What a sentence goes by: kinds of phrase, told by its words alone.

location     where it is in the picture: left, top, middle, in the background
attribute    what it is like or has on it: colour, size, material, state, posture, "with" and "wearing"
relation     another thing it stands to: behind, next to, on the plate, left of the cup, holding a bat
ordinal      its place in a count: second, 3rd, last
comparative  more or less than the others: bigger, closest, the most
negation     what it is not: not, without, other than

A rule on words knows no grammar: "the orange" is told from "orange cup" by the word behind it, "left of the cup" from
"left of the picture" by a list. A sentence may be of several kinds, or of none ("the dog").
"""

from __future__ import annotations

import re

from jmceln_core.synthesis.colours import NAMES

OTHER = "none of these"


def _any(words: str) -> str:
    """A pattern of these words, one of them."""
    return "(?:" + "|".join(words.split()) + ")"


# "right behind", but not "on the right behind"
_JUST = (
    "(?:"
    + "".join(rf"(?<!\b{word} )" for word in ["on", "to", "at", "the", "far", "top", "bottom", "upper", "lower"])
    + "(?:right|just|directly|partly) )?"
)
_THE = r"(?:(?:the|a|an|its|his|her|their|this|very|far|all) )*"
_FRAME = _any("picture pic image photo frame screen view scene")
_SIDE = _any(
    """left right top bottom upper lower topmost bottommost leftmost rightmost rightest middle center centre corner
    corners edge front back rear side foreground background distance row column"""
)
_HUE = _any(
    " ".join(n for n in NAMES if n != "orange") + " grey golden gold silver tan beige maroon teal navy cream dark"
)
_CLOTHES = _any(
    """shirts? t-?shirts? jeans dress hat cap coat jacket suit shorts pants trousers uniform apron vest sweater hoodie
    sweatshirt skirt jersey helmet glasses sunglasses"""
)
_ENDS_NOUN = _any("on in at by to of with next near closest nearest farthest behind under above left right that which")
_WORN = rf"(?:(?:[\w-]+ )?(?:[\w-]+ )?{_CLOTHES}|(?:{_HUE}|orange)(?: and {_HUE})?(?= {_ENDS_NOUN}\b| ?$))"
_OF_SIDE = rf"(?:left|right|top|bottom|front|back)(?: hand)?(?: side)? of (?!{_THE}{_FRAME}\b)"
_TO_A_THING = _any(
    """behind beside besides between beneath below above under underneath over around against inside outside along atop
    among amongst across opposite touching facing holding riding carrying eating pulling pushing hitting kicking
    swinging throwing watching"""
)

# Kind -> pattern, in the order they are tried: what a relation took ("left of") is no longer there for a location.
_PATTERNS = {
    kind: re.compile(rf"\b(?:{'|'.join(patterns)})\b")
    for kind, patterns in {
        "relation": (
            rf"{_JUST}(?:(?:to|on|at|in) )?{_THE}{_OF_SIDE}",
            rf"{_JUST}next to",
            rf"(?:closer|closest|nearer|nearest|adjacent|close) to (?!us\b|{_THE}(?:camera|viewer|{_SIDE})\b)",
            rf"{_JUST}{_TO_A_THING} (?!(?:on|in|at|from|of|and)\b)(?=\w)",
            rf"{_JUST}(?:on|at|by|near|towards?) (?!{_THE}{_SIDE}\b)(?=\w)",
            rf"{_JUST}in (?!{_THE}(?:(?:[\w-]+ )?{_SIDE}|{_WORN})\b)(?!from\b)(?=\w)",
        ),
        "location": (
            rf"(?<!its ){_SIDE}",
            r"far(?! from)",
            r"(?:from|to|toward) (?:us|(?:the )?(?:camera|viewer))",
            _any("lowest highest away"),
        ),
        "ordinal": (
            _any("first second third fourth fifth sixth seventh eighth ninth tenth last"),
            r"\d+(?:st|nd|rd|th)",
        ),
        "comparative": (
            r"(?:tall|short|long|small|thick|high|old|young|dark|light|bright|deep|near|full)(?:er|est)",
            r"(?:larg|clos|littl|wid)(?:er|est)",
            r"(?:big|thin|fat)[gnt](?:er|est)",
            _any("heavier heaviest farther farthest further furthest lowest more most less least"),
            r"\w+er than",
        ),
        "negation": (
            _any("not no without nothing none never neither nor except excluding isnt arent doesnt"),
            r"\w+n't",
            r"(?:other|rather) than",
        ),
        "attribute": (
            _HUE,
            rf"orange (?!{_ENDS_NOUN}\b)(?=\w)",
            _CLOTHES,
            _any("blonde? colou?rful clear transparent rainbow turquoise violet bright"),
            _any("big small large little tiny huge tall short long thin thick wide narrow fat skinny"),
            _any("wooden wood metal metallic plastic leather steel ceramic cardboard furry fluffy stuffed"),
            _any("striped spotted plaid checkered patterned round square rectangular oval flat curved"),
            _any("open opened closed empty full half broken old new young dirty clean wet sliced ripe blurry bald"),
            _any("sitting standing lying laying walking running crouching kneeling sleeping jumping leaning parked"),
            r"\w+ (?:haired|colou?red|shaped)",
            r"(?:with|wearing) (?=\w)",
        ),
    }.items()
}
KINDS = ("location", "attribute", "relation", "ordinal", "comparative", "negation")


def kinds(text: str) -> tuple[str, ...]:
    """The kinds of phrase in a sentence, in the order of KINDS; OTHER alone if there is none."""
    words = " ".join(re.findall(r"[\w'-]+", text.lower().replace("’", "'")))
    found = set()
    # "a white top" is something to wear
    words = re.sub(rf"\b({_HUE}) tops?\b(?! (?:left|right|corner))", r"\1 shirt", words)
    for kind, pattern in _PATTERNS.items():
        if pattern.search(words):
            found.add(kind)
        if kind == "relation":
            words = pattern.sub("&", words)
    return tuple(kind for kind in KINDS if kind in found) or (OTHER,)
