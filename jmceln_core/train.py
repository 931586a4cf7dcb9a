"""Train: `python -m jmceln_core.train --config FILE [--field.subfield VALUE ...] --output RUN`.

The same command again resumes. Fields are TrainConfig's (config.py), for example `--data.root DATA --optim.steps 500`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from jmceln_core.config import TrainConfig


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ArgumentParser(prog="python -m jmceln_core.train", description="train a model on a COCO-style data set")
    parser.add_argument("--config", action="config", help="YAML file of TrainConfig's fields")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run; resumes what it holds")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: CUDA if there is one")
    parser.add_class_arguments(TrainConfig, None)
    values = parser.parse_args(arguments)
    output, device = values.pop("output"), values.pop("device")
    values.pop("config")
    config = parser.instantiate(values)

    from jmceln_core.config import ConfigError
    from jmceln_core.data.grounding import DataError
    from jmceln_core.training.loop import Trainer

    try:
        Trainer(TrainConfig(**config), output, device=device).run()
    except (ConfigError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
