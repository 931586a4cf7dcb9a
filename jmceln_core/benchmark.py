"""How fast training is here: `python -m jmceln_core.benchmark --config FILE [--field.subfield VALUE ...]`.

Prints a table: the data pipeline alone, a training step alone, their ratio, memory, and the share of the GPU's peak.
FILE and fields are those of jmceln_core.train; the data set must be there, nothing of the run is kept.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from jmceln_core.command import parse_training, training_parser
from jmceln_core.config import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = training_parser("jmceln_core.benchmark", "measure pipeline and training step")
    parser.add_argument("--steps", type=int, default=30, help="training steps to measure (default: 30)")
    parser.add_argument("--output", type=Path, default=None, help="file for the same as JSON")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: CUDA if there is one")
    config, options = parse_training(parser, arguments)

    from jmceln_core.data.grounding import DataError
    from jmceln_core.training.benchmark import measure
    from jmceln_core.training.run_folder import TrainingError

    try:
        found = measure(config, steps=options.steps, device=options.device)
        if options.output is not None:
            numbers = asdict(found) | {"ratio": found.ratio, "share_of_peak": found.share_of_peak}
            options.output.write_text(json.dumps(numbers, indent=1) + "\n")
    except (ConfigError, DataError, TrainingError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(found.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
