"""requirements/: everything that is imported is named, everything that is installed is locked."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement

from build.test_architecture import MODULES, PACKAGES, reached_from
from jmceln_core.extras import EXTRAS
from support import ROOT

REQUIREMENTS = ROOT / "requirements"
FILES = ("runtime.txt", "train.txt", "render.txt", "speech.txt", "dev.txt", "ros.txt")
FORBIDDEN = {"cv-bridge", "cvbridge3", "launch"}  # on PyPI, these are not the ROS 2 packages
OPTIONAL_ROS = {
    "bond",
    "launch_ros",
    "message_filters",
    "tf2_geometry_msgs",
    "tf2_ros",
    "vision_msgs",
}  # used where they import
# What a robot runs, but for its ears; and those.
INFERENCE = (
    *("jmceln_core.segmenter", "jmceln_core.tracking", "jmceln_core.predict"),
    *("jmceln_ros.segment_node", "jmceln_ros.camera_node"),
)
LISTENING = ("jmceln_ros.speech_node", "jmceln_core.speech.engines")
OF_CLIP = {"open_clip"}  # of an encoder that asks for the extra `train` before it imports
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


def foreign(module: str) -> set[str]:
    """Top-level modules from elsewhere, but for those of ROS, that a module of ours imports, wherever it does."""
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    ros = {element.text for element in manifest if element.tag.endswith("depend")} | OPTIONAL_ROS
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return {name for name in found - ros - {*PACKAGES} if name not in sys.stdlib_module_names}


@cache
def distributions(module: str) -> frozenset[str]:
    """The packages that bring a top-level module: the lock knows opencv-python-headless as the one that brings cv2."""
    providers = importlib.metadata.packages_distributions()
    return frozenset(normal(name) for name in providers.get(module, [BROUGHT_BY.get(module, module)]))


def test_lock_pins_each_name_to_one_version_per_python():
    seen: dict[tuple[str, str], str] = {}
    for line in lines("lock.txt"):
        match = re.fullmatch(r'([a-z0-9-]+)==([\w.]+)( ; python_version (?:<|>=) "3\.11")?', line)
        assert match, f"not name==version, with or without the one marker: {line}"
        assert normal(match[1]) == match[1]
        assert (match[1], match[3]) not in seen, f"twice: {line}"
        seen[match[1], match[3] or ""] = match[2]
    assert len(seen) > 200


@pytest.mark.parametrize("file", FILES)
def test_what_is_named_is_locked_and_pinned_there_only(file):
    assert names(file) <= names("lock.txt")
    packages = [line.partition(";")[0] for line in lines(file)]  # behind it is where a package is needed at all
    assert not [package for package in packages if re.search(r"[=<>~]", package)], "versions belong into lock.txt"


@pytest.mark.parametrize("file", [*FILES, "lock.txt"])
def test_no_package_that_only_sounds_like_ros(file):
    assert not names(file) & FORBIDDEN


@pytest.mark.parametrize(
    ("modules", "files", "besides"),
    [
        (reached_from(INFERENCE), ("runtime",), OF_CLIP),
        (reached_from(LISTENING), ("runtime", "speech"), OF_CLIP),
        (set(MODULES), ("runtime", "train", "render", "speech"), BY_HAND),
    ],
    ids=["inference", "listening", "all"],
)
def test_what_is_imported_is_required_by_the_file_of_its_kind(modules, files, besides):
    assert len(modules) > 20
    required = set().union(*(names(f"{file}.txt") for file in files))
    for module in modules:
        for name in foreign(module) - besides:
            assert distributions(name) & required, f"{name} ({module}) is in none of {files}"


def test_a_robot_gets_nothing_that_it_does_not_import():
    used = set().union(*(distributions(name) for module in reached_from(INFERENCE) for name in foreign(module)))
    assert names("runtime.txt") - used == set()


def test_an_extra_is_missed_by_the_modules_of_its_file():
    for name, extra in EXTRAS.items():
        brought = [distributions(module) for module in extra.modules]
        assert all(packages & names(f"{name}.txt") for packages in brought)
        assert names(f"{name}.txt") <= set().union(*brought)


def closure(*files: str) -> set[str]:
    """The packages of requirements files with all that these bring along, as far as they are installed here."""
    found: set[str] = set()
    waiting = [(Requirement(line), [""]) for file in files for line in lines(file)]  # with extras of who asks for it
    while waiting:
        requirement, extras = waiting.pop()
        name = normal(requirement.name)
        asked = not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
        if asked and name not in found:
            found.add(name)
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                brought = importlib.metadata.requires(name) or []
                waiting += [(Requirement(line), ["", *requirement.extras]) for line in brought]
    return found


def test_what_does_not_suit_the_oldest_numpy_of_ros_is_not_locked_beside_it():
    """Humble's is 1.21.5: what wants a newer one is left to pip, which looks for a version that suits."""
    bound = runpy.run_path(str(ROOT / "tools" / "bootstrap.py"))["BOUND_TO_NUMPY"]
    picky = set()
    for name in closure("runtime.txt", "train.txt", "speech.txt"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for line in map(Requirement, importlib.metadata.requires(name) or []):
                asked = line.name == "numpy" and (not line.marker or line.marker.evaluate({"extra": ""}))
                if asked and not line.specifier.contains("1.21.5"):
                    picky.add(name)
    assert {"opencv-python-headless", "onnx", "ml-dtypes"} <= picky
    assert picky - bound == set()


@pytest.fixture(scope="module")
def robot() -> str:
    """The beginning of a program that can import what runtime.txt brings, and nothing that only other files bring."""
    gone = closure("train.txt", "render.txt", "speech.txt") - closure("runtime.txt")
    hidden = [
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if {normal(name) for name in packages} <= gone
    ]
    assert {"pycocotools", "open_clip", "lightning_fabric", "skimage", "jsonargparse", "onnxruntime"} <= set(hidden)
    assert not {"torch", "cv2", "numpy", "timm", "yaml"} & set(hidden)
    return f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"  # None: an import of it fails


def program(text: str) -> str:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_inference_runs_with_what_runtime_brings(robot):
    ask = """
import numpy as np
import jmceln_core.predict, jmceln_core.tracking, jmceln_core.synthesis.table_scene
from jmceln_core import Segmenter

for model in ("bundled", "nano"):
    segmenter = Segmenter.load(model, device="cpu")
    segmenter.set_image(np.zeros((48, 64, 3), np.uint8))
    assert segmenter.segment("the cup").mask.shape == (48, 64)
"""
    program(robot + ask)


@pytest.mark.ros
def test_nodes_are_imported_with_what_runtime_brings(robot):
    program(robot + "import jmceln_ros.segment_node, jmceln_ros.camera_node, jmceln_ros.speech_node")


def test_commands_that_need_an_extra_say_how_to_install_it(robot):
    """All of them in one process: its imports take most of the time."""
    commands = [name for name, path in MODULES.items() if "__main__" in path.read_text() and "core" in name]
    ask = f"""
import runpy
from jmceln_core.speech.missing import EngineMissing
for name in {commands}:
    print("@", name, end=" ")
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(name, run_name="__main__")
    except SystemExit as end:
        print(end.code)
    except (ImportError, EngineMissing) as error:
        print(error)
"""
    said = dict(text.split(" ", 1) for text in program(robot + ask).split("@ ")[1:])
    assert set(said) == set(commands)
    started = {name for name, text in said.items() if text.endswith("\n0\n")}
    assert {f"jmceln_core.{name}" for name in ("predict", "summary")} <= started
    assert not {f"jmceln_core.{name}" for name in ("train", "evaluate", "data.check", "synthesis.make")} & started
    remedy = "pip install 'jmceln[train]', or in a checkout: pip install -r requirements/train.txt"
    for name in set(commands) - started:
        assert remedy in said[name] or "pip install scipy" in said[name], said[name]


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
