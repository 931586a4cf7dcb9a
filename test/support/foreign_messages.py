"""Message packages of others, built by colcon from their definitions, for tests of what is said in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROS_IS_IN_ENVIRONMENT = Path(sys.prefix, "share", "ament_cmake").is_dir()  # from wheels, not in a sourced prefix

CMAKE = """cmake_minimum_required(VERSION 3.16)
project({package})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(std_msgs REQUIRED)
rosidl_generate_interfaces(${{PROJECT_NAME}} {files} DEPENDENCIES std_msgs)
ament_package()
"""
MANIFEST = """<package format="3"><name>{package}</name><version>0.0.0</version><description>messages</description>
<maintainer email="nobody@example.org">nobody</maintainer><license>none</license>
<buildtool_depend>ament_cmake</buildtool_depend><buildtool_depend>rosidl_default_generators</buildtool_depend>
<depend>std_msgs</depend><exec_depend>rosidl_default_runtime</exec_depend>
<member_of_group>rosidl_interface_packages</member_of_group>
<export><build_type>ament_cmake</build_type></export></package>
"""


def build_messages(package: str, definitions: dict[str, str], folder: Path) -> dict[str, str]:
    """Builds the package of these messages (name to fields) in `folder`: variables with which a process finds it."""
    source = folder / package
    (source / "msg").mkdir(parents=True)
    for name, fields in definitions.items():
        (source / "msg" / f"{name}.msg").write_text(fields)
    files = " ".join(f"msg/{name}.msg" for name in definitions)
    (source / "CMakeLists.txt").write_text(CMAKE.format(package=package, files=files))
    (source / "package.xml").write_text(MANIFEST.format(package=package))
    environ = {**os.environ, "COLCON_HOME": str(folder / "colcon")}
    if ROS_IS_IN_ENVIRONMENT:
        environ |= {"AMENT_PREFIX_PATH": sys.prefix, "CMAKE_PREFIX_PATH": sys.prefix}
    places = ["--build-base", str(folder / "build"), "--install-base", str(folder / "install")]
    command = ["colcon", "--log-base", str(folder / "log"), "build", "--paths", str(source), *places]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = folder / "install" / package
    (module,) = prefix.rglob(f"{package}/msg/__init__.py")
    return {
        "AMENT_PREFIX_PATH": f"{prefix}:{os.environ['AMENT_PREFIX_PATH']}",
        "PYTHONPATH": f"{module.parents[2]}:{os.environ.get('PYTHONPATH', '')}",
        "LD_LIBRARY_PATH": f"{prefix / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}",
    }
