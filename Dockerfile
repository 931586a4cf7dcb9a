# syntax=docker/dockerfile:1
# segment_node on ROS 2 with an NVIDIA GPU (docs/docker.md). The build needs BuildKit, which Docker has had on since 23.0.
#
#     docker build -t jmceln .
#     docker run --rm --gpus all --network host jmceln
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base

SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
WORKDIR /opt/jmceln

# What rosdep knows. Tests are not run in the image, so what only they need stays out.
# hadolint ignore=DL3008
RUN --mount=type=bind,source=package.xml,target=/tmp/src/jmceln_ros/package.xml \
    echo 'APT::Install-Recommends "false";' > /etc/apt/apt.conf.d/90-no-recommends \
    && apt-get update \
    && apt-get install -y --no-install-recommends libportaudio2 python3-venv \
    && rosdep update --rosdistro "${ROS_DISTRO}" \
    && rosdep install --from-paths /tmp/src --ignore-src -y -t buildtool -t build -t build_export -t exec \
    && rm -rf /var/lib/apt/lists/*

# What pip brings: PyTorch with its own CUDA libraries, so that the base image needs none; the host has the driver.
# TORCH_INDEX chooses another CUDA for an older driver: https://download.pytorch.org/whl/cu126, or .../cpu for none.
ARG TORCH_INDEX=
RUN --mount=type=bind,source=requirements,target=/tmp/src/requirements \
    --mount=type=bind,source=tools,target=/tmp/src/tools \
    --mount=type=cache,target=/root/.cache/pip \
    . "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" /tmp/src/tools/robot_env.sh --venv /opt/jmceln/venv speech

# The package. From a bind mount: the weights are in the image once.
RUN --mount=type=bind,target=/tmp/src/jmceln_ros \
    . "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && colcon --log-base /tmp/log build --paths /tmp/src/jmceln_ros --build-base /tmp/build --install-base install \
        --cmake-args -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release -DPython3_EXECUTABLE=/opt/jmceln/venv/bin/python \
    && rm -rf /tmp/log /tmp/build

COPY --chmod=755 <<'EOF' /entrypoint.sh
#!/bin/bash
set -e
source /opt/jmceln/install/setup.bash
exec "$@"
EOF

# Not root; in the group video, for a webcam given by --device.
RUN useradd --create-home --groups video jmceln
USER jmceln
WORKDIR /home/jmceln

# `python` is the environment's, as it is for the nodes; ros2 itself has the system's.
# UDP only: with --network host and a /dev/shm of its own, Fast DDS would take the host for reachable by shared memory.
ENV PATH=/opt/jmceln/venv/bin:${PATH} \
    FASTDDS_BUILTIN_TRANSPORTS=UDPv4 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "jmceln_ros", "segment.launch.py"]
