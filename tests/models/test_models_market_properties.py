"""What accounts see and launch is what the rules say, whatever they do to each other; on both databases."""

from __future__ import annotations

import os

import pytest
from catalog_rows import Catalog, race
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from market_machine import MarketMachine
from sqlalchemy import Engine

BOUNDED = settings(
    max_examples=8,
    stateful_step_count=25,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=list(HealthCheck),
)
"""A failure repeats in CI; elsewhere the next run looks further."""


def test_market_is_what_the_rules_say(engine: Engine) -> None:
    run_state_machine_as_test(lambda: MarketMachine(engine), settings=BOUNDED)
