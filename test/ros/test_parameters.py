"""jmceln_ros.common.parameters and the nodes' settings: one table for code, file and documentation."""

from __future__ import annotations

import itertools
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
    ("name", "value", "taken"),
    [
        ("max_rate", 5, 5.0),
        ("jpeg_quality", 5.0, 5),
        ("max_rate", 0.5, 0.5),
        ("lazy", True, True),
        ("lazy", 0, False),
        ("depth", 1, True),
        ("rectified", True, "true"),
        ("rectified", False, "false"),
        ("rectified", "auto", "auto"),
    ],
)
def test_what_can_only_mean_one_thing_is_understood(name, value, taken):
    found = understood(SegmentSettings, name, value)
    assert (found, type(found)) == (taken, type(taken))


@pytest.mark.parametrize(
    ("name", "value", "write"),
    [
        ("model", False, 'write model: "no" in a file'),
        ("model", True, 'write model: "yes" in a file'),
        ("model", 7, 'write model: "7" in a file, -p \'model:="7"\' on a command line, \'"7"\' for ros2 param set'),
        ("target_mask", False, "one of 'none', 'cropped', 'full' is wanted: write target_mask: \"none\" in a file"),
        ("precision", 32, "one of '', 'fp32', 'bf16', 'fp16' is wanted"),
        ("rectified", 1, "one of 'auto', 'true', 'false' is wanted: write rectified: \"auto\""),
        ("max_rate", "fast", "write max_rate: 0.0 in a file"),
        ("max_rate", True, "a number is wanted"),
        ("jpeg_quality", 5.5, "a whole number is wanted: write jpeg_quality: 80"),
        ("lazy", "off", "write lazy: false in a file"),
        ("lazy", 7, "write lazy: true in a file"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_to_write(name, value, write):
    with pytest.raises(ParameterProblem, match=re.escape(write)):
        understood(SegmentSettings, name, value)


#: Of every type that a parameter can have in YAML.
ANYTHING = (True, False, 0, 1, 7, -3, 0.5, 1e9, "fast", "off", "", [1, 2], [0.5], ["a"], [True])


@pytest.mark.parametrize("kind", NODES.values())
def test_what_a_refusal_says_to_write_is_accepted(kind):
    refused = []
    for name, value in itertools.product(named(kind), ANYTHING):
        try:
            understood(kind, name, value)
        except ParameterProblem as problem:
            refused.append((name, str(problem)))
    assert len(refused) > 20
    for name, said in refused:
        advice = re.search(f"write {name}: (.*) in a file, -p '{name}:=(.*)' on a command line, '(.*)' for ros2", said)
        in_file, on_line, live = (yaml.safe_load(text) for text in advice.groups())
        assert in_file == on_line == live
        assert check(kind, {name: understood(kind, name, live)}) == "", said
