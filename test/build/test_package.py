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

PARTS = ("config", "jmceln_core", "jmceln_ros", "launch", "msg", "requirements", "srv", "test")
FILES = ("CMakeLists.txt", "LICENSE", "NOTICE", "README.md", "package.xml", "pyproject.toml", "setup.py")
ROS_IS_IN_ENVIRONMENT = Path(sys.prefix, "share", "ament_cmake").is_dir()  # from wheels, not in a sourced prefix
ROS_PREFIXES = dict.fromkeys(("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"), sys.prefix) if ROS_IS_IN_ENVIRONMENT else {}
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
    assert set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.MULTILINE)) == {"train", "render", "speech", "all"}
    for extra in ("train", "render", "all"):
        assert re.search(rf'^Requires-Dist: pycocotools; extra == "{extra}"$', metadata, re.MULTILINE)
    assert not re.search(r"^Requires-Dist: (pycocotools|webdataset|scikit-image)$", metadata, re.MULTILINE)
    check_config_is_found(site, tmp_path)


def colcon_build(source: Path, base: Path, *cmake: str) -> Path:
    """Where `colcon build`, with `cmake` as --cmake-args, installs the package at `source`; all is made in `base`."""
    places = ["--build-base", str(base / "build"), "--install-base", str(base / "install")]
    colcon = ["colcon", "--log-base", str(base / "log"), "build", "--paths", str(source), *places]
    run([*colcon, "--cmake-args", *cmake], source, COLCON_HOME=str(base / "colcon"), **ROS_PREFIXES)
    return base / "install" / "jmceln_ros"


def messages_found(prefix: Path) -> tuple[Path, dict[str, str]]:
    """The folder of the installed Python package's parent, and the variables with which its messages are imported."""
    (message,) = prefix.rglob("jmceln_ros/msg/__init__.py")
    site = message.parents[2]
    python = str(site) if ROS_IS_IN_ENVIRONMENT else f"{site}:{os.environ.get('PYTHONPATH', '')}"
    libraries = f"{prefix / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    return site, {"PYTHONPATH": python, "LD_LIBRARY_PATH": libraries}


@pytest.mark.ros
def test_plain_colcon_build_installs_messages_modules_programs_and_config(source, tmp_path):
    prefix = colcon_build(source, tmp_path / "workspace", f"-DPython3_EXECUTABLE={sys.executable}")
    programs = prefix / "lib" / "jmceln_ros"
    assert {path.name for path in programs.iterdir()} == {"segment_node", "speech_node", "camera_node"}
    assert all(os.access(path, os.X_OK) for path in programs.iterdir())
    share = prefix / "share" / "jmceln_ros"
    assert (share / "package.xml").is_file()
    assert {p.name for p in (ROOT / "launch").glob("*.launch.py")} == {p.name for p in (share / "launch").iterdir()}
    wanted = {name for name in config_files() if not name.startswith("weights/")}
    assert {str(p.relative_to(share / "config")) for p in (share / "config").rglob("*") if p.is_file()} == wanted

    assert {"LICENSE", "NOTICE"} <= {path.name for path in share.iterdir()}

    site, environ = messages_found(prefix)
    check_config_is_found(site, tmp_path)
    ask = "import jmceln_ros; print(list(jmceln_ros.__path__)); from jmceln_ros.msg import Target; "
    ask += "from jmceln_ros.srv import Segment, SetCommand; "
    ask += "[kind.__class__.__import_type_support__() for kind in (Target, Segment, SetCommand)]"
    assert run([sys.executable, "-c", ask], tmp_path, **environ).startswith(f"['{site / 'jmceln_ros'}'")
    for program in programs.iterdir():
        module = module_run_by(program, sys.executable)
        assert (site / "jmceln_ros" / f"{module}.py").is_file()
    assert not [p for p in (ROOT / "jmceln_ros").rglob("*.py") if not (site / p.relative_to(ROOT)).is_file()]
    check_colcon_test(source, tmp_path / "workspace")


def check_colcon_test(source: Path, base: Path) -> None:
    """`colcon test` of a file: with the build's Python and messages, whatever this process has on its paths."""
    ctest = base / "build" / "jmceln_ros" / "CTestTestfile.cmake"
    if "test_matching" not in ctest.read_text():
        assert not list(Path(sys.prefix).glob("share/ament_cmake_pytest")), "nothing was added to `colcon test`"
        pytest.skip("the rest was seen; `colcon test` needs ament_cmake_pytest (`make env`)")
    places = ["--build-base", str(base / "build"), "--install-base", str(base / "install")]
    colcon = ["colcon", "--log-base", str(base / "log"), "test", "--return-code-on-test-failure"]
    call = [*colcon, "--paths", str(source), *places, "--ctest-args", "-R", "^test_(matching|diagnostics)$"]
    ours = {"COLCON_HOME": str(base / "colcon"), **ROS_PREFIXES}
    if ROS_IS_IN_ENVIRONMENT:
        ours["PYTHONPATH"] = ""
    run(call, source, **ours)
    results = {path.name: ElementTree.parse(path).getroot() for path in (base / "build").rglob("*.xunit.xml")}
    assert set(results) == {"test_matching.xunit.xml", "test_diagnostics.xunit.xml"}
    for result in results.values():
        (suite,) = result.iter("testsuite")
        assert int(suite.get("tests")) > int(suite.get("skipped"))


