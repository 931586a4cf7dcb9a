"""Tables in Markdown."""

from __future__ import annotations

import pytest

from jmceln_core import markdown


def test_a_table_has_a_line_for_its_header_one_for_its_alignment_and_one_a_row() -> None:
    rows = ((name, value, f"{value:.1%}") for name, value in {"one": 1, "a | b": 0.5}.items())
    assert markdown.table(["", "value", "share"], rows, align="lrr") == [
        "|  | value | share |",
        "|---|---:|---:|",
        "| one | 1 | 100.0% |",
        r"| a \| b | 0.5 | 50.0% |",
    ]


@pytest.mark.parametrize(("align", "rule"), [("", "|---|---|"), ("r", "|---:|---|"), ("lr", "|---|---:|")])
def test_columns_without_a_letter_are_aligned_to_the_left(align: str, rule: str) -> None:
    assert markdown.table(["a", "b"], [], align=align) == ["| a | b |", rule]


def test_what_does_not_fit_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="2 columns has a row of 1 cells"):
        markdown.table(["a", "b"], [["only one"]])
    with pytest.raises(ValueError, match="zip"):
        markdown.table(["a"], [], align="lr")
