"""The network and everything about learning: a picture and a sentence in, the mask of the thing meant out.

The names below are loaded when they are first used: torch takes seconds, and not all of the package needs it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmceln_core.answer import Segmentation, Status
    from jmceln_core.segmenter import Segmenter

__all__ = ["Segmentation", "Segmenter", "Status"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from jmceln_core import segmenter

        return getattr(segmenter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
