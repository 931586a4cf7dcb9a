"""Imports point one way, those inside of functions and for types alone included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

CORE = ROOT / "jmceln_core"
LEARNING = {"data", "synthesis", "training", "evaluation"}
#: Of commands, which may import what stands above them; `render` and `compose` are earlier names of commands.
COMMANDS = {"data/shard.py", "data/render.py", "data/compose.py"}


def imported(path: Path) -> Iterator[str]:
    """What a module imports of jmceln_core, by the first part of the name: `data`, `config`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "jmceln_core":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jmceln_core."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("jmceln_core."))


#: Parts of jmceln_core, and the only ones that they may import besides themselves.
MAY = {
    "model": {"config", "checkpoint"},
    "data": {"config", "geometry"},
    "synthesis": {"config", "geometry", "data", "command"},
}


@pytest.mark.parametrize("part", MAY)
def test_a_part_imports_only_what_stands_below_it(part: str) -> None:
    modules = sorted((CORE / part).rglob("*.py"))
    assert len(modules) > 10
    for path in modules:
        if str(path.relative_to(CORE)) not in COMMANDS:
            assert set(imported(path)) <= MAY[part] | {part}, path


def test_measuring_needs_nothing_of_training() -> None:
    for path in (CORE / "evaluation").rglob("*.py"):
        assert "training" not in set(imported(path)), path


def test_what_a_robot_runs_imports_nothing_that_learning_is_made_of() -> None:
    alone = ("segmenter", "tracking", "overlay", "geometry", "checkpoint", "config", "command", "predict")
    robots = [CORE / f"{name}.py" for name in alone]
    robots += [p for part in ("model", "speech") for p in (CORE / part).rglob("*.py") if "bench" not in p.parts]
    assert len(robots) > 30
    for path in robots:
        assert not LEARNING & set(imported(path)), path
