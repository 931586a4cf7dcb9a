"""How fast training is here: `python -m jmceln_core.benchmark --config FILE [--field.subfield VALUE ...]`.

Prints a table: the data pipeline alone, a training step alone, their ratio, memory, and the share of the GPU's peak.
FILE and fields are those of jmceln_core.train; the data set must be there, nothing of the run is kept.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser

from jmceln_core.config import ConfigError, TrainConfig
from jmceln_core.train import _recipe


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ArgumentParser(prog="python -m jmceln_core.benchmark", description="measure pipeline and training step")
    parser.add_argument("--config", action="config", help="YAML file of TrainConfig's fields, or paper, bundled, tiny")
    parser.add_argument("--steps", type=int, default=30, help="training steps to measure (default: 30)")
    parser.add_argument("--output", type=Path, default=None, help="file for the same as JSON")
    parser.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; default: CUDA if there is one")
    parser.add_class_arguments(TrainConfig, None)
    values = parser.parse_args([_recipe(x) for x in (sys.argv[1:] if arguments is None else arguments)])
    steps, output, device = values.pop("steps"), values.pop("output"), values.pop("device")
    values.pop("config")
    config = TrainConfig(**parser.instantiate(values))

    from jmceln_core.data.grounding import DataError
    from jmceln_core.training.benchmark import measure
    from jmceln_core.training.run_folder import TrainingError

    try:
        found = measure(config, steps=steps, device=device)
        if output is not None:
            numbers = asdict(found) | {"ratio": found.ratio, "share_of_peak": found.share_of_peak}
            output.write_text(json.dumps(numbers, indent=1) + "\n")
    except (ConfigError, DataError, TrainingError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(found.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
