"""A few minutes of the campaigns of faults, chosen by a seed that is printed; `make powercuts` and `make crashes` run them at length."""

from __future__ import annotations

import random

import pytest

from tests.campaigns import crashes, powercuts
from tests.survival.conftest import PREFIX

pytestmark = pytest.mark.timeout(1800)

CUTS, CUT_MINUTES = 10, 2.0
POINTS, CALLS, CRASH_MINUTES = 4, 4, 1.5


def test_a_machine_whose_power_is_cut_needs_no_help() -> None:
    """Ten cuts, or as many as there is time for on a machine that is emulated."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}: tests/campaigns/powercuts.py --cuts {CUTS} --seed {seed}")
    rounds, table = powercuts.run(CUTS, seed, f"{PREFIX}1", CUT_MINUTES)
    print(table)
    assert rounds
    assert [one for one in rounds if one.failures or one.leaks] == []


def test_modules_that_are_killed_or_whose_calls_fail_need_no_help() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    cases = crashes.run(f"{PREFIX}1", seed, points=POINTS, calls=CALLS, of_steps=1, minutes=CRASH_MINUTES)
    assert cases
    assert [case for case in cases if case.violations] == []
