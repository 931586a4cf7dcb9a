"""The quality of service of every topic, by name (REP-2003: subscribe to sensors best effort, publish reliable)."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _keep_last(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


#: Camera images in. SensorData, but one deep: only the newest frame is of use, so none may wait in the middleware.
IMAGE_INPUT = _keep_last(1, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)

#: Camera images out. Reliable serves both kinds of subscriber; one deep, so that a slow one gets the newest.
IMAGE_OUTPUT = _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

#: Commands in: none may be lost, and those that come while the model loads wait here.
COMMAND = _keep_last(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

#: Results out.
RESULT = _keep_last(5, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

#: What is state and not an event: whoever subscribes late still gets the last value.
STATE = _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
