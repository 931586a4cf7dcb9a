"""Rule-made referring expressions: true of exactly one annotated thing of a picture, worded as people word them.

Which rules hold of a photograph's things is measured in `photograph` and `placing`, how they are worded stands in
`book`. A sentence is kept only if its rule holds, by a margin, for its target and fails, by a margin, for every other
instance that a listener might take the noun for; where a measurement is in doubt nothing is said. The sentences are as
right as the annotation is complete: pictures with `complete == False` get none.

Use::

    scene = Scene(picture, picture.load())         # decodes the masks once
    describe(scene, rng)                           # one thing each
    absent(scene, rng); plurals(scene, rng)        # nothing; several things
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from jmceln_core.data.grounding import Expression
from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.rules import placing
from jmceln_core.synthesis.rules.book import COUNTS, ORDINALS, RULES, SHORT_ORDINALS, Wordings
from jmceln_core.synthesis.rules.engine import Draft, Rng, draw, filled, spoken
from jmceln_core.synthesis.rules.logic import Colour, Meant, Not, Relation
from jmceln_core.synthesis.rules.photograph import NO_COLOUR, Scene
from jmceln_core.synthesis.rules.placing import CLEARLY, SMALLEST_SHARE, Thing

COCO_KINDS = vocabulary.known_categories()[:80]


def _draft(rule: str, factor: float = 1.0, *, kind: str | None = None, **fills: str) -> Draft:
    """What a rule says in photographs."""
    of = RULES[rule]
    return Draft(kind or of.kind, of.weight * factor, of.photograph, fills)


def located(
    scene: Scene,
    t: Thing,
    others: Sequence[Thing],
    noun: str,
    *,
    bare: bool,
    sure: bool,
    kind: str | None = None,
) -> Iterator[Draft]:
    """Places, ordinals and sizes that single `t` out. `sure`: `others` are exactly the rivals; otherwise some of
    them may be none, and only what beats a superset is said. `bare`: the noun may be left out."""
    seen = bare and any(u.area >= SMALLEST_SHARE for u in others)
    for place, factor in placing.places(t, others, aspect=scene.aspect, sure=sure):
        draft = _draft(place, factor, kind=kind, n=noun)
        yield draft
        if seen and f"bare {place}" in RULES:
            yield _draft(f"bare {place}", draft.weight)
    if sure:
        # "bigger" and "second" need others that surely are of the kind; "the biggest food" is nobody's word
        if noun not in t.names.wider and not any(map(scene.hidden, (t, *others))):
            for size in placing.sizes(t, others):
                yield _draft(size, kind=kind, n=noun)
        for ahead, end, factor in placing.ranks(t, others):
            column = " in a column" if end in ("top", "bottom") else ""
            rules = [f"ordinal{column}"]
            if bare:
                rules += [f"bare ordinal{column}", "bare ordinal one"] if ahead else ["bare ordinal one"]
            said = {text: w * factor for rule in rules for text, w in RULES[rule].photograph.items()}
            fills = {"n": noun, "number": ORDINALS[ahead], "short": SHORT_ORDINALS[ahead], "end": end}
            yield Draft(kind or "ordinal", RULES["ordinal"].weight, said, fills)


def _coloured(noun: str, colour: str, category: str) -> Wordings:
    """Noun phrases with a colour, with weights."""
    rule = RULES["clothes" if category == "person" else "colour"]
    return filled(rule.photograph, {"n": noun, "c": colour})


def _drafts(scene: Scene, t: Thing) -> Iterator[Draft]:
    """Every kind of sentence that means `t` and nothing else in the picture."""
    said = list(t.names.said)
    total = sum(weight for _, weight in said)
    said += [(wider, 0.06 * total / len(t.names.wider)) for wider in t.names.wider]
    seen = [u for u in scene.things if u.area >= SMALLEST_SHARE]  # "the bottom one" is said among things one sees
    if len(seen) > 1 and len({u.category for u in scene.things}) == 1:
        said.append(("one", 0.15 * total))
    for noun, weight in said:
        heard = scene.named(noun)
        if any(u.instance.crowd for u in heard.truths):
            continue
        others = scene.distinct([u for u in heard.truths if u is not t])
        group = Meant({t: True, **{u: heard.truths[u] for u in others}})
        bare = noun != "one" and all(u in heard.truths or u.area < SMALLEST_SHARE for u in scene.things)
        for draft in _of_noun(scene, t, group, noun, bare=bare, exact=heard.sure):
            yield draft.weighing(draft.weight * weight / total)


def _of_noun(scene: Scene, t: Thing, group: Meant[Thing], noun: str, *, bare: bool, exact: bool) -> Iterator[Draft]:
    """`group`: what the noun may mean. `exact`: it is surely true of all of them, so that they can be counted."""
    others = [u for u in group.truths if u is not t]
    if group.only is t:
        yield _draft("name", n=noun)
    yield from located(scene, t, others, noun, bare=bare, sure=exact, kind="combination" if not others else None)
    if exact and others:
        if len(others) == 1 and noun not in t.names.wider:
            for rule in placing.piled(scene, t, others[0]):
                yield _draft(rule, n=noun)
        yield from _not_like(scene, t, group, noun)
    if colour := scene.colour(t):
        alike = group.that(scene, Colour(colour))
        rivals = [u for u in alike.truths if u is not t]
        for phrase, often in _coloured(noun, colour, t.category).items():
            if alike.only is t:
                yield Draft("colour", RULES["colour"].weight * (1.0 if others else 1 / 3) * often, {phrase: 1.0})
            # redundant but true places are said as well: "red car on the left"
            for draft in located(scene, t, rivals, phrase, bare=False, sure=exact and alike.sure, kind="combination"):
                yield draft.weighing(0.5 * often * draft.weight)
    yield from _related(scene, t, group, noun)


def _not_like(scene: Scene, t: Thing, group: Meant[Thing], noun: str) -> Iterator[Draft]:
    """Negation: all the others surely have a colour that the thing surely has not; of two, the other is at a side."""
    others = [u for u in group.truths if u is not t]
    be = "are" if noun.endswith("s") and vocabulary.plural(noun) == noun else "is"  # pliers
    colour = scene.colour(others[0])
    if colour and len(others) <= 4 and group.that(scene, Not(Colour(colour))).only is t:
        rule = "not in the colour" if t.category == "person" else "not the colour"
        yield _draft(rule, n=noun, c=colour, be=be)
    if len(others) == 1:
        for side, _ in placing.places(others[0], [t], aspect=scene.aspect, sure=True):
            if side in ("left", "right"):
                yield _draft("not on the side", n=noun, end=side, be=be)


def _related(scene: Scene, t: Thing, group: Meant[Thing], noun: str) -> Iterator[Draft]:
    often = 1.0 if len(group.truths) > 1 else 0.4
    for anchor, name, relation in scene.relations(t):
        if anchor in group.truths or noun in anchor.names.heard:
            continue
        if group.that(scene, Relation(relation, (anchor.key,))).only is t:
            for article, share in (("the ", 0.7), ("", 0.3)):
                yield _draft(relation, 1.3 * often * share, n=noun, a=article + name)
    for rule, pair, names in scene.flanked(t):
        between = Relation("between", (pair[0].key, pair[1].key))
        if group.truths.keys().isdisjoint(pair) and group.that(scene, between).only is t:
            yield Draft("relation", RULES[rule].weight, RULES[rule].photograph, {"n": noun, **names})


def describe(
    scene: Scene, rng: Rng, *, limit: int = 8, articles: float = 0.35, commands: float = 0.04
) -> list[Expression]:
    """Sentences that each mean exactly one instance of the picture, at most `limit` for each instance.

    `kind` is category, location, ordinal, size, colour, relation, negation or combination. `articles` is the share that
    opens with "the", `commands` the share worded as one ("pick up the red cup"). Deterministic for a seeded `rng`.
    Empty where the picture's annotation is not complete.
    """
    if not scene.picture.complete:
        return []
    made: dict[str, tuple[str, int]] = {}
    clash = set()
    for t in scene.targets:
        for text, draft in draw(_drafts(scene, t), rng, limit, Draft.worded).items():
            if made.setdefault(text, (draft.kind, t.key))[1] != t.key:
                clash.add(text)  # two readings of one wording ("top bowl"): say it of neither
    return [
        Expression(scene.picture.id, (target,), spoken(text, rng, articles, commands), kind, "generated")
        for text, (kind, target) in made.items()
        if text not in clash
    ]


def absent(
    scene: Scene, rng: Rng, *, limit: int = 4, kinds: Iterable[str] = (), articles: float = 0.6
) -> list[Expression]:
    """Sentences that match nothing in the picture: near misses, at most `limit`.

    A wrong colour, a side where none is, an ordinal beyond the last, a relation that plainly fails; and a kind of thing
    that is not there, drawn from `kinds`: the categories that this picture's annotators looked for (`COCO_KINDS` for a
    COCO picture; none by default, since an unannotated kind may well be visible). Targets are empty, kind is "absent".
    """
    if not scene.picture.complete:
        return []
    drafts = list(_misses(scene))
    here = {noun for t in scene.things for noun in t.names.heard}
    missing = [kind for kind in kinds if not vocabulary.names_of(kind).heard & here]
    if missing:
        near = {kind: _alike(kind, scene) for kind in missing}
        weight = max(sum(d.weight for d in drafts), 1.0) / sum(near.values())
        for kind in missing:
            names = {noun: often for noun, often in vocabulary.names_of(kind).said if noun not in here}
            texts = {
                template.replace("{n}", noun): share * often
                for rule in ("missing kind", "missing kind at a side")
                for noun, often in names.items()
                for template, share in RULES[rule].photograph.items()
            }
            if texts:
                drafts.append(Draft("absent", weight * near[kind], texts))
    return [
        Expression(scene.picture.id, (), spoken(text, rng, articles, 0.04), "absent", "generated")
        for text in draw(drafts, rng, limit, Draft.worded)
    ]


def _alike(kind: str, scene: Scene) -> float:
    """How likely the kind is to be looked for here in vain: kinds listed close to one that is there are alike, since
    COCO lists them by groups (vehicles, animals, cutlery, ...)."""
    order = vocabulary.known_categories()
    places = [order.index(t.category) for t in scene.targets if t.category in order]
    close = kind in order and any(abs(order.index(kind) - place) <= 4 for place in places)
    return 5.0 if close else 1.0


def _misses(scene: Scene) -> Iterator[Draft]:
    for category in dict.fromkeys(t.category for t in scene.targets):
        names = vocabulary.names_of(category).said
        for noun, weight in names[:2]:
            heard = scene.named(noun)
            if any(u.instance.crowd for u in heard.truths):
                continue
            for rule, templates, fills in _missing(scene, heard, noun, category):
                of = RULES[rule]
                yield Draft(of.kind, of.weight * weight / names[0][1], templates, {"n": noun, **fills})


def _missing(
    scene: Scene, heard: Meant[Thing], noun: str, category: str
) -> Iterator[tuple[str, Wordings, dict[str, str]]]:
    """What could be said with a noun and is true of nothing: (rule, templates, what fills them)."""
    things = list(heard.truths)
    person = category == "person"
    if (person or not any(u.category in NO_COLOUR for u in things)) and all(scene.colour(u) for u in things):
        for colour in ("red", "blue", "green", "yellow", "white", "black", "orange", "purple", "pink"):
            if heard.that(scene, Colour(colour)).nothing:
                yield "wrong colour", RULES["clothes" if person else "colour"].photograph, {"c": colour}
    for side, here in (("left", [u.x0 for u in things]), ("right", [1 - u.x1 for u in things])):
        if min(here) > 0.55:
            yield "empty side", RULES[side].photograph, {}
    if 2 <= len(things) <= 5 and placing.in_row(things):
        for end in ("left", "right"):
            fills = {"number": ORDINALS[len(things)], "end": end}
            yield "beyond the last", RULES["beyond the last"].photograph, fills
    for anchor, name in scene.anchors:
        if anchor in heard.truths or noun in anchor.names.heard:
            continue
        if not all(abs(u.cx - anchor.cx) + abs(u.cy - anchor.cy) > 0.2 for u in things):
            continue
        for relation in ("left of", "right of", "above", "below"):
            if heard.that(scene, Relation(relation, (anchor.key,))).nothing:
                yield "relation that fails", RULES[relation].photograph, {"a": f"the {name}"}


def plurals(scene: Scene, rng: Rng, *, limit: int = 3, articles: float = 0.4) -> list[Expression]:
    """Sentences that mean several instances, at most `limit`: "both cats", "all the dogs", "the two cups on the left".

    Only for groups that are annotated one by one and visible enough. Kind is "plural".
    """
    if not scene.picture.complete:
        return []
    drafts: list[Draft] = []
    for category in dict.fromkeys(t.category for t in scene.targets):
        names = vocabulary.names_of(category).said
        for noun, weight in names[:3]:
            heard = scene.named(noun)
            if not 2 <= len(heard.truths) <= 8 or not heard.sure or not all(u in scene.targets for u in heard.truths):
                continue
            for phrase, group, share in _groups(scene, heard, vocabulary.plural(noun), category):
                said = _plural_words(phrase, len(group), len(group) == len(heard.truths))
                keys = tuple(u.key for u in group)
                drafts.append(Draft("plural", weight / names[0][1] * share, said, means=keys))
    targets = {text: draft.means for draft in drafts for text in draft.templates}
    return [
        Expression(scene.picture.id, targets[text], spoken(text, rng, articles, 0.02), "plural", "generated")
        for text in draw(drafts, rng, limit, Draft.worded)
    ]


def _plural_words(phrase: str, count: int, whole: bool) -> Wordings:
    rules = ["several"] + ["all"] * whole + (["both"] if count == 2 else ["counted"] if count <= 6 else [])
    fills = {"n": phrase, "count": COUNTS[min(count, 6)]}
    return {text: w for rule in rules for text, w in filled(RULES[rule].photograph, fills).items()}


def _groups(
    scene: Scene, heard: Meant[Thing], several: str, category: str
) -> Iterator[tuple[str, Sequence[Thing], float]]:
    """(noun phrase, members, weight): all of a kind, those of one colour, those on one side."""
    things = list(heard.truths)
    yield several, things, RULES["several"].weight
    for colour in dict.fromkeys(filter(None, map(scene.colour, things))):
        group = heard.that(scene, Colour(colour)).several
        if 2 <= len(group) < len(things):
            yield next(iter(_coloured(several, colour, category))), group, 2.0
    rule = RULES["several on the side"]
    at = {end: next(iter(filled(rule.photograph, {"n": several, "end": end}))) for end in ("left", "right")}
    ordered = sorted(things, key=lambda u: u.cx)
    for k in range(2, len(ordered)):
        left, rest = ordered[:k], ordered[k:]
        if min(u.x0 for u in rest) > max(u.x1 for u in left) + 2 * CLEARLY and left[-1].cx < 0.5 < rest[0].cx:
            yield at["left"], left, rule.weight
        right, rest = ordered[-k:], ordered[:-k]
        if max(u.x1 for u in rest) < min(u.x0 for u in right) - 2 * CLEARLY and rest[-1].cx < 0.5 < right[0].cx:
            yield at["right"], right, rule.weight
