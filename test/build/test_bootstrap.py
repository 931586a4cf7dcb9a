"""tools/bootstrap.py: what is made anew, what is kept, and what a person is told. Nothing is installed here."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout, in a folder with a blank in its name, with a copy of the script."""
    root = tmp_path / "my checkout"
    (root / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "bootstrap.py", root / "tools")
    shutil.copytree(ROOT / "requirements", root / "requirements")
    for name in ("msg/Target.msg", "config/segment.yaml", "jmceln_core/__init__.py", "CMakeLists.txt", "package.xml"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(f"{name}\n")
    return root


@pytest.fixture
def bootstrap(checkout: Path):
    spec = importlib.util.spec_from_file_location("bootstrap_copy", checkout / "tools" / "bootstrap.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def steps(bootstrap, monkeypatch):
    """Runs `ensure` with the three long steps replaced, and tells which of them it took."""
    taken: list[str] = []
    fail_at: list[str] = []

    def step(name: str, effect=lambda environment: None):
        def replacement(environment, *_):
            taken.append(name)
            if name in fail_at:
                raise KeyboardInterrupt
            effect(environment)

        return replacement

    def generate(environment) -> None:
        messages = environment.install / "lib" / "python3" / "site-packages" / "jmceln_ros" / "msg"
        messages.mkdir(parents=True, exist_ok=True)
        (messages / "__init__.py").touch()

    monkeypatch.setattr(bootstrap, "check_machine", lambda *_: None)
    monkeypatch.setattr(bootstrap.Environment, "call", step("venv"))
    monkeypatch.setattr(bootstrap.Environment, "install_packages", step("packages"))
    monkeypatch.setattr(bootstrap.Environment, "build_messages", step("messages", generate))

    def ensure(ros=None, *, insists: bool = False, interrupted_at: str = "") -> list[str]:
        taken.clear()
        fail_at[:] = [interrupted_at]
        ros = ros or bootstrap.Ros("wheels", "kilted")
        environment = bootstrap.Environment(bootstrap.ROOT / ".venv", ros, insists=insists)
        if interrupted_at:
            with pytest.raises(KeyboardInterrupt):
                environment.ensure()
        else:
            environment.ensure()
        return list(taken)

    return ensure


ALL = ["venv", "packages", "messages"]


def test_second_call_does_nothing(steps, checkout):
    assert steps() == ALL
    assert steps() == []
    assert (checkout / ".venv" / "ros_env.sh").is_file()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("msg/Target.msg", ["messages"]),
        ("CMakeLists.txt", ["messages"]),
        ("package.xml", ["messages"]),
        ("requirements/lock.txt", ["packages", "messages"]),
        ("requirements/dev.txt", ["packages", "messages"]),
        ("config/segment.yaml", []),  # installed as a link: always the present one
        ("jmceln_core/__init__.py", []),  # used from the checkout
    ],
)
def test_changed_file_leads_to_the_steps_that_read_it(steps, checkout, name, expected):
    steps()
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert steps() == expected
    assert steps() == []


@pytest.mark.parametrize("name", ["config/new.yaml", "msg/New.msg", "launch/new.launch.py"])
def test_added_file_is_installed(steps, checkout, name):
    steps()
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).touch()
    assert steps() == ["messages"]
    (checkout / name).unlink()
    assert steps() == ["messages"]


def test_interrupted_installation_begins_again(steps, checkout, capsys):
    assert steps(interrupted_at="packages") == ["venv", "packages"]
    half = checkout / ".venv" / "half a package"
    half.touch()
    assert steps() == ALL
    assert not half.exists()
    assert "interrupted" in capsys.readouterr().out
    assert steps() == []


def test_interruption_while_the_lock_changes_begins_again(steps, checkout):
    steps()
    (checkout / "requirements" / "lock.txt").write_text("numpy==1\n")
    assert steps(interrupted_at="packages") == ["packages"]
    assert steps() == ALL


