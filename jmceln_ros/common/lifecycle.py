"""How an executable of this package starts and ends, and what its managed nodes have in common."""

from __future__ import annotations

import signal
import sys
import traceback
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

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


class ManagedNode(LifecycleNode):
    """A lifecycle node that stops working when it is deactivated and lets its model go when it is cleaned up.

    Subclasses write on_configure and on_activate, `stop` and `_release`, and have `autostart` in their settings.
    """

    _settings: Any

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._state = "unconfigured"
        self._trouble = ""  # why the node cannot work, in words

    @abstractmethod
    def stop(self) -> None:
        """Ends the work, and waits for what is being worked on."""

    @abstractmethod
    def _release(self, state: str) -> None:
        """Lets the model and the publishers go; `state` is the one from now on."""

    def start(self) -> None:
        """Configures and activates if the parameter `autostart` says so."""
        if self._settings.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops working; the model stays."""
        self.stop()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets the model and its memory go."""
        result = super().on_cleanup(state)
        self._trouble = ""  # of a model that is not wanted now
        self._release("unconfigured")
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops working and lets the model go, from any state."""
        self.stop()
        result = super().on_shutdown(state)
        self._release("finalized")
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, from where the node can be configured again."""
        self.stop()
        self._release("unconfigured")
        return TransitionCallbackReturn.SUCCESS
