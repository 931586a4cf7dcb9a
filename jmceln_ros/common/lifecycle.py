"""How an executable of this package starts and ends, and what its managed nodes have in common."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
import traceback
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent import futures
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import rclpy
from lifecycle_msgs.srv import GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from jmceln_ros.common.bond import Bond
from jmceln_ros.common.parameters import ParameterProblem
from jmceln_ros.common.standing import Order, Standing

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.parameter import Parameter


Loaded = TypeVar("Loaded")

#: Configure fails when what it loads is not there after so many seconds.
LOADING_LIMIT = 120.0

# Services that are answered during a transition that lasts.
_ABOUT_STATE = (GetState, GetAvailableStates, GetAvailableTransitions)


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
                with suppress(KeyboardInterrupt):  # of `_aside`, when the context is shut down while it waits
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


# Whether rclpy tells what has been set (since Iron); in Humble it only asks whether it may be.
_SET_IS_TOLD = hasattr(LifecycleNode, "add_post_set_parameters_callback")


class ManagedNode(LifecycleNode):
    """A lifecycle node that stops working when it is deactivated and lets its model go when it is cleaned up.

    Subclasses write on_configure and on_activate, `stop`, `_release`, `_diagnose`, `_refusal` and `_on_parameters`, and
    have `autostart` in their settings. They call `_recover` and `_take_parameters` when they are made, as far as they
    can be used by then. `options` are those of rclpy's Node: namespace, parameter_overrides, context ...
    """

    _settings: Any

    def __init__(self, name: str, **options: Any) -> None:
        # Before the node: what goes wrong after this takes it down (destroy_node).
        self._standing: Standing | None = None
        super().__init__(name, **options)
        self._bond = Bond(self)
        self._state = "unconfigured"
        self._trouble = ""  # why the node cannot work, in words

    @abstractmethod
    def stop(self) -> None:
        """Ends the work, and waits for what is being worked on."""

    @abstractmethod
    def _release(self, state: str) -> None:
        """Lets the model and the publishers go; `state` is the one from now on."""

    @abstractmethod
    def _diagnose(self) -> None:
        """Publishes the node's state."""

    @abstractmethod
    def _refusal(self, values: dict[str, Any]) -> str:
        """Why these values by parameter name are not allowed; empty when they are."""

    @abstractmethod
    def _on_parameters(self, changes: list[Parameter]) -> None:
        """Lets parameters that have been set take effect."""

    def _take_parameters(self) -> None:
        """Lets parameters be set from now on."""
        self.add_on_set_parameters_callback(self._check_parameters)
        if _SET_IS_TOLD:
            self.add_post_set_parameters_callback(self._on_parameters)

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuses what is not allowed. Whether it is then set depends on others, too, who may have been asked after."""
        if reason := self._refusal({change.name: change.value for change in changes}):
            return SetParametersResult(successful=False, reason=reason)
        if not _SET_IS_TOLD:
            self._on_parameters(changes)
        return SetParametersResult(successful=True)

    def _recover(self) -> Order:
        """What was in force when a process of this name ended without being asked to; says so if it was disabled."""
        self._standing = Standing(self.get_fully_qualified_name())
        if self._standing.problem:
            self.get_logger().info(f"what is in force will not survive a crash: {self._standing.problem}")
        before = self._standing.before or Order()
        if not before.enabled:
            self.get_logger().warning(
                "disabled, as the process before was when it ended without being asked to: call ~/enable with true"
            )
        return before

    def destroy_node(self) -> None:
        """Takes the node down; what was in force is forgotten, as it ends because it was asked to."""
        if self._standing is not None:
            self._standing.close()
        super().destroy_node()

    def _outlast(self, end: Callable[[], None]) -> None:
        """Waits for what is being worked on to end, as `end` does; who asks for the node's state is answered."""
        if self.context.ok():
            self._aside(end, limit=math.inf)
        else:
            end()

    def _aside(self, load: Callable[[], Loaded], *, limit: float | None = None) -> Loaded:
        """What `load` returns or raises; a TimeoutError after `limit` seconds (LOADING_LIMIT). For a transition.

        It works in a thread of its own. Meanwhile this one, the executor's, whose callback the transition is, answers
        who asks for the node's state and publishes diagnostics; everything else waits. When the process is told to
        end, that is what happens once `load` is through, which cannot be interrupted.
        """
        loaded: futures.Future[Loaded] = futures.Future()

        def work() -> None:
            try:
                loaded.set_result(load())
            except Exception as error:
                loaded.set_exception(error)

        threading.Thread(target=work, name="aside", daemon=True).start()
        limit = LOADING_LIMIT if limit is None else limit
        begin = told = time.monotonic()
        try:
            while self.context.ok() and not loaded.done():
                if (now := time.monotonic()) > begin + limit:
                    raise TimeoutError(f"it is not there after {limit:g} s")
                if now > told + 1.0:
                    told = now
                    self._diagnose()
                self._answer_about_state()
                futures.wait([loaded], 0.02)
        except KeyboardInterrupt:
            futures.wait([loaded])
            raise
        futures.wait([loaded])
        if not self.context.ok():  # what is an end for `run`; rclpy would go on with a transition that returns
            raise KeyboardInterrupt
        return loaded.result()

    def _answer_about_state(self) -> None:
        """Does for a few services what the executor does for all of them, when it is not in a transition."""
        for service in self.services:
            if service.srv_type in _ABOUT_STATE:
                with service.handle:
                    taken: Any = service.handle.service_take_request(service.srv_type.Request)
                request, header = taken or (None, None)
                if header is not None:
                    service.send_response(service.callback(request, service.srv_type.Response()), header)

    def start(self) -> None:
        """Configures and activates if the parameter `autostart` says so."""
        if self._settings.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets the publishers speak, and a manager know that the node lives."""
        result = super().on_activate(state)
        self._bond.form()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops working; the model stays."""
        self._bond.end()
        self._state = "deactivating"
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
        self._bond.end()
        self.stop()
        result = super().on_shutdown(state)
        self._release("finalized")
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, from where the node can be configured again."""
        self._bond.end()
        self.stop()
        self._release("unconfigured")
        return TransitionCallbackReturn.SUCCESS
