"""Train: `python -m jmceln_core.train --config FILE [--field.subfield VALUE ...] --output RUN`.

The same command again resumes. Fields are TrainConfig's (config.py), for example `--data.root DATA --optim.steps 500`.
FILE is a path, or the name of a recipe that comes with the package: paper, bundled, tiny. Several processes:
`torchrun --nproc_per_node 8 -m jmceln_core.train ...` (docs/training.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from jmceln_core.config import ConfigError, TrainConfig, resource


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ArgumentParser(prog="python -m jmceln_core.train", description="train a model on a grounding data set")
    parser.add_argument("--config", action="config", help="YAML file of TrainConfig's fields, or paper, bundled, tiny")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run; resumes what it holds")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: CUDA if there is one")
    parser.add_class_arguments(TrainConfig, None)
    values = parser.parse_args([_recipe(x) for x in (sys.argv[1:] if arguments is None else arguments)])
    output, device = values.pop("output"), values.pop("device")
    values.pop("config")
    config = parser.instantiate(values)

    from jmceln_core.data.grounding import DataError
    from jmceln_core.training.loop import Trainer
    from jmceln_core.training.run_folder import TrainingError

    try:
        Trainer(TrainConfig(**config), output, device=device).run()
    except (ConfigError, DataError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _recipe(argument: str) -> str:
    """The file of a recipe that is given by its name; anything else as it is."""
    if argument.isidentifier() and not Path(argument).exists():
        try:
            return str(resource(f"train/{argument}.yaml"))
        except ConfigError:
            pass
    return argument


if __name__ == "__main__":
    sys.exit(main())
