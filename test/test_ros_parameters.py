"""jmceln_ros.parameters: one table for code, file and documentation."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from jmceln_ros.parameters import CameraSettings, SegmentSettings, check, table

ROOT = Path(__file__).parents[1]
KINDS = {"segment_node": SegmentSettings, "camera_node": CameraSettings}


@pytest.mark.parametrize("node", KINDS)
def test_the_parameter_file_has_every_parameter_at_its_default(node):
    content = yaml.safe_load((ROOT / "config" / "segment.yaml").read_text())
    assert content[f"/**/{node}"]["ros__parameters"] == asdict(KINDS[node]())


@pytest.mark.parametrize("node", KINDS)
def test_the_documentation_has_the_table_made_from_the_code(node):
    assert table(KINDS[node]) in (ROOT / "docs" / "ros.md").read_text(), (
        "put the output of `python -m jmceln_ros.parameters` into docs/ros.md"
    )


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_parameter_is_described_and_its_default_allowed(kind):
    assert check(kind, asdict(kind())) == ""
    for spec in fields(kind):
        assert spec.metadata["description"].endswith(".")
        if isinstance(spec.default, (int, float)) and not isinstance(spec.default, bool):
            assert spec.metadata["low"] <= spec.default <= spec.metadata["high"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mode": "sometimes"}, "mode is 'sometimes'; choose one of 'track', 'once'"),
        ({"precision": "int3"}, "precision is 'int3'; choose one of '', 'fp32', 'bf16', 'fp16'"),
        ({"max_rate": -0.1}, r"max_rate is -0.1; it must lie in [0.0, 1000.0]"),
        ({"max_rate": float("nan")}, r"max_rate is nan; it must lie in [0.0, 1000.0]"),
        ({"max_image_side": 0}, r"max_image_side is 0; it must lie in [1, 65535]"),
        ({"max_image_side": 65535, "max_rate": 1000.0, "mode": "once", "use_sim_time": 3}, ""),
    ],
)
def test_values_are_checked_and_the_refusal_says_what_is_allowed(values, said):
    assert check(SegmentSettings, values) == said
