# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the campaigns of faults make of what they see; the faults themselves need a machine."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

pytest.importorskip("ansible", reason="ansible-core is not installed")

from tests.campaigns.crashes import CALLS, STEPS, Fault, calls_in, labels, spread, step_of
from tests.campaigns.powercuts import AT_REST, PowerCuts, Round, Rounds, table

TRACE = """\
12 openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3
12 openat(AT_FDCWD, "/var/lib/flyd/flyd.db", O_RDWR|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0600) = 3
13 openat(AT_FDCWD, "/dev/null", O_WRONLY) = 3
13 fsync(3 <unfinished ...>
12 fsync(4)                          = 0
13 <... fsync resumed>)              = 0
12 fsync(5)                          = -1 EIO (Input/output error)
12 +++ exited with 0 +++
"""


def test_calls_are_counted_in_each_process_and_files_that_are_only_read_left_out() -> None:
    assert calls_in(TRACE) == [("openat", 2), ("openat", 1), ("fsync", 1), ("fsync", 2)]


def test_every_crash_point_is_reached_by_a_step() -> None:
    assert {step_of(label) for label in labels()} <= set(STEPS)
    assert len(labels()) > 30
    assert (
        step_of("unpack:recorded") == "unpack and let go"
    )  # it lies behind the archive's removal, which must be asked for
    assert not [label for label in labels() if "{" in label]


def test_faults_are_spread_over_steps_and_calls_and_the_seed_decides() -> None:
    many = [Fault("pool", call="openat", number=number) for number in range(100)]
    few = [Fault("pool", call="fsync", number=1), Fault("fetch", call=CALLS[0], number=1)]
    chosen = spread(random.Random(1), many + few, 6)
    assert set(few) < set(chosen)
    assert len(set(chosen)) == 6
    assert chosen == spread(random.Random(1), many + few, 6)
    assert len(spread(random.Random(1), many + few, 1000)) == 102


class OneAfterTheOther:
    """A machine whose power is cut without effect."""

    def __init__(self) -> None:
        self.rounds = 0

    def round(self) -> Round:
        self.rounds += 1
        time.sleep(0.01)
        return Round(float(self.rounds), AT_REST)


def test_machines_beside_each_other_share_the_cuts_among_them() -> None:
    rounds, machines = Rounds(7, minutes=1.0), [OneAfterTheOther(), OneAfterTheOther()]
    with ThreadPoolExecutor(2) as beside:
        list(beside.map(lambda machine: rounds.make_on(cast(PowerCuts, machine)), machines))
    assert (len(rounds.done), sum(one.rounds for one in machines)) == (7, 7)
    assert all(one.rounds for one in machines)


def test_no_cut_is_begun_when_the_time_is_over() -> None:
    rounds, machine = Rounds(7, minutes=0.0), OneAfterTheOther()
    rounds.make_on(cast(PowerCuts, machine))
    assert machine.rounds == 0


def test_the_table_counts_cuts_by_phase() -> None:
    rounds = [
        Round(1.0, "flyd_pool", settled=[{"kind": "operation_undone", "subject": "x", "text": "undid it"}]),
        Round(2.0, "flyd_pool"),
        Round(3.0, AT_REST, leaks=["a loop"]),
    ]
    assert table(rounds, ["flyd_pool"]).splitlines()[2:] == [
        "| flyd_pool | 2 | 1 | 0 | 0 | 0 |",
        f"| {AT_REST} | 1 | 0 | 0 | 1 | 1 |",
        "| all | 3 | 1 | 0 | 1 | 1 |",
    ]
