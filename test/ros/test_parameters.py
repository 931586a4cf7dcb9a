"""jmceln_ros.common.parameters and the nodes' settings: one table for code, file and documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from jmceln_ros.common.parameters import PROFILE_NAMES, ParameterProblem, changed, check, named, understood
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.speech.settings import SpeechSettings
from jmceln_ros.tools.parameters import NODES, table
from support import ROOT


def defaults(kind):
    """By parameter name."""
    return {name: spec.default for name, spec in named(kind).items()}


def nested(kind):
    """The defaults as YAML has them: a dot in a name makes a table."""
    tree = {}
    for name, value in defaults(kind).items():
        *tables, last = name.split(".")
        inner = tree
        for table_name in tables:
            inner = inner.setdefault(table_name, {})
        inner[last] = value
    return tree


@pytest.mark.parametrize("node", NODES)
def test_the_parameter_file_has_every_parameter_at_its_default(node):
    content = yaml.safe_load((ROOT / "config" / "segment.yaml").read_text())
    assert content[f"/**/{node}"]["ros__parameters"] == nested(NODES[node])


@pytest.mark.parametrize("node", NODES)
def test_the_documentation_has_the_table_made_from_the_code(node):
    assert table(NODES[node]) in (ROOT / "docs" / "ros.md").read_text(), (
        "put the output of `python -m jmceln_ros.tools.parameters` into docs/ros.md"
    )


@pytest.mark.parametrize("module", ["jmceln_ros.tools.parameters", "jmceln_ros.parameters"])
def test_the_tables_are_printed_by_the_tool_and_by_its_earlier_name(module):
    done = subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "\n\n".join(f"### {node}\n\n{table(kind)}" for node, kind in NODES.items()) + "\n"


@pytest.mark.parametrize("kind", NODES.values())
def test_every_parameter_is_described_and_its_default_allowed(kind):
    assert check(kind, defaults(kind)) == ""
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
        ({"max_frame_age": 3601.0}, r"max_frame_age is 3601.0; it must lie in [0.0, 3600.0]"),
        ({"mask_threshold": 1.5}, r"mask_threshold is 1.5; it must lie in [-1.0, 1.0]"),
        ({"image_transport": "theora"}, "image_transport is 'theora'; choose one of 'raw', 'compressed'"),
        ({"qos.image": "best"}, f"qos.image is 'best'; choose one of {', '.join(map(repr, PROFILE_NAMES))}"),
        ({"max_image_side": 0}, r"max_image_side is 0; it must lie in [1, 65535]"),
        ({"max_image_side": 65535, "max_rate": 1000.0, "mode": "once", "use_sim_time": 3}, ""),
    ],
)
def test_values_are_checked_and_the_refusal_says_what_is_allowed(values, said):
    assert check(SegmentSettings, values) == said


@pytest.mark.parametrize("phrase", ["...", "(robot)", " ", "[noise]"])
def test_a_wake_phrase_without_words_is_refused(phrase):
    said = check(SpeechSettings, {"wake_phrase": phrase})
    assert f"wake_phrase is {phrase!r}; the wake phrase {phrase!r} has no words" in said
    assert check(SpeechSettings, {"wake_phrase": "robot"}) == check(SpeechSettings, {"wake_phrase": ""}) == ""


def test_a_rate_that_no_microphone_is_listened_to_with_is_refused():
    for rate in (1, 3999):
        assert f"microphone_rate is {rate}; it must be 0" in check(SpeechSettings, {"microphone_rate": rate})
    for rate in (0, 4000, 384_000):
        assert check(SpeechSettings, {"microphone_rate": rate}) == ""


def test_values_by_parameter_name_go_into_the_fields():
    settings = changed(SegmentSettings(), {"qos.image": "reliable", "max_rate": 3.0, "use_sim_time": True})
    assert (settings.qos_image, settings.max_rate) == ("reliable", 3.0)
    assert settings.qos_depth == SegmentSettings().qos_depth


def test_every_profile_is_there_and_rmw_s_names_mean_what_rmw_means():
    qos = pytest.importorskip("jmceln_ros.common.qos", reason="needs ROS 2")
    from rclpy.qos import qos_profile_sensor_data

    assert tuple(qos.PROFILES) == PROFILE_NAMES
    assert qos.PROFILES["sensor_data"].depth == qos_profile_sensor_data.depth
    assert qos.PROFILES["sensor_data"].reliability == qos_profile_sensor_data.reliability


@pytest.mark.parametrize(
    ("value", "default", "taken"), [(5, 0.5, 5.0), (5.0, 3, 5), (0.5, 1.0, 0.5), (True, False, True)]
)
def test_a_number_is_understood_in_either_way_of_writing_it(value, default, taken):
    found = understood("max_rate", value, default)
    assert (found, type(found)) == (taken, type(default))


@pytest.mark.parametrize(("value", "taken"), [(True, "true"), (False, "false"), ("auto", "auto")])
def test_a_truth_value_is_the_word_where_that_is_a_choice(value, taken):
    assert understood("rectified", value, "auto", ("auto", "true", "false")) == taken


@pytest.mark.parametrize(
    ("value", "default", "write"),
    [
        (False, "track", 'write mode: "no" in a file'),
        (True, "track", 'write mode: "yes" in a file'),
        (7, "track", 'write mode: "7" in a file'),
        ("fast", 0.5, "write mode: 0.5 in a file"),
        (True, 0.5, "a number is wanted"),
        (5.5, 3, "a whole number is wanted"),
        (1, True, "write mode: true in a file"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_to_write(value, default, write):
    with pytest.raises(ParameterProblem, match=re.escape(write)):
        understood("mode", value, default)
