"""What an epoch consists of: which sentences of which pictures stand together in a step.

A plan is made of numbers alone, from an `Outline` of each picture, so that it can be made for pictures that are
elsewhere (shards) as well as for those at hand. It is a function of (seed, epoch, the picture's number).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import Expression


class Outline(NamedTuple):
    """A picture's sentences, in their order: the number of the thing (or things) each means, -1 for a sentence that
    matches nothing in the picture; and whether it was written for the picture or made by a rule."""

    things: tuple[int, ...]
    written: tuple[bool, ...]


class Group(NamedTuple):
    """S sentences of one picture that share its image half: the picture's number, its sentences' numbers."""

    picture: int
    sentences: tuple[int, ...]


def outline(expressions: Sequence[Expression]) -> Outline:
    """The outline of a picture with these sentences."""
    number: dict[tuple[int, ...], int] = {}
    things = [number.setdefault(e.targets, len(number)) if e.targets else -1 for e in expressions]
    return Outline(tuple(things), tuple(e.origin == "written" for e in expressions))


def plan_picture(
    picture: int, about: Outline, config: DataConfig, *, sentences: int, seed: int, epoch: int, turn: int = 0
) -> list[Group]:
    """One picture's groups of an epoch, `sentences` (S) in each; a picture that is taken up repeatedly has several
    turns.

    sampling "object": every thing once, with one of its sentences drawn, replaced by one that matches nothing as often
    as `absent_share` says; "sentence": every sentence once, whatever it means; the last group is filled up with
    sentences of the same picture. "mixture": as many groups as its written sentences fill, at least one, each without
    repeats while there are others, sorts drawn in the shares `absent_share` and, on both sides of it, `written`. A
    picture without a sentence that means something has no groups, except for "sentence" and gRefCOCO's things.
    """
    rng = np.random.default_rng([seed, epoch, picture, *([turn] if turn else [])])
    meant = [i for i, thing in enumerate(about.things) if thing >= 0]
    absent = [i for i, thing in enumerate(about.things) if thing < 0]
    if config.sampling == "mixture":
        return _mixture(picture, about, config, sentences, rng) if meant else []
    if config.sampling == "sentence":
        drawn = [int(i) for i in rng.permutation(len(about.things))]
    else:
        of: dict[int, list[int]] = defaultdict(list)
        for i in meant:
            of[about.things[i]].append(i)
        drawn = [own[rng.integers(len(own))] for own in of.values()]
        if config.absent_share == 0 and "grefcoco" in config.dataset:
            drawn += absent
        elif absent and config.absent_share > 0:
            drawn = [absent[rng.integers(len(absent))] if rng.random() < config.absent_share else i for i in drawn]
        rng.shuffle(drawn)
    short = -len(drawn) % sentences
    if drawn and short:
        others = meant if meant and config.sampling != "sentence" else drawn
        drawn += [others[i] for i in rng.choice(len(others), short, replace=short > len(others))]
    return [Group(picture, tuple(drawn[i : i + sentences])) for i in range(0, len(drawn), sentences)]


def _mixture(picture: int, about: Outline, config: DataConfig, sentences: int, rng: np.random.Generator) -> list[Group]:
    pairs = list(zip(about.things, about.written, strict=True))
    whole = [
        [i for i, (thing, written) in enumerate(pairs) if (thing < 0, written) == sort]
        for sort in ((False, True), (False, False), (True, True), (True, False))
    ]
    shares = np.outer([1 - config.absent_share, config.absent_share], [config.written, 1 - config.written])
    groups = []
    for _ in range(max(1, round(len(whole[0]) / sentences))):
        left = [list(sort) for sort in whole]
        drawn: list[int] = []
        while len(drawn) < sentences:
            weights = shares * np.reshape([bool(sort) for sort in left], (2, 2))
            if not weights[0].any():
                if not any(share > 0 and sort for share, sort in zip(shares[0], whole, strict=False)):
                    return []  # the shares ask for none of the sentences there are
                left = [list(sort) for sort in whole]
                continue
            # where one of a pair has run out, the other takes its share
            weights *= (shares.sum(1) / np.maximum(weights.sum(1), 1e-9))[:, None]
            sort = left[rng.choice(4, p=weights.flatten() / weights.sum())]
            drawn.append(sort.pop(rng.integers(len(sort))))
        groups.append(Group(picture, tuple(drawn)))
    return groups
