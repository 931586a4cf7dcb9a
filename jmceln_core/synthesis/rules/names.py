"""What is plainly there, and what is not: bare names, denials and words for nothing, about annotated photographs.

Existence is not uniqueness: "the cup" is true of every cup of a picture, and "the giraffe not eating leaves" of every
giraffe that does not. Everything here follows from complete annotations and from sentences written about them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from jmceln_core.data.grounding import Expression
from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.rules import expressions, kinds, written
from jmceln_core.synthesis.rules.engine import spoken
from jmceln_core.synthesis.rules.logic import Colour
from jmceln_core.synthesis.rules.nonsense import UNKNOWN, nonsense
from jmceln_core.synthesis.rules.photograph import Scene
from jmceln_core.synthesis.rules.placing import Thing

LEAST = 0.002  # of the picture: all of a name's things together, for the name to be said
GROUP = 5  # the most things of which a denied sentence may leave the others
_VERB = re.compile(
    r"^(?:the |a )?(?P<noun>.+?) (?P<rest>(?:[a-z]+ing|in|with|wearing|without|on a|carrying|holding)\b.*)$"
)


def names(scene: Scene, rng: np.random.Generator, *, limit: int = 6) -> list[Expression]:
    """Bare names and names with a colour, each of all things they are true of: at most `limit`, kind "name".

    Not said where a crowd region or a doubtful thing could be meant as well; empty for incomplete annotations.
    """
    if not scene.picture.complete:
        return []
    found: dict[str, tuple[float, tuple[int, ...]]] = {}
    for category in dict.fromkeys(t.category for t in scene.targets):
        said = vocabulary.names_of(category)
        for noun, weight in [*said.said[:3], *((wide, 0.5) for wide in said.wider)]:
            heard = scene.named(noun)
            if heard.nothing or not heard.sure:
                continue
            group = list(heard.truths)
            if sum(u.area for u in group) < LEAST:
                continue
            often = weight / said.said[0][1]
            found[noun] = often, _ids(group)
            if len(group) > 1:
                found[vocabulary.plural(noun)] = 0.5 * often, _ids(group)
            for colour in sorted({c for u in group if (c := scene.colour(u))}):
                own = heard.that(scene, Colour(colour))
                if category != "person" and own.sure:
                    found[f"{colour} {noun}"] = 0.7 * often, _ids(list(own.truths))
    texts = list(found)
    if not texts:
        return []
    weights = np.array([found[text][0] for text in texts])
    chosen = rng.choice(len(texts), min(limit, len(texts)), replace=False, p=weights / weights.sum())
    return [_said(scene, found[texts[k]][1], texts[k], "name", rng) for k in chosen]


def denials(scene: Scene, said: Sequence[Expression], rng: np.random.Generator, *, limit: int = 4) -> list[Expression]:
    """Sentences that deny what was written: "giraffe not eating leaves" of the giraffes it was not written of.

    `said`: the written sentences about the picture. A description that tells one thing (or several) from its like is
    taken to be false of the others; a near miss is false of all. What is true of everything called so is denied of
    nothing: at most half of the sentences are such, without a target. Kind "negation"; empty for incomplete
    annotations.
    """
    if not scene.picture.complete:
        return []
    found: dict[str, tuple[int, ...]] = {}
    clash: set[str] = set()
    told = [(set(written.words_of(e.text)), set(e.targets)) for e in said if e.targets]
    for e in said:
        parts = _VERB.match(e.text.lower().strip(" ."))
        if not parts or not _is_denied_safely(parts["rest"]):
            continue
        group = _called(scene, parts["noun"])
        if group is None or not 1 <= len(group) <= GROUP:
            continue
        # whatever else was described in these words may be what they say, too
        content = set(written.words_of(parts["rest"])) - _SMALL
        meant = set(e.targets).union(*(targets for spoken, targets in told if content <= spoken))
        others = tuple(key for key in _ids(group) if key not in meant)
        if not set(e.targets) <= set(_ids(group)):
            continue
        ways = _denied(parts["noun"], parts["rest"])
        text = ways[int(rng.integers(len(ways)))]
        if found.setdefault(text, others) != others:
            clash.add(text)
    texts = [text for text in found if text not in clash]
    texts = [texts[k] for k in rng.permutation(len(texts))]
    untrue = [text for text in texts if not found[text]][limit // 2 :]
    chosen = [text for text in texts if text not in untrue][:limit]
    return [_said(scene, found[text], text, "negation", rng) for text in chosen]


def _said(scene: Scene, targets: tuple[int, ...], text: str, kind: str, rng: np.random.Generator) -> Expression:
    return Expression(scene.picture.id, targets, spoken(text, rng, 0.6, 0.03), kind, "generated")


def _called(scene: Scene, noun: str) -> list[Thing] | None:
    """The things a bare noun (no adjective) is true of; None where it is none of their names, or in doubt."""
    heard = scene.heard_as(noun)
    sex = written.sex([noun]) != ""
    if sex or any(u.instance.crowd or not u.names.says(noun) for u in heard) or not heard:
        return None
    return scene.distinct(heard)


def _is_denied_safely(rest: str) -> bool:
    """Whether the opposite is said by a plain "not": one thing said, nothing about places, parts, lettering, counts or
    others, no superlative, no second denial."""
    tokens = set(written.words_of(rest))
    return "," not in rest and not tokens & _UNSAFE and len(tokens) <= 7 and not _MOST.search(rest)


# Of the words that place a thing, those that belong to what it does: "looking at", "eating from".
_DOING = written.set_of(
    "at to from by off on over along against inside outside up down around about away towards toward"
)
_UNSAFE = (written.PLACE - _DOING) | written.set_of(
    "not no other others another one ones both two three first second third most more less than same different still"
    " also only without standing its reading saying says labeled labelled visible showing"
)
_MOST = re.compile(r"\b(?!vest\b|chest\b|nest\b|forest\b|rest\b)[a-z]+est\b")


def _denied(noun: str, rest: str) -> list[str]:
    """ "eating leaves": "giraffe not eating leaves", "giraffe that isn't eating leaves"; "with a hat": "without"."""
    if rest.startswith("with "):
        return [f"{noun} without {rest.removeprefix('with ')}"]
    be = "are" if vocabulary.plural(noun) == noun else "is"  # skis
    return [f"{noun} not {rest}", f"{noun} that {be}n't {rest}", f"{noun} that {be} not {rest}"]


def nothing(
    scene: Scene,
    said: Sequence[Expression],
    rng: np.random.Generator,
    *,
    kinds: Sequence[str] = expressions.COCO_KINDS,
    limit: int = 4,
) -> list[Expression]:
    """Words for what is not there: nouns of things that no annotation could be called by, words nobody uses for
    anything in a picture, other languages, nonsense. Kind "absent"; targets are empty.

    `kinds` are those that whoever annotated the picture has looked for; `said`, what was written about it: a word of
    it may be the name of something that has no annotation.
    """
    here = {name for t in scene.things for name in t.names.heard} | {t.category for t in scene.things}
    heads = {word for name in here for word in name.split()}
    heads |= {word for e in said if e.targets for word in written.words_of(e.text)}
    made = []
    for _ in range(limit):
        way = rng.random()
        if way < 0.55 and scene.picture.complete and kinds:
            text = _missing(kinds, here, heads, rng)
        elif way < 0.9:
            text = UNKNOWN[int(rng.integers(len(UNKNOWN)))]
        else:
            text = nonsense(rng)
        if text and not heads & (set(written.words_of(text)) - _SMALL):
            made.append(Expression(scene.picture.id, (), text, "absent", "generated"))
    return made


def _missing(kinds_: Sequence[str], here: set[str], heads: set[str], rng: np.random.Generator) -> str:
    """One of these kinds of things that is not here, by its name, now and then with a colour; "" if there is none."""
    for _ in range(10):
        kind = kinds_[int(rng.integers(len(kinds_)))]
        names_of = vocabulary.names_of(kind)
        if kind in kinds.EVERYWHERE or names_of.heard & here or {w for n in names_of.heard for w in n.split()} & heads:
            continue
        noun = names_of.said[int(rng.integers(len(names_of.said)))][0]
        colour = f"{COLOURS[int(rng.integers(len(COLOURS)))]} " if rng.random() < 0.2 else ""
        return spoken(colour + noun, rng, 0.6, 0.03)
    return ""


COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "orange")  # of colours.NAMES, what people say
_SMALL = written.set_of("the a an of in on with and big small little") | set(COLOURS)


def _ids(things: Sequence[Thing]) -> tuple[int, ...]:
    return tuple(u.instance.id for u in things)


def existence(
    scene: Scene, said: Sequence[Expression], rng: np.random.Generator, *, limit: int
) -> Iterator[Expression]:
    """All of it about one picture: `limit` names, half as many denials and as many words for nothing."""
    if not limit:
        return
    yield from names(scene, rng, limit=limit)
    yield from denials(scene, said, rng, limit=(limit + 1) // 2)
    yield from nothing(scene, said, rng, limit=(limit + 1) // 2)
