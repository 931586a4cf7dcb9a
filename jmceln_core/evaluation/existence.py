"""Does a network see what is plainly there, and deny what is not?

    python -m jmceln_core.evaluation.existence [LABEL=]CHECKPOINT ... --root DATA --out DIR [--pairs NAME=FOLDER/SPLIT]

Asked are bare names and words that nobody knows about coco_mini's held-out pictures, the mission's sentence about its
giraffes, and the sentences of the sets of pairs. DIR/existence.md and DIR/existence.json get the numbers;
docs/evaluation.md says what they are.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from jmceln_core.answer import Status
from jmceln_core.command import positive, refused
from jmceln_core.config import ConfigError
from jmceln_core.data.grounding import Expression, GroundingData, Picture
from jmceln_core.data.left_out import left_out_pictures, unknown_words
from jmceln_core.data.readers import read
from jmceln_core.evaluation import bootstrap, report, sections
from jmceln_core.evaluation.metrics import Ratio, points_inside
from jmceln_core.evaluation.run import readable, subset
from jmceln_core.evaluation.scene import Scene
from jmceln_core.evaluation.sets import check_label
from jmceln_core.evaluation.table import Candidate
from jmceln_core.segmenter import Segmenter
from jmceln_core.synthesis.vocabulary import names_of

PLAIN = 0.01  # of the picture: the largest of its kind covers more where a bare name must be understood
MISSION = ("the giraffe not eating grass", "the giraffe")
ASKED = 2  # pictures for each unknown word
LEVEL = 0.95

ANCHOR, NUMBER = "anchor on it", "right number"
COLUMNS = (
    Status.NOT_PRESENT.name,
    ANCHOR,
    NUMBER,
    Status.FOUND.name,
    Status.AMBIGUOUS.name,
    Status.LOW_CONFIDENCE.name,
)

Found = dict[str, dict[str, dict[str, dict[str, Any]]]]  # label -> part -> row -> its numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What was said to one sentence; `on_it`: the anchor lies inside the union of what the sentence means; `counted`:
    there are as many instances as things that it means."""

    expression: Expression
    status: Status | None  # None: nothing was said, the picture cannot be read
    on_it: bool
    counted: bool


# What is asked: the `kind` of each sentence is its row -----------------------------------------------------------


def bare_names(data: GroundingData) -> GroundingData:
    """A kind's first said name, "the NAME", for each category that a completely annotated picture plainly shows.

    Plainly: the largest thing of exactly this category covers more than PLAIN of the picture. Row "one": nothing else
    of the category is annotated, "several": more is, crowd regions included; an anchor must lie on a thing, though.
    """
    asked = []
    for picture in data.pictures.values():
        if not picture.complete:
            continue
        largest: dict[str, int] = {}
        for instance, mask in Scene(picture).things:
            largest[instance.category] = max(largest.get(instance.category, 0), int(np.count_nonzero(mask)))
        for category, area in largest.items():
            if area > PLAIN * picture.height * picture.width:
                there = sum(instance.category == category for instance in picture.instances)
                name = names_of(category).said[0][0]
                row = "one" if there == 1 else "several"
                asked.append(Expression(picture.id, _things(picture, category), f"the {name}", row))
    return GroundingData(data.pictures, asked)


def giraffes(heldout: GroundingData, train: GroundingData, left_out: Iterable[int]) -> GroundingData:
    """MISSION about each picture with giraffes, any of which will do. Rows: which sentence, and whether training saw
    the picture (one of `train` that is not `left_out`). Raises DataError if the two share a picture id."""
    whole = heldout.merge(train)
    seen = train.pictures.keys() - left_out
    asked = [
        Expression(key, things, text, f"{text}, {'trained on' if key in seen else 'kept out of training'}")
        for text in MISSION
        for key, picture in whole.pictures.items()
        if (things := _things(picture, "giraffe"))
    ]
    return GroundingData(whole.pictures, asked)


def unknown(data: GroundingData, words: Mapping[str, str], *, seed: int = 0) -> GroundingData:
    """Each of the sentences `words` (with its group, the row) about ASKED pictures drawn by the seed.

    Drawn are completely annotated pictures without a thing that one of the sentence's words may name.
    """
    asked = []
    for index, (text, group) in enumerate(words.items()):
        fit = sorted(p.id for p in data.pictures.values() if p.complete and not _may_show(p, text))
        drawn = np.random.default_rng([seed, index]).choice(fit, min(ASKED, len(fit)), replace=False) if fit else ()
        asked += [Expression(int(key), (), text, group) for key in drawn]
    return GroundingData(data.pictures, asked)


