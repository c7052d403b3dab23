"""Some of the campaigns' faults, chosen by a seed that is printed; `make powercuts` and `make crashes` run them at length."""

from __future__ import annotations

import os
import random
import re

import pytest

from tests.survival.beside import Beside, Run

pytestmark = pytest.mark.timeout(2400)

VM = f"{os.environ.get('FLYD_SURVIVAL_VM', '')}sample1"  # another than that of the other tests here: both run at once
SEED = str(random.randrange(1 << 32))
CUTS, POINTS, CALLS = 3, 1, 2
POWER_CUTS = Run("powercuts.py", VM, ("--cuts", str(CUTS), "--seed", SEED))
CRASHES = Run(
    "crashes.py",
    VM,
    ("--points", str(POINTS), "--calls", str(CALLS), "--of-steps", "1", "--seed", SEED),
)


def rows_of(beside: Beside, run: Run, capsys: pytest.CaptureFixture[str]) -> dict[str, list[int]]:
    """The table that a campaign prints at its end, by the first cell of each row; it must have found nothing."""
    code, said = beside.outcome(run)
    with capsys.disabled():
        print(f"\n{run.program} {' '.join(run.arguments)}")
    assert code == 0, said
    rows = re.findall(r"^\| ([^|]+) \| ((?:\d+ \| )*\d+) \|$", said, re.M)
    return {name: [int(cell) for cell in cells.split(" | ")] for name, cells in rows}


@pytest.mark.beside(POWER_CUTS)
def test_a_machine_whose_power_is_cut_needs_no_help(beside: Beside, capsys: pytest.CaptureFixture[str]) -> None:
    cuts, _settled, failures, leaks, manual_steps = rows_of(beside, POWER_CUTS, capsys)["all"]
    assert (cuts, failures, leaks, manual_steps) == (CUTS, 0, 0, 0)


@pytest.mark.beside(CRASHES)
def test_modules_that_are_killed_or_whose_calls_fail_need_no_help(
    beside: Beside, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some crash points, and some system calls of one step."""
    points, calls, _hit, _settled, violations = rows_of(beside, CRASHES, capsys)["all"]
    assert (points, calls, violations) == (POINTS, CALLS, 0)
