#!/bin/sh
# Make the environment that the nodes run in on a robot, or bring it up to date:
#
#     source /opt/ros/DISTRO/setup.bash
#     tools/robot_env.sh [--venv FOLDER] [speech] [train] [render]
#
# FOLDER, ~/jmceln_venv by default, becomes a Python environment that sees ROS's and Ubuntu's packages and gets those of
# requirements/runtime.txt, and of the extras named, in the versions of requirements/lock.txt. NumPy stays the system's,
# because ROS's messages are compiled against it; so do a PyTorch and torchvision that are in FOLDER already (NVIDIA's for
# a Jetson). The Python is the one of ROS, /usr/bin/python3; PYTHON=... names another. pip's own variables hold, for
# example PIP_EXTRA_INDEX_URL for another build of PyTorch. docs/install.md has the reasons.
set -eu

DISK_NEEDED_GB=10 # 6 for the environment, most of it CUDA, and pip's downloads beside it

fail() {
    echo "robot_env: $*" >&2
    exit 1
}

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$HOME/jmceln_venv
files=runtime
while [ $# -gt 0 ]; do
    case $1 in
        --venv) [ $# -gt 1 ] || fail "--venv wants a folder"; venv=$2; shift ;;
        speech | train | render) files="$files $1" ;;
        *) fail "$1: not understood; tools/robot_env.sh [--venv FOLDER] [speech] [train] [render]" ;;
    esac
    shift
done
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
python=${PYTHON:-/usr/bin/python3}

# What is missing, before anything is made.
[ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ] ||
    fail "no ROS 2 is sourced. Here are: $(echo /opt/ros/*). Source one (source /opt/ros/DISTRO/setup.bash), then again"
"$python" -c 'import rclpy' || fail "$python cannot import the rclpy of ROS 2 $ROS_DISTRO; PYTHON=... names its Python"
"$python" -c 'import numpy' || fail "$python has no NumPy, which ROS needs: sudo apt install python3-numpy"
"$python" -c 'import ensurepip' 2>/dev/null || fail "$python makes no environments: sudo apt install python3-venv"
if [ -e "$venv" ] && ! grep -q '^include-system-site-packages = true' "$venv/pyvenv.cfg" 2>/dev/null; then
    fail "$venv is there, and no environment that sees ROS's packages; remove it, or name another: --venv FOLDER"
fi
if [ ! -e "$venv" ]; then
    mkdir -p "$(dirname "$venv")"
    free=$(($(df -Pk "$(dirname "$venv")" | awk 'END { print $4 }') / 1000000))
    [ "$free" -ge "$DISK_NEEDED_GB" ] || fail "$DISK_NEEDED_GB GB of disk are needed for $venv, $free are free"
fi

# An environment of an older Python (the system was upgraded) is made anew.
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ -e "$venv" ] && [ ! -d "$venv/lib/python$version" ]; then
    echo "robot_env: $venv is of another Python than $version; it is made anew"
    rm -rf "$venv"
fi
[ -x "$venv/bin/pip" ] || "$python" -m venv --system-site-packages "$venv"
touch "$venv/COLCON_IGNORE"

constraints=$venv/constraints.txt
"$python" "$root/tools/bootstrap.py" --constraints >"$constraints"
if [ -n "$(find "$venv/lib" -maxdepth 3 -name 'torch-*.dist-info')" ]; then
    sed -i '/^torch\(vision\)\?==/d; /^triton==/d; /^nvidia-/d; /^cuda-/d' "$constraints"
fi
export PIP_CONSTRAINT="$constraints" PIP_BUILD_CONSTRAINT="$constraints"
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1
unset PIP_TARGET PIP_PREFIX PIP_ROOT
echo "robot_env: $files for ROS 2 $ROS_DISTRO, Python $version, $(tail -n 1 "$constraints"), into $venv"
"$venv/bin/python" -m pip install pip
set --
for file in $files; do set -- "$@" -r "$root/requirements/$file.txt"; done
# Where nothing suits the NumPy, pip is to say so, and not to compile an OpenCV of years ago.
"$venv/bin/python" -m pip install --only-binary onnx,onnxruntime,opencv-python-headless,scipy "$@"

"$venv/bin/python" - "$(tail -n 1 "$constraints")" <<'CHECK' || fail "the environment does not work; remove $venv and try again"
import sys

import cv2, numpy, rclpy, torch

if f"numpy=={numpy.__version__}" != sys.argv[1]:
    sys.exit(f"NumPy is {numpy.__version__} now, and ROS wants {sys.argv[1]}")
CHECK

cat <<END

robot_env: $venv is ready. In the workspace:

    colcon build --packages-select jmceln_ros --cmake-args -DPython3_EXECUTABLE=$venv/bin/python
    source install/setup.bash
    ros2 launch jmceln_ros segment.launch.py image_topic:=/camera/color/image_raw
END
