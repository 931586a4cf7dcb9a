"""What command lines share, most of it for those with a training configuration: train, ablate, benchmark, shard."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jmceln_core.config import ConfigError, TrainConfig, ranges, resource
from jmceln_core.extras import require

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def positive(text: str) -> int:
    """A `type` of argparse: a whole number above zero."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def refused(name: str, error: Exception) -> int:
    """Say why a command cannot do what it was asked for: `NAME: the reason`. Returns its exit code."""
    print(f"{name}: {error}", file=sys.stderr)
    return 2


def training_parser(module: str, description: str) -> ArgumentParser:
    """A parser of `--config FILE` and TrainConfig's dotted fields, to which a command adds its own options."""
    require("train")
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--config", action="config", help="YAML file of TrainConfig's fields, or a recipe's name")
    parser.add_class_arguments(TrainConfig, None)
    said = dict(_meanings(TrainConfig))
    for action in parser._actions:
        action.help = said.get(action.dest, action.help)
    return parser


def _meanings(cls: type, at: str = "") -> Iterator[tuple[str, str]]:
    """What `--help` says of a configuration's dotted fields: the comment beside each, and its range."""
    comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(cls), re.MULTILINE))
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _meanings(hints[field.name], f"{at}{field.name}.")
        else:
            allowed = ranges(cls).get(field.name)
            words = comments[field.name] + (f"; {allowed}" if allowed else "")
            yield at + field.name, words.replace("%", "%%")


def parse_training(parser: ArgumentParser, arguments: Sequence[str] | None) -> tuple[TrainConfig, Namespace]:
    """The configuration, and the command's own options. `--config` may be a recipe of config/train by its name.

    Ends the command as argparse does where a field's value is out of its range.
    """
    from jsonargparse import Namespace

    words = list(sys.argv[1:] if arguments is None else arguments)
    for i, word in enumerate(words):
        if word == "--config" and i + 1 < len(words):
            words[i + 1] = named(words[i + 1], "train")
        elif word.startswith("--config="):
            words[i] = "--config=" + named(word.removeprefix("--config="), "train")
    values = parser.parse_args(words)
    values.pop("config")
    fields: dict[str, Any] = {f.name: values.pop(f.name) for f in dataclasses.fields(TrainConfig)}
    try:
        return TrainConfig(**parser.instantiate(Namespace(**fields))), values
    except ConfigError as error:
        parser.error(str(error))


def named(file: str, folder: str) -> str:
    """The path of a file that may be given by its name in config/FOLDER."""
    if not Path(file).is_file() and file.isidentifier():
        try:
            return str(resource(f"{folder}/{file}.yaml"))
        except ConfigError:
            pass  # who reads it says that there is no such file
    return file
