"""tools/robot_env.sh with Python's own venv and pip, and with packages of a few bytes: nothing is downloaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from support import ROOT

SYSTEM_NUMPY = "1.26.4"
DEBIAN_PYTHON = Path("/usr/bin/python3")


def write_package(folder: Path, name: str, version: str, module: str, *requires: str) -> None:
    """An installed package: one module that knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(f"__version__ = {version!r}\n")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").write_text("")


def write_wheel(folder: Path, name: str, version: str, *requires: str, module: str = "") -> None:
    unpacked = folder / "unpacked" / f"{name}-{version}"
    write_package(unpacked, name, version, module or name.replace("-", "_").lower(), *requires)
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as archive:
        for path in unpacked.rglob("*"):
            archive.write(path, path.relative_to(unpacked))


def write_wheel_of_pip(folder: Path) -> None:
    """pip itself, as it is installed here; it has to be the lock's."""
    pip = distribution("pip")
    assert pip.version == locked("pip")
    with zipfile.ZipFile(folder / f"pip-{pip.version}-py3-none-any.whl", "w") as archive:
        for file in pip.files:
            if file.parts[0].startswith("pip") and "__pycache__" not in file.parts:
                archive.write(file.locate(), str(file))


def locked(name: str) -> str:
    """The version of the lock, without regard to Python's."""
    return re.findall(rf"^{name}==(\S+)", (ROOT / "requirements" / "lock.txt").read_text(), re.MULTILINE)[-1]


