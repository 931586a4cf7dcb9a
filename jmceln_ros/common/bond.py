"""The heartbeat by which a lifecycle manager of nav2 knows that a node which it made active is alive.

The protocol is bond_core's: each end of a bond publishes bond/msg/Status on the topic `bond` with the bond's id, which
for nav2 is the node's name, and an id of its own. The manager takes the bond for formed at the first message of the
other end, and for broken when one says that it is not active or none comes for `bond_timeout` seconds. This is the
node's end, which only speaks: what the manager's end says it need not know.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType

from jmceln_ros.common import qos

try:
    from bond.msg import Status
except ImportError:  # no manager with bonds can be installed either
    Status = None

if TYPE_CHECKING:
    from rclpy.node import Node

#: Seconds between two heartbeats. nav2's own nodes have 0.1 to 0.25; a manager waits for four seconds.
PERIOD = 0.25

_TIMEOUT = 4.0  # what nav2's nodes say that they would wait for the manager, seconds


class Bond:
    """The node's end of a bond, silent while nobody listens. For the executor's thread only."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._instance = str(uuid.uuid4())
        self._publisher: Any = None
        self._timer: Any = None

    def form(self) -> None:
        """Begins to say that the node is alive, if there are messages to say it with."""
        if Status is None or self._timer is not None:
            return
        if self._publisher is None:
            try:
                self._publisher = qos.publisher(self._node, Status, "bond", qos.RESULT)
            except Exception as error:  # its compiled part is missing, or for another ROS; the node does without
                self._node.get_logger().warning(f"bond is there and cannot be used: {error} [{type(error).__name__}]")
                return
        self._instance = str(uuid.uuid4())  # each bond is another one
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(PERIOD, lambda: self._say(active=True), clock=clock)

    def end(self) -> None:
        """Says that the bond is over, and no more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
            self._say(active=False)

    def _say(self, *, active: bool) -> None:
        if self._publisher.get_subscription_count():
            message = Status(id=self._node.get_name(), instance_id=self._instance, active=active)
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.heartbeat_timeout, message.heartbeat_period = _TIMEOUT, PERIOD
            self._publisher.publish(message)
