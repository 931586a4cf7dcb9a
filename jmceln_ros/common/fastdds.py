"""Fast DDS's settings, for processes that publish images. Without ROS's client library: launch files use it, too."""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory

#: Where Fast DDS reads the file of its settings from: since Kilted, and before. With both it reads the file twice, and
#: complains.
VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def variable() -> str:
    """The one that the sourced ROS 2 distribution reads."""
    return VARIABLES[os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")]


def environment(profile: str = "") -> dict[str, str]:
    """The variable that gives a process the settings in the file `profile`; empty is config/fastdds.xml of the package.

    None for "none", and where this process's environment has settings of its own, which are left alone.
    """
    own = (*VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")  # the last is overruled by a file
    if profile == "none" or any(map(os.environ.get, own)):
        return {}
    path = profile or str(Path(get_package_share_directory("jmceln_ros")) / "config" / "fastdds.xml")
    return {variable(): path}
