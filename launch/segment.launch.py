"""Starts segment_node: `ros2 launch jmceln_ros segment.launch.py image_topic:=/camera/color/image_raw`.

An argument that is left empty leaves the parameter to the file `params_file`.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

# (name, default, description[, choices])
ARGUMENTS = (
    ("namespace", "", "Namespace of the node and of its topics."),
    ("params_file", "", "YAML file with the node's parameters; empty is config/segment.yaml of the package."),
    ("model", "", "Name of a bundled model or path of a checkpoint; empty is as params_file says."),
    ("device", "", "cpu, cuda, cuda:1 ...; empty is as params_file says."),
    ("image_topic", "image", "Camera topic (sensor_msgs/msg/Image)."),
    ("compressed", "", "Whether to take image_topic/compressed instead.", ("", "true", "false")),
    ("command_topic", "/command", "Topic of the sentences (std_msgs/msg/String)."),
    ("autostart", "true", "Whether the node configures and activates itself.", ("true", "false")),
    ("use_sim_time", "false", "Whether to take the time from /clock.", ("true", "false")),
    ("log_level", "info", "debug, info, warn, error or fatal."),
    ("respawn", "true", "Whether to start the node again when it dies.", ("true", "false")),
)


def start(context: LaunchContext) -> list[Node]:
    """The node, once the arguments have their values."""
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    share = Path(get_package_share_directory("jmceln_ros"))
    given = {name: ParameterValue(value[name], value_type=str) for name in ("model", "device") if value[name]}
    switches = {name: value[name] == "true" for name in ("autostart", "use_sim_time", "compressed") if value[name]}
    topic = value["image_topic"]
    return [
        Node(
            package="jmceln_ros",
            executable="segment_node",
            name="segment_node",
            namespace=value["namespace"],
            parameters=[value["params_file"] or str(share / "config" / "segment.yaml"), given | switches],
            remappings=[
                ("image", topic),
                ("image/compressed", f"{topic}/compressed"),
                ("/command", value["command_topic"]),
            ],
            arguments=["--ros-args", "--log-level", f"segment_node:={value['log_level']}"],
            respawn=value["respawn"] == "true",
            respawn_delay=2.0,
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=list(*choices) or None)
        for name, default, text, *choices in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
