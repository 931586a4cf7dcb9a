"""Tables in Markdown, for what commands print and for documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_RULES = {"l": "---", "r": "---:"}


def table(header: Sequence[object], rows: Iterable[Iterable[object]], *, align: str = "") -> list[str]:
    """The lines of a table; a cell's bars are escaped. `align` has a letter for each column, "l" or "r", "l" where it
    ends early. Raises ValueError for a row that has not as many cells as the header."""
    rules = [_RULES[letter] for _, letter in zip(header, align.ljust(len(header), "l"), strict=True)]
    return [_line(header), f"|{'|'.join(rules)}|", *(_line(_as_long_as(header, row)) for row in rows)]


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _as_long_as(header: Sequence[object], row: Iterable[object]) -> list[object]:
    cells = list(row)
    if len(cells) != len(header):
        raise ValueError(f"a table of {len(header)} columns has a row of {len(cells)} cells: {cells}")
    return cells
