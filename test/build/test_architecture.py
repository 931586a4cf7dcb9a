"""The arrows between the rooms: what the README of each says it may import is all that its modules import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support import ROOT

PACKAGES = ("jmceln_core", "jmceln_ros")
GENERATED = ("jmceln_ros.msg", "jmceln_ros.srv", "jmceln_ros.action")  # of the interface files: below everything
# What makes, reads and scores data stays off a robot.
WORKSHOP = tuple(f"jmceln_core.{name}" for name in ("data", "synthesis", "training", "evaluation", "speech.bench"))
NODES = tuple(f"jmceln_ros.{name}_node" for name in ("segment", "camera", "speech"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
ROOMS = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")


def room_of(name: str) -> str:
    return name if name in ROOMS else name.rpartition(".")[0]


def within(room: str, outer: str) -> bool:
    return f"{room}.".startswith(f"{outer}.")


def imports(source: str) -> set[str]:
    """The modules of ours that a module's text names in an import, wherever it stands: inside a function, or for the
    type checker only."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"a relative import: {ast.unparse(node)}"
            assert not node.level, f"a relative import: {ast.unparse(node)}"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES and not name.startswith(GENERATED)}


@cache
def imported(module: str) -> frozenset[str]:
    return frozenset(imports(MODULES[module].read_text(encoding="utf-8")))


@cache
def rules(room: str) -> tuple[frozenset[str], frozenset[str]]:
    """(what the room may import beside itself, its commands, which may import anything), as its README says."""
    paragraphs = (MODULES[room].parent / "README.md").read_text(encoding="utf-8").split("\n\n")
    said = {key: [text for text in paragraphs if text.startswith(f"{key}: ")] for key in ("May import", "Commands")}
    assert len(said["May import"]) == 1, f"{room}: its README has no paragraph `May import: ...`"
    may, commands = (frozenset(re.findall(r"`([\w.]+)`", " ".join(texts))) for texts in said.values())
    return may, frozenset(f"{room}.{name}" for name in commands)


def needs(module: str) -> Iterator[str]:
    """What a module imports of other rooms: the room, or the module where it lies on top of a package."""
    return outside(room_of(module), imported(module))


def outside(room: str, found: frozenset[str]) -> Iterator[str]:
    for name in sorted(found):
        module = name if name in MODULES else name.rpartition(".")[0]  # of what a package exports, the package
        if room_of(module) != room:
            yield module if room_of(module) in PACKAGES else room_of(module)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_readme_says(room: str) -> None:
    may, commands = rules(room)
    unknown = {name for name in may | commands if name not in MODULES}
    assert not unknown, f"{room}: its README names what is not there"
    for command in commands:
        assert "__main__" in MODULES[command].read_text(encoding="utf-8"), f"{command} is no command"
        assert set(needs(command)) - may, f"{command} needs no exception"
        importers = {module for module in MODULES if command in imported(module)}
        assert all(module in rules(room_of(module))[1] for module in importers), f"{command} is a library as well"
    for module in MODULES:
        if room_of(module) == room and module not in commands:
            assert not set(needs(module)) - may, f"{module} imports against its room's README"


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_is_allowed_that_nobody_needs(room: str) -> None:
    may, _ = rules(room)
    needed = {name for module in MODULES if room_of(module) == room for name in needs(module)}
    assert not may - needed, f"{room}: its README allows what no module imports"


def test_no_arrow_turns() -> None:
    """Following the arrows, nobody comes back to where he was: neither between modules nor between rooms."""
    modules = {module: {name for name in imported(module) if name in MODULES} - {module} for module in MODULES}
    # a room within a room may lend to it and borrow from it, as the modules' order allows
    rooms = {
        room: {other for other in map(room_of, rules(room)[0]) if not within(room, other) and not within(other, room)}
        for room in ROOMS
    }
    for arrows in (modules, rooms):
        TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


def reached_from(starts: Sequence[str]) -> set[str]:
    """The modules that some modules import, directly or not, and they themselves."""
    reached, waiting = set(starts), list(starts)
    while waiting:
        for name in imported(waiting.pop()):
            for module in (name, room_of(name)):
                if module in MODULES and module not in reached:
                    reached.add(module)
                    waiting.append(module)
    return reached


@pytest.mark.parametrize("start", ["jmceln_core.segmenter", "jmceln_core.tracking", *NODES])
def test_what_runs_on_a_robot_imports_nothing_that_makes_data(start: str) -> None:
    reached = reached_from([start])
    assert len(reached) > 5  # it did look
    assert not {name for name in reached if name.startswith(WORKSHOP)}


def test_an_import_against_the_rules_is_found() -> None:
    """The test's own test: an arrow the wrong way round, late and for types only."""
    late, typed = (
        "def f():\n    from jmceln_core.training import loop\n",
        "if 0:\n    import jmceln_core.synthesis.make\n",
    )
    found = frozenset(imports(late + typed))
    assert found == {"jmceln_core.training.loop", "jmceln_core.synthesis.make"}
    may = rules("jmceln_core.data")[0]
    assert set(outside("jmceln_core.data", found)) - may == {"jmceln_core.training", "jmceln_core.synthesis"}
