"""jmceln_ros.space.matching: of the last messages of a topic, the one that belongs to an image."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_ros.space.matching import Recent

MS = 10**6


def stamp(nanoseconds):
    return SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def message(nanoseconds, frame="", name=""):
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp(nanoseconds), frame_id=frame), name=name)


def kept(*milliseconds, keep=10):
    recent = Recent(keep)
    for time_ in milliseconds:
        recent.put(message(time_ * MS))
    return recent


def milliseconds(found):
    if found is None:
        return None
    return (found.header.stamp.sec * 10**9 + found.header.stamp.nanosec) // MS


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(0, 40), st.integers(0, 20), st.integers(2, 8))
def test_the_nearest_of_the_last_few(gaps, wanted, within, keep):
    # Naive: walk over the last messages, take a better or an equal later one.
    times = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    recent = Recent(keep)
    for number, time_ in enumerate(times):
        recent.put(message(time_ * MS, name=number))
    best = None
    for number, time_ in list(enumerate(times))[-keep:]:
        if abs(time_ - wanted) <= within and (best is None or abs(time_ - wanted) <= abs(times[best] - wanted)):
            best = number
    found = recent.nearest(stamp(wanted * MS), within / 1e3)
    assert (None if found is None else found.name) == best


@pytest.mark.parametrize(
    ("wanted", "within", "expected"),
    [
        (1_000_000_100, 0.1, 1_000_000_000),  # over the seconds' boundary, and in seconds beyond float32
        (999_999_900, 0.1, 1_000_000_000),
        (999_999_899, 0.1, None),
        (1_000_000_000, 0.0, 1_000_000_000),  # exactly, and nothing else
        (1_000_000_001, 0.0, None),
    ],
)
def test_the_bound_is_inclusive(wanted, within, expected):
    assert milliseconds(kept(1_000_000_000).nearest(stamp(wanted * MS), within)) == expected


def test_of_equals_the_later_and_of_those_the_last_to_come():
    recent = Recent()
    for name, time_ in (("a", 1000), ("b", 1040), ("c", 1040), ("d", 1020)):  # d was overtaken on its way
        recent.put(message(time_ * MS, name=name))
    assert recent.nearest(stamp(1030 * MS), 0.05).name == "c"
    assert recent.nearest(stamp(1040 * MS), 0.0).name == "c"
    assert recent.nearest(stamp(1010 * MS), 0.05).name == "d"


def test_time_that_begins_anew_takes_the_place_of_all():
    recent = kept(5000, 5100, 5200)
    recent.put(message(5150 * MS))  # late, but not before all: kept beside the others
    assert milliseconds(recent.nearest(stamp(5150 * MS), 0.01)) == 5150
    recent.put(message(100 * MS))  # the bag is played again
    assert recent.nearest(stamp(5200 * MS), 1.0) is None
    assert milliseconds(recent.nearest(stamp(120 * MS), 0.05)) == 100


def test_one_wrong_stamp_is_let_go_with_the_next_right_one_and_the_others_stay():
    recent = kept(5000, 5100, 3_600_000, 5200)  # an hour ahead
    assert recent.nearest(stamp(3_600_000 * MS), 1.0) is None
    assert milliseconds(recent.nearest(stamp(5100 * MS), 0.01)) == 5100
    begin = time.monotonic()
    threading.Timer(0.05, lambda: recent.put(message(5300 * MS))).start()
    assert milliseconds(recent.nearest(stamp(5300 * MS), 0.01, 5.0)) == 5300  # it is waited for as ever
    assert time.monotonic() - begin < 2.0


@pytest.mark.parametrize("there", [100, 3_600_000], ids=["back", "ahead"])
def test_after_a_jump_the_first_message_is_waited_for_and_later_ones_as_ever(there):
    recent = kept(5000, 5100, 5200)
    recent.hold(stamp(5200 * MS))
    recent.hold(stamp(there * MS))
    threading.Timer(0.05, lambda: recent.put(message(there * MS))).start()
    assert milliseconds(recent.nearest(stamp(there * MS), 0.01, 5.0)) == there
    recent.hold(stamp((there + 100) * MS))
    recent.put(message((there + 200) * MS))
    begin = time.monotonic()
    assert recent.nearest(stamp((there + 100) * MS), 0.01, 5.0) is None
    assert time.monotonic() - begin < 1.0


def test_a_held_message_outlives_those_that_come_after_it():
    recent = kept(100, 200, keep=3)
    recent.hold(stamp(210 * MS))
    for time_ in range(300, 2000, 100):
        recent.put(message(time_ * MS))
    assert milliseconds(recent.nearest(stamp(210 * MS), 0.05)) == 200
    assert milliseconds(recent.nearest(stamp(1900 * MS), 0.0)) == 1900
    recent.hold(stamp(1900 * MS))
    recent.put(message(2000 * MS))
    assert recent.nearest(stamp(210 * MS), 0.05) is None


def test_a_later_nearer_message_is_waited_for():
    recent = kept(1000)
    later = threading.Timer(0.1, recent.put, [message(1033 * MS)])
    later.start()
    try:
        # 1000 is within the bound, but while no later one has come a nearer one may.
        assert milliseconds(recent.nearest(stamp(1033 * MS), 0.05, patience=20.0)) == 1033
    finally:
        later.join()


def test_waiting_ends_with_the_best_there_is():
    begin = time.monotonic()
    assert milliseconds(kept(1000).nearest(stamp(1033 * MS), 0.05, patience=0.05)) == 1000
    assert time.monotonic() - begin >= 0.05


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ((), 1000),  # nobody publishes
        ((1000,), 2000),  # the publisher has stopped
        ((1000, 1033), 1010),  # a later one is there: none nearer will come
        ((1000,), 1000),
    ],
)
def test_what_will_not_come_is_not_waited_for(times, wanted):
    begin = time.monotonic()
    kept(*times).nearest(stamp(wanted * MS), 0.01, patience=30.0)
    assert time.monotonic() - begin < 10


def test_the_last_of_a_frame():
    recent = Recent()
    for time_, frame in enumerate(("left", "left", "right")):
        recent.put(message(time_, frame, name=time_))
    assert [recent.last(frame).name for frame in ("left", "right", "")] == [1, 2, 2]
    assert recent.last("middle") is None
    recent.clear()
    assert recent.last() is None


def test_a_recent_of_one_is_refused():
    with pytest.raises(ValueError, match="keep is 1"):
        Recent(1)


def test_many_threads():
    recent = Recent(4)
    stop = threading.Event()
    problems = []

    def ask():
        while not stop.is_set():
            try:
                recent.hold(stamp(50 * MS))
                recent.nearest(stamp(50 * MS), 1.0, patience=0.001)
                recent.last("x")
            except Exception as error:
                problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        for time_ in range(100):
            recent.put(message(time_ * MS, "x"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert milliseconds(recent.nearest(stamp(99 * MS), 0.0)) == 99
