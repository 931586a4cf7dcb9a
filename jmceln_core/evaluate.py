"""Measure a checkpoint on a data set, beside the trivial answers:

    python -m jmceln_core.evaluate CHECKPOINT --data.root ROOT --data.dataset NAME --split SPLIT --output DIR

DIR then holds metrics.json, records.jsonl (one object a sentence) and table.md; docs/evaluation.md says what is
measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from jmceln_core.checkpoint import CheckpointError
from jmceln_core.data.grounding import DataError, GroundingData, read_coco
from jmceln_core.evaluation import bootstrap, report
from jmceln_core.evaluation.protocol import PROTOCOLS
from jmceln_core.evaluation.run import evaluate, subset
from jmceln_core.segmenter import Precision, Segmenter

# --data.dataset: how (root, split) is read.
READERS: dict[str, Callable[[Path, str], GroundingData]] = {"coco": read_coco}


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


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
        "--data.dataset", dest="dataset", choices=READERS, default="coco", help="its layout (default: coco)"
    )
    data.add_argument("--split", required=True, help="for example heldout")
    data.add_argument("--limit", type=_positive, metavar="N", help="N pictures only, chosen by the seed: a quick look")
    measure = parser.add_argument_group("measurement")
    measure.add_argument(
        "--protocol", choices=PROTOCOLS, default="lavt", help="how IoU meets a threshold (default: lavt)"
    )
    measure.add_argument(
        "--draws", type=_positive, default=bootstrap.DRAWS, help="bootstrap draws (default: %(default)s)"
    )
    measure.add_argument("--seed", type=int, default=0, help="of the bootstrap and of --limit (default: 0)")
    model = parser.add_argument_group("model")
    model.add_argument("--device", help="for example cpu or cuda (default: a GPU if there is one)")
    model.add_argument("--precision", choices=get_args(Precision), help="default: fp32")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="gets metrics.json, records.jsonl, table.md"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says; print the table. Returns the exit status."""
    args = _parser().parse_args(arguments)
    segmenter = None
    try:
        data = READERS[args.dataset](args.root, args.split)
        if args.limit is not None:
            data = subset(data, args.limit, args.seed)
        if args.checkpoint != "none":
            segmenter = Segmenter.load(args.checkpoint, device=args.device, precision=args.precision)
        args.output.mkdir(parents=True, exist_ok=True)  # now, not after an hour of work
    except (CheckpointError, DataError, OSError, ValueError) as error:
        return _refused(error)
    try:
        found = evaluate(segmenter, data, protocol=PROTOCOLS[args.protocol])
    except DataError as error:
        return _refused(error)
    about = {name: getattr(args, name) for name in ("checkpoint", "dataset", "split", "limit")}
    about["root"] = str(args.root)
    summary = report.write(found, args.output, about=about, draws=args.draws, seed=args.seed)
    print(report.markdown(summary))
    return 0


def _refused(error: Exception) -> int:
    print(f"evaluate: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
