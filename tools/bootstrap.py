"""Make the environment that `make demo`, `make test` and the other targets run in, or bring it up to date.

    python3 tools/bootstrap.py [--venv .venv] [--ros auto|system|wheels]

It needs nothing but the standard library, and leaves behind:

    .venv/                the packages of requirements/*.txt in the versions of requirements/lock.txt
    .venv/ros/install/    the package jmceln_ros as colcon installs it; the messages are used from there
    .venv/ros_env.sh      `. .venv/ros_env.sh` puts both, and the checkout's own modules before them, on the paths
    .venv/bootstrap.json  what was made from what, so that the next call can tell at once that nothing is to be done

Where a ROS 2 installation is sourced it is used. Elsewhere ROS 2 Kilted is installed from wheels. docs/build.md has the
reasons.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_VERSIONS = ((3, 10), (3, 14))  # first and last; ROS wheels exist for these
DISK_NEEDED_GB = 8  # the environment takes 6 GB, most of it CUDA; pip's downloads take as much, maybe on another disk
HEARTBEAT_S = 20.0

# What CMakeLists.txt reads, at the top of the checkout.
PACKAGE_PARTS = (
    *("CMakeLists.txt", "LICENSE", "NOTICE", "package.xml"),
    *("action", "config", "jmceln_core", "jmceln_ros", "launch", "msg", "srv"),
)

# Variables by which one ROS or Python installation leaks into another.
FOREIGN_VARIABLES = (
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "ROS_DISTRO",
    "ROS_PYTHON_VERSION",
    "ROS_VERSION",
)
# What the calling make tells its children is not for colcon's own make.
MAKE_VARIABLES = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")

# On a ROS machine the system's compiled messages fix the NumPy version; these packages have to suit it, so that the
# lock's versions of them hold only where NumPy comes from the lock as well.
BOUND_TO_NUMPY = {
    "contourpy",
    "imageio",
    "matplotlib",
    "ml-dtypes",
    "numpy",
    "onnx",
    "onnxruntime",
    "opencv-python-headless",
    "pycocotools",
    "scikit-image",
    "scipy",
    "setuptools",
    "tifffile",
}


class BootstrapError(Exception):
    """The environment cannot be made; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Ros:
    """Where ROS 2 comes from: `kind` is "wheels" or "system", `distro` its name."""

    kind: str
    distro: str


