"""The package as others install it, by pip and by plain colcon: both must find presets and weights by themselves."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from jmceln_core import Status
from support import ROOT

PARTS = ("config", "jmceln_core", "jmceln_ros", "launch", "msg", "requirements", "srv")
FILES = ("CMakeLists.txt", "LICENSE", "NOTICE", "README.md", "package.xml", "pyproject.toml", "setup.py")
ROS_IS_IN_ENVIRONMENT = Path(sys.prefix, "share", "ament_cmake").is_dir()  # from wheels, not in a sourced prefix
# From anywhere but the checkout: every file of config/ must be found inside the installation given as argument.
FIND_CONFIG = """
import sys
from pathlib import Path
from jmceln_core.config import resource
for name in sys.argv[2:]:
    path = resource(name)
    assert Path(sys.argv[1]).resolve() in path.resolve().parents, path
"""


def config_files() -> list[str]:
    """Names of the files in config/, as `resource` takes them."""
    return sorted(str(path.relative_to(ROOT / "config")) for path in (ROOT / "config").rglob("*") if path.is_file())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what is built: building inside the checkout would leave files in it."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in PARTS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    return copy


def run(command: list[str], where: Path, **variables: str) -> str:
    """Standard output of a command; the test fails with all it printed when it fails."""
    environ = {**os.environ, **variables}
    done = subprocess.run(command, cwd=where, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_config_is_found(site: Path, where: Path) -> None:
    search = [str(site), *(p for p in os.environ.get("PYTHONPATH", "").split(":") if p and Path(p).resolve() != ROOT)]
    run([sys.executable, "-c", FIND_CONFIG, str(site), *config_files()], where, PYTHONPATH=":".join(search))


def test_wheel_carries_both_packages_and_every_file_of_config(source, tmp_path):
    build = ["wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    run([sys.executable, "-m", "pip", *build], source, PIP_CONSTRAINT="")
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    names = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert {f"jmceln_core/_config/{name}" for name in config_files()} <= names
    modules = {
        str(path.relative_to(ROOT)) for part in ("jmceln_core", "jmceln_ros") for path in (ROOT / part).rglob("*.py")
    }
    assert modules <= names
    assert {name.split("/")[-1] for name in names} >= {"LICENSE", "NOTICE"}
    assert not [name for name in names if name.startswith(("test", "tools", "setup", "launch"))]
    version = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
    assert f"\nVersion: {version}\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert "\nRequires-Dist: torch\n" in metadata
    check_config_is_found(site, tmp_path)


@pytest.mark.ros
def test_plain_colcon_build_installs_messages_modules_programs_and_config(source, tmp_path):
    base = tmp_path / "workspace"
    environ = {"COLCON_HOME": str(tmp_path / "colcon")}
    if ROS_IS_IN_ENVIRONMENT:
        environ |= {"AMENT_PREFIX_PATH": sys.prefix, "CMAKE_PREFIX_PATH": sys.prefix}
    places = ["--build-base", str(base / "build"), "--install-base", str(base / "install")]
    colcon = ["colcon", "--log-base", str(base / "log"), "build", "--paths", str(source), *places]
    run([*colcon, "--cmake-args", "-DBUILD_TESTING=OFF"], tmp_path, **environ)

    prefix = base / "install" / "jmceln_ros"
    programs = prefix / "lib" / "jmceln_ros"
    assert {path.name for path in programs.iterdir()} == {"segment_node", "speech_node", "camera_node"}
    assert all(os.access(path, os.X_OK) for path in programs.iterdir())
    share = prefix / "share" / "jmceln_ros"
    assert (share / "package.xml").is_file()
    assert {p.name for p in (ROOT / "launch").glob("*.launch.py")} == {p.name for p in (share / "launch").iterdir()}
    wanted = {name for name in config_files() if not name.startswith("weights/")}
    assert {str(p.relative_to(share / "config")) for p in (share / "config").rglob("*") if p.is_file()} == wanted

    (message,) = prefix.rglob("jmceln_ros/msg/__init__.py")
    site = message.parents[2]
    check_config_is_found(site, tmp_path)
    ask = "import jmceln_ros; print(list(jmceln_ros.__path__)); from jmceln_ros.msg import Target; "
    ask += "from jmceln_ros.srv import Segment, SetCommand; "
    ask += "[kind.__class__.__import_type_support__() for kind in (Target, Segment, SetCommand)]"
    environ = {"PYTHONPATH": str(site), "LD_LIBRARY_PATH": f"{prefix / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
    if not ROS_IS_IN_ENVIRONMENT:
        environ["PYTHONPATH"] += ":" + os.environ.get("PYTHONPATH", "")
    assert run([sys.executable, "-c", ask], tmp_path, **environ).startswith(f"['{site / 'jmceln_ros'}'")
    for program in programs.iterdir():
        module = module_run_by(program)
        assert (site / "jmceln_ros" / f"{module}.py").is_file()
    assert not [p for p in (ROOT / "jmceln_ros").rglob("*.py") if not (site / p.relative_to(ROOT)).is_file()]


def module_run_by(program: Path) -> str:
    """The module of jmceln_ros whose main() an installed program runs."""
    match = re.fullmatch(
        r"#!/usr/bin/env python3\nfrom jmceln_ros\.(\w+) import main\n\nmain\(\)\n", program.read_text()
    )
    assert match, program.read_text()
    return match[1]


def test_message_has_the_states_of_the_core():
    text = (ROOT / "msg" / "Target.msg").read_text()
    constants = dict(re.findall(r"^uint8 ([A-Z_]+)=(\d+)", text, re.MULTILINE))
    assert constants.pop("UNKNOWN") == "0"  # so that a message nobody filled says nothing
    assert set(constants) == {status.name for status in Status}
    assert sorted(map(int, constants.values())) == list(range(1, 1 + len(constants)))


def test_package_manifest_and_sources_leave_room_for_the_generated_messages():
    assert not (ROOT / "jmceln_ros" / "msg").exists(), "would hide the messages that colcon generates"
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    assert manifest.get("format") == "3"
    assert manifest.findtext("member_of_group") == "rosidl_interface_packages"
    assert manifest.findtext("export/build_type") == "ament_cmake"


def topics_in(tree: object) -> set[str]:
    """Every string in nested lists and mappings that is the name of a topic, without a field behind it."""
    if isinstance(tree, dict):
        return set().union(*map(topics_in, [*tree, *tree.values()]))
    if isinstance(tree, list):
        return set().union(*map(topics_in, tree))
    return {tree.split(".")[0]} if isinstance(tree, str) and re.fullmatch(r"(/[a-z_]+)+(\.[a-z_]+)?", tree) else set()


def test_viewers_show_topics_that_there_are():
    """The RViz2 configuration and the Foxglove layout name topics; docs/ros.md has those of segment_node."""
    document = (ROOT / "docs" / "ros.md").read_text()
    others = {"/command", "/diagnostics", "/image", "/tf", "/tf_static"}
    rviz = topics_in(yaml.safe_load((ROOT / "config" / "rviz" / "demo.rviz").read_text()))
    layout = json.loads((ROOT / "config" / "foxglove" / "demo.json").read_text())
    foxglove = topics_in(layout)
    assert {"/image", "/segment_node/overlay", "/segment_node/point"} <= rviz & foxglove
    for topic in (rviz | foxglove) - others:
        assert f"`{topic.replace('/segment_node', '~')}`" in document, topic

    def panels(tree: str | dict) -> set[str]:
        return {tree} if isinstance(tree, str) else panels(tree["first"]) | panels(tree["second"])

    assert panels(layout["layout"]) == set(layout["configById"])


def test_image_leaves_the_same_packages_to_the_systems_numpy_as_the_environment():
    bootstrap = runpy.run_path(str(ROOT / "tools" / "bootstrap.py"))
    (unlocked,) = re.findall(r"grep -vE '\^\(([^)]*)\)==' ", (ROOT / "Dockerfile").read_text())
    assert set(unlocked.split("|")) == bootstrap["BOUND_TO_NUMPY"]


def test_image_is_built_from_everything_that_the_build_reads():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    read = set(runpy.run_path(str(ROOT / "tools" / "bootstrap.py"))["PACKAGE_PARTS"]) - {"action"}
    assert read | {"LICENSE", "requirements"} <= allowed
    assert all((ROOT / name).exists() for name in allowed)