def test_interrupted_message_build_keeps_the_packages(steps):
    assert steps(interrupted_at="messages") == ALL
    assert steps() == ["messages"]


def test_another_ros_makes_it_anew(steps, bootstrap, capsys):
    steps()
    jazzy = bootstrap.Ros("system", "jazzy")
    assert steps(jazzy) == ALL
    assert "another ros" in capsys.readouterr().out
    assert steps(jazzy) == []


def test_a_forgotten_source_command_does_not_cost_the_environment(steps, bootstrap):
    jazzy = bootstrap.Ros("system", "jazzy")
    steps(jazzy)
    with pytest.raises(bootstrap.BootstrapError, match=r"jazzy.*source it again.*make ROS=wheels"):
        steps()
    assert steps(jazzy) == []
    assert steps(insists=True) == ALL


def test_moved_checkout_makes_it_anew(steps, checkout, capsys):
    steps()
    state = checkout / ".venv" / "bootstrap.json"
    state.write_text(state.read_text().replace("my checkout", "my old checkout"))
    assert steps() == ALL
    assert "another checkout and another venv" in capsys.readouterr().out


def test_environment_of_someone_else_is_left_alone(steps, bootstrap, checkout):
    own = checkout / ".venv" / "pyvenv.cfg"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(bootstrap.BootstrapError, match=r"was not made by this script.*VENV="):
        steps()
    assert own.read_text() == "mine"


def test_environment_script_puts_the_checkout_first_in_any_shell(steps, checkout):
    steps()
    variables = '"$PYTHONPATH" "$PATH" "$LD_LIBRARY_PATH" "$AMENT_PREFIX_PATH"'
    script = f'. "{checkout}/.venv/ros_env.sh" && printf "%s\\n" {variables}'
    environ = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": "/cuda", "PYTHONPATH": "/elsewhere"}
    shell = subprocess.run(["sh", "-eu", "-c", script], env=environ, capture_output=True, text=True, check=True)
    python, path, libraries, prefixes = shell.stdout.splitlines()
    install = f"{checkout}/.venv/ros/install/jmceln_ros"
    assert python == f"{checkout}:{install}/lib/python3/site-packages"  # nothing of the caller's
    assert path.startswith(f"{checkout}/.venv/bin:")
    assert libraries.startswith(f"{install}/lib:")
    assert libraries.endswith(":/cuda")
    assert prefixes == f"{install}:{checkout}/.venv"


def test_environment_script_keeps_compiled_modules_whatever_the_shell_says(steps, checkout):
    steps()
    script = f'. "{checkout}/.venv/ros_env.sh" && exec "{sys.executable}" -c "import json.tool"'
    environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(["sh", "-eu", "-c", script], env=environ, check=True)
    assert list((checkout / ".venv" / "pycache").rglob("json/tool.*.pyc"))


def test_environment_script_keeps_a_sourced_ros(steps, bootstrap, checkout):
    steps(bootstrap.Ros("system", "jazzy"))
    script = f'. "{checkout}/.venv/ros_env.sh" && echo "$PYTHONPATH" && echo "$AMENT_PREFIX_PATH" && echo "$ROS_DISTRO"'
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": "/ros/python",
        "AMENT_PREFIX_PATH": "/ros",
        "ROS_DISTRO": "jazzy",
    }
    shell = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True, check=True)
    python, prefixes, distro = shell.stdout.splitlines()
    assert python.startswith(f"{checkout}:")
    assert python.endswith(":/ros/python")
    assert prefixes == f"{checkout}/.venv/ros/install/jmceln_ros:/ros"
    assert distro == "jazzy"


