"""What the managed nodes of this package have in common: their ways down, and the start by themselves."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn


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
