"""Which part helps: `python -m jmceln_core.ablate --config FILE [--field.subfield VALUE ...] --output DIR`.

Trains rows 1 to 6 of the paper's Table 2, and a seventh fed by static words, each with several seeds, and prints the
table (docs/ablation.md). With `--study STUDY` the rows of that file, or of the study of that name that comes with the
package: data, parts, fusion. FILE and the fields are those of jmceln_core.train. The same command again goes on where
it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jmceln_core.command import named, parse_training, training_parser
from jmceln_core.config import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = training_parser("jmceln_core.ablate", "train and compare rows: Table 2's, or a study's")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs and of table.md, table.json")
    parser.add_argument("--study", type=str, default="", help="YAML file of other rows, or a study's name")
    parser.add_argument("--rows", type=str, default="", help="which rows, with commas between them; default: all")
    parser.add_argument("--seeds", type=int, default=3, help="how many: optim.seed and those that follow it")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: CUDA if there is one")
    config, options = parse_training(parser, arguments)

    from jmceln_core.data.grounding import DataError
    from jmceln_core.training import ablation
    from jmceln_core.training.run_folder import TrainingError

    try:
        numbers = [int(n) for n in options.rows.split(",") if options.rows]
    except ValueError:
        parser.error(f"--rows {options.rows}: numbers with commas between them, for example 1,5")
    try:
        study = ablation.read_study(Path(named(options.study, "study"))) if options.study else ablation.TABLE_2
        found = ablation.run(
            config, options.output, study=study, rows=numbers, seeds=options.seeds, device=options.device
        )
        print(found.markdown())
    except (ConfigError, DataError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
