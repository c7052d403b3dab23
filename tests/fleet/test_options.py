# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""stage.yml, rollback.yml, and what options change of a rollout: a gate, room, several instances, hosts that are not to be taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.fleet.outcome import Outcome
from tests.fleet.simulation import ROOT, Simulation, digest
from tests.fleet.test_rollout import at
from tests.unit._lifecycle.machine import KEY

pytestmark = pytest.mark.timeout(1800)
HOSTS = 5
GATE = str(ROOT / "tests/fleet/gate.yml")


@pytest.fixture
def size() -> int:
    """Few hosts: what is tested here does not depend on their number."""
    return HOSTS


def test_staged_the_night_before_then_refused_by_a_gate_then_taken_back_by_hand(fleet: Simulation) -> None:
    staged = fleet.play("stage.yml")
    assert staged.returncode == 0, staged.output
    assert at(fleet, 1) == fleet.names
    assert staged.lines("Stage") == [f"Stage      {HOSTS} staged · {(HOSTS) * 6}.0 KiB received"]

    refused = fleet.names[3]
    given: dict[str, Any] = {
        "rollout_gate": GATE,
        "refused_by_gate": [refused],
        "rollout_max_lost": 1,
        "rollout_confirm_within": 600,
    }
    done = fleet.play(**given)
    assert done.returncode == 2
    assert at(fleet, 1) == [refused], done.output
    assert Outcome.of(fleet, done, wanted=2, before=1).broken_invariants() == []
    assert done.lines("Verdict") == [f"Verdict    {HOSTS - 1} confirmed · 1 taken back"]

    back = fleet.play("rollback.yml", rollout_leave=digest(2)[:12])
    assert back.returncode == 0, back.output
    assert at(fleet, 1) == fleet.names
    again = fleet.play("rollback.yml", rollout_leave=digest(2)[:12])
    assert (again.returncode, at(fleet, 1)) == (0, fleet.names), "what was taken back has gone back once more"
    short = fleet.play("rollback.yml", rollout_leave="abc")
    assert (short.returncode, "first 12 digits" in short.output) == (2, True)


def test_hosts_without_room_stop_it_before_another_host_is_touched_or_are_left_out(fleet: Simulation) -> None:
    full = fleet.names[2]
    machine = fleet.fleet.machine(full)
    machine.fake.set_pool("pool", used_data_blocks=64)
    refused = fleet.play()
    assert refused.returncode == 2
    assert f"1 short: {full} 64.0 KiB short in the pool pool" in "".join(refused.lines("Capacity")), refused.output
    assert fleet.generations(fleet.names[1]) == [digest(1)], "a host was touched"

    left_out = fleet.play(rollout_short="leave_out", rollout_max_absent=1)
    assert left_out.returncode == 2
    assert at(fleet, 1) == [full], left_out.output
    assert Outcome.of(fleet, left_out, wanted=2, before=1).broken_invariants() == []


def test_all_instances_of_a_host_are_switched_or_none_and_stop_leaves_the_others(fleet: Simulation) -> None:
    half = fleet.names[1]
    good: dict[str, Any] = {"rollout_instances": ["web", "db"], "rollout_health_command": ["/bin/true"]}
    fleet.publish(1)
    assert fleet.play(**good).returncode == 0
    fleet.publish(2)
    # The second instance of one host is not well.
    script = ["/bin/sh", "-c", f'test "$FLYD_INSTANCE" != db || test {{{{ inventory_hostname }}}} != {half}']
    done = fleet.play(**{**good, "rollout_health_command": script, "rollout_on_failure": "stop"})
    assert done.returncode == 2
    assert fleet.pointed(half) == {"web": digest(1), "db": digest(1)}
    assert fleet.pointed(fleet.names[0]) == {"web": digest(2), "db": digest(2)}
    assert fleet.pointed(fleet.names[4]) == {"web": digest(1), "db": digest(1)}


def test_the_fleet_is_compared_with_what_was_rolled_out_last_and_makes_groups(fleet: Simulation) -> None:
    lock, report = fleet.directory / "fleet.lock.yml", fleet.directory / "fleet.json"
    late, dead = fleet.names[1:3]
    fleet.faults = {late: "flip:ill"}
    assert fleet.play(rollout_lock=str(lock), rollout_max_lost=1).returncode == 2
    assert yaml.safe_load(lock.read_text())[KEY.value]["sha256"] == digest(2)

    fleet.faults = {dead: "plan:unreachable"}
    given = {"fleet_lock": str(lock), "fleet_report": str(report), "fleet_state_dir": fleet.state_dir}
    done = fleet.play("fleet.yml", variables=given)
    assert done.returncode == 0, done.output
    found = json.loads(report.read_text())
    assert (found["behind"], found["absent"], len(found["as_locked"])) == ([late], [dead], HOSTS - 2)
    strict = fleet.play("fleet.yml", variables={**given, "fleet_strict": True})
    assert (strict.returncode, "2 hosts are not as locked" in strict.output) == (2, True)

    groups = fleet.groups()
    assert (groups["drift_behind"], groups["drift_absent"]) == ([late], [dead])
    assert sorted(groups[f"generation_{digest(2)[:12]}"]) == sorted(set(fleet.names) - {late, dead})
