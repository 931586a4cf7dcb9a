"""jmceln_ros.segment.statistics: counting with a clock of the test's own, and what is said about it."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmceln_ros.common.diagnostics import Level, Percentiles
from jmceln_ros.segment.statistics import Condition, Statistics, judge, to_status

ACTIVE = Condition(model="bundled", command="the red mug", command_age=60.0)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def statistics(clock):
    return Statistics(clock=clock)


def stream(statistics, clock, seconds, *, rate=16, answered=True, dropped=""):
    """Frames at a rate, each answered or dropped."""
    for _ in range(round(seconds * rate)):
        clock.now += 1 / rate
        statistics.received()
        if dropped:
            statistics.dropped(dropped)
        elif answered:
            statistics.answered(0.05, 0.03)


# Counting


@given(st.lists(st.tuples(st.sampled_from(["received", "answered", "overtaken", "bad"]), st.integers(0, 16))))
def test_counts_against_a_plain_list(events):
    clock = Clock()
    statistics = Statistics(window=10.0, clock=clock)
    log = []
    for kind, quarters in events:
        wait = quarters / 4  # exact, so that both agree on what is just within the window
        clock.now += wait
        log.append((kind, clock.now))
        if kind == "received":
            statistics.received()
        elif kind == "answered":
            statistics.answered(wait, wait / 2)
        else:
            statistics.dropped(kind)
    clock.now += 0.5
    summary = statistics.summary()
    begin = max(clock.now - 10.0, 1000.0)
    recent = [kind for kind, at in log if at > clock.now - 10.0]
    assert summary.frame_rate == pytest.approx(recent.count("received") / (clock.now - begin))
    assert summary.answer_rate == pytest.approx(recent.count("answered") / (clock.now - begin))
    kinds = [kind for kind, _ in log]
    assert (summary.received, summary.answered) == (kinds.count("received"), kinds.count("answered"))
    for reason in ("overtaken", "bad"):
        assert summary.dropped.get(reason, 0) == recent.count(reason)
        assert summary.dropped_total.get(reason, 0) == kinds.count(reason)
    last = max((at for kind, at in log if kind == "received"), default=-math.inf)
    assert summary.frame_age == clock.now - last


def test_percentiles_of_the_window(statistics, clock):
    statistics.answered(99.0, 99.0)  # will have left the window
    clock.now += 20
    latencies = np.random.default_rng(0).gamma(2, 0.02, 200)
    for latency in latencies:
        clock.now += 0.01
        statistics.answered(float(latency), float(latency) / 2)
    statistics.answered(math.nan, 0.02)  # an image without a stamp
    summary = statistics.summary()
    for share in (50, 95, 99):
        # The value with this share of the others below it.
        below = sorted(latencies)[int(len(latencies) * share / 100) - 1 :][:3]
        assert below[0] <= getattr(summary.latency, f"p{share}") <= below[-1]
    assert summary.model.p50 == pytest.approx(summary.latency.p50 / 2, rel=0.05)
    assert math.isnan(Percentiles.of([math.nan]).p99)
    assert str(Percentiles.of([])) == "not measured"
    assert str(Percentiles.of([0.0125])) == "12.5, 12.5, 12.5 ms"


def test_memory_is_bounded_and_rates_stay_true(statistics, clock):
    for event in range(20_000):
        clock.now += 0.001
        statistics.received()
        statistics.answered(0.01, 0.01)
        statistics.dropped(f"reason {event}")
    summary = statistics.summary()
    assert summary.frame_rate == pytest.approx(1000, rel=0.01)
    assert (summary.received, sum(summary.dropped_total.values())) == (20_000, 20_000)
    assert len(summary.dropped_total) <= 33
    kept = [value for value in vars(statistics).values() if hasattr(value, "maxlen")]
    assert len(kept) == 3
    assert all(len(value) <= 4096 for value in kept)


def test_a_failure_lasts_until_the_next_answer(statistics, clock):
    assert not statistics.summary().failing
    statistics.failed("out of memory")
    clock.now += 3
    summary = statistics.summary()
    assert (summary.failing, summary.failure, summary.failure_age) == (True, "out of memory", 3.0)
    statistics.answered(0.1, 0.1)
    clock.now += 1
    summary = statistics.summary()
    assert (summary.failing, summary.failure, summary.failure_age) == (False, "out of memory", 4.0)
    statistics.restart()
    summary = statistics.summary()
    assert (summary.failure, summary.failure_age, summary.answered) == ("", math.inf, 0)


def test_many_threads(statistics):
    def work():
        for event in range(500):
            statistics.received()
            statistics.answered(0.1, 0.1)
            statistics.dropped("overtaken")
            if event % 50 == 0:
                statistics.summary()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary = statistics.summary()
    assert (summary.received, summary.answered, summary.dropped_total) == (2000, 2000, {"overtaken": 2000})


# Judging


def changed(**changes):
    return dataclasses.replace(ACTIVE, **changes)


@pytest.mark.parametrize(
    ("condition", "level", "says"),
    [
        (ACTIVE, Level.OK, "16.0 answers for 16.0 images a second"),
        (changed(state="configuring", model="", problem=""), Level.OK, "loading the model"),
        (changed(state="unconfigured", model=""), Level.OK, "unconfigured: images are not answered"),
        (
            changed(state="unconfigured", model="", problem="my.safetensors: no such file"),
            Level.ERROR,
            "no model: my.safetensors: no such file",
        ),
        (changed(problem="cannot load large: too big"), Level.WARN, "cannot load large: too big"),
        (changed(state="inactive"), Level.OK, "inactive: images are not answered"),
        (changed(enabled=False), Level.OK, "disabled by ~/enable"),
        (changed(command=""), Level.OK, "waiting for a command"),
    ],
)
def test_conditions_while_all_goes_well(statistics, clock, condition, level, says):
    stream(statistics, clock, 12)
    found, message = judge(statistics.summary(), condition)
    assert found == level
    assert says in message


def test_no_images(statistics, clock):
    clock.now += 9
    assert judge(statistics.summary(), ACTIVE)[0] == Level.OK  # just begun
    clock.now += 3
    level, message = judge(statistics.summary(), ACTIVE)
    assert level == Level.WARN
    assert message.startswith("no image for 12.0 s while a command is in force: check the camera")
    assert judge(statistics.summary(), changed(command=""))[0] == Level.OK
    assert judge(statistics.summary(), changed(command_age=2.0))[0] == Level.OK  # the command has just come
    stream(statistics, clock, 1)
    assert judge(statistics.summary(), ACTIVE)[0] == Level.OK
    clock.now += 11
    assert "no image for 11.0 s" in judge(statistics.summary(), ACTIVE)[1]


def test_dropped_images(statistics, clock):
    stream(statistics, clock, 5, dropped="overtaken")
    stream(statistics, clock, 5)
    assert judge(statistics.summary(), ACTIVE)[0] == Level.OK
    stream(statistics, clock, 0.25, dropped="unusable image")
    stream(statistics, clock, 1)
    assert judge(statistics.summary(), ACTIVE) == (Level.WARN, "4 images dropped in 10 s: 4 unusable image")
    stream(statistics, clock, 10)
    assert judge(statistics.summary(), ACTIVE)[0] == Level.OK


def test_failures(statistics, clock):
    stream(statistics, clock, 5)
    statistics.failed("out of memory")
    clock.now += 2
    assert judge(statistics.summary(), ACTIVE) == (Level.ERROR, "failed 2 s ago: out of memory")
    stream(statistics, clock, 1)
    assert judge(statistics.summary(), ACTIVE)[0] == Level.OK
    statistics.failed("out of memory")
    stream(statistics, clock, 11, answered=False)
    assert judge(statistics.summary(), changed(command=""))[0] == Level.OK  # old, and nothing was tried since


def test_images_without_answers_are_stale(statistics, clock):
    stream(statistics, clock, 12, answered=False)
    assert judge(statistics.summary(), changed(command_age=5.0))[0] == Level.OK
    assert judge(statistics.summary(), changed(patience=30.0))[0] == Level.OK  # max_rate is that low
    level, message = judge(statistics.summary(), ACTIVE)
    assert level == Level.STALE
    assert message.startswith("no answer for 12.0 s though images come")


# The message


@pytest.mark.ros
def test_the_status_is_a_message_that_rclpy_sends(statistics, clock):
    from diagnostic_msgs.msg import DiagnosticStatus
    from rclpy.serialization import deserialize_message, serialize_message

    stream(statistics, clock, 12)
    statistics.dropped("overtaken")
    status = to_status(
        statistics.summary(),
        ACTIVE,
        name="segment_node: answers",
        hardware_id="/camera",
        values={"GPU memory": "no GPU"},
    )
    assert deserialize_message(serialize_message(status), DiagnosticStatus) == status
    assert (status.level, status.name, status.hardware_id) == (DiagnosticStatus.OK, "segment_node: answers", "/camera")
    values = {entry.key: entry.value for entry in status.values}
    assert values["model"] == "bundled"
    assert values["command"] == "the red mug"
    assert values["command age"] == "60.0 s"
    assert values["images per second"] == "16.00"
    assert values["latency (50, 95, 99 %)"] == "50.0, 50.0, 50.0 ms"
    assert values["images dropped"] == "1 overtaken"
    assert values["last failure"] == "none"
    assert values["GPU memory"] == "no GPU"
    assert all(values.values())
    statistics.failed("out of memory")
    status = to_status(statistics.summary(), ACTIVE, name="segment_node")
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "failed 0 s ago: out of memory")


@pytest.mark.ros
def test_levels_are_those_of_the_message():
    from diagnostic_msgs.msg import DiagnosticStatus

    assert {level.name: bytes([level]) for level in Level} == {
        name: getattr(DiagnosticStatus, name) for name in ("OK", "WARN", "ERROR", "STALE")
    }


def test_asking_for_gpu_memory_does_not_load_torch():
    asks = (
        "import sys; from jmceln_ros.segment.statistics import gpu_memory; print(gpu_memory(), 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "no GPU in use False"
