"""Messages of one topic that belong to an image of another: the last few, found by their header's stamp.

Nothing here imports ROS: any object with `header.stamp` (sec, nanosec) and `header.frame_id` can be kept.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Generic, Protocol, TypeVar


class Stamped(Protocol):
    """A message with a std_msgs/Header."""

    header: Any


Message = TypeVar("Message", bound=Stamped)

# A topic whose newest message is this much older than what is looked for (seconds) is not waited for: its publisher
# has stopped, and every image would be late for nothing. A stamp that goes back by as much is no delay: time jumped.
_SILENT = 1.0

# After a jump what is farther off than this (seconds) is of before.
_CLOSE = 0.02


class Recent(Generic[Message]):
    """The last `keep` messages of a topic. `put` is for a callback, the rest for any other thread.

    One topic has one publisher, so that stamps grow. A message older than all that are kept, or a second older than the
    last, says that time has begun anew (a bag that is played in a loop, a simulator's reset), or that the last was
    wrong: it takes the place of all that are newer.
    """

    def __init__(self, keep: int = 10) -> None:
        if keep < 2:
            raise ValueError(f"keep is {keep}; it must be 2 or more: the one that is held and the newest")
        self._keep = keep
        self._messages: list[Message] = []  # in the order they came
        self._held: int | None = None  # nanoseconds
        self._jumped = False  # whether what was held before is not shortly before that
        self._came = threading.Condition()

    def put(self, message: Message) -> None:
        """Keeps a message; the one that came first goes, or the second where the first is held."""
        with self._came:
            stamps, new = [_nanoseconds(kept) for kept in self._messages], _nanoseconds(message)
            if stamps and (new < min(stamps) or new < stamps[-1] - _SILENT * 1e9):
                self._messages = [kept for kept in self._messages if _nanoseconds(kept) <= new]
            self._messages.append(message)
            if len(self._messages) > self._keep:
                first_is_held = self._held is not None and self._closest(self._held) is self._messages[0]
                del self._messages[1 if first_is_held else 0]
            self._came.notify_all()

    def hold(self, stamp: Any) -> None:
        """Keeps the message nearest to `stamp` however many come after it, until another stamp is held.

        For an image that is being worked on: when the work is done, what was taken with it must still be there.
        """
        with self._came:
            before, self._held = self._held, _whole(stamp)
            self._jumped = before is not None and not 0 <= self._held - before <= _SILENT * 1e9

    def clear(self) -> None:
        """Forgets every message."""
        with self._came:
            self._messages.clear()
            self._held, self._jumped = None, False

    def nearest(self, stamp: Any, within: float = math.inf, patience: float = 0.0) -> Message | None:
        """The message whose stamp is nearest to `stamp` (builtin_interfaces/Time), at most `within` seconds off.

        Of two equally near ones it is the later, and of two with the same stamp the one that came last.

        While all that came are older than `stamp`, a nearer one may be on its way: it is waited for up to `patience`
        seconds, unless nothing came yet or the last one is a second older or more. So it is when the stamp that is held
        jumped, as the messages' soon will.
        """
        wanted = _whole(stamp)
        deadline = time.monotonic() + patience
        with self._came:
            while self._expected(wanted) and (left := deadline - time.monotonic()) > 0:
                self._came.wait(left)
            nearest = self._closest(wanted)
        return None if nearest is None or apart(nearest, stamp) > within else nearest

    def last(self, frame_id: str = "") -> Message | None:
        """The message that came last of those with this frame id; with an empty one, of all.

        For what is constant, as CameraInfo is while nobody zooms: it need not come with every image.
        """
        with self._came:
            for message in reversed(self._messages):
                if not frame_id or message.header.frame_id == frame_id:
                    return message
        return None

    def _expected(self, wanted: int) -> bool:
        """Whether one nearer to this stamp, in nanoseconds, than all that are kept may come soon."""
        stamps = [_nanoseconds(message) for message in self._messages]
        if not stamps:
            return False
        if self._jumped:
            return min(abs(stamp - wanted) for stamp in stamps) > _CLOSE * 1e9
        return max(stamps) < wanted < max(stamps) + _SILENT * 1e9

    def _closest(self, wanted: int) -> Message | None:
        # Of equals `min` gives the first, which is the one that came last.
        return min(
            reversed(self._messages),
            key=lambda message: (abs(_nanoseconds(message) - wanted), -_nanoseconds(message)),
            default=None,
        )


def apart(message: Stamped, stamp: Any) -> float:
    """Seconds between a message's stamp and this one."""
    return abs(_nanoseconds(message) - _whole(stamp)) / 10**9


def later(message: Stamped, stamp: Any) -> bool:
    """Whether the message is of a later time than this stamp."""
    return _nanoseconds(message) > _whole(stamp)


def _whole(stamp: Any) -> int:
    """A builtin_interfaces/Time in nanoseconds."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def _nanoseconds(message: Stamped) -> int:
    return _whole(message.header.stamp)
