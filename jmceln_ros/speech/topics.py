"""Sound from topics: this package's own messages, and those of whichever audio_common_msgs is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.type_support import check_for_type_support

from jmceln_core.speech.audio import AudioError
from jmceln_ros.common import qos
from jmceln_ros.msg import Audio
from jmceln_ros.speech.chunks import Chunk, RawFormat, is_bytes, raw_format, to_chunk

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.qos import QoSProfile
    from rclpy.subscription import Subscription

#: Topics of the messages that are bytes, and of what these mean.
STAMPED, RAW, INFO = "audio_common", "audio_common/data", "audio_info"


def foreign_kinds(package: str = "audio_common_msgs") -> dict[str, Any]:
    """Topic to message class for the package of that name which is installed; empty without it.

    Two packages have this name. What is in them says which one it is: AudioStamped is mgonzs13's; in ros-drivers'
    AudioData is bytes.
    """
    try:
        messages = importlib.import_module(f"{package}.msg")
    except ImportError:
        return {}
    kinds = {}
    if hasattr(messages, "AudioStamped"):
        kinds[STAMPED] = messages.AudioStamped
    elif "data" in _fields(messages, "AudioData"):
        kinds[RAW] = messages.AudioData
        if "audio" in _fields(messages, "AudioDataStamped"):
            kinds[STAMPED] = messages.AudioDataStamped
        if "sample_format" in _fields(messages, "AudioInfo"):
            kinds[INFO] = messages.AudioInfo
    return kinds


def _fields(messages: Any, name: str) -> dict[str, str]:
    kind = getattr(messages, name, None)
    return kind.get_fields_and_field_types() if kind is not None else {}


class AudioTopics:
    """The subscriptions to sound, as a source. For the executor's thread only.

    `raw` says what bytes mean while no AudioInfo does, `refuse` is told why a message cannot be used, `now` is the
    clock of the chunks' arrival, seconds.
    """

    ended = False

    def __init__(
        self,
        node: Node,
        put: Callable[[Chunk], None],
        *,
        profile: QoSProfile,
        raw: Callable[[], RawFormat],
        refuse: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._node = node
        self._put = put
        self._profile = profile
        self._raw = raw
        self._refuse = refuse
        self._now = now
        self._info: RawFormat | AudioError | None = None  # what the last AudioInfo said
        self._kinds: dict[str, Any] = {}
        self._subscriptions: list[Subscription] = []

    @property
    def name(self) -> str:
        """The full names of the topics."""
        return ", ".join(self._node.resolve_topic_name(topic) for topic in self._kinds if topic != INFO)

    @property
    def trouble(self) -> str:
        """Says so when sound is published where it is listened for, but of another kind."""
        for topic, kind in self._kinds.items():
            found = {info.topic_type for info in self._node.get_publishers_info_by_topic(topic)}
            own = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
            if found and own not in found:
                return (
                    f"{self._node.resolve_topic_name(topic)} brings {', '.join(sorted(found))}, and is listened to for "
                    f"{own}: every kind has its own topic here, to be remapped (docs/ros.md); the package of the kind "
                    "has to be installed where this node runs"
                )
        return ""

    def start(self) -> None:
        """Subscribes. Raises ParameterProblem (qos_overrides)."""
        self._kinds = self._usable(foreign_kinds())
        taken = {self._node.resolve_topic_name(topic) for topic in self._kinds}
        # Two types under one name are more than the middleware bears; whoever remaps the foreign one to it means that.
        if self._node.resolve_topic_name("audio") not in taken:
            self._kinds = {"audio": Audio, **self._kinds}
        for topic, kind in self._kinds.items():
            if topic == INFO:  # the driver's is latched; of others nobody knows
                for name in ("latched", "default"):
                    self._subscribe(kind, topic, self._on_info, qos.PROFILES[name])
            else:
                self._subscribe(kind, topic, self._on_audio, self._profile)

    def stop(self) -> None:
        """Ends the subscriptions."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())
        self._kinds = {}

    def _usable(self, kinds: dict[str, Any]) -> dict[str, Any]:
        """The kinds, or none where their compiled part is not found: Python's own search path is only one of two."""
        try:
            for kind in kinds.values():
                check_for_type_support(kind)
        except Exception as error:
            self._node.get_logger().warning(
                f"audio_common_msgs is there and cannot be used ({error}): source the setup.bash of its workspace"
            )
            return {}
        return kinds

    def _subscribe(self, kind: Any, topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> None:
        self._subscriptions.append(qos.subscription(self._node, kind, topic, callback, profile))

    def _on_audio(self, message: Any) -> None:
        info = self._info
        try:
            if isinstance(info, AudioError) and is_bytes(message):
                raise info
            chunk = to_chunk(message, self._now(), info if isinstance(info, RawFormat) else self._raw())
        except AudioError as error:
            self._refuse(str(error))
        else:
            self._put(chunk)

    def _on_info(self, message: Any) -> None:
        try:
            self._info = raw_format(message)
        except AudioError as error:
            self._info = error
