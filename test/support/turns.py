"""Workers of pytest-xdist side by side, but for tests that need the machine for themselves."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """A test's time beside those of the processes that share the folder; `alone` waits until theirs are over.

    Who waits to be alone stands in the door: no one else goes in meanwhile.
    """
    with (folder / "room").open("w+") as room:
        with (folder / "door").open("w+") as door:
            fcntl.lockf(door, fcntl.LOCK_EX)
            fcntl.lockf(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
