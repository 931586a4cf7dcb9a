"""The latency benchmark: its arithmetic, its verdict, and one short run of its three processes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from jmceln_ros.segment.settings import SegmentSettings
from jmceln_ros.tools import benchmark
from jmceln_ros.tools.benchmark import BenchmarkError, Recording, Row, evaluate, markdown, slope
from support import ROOT

pytestmark = pytest.mark.ros

FAST = Row("fast", 64, 48, 30.0, 0.0, median_ms=3.0, p99_ms=10.0)
SLOW = Row("slow", 64, 48, 50.0, 1.0, transport_ms=10.0)


def recording(late, *, model=0.0, growth=0.0):
    """Answers to every second frame, each this many milliseconds late; memory that grows by so many bytes a second."""
    made = Recording()
    for number, milliseconds in enumerate(late):
        made.frame.append(5 + 2 * number)
        made.stamp.append(100.0 + number)
        made.model.append(model)
        made.latency.append(model + 0.5e-3 * milliseconds)
        made.received.append(100.0 + number + model + 1e-3 * milliseconds)
        made.memory.append((number, int(1e9 + growth * number)))
    return made


def test_the_figures_are_those_of_the_definition():
    late = np.random.default_rng(0).uniform(1, 9, 200)
    result = evaluate(SLOW, recording(late, model=1.0, growth=3 * 2**20 / 60))
    ordered = sorted(late)
    assert result.median_ms == pytest.approx((ordered[99] + ordered[100]) / 2, abs=1e-3)
    assert ordered[196] <= result.p99_ms <= ordered[199]
    assert result.max_ms == pytest.approx(ordered[-1], abs=1e-3)
    assert result.node_median_ms == pytest.approx(result.median_ms / 2, abs=1e-3)
    assert (result.answers, result.dropped) == (200, 199)
    assert result.seconds == pytest.approx(199, abs=0.1)
    assert result.growth_mib_per_minute == pytest.approx(3, rel=1e-3)


def test_the_slope_is_that_of_least_squares():
    x, y = np.random.default_rng(1).normal(size=(2, 50)) + 1000
    assert slope(list(zip(x, y, strict=True))) == pytest.approx(np.polyfit(x - 1000, y - 1000, 1)[0])
    assert slope([(3.0, 8.0)]) == 0.0
    assert slope([]) == 0.0


def test_each_target_is_missed_by_its_own_figure():
    assert evaluate(FAST, recording([2.0] * 200)).missed == []
    (median,) = evaluate(FAST, recording([4.0] * 200)).missed
    assert "median 4.00 ms, allowed 3.00" in median
    (last,) = evaluate(FAST, recording([2.0] * 190 + [30.0] * 10)).missed
    assert "99th percentile" in last
    (growth,) = evaluate(FAST, recording([2.0] * 200, growth=2**20)).missed
    assert "memory growth 60.00 MiB a minute" in growth
    # A frame takes 20 ms, and the way 10: an answer may be 29 ms older than the model's time makes it, and not 31.
    assert evaluate(SLOW, recording([29.0] * 9, model=1.0)).missed == []
    (age,) = evaluate(SLOW, recording([5.0] * 9 + [31.0], model=1.0)).missed
    assert "age of an answered frame" in age
    assert evaluate(FAST, recording([float("nan")] * 9)).missed  # what was not measured is no success


def test_too_few_answers_are_no_measurement():
    with pytest.raises(BenchmarkError, match="fast: 1 answers came"):
        evaluate(FAST, recording([1.0]))


def test_the_table_has_a_line_for_each_row():
    result = evaluate(FAST, recording([2.0] * 200))
    head, rule, *lines = markdown([result, replace(result, row=SLOW)]).splitlines()
    assert len(lines) == 2
    assert {line.count("|") for line in (head, rule, *lines)} == {11}
    assert "| 64x48, 50 Hz | 1 s | 199 |" in lines[1]


def test_the_null_model_answers_half_of_width_and_height_after_its_time():
    segmenter = benchmark.null_segmenter(SegmentSettings(model="0.05"))
    for size in ((48, 64), (20, 30)):
        segmenter.set_image(np.zeros((*size, 3), np.uint8))
        begin = time.perf_counter()
        answer = segmenter.segment("the mug")
        assert 0.05 <= time.perf_counter() - begin < 5
        assert answer.mask.shape == size
        assert answer.area == size[0] * size[1] // 4


def test_a_processs_own_memory_grows_with_what_it_holds():
    before = benchmark.own_memory(os.getpid())
    # pages of its own: an array may get memory that the process has had before
    held = mmap.mmap(-1, 8 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.write(bytes(8 * 2**20))
    assert benchmark.own_memory(os.getpid()) - before > 7 * 2**20
    held.close()


def test_a_checkout_is_measured_with_its_own_profile():
    assert benchmark.default_profile() == ROOT / "config" / "fastdds.xml"


def test_the_shared_memory_of_the_profile_holds_two_of_the_largest_pictures():
    root = ElementTree.parse(benchmark.default_profile()).getroot()
    (segment,) = root.iter("{http://www.eprosima.com}segment_size")
    assert int(segment.text) >= 2 * max(row.width * row.height * 3 for row in benchmark.ROWS)


def test_one_command_measures_and_prints_a_table():
    """Two seconds of a slow model; whether the targets are met is a matter of a quiet machine."""
    command = [sys.executable, "-m", "jmceln_ros.tools.benchmark", "--seconds", "2.5", "--rows", "vga-slow-model"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode in (0, 1), run.stderr
    assert "XMLPARSER" not in run.stderr
    assert "Fast DDS profile: fastdds.xml" in run.stdout
    assert "| 640x480, 60 Hz | 1 s |" in run.stdout
    assert ("Every target is met." in run.stdout) == (run.returncode == 0)
    assert ("MISSED vga-slow-model" in run.stdout) == (run.returncode == 1)
