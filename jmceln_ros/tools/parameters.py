"""python -m jmceln_ros.tools.parameters: docs/ros.md's tables of the nodes' parameters."""

from __future__ import annotations

import json
from typing import Any

from jmceln_core import markdown
from jmceln_ros.common.parameters import named
from jmceln_ros.common.sources import CameraSettings
from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.speech.settings import SpeechSettings

#: The nodes, and the dataclasses of their parameters.
NODES = {"segment_node": SegmentSettings, "speech_node": SpeechSettings, "camera_node": CameraSettings}


def table(kind: type[Any]) -> str:
    """A Markdown table of a node's parameters, for docs/ros.md."""
    rows = []
    for name, spec in named(kind).items():
        meta = spec.metadata
        allowed = (
            ", ".join(c or "(empty)" for c in meta["choices"])
            if meta["low"] is None
            else f"{meta['low']:g} to {meta['high']:g}"
        )
        default = f"`{json.dumps(spec.default)}`"
        rows.append((f"`{name}`", type(spec.default).__name__, default, allowed, meta["changes"], meta["description"]))
    return "\n".join(markdown.table(("parameter", "type", "default", "range", "changes", "meaning"), rows))


def main() -> None:
    """Prints the tables."""
    print("\n\n".join(f"### {node}\n\n{table(kind)}" for node, kind in NODES.items()))


if __name__ == "__main__":
    main()
