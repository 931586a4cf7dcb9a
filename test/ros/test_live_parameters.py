"""Parameters set while a node lives: a value of another type is understood, or refused with what to write."""

from __future__ import annotations

import itertools
import re

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from jmceln_ros.common.parameters import AT_START, declare, named
from jmceln_ros.tools.parameters import NODES
from ros.test_parameters import ANYTHING

pytestmark = pytest.mark.skipif(
    not hasattr(Node, "add_pre_set_parameters_callback"), reason="Humble asks nobody before it looks at types"
)


@pytest.fixture(params=NODES.values())
def node(request):
    """A node with the parameters of one of the nodes, in a context of its own; and these by name."""
    context = rclpy.Context()
    rclpy.init(context=context)
    made = Node("parameters", context=context)
    declare(made, request.param)
    yield made, {name: spec for name, spec in named(request.param).items() if spec.metadata["changes"] != AT_START}
    made.destroy_node()
    rclpy.shutdown(context=context)


def test_another_type_is_understood_or_refused_with_what_to_write(node):
    node, changing = node
    for name, value in itertools.product(changing, ANYTHING):
        before = node.get_parameter(name).value
        (result,) = node.set_parameters([Parameter(name, value=value)])
        if not result.successful and "out of range" not in result.reason:
            advice = re.search(f"write {name}: (.*) in a file", result.reason)
            assert advice, result.reason
            assert node.get_parameter(name).value == before
            assert node.set_parameters([Parameter(name, value=yaml.safe_load(advice[1]))])[0].successful
        assert type(node.get_parameter(name).value) is type(changing[name].default)


def test_nothing_of_a_call_with_such_a_value_takes_effect(node):
    node, changing = node
    asked = []
    node.add_on_set_parameters_callback(lambda changes: asked.extend(changes) or SetParametersResult(successful=True))
    for name, other in itertools.permutations(list(changing)[:6], 2):
        asked.clear()
        both = [Parameter(name, value=changing[name].default), Parameter(other, value=[1, 2])]
        assert f"parameter {other} is [1, 2]; " in node.set_parameters_atomically(both).reason
        assert [change.name for change in asked] == [other]  # speech_node obeys as soon as it is asked
        assert asked[0].value == node.get_parameter(other).value
        assert node.set_parameters_atomically(both[:1]).successful


def test_what_is_read_only_or_to_be_deleted_is_refused_as_ever(node):
    node, _ = node
    read_only = "autostart" if node.has_parameter("autostart") else "frame_id"
    assert "read-only" in node.set_parameters([Parameter(read_only, value=[1, 2])])[0].reason
    assert not node.set_parameters([Parameter(read_only, Parameter.Type.NOT_SET)])[0].successful
