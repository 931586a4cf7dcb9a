"""Rule-made and borrowed sentences beside those that people wrote about pictures."""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Picture
from jmceln_core.synthesis.rules import expressions as rules
from jmceln_core.synthesis.rules.names import existence
from jmceln_core.synthesis.rules.photograph import Scene


def enrich(data: GroundingData, config: DataConfig, *, seed: int) -> GroundingData:
    """The data with rule-made and borrowed sentences added, drawn by (seed, picture id), by `config.workers` processes.

    `config.generated`, `plurals` and `absent` need every picture's pixels once (colours); `borrowed` needs none.
    """
    added: dict[int, list[Expression]] = defaultdict(list)
    if config.generated or config.plurals or config.absent or config.names:
        say = partial(_say, config=config, seed=seed)
        # pictures that came with sentences made by a rule have theirs
        made = {e.picture_id for e in data.expressions if e.origin == "generated"}
        told = data.by_picture()
        pictures = [(p, told[p.id]) for p in data.pictures.values() if p.id not in made]
        with Pool(config.workers) if config.workers else nullcontext() as pool:
            said = map(say, pictures) if pool is None else pool.imap(say, pictures, chunksize=8)
            for (picture, _), sentences in zip(
                pictures, tqdm(said, "sentences", len(pictures), unit="picture"), strict=True
            ):
                added[picture.id] += sentences
    if config.borrowed:
        for expression in borrow(data, config.borrowed, seed=seed):
            added[expression.picture_id].append(expression)
    return GroundingData(data.pictures, data.expressions + [e for key in data.pictures for e in added[key]])


def _say(about: tuple[Picture, list[Expression]], *, config: DataConfig, seed: int) -> list[Expression]:
    """Rule-made sentences about one picture, of which these are written."""
    picture, written = about
    try:
        scene = Scene(picture, picture.load())
    except DataError:
        return []  # where the picture itself is wanted, this is said and counted
    rng = np.random.default_rng([seed, picture.id])
    return [
        *rules.describe(scene, rng, limit=config.generated),
        *rules.plurals(scene, rng, limit=config.plurals),
        *rules.absent(scene, rng, limit=config.absent),
        *existence(scene, written, rng, limit=config.names),
    ]


def borrow(data: GroundingData, limit: int, *, seed: int) -> list[Expression]:
    """At most `limit` sentences for each completely annotated picture that match nothing in it: other pictures'
    written sentences about a kind of thing that is annotated in its folder, but not in it."""
    kinds: dict[Path, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # folder -> kind -> sentences
    for expression in data.expressions:
        picture = data.pictures[expression.picture_id]
        if expression.origin == "written" and len(expression.targets) == 1:
            kind = picture.instance(expression.targets[0]).category
            kinds[picture.path.parent][kind].append(expression.text)
    borrowed = []
    for picture in data.pictures.values():
        here = {i.category for i in picture.instances}
        elsewhere = sorted(kinds[picture.path.parent].keys() - here)
        if not picture.complete or not elsewhere:
            continue
        rng = np.random.default_rng([seed, picture.id, 1])
        for kind in rng.choice(elsewhere, min(limit, len(elsewhere)), replace=False):
            texts = kinds[picture.path.parent][str(kind)]
            borrowed.append(Expression(picture.id, (), texts[rng.integers(len(texts))], "borrowed", "generated"))
    return borrowed