class Robot:
    """A machine with a ROS sourced, as far as the script looks: variables, rclpy, NumPy; and an index of packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        system = folder / "opt" / "ros"
        write_package(system, "rclpy", "1", "rclpy")
        write_package(system, "numpy", SYSTEM_NUMPY, "numpy")
        index = folder / "index"
        for name in ("safetensors", "timm", "tokenizers", "torch", "transformers"):
            write_wheel(index, name, locked(name))
            write_wheel(index, name, "99")  # newer than the lock
        write_wheel(index, "PyYAML", locked("pyyaml"), module="yaml")
        write_wheel(index, "sounddevice", locked("sounddevice"))
        write_wheel(index, "opencv-python-headless", "4.10.0.84", "numpy>=1.23", module="cv2")
        write_wheel(index, "opencv-python-headless", locked("opencv-python-headless"), "numpy>=2", module="cv2")
        write_wheel(index, "numpy", locked("numpy"))
        write_wheel_of_pip(index)
        self.environ = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
            **{"HOME": str(folder), "ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": str(system), "PYTHONPATH": str(system)},
            **{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull},
            "PYTHON": sys._base_executable,  # sees no other ROS
        }
        self.environ["LD_LIBRARY_PATH"] = os.environ.get("LD_LIBRARY_PATH", "")

    def make(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        call = ["sh", str(ROOT / "tools" / "robot_env.sh"), "--venv", str(self.venv), *arguments]
        return subprocess.run(
            call, env=self.environ | environ, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def version(self, module: str) -> str:
        ask = [str(self.venv / "bin" / "python"), "-c", f"import {module}; print({module}.__version__)"]
        return subprocess.run(ask, env=self.environ, capture_output=True, text=True, check=True).stdout.strip()

    def installed(self) -> set[str]:
        (site,) = self.venv.glob("lib/python3*/site-packages")
        return {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    return Robot(tmp_path)


def test_environment_keeps_the_systems_numpy_and_the_locks_versions(robot):
    done = robot.make()
    assert done.returncode == 0, done.stdout + done.stderr
    assert robot.version("numpy") == SYSTEM_NUMPY
    assert robot.version("cv2") == "4.10.0.84"  # the one that suits it
    assert robot.version("torch") == locked("torch")
    assert robot.installed() - {"pip", "setuptools"} == {
        *("opencv_python_headless", "pyyaml", "safetensors", "timm", "tokenizers", "torch", "transformers")
    }
    assert (robot.venv / "COLCON_IGNORE").is_file()
    assert f"--packages-select jmceln_ros --cmake-args -DPython3_EXECUTABLE={robot.venv}/bin/python\n" in done.stdout
    # Again: everything is there, nothing is asked of the index. A PyTorch that somebody put there stays.
    torch = next(robot.venv.glob("lib/python3*/site-packages/torch-*.dist-info"))
    torch.rename(torch.with_name("torch-2.8.0a0+nv.dist-info"))
    metadata = torch.with_name("torch-2.8.0a0+nv.dist-info") / "METADATA"
    metadata.write_text(metadata.read_text().replace(locked("torch"), "2.8.0a0+nv"))
    again = robot.make(PIP_FIND_LINKS="")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Collecting" not in again.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ROS_DISTRO": ""}, r"no ROS 2 is sourced.*source /opt/ros/DISTRO/setup.bash"),
        ({"AMENT_PREFIX_PATH": ""}, r"no ROS 2 is sourced"),
        ({"PYTHONPATH": ""}, r"cannot import the rclpy of ROS 2 jazzy; PYTHON=\.\.\. names its Python"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_made(robot, change, said):
    done = robot.make(**change)
    assert done.returncode == 1
    assert re.search(said, done.stderr)
    assert not robot.venv.exists()


def test_missing_numpy_and_venv_are_named_with_their_ubuntu_packages(robot):
    system = Path(robot.environ["PYTHONPATH"])
    (system / "ensurepip.py").write_text("raise ImportError")  # as where python3-venv is not installed
    assert "sudo apt install python3-venv" in robot.make().stderr
    (system / "numpy.py").write_text("raise ImportError")
    assert "sudo apt install python3-numpy" in robot.make().stderr
    assert not robot.venv.exists()


def test_full_disk_and_someone_elses_folder_are_left_alone(robot, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho 'disk 9 9 3000000 9% /'\n")
    (tools / "df").chmod(0o755)
    done = robot.make(PATH=f"{tools}:{robot.environ['PATH']}")
    assert "10 GB of disk are needed" in done.stderr
    assert "3 are free" in done.stderr
    robot.venv.mkdir()
    (robot.venv / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    assert "remove it, or name another: --venv FOLDER" in robot.make().stderr
    assert [path.name for path in robot.venv.iterdir()] == ["pyvenv.cfg"]
    assert "not understood" in robot.make("speach").stderr


def test_python_that_refuses_pip_is_no_obstacle(robot):
    """PEP 668: Debian's Python, like Ubuntu's since 24.04, lets pip install into environments only."""
    ask = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    if not DEBIAN_PYTHON.exists():
        pytest.skip("needs Debian's or Ubuntu's python3")
    stdlib = subprocess.run([DEBIAN_PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    if not Path(stdlib, "EXTERNALLY-MANAGED").exists() or not Path(stdlib, "ensurepip").exists():
        pytest.skip("needs a python3 that refuses pip (PEP 668), with python3-venv")
    done = robot.make(PYTHON=str(DEBIAN_PYTHON))
    assert done.returncode == 0, done.stdout + done.stderr
    assert robot.version("numpy") == SYSTEM_NUMPY
    assert robot.version("torch") == locked("torch")


def blocks(document: str) -> str:
    """The shell blocks of a document's part "On a robot"."""
    part = re.split(r"^##+ On a robot\n", (ROOT / document).read_text(), flags=re.MULTILINE)[1]
    return re.search(r"```bash\n(.*?)```", part, re.DOTALL)[1]


@pytest.mark.parametrize("document", ["README.md", "docs/ros.md"])
def test_blocks_to_paste_use_the_script_and_install_nothing_past_it(document):
    text = blocks(document)
    assert subprocess.run(["bash", "-n"], input=text.replace("<this repository>", "URL"), text=True).returncode == 0
    steps = ["source /opt/ros/", "git clone", "rosdep install", "tools/robot_env.sh", "colcon build", "ros2 launch"]
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
    assert "pip install" not in text
    assert "-DPython3_EXECUTABLE=$HOME/jmceln_venv/bin/python" in text
