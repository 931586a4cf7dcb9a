"""The quality of service of every topic, by name (REP-2003: subscribe to sensors best effort, publish reliable).

Publishers and subscriptions are made by `publisher` and `subscription`, which let every one of them be overridden from
outside by ROS 2's own parameters `qos_overrides.TOPIC.publisher.depth` and the like.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rcl_interfaces.msg import SetParametersResult
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_system_default
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from jmceln_ros.common.parameters import ParameterProblem

if TYPE_CHECKING:
    from rclpy.node import Node


def _keep_last(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


# Humble has no such policy; there it stands for it.
_BEST_AVAILABLE = getattr(ReliabilityPolicy, "BEST_AVAILABLE", ReliabilityPolicy.SYSTEM_DEFAULT)

#: What the parameters `qos.*` choose from; parameters.PROFILE_NAMES has the names for those without ROS.
PROFILES = {
    # Reliable where that can be had (`subscription`): lost pieces of an image are sent again. One deep: only the newest
    # frame is of use.
    "best_available": _keep_last(1, _BEST_AVAILABLE, DurabilityPolicy.VOLATILE),
    "sensor_data": _keep_last(5, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),  # as rmw's of that name
    "latest": _keep_last(1, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),
    # Sound: deep enough that none is lost here while this thread is busy. What the network loses is lost: a gap.
    "stream": _keep_last(100, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),
    "reliable": _keep_last(5, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
    "default": _keep_last(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),  # as rmw's of that name
    "latched": _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
    "system_default": qos_profile_system_default,  # left to the middleware's own configuration
}

#: Camera images in, for the tools, whoever publishes them: the newest frame only. segment_node goes by `qos.image`.
IMAGE_INPUT = PROFILES["latest"]

#: Camera images out. Reliable serves both kinds of subscriber; one deep, so that a slow one gets the newest.
IMAGE_OUTPUT = _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

#: Commands in: none may be lost, and those that come while the model loads wait here.
COMMAND = PROFILES["default"]

#: Requests in and responses out of a service that answers many at once: rmw's own profile, ten deep, loses the others.
SERVICE = _keep_last(100, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

#: Results out.
RESULT = PROFILES["reliable"]

#: Frames out: what tf2's listeners expect (tf2_ros, DynamicBroadcasterQoS).
TF = _keep_last(100, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

#: What is state and not an event: whoever subscribes late still gets the last value.
STATE = PROFILES["latched"]


def publisher(node: Node, kind: type[Any], topic: str, profile: QoSProfile, *, managed: bool = False) -> Any:
    """A publisher whose quality of service may be overridden; `managed` ones are silent while the node is inactive.

    Raises ParameterProblem for an override that is not allowed.
    """
    make: Any = node.create_lifecycle_publisher if managed else node.create_publisher  # type: ignore[attr-defined]
    name = node.resolve_topic_name(topic)
    return _overridable(name, lambda **options: make(kind, topic, copy.copy(profile), **options))


def subscription(node: Node, kind: type[Any], topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> Any:
    """A subscription whose quality of service may be overridden. Raises ParameterProblem as `publisher`.

    With "best_available" it is reliable if every publisher that is known now is, and best effort if one is not, or none
    is known: that fits whoever comes, which rmw's own choice, reliable, would not. `outdated` says whether it still is
    what would be chosen.
    """
    name = node.resolve_topic_name(topic)
    chosen: list[ReliabilityPolicy] = []

    def choose(overridden: QoSProfile) -> SetParametersResult:
        if profile is PROFILES["best_available"] and overridden.reliability == _BEST_AVAILABLE:
            overridden.reliability = _best(node, name) or ReliabilityPolicy.BEST_EFFORT
            chosen.append(overridden.reliability)
        return SetParametersResult(successful=True)

    made = _overridable(
        name,
        lambda **options: node.create_subscription(kind, topic, callback, copy.copy(profile), **options),
        choose,
    )
    if chosen:
        _CHOSEN[made] = chosen[-1]
    return made


def outdated(node: Node, subscription: Any) -> bool:
    """Whether a subscription should be made anew, since other publishers are known now than when it was made."""
    chosen = _CHOSEN.get(subscription)
    return chosen is not None and _best(node, subscription.topic_name) not in (None, chosen)


# What was chosen for "best_available", by subscription.
_CHOSEN: WeakKeyDictionary[Any, ReliabilityPolicy] = WeakKeyDictionary()


def _best(node: Node, topic: str) -> ReliabilityPolicy | None:
    """The best that all known publishers of a topic (its full name) offer; None while none is known."""
    offered = {info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)}
    if not offered:
        return None
    return ReliabilityPolicy.RELIABLE if offered == {ReliabilityPolicy.RELIABLE} else ReliabilityPolicy.BEST_EFFORT


def _overridable(topic: str, make: Callable[..., Any], choose: Callable[..., Any] | None = None) -> Any:
    """Calls `make` with the option; rclpy writes the overrides into the profile it is given, hence the copies above.

    `choose` is called with the profile then.
    """
    try:
        return make(qos_overriding_options=QoSOverridingOptions.with_default_policies(callback=choose))
    except (InvalidQosOverridesError, RuntimeError) as error:
        raise ParameterProblem(f"qos_overrides of {topic}: {error}") from error
