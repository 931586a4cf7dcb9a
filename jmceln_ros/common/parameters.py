"""Node parameters as dataclasses: one commented field a line, declared on a node with description, range and choices.

The dataclasses (CameraSettings, SegmentSettings, SpeechSettings) are the single place where names, defaults, ranges and
descriptions stand: the nodes declare from them, every change is checked against them, and `python -m
jmceln_ros.tools.parameters` prints docs/ros.md's tables. Without a node, nothing here needs ROS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import Field, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rcl_interfaces.msg import SetParametersResult
    from rclpy.node import Node
    from rclpy.parameter import Parameter

Settings = TypeVar("Settings")

#: Names of quality of service profiles; jmceln_ros.common.qos, which needs ROS, says what they are.
PROFILE_NAMES = (
    "best_available",
    "sensor_data",
    "latest",
    "stream",
    "reliable",
    "default",
    "latched",
    "system_default",
)


class ParameterProblem(ValueError):
    """A parameter value that is refused; the message says what is allowed."""


#: When a changed value takes effect; the middle two are lifecycle transitions.
AT_ONCE, AT_CONFIGURE, AT_ACTIVATE, AT_START = "at once", "at configure", "at activate", "at start"


def parameter(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    changes: str = AT_ONCE,
    name: str = "",
    any_type: bool = False,
    refuse: Callable[[Any], str] = lambda value: "",
) -> Any:
    """A dataclass field that is a node parameter.

    `low` and `high` (both or neither, inclusive) bound a number, `choices` lists a string's values. `changes` says when
    a new value takes effect; AT_START makes the parameter read-only. `name` is the parameter's if the field cannot have
    it (a dot). `any_type` accepts 0 where "0" is meant. `refuse` says what is allowed where a value is not, for what
    bounds cannot say.
    """
    return field(
        default=default,
        metadata={
            "description": description,
            "low": low,
            "high": high,
            "choices": choices,
            "changes": changes,
            "name": name,
            "any_type": any_type,
            "refuse": refuse,
        },
    )


def profile(default: str, description: str, *, name: str) -> Any:
    """A parameter that names a quality of service (jmceln_ros.common.qos.PROFILES)."""
    return parameter(default, description, choices=PROFILE_NAMES, changes=AT_START, name=name)


def named(kind: type[Any]) -> dict[str, Field[Any]]:
    """The fields of `kind` by the names of their parameters."""
    return {spec.metadata["name"] or spec.name: spec for spec in fields(kind)}


def check(kind: type[Any], values: dict[str, Any]) -> str:
    """Why these values by parameter name are refused, or "" when they are fine. Unknown names are passed over."""
    for name, spec in named(kind).items():
        if name not in values:
            continue
        value, meta = values[name], spec.metadata
        if meta["choices"] and value not in meta["choices"]:
            return f"{name} is {value!r}; choose one of {', '.join(map(repr, meta['choices']))}"
        if meta["low"] is not None and not meta["low"] <= value <= meta["high"]:
            return f"{name} is {value}; it must lie in [{meta['low']}, {meta['high']}]"
        if reason := meta["refuse"](value):
            return f"{name} is {value!r}; {reason}"
    return ""


def changed(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with these values by parameter name; unknown names are passed over."""
    own = named(type(settings))
    return replace(settings, **{own[name].name: value for name, value in values.items() if name in own})  # type: ignore[type-var]


