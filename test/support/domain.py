"""DDS domains: one for each process that runs tests."""

import fcntl
import os
import tempfile
from pathlib import Path

DOMAINS = range(51, 102)  # up to 101 they are certain to exist; the demo and the benchmark take those below 51


def own_domain() -> int:
    """A domain that no other run and no other worker has: a file with its number is locked until this process ends.

    Which one is tried first differs from run to run, for the sake of nodes that an earlier one left behind.
    """
    for attempt in range(len(DOMAINS)):
        domain = DOMAINS[(os.getpid() + attempt) % len(DOMAINS)]
        try:
            lock = os.open(Path(tempfile.gettempdir(), f"jmceln_test_domain_{domain}"), os.O_WRONLY | os.O_CREAT)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and stays open
        except OSError:
            continue
        return domain
    raise RuntimeError(f"each of the DDS domains {DOMAINS[0]} to {DOMAINS[-1]} has its test run")
