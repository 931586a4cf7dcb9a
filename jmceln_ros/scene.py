"""The demo's rendered table: see jmceln_core.data.table_scene."""

from jmceln_core.data.table_scene import TABLE, Thing, render

__all__ = ["TABLE", "Thing", "render"]