def pairs(data: GroundingData) -> GroundingData:
    """A data set's own sentences. Rows: the part of `kind` before a colon, and how many things are meant."""

    def row(expression: Expression) -> str:
        several = ("nothing", "one thing", "several things")[min(2, len(expression.targets))]
        return f"{expression.kind.partition(':')[0]}, {several}"

    asked = [Expression(e.picture_id, e.targets, e.text, row(e), e.origin) for e in data.expressions]
    return GroundingData(data.pictures, asked)


def parts(
    root: Path, sources: Mapping[str, str] | None = None, *, limit: int | None = None, seed: int = 0
) -> dict[str, GroundingData]:
    """What is asked, by the part's heading: of coco_mini below `root`, and of pairs by NAME from "FOLDER/SPLIT" below
    `root` or absolute; of `limit` pictures each. Raises DataError for what cannot be read, ConfigError for a NAME that
    is taken."""
    heldout, train = (read("coco", root, f"coco_mini/{split}") for split in ("heldout", "train"))
    found = {
        "Bare names": bare_names(heldout),
        "The mission's sentence": giraffes(heldout, train, left_out_pictures()),
        "Unknown words": unknown(heldout, unknown_words(), seed=seed),
    }
    for name, source in (sources or {}).items():
        if name in found:
            raise ConfigError(f"--pairs {name}={source}: the name is taken; give the pairs another one")
        found[name] = pairs(read("coco", root, source))
    return found if limit is None else {name: subset(data, limit, seed) for name, data in found.items()}


def _things(picture: Picture, category: str) -> tuple[int, ...]:
    """The ids of the picture's instances of exactly this category, crowd regions left out."""
    return tuple(i.id for i in picture.instances if i.category == category and not i.crowd)


def _may_show(picture: Picture, text: str) -> bool:
    """Whether a name that somebody may give to a thing of the picture is said in the sentence."""
    said = f" {text.lower()} "
    return any(f" {name} " in said for i in picture.instances for name in names_of(i.category).heard)


# What is answered ------------------------------------------------------------------------------------------------


def ask(segmenter: Segmenter, data: GroundingData) -> list[Answer]:
    """Each sentence once, picture by picture.

    A picture that cannot be read costs its sentences. Raises DataError if that is every picture, and ValueError for a
    sentence without a word.
    """
    answers: list[Answer] = []
    unread: list[str] = []
    asked = {key: expressions for key, expressions in data.by_picture().items() if expressions}
    for key, expressions in tqdm(asked.items(), "existence", unit="picture", disable=None):
        scene = Scene(data.pictures[key])
        if (pixels := readable(scene.pixels, unread, len(asked))) is None:
            answers += [Answer(expression, None, False, False) for expression in expressions]
            continue
        segmenter.set_image(pixels)
        found = segmenter.segment_all([expression.text for expression in expressions])
        for expression, answer in zip(expressions, found, strict=True):
            truth = scene.truth(expression.targets).region.mask
            counted = len(answer.instances) == len(expression.targets)
            answers.append(Answer(expression, answer.status, points_inside(answer.anchor, truth), counted))
    return answers


def summarise(answers: Iterable[Answer], **options: Any) -> dict[str, dict[str, Any]]:
    """By row, in the alphabet's order: `sentences`, `pictures` and, as `metrics`, the shares of COLUMNS with their
    intervals; `options` go to `bootstrap.intervals`. ANCHOR and NUMBER are of sentences that mean something."""
    rows: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        rows[answer.expression.kind].append(answer)
    return {row: _shares(rows[row], **options) for row in sorted(rows)}


def _shares(answers: Sequence[Answer], **options: Any) -> dict[str, Any]:
    each = np.ones(len(answers))
    ratios = {s.name: Ratio(np.array([a.status is s for a in answers], np.float64), each) for s in Status}
    means = np.array([bool(a.expression.targets) for a in answers], np.float64)
    ratios[ANCHOR] = Ratio(np.array([a.on_it for a in answers], np.float64), means)
    ratios[NUMBER] = Ratio(np.array([a.counted for a in answers], np.float64) * means, means)
    pictures = np.array([a.expression.picture_id for a in answers], np.int64)
    unread = sum(a.status is None for a in answers)
    shares = report.bootstrapped({name: ratios[name] for name in COLUMNS}, pictures, **options)
    return shares | ({"unread": unread} if unread else {})


