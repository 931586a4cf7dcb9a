"""Measure a checkpoint on a data set, beside the trivial answers:

    python -m jmceln_core.evaluate CHECKPOINT --data.root ROOT --data.dataset NAME --split SPLIT --output DIR

DIR then holds metrics.json, records.jsonl (one object a sentence), table.md and gallery.html; docs/evaluation.md says
what is measured.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from jmceln_core.checkpoint import CheckpointError
from jmceln_core.command import positive, refused
from jmceln_core.data.grounding import DataError
from jmceln_core.data.readers import DATASETS, read
from jmceln_core.evaluation import bootstrap, gallery, report
from jmceln_core.evaluation.protocol import PROTOCOLS, Size, named
from jmceln_core.evaluation.run import evaluate, subset
from jmceln_core.evaluation.scene import side_of
from jmceln_core.segmenter import Precision, Segmenter


def _count(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.evaluate", description="Measure a checkpoint beside the trivial answers."
    )
    parser.add_argument(
        "checkpoint", help="a .safetensors file, the name of a bundled model, or none: trivial answers only"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data.root", dest="root", type=Path, required=True, metavar="ROOT", help="the data set's folder"
    )
    data.add_argument(
        "--data.dataset", dest="dataset", choices=DATASETS, default="coco", help="which it is (default: coco)"
    )
    data.add_argument("--split", required=True, help="for example val, testA, testB")
    data.add_argument(
        "--data.split_by", dest="split_by", default="", help="refcocog: umd or google (default: the usual one)"
    )
    data.add_argument(
        "--data.subset",
        dest="subset",
        type=_truth,
        default=False,
        metavar="true|false",
        help="true: the split may be a part of the published one (default: false)",
    )
    data.add_argument("--limit", type=positive, metavar="N", help="N pictures only, chosen by the seed: a quick look")
    measure = parser.add_argument_group("measurement")
    measure.add_argument(
        "--protocol", choices=PROTOCOLS, default="own", help="whose thresholds, size and IoU (default: own)"
    )
    measure.add_argument("--no-reject", action="store_true", help="the presence head may empty no mask")
    measure.add_argument(
        "--size",
        choices=get_args(Size),
        help="compare masks at the picture's own size, in the network's square or squashed (default: the protocol's)",
    )
    measure.add_argument(
        "--draws", type=positive, default=bootstrap.DRAWS, help="bootstrap draws (default: %(default)s)"
    )
    measure.add_argument("--seed", type=int, default=0, help="of the bootstrap, --limit and --gallery (default: 0)")
    measure.add_argument(
        "--gallery",
        type=_count,
        default=8,
        metavar="N",
        help="show the N best, worst and random answers in gallery.html; 0: none (default: %(default)s)",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--device", help="for example cpu or cuda (default: a GPU if there is one)")
    model.add_argument("--precision", choices=get_args(Precision), help="default: fp32")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="gets metrics.json, records.jsonl, table.md, gallery.html",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says; print the table. Returns the exit status."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    protocol = named(args.protocol, reject=not args.no_reject)
    segmenter = None
    try:
        data = read(args.dataset, args.root, args.split, split_by=args.split_by, subset=args.subset)
        if args.limit is not None:
            data = subset(data, args.limit, args.seed)
        if args.checkpoint != "none":
            segmenter = Segmenter.load(args.checkpoint, device=args.device, precision=args.precision)
        side_of(segmenter, args.size or protocol.size)
        args.output.mkdir(parents=True, exist_ok=True)  # now, not after an hour of work
    except (CheckpointError, DataError, OSError, ValueError) as error:
        return refused("evaluate", error)
    names = ("checkpoint", "dataset", "split", "split_by", "subset", "limit")
    about = {name: getattr(args, name) for name in names} | {"root": str(args.root)}
    try:
        found = evaluate(segmenter, data, protocol=protocol, size=args.size)
        summary = report.write(found, args.output, about=about, draws=args.draws, seed=args.seed)
        if segmenter and args.gallery:
            page = args.output / "gallery.html"
            gallery.write(page, segmenter, data, found, summary, count=args.gallery, seed=args.seed)
    except (RuntimeError, OSError) as error:  # DataError; a result that is not finite; a GPU's memory
        return refused("evaluate", error)
    print(report.markdown(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
