"""A node imports nothing it has no use for. Which room may import which: test/build/test_architecture.py."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.ros
@pytest.mark.parametrize(
    ("node", "foreign"),
    [
        ("camera_node", ("torch", "jmceln_core")),
        ("segment_node", ("torch", "jmceln_core.speech", "jmceln_ros.speech")),
        ("speech_node", ("torch", "jmceln_core.segmenter", "jmceln_ros.segment")),
    ],
)
def test_a_node_imports_only_what_it_needs(node, foreign):
    program = f"import sys, jmceln_ros.{node}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if f"{name}.".startswith(tuple(f"{f}." for f in foreign))]
