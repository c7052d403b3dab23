"""A few minutes of the campaigns of faults, chosen by a seed that is printed; `make powercuts` and `make crashes` run them at length."""

from __future__ import annotations

import random

import pytest

from tests.campaigns import crashes as campaign_of_crashes
from tests.campaigns import powercuts
from tests.campaigns.crashes import Crashes

pytestmark = pytest.mark.timeout(1800)

CUTS, CUT_MINUTES = 10, 2.5
POINTS, CALLS, CRASH_MINUTES = 3, 6, 1.5


def test_modules_that_are_killed_or_whose_calls_fail_need_no_help(crashes: Crashes) -> None:
    """Some crash points, and some system calls of one step."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    faults = campaign_of_crashes.chosen(crashes, POINTS, CALLS, seed, of_steps=1)
    cases = campaign_of_crashes.cases_on(crashes, faults, CRASH_MINUTES)
    assert cases
    assert [case for case in cases if case.violations] == []


def test_a_machine_whose_power_is_cut_needs_no_help(crashes: Crashes) -> None:
    """Ten cuts, or as many as there is time for on a machine that is emulated."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}: tests/campaigns/powercuts.py --cuts {CUTS} --seed {seed}")
    crashes.campaign.reset()
    rounds, table = powercuts.rounds_of(crashes.campaign, CUTS, seed, CUT_MINUTES)
    print(table)
    assert rounds
    assert [one for one in rounds if one.failures or one.leaks] == []
