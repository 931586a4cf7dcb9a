"""Processes that run tests at the same time do not disturb each other."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from support.domain import DOMAINS, own_domain
from support.turns import turn


@pytest.mark.ros
def test_whoever_asks_gets_a_dds_domain_that_nobody_else_has():
    domains = {int(os.environ["ROS_DOMAIN_ID"]), own_domain(), own_domain()}
    assert len(domains) == 3
    assert domains <= set(DOMAINS)


def spend(folder: Path, name: str, alone: bool, delay: float) -> None:
    """Writes down when a turn began and ended."""
    time.sleep(delay)
    with turn(folder, alone=alone):
        begin = time.monotonic()
        time.sleep(0.3)
        (folder / name).write_text(f"{begin} {time.monotonic()}")


def test_a_test_that_wants_to_be_alone_waits_for_the_others_and_they_for_it(tmp_path):
    plan = {"first": (False, 0.0), "second": (False, 0.1), "alone": (True, 0.2), "late": (False, 0.25)}
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=spend, args=(tmp_path, name, *way)) for name, way in plan.items()]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    spent = {name: tuple(map(float, (tmp_path / name).read_text().split())) for name in plan}
    begin, end = spent.pop("alone")
    assert all(others_end <= begin or end <= others_begin for others_begin, others_end in spent.values())
