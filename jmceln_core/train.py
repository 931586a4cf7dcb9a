"""Train: `python -m jmceln_core.train --config FILE [--field.subfield VALUE ...] --output RUN`.

The same command again resumes. Fields are TrainConfig's (config.py), for example `--data.root DATA --optim.steps 500`.
FILE is a path, or the name of a recipe that comes with the package: paper, bundled, tiny, ablation. Several processes:
`torchrun --nproc_per_node 8 -m jmceln_core.train ...` (docs/training.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

from jmceln_core.command import parse_training, training_parser
from jmceln_core.config import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = training_parser("jmceln_core.train", "train a model on a grounding data set")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run; resumes what it holds")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: CUDA if there is one")
    config, options = parse_training(parser, arguments)

    from jmceln_core.data.grounding import DataError
    from jmceln_core.training.loop import Trainer
    from jmceln_core.training.run_folder import TrainingError

    try:
        Trainer(config, options.output, device=options.device).run()
    except (ConfigError, DataError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
