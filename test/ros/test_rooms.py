"""The rooms of jmceln_ros: which may import which, and that a node imports nothing it has no use for."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from support import ROOT

PACKAGE = ROOT / "jmceln_ros"

# A room, or a node on top of them, and the rooms that its modules may import beside itself. `tools` may import all.
ROOMS = {
    "common": set(),
    "space": {"common"},
    "speech": {"common"},
    "segment": {"common", "space"},
    "camera_node.py": {"common"},
    "segment_node.py": {"common", "segment", "space"},
    "speech_node.py": {"common", "speech"},
}
MESSAGES = {"msg", "srv"}


def imported(path):
    """What a module imports of jmceln_ros, by the first name below it; within functions and for types, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "jmceln_ros":
            names = [f"jmceln_ros.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("jmceln_ros."))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_room_beside_it(room):
    place = PACKAGE / room
    for path in place.rglob("*.py") if place.is_dir() else [place]:
        assert set(imported(path)) <= {room, *ROOMS[room], *MESSAGES}, path


def test_every_folder_is_a_room():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {room for room in ROOMS if not room.endswith(".py")} | {"tools"}
    assert all((PACKAGE / room / "__init__.py").is_file() for room in rooms)  # by which setup.py finds them


@pytest.mark.ros
@pytest.mark.parametrize(
    ("node", "foreign"),
    [
        ("camera_node", ("torch", "jmceln_core")),
        ("segment_node", ("torch", "jmceln_core.speech", "jmceln_ros.speech")),
        ("speech_node", ("torch", "jmceln_core.segmenter", "jmceln_ros.segment")),
    ],
)
def test_a_node_imports_only_what_it_needs(node, foreign):
    program = f"import sys, jmceln_ros.{node}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if f"{name}.".startswith(tuple(f"{f}." for f in foreign))]