def test_sourced_ros_is_used_only_where_it_works(bootstrap, monkeypatch, capsys):
    sourced = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy", "PATH": ""}
    wheels = bootstrap.Ros("wheels", "kilted")
    assert bootstrap.find_ros("auto", {}) == wheels
    assert capsys.readouterr().out == ""  # nothing sourced is nothing to talk about
    with pytest.raises(bootstrap.BootstrapError, match="no ROS 2 installation is sourced"):
        bootstrap.find_ros("system", {})

    monkeypatch.setattr(bootstrap, "can_import", lambda *_: False)
    assert bootstrap.find_ros("auto", sourced) == wheels
    assert "cannot import its rclpy" in capsys.readouterr().out

    monkeypatch.setattr(bootstrap, "can_import", lambda *_: True)
    with pytest.raises(bootstrap.BootstrapError, match="no colcon"):
        bootstrap.find_ros("system", sourced)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda *_, **__: "/usr/bin/colcon")
    assert bootstrap.find_ros("auto", sourced) == bootstrap.Ros("system", "jazzy")
    assert bootstrap.find_ros("wheels", sourced) == wheels
    assert bootstrap.find_ros("auto", sourced | {"JMCELN_ROS": "wheels"}) == wheels  # . .venv/ros_env.sh, then make


def test_missing_tools_are_all_named_before_anything_is_made(bootstrap, monkeypatch, checkout):
    monkeypatch.setattr(bootstrap.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(bootstrap, "DISK_NEEDED_GB", 10**9)
    monkeypatch.setattr(bootstrap, "PYTHON_VERSIONS", ((3, 0), (3, 1)))
    with pytest.raises(bootstrap.BootstrapError) as error:
        bootstrap.Environment(checkout / ".venv", bootstrap.Ros("wheels", "kilted")).ensure()
    for part in ("c++", "make (", "build-essential", "free disk", "make PYTHON="):
        assert part in str(error.value)
    assert not (checkout / ".venv").exists()


def test_calls_are_shielded_from_the_users_settings_and_fail_with_the_log(bootstrap, monkeypatch, checkout):
    for name in ("PYTHONPATH", "PIP_TARGET", "MAKEFLAGS", "AMENT_PREFIX_PATH"):
        monkeypatch.setenv(name, "/the/users/own")
    monkeypatch.setenv("PIP_CONSTRAINT", "/the/users/own")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    environment = bootstrap.Environment(checkout / ".venv", bootstrap.Ros("wheels", "kilted"))
    environment.venv.mkdir()
    environment.call(["env"], PIP_CONSTRAINT="/the/lock")
    log = environment.log_file.read_text()
    assert "/the/users/own" not in log
    assert "PIP_CONSTRAINT=/the/lock\n" in log
    assert "PIP_INDEX_URL=https://mirror.example/simple\n" in log
    with pytest.raises(bootstrap.BootstrapError, match=r"ended with 3:\n(.|\n)*no such wheel\n"):
        environment.call(["sh", "-c", "echo no such wheel; exit 3"])


def test_cmake_files_of_the_wheels_name_this_machine(bootstrap, checkout):
    environment = bootstrap.Environment(checkout / ".venv", bootstrap.Ros("wheels", "kilted"))
    file = environment.venv / "share" / "std_msgs" / "cmake" / "export.cmake"
    file.parent.mkdir(parents=True)
    built = "/opt/python/cp312-cp312"
    file.write_text(
        f'"{built}/include/python3.12;{built}/lib/python3.12/site-packages/numpy/_core/include;${{_IMPORT_PREFIX}}"'
    )
    environment.python = Path(sys.executable)
    environment.adapt_cmake_files()
    python, numpy, rest = file.read_text().strip('"').split(";")
    assert Path(python, "Python.h").is_file()
    assert Path(numpy, "numpy", "arrayobject.h").is_file()
    assert rest == "${_IMPORT_PREFIX}"


def test_colcon_sees_links_to_the_present_files_and_no_environment(bootstrap, checkout):
    environment = bootstrap.Environment(checkout / ".venv", bootstrap.Ros("wheels", "kilted"))
    (environment.venv / "lib").mkdir(parents=True)
    mirror = environment.mirror_checkout(environment.venv / "ros" / "src")
    (checkout / "config" / "segment.yaml").write_text("changed later")
    assert (mirror / "config" / "segment.yaml").read_text() == "changed later"
    assert not (mirror / ".venv").exists()
    assert not (mirror / "config").is_symlink()  # CMake would install a linked folder as a link


def test_two_calls_at_once_take_turns(bootstrap, checkout):
    begin = "import sys; sys.path.insert(0, 'tools'); import bootstrap as b, pathlib\n"
    hold = begin + "with b.exclusive(pathlib.Path('.venv').absolute()): print('held', flush=True); input()"
    enter = begin + "with b.exclusive(pathlib.Path('.venv').absolute()): print('entered', flush=True)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": checkout}
    with subprocess.Popen([sys.executable, "-c", hold], **pipes) as first:
        assert first.stdout.readline() == "held\n"
        with subprocess.Popen([sys.executable, "-c", enter], **pipes) as second:
            assert "waiting for another call" in second.stdout.readline()
            first.communicate("\n", timeout=30)
            assert second.communicate(timeout=30)[0] == "entered\n"


