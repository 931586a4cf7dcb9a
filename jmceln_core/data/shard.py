"""Write shards: `python -m jmceln_core.data.shard [--config FILE] [--field.subfield VALUE ...] --out DIR`.

Fields are TrainConfig's, as for training: `data` says which pictures and sentences are read, and which sentences are
added to them. docs/shards.md has more.

A command may import what stands above it: this one needs `synthesis.enrich`, which nothing else in `data` does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jmceln_core.command import parse_training, training_parser
from jmceln_core.config import ConfigError, to_dict


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = training_parser("jmceln_core.data.shard", "write the training pictures and their sentences as shards")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the shards and their index")
    parser.add_argument("--pictures-per-shard", type=int, default=None, help="default: 125")
    config, options = parse_training(parser, arguments)

    from jmceln_core.data.grounding import DataError
    from jmceln_core.data.readers import read_training
    from jmceln_core.data.shards import DESCRIBED, PICTURES, write_shards
    from jmceln_core.synthesis.enrich import enrich

    try:
        training, _ = read_training(config.data)
        data = enrich(training, config.data, seed=config.optim.seed)
        about = to_dict(config.data)
        written = write_shards(
            data,
            options.out,
            description={name: about[name] for name in DESCRIBED} | {"seed": config.optim.seed},
            pictures_per_shard=PICTURES if options.pictures_per_shard is None else options.pictures_per_shard,
        )
    except (ConfigError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{options.out}: {written.shards} shards, {written.bytes / 1e6:.1f} MB, {written.pictures} pictures, "
        f"{written.sentences} sentences"
    )
    if written.skipped:
        print(f"{len(written.skipped)} pictures left out:", *written.skipped, sep="\n", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
