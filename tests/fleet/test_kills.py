# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller killed at FLEET_KILLS random instants of rollouts: the next run converges. FLEET_SEED repeats one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest

from tests.fleet.outcome import Outcome
from tests.fleet.simulation import Simulation, digest
from tests.fleet.test_rollout import at

pytestmark = pytest.mark.timeout(14400)
KILLS = int(os.environ.get("FLEET_KILLS", "0"))
SEED = int(os.environ.get("FLEET_SEED") or random.randrange(1 << 30))


@pytest.mark.skipif(not KILLS, reason="each takes some seconds: make fleet-kills")
def test_after_a_kill_at_any_instant_the_next_run_converges(fleet: Simulation) -> None:
    print(f"FLEET_SEED={SEED}")
    chance = random.Random(SEED)
    begun = time.monotonic()
    assert fleet.play().returncode == 0
    usual_seconds = time.monotonic() - begun
    for number in range(3, 3 + KILLS):
        fleet.publish(number)
        after_seconds = chance.uniform(0.1, 1.0) * usual_seconds
        kill(fleet, after_seconds)
        had = len(at(fleet, number))
        done = fleet.play()
        print(f"killed after {after_seconds:.1f} s, when {had} hosts were switched: exit code {done.returncode}")
        assert done.returncode == 0, done.output
        assert at(fleet, number) == fleet.names
        assert Outcome.of(fleet, done, wanted=number, before=number - 1).broken_invariants() == []
        assert {host.current for host in fleet.hosts().values()} == {digest(number)}


def kill(fleet: Simulation, after_seconds: float) -> None:
    """Start a rollout, and kill its controller with all its processes."""
    play = subprocess.Popen(
        fleet.command("rollout.yml", {}),
        env=fleet.environment(),
        cwd=fleet.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    time.sleep(after_seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(play.pid, signal.SIGKILL)
    play.wait()
