"""The model that answers, and the loading of another one beside it."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from jmceln_ros.segment.settings import SegmentSettings

if TYPE_CHECKING:
    from jmceln_core import Segmenter
    from jmceln_core.segmenter import Precision

SegmenterFactory = Callable[[SegmentSettings], "Segmenter"]

#: The parameters that say which model it is.
MODEL_PARAMETERS = ("model", "device", "precision")


def load_segmenter(settings: SegmentSettings) -> Segmenter:
    """The model the parameters ask for. Raises what `Segmenter.load` raises."""
    # Imported here: torch takes seconds, and the node is up and keeps commands before that.
    from jmceln_core import Segmenter

    return Segmenter.load(settings.model or None, device=settings.device or None, precision=_precision(settings))


def check_segmenter(settings: SegmentSettings) -> str:
    """Why the model the parameters ask for cannot run on this machine, as far as that is known without loading it."""
    from jmceln_core import Segmenter

    try:
        Segmenter.check(settings.model or None, device=settings.device or None, precision=_precision(settings))
    except (ValueError, RuntimeError) as error:  # a CheckpointError is a RuntimeError
        return str(error)
    return ""


def remedy(error: BaseException, node: str) -> str:
    """What to do about a model that the node of that name could not load."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImportError):
        cause = cause.__cause__
    if cause is not None:
        return (
            f"This Python, {sys.executable}, lacks a package. In a workspace, make the environment with "
            "tools/robot_env.sh, build with --cmake-args -DPython3_EXECUTABLE=$HOME/jmceln_venv/bin/python "
            "(docs/install.md), and start the node again; in a clone, `make env` and `. .venv/ros_env.sh`"
        )
    return (
        "Set the parameters model, device and precision to what this machine has, then configure again "
        f"(ros2 lifecycle set {node} configure)"
    )


class Models:
    """Holds one Segmenter and loads the next one while it goes on answering.

    `make` builds a Segmenter from the parameters. `on_change` is told how the loading that `change` began ended, in the
    loading thread: the parameters asked for, and None or the error. All methods may be called from any thread.
    """

    def __init__(self, make: SegmenterFactory, on_change: Callable[[SegmentSettings, Exception | None], None]) -> None:
        self._make = make
        self._on_change = on_change
        self._lock = threading.Lock()
        self._segmenter: Segmenter | None = None
        self._running: SegmentSettings | None = None  # that `_segmenter` was made for
        self._wanted: SegmentSettings | None = None  # that the loading thread works on, or is to work on next
        self._thread: threading.Thread | None = None

    @property
    def segmenter(self) -> Segmenter | None:
        """The model in use."""
        with self._lock:
            return self._segmenter

    @property
    def running(self) -> SegmentSettings | None:
        """The parameters for which the model in use was loaded."""
        with self._lock:
            return self._running

    @property
    def loading(self) -> SegmentSettings | None:
        """The parameters of the model that is being loaded beside the one in use."""
        with self._lock:
            return self._wanted

    def load(
        self,
        settings: SegmentSettings,
        through: Callable[[Callable[[], Segmenter]], Segmenter] = lambda make: make(),
    ) -> None:
        """Loads a model, takes it into use and returns. Raises what `make` raises.

        `through` calls what makes the model, and returns that: another one than the default may call it in a thread.
        """
        segmenter = through(lambda: self._make(settings))
        with self._lock:
            self._segmenter, self._running, self._wanted = segmenter, settings, None

    def change(self, settings: SegmentSettings) -> None:
        """Begins to load another model; the one in use stays so until then, and for good when that fails.

        A change that comes before the last one is through takes its place; one back to the model in use ends it.
        """
        with self._lock:
            if self._running is None or same_model(settings, self._running):
                self._wanted = None
                return
            if self._wanted is not None and same_model(settings, self._wanted):
                return  # it is being loaded; something else changed
            self._wanted = settings
            if self._thread is None:
                self._thread = threading.Thread(target=self._load_wanted, name="load", daemon=True)
                self._thread.start()

    def release(self) -> None:
        """Lets the model go, and the one that is being loaded."""
        with self._lock:
            self._segmenter = self._running = self._wanted = None

    def _load_wanted(self) -> None:
        while True:
            with self._lock:
                settings = self._wanted
                if settings is None:
                    self._thread = None
                    return
            segmenter, problem = None, None
            try:
                segmenter = self._make(settings)
            except Exception as error:
                problem = error.with_traceback(None)  # its frames would keep what was loaded so far
            with self._lock:
                if self._wanted is not settings:  # something else is wanted by now
                    continue
                self._wanted = None
                if segmenter is not None:
                    self._segmenter, self._running = segmenter, settings
            del segmenter
            free_memory()
            self._on_change(settings, problem)


def same_model(one: SegmentSettings, other: SegmentSettings) -> bool:
    """Whether both ask for the same model on the same device in the same precision."""
    return all(getattr(one, name) == getattr(other, name) for name in MODEL_PARAMETERS)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU's or the machine's memory is full. Older CUDA calls raise a plain one."""
    torch = sys.modules.get("torch")
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.cuda.OutOfMemoryError))
        or (isinstance(error, RuntimeError) and "out of memory" in str(error).lower())
    )


def free_memory() -> None:
    """Gives memory that nothing refers to any more back to the GPU's other users."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def set_thresholds(segmenter: Segmenter, settings: SegmentSettings) -> None:
    """Lets the parameters' thresholds decide; a negative one is the checkpoint's own."""
    if not hasattr(segmenter, "config"):  # one that answers by other means than a network
        return
    own = segmenter.config.decision
    given = {
        "mask": settings.mask_threshold,
        "present": settings.presence_threshold,
        "confident": settings.confidence_threshold,
        "ambiguous": settings.ambiguity_threshold,
    }
    segmenter.decision = replace(own, **{name: value for name, value in given.items() if value >= 0})


def _precision(settings: SegmentSettings) -> Precision | None:
    return cast("Precision | None", settings.precision or None)  # checked when the parameter was set
