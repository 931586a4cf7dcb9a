"""What only a part of the package needs, setup.py's extras, and the words for when it is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import NamedTuple


class Extra(NamedTuple):
    """What an extra is for, and the modules that its packages bring."""

    purpose: str
    modules: tuple[str, ...]


# The packages of requirements/NAME.txt. What is for listening alone says so package by package (speech/missing.py).
EXTRAS = {
    "train": Extra(
        "training, evaluation and making data",
        (
            *("jsonargparse", "lightning_fabric", "open_clip", "pycocotools", "scipy", "skimage", "tensorboard"),
            *("tqdm", "webdataset"),
        ),
    ),
    "render": Extra("rendering", ("vtkmodules",)),
}


class ExtraMissing(ImportError):
    """Packages of an extra are not installed; the message names them and says how to install the extra."""


def require(name: str, *modules: str) -> None:
    """Raise ExtraMissing where some of `modules`, by default all of the extra's, are not installed."""
    extra = EXTRAS[name]
    missing = [module for module in modules or extra.modules if find_spec(module) is None]
    if missing:
        raise ExtraMissing(
            f"{extra.purpose} needs what {sys.executable} lacks ({', '.join(missing)}): pip install 'jmceln[{name}]', "
            f"or in a checkout: pip install -r requirements/{name}.txt -c requirements/lock.txt",
            name=missing[0],
        )
