"""What no training may see, so that a network can be asked about it afterwards: pictures, and words.

Two lists of `config/eval`, one entry a line; empty lines and lines that begin with `#` say nothing::

    left_out.txt         PICTURE_ID           of coco_mini's train split
    unknown_words.txt    GROUP: SENTENCE      what is in none of coco_mini's pictures
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from jmceln_core.config import ConfigError, resource


def left_out_pictures(path: Path | None = None) -> frozenset[int]:
    """The ids of a list like left_out.txt (None: that one).

    Raises ConfigError naming the file, and the line that is no id.
    """
    ids = set()
    for where, line in _entries(path or resource("eval/left_out.txt")):
        if not (line.isascii() and line.isdigit()):
            raise ConfigError(f"{where}: {line!r} is not the id of a picture; one whole number a line")
        ids.add(int(line))
    return frozenset(ids)


@lru_cache
def unknown_words(path: Path | None = None) -> dict[str, str]:
    """The sentences of a list like unknown_words.txt (None: that one), in its order, each with its group.

    Raises ConfigError naming the file, and the line that is not `GROUP: SENTENCE` or says a sentence again.
    """
    groups: dict[str, str] = {}
    for where, line in _entries(path or resource("eval/unknown_words.txt")):
        group, _, sentence = (part.strip() for part in line.partition(":"))
        if not group or not sentence:
            raise ConfigError(f"{where}: {line!r} is not GROUP: SENTENCE")
        if sentence in groups:
            raise ConfigError(f"{where}: {sentence!r} is there twice")
        groups[sentence] = group
    return groups


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """(FILE:NUMBER, line) of the lines that say something. Raises ConfigError if there is none or no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    entries = [(f"{path}:{number}", line.strip()) for number, line in enumerate(lines, 1)]
    entries = [(where, line) for where, line in entries if line and not line.startswith("#")]
    if not entries:
        raise ConfigError(f"{path}: has no entry; one a line")
    yield from entries
