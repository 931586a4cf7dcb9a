"""New pictures from real ones: things cut out of photographs and pasted into others, with what can be said of them.

    python -m jmceln_core.synthesis.compose --root ROOT --sources '[FOLDER/SPLIT, ...]' --pictures N --out DIR

Pasting cut-outs at random places is known to teach segmentation (Ghiasi et al., Simple Copy-Paste, CVPR 2021). What it
adds here is language: in a composed picture it is known what hides what, kinds meet in company no photograph shows, and
"the left one", "the bigger one", "the one behind" have exact masks. docs/composition.md says how.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jmceln_core.command import refused
from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Picture
from jmceln_core.data.readers import read_training
from jmceln_core.synthesis.composition.backdrops import SIDE, backdrop, looked_for, table
from jmceln_core.synthesis.composition.cutting import cuts_of
from jmceln_core.synthesis.composition.pasting import Composed, Composer
from jmceln_core.synthesis.composition.saying import Speaker
from jmceln_core.synthesis.tabletop.catalogue import texture_paths
from jmceln_core.synthesis.writing import print_counts, write_split

SPLIT = "train"
FIRST_ID = 70_000_000  # of the pictures
TABLES = 0.25  # share of the pictures that are of an empty table top, where there are textures for any


def compose(
    data: GroundingData,
    kinds: dict[int, frozenset[str]],
    *,
    pictures: int,
    textures: Sequence[Path] = (),
    seed: int = 0,
    side: int = SIDE,
) -> Iterator[tuple[Composed, list[Expression]]]:
    """So many composed pictures with their sentences; a function of the arguments alone.

    data: what they are made of, kinds: `looked_for`, textures: of table tops. Cuts come from all pictures; backdrops
    are the completely annotated ones in turn, and table tops. DataError if there is nothing to cut out or paste into.
    """
    told = data.by_picture()
    cuts = [
        cut
        for picture in tqdm(data.pictures.values(), "cuts", unit="picture", disable=None)
        for cut in cuts_of(picture, picture.load(), [e for e in told[picture.id] if e.origin == "written"])
    ]
    composer, speaker = Composer(cuts), Speaker(data, cuts)
    every = frozenset().union(*kinds.values())
    backdrops = _backdrops(data, pictures, seed)
    made = 0
    for turn, key in enumerate(backdrops):
        if made == pictures:
            return
        rng = np.random.default_rng([seed, turn])
        if textures and rng.random() < TABLES:
            into = table(textures[int(rng.integers(len(textures)))], every, rng, side)
        else:
            into = backdrop(data.pictures[key], kinds[key], side)
        composed = composer(into, FIRST_ID + made, rng)
        if composed is not None and (sentences := speaker(composed, into, rng)):
            made += 1
            yield composed, sentences
    raise DataError(f"only {made} pictures could be composed of these: there is hardly a place where anything fits")


def _backdrops(data: GroundingData, pictures: int, seed: int) -> Iterator[int]:
    """The completely annotated pictures in turn, often enough."""
    complete = sorted(key for key, picture in data.pictures.items() if picture.complete)
    if not complete:
        raise DataError("no picture is completely annotated: what is said of a composed one could not be checked")
    order = np.random.default_rng(seed)
    for _ in range(10 + 10 * pictures // len(complete)):
        yield from order.permutation(complete).tolist()


def write(made: Iterator[tuple[Composed, list[Expression]]], out: Path) -> Counter[str]:
    """Write pictures and sentences as the split "train" of a folder (`write_split`). Returns what was written; how many
    of the instances were pasted, too."""
    counts: Counter[str] = Counter()

    def pictures() -> Iterator[tuple[Picture, np.ndarray, list[Expression]]]:
        for composed, sentences in made:
            counts["pasted"] += len(composed.pasted)
            yield composed.picture, composed.rgb, sentences

    return write_split(pictures(), out, SPLIT) + counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.synthesis.compose",
        description="compose new training pictures from annotated ones",
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder that holds the sources")
    parser.add_argument(
        "--sources", required=True, help="'[FOLDER/SPLIT, ...]': what training would read; first as there"
    )
    parser.add_argument("--pictures", type=int, required=True, help="how many to compose")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write instances_train.json, ... and images/ to"
    )
    parser.add_argument(
        "--objects", type=Path, help="folder with textures/*.jpg, as for data.render: also compose on them"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pictures (default: 0)")
    parser.add_argument("--side", type=int, default=SIDE, help=f"long side of the pictures in pixels (default: {SIDE})")
    parser.add_argument(
        "--validation", type=int, default=DataConfig.validation,
        help="pictures of the first source that training holds out, left out here as well (default: %(default)s)",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    sources = tuple(name.strip() for name in args.sources.strip("[] ").split(",") if name.strip())
    try:
        config = DataConfig(root=args.root, sources=sources, validation=args.validation, left_out=True)
        data, _ = read_training(config)
        made = compose(
            data,
            looked_for(args.root, sources),
            pictures=args.pictures,
            textures=texture_paths(args.objects, SPLIT) if args.objects else (),
            seed=args.seed,
            side=args.side,
        )
        counts = write(iter(tqdm(made, "pictures", args.pictures, disable=None)), args.out)
    except (DataError, OSError) as error:
        return refused("error", error)
    print_counts(counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
