"""A camera made of pictures, and segment_node: `ros2 launch jmceln_ros demo.launch.py command:="the blue mug"`.

Without a source it shows a rendered table of mugs and apples. Every argument of segment.launch.py can be given too.
"""

import json
import re
import sys
import tempfile
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.utilities import prefix_namespace

from jmceln_ros.common import fastdds
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

SHARE = Path(get_package_share_directory("jmceln_ros"))
SWITCH = ["true", "false"]
# In a process of its own: it takes seconds, in which the model is loaded.
DRAW_TABLE = (
    "import cv2, sys; from jmceln_core.synthesis.table_scene import render; "
    "cv2.imwrite(sys.argv[1], render()[0][..., ::-1])"
)


def camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """camera_node, in the namespace of the other node; without a source, once the table is drawn."""
    source = LaunchConfiguration("source").perform(context)
    picture = Path(tempfile.mkdtemp(prefix="jmceln_demo_")) / "table.png" if not source else None
    node = Node(
        package="jmceln_ros",
        executable="camera_node",
        name="camera_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[{"source": ParameterValue(source or str(picture), value_type=str)}],
        remappings=[("image", LaunchConfiguration("image_topic"))],
        additional_env=fastdds.environment(LaunchConfiguration("fastdds_profile").perform(context)),
        output="screen",
    )
    if picture is None:
        return [node]
    drawing = ExecuteProcess(cmd=[sys.executable, "-c", DRAW_TABLE, str(picture)], name="table", output="screen")
    # Registered before the drawing starts: it must not end unseen.
    return [RegisterEventHandler(OnProcessExit(target_action=drawing, on_exit=[node])), drawing]


def command(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The sentence, published once when segment_node listens; it keeps it until it has model and picture."""
    text, topic = LaunchConfiguration("command").perform(context), absolute(context, "command_topic")
    if not text:
        return [LogInfo(msg=f"no command given: publish std_msgs/msg/String to {topic}")]
    message = json.dumps({"data": text}, ensure_ascii=False)  # JSON is YAML, whatever the sentence has in it
    # Kept alive: the two sides discover each other one after the other, and a publisher that is gone repeats nothing.
    publish = ["ros2", "topic", "pub", "--once", "--keep-alive", "10", topic, "std_msgs/msg/String", message]
    return [ExecuteProcess(cmd=publish, name="command", output="log")]


def absolute(context: LaunchContext, argument: str) -> str:
    """The full name of the topic that an argument has, for a program that no namespace is given to."""
    topic = LaunchConfiguration(argument).perform(context)
    return topic if topic.startswith("/") else f"{namespace(context)}/{topic}"


def namespace(context: LaunchContext) -> str:
    """The nodes' namespace, with the slash in front; empty for none."""
    outer = context.launch_configurations.get("ros_namespace")
    inner = (prefix_namespace(outer, LaunchConfiguration("namespace").perform(context)) or "").strip("/")
    return f"/{inner}" if inner else ""


def here(context: LaunchContext, file: Path) -> str:
    """The path of a copy of a viewer's configuration, with the names that its topics have here."""
    names = {
        "image": absolute(context, "image_topic"),
        "command": absolute(context, "command_topic"),
        "segment_node": f"{namespace(context)}/segment_node",
        "tf": absolute(context, "tf_topic") if LaunchConfiguration("tf_topic").perform(context) else "/tf",
    }
    text = re.sub(rf"(?<=[\s\"])/({'|'.join(names)})\b", lambda match: names[match[1]], file.read_text())
    copy = Path(tempfile.mkdtemp(prefix="jmceln_demo_")) / file.name
    copy.write_text(text)
    return str(copy)


def viewers(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz2 and the bridge to Foxglove, if they are asked for. Raises RuntimeError when one is not installed."""
    wanted = {name: LaunchConfiguration(name).perform(context) == "true" for name in ("rviz", "foxglove")}
    tf = LaunchConfiguration("tf_topic").perform(context)
    entities: list[LaunchDescriptionEntity] = []
    if wanted["rviz"]:
        needed("rviz2", "rviz:=true")
        # RViz shows what has a place in its fixed frame: a camera that looks along x of `map`, 1 m above the floor.
        # Quaternion of the optical frame (REP-103: z forward, x right, y down).
        place = [*("--z", "1.0", "--qx", "-0.5", "--qy", "0.5", "--qz", "-0.5", "--qw", "0.5")]
        frames = ["--frame-id", "map", "--child-frame-id", "camera_optical_frame"]
        entities += [
            Node(package="tf2_ros", executable="static_transform_publisher", arguments=[*place, *frames]),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", here(context, SHARE / "config" / "rviz" / "demo.rviz")],
                remappings=[("/tf", tf)] if tf else [],
            ),
        ]
    if wanted["foxglove"]:
        needed("foxglove_bridge", "foxglove:=true")
        layout = here(context, SHARE / "config" / "foxglove" / "demo.json")
        entities += [
            Node(package="foxglove_bridge", executable="foxglove_bridge", output="log"),
            LogInfo(msg=f"Foxglove: open the connection ws://localhost:8765 and import the layout {layout}"),
        ]
    return entities


def needed(package: str, argument: str) -> None:
    """Raises RuntimeError, saying how to install it, when a package is missing."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        name = package.replace("_", "-")
        raise RuntimeError(f"{argument} needs the package {package}: sudo apt install ros-$ROS_DISTRO-{name}") from None


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    # With its arguments: what is given to this file reaches the included one, whose defaults hold for both.
    segment = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SHARE / "launch" / "segment.launch.py")))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source",
                default_value="",
                description="Picture, folder of pictures, video, or a webcam's number; empty is a rendered table.",
            ),
            DeclareLaunchArgument(
                "command", default_value="the blue mug", description="Sentence to send at the start; empty sends none."
            ),
            DeclareLaunchArgument("rviz", default_value="false", choices=SWITCH, description="Whether to start RViz2."),
            DeclareLaunchArgument(
                "foxglove", default_value="false", choices=SWITCH, description="Whether to start foxglove_bridge."
            ),
            segment,
            *(OpaqueFunction(function=part) for part in (camera, command, viewers)),
        ]
    )
