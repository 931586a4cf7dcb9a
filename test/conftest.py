"""Shared by all tests: ROS kept to this machine and to this run, and data that a clone may not have."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from support import ROOT
from support.domain import own_domain
from support.turns import turn

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("jmceln", deadline=None)
hypothesis.settings.load_profile("jmceln")


def _missing_ros() -> str:
    """Why the tests over ROS cannot run; empty when they can."""
    try:
        importlib.import_module("rclpy")
        importlib.import_module("jmceln_ros.msg")
    except ImportError as error:
        return f"no ROS 2 with this package's messages ({error}); `make test` has them"
    return ""


MISSING_ROS = _missing_ros()


def pytest_configure(config: pytest.Config) -> None:
    if MISSING_ROS:
        # `make test` promises these tests: there they must not be skipped without a word.
        if os.environ.get("JMCELN_REQUIRE_ROS"):
            raise pytest.UsageError(MISSING_ROS)
        return
    from jmceln_ros.tools.processes import isolate

    # Two runs at the same time, a run's workers, or a robot beside them must not hear each other.
    isolate(own_domain())
    os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="jmceln_ros_log_")
    os.environ["ROS_HOME"] = tempfile.mkdtemp(prefix="jmceln_ros_home_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if MISSING_ROS:
        for item in items:
            if item.get_closest_marker("ros"):
                item.add_marker(pytest.mark.skip(reason=MISSING_ROS))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test marked `alone` waits for those of the other workers, and they for it."""
    if hasattr(item.config, "workerinput"):
        with turn(Path(item.config.option.basetemp).parent, alone=item.get_closest_marker("alone") is not None):
            yield
    else:
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A function that finds a folder or file of ../shared/data by name; a test that needs a missing one is skipped."""

    def find(name: str) -> Path:
        path = ROOT.parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"needs {name} of the development data, which is not part of a clone")
        return path

    return find


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with every part of the network and no knowledge, to be read only."""
    from support import tiny

    return tiny.write(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")
