"""How every executable of this package starts and ends."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException

from jmceln_ros.common.parameters import ParameterProblem

if TYPE_CHECKING:
    from rclpy.node import Node


class NodeFailure(RuntimeError):
    """A node that cannot do its work: the message, with the remedy, is logged and the process ends with code 1."""


def run(make_node: Callable[[], Node], name: str, args: Sequence[str] | None = None) -> None:
    """Makes the node, spins it until SIGINT, SIGTERM or `rclpy.shutdown`, and takes it down.

    A node with a method `start` has it called before spinning, one with `stop` before it is destroyed. Being told to
    stop is a normal end; a NodeFailure or a parameter of the wrong type or value ends the process with code 1.
    """
    node = None
    failed = False
    try:
        rclpy.init(args=None if args is None else list(args))
        node = make_node()
        if hasattr(node, "start"):
            node.start()
        _spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (NodeFailure, ParameterException, ParameterProblem) as error:
        (node.get_logger() if node else rclpy.logging.get_logger(name)).fatal(str(error))
        failed = True
    finally:
        # A terminal and a launch file each send SIGINT; the second one must not interrupt the taking down.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            if hasattr(node, "stop"):
                node.stop()
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown(uninstall_handlers=False)
    if failed:
        sys.exit(1)


def _spin(node: Node) -> None:
    """Spins until shutdown. What a callback raises costs that callback and not the process, but for a NodeFailure.

    rclpy's own callbacks raise as well for what anyone may send: a parameter of a type that does not exist.
    """
    while rclpy.ok():
        try:
            rclpy.spin(node)
        except (ExternalShutdownException, NodeFailure):
            raise
        except Exception as error:
            node.get_logger().debug(traceback.format_exc())
            node.get_logger().error(f"a callback failed: {error} [{type(error).__name__}]", throttle_duration_sec=1.0)
