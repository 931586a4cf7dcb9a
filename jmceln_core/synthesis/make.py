"""Made pictures as a split of their own, to measure on or to look at:

    python -m jmceln_core.synthesis.make --root DATA --kind tables --split heldout --pictures 150 --out DIR

Training makes its own in the loader's workers (`data.composition`). docs/synthesis.md says what is in them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jmceln_core.command import refused
from jmceln_core.config import COMPOSED, ConfigError
from jmceln_core.data.grounding import DataError, Expression, Picture
from jmceln_core.synthesis.composition.live import Maker, makers, told
from jmceln_core.synthesis.rules import facts
from jmceln_core.synthesis.writing import print_counts, write_split

FIRST_ID = {kind: 81_000_000 + 1_000_000 * k for k, kind in enumerate(COMPOSED)}


def made(
    maker: Maker, first: int, pictures: int, seed: int, *, pairs: bool
) -> Iterator[tuple[Picture, np.ndarray, list[Expression]]]:
    """So many pictures with what is said of them; with `pairs` only of what tells a thing from its like: colours,
    clothes and denials of things that have one of their name beside them, and near misses."""
    for number in range(first, first + pictures):
        rng = np.random.default_rng([seed, number])
        staged = maker(number, rng)
        said = facts.sentences(staged, rng, one=24, several=0, none=4) if pairs else told(staged, rng)
        if pairs:
            names = {s.instance.id: s.said[0][0] for s in staged.subjects}
            alike = {key for key, name in names.items() if list(names.values()).count(name) > 1}
            said = [e for e in said if not e.targets or (e.kind not in ("name", "place") and set(e.targets) <= alike)]
        yield staged.picture, staged.rgb, said


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.synthesis.make", description="make pictures with sentences"
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder that holds cutouts/, people/, objects/")
    parser.add_argument("--kind", choices=COMPOSED, required=True)
    parser.add_argument("--split", choices=("train", "heldout"), default="heldout", help="of the things shown")
    parser.add_argument("--pictures", type=int, required=True, help="how many")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the split to")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures (default: 0)")
    parser.add_argument("--pairs", action="store_true", help="only sentences that tell a thing from its like")
    args = parser.parse_args(arguments)
    try:
        maker = makers(args.root, [args.kind], args.split)[args.kind]
        pictures = made(maker, FIRST_ID[args.kind], args.pictures, args.seed, pairs=args.pairs)
        counts = write_split(tqdm(pictures, "pictures", args.pictures, disable=None), args.out, args.split)
    except (DataError, ConfigError, OSError) as error:
        return refused("error", error)
    print_counts(counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