def markdown(summary: Mapping[str, Any]) -> str:
    """The tables of an existence.json."""
    interval, found = summary["interval"], summary["found"]
    named = [((label, about["checkpoint"], about["sha256"]), ()) for label, about in summary["checkpoints"].items()]
    lines = [
        "# Existence",
        "",
        f"Brackets: {interval['level']:.0%} bootstrap interval by picture ({interval['draws']:,} draws). {ANCHOR}: the "
        "share of anchors inside what is meant, any of it; no answer is none. Shares of all the row's sentences.",
        *([f"At most {summary['limit']} pictures of each part."] if summary["limit"] else []),
        "",
        *sections.table("answer | checkpoint | SHA-256", (), named),
    ]
    for part in dict.fromkeys(part for parts_of in found.values() for part in parts_of):
        rows = [
            (labels, (row["sentences"], row["pictures"], *(sections.cell(row["metrics"][name]) for name in COLUMNS)))
            for labels, row in report.broken_down(found, part)
        ]
        lines += report.section(part, sections.table("asked | answer", ("sentences", "pictures", *COLUMNS), rows))
        for labels, row in report.broken_down(found, part):
            if "unread" in row:
                lines += ["", f"{', '.join(labels)}: {row['unread']} sentences count 0, their pictures cannot be read."]
    return "\n".join(lines) + "\n"


# The command -----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.evaluation.existence",
        description="Does a network see what is plainly there, and deny what is not?",
    )
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="[LABEL=]CHECKPOINT",
        help="a .safetensors file or the name of a bundled model",
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DATA", help="holds coco_mini")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets existence.md and existence.json")
    parser.add_argument(
        "--pairs",
        action="append",
        default=[],
        metavar="NAME=FOLDER/SPLIT",
        help="a data set in COCO's layout, below DATA or absolute; may be given several times",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="N pictures of each part: a quick look")
    parser.add_argument("--draws", type=positive, default=bootstrap.DRAWS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and of what is drawn (default: 0)")
    parser.add_argument("--threads", type=positive, help="of the processor for torch (default: torch's choice)")
    parser.add_argument("--device", help="for example cpu or cuda (default: a GPU if there is one)")
    return parser


def _distinct(named: Iterable[tuple[str, Any]], option: str) -> dict[str, Any]:
    """By name; raises ConfigError for a name that is there twice."""
    found: dict[str, Any] = {}
    for name, value in named:
        if name in found:
            raise ConfigError(f"{name!r} is taken: give the other {option} another name, NAME={value}")
        found[name] = value
    return found


def _source(text: str) -> tuple[str, str]:
    """NAME and FOLDER/SPLIT of a --pairs. Raises ConfigError for another form."""
    name, equals, source = text.partition("=")
    if not equals or "/" not in source:
        raise ConfigError(f"--pairs {text}: must be NAME=FOLDER/SPLIT")
    check_label(name)
    return name, source


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; print the tables. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    options = {"draws": args.draws, "level": LEVEL, "seed": args.seed}
    try:
        candidates = _distinct(((c.label, c) for c in map(Candidate.parse, args.checkpoints)), "checkpoint")
        sources = _distinct(map(_source, args.pairs), "pairs")
        asked = parts(args.root, sources, limit=args.limit, seed=args.seed)
        found: Found = {}
        for label, candidate in candidates.items():
            log.info("%s: %d sentences", label, sum(len(data.expressions) for data in asked.values()))
            segmenter = Segmenter.load(candidate.path, device=args.device)
            found[label] = {part: summarise(ask(segmenter, data), **options) for part, data in asked.items()}
        summary = {
            "interval": report.interval_about(**options),
            "checkpoints": {c.label: {"checkpoint": str(c.path), "sha256": c.sha256} for c in candidates.values()},
            "root": str(args.root),
            "pairs": sources,
            "limit": args.limit,
            "found": found,
        }
        args.out.mkdir(parents=True, exist_ok=True)
        text = markdown(summary)
        report.write_text(args.out / "existence.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        report.write_text(args.out / "existence.md", text)
    except (RuntimeError, OSError, ValueError) as error:  # CheckpointError, DataError, ConfigError; a GPU's memory
        return refused("existence", error)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
