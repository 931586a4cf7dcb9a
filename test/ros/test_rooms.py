"""A node imports nothing it has no use for. Which room may import which: test/build/test_architecture.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support import ROOT


@pytest.mark.ros
@pytest.mark.parametrize(
    ("node", "foreign"),
    [
        ("camera_node", ("torch", "jmceln_core")),  # but for its reader of pictures
        ("segment_node", ("torch", "jmceln_core.speech", "jmceln_ros.speech")),
        ("speech_node", ("torch", "jmceln_core.segmenter", "jmceln_ros.segment")),
    ],
)
def test_a_node_imports_only_what_it_needs(node, foreign):
    program = f"import sys, jmceln_ros.{node}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split()) - {"jmceln_core", "jmceln_core.pictures"}
    assert not [name for name in imported if f"{name}.".startswith(tuple(f"{f}." for f in foreign))]


@pytest.mark.ros
def test_what_launch_testing_runs_finds_what_it_imports_of_ours():
    """launch_testing itself is in no package registry: test_launch.py, which runs the file, skips without it."""
    lines = (ROOT / "test" / "support" / "launch_segment.py").read_text().splitlines()
    ours = [line for line in lines if line.startswith(("from jmceln", "from support"))]
    assert len(ours) > 1
    path = f"{ROOT / 'test'}:{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", "\n".join(ours)], env=environment, cwd=ROOT / "docs", check=True)
