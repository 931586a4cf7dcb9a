"""requirements/: everything that is imported is named, everything that is installed is locked."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support import ROOT

REQUIREMENTS = ROOT / "requirements"
FORBIDDEN = {"cv-bridge", "cvbridge3", "launch"}  # on PyPI, these are not the ROS 2 packages
OPTIONAL_ROS = {
    "launch_ros",
    "message_filters",
    "tf2_geometry_msgs",
    "tf2_ros",
    "vision_msgs",
}  # used where they import
# Files whose packages not everybody has: the code that imports them says so where they are missing.
OPTIONAL_FILES = ("render.txt", "speech.txt")
BY_HAND = {"jiwer"}  # of speech/bench/score.py, which only measures and says that it needs it; in dev.txt
BROUGHT_BY = {"vtkmodules": "vtk"}  # for a module whose package `make` does not install
BROUGHT_BY_PYTHON = {"pip", "wheel"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lines(name: str) -> list[str]:
    text = (REQUIREMENTS / name).read_text()
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def names(name: str) -> set[str]:
    return {normal(re.split(r"[\[=<>;~! ]", line)[0]) for line in lines(name)}


def imported() -> dict[str, list[str]]:
    """Top-level modules that the two packages import from elsewhere, each with the files that do."""
    found: dict[str, list[str]] = {}
    for path in sorted([*(ROOT / "jmceln_core").rglob("*.py"), *(ROOT / "jmceln_ros").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules = [node.module]
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top not in ("jmceln_core", "jmceln_ros"):
                    found.setdefault(top, []).append(str(path.relative_to(ROOT)))
    return found


def test_lock_pins_each_name_to_one_version_per_python():
    seen: dict[tuple[str, str], str] = {}
    for line in lines("lock.txt"):
        match = re.fullmatch(r'([a-z0-9-]+)==([\w.]+)( ; python_version (?:<|>=) "3\.11")?', line)
        assert match, f"not name==version, with or without the one marker: {line}"
        assert normal(match[1]) == match[1]
        assert (match[1], match[3]) not in seen, f"twice: {line}"
        seen[match[1], match[3] or ""] = match[2]
    assert len(seen) > 200


@pytest.mark.parametrize("file", ["runtime.txt", "speech.txt", "dev.txt", "ros.txt", "render.txt"])
def test_what_is_named_is_locked_and_pinned_there_only(file):
    assert names(file) <= names("lock.txt")
    packages = [line.partition(";")[0] for line in lines(file)]  # behind it is where a package is needed at all
    assert not [package for package in packages if re.search(r"[=<>~]", package)], "versions belong into lock.txt"


@pytest.mark.parametrize("file", ["runtime.txt", "speech.txt", "dev.txt", "ros.txt", "render.txt", "lock.txt"])
def test_no_package_that_only_sounds_like_ros(file):
    assert not names(file) & FORBIDDEN


def test_every_import_is_required():
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    ros = {element.text for element in manifest if element.tag.endswith("depend")} | OPTIONAL_ROS
    providers = importlib.metadata.packages_distributions()
    for module, files in imported().items():
        if module in ros | BY_HAND:
            continue
        # The lock knows opencv-python-headless as the one that brings cv2, and likewise for every other module.
        distributions = {normal(name) for name in providers.get(module, [BROUGHT_BY.get(module, module)])}
        if any(distributions & names(file) for file in OPTIONAL_FILES):
            continue
        assert distributions & names("runtime.txt"), f"{module} ({files[0]}) is not in requirements/runtime.txt"


def test_everything_installed_is_locked():
    """What a new dependency brings along has to be locked, too: otherwise two machines differ."""
    record = Path(sys.prefix) / "bootstrap.json"
    if not record.is_file() or not json.loads(record.read_text())["identity"]["ros"].startswith("wheels"):
        pytest.skip("runs in the environment that tools/bootstrap.py makes with ROS from wheels")
    site = [path for path in sys.path if path.startswith(sys.prefix) and path.endswith("site-packages")]
    locked = {line.split(" ")[0] for line in lines("lock.txt")}
    installed = set()
    for distribution in importlib.metadata.distributions(path=site):
        # The ROS wheels carry an egg-info folder beside their own record; only wheels have a file WHEEL.
        if distribution.read_text("WHEEL"):
            installed.add(f"{normal(distribution.metadata['Name'])}=={distribution.version}")
    assert len(installed) > 200
    assert {item for item in installed - locked if item.split("==")[0] not in BROUGHT_BY_PYTHON} == set()
