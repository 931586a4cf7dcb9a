"""The paper's ablation: `python -m jmceln_core.ablate --config FILE [--field.subfield VALUE ...] --output DIR`.

Trains rows 1 to 6 of the paper's Table 2, and a seventh fed by static words, each with several seeds, and prints the
table (docs/ablation.md). FILE and the fields are those of jmceln_core.train. The same command again goes on where it
stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser

from jmceln_core.config import ConfigError, TrainConfig
from jmceln_core.train import _recipe


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ArgumentParser(prog="python -m jmceln_core.ablate", description="train and compare the rows of Table 2")
    parser.add_argument("--config", action="config", help="YAML file of TrainConfig's fields, or a recipe's name")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs and of table.md, table.json")
    parser.add_argument("--rows", type=str, default="1,2,3,4,5,6,7", help="which rows, with commas between them")
    parser.add_argument("--seeds", type=int, default=3, help="how many: optim.seed and those that follow it")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: CUDA if there is one")
    parser.add_class_arguments(TrainConfig, None)
    values = parser.parse_args([_recipe(x) for x in (sys.argv[1:] if arguments is None else arguments)])
    output, rows, seeds, device = (values.pop(name) for name in ("output", "rows", "seeds", "device"))
    values.pop("config")
    config = TrainConfig(**parser.instantiate(values))

    from jmceln_core.data.grounding import DataError
    from jmceln_core.training import ablation
    from jmceln_core.training.run_folder import TrainingError

    try:
        numbers = [int(n) for n in rows.split(",")]
    except ValueError:
        parser.error(f"--rows {rows}: numbers with commas between them, for example 1,5")
    try:
        print(ablation.run(config, output, rows=numbers, seeds=seeds, device=device).markdown())
    except (ConfigError, DataError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