def test_error_goes_to_standard_error_with_exit_code_1(checkout):
    (checkout / ".venv").mkdir()
    call = [sys.executable, str(checkout / "tools" / "bootstrap.py"), "--ros", "wheels"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("jmceln: ")
    assert "Traceback" not in done.stderr


def test_lock_without_numpy_for_a_ros_machine(bootstrap, checkout):
    environment = bootstrap.Environment(checkout / ".venv", bootstrap.Ros("system", "jazzy"))
    environment.venv.mkdir()
    lines = environment.constraints().read_text().splitlines()
    names = [line.split("==")[0] for line in lines]
    import numpy

    assert lines[-1] == f"numpy=={numpy.__version__}"
    assert names.count("numpy") == 1
    assert "torch" in names
    assert "opencv-python-headless" not in names


def test_lock_beside_the_systems_numpy_is_printed_for_the_script_of_a_robot(bootstrap, checkout, capsys):
    assert bootstrap.main(["--constraints"]) == 0
    environment = bootstrap.Environment(checkout / ".venv", bootstrap.Ros("system", "jazzy"))
    environment.venv.mkdir()
    assert capsys.readouterr().out == environment.constraints().read_text()
    assert [path.name for path in environment.venv.iterdir()] == ["constraints.txt"]


@pytest.mark.parametrize(
    "name", ["README.md", "docs/install.md", "CONTRIBUTING.md", "Makefile", "requirements/lock.txt"]
)
def test_documents_name_the_pythons_that_are_accepted(bootstrap, name):
    first, last = ("{}.{}".format(*version) for version in bootstrap.PYTHON_VERSIONS)
    assert set(re.findall(r"\b3\.\d+ to 3\.\d+\b", (ROOT / name).read_text())) == {f"{first} to {last}"}


@pytest.mark.parametrize(("version", "accepted"), [((3, 9), False), ((3, 10), True), ((3, 14), True), ((3, 15), False)])
def test_python_out_of_range_is_named_with_a_remedy(bootstrap, monkeypatch, checkout, version, accepted):
    monkeypatch.setattr(bootstrap.sys, "version_info", (*version, 0))
    monkeypatch.setattr(bootstrap, "DISK_NEEDED_GB", 10**9)  # so that there is always something to complain of
    with pytest.raises(bootstrap.BootstrapError) as error:
        bootstrap.check_machine(checkout / ".venv", bootstrap.Ros("system", "lyrical"))
    assert ("Python 3.10 to 3.14" not in str(error.value)) == accepted


def test_state_on_disk_is_plain_json(steps, checkout):
    steps()
    state = json.loads((checkout / ".venv" / "bootstrap.json").read_text())
    assert set(state) == {"identity", "packages", "messages"}
