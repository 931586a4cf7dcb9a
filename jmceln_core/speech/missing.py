"""Packages that only listening needs, and the words for when one is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class EngineMissing(RuntimeError):
    """A package that listening needs is not installed; the message names it and how to install it."""


@contextmanager
def needed(package: str) -> Iterator[None]:
    """Around imports: a missing module becomes EngineMissing, which names the pip `package`."""
    try:
        yield
    except ImportError as error:
        raise EngineMissing(f"listening needs {package} ({error}): pip install {package}") from error
