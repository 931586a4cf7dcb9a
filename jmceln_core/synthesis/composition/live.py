"""Pictures composed on the fly: a share of a training step's pictures is made for it, fresh in every epoch.

What a step holds stays a function of (seed, step): a picture is made by the random generator of the sample whose place
it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from jmceln_core.config import COMPOSED, CompositionConfig, ConfigError
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Picture
from jmceln_core.synthesis import vocabulary
from jmceln_core.synthesis.composition.cutouts import Split, cut_from, cuts_from
from jmceln_core.synthesis.composition.people import People
from jmceln_core.synthesis.composition.tables import Tables
from jmceln_core.synthesis.rules import expressions, facts
from jmceln_core.synthesis.rules.facts import Staged
from jmceln_core.synthesis.rules.names import nothing
from jmceln_core.synthesis.rules.photograph import Scene
from jmceln_core.synthesis.tabletop.catalogue import texture_paths

FIRST_ID = 80_000_000  # of composed pictures
QUALITY = (60, 95)  # of the JPEG a picture is handed on as, worse and better as cameras' are
ATTEMPTS = 20  # pictures in a row of which nothing can be said
RULES = 4  # sentences by the rules for photographs, which know relations, beside those from facts
NOTHING = 2  # words for what is not there, beside the near misses

Maker = Callable[[int, np.random.Generator], Staged]


def makers(
    root: Path, kinds: Sequence[str], split: Split = "train", photographs: GroundingData | None = None
) -> dict[str, Maker]:
    """What makes the pictures of these kinds, from the folders `cutouts`, `people` and `objects/textures` below `root`,
    and from what can be cut out of annotated `photographs`.

    ConfigError names a kind that does not exist, DataError a folder that is not there.
    """
    textures = texture_paths(root / "objects", split)
    cuts = list(cuts_from(photographs or GroundingData()))
    made: dict[str, Maker] = {}
    for kind in dict.fromkeys(kinds):
        if kind == "tables":
            made[kind] = Tables(root / "cutouts", split=split, textures=textures, further=cut_from(cuts))
        elif kind == "people":
            made[kind] = People(root / "people", split=split, backdrops=textures, further=cuts)
        else:
            raise ConfigError(f"{kind!r}: no such kind of composed picture; there are {', '.join(COMPOSED)}")
    return made


def told(staged: Staged, rng: np.random.Generator) -> list[Expression]:
    """Everything that is said of a made picture: from its facts, as people wrote of what it shows, by the rules for
    photographs, words for nothing."""
    said = facts.sentences(staged, rng)
    scene = Scene(staged.picture, staged.rgb, staged.covers)
    known = {e.text.removeprefix("the ") for e in said}
    more = expressions.describe(scene, rng, limit=1)
    chosen = [more[k] for k in rng.permutation(len(more))[:RULES]]
    kinds = vocabulary.known_categories() if staged.whole else ()
    more = [*staged.written, *chosen, *nothing(scene, said, rng, kinds=kinds, limit=NOTHING)]
    return said + [e for e in more if e.text.removeprefix("the ") not in known]


class Composition:
    """Makes a picture with so many sentences about it, now and then. `photographs` are those trained on."""

    def __init__(
        self, config: CompositionConfig, root: Path, *, absent_share: float, photographs: GroundingData | None = None
    ) -> None:
        self.config, self.absent_share = config, absent_share
        cut = photographs if config.photographs else None
        self.makers: Mapping[str, Maker] = makers(root, config.kinds, photographs=cut)

    def __call__(self, count: int, rng: np.random.Generator) -> tuple[Picture, list[Expression]] | None:
        """A picture and `count` sentences about it, or None as often as `config.share` leaves photographs.

        Sentences without a target are drawn in the share `absent_share`; there are none twice while there are others.
        """
        if rng.random() >= self.config.share:
            return None
        kind = self.config.kinds[int(rng.integers(len(self.config.kinds)))]
        for _ in range(ATTEMPTS):
            staged = self.makers[kind](FIRST_ID + int(rng.integers(2**30)), rng)
            said = told(staged, rng)
            meant, absent = [e for e in said if e.targets], [e for e in said if not e.targets]
            if meant:
                break
        else:
            raise DataError(
                f"{ATTEMPTS} pictures of {kind} in a row of which nothing can be said: the folder is too small"
            )
        few = int(rng.binomial(count, self.absent_share)) if absent else 0
        drawn = _some(absent, few, rng) + _some(meant, count - few, rng)
        _, encoded = cv2.imencode(
            ".jpg", staged.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))]
        )
        picture = replace(staged.picture, encoded=encoded.tobytes())
        return picture, [drawn[k] for k in rng.permutation(count)]


def _some(of: Sequence[Expression], count: int, rng: np.random.Generator) -> list[Expression]:
    """`count` of them, each once before any comes again."""
    rounds = [rng.permutation(len(of)) for _ in range(-(-count // len(of)))] if of else []
    return [of[k] for order in rounds for k in order][:count]
