"""A service that is answered later, from any thread.

An `async` service callback would do, but rclpy's executors (Humble to Kilted) poll a coroutine that waits as fast as
they can and keep its callback group shut meanwhile. Here the callback returns at once and the answer is sent when
there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.service import Service


def create_deferred_service(
    node: Node, kind: type[Any], name: str, callback: Callable[[Any, Callable[[Any], None]], None]
) -> Service:
    """A service `name` of type `kind`, answered when `reply(response)` of its `callback(request, reply)` is called.

    That may be once, now or later, from any thread. `callback` runs in the executor and must neither wait nor raise.
    """
    # rclpy calls service.send_response(what the callback returned, the request's header): the one place that knows
    # where the answer has to go. So the callback hands the request on to it, and the real sending is done by `reply`.
    service: Any = node.create_service(kind, name, lambda request, response: request)
    send = service.send_response
    one_at_a_time = threading.Lock()  # rcl_send_response is not thread-safe

    def hand_over(request: Any, header: Any) -> None:
        def reply(response: Any) -> None:
            try:
                with one_at_a_time:
                    send(response, header)
            except Exception as error:  # whoever asked, or this node, is on the way out; the thread goes on
                node.get_logger().debug(f"answer of {name} not sent: {error}")

        callback(request, reply)

    service.send_response = hand_over
    return service
