"""What the nodes' diagnostics have in common: the message, its levels, percentiles, and numbers in words."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from diagnostic_msgs.msg import DiagnosticStatus


class Level(enum.IntEnum):
    """The levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Percentiles:
    """Of seconds; all NaN when nothing was measured."""

    p50: float = math.nan
    p95: float = math.nan
    p99: float = math.nan

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Percentiles:
        """By linear interpolation; NaN (an image without a stamp has no latency) is left out."""
        known = [value for value in seconds if not math.isnan(value)]
        return cls(*map(float, np.percentile(known, (50, 95, 99)))) if known else cls()

    def __str__(self) -> str:
        if math.isnan(self.p50):
            return "not measured"
        return ", ".join(f"{value * 1e3:.1f}" for value in (self.p50, self.p95, self.p99)) + " ms"


def diagnostic(
    level: Level, message: str, values: Mapping[str, Any], *, name: str, hardware_id: str
) -> DiagnosticStatus:
    """The diagnostic_msgs/DiagnosticStatus of the node called `name`; `hardware_id` is for what the node depends on."""
    from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def counts(numbers: Mapping[str, int]) -> str:
    """ "3 overtaken, 1 too old", in the order of the names."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(numbers.items())) or "none"


def duration(seconds: float) -> str:
    """Seconds in words; "not known" for what is not finite."""
    return f"{seconds:.1f} s" if math.isfinite(seconds) else "not known"