def say(text: str) -> None:
    print(text, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# What is here already


def find_ros(choice: str, environ: Mapping[str, str]) -> Ros:
    """The ROS 2 to use: the sourced one where Python can import it, otherwise wheels; `choice` can insist on either."""
    # Whoever has sourced an environment of this script's own has not sourced a ROS installation.
    own = environ.get("JMCELN_ROS") == "wheels"
    if choice == "wheels" or (choice == "auto" and own):
        return Ros("wheels", "kilted")
    distro, prefixes = environ.get("ROS_DISTRO", ""), environ.get("AMENT_PREFIX_PATH", "")
    problem = ""
    if own or not (distro and prefixes):
        problem = "no ROS 2 installation is sourced (source /opt/ros/<distro>/setup.bash)"
    elif not can_import("rclpy", environ):
        problem = (
            f"ROS 2 {distro} is sourced, but {sys.executable} cannot import its rclpy (make PYTHON=/usr/bin/python3)"
        )
    elif not shutil.which("colcon", path=environ.get("PATH")):
        problem = f"ROS 2 {distro} is sourced, but there is no colcon (apt install python3-colcon-common-extensions)"
    if not problem:
        return Ros("system", distro)
    if choice == "system":
        raise BootstrapError(problem)
    if distro:
        say(f"jmceln: {problem}; ROS 2 Kilted from wheels is used instead")
    return Ros("wheels", "kilted")


def can_import(module: str, environ: Mapping[str, str]) -> bool:
    call = [sys.executable, "-c", f"import {module}"]
    return subprocess.run(call, env=dict(environ), capture_output=True, check=False).returncode == 0


def check_machine(venv: Path, ros: Ros) -> None:
    """Name everything that is missing before the long installation begins."""
    first, last = PYTHON_VERSIONS
    version = sys.version_info[:2]
    missing = []
    if not sys.platform.startswith("linux"):
        missing.append(f"Linux (this is {sys.platform})")
    if not first <= version <= last:
        missing.append(
            f"Python {first[0]}.{first[1]} to {last[0]}.{last[1]} ({sys.executable} is {version[0]}.{version[1]}); "
            "name another one: make PYTHON=python3.12"
        )
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        missing.append("Python's venv module (Debian, Ubuntu: apt install python3-venv)")
    if ros.kind == "wheels":
        for program in ("c++", "make"):
            if not shutil.which(program):
                missing.append(f"{program} (Debian, Ubuntu: apt install build-essential)")
        if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
            missing.append("Python's headers (Debian, Ubuntu: apt install python3-dev)")
    free_gb = shutil.disk_usage(venv.parent).free / 1e9
    if free_gb < DISK_NEEDED_GB:
        missing.append(f"{DISK_NEEDED_GB} GB of free disk in {venv.parent} (there are {free_gb:.1f})")
    if missing:
        raise BootstrapError("this machine lacks\n  - " + "\n  - ".join(missing))


def lock_beside_numpy() -> str:
    """The lock without what depends on NumPy's version, and with NumPy as this Python has it, in the last line."""
    call = [sys.executable, "-c", "import numpy; print(numpy.__version__)"]
    numpy = subprocess.run(call, capture_output=True, text=True, check=False)
    if numpy.returncode:
        raise BootstrapError(f"{sys.executable} cannot import numpy, which ROS needs (apt install python3-numpy)")
    lock = (ROOT / "requirements" / "lock.txt").read_text().splitlines()
    lines = [line for line in lock if line.split("==")[0] not in BOUND_TO_NUMPY]
    return "\n".join([*lines, f"numpy=={numpy.stdout.strip()}"]) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Keys: what the environment was made from


def digest(parts: Sequence[str | Path]) -> str:
    """One hash over strings and over the names and contents of files."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            total.update(str(part.relative_to(ROOT)).encode() + b"\0" + part.read_bytes() + b"\0")
        else:
            total.update(part.encode() + b"\0")
    return total.hexdigest()


def package_files() -> list[Path]:
    """The files of the checkout that CMakeLists.txt builds or installs, sorted."""
    files = []
    for name in PACKAGE_PARTS:
        part = ROOT / name
        files += [part] if part.is_file() else [path for path in part.rglob("*") if path.is_file()]
    return sorted(path for path in files if "__pycache__" not in path.parts)


def packages_key() -> str:
    return digest([*sorted((ROOT / "requirements").glob("*.txt")), Path(__file__).resolve()])


def messages_key() -> str:
    """Changes with what the messages are made from, and when a file that colcon installs comes or goes.

    The contents of Python modules, parameters and launch files are no part of it: the installation links to them.
    """
    files = package_files()
    sources = [path for path in files if path.parent == ROOT or path.parent.name in ("msg", "srv", "action")]
    installed = [str(path.relative_to(ROOT)) for path in files if path.suffix != ".py" or path.parent.name == "launch"]
    return digest([packages_key(), *sources, *installed])


# ---------------------------------------------------------------------------------------------------------------------
# The environment


class Environment:
    """The folder `venv`, made for one Python, one checkout and one ROS."""

    def __init__(self, venv: Path, ros: Ros, *, insists: bool = False) -> None:
        """`insists`: the caller asked for this ROS by name, and did not just take what is there."""
        self.venv = venv
        self.ros = ros
        self.insists = insists
        self.python = venv / "bin" / "python"
        self.state_file = venv / "bootstrap.json"
        self.log_file = venv / "bootstrap.log"
        self.install = venv / "ros" / "install" / "jmceln_ros"
        # An environment cannot be moved, nor changed to another Python: a difference here means to make it anew.
        self.identity = {
            "checkout": str(ROOT),
            "venv": str(venv),
            "python": f"{sys.version_info[0]}.{sys.version_info[1]} in {sys.base_prefix}",
            "ros": f"{ros.kind} {ros.distro}",
        }

    def ensure(self) -> None:
        """Bring the environment up to date; when it is, this returns in well under a second."""
        state = self.read_state()
        packages, messages = packages_key(), messages_key()
        if state == {"identity": self.identity, "packages": packages, "messages": messages}:
            return
        start = time.monotonic()
        if self.outdated(state):
            self.make(state)
            state = {"identity": self.identity}
        if state.get("packages") != packages:
            # Without a key on disk, an installation that is interrupted is one that has to be made anew.
            self.write_state({"identity": self.identity})
            self.install_packages()
            self.write_state({"identity": self.identity, "packages": packages})
        self.build_messages()
        self.write_environment_script()
        self.write_state({"identity": self.identity, "packages": packages, "messages": messages})
        say(f"jmceln: the environment {self.venv} is ready ({time.monotonic() - start:.0f} s)")

    def read_state(self) -> dict[str, object]:
        if not self.venv.exists():
            return {}
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            raise BootstrapError(
                f"{self.venv} exists and was not made by this script; remove it, or name another folder: make VENV=..."
            ) from None
        return dict(state)

    def write_state(self, state: Mapping[str, object]) -> None:
        partial = self.state_file.with_suffix(".partial")
        partial.write_text(json.dumps(state, indent=2) + "\n")
        partial.replace(self.state_file)

    def outdated(self, state: Mapping[str, object]) -> bool:
        """Whether there is no environment that could be kept; says why."""
        if not state:
            return True
        if state.get("identity") != self.identity:
            before, now = state.get("identity"), self.identity
            made_with = str(before.get("ros")) if isinstance(before, dict) else ""
            if made_with.startswith("system") and self.ros.kind == "wheels" and not self.insists:
                raise BootstrapError(
                    f"{self.venv} was made with a sourced ROS 2 ({made_with.split()[1]}), and none can be used now; "
                    "source it again, or have the environment made anew with ROS 2 from wheels: make ROS=wheels"
                )
            changed = [key for key in now if not isinstance(before, dict) or before.get(key) != now[key]]
            say(f"jmceln: {self.venv} was made for another {' and another '.join(changed)}; it is made anew")
            return True
        if "packages" not in state:
            say(f"jmceln: the installation into {self.venv} was interrupted; it is made anew")
            return True
        return False

    def make(self, state: Mapping[str, object]) -> None:
        check_machine(self.venv, self.ros)
        source = f"ROS 2 {self.ros.distro} from " + ("this machine" if self.ros.kind == "system" else "wheels")
        say(f"jmceln: first call: making {self.venv} (Python {self.identity['python']}, {source}).")
        say("        Up to 4 GB are downloaded; 14 GB of disk are used on the way, 6 GB in the end. With a good")
        say("        line it takes 4 to 8 minutes. Later calls start at once.")
        trash = self.venv.with_name(self.venv.name + ".old")
        if state:
            # Renaming first: if the removal is interrupted, what is left never looks like an environment.
            shutil.rmtree(trash, ignore_errors=True)
            self.venv.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
        self.venv.mkdir(parents=True)
        self.write_state({"identity": self.identity})
        (self.venv / "COLCON_IGNORE").touch()
        shared = ["--system-site-packages"] if self.ros.kind == "system" else []
        with self.step(1, "an empty Python environment", "10 s"):
            # Not sys.executable: that may lie in the very environment that has just been moved away.
            python = getattr(sys, "_base_executable", sys.executable)
            self.call([python, "-m", "venv", *shared, str(self.venv)])

    def install_packages(self) -> None:
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install"]
        # Compiling all of PyTorch takes a minute; Python compiles what is imported, when it is.
        pip += ["--progress-bar", "off", "--no-compile"]
        # In one call, so that pip sees every requirement at once.
        files = ["runtime.txt", "train.txt", "speech.txt", "dev.txt"] + ["ros.txt"] * (self.ros.kind == "wheels")
        needed = [part for file in files for part in ("-r", str(ROOT / "requirements" / file))]
        lock = self.constraints()
        with self.step(2, "the packages of requirements/ (PyTorch is by far the largest)", "3 to 7 minutes"):
            self.call([*pip, "pip"], PIP_CONSTRAINT=str(lock))
            self.call([*pip, *needed], PIP_CONSTRAINT=str(lock), PIP_BUILD_CONSTRAINT=str(lock))
            if self.ros.kind == "wheels":
                # lark and lark-parser, both required by some wheel, write the same folder: the newer has the last word.
                self.call([*pip, "--force-reinstall", "--no-deps", "lark"], PIP_CONSTRAINT=str(lock))
                self.adapt_cmake_files()

    def constraints(self) -> Path:
        """The lock file; on a ROS machine, one that leaves the system's NumPy, and what depends on it, alone."""
        if self.ros.kind == "wheels":
            return ROOT / "requirements" / "lock.txt"
        path = self.venv / "constraints.txt"
        path.write_text(lock_beside_numpy())
        return path

    def adapt_cmake_files(self) -> None:
        """Let the wheels' CMake files, which name the folders of the machine they were built on, name this one's."""
        ask = "import numpy, sysconfig; print(sysconfig.get_paths()['include']); print(numpy.get_include())"
        answer = subprocess.run(
            [str(self.python), "-c", ask], env=self.clean_environ(), capture_output=True, text=True, check=True
        )
        python_include, numpy_include = answer.stdout.split("\n")[:2]
        for path in (self.venv / "share").rglob("*.cmake"):
            text = path.read_text()
            adapted = re.sub(r"/opt/python/[^/;\"]+/include/python3\.\d+", lambda _: python_include, text)
            adapted = re.sub(r"/opt/python/[^;\"]+/numpy/_core/include", lambda _: numpy_include, adapted)
            if adapted != text:
                path.write_text(adapted)

    def build_messages(self) -> None:
        base = self.venv / "ros"
        with self.step(3, "the ROS package and its messages, with colcon", "30 s"):
            for folder in ("src", "build", "install", "log"):
                shutil.rmtree(base / folder, ignore_errors=True)
            source = self.mirror_checkout(base / "src" / "jmceln_ros")
            cmake = ["-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release"]
            if self.ros.kind == "wheels":
                colcon = str(self.venv / "bin" / "colcon")
                cmake.append(f"-DPython3_EXECUTABLE={self.python}")
                variables = {
                    "AMENT_PREFIX_PATH": str(self.venv),
                    "CMAKE_PREFIX_PATH": str(self.venv),
                    "LD_LIBRARY_PATH": os.pathsep.join(self.wheel_libraries()),
                }
            else:
                colcon, variables = "colcon", {}
            self.call(
                [
                    *[colcon, "--log-base", str(base / "log"), "build", "--paths", str(source), "--symlink-install"],
                    *["--build-base", str(base / "build"), "--install-base", str(base / "install")],
                    *["--event-handlers", "console_direct+", "--cmake-args", *cmake],
                ],
                COLCON_HOME=str(base / "colcon_home"),
                **variables,
            )

    def mirror_checkout(self, folder: Path) -> Path:
        """The package as colcon is to see it: folders of links to the files of the checkout.

        CMake refuses to build a package whose source folder holds one of the include folders that it exports, and
        `venv`, with NumPy's, usually lies in the checkout.
        """
        folder.mkdir(parents=True)
        for path in package_files():
            link = folder / path.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        return folder

    def wheel_libraries(self) -> list[str]:
        """The folders with the ROS wheels' shared libraries."""
        bundled = sorted(str(path) for path in self.venv.glob("lib/python3.*/site-packages/ros_*.libs"))
        return [str(self.venv / "lib"), *bundled]

    def write_environment_script(self) -> None:
        packages = [path.parent.parent for path in self.install.rglob("jmceln_ros/msg/__init__.py")]
        if not packages:
            raise BootstrapError(f"colcon made no Python messages under {self.install}; see {self.log_file}")
        wheels = self.ros.kind == "wheels"
        libraries = [str(self.install / "lib"), *(self.wheel_libraries() if wheels else [])]

        def export(name: str, values: Sequence[object], keep: bool) -> str:
            before = f"${{{name}:+:${name}}}" if keep else ""
            return f"export {name}={shlex.quote(':'.join(map(str, values)))}{before}"

        lines = [
            "# Made by tools/bootstrap.py; use it with `. .venv/ros_env.sh` (sh, bash, zsh).",
            f"export VIRTUAL_ENV={shlex.quote(str(self.venv))}",
            export("PATH", [self.venv / "bin"], keep=True),
            "unset PYTHONHOME",
            # Compiled modules are kept, whatever the caller's shell says: a process that compiles all it imports anew
            # starts half as fast. Within the environment, so that the checkout and the wheels stay as they are.
            "unset PYTHONDONTWRITEBYTECODE",
            f"export PYTHONPYCACHEPREFIX={shlex.quote(str(self.venv / 'pycache'))}",
            # The checkout comes first: its modules are the ones that run, whatever is installed.
            export("PYTHONPATH", [ROOT, *[path.parent for path in packages]], keep=not wheels),
            export("AMENT_PREFIX_PATH", [self.install, *([self.venv] if wheels else [])], keep=not wheels),
            export("LD_LIBRARY_PATH", libraries, keep=True),
        ]
        if wheels:
            lines += [
                f"export ROS_DISTRO={self.ros.distro} ROS_VERSION=2 ROS_PYTHON_VERSION=3 JMCELN_ROS=wheels",
                "export RMW_IMPLEMENTATION=rmw_fastrtps_cpp",
                # The library path is set above: the wheels need not start every Python twice to set it.
                "export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1",
            ]
        (self.venv / "ros_env.sh").write_text("\n".join(lines) + "\n")

    # -----------------------------------------------------------------------------------------------------------------
    # Calls

    def clean_environ(self) -> dict[str, str]:
        """The caller's variables without those that would let another installation in, with `venv` activated."""
        drop = set(MAKE_VARIABLES) | (set(FOREIGN_VARIABLES) if self.ros.kind == "wheels" else set())
        environ = {name: value for name, value in os.environ.items() if name not in drop}
        if self.ros.kind == "wheels":
            environ["VIRTUAL_ENV"] = str(self.venv)
            environ["PATH"] = os.pathsep.join([str(self.venv / "bin"), environ.get("PATH", os.defpath)])
        return environ

    def call(self, command: Sequence[str], **variables: str) -> None:
        """Run a command with its output in the log file; raise BootstrapError with the log's end when it fails."""
        # PIP_USER and the others would send packages elsewhere; indexes, proxies and certificates stay the user's.
        environ = {**self.clean_environ(), "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", **variables}
        for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"):
            environ.pop(name, None)
        with self.log_file.open("ab") as log:
            log.write(f"\n$ {shlex.join(command)}\n".encode())
            log.flush()
            code = subprocess.run(
                command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            ).returncode
        if code:
            end = "\n".join(self.log_lines()[-25:])
            raise BootstrapError(f"{shlex.join(command[:6])} ... ended with {code}:\n{end}\nAll of it: {self.log_file}")

    def log_lines(self) -> list[str]:
        try:
            return self.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return []

    @contextlib.contextmanager
    def step(self, number: int, what: str, usual: str) -> Iterator[None]:
        """Say what is being done, how long it usually takes and, every now and then, how far it is."""
        say(f"jmceln: step {number} of 3: {what} (usually {usual})")
        start = time.monotonic()
        free = shutil.disk_usage(self.venv).free
        done = threading.Event()

        def report() -> None:
            while not done.wait(HEARTBEAT_S):
                written = max(0, free - shutil.disk_usage(self.venv).free) / 1e9
                lines = (line.strip() for line in reversed(self.log_lines()) if not line.startswith("WARNING"))
                last = next((line for line in lines if line), "")
                say(f"        {time.monotonic() - start:4.0f} s, {written:.1f} GB written: {last[:90]}")

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            yield
        finally:
            done.set()
            reporter.join()
        say(f"        done in {time.monotonic() - start:.0f} s")


@contextlib.contextmanager
def exclusive(venv: Path) -> Iterator[None]:
    """Hold the lock on `venv`: of two calls at the same time the second one waits, and then finds the work done."""
    with venv.with_name(venv.name + ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"jmceln: waiting for another call that is making {venv}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder of the environment (default: .venv)")
    parser.add_argument(
        "--ros",
        choices=("auto", "system", "wheels"),
        default="auto",
        help="where ROS 2 comes from: the sourced installation, wheels, or the first that is there (default: auto)",
    )
    parser.add_argument(
        "--constraints",
        action="store_true",
        help="print the lock that leaves this Python's NumPy alone, and make nothing: for tools/robot_env.sh",
    )
    options = parser.parse_args(arguments)
    venv = options.venv.absolute()
    try:
        if options.constraints:
            print(lock_beside_numpy(), end="")
            return 0
        with exclusive(venv):
            Environment(venv, find_ros(options.ros, os.environ), insists=options.ros != "auto").ensure()
    except BootstrapError as error:
        print(f"jmceln: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("jmceln: interrupted; the next call goes on or begins again, as needed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
