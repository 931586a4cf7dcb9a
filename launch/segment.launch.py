"""Starts segment_node: `ros2 launch jmceln_ros segment.launch.py image_topic:=/camera/color/image_raw`.

An argument that is left empty leaves the parameter to the file `params_file`.
"""

import inspect
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteLocal, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.utilities import prefix_namespace

from jmceln_ros.common import fastdds
from launch import LaunchContext, LaunchDescription

SWITCH = ("true", "false")
MAYBE = ("", *SWITCH)
# Messages of sound, and the topic on which speech_node takes them.
SOUNDS = {
    "Audio": "audio",
    "AudioStamped": "audio_common",
    "AudioDataStamped": "audio_common",
    "AudioData": "audio_common/data",
}
# A node that cannot start ends at once: not for ever. Humble's launch knows no limit.
LIMITED = "respawn_max_retries" in inspect.signature(ExecuteLocal.__init__).parameters
RETRIES = {"respawn_max_retries": 10} if LIMITED else {}
# (name, default, description[, choices])
ARGUMENTS = (
    ("namespace", "", "Namespace of the nodes and of their topics."),
    ("params_file", "", "YAML file with the nodes' parameters; empty is config/segment.yaml of the package."),
    ("model", "", "Name of a bundled model or path of a checkpoint; empty is as params_file says."),
    ("device", "", "cpu, cuda, cuda:1 ...; empty is as params_file says."),
    ("image_topic", "image", "Camera topic, without /compressed."),
    ("image_transport", "", "How the images come; empty is as params_file says.", ("", "raw", "compressed")),
    ("depth_topic", "", "Depth registered to the image; turns the parameter depth on. Empty is as params_file says."),
    ("camera_info_topic", "", "Calibration of the image; empty is camera_info beside image_topic."),
    ("command_topic", "command", "Topic of the sentences (std_msgs/msg/String); /command is one for all namespaces."),
    ("tf_topic", "", "Topic of the frames; tf is one in the namespace. Empty is /tf, or as SetRemap says."),
    ("autostart", "", "Whether the node configures and activates itself; empty is as params_file says.", MAYBE),
    ("use_sim_time", "", "Whether to take the time from /clock; empty is as params_file or SetParameter says.", MAYBE),
    ("log_level", "info", "How much the nodes log.", ("debug", "info", "warn", "error", "fatal")),
    ("respawn", "false", "Whether to start a node again when its process ends: after two seconds, ten times.", SWITCH),
    ("fastdds_profile", "", "File of Fast DDS's settings; empty is config/fastdds.xml of the package, none is none."),
    ("speech", "false", "Whether to start speech_node too, which makes sentences of what is said.", SWITCH),
    ("speech_source", "", "topic, microphone, microphone:NAME, or a path of recordings; empty is as params_file says."),
    ("speech_engine", "", "What makes text of speech; empty is as params_file says.", ("", "moonshine", "whisper")),
    ("wake_phrase", "", "Words that a spoken command has to begin with; empty is as params_file says."),
    ("audio_topic", "audio", "Topic of the sound that speech_node listens to."),
    ("audio_type", "Audio", "Its messages: Audio is this package's, the others are audio_common_msgs'.", tuple(SOUNDS)),
)


def start(context: LaunchContext) -> list[Node]:
    """The nodes, once the arguments have their values."""
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    parameters = given(value, model="model", device="device", image_transport="image_transport")
    if value["depth_topic"]:
        parameters["depth"] = True

    image = value["image_topic"]
    topics = {
        "image": image,
        "image/compressed": f"{image}/compressed",
        "depth": value["depth_topic"] or "depth",
        "camera_info": value["camera_info_topic"] or beside(image, "camera_info"),
    }
    if value["tf_topic"]:
        topics["/tf"] = value["tf_topic"]
    nodes = [node(context, value, "segment_node", parameters, topics)]
    if value["speech"] == "true":
        spoken = given(value, source="speech_source", engine="speech_engine", wake_phrase="wake_phrase")
        sound = value["audio_topic"]
        topics = {SOUNDS[value["audio_type"]]: sound, "audio_info": beside(sound, "audio_info")}
        nodes.append(node(context, value, "speech_node", spoken, topics))
    return nodes


def given(value: dict[str, str], **names: str) -> dict:
    """Parameters by name, each from the argument of that name where it is not empty; those of every node among them."""
    texts = {
        name: ParameterValue(value[argument], value_type=str) for name, argument in names.items() if value[argument]
    }
    switches = {name: value[name] == "true" for name in ("autostart", "use_sim_time") if value[name]}
    return {**texts, **switches}


def beside(topic: str, name: str) -> str:
    """The topic of this name in the namespace of another topic."""
    return topic[: topic.rfind("/") + 1] + name


def node(context: LaunchContext, value: dict[str, str], name: str, parameters: dict, topics: dict[str, str]) -> Node:
    """One node of this package. Raises RuntimeError when this version of the package has no such executable."""
    folder = Path(get_package_prefix("jmceln_ros")) / "lib" / "jmceln_ros"
    if not (folder / name).is_file():
        raise RuntimeError(
            f"{name} is not part of the installed jmceln_ros ({folder}); leave speech:=false and send the sentences to "
            f"{value['command_topic']}, or install a version that has it"
        )
    share = Path(get_package_share_directory("jmceln_ros"))
    # A logger's name has the namespace in it; a level for all loggers would let the middleware's own debug lines in.
    outer = context.launch_configurations.get("ros_namespace")
    logger = f"{prefix_namespace(outer, value['namespace']) or ''}/{name}".strip("/").replace("/", ".")
    return Node(
        package="jmceln_ros",
        executable=name,
        name=name,
        namespace=value["namespace"],
        # What the launch file around this one sets for all nodes (SetParameter) goes before these, so they say no more
        # than they were told.
        parameters=[value["params_file"] or str(share / "config" / "segment.yaml"), parameters],
        remappings=[*topics.items(), ("command", value["command_topic"])],
        arguments=["--ros-args", "--log-level", f"{logger}:={value['log_level']}"],
        additional_env=fastdds.environment(value["fastdds_profile"]),
        respawn=value["respawn"] == "true",
        respawn_delay=2.0,
        **RETRIES,
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=list(*choices) or None)
        for name, default, text, *choices in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
