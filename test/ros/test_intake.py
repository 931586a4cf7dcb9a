"""jmceln_ros.segment.intake: the newest frame wins, and a frame and its command never come from different moments."""

from __future__ import annotations

import math
import threading
import time

import pytest

from jmceln_ros.segment.intake import MAX_QUESTIONS, Intake, Unanswerable


@pytest.fixture
def dropped():
    """The reasons for which the intake gave frames up."""
    return []


@pytest.fixture
def intake(dropped):
    """Frames are anything; a number is a frame's age in seconds."""
    box = Intake(age=lambda frame: frame if isinstance(frame, float) else math.nan, on_drop=dropped.append)
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


def test_the_newest_frame_wins_and_the_overtaken_are_counted(intake, dropped):
    intake.order("cup", 0)
    for frame in range(5):
        intake.put(frame)
    assert take(intake).frame == 4
    assert dropped == ["overtaken"] * 4


def test_a_frame_is_answered_once(intake):
    intake.order("cup", 0)
    intake.put("a")
    take(intake)
    assert waits(intake)


def test_frames_without_a_command_wait_and_are_not_counted_as_dropped(intake, dropped):
    intake.put("a")
    intake.put("b")
    assert not dropped
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
    assert intake.order(blank, 1).sequence == 2
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


@pytest.mark.alone
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


@pytest.mark.parametrize("slow", [0.01, 5e-324])
def test_another_max_rate_counts_from_now_on(intake, slow):
    intake.max_rate = slow  # the second of them: longer than a thread can wait
    intake.order("cup", 0)
    intake.put("a")
    take(intake)
    intake.put("b")
    threading.Timer(0.1, setattr, [intake, "max_rate", 0.0]).start()
    assert take(intake).frame == "b"


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


def test_frames_that_are_too_old_are_dropped_and_those_of_unknown_age_or_from_the_future_taken(intake, dropped):
    intake.max_frame_age = 0.5
    intake.order("cup", 0)
    threading.Timer(0.05, intake.put, [0.4]).start()
    intake.put(0.6)
    assert take(intake).frame == 0.4
    assert dropped == ["too old"]
    for frame in (math.nan, -100.0, "no stamp"):  # a clock that was set back makes frames of the future
        intake.put(frame)
        assert take(intake).frame is frame
    intake.max_frame_age = 0.0
    intake.put(1e9)
    assert take(intake).frame == 1e9


@pytest.mark.alone
def test_a_frame_that_grows_old_while_it_waits_for_max_rate_is_dropped(dropped):
    begin = time.monotonic()
    intake = Intake(
        max_rate=10.0, max_frame_age=0.05, age=lambda frame: time.monotonic() - frame, on_drop=dropped.append
    )
    intake.open()
    intake.order("cup", 0)
    intake.put(begin)
    take(intake)
    intake.put(time.monotonic())
    assert waits(intake, 0.2)
    assert dropped == ["too old"]


def test_a_paused_intake_keeps_command_and_newest_frame(intake, dropped):
    intake.order("cup", 0)
    assert intake.pause(True) == []
    intake.put("old")
    intake.put("new")
    assert not dropped
    threading.Timer(0.05, intake.pause, [False]).start()
    begin = time.monotonic()
    assert take(intake).frame == "new"
    assert time.monotonic() - begin > 0.04


@pytest.mark.alone
def test_rest_holds_frames_back_and_lets_questions_through(intake):
    intake.order("cup", 0)
    intake.rest(0.1)
    begin = time.monotonic()
    intake.put("a")
    intake.ask("bowl", 1, print)
    assert take(intake).command.text == "bowl"
    assert time.monotonic() - begin < 0.1
    assert take(intake).command.text == "cup"
    assert time.monotonic() - begin > 0.09


def test_a_question_is_about_the_newest_frame_or_its_own_and_leaves_the_stream_alone(intake):
    intake.put("a")
    intake.order("cup", 7)
    assert take(intake).frame == "a"
    intake.ask("bowl", 8, print)
    job = take(intake)
    assert (job.frame, job.command.text, job.command.arrival, job.command.sequence) == ("a", "bowl", 8, 0)
    assert job.reply is print
    intake.ask(" ", 9, print, "mine")
    job = take(intake)
    assert (job.frame, job.command.text, job.command.arrival, job.command.sequence) == ("mine", "cup", 7, 1)
    assert intake.active.text == "cup"


def test_a_question_does_not_serve_a_command_in_mode_once(intake):
    intake.mode = "once"
    intake.put("a")
    intake.order("cup", 0)
    intake.ask("", 1, print)
    assert intake.done(take(intake)) is False
    assert intake.done(take(intake)) is True


def test_questions_go_first_but_take_turns_with_the_stream(intake):
    intake.order("cup", 0)
    intake.put("a")
    for number in range(4):
        intake.ask(f"question {number}", 0, print)
    order = []
    for _ in range(6):
        order.append(take(intake).command.text)
        if order[-1] == "cup" and order.count("cup") < 2:
            intake.put("b")
    assert order == ["question 0", "cup", "question 1", "cup", "question 2", "question 3"]


@pytest.mark.parametrize(
    ("prepare", "text", "said"),
    [
        (lambda intake: intake.close(), "cup", "not active"),
        (lambda intake: intake.pause(True), "cup", "disabled"),
        (lambda intake: intake.put("a"), "\u200b ", "blank and no command"),
        (lambda intake: None, "cup", "no image has come"),
        (lambda intake: intake.put(9.0), "cup", "9.0 s old, more than max_frame_age (2 s)"),
        (
            lambda intake: [intake.ask("cup", 0, print, "a") for _ in range(MAX_QUESTIONS)],
            "cup",
            f"{MAX_QUESTIONS} questions wait",
        ),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_with_the_reason(intake, prepare, text, said):
    intake.max_frame_age = 2.0
    prepare(intake)
    frame = "a" if "questions" in said else None
    with pytest.raises(Unanswerable) as refusal:
        intake.ask(text, 0, print, frame)
    assert said in str(refusal.value)


@pytest.mark.parametrize("end", [Intake.close, lambda intake: intake.pause(True)])
def test_questions_that_wait_are_given_back_when_the_intake_closes_or_pauses(intake, end):
    intake.ask("cup", 0, print, "a")
    intake.ask("bowl", 0, print, "a")
    assert [job.command.text for job in end(intake)] == ["cup", "bowl"]
    intake.open()
    intake.pause(False)
    assert waits(intake)


def test_a_question_with_a_frame_of_its_own_waits_for_what_belongs_to_it_and_is_answered_without(intake):
    intake.ask("cup", 0, print, "a", patience=60)
    intake.ask("bowl", 0, print, "b", patience=60)
    intake.ask("spoon", 0, print, "c", patience=0.01)
    assert not intake.waiting  # for a frame
    intake.put("newer")  # which is not what they ask about
    intake.complete(lambda frame: frame == "b")
    assert (take(intake).frame, intake.overdue()) == ("b", [])
    time.sleep(0.02)
    assert intake.overdue() == []
    assert take(intake).frame == "c"
    assert [job.command.text for job in intake.close()] == ["cup"]
