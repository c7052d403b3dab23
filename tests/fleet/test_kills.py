# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller killed at FLEET_KILLS random instants of rollouts: the next run converges. FLEET_SEED repeats one.

Every second kill is at a random number of switched hosts: most of a rollout is staging, and few instants are within the waves.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

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
        if number % 2:
            kill(fleet, after(chance.uniform(0.1, 1.0) * usual_seconds))
        else:
            kill(fleet, switched(fleet, number, chance.randrange(1, len(fleet.names))))
        had = len(at(fleet, number))
        done = fleet.play()
        print(f"killed when {had} of {len(fleet.names)} hosts were switched: exit code {done.returncode}")
        assert done.returncode == 0, done.output
        assert at(fleet, number) == fleet.names
        assert Outcome.of(fleet, done, wanted=number, before=number - 1).broken_invariants() == []
        assert {host.current for host in fleet.hosts().values()} == {digest(number)}


def after(seconds: float) -> Callable[[], bool]:
    """Whether that time has passed."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def switched(fleet: Simulation, number: int, count: int) -> Callable[[], bool]:
    """Whether so many hosts have an image; they have it in the order of the inventory, but for those of the same moment."""
    return lambda: fleet.host(fleet.names[count - 1]).points_at == digest(number)


def kill(fleet: Simulation, is_due: Callable[[], bool]) -> None:
    """Start a rollout, and kill its controller with all its processes when it is due, or has ended."""
    play = subprocess.Popen(
        fleet.command("rollout.yml", {}),
        env=fleet.environment(),
        cwd=fleet.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    while not is_due() and play.poll() is None:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(play.pid, signal.SIGKILL)
    play.wait()
