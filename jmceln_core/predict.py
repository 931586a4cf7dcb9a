"""Ask one sentence about one picture:

    python -m jmceln_core.predict IMAGE "the red mug" --out overlay.png

prints the answer; with --json as one JSON object and nothing else on standard output: status, score, centroid [u, v],
anchor [u, v], box [x, y, w, h], area in pixels, seconds for the picture and the sentence together, without loading
the model, and instances {anchor, box, area, text}: the thing, all things that a sentence in the plural means, or those
that an ambiguous one may mean; `text` is the part of the sentence, where it has several. What is not there is null.
Exit status 0 for every answer, 2 for bad input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jmceln_core import overlay
from jmceln_core.answer import Segmentation, Status
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.pictures import check_writable, read_picture, write_picture
from jmceln_core.segmenter import Precision, Segmenter


def predict(segmenter: Segmenter, rgb: np.ndarray, text: str) -> Segmentation:
    """The answer about an (H, W, 3) uint8 RGB picture; its `seconds` include the image half."""
    begin = time.perf_counter()
    segmenter.set_image(rgb)
    answer = segmenter.segment(text)
    return replace(answer, seconds=time.perf_counter() - begin)


def as_json(answer: Segmentation) -> dict[str, Any]:
    """The fields of the module's docstring, ready for json."""
    return {
        "status": answer.status.value,
        "score": answer.score,
        "centroid": answer.centroid,
        "anchor": answer.anchor,
        "box": answer.box,
        "area": answer.area,
        "seconds": answer.seconds,
        "instances": [instance._asdict() for instance in answer.instances],
    }


def as_text(answer: Segmentation) -> str:
    """The same in a line for people."""
    parts = [f"{answer.status.value}, score {answer.score:.2f}"]
    if answer.centroid and answer.anchor and answer.box:
        x, y, w, h = answer.box
        parts += [
            "centroid ({:.1f}, {:.1f})".format(*answer.centroid),
            "anchor ({:.0f}, {:.0f})".format(*answer.anchor),
            f"box {w}x{h} at ({x}, {y})",
            f"{answer.area} pixels",
        ]
    if len(answer.instances) > 1:
        places = " ".join("({:.0f}, {:.0f})".format(*one.anchor) for one in answer.instances)
        parts.append(
            f"one of {places}" if answer.status is Status.AMBIGUOUS else f"{len(answer.instances)} things {places}"
        )
    return ", ".join([*parts, f"{answer.seconds:.2f} s"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.predict", description="Find in a picture what a sentence refers to."
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture file")
    parser.add_argument("text", metavar="SENTENCE", help='what to find, for example "the mug left of the plate"')
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the picture with the answer drawn into it")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--model", help="a .safetensors file or the name of a bundled model (default: bundled)")
    parser.add_argument("--device", help="for example cpu or cuda (default: a GPU if there is one)")
    parser.add_argument("--precision", choices=get_args(Precision), help="bf16 and fp16 need a GPU (default: fp32)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer as the command line says; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        # Whatever a library prints meanwhile must not spoil the JSON.
        with contextlib.redirect_stdout(sys.stderr):
            if args.out:
                check_writable(args.out)
            rgb = read_picture(args.image)
            segmenter = Segmenter.load(args.model, device=args.device, precision=args.precision)
            answer = predict(segmenter, rgb, args.text)
            if args.out:
                write_picture(args.out, overlay.draw(rgb, answer, args.text))
    except (CheckpointError, ValueError, RuntimeError, OSError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2
    print(json.dumps(as_json(answer)) if args.json else as_text(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
