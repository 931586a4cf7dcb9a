"""Tests that run at the same time do not hear each other's nodes."""

from __future__ import annotations

import os

import pytest

from support.domain import DOMAINS, own_domain

pytestmark = pytest.mark.ros


def test_whoever_asks_gets_a_domain_that_nobody_else_has():
    domains = {int(os.environ["ROS_DOMAIN_ID"]), own_domain(), own_domain()}
    assert len(domains) == 3
    assert domains <= set(DOMAINS)
