"""jmceln_ros.intake: the newest frame wins, and a frame and its command never come from different moments."""

from __future__ import annotations

import threading
import time

import pytest

from jmceln_ros.intake import Intake


@pytest.fixture
def intake():
    box = Intake()
    box.open()
    yield box
    box.close()


def take(intake, timeout=5.0):
    """The next job, or a failure instead of a hanging test."""
    out = []
    thread = threading.Thread(target=lambda: out.append(intake.take()), daemon=True)
    thread.start()
    thread.join(timeout)
    assert out, "take() still waits"
    return out[0]


def waits(intake, seconds=0.1):
    """Whether take() finds nothing to do for a while; closes the intake."""
    thread = threading.Thread(target=intake.take, daemon=True)
    thread.start()
    thread.join(seconds)
    waiting = thread.is_alive()
    intake.close()
    thread.join(5)
    assert not thread.is_alive(), "close() does not wake take()"
    return waiting


def test_the_newest_frame_wins_and_the_overtaken_are_counted(intake):
    intake.order("cup", 0)
    for frame in range(5):
        intake.put(frame)
    assert take(intake).frame == 4
    assert intake.dropped == 4


def test_a_frame_is_answered_once(intake):
    intake.order("cup", 0)
    intake.put("a")
    take(intake)
    assert waits(intake)


def test_frames_without_a_command_wait_and_are_not_counted_as_dropped(intake):
    intake.put("a")
    intake.put("b")
    assert intake.dropped == 0
    intake.order("cup", 0)
    assert take(intake).frame == "b"


def test_a_command_before_the_first_frame_and_before_opening_is_kept():
    intake = Intake()
    intake.order("cup", 12)
    intake.put("lost: closed")
    intake.open()
    intake.put("a")
    job = take(intake)
    assert (job.frame, job.command.text, job.command.arrival, job.command.sequence) == ("a", "cup", 12, 1)


@pytest.mark.parametrize("blank", ["", "  ", "\n", "\u200b", "\x00\u00a0"])
def test_a_blank_command_stops(intake, blank):
    intake.order("cup", 0)
    assert intake.order(blank, 1) is None
    assert intake.active is None
    intake.put("a")
    assert waits(intake)


def test_commands_are_numbered_and_their_text_is_left_as_it_came(intake):
    assert intake.order(" the Cup ", 0).text == " the Cup "
    intake.order("", 0)
    assert intake.order("cup", 0).sequence == 3


def test_mode_once_serves_a_command_with_one_frame_and_track_with_all(intake):
    for mode, served in (("track", False), ("once", True)):
        intake.mode = mode
        intake.order("cup", 0)
        intake.put("a")
        assert intake.done(take(intake)) is served
        assert (intake.active is None) is served


def test_mode_once_keeps_a_command_that_came_while_the_last_was_answered(intake):
    intake.mode = "once"
    intake.order("cup", 0)
    intake.put("a")
    job = take(intake)
    intake.order("bowl", 1)
    assert intake.done(job) is False
    assert intake.active.text == "bowl"


def test_mode_once_tries_again_when_the_frame_was_broken(intake):
    intake.mode = "once"
    intake.order("cup", 0)
    intake.put("broken")
    take(intake)  # and no done(): the frame could not be answered
    intake.put("good")
    assert take(intake).frame == "good"


def test_max_rate_spaces_the_jobs_and_then_gives_the_newest_frame(intake):
    intake.max_rate = 10.0
    intake.order("cup", 0)
    intake.put("a")
    take(intake)
    begin = time.monotonic()
    intake.put("b")
    threading.Timer(0.05, intake.put, ["c"]).start()
    assert take(intake).frame == "c"
    assert time.monotonic() - begin > 0.08


def test_closing_forgets_the_frame_and_keeps_the_command(intake):
    intake.order("cup", 0)
    intake.put("old")
    intake.close()
    assert intake.take() is None
    intake.open()
    intake.put("new")
    assert take(intake).frame == "new"


def test_no_job_mixes_two_commands_under_load(intake):
    """Texts that carry their own number, ordered as fast as possible: every job's text must match its sequence."""
    count = 3000
    stop = threading.Event()

    def frames():
        while not stop.is_set():
            intake.put(object())

    def orders():
        for number in range(1, count + 1):
            intake.order(f"thing {number}", number)

    threads = [threading.Thread(target=frames, daemon=True), threading.Thread(target=orders, daemon=True)]
    for thread in threads:
        thread.start()
    seen = []
    while not seen or seen[-1].sequence < count:
        seen.append(intake.take().command)
    stop.set()
    assert all(c.text == f"thing {c.sequence}" and c.arrival == c.sequence for c in seen)
    assert [c.sequence for c in seen] == sorted(c.sequence for c in seen)