def understood(kind: type[Any], name: str, value: Any) -> Any:
    """The value in the type of the parameter `name` of `kind`, where it can only mean one thing: 5 for 5.0, 5.0 for 5.

    So are 1 and 0 where true and false are wanted, and a truth value where its word is a choice. Raises
    ParameterProblem with what to write instead, which is always a value that is allowed.
    """
    spec = named(kind)[name]
    choices, given = spec.metadata["choices"], type(value)
    wanted: Any = type(spec.default)
    if given is wanted:
        return value
    if given is bool and (word := str(value).lower()) in choices:
        return word
    if (wanted, given) == (float, int) or ((wanted, given) == (bool, int) and value in (0, 1)):
        return wanted(value)
    if (wanted, given) == (int, float) and value.is_integer():
        return int(value)
    shown = value if isinstance(value, (bool, int, float, str)) else list(value)
    why = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}[wanted] + " is wanted"
    meant: Any = spec.default
    if choices:
        why = f"one of {', '.join(map(repr, choices))} is wanted"
    elif wanted is str and given is bool:  # what was written is not known any more
        meant, also = ("yes", "on") if value else ("no", "off")
        why = f"in YAML {meant}, {also} and {str(value).lower()} are truth values unless quoted"
    elif wanted is str:
        meant = str(shown)
    elif wanted is bool:
        meant = str(value).lower() not in ("false", "no", "off")
    example = json.dumps(spec.default if check(kind, {name: meant}) else meant)
    raise ParameterProblem(
        f"parameter {name} is {json.dumps(shown, default=str)}; {why}: write {name}: {example} in a file, "
        f"-p '{name}:={example}' on a command line, '{example}' for ros2 param set"
    )


def declare(node: Node, kind: type[Settings]) -> Settings:
    """Declares every field of `kind` on the node and returns their values (launch and params file taken in).

    A value of another type is taken where it can only mean one thing, or refused with what to write (`understood`): at
    the start, and later where rclpy asks before it looks at types (Iron and newer). Raises ParameterProblem for a
    value that is not allowed.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException

    values = {}
    for name, spec in named(kind).items():
        meta = spec.metadata
        descriptor = ParameterDescriptor(
            description=meta["description"], dynamic_typing=meta["any_type"], read_only=meta["changes"] == AT_START
        )
        if meta["choices"]:
            descriptor.additional_constraints = "one of " + ", ".join(map(repr, meta["choices"]))
        if meta["low"] is not None and isinstance(spec.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=meta["low"], to_value=meta["high"])]
        elif meta["low"] is not None:
            descriptor.integer_range = [IntegerRange(from_value=meta["low"], to_value=meta["high"], step=1)]
        try:
            values[name] = node.declare_parameter(name, spec.default, descriptor).value
        except InvalidParameterTypeException:  # rclpy takes no 5 where 5.0 is meant
            given = node.declare_parameter(name, spec.default, ParameterDescriptor(dynamic_typing=True)).value
            node.undeclare_parameter(name)
            value = understood(kind, name, given)
            values[name] = node.declare_parameter(name, value, descriptor, ignore_override=True).value
    if hasattr(node, "add_pre_set_parameters_callback"):  # since Iron
        types = _Types(node, kind)
        node.add_pre_set_parameters_callback(types.understand)
        node.add_on_set_parameters_callback(types.refuse)
    problem = check(kind, values)
    if problem:
        raise ParameterProblem(f"parameter {problem}")
    return changed(kind(), values)


class _Types:
    """Understands what somebody is about to set, or refuses it in words of our own.

    rclpy looks at types after `understand` and before `refuse`, and gives no remedy. So of a call in which something
    cannot be understood only that is passed on, with the value that it has already; nothing is set before `refuse`.
    """

    def __init__(self, node: Node, kind: type[Any]) -> None:
        self._node, self._kind = node, kind
        self._reason = ""  # why the call that is on its way is refused

    def understand(self, given: list[Parameter]) -> list[Parameter]:
        """The parameters in the types in which they are declared."""
        from rclpy.parameter import Parameter

        own, taken, self._reason = named(self._kind), [], ""
        for one in given:
            value = one.value
            if one.name in own and value is not None and not own[one.name].metadata["any_type"]:
                try:
                    value = understood(self._kind, one.name, value)
                except ParameterProblem as problem:
                    self._reason = str(problem)
                    return [self._node.get_parameter(one.name)]
            taken.append(one if value is one.value else Parameter(one.name, value=value))
        return taken

    def refuse(self, given: list[Parameter]) -> SetParametersResult:
        """The answer of rclpy's callback."""
        from rcl_interfaces.msg import SetParametersResult

        return SetParametersResult(successful=not self._reason, reason=self._reason)
