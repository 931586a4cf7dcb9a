"""Shared by all tests: ROS kept to this machine and to this run, and data that a clone may not have."""

from __future__ import annotations

import importlib
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from support import ROOT

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


def _domain() -> int:
    """Of DDS's domains up to 101, which are certain, one drawn by the run; its workers' numbers are counted on from it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return 1 + (zlib.crc32(run.encode()) + int(worker)) % 101


def pytest_configure(config: pytest.Config) -> None:
    if MISSING_ROS:
        # `make test` promises these tests: there they must not be skipped without a word.
        if os.environ.get("JMCELN_REQUIRE_ROS"):
            raise pytest.UsageError(MISSING_ROS)
        return
    from jmceln_ros.tools.processes import isolate

    # Two runs at the same time, a run's workers, or a robot beside them must not hear each other.
    isolate(_domain())
    os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="jmceln_ros_log_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if MISSING_ROS:
        for item in items:
            if item.get_closest_marker("ros"):
                item.add_marker(pytest.mark.skip(reason=MISSING_ROS))


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