@pytest.fixture
def interfaces(tmp_path: Path) -> Path:
    """A copy of what `git sparse-checkout set msg srv` leaves: the two folders and the files at the top."""
    copy = tmp_path / "interfaces"
    for name in ("msg", "srv"):
        shutil.copytree(ROOT / name, copy / name)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, copy)
    return copy


@pytest.mark.ros
def test_messages_alone_are_configured_without_the_rest_of_the_checkout(interfaces, tmp_path):
    build = tmp_path / "build"
    run(["cmake", "-S", str(interfaces), "-B", str(build), "-DJMCELN_MESSAGES_ONLY=ON"], tmp_path, **ROS_PREFIXES)
    installed = (build / "cmake_install.cmake").read_text()
    assert "/msg/Target.msg" in installed
    assert "/srv/Segment.srv" in installed
    for name in ("/jmceln_core", "/config", "/launch", "/segment_node"):
        assert name not in installed, name


CLIENT = """
#include <jmceln_ros/msg/target.hpp>
#include <jmceln_ros/srv/segment.hpp>

int main()
{
  const jmceln_ros::msg::Target target;
  const jmceln_ros::srv::Segment::Response response;
  return response.success || target.status != jmceln_ros::msg::Target::UNKNOWN;
}
"""
CLIENT_BUILD = """
cmake_minimum_required(VERSION 3.22)
project(client LANGUAGES C CXX)
find_package(jmceln_ros REQUIRED)
add_executable(client client.cpp)
target_link_libraries(client ${jmceln_ros_TARGETS})
"""
# What a laptop has no use for, and must not need.
FOREIGN = ("jmceln_core", "torch", "cv2", "timm", "transformers")


@pytest.mark.ros
@pytest.mark.slow
def test_messages_alone_are_all_that_a_laptop_or_a_client_in_cpp_needs(interfaces, tmp_path):
    prefix = colcon_build(interfaces, tmp_path / "workspace", "-DJMCELN_MESSAGES_ONLY=ON")
    site, environ = messages_found(prefix)
    ask = f"""
import importlib.util, sys
sys.modules.update(dict.fromkeys({FOREIGN}))  # None: an import of it fails
from jmceln_ros.msg import Audio, Target, Transcript
from jmceln_ros.srv import Segment, SetCommand
for kind in (Audio, Target, Transcript, Segment, SetCommand):
    kind.__class__.__import_type_support__()
assert Target().status == Target.UNKNOWN
assert not importlib.util.find_spec("jmceln_ros.segment_node")
"""
    run([sys.executable, "-c", ask], tmp_path, **environ)
    assert {path.name for path in (site / "jmceln_ros").glob("*.py")} == {"__init__.py"}
    assert not (site / "jmceln_core").exists()
    assert {path.name for path in (prefix / "lib").iterdir() if path.is_dir()} == {site.parent.name}
    share = {path.name for path in (prefix / "share" / "jmceln_ros").iterdir()}
    assert share >= {"package.xml", "LICENSE", "msg", "srv"}
    assert not share & {"config", "launch"}
    assert sum(path.stat().st_size for path in prefix.rglob("*") if path.is_file()) < 20e6

    client = tmp_path / "client"
    client.mkdir()
    (client / "client.cpp").write_text(CLIENT)
    (client / "CMakeLists.txt").write_text(CLIENT_BUILD)
    prefixes = ";".join([str(prefix), *ROS_PREFIXES.values()])
    run(["cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefixes}"], client)
    run(["cmake", "--build", "build"], client)
    run([str(client / "build" / "client")], client, **environ)


@pytest.mark.ros
def test_nodes_start_with_env_python3_where_the_build_was_given_no_python_that_a_first_line_can_name(source, tmp_path):
    blank = tmp_path / "my folder" / "python3"
    blank.parent.mkdir()
    blank.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    blank.chmod(0o755)
    for number, arguments in enumerate(([], [f"-DPython3_EXECUTABLE={blank}"])):
        build = tmp_path / str(number)
        run(["cmake", "-S", str(source), "-B", str(build), "-DBUILD_TESTING=OFF", *arguments], tmp_path, **ROS_PREFIXES)
        assert module_run_by(build / "programs" / "segment_node", "/usr/bin/env python3") == "segment_node"


def module_run_by(program: Path, python: str) -> str:
    """The module of jmceln_ros whose main() an installed program runs, with that Python."""
    match = re.fullmatch(
        rf"#!{re.escape(python)}\nfrom jmceln_ros\.(\w+) import main\n\nmain\(\)\n", program.read_text()
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


def test_image_makes_its_environment_as_a_robot_does():
    text = (ROOT / "Dockerfile").read_text()
    (venv,) = re.findall(r"robot_env\.sh --venv (\S+) speech", text)
    assert f"-DPython3_EXECUTABLE={venv}/bin/python" in text
    assert f"PATH={venv}/bin:" in text
    assert "pip install" not in text


def test_image_is_built_from_everything_that_the_build_reads():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    read = set(runpy.run_path(str(ROOT / "tools" / "bootstrap.py"))["PACKAGE_PARTS"]) - {"action"}
    assert read | {"requirements", "tools"} <= allowed
    assert all((ROOT / name).exists() for name in allowed)
