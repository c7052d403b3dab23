# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rollout.yml on a simulated fleet: a good image, hosts that fail in every way, a bad image that goes back, a controller that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

from tests.fleet.outcome import Outcome
from tests.fleet.simulation import Done, Simulation, digest

pytestmark = pytest.mark.timeout(14400)


def changed(done: Done) -> int:
    """How many changes the recap counts."""
    return sum(int(number) for number in re.findall(r" changed=(\d+)", done.output))


def at(fleet: Simulation, number: int) -> list[str]:
    """The hosts whose name points at an image."""
    return [name for name, host in fleet.hosts().items() if host.points_at == digest(number)]


def test_a_good_image_is_predicted_and_then_everywhere(fleet: Simulation) -> None:
    predicted = fleet.play("rollout.yml", "--check")
    assert predicted.returncode == 0, predicted.output
    assert at(fleet, 1) == fleet.names
    done = fleet.play()
    assert done.returncode == 0, done.output
    assert at(fleet, 2) == fleet.names
    assert Outcome.of(fleet, done, wanted=2, before=1).broken_invariants() == []
    count = len(fleet.names)
    assert predicted.lines("Would be") == [f"Would be   {count} confirmed"]
    assert done.lines("Verdict") == [f"Verdict    {count} confirmed"]
    report = fleet.directory / "rollouts" / f"redis_latest-{digest(2)[:12]}"
    events = [json.loads(line) for line in (report / "events.jsonl").read_text().splitlines()]
    assert {one["host"] for one in events if one["step"] == "flip"} == set(fleet.names)
    assert digest(2) in (report / "rollout.html").read_text()


KINDS = {
    "plan:unreachable": "absent",
    "fetch:unreachable": "absent",
    "fetch:dies": "absent",
    "unpack:killed": "absent",
    "flip:unreachable": "lost",
    "flip:dies": "lost",
    "flip:killed": "lost",
    "flip:ill": "went back",
    "flip:slow": "",
}


def test_failing_hosts_are_named_and_after_a_kill_of_the_controller_the_next_run_serves_all(fleet: Simulation) -> None:
    hosts = dict(zip(fleet.names[1:], KINDS, strict=False))
    fleet.faults = dict(hosts)
    done = fleet.play(rollout_max_absent="50%", rollout_max_lost="50%")
    assert done.returncode == 2
    assert Outcome.of(fleet, done, wanted=2, before=1).broken_invariants() == []
    for name, kind in hosts.items():
        named = re.search(rf'fatal: \[{name}\]: FAILED! => .*"msg": "(\w+( back)?) at', done.output)
        assert (named[1] if named else "") == KINDS[kind], (name, kind)
    served = {name for name in fleet.names if KINDS.get(hosts.get(name, ""), "") == ""}
    flipped = {name for name, kind in hosts.items() if kind in ("flip:dies", "flip:killed")}
    assert served <= set(at(fleet, 2)) <= served | flipped
    fleet.revive()
    fleet.publish(3)
    kill_in_the_middle(fleet)
    again = fleet.play()
    assert again.returncode == 0, again.output
    assert at(fleet, 3) == fleet.names
    assert Outcome.of(fleet, again, wanted=3, before=2).broken_invariants() == []
    quiet = fleet.play()
    assert (quiet.returncode, changed(quiet)) == (0, 0), quiet.output
    assert "Compare the image with the object" not in skipped(quiet)
    assert {"Make the pool", "Fetch the archive", "Unpack the archive onto a base volume"} <= skipped(quiet)


def skipped(done: Done) -> set[str]:
    """The tasks that were skipped on their first host."""
    return set(re.findall(r"^TASK \[\S+ : (.*)\] \**\nskipping: ", done.output, re.MULTILINE))


def kill_in_the_middle(fleet: Simulation) -> None:
    """Start a rollout of image 3 and kill its controller when a few hosts have it."""
    play = subprocess.Popen(
        fleet.command("rollout.yml", {"rollout_waves": [1, 2]}),
        env=fleet.environment(),
        cwd=fleet.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    until = time.monotonic() + 300
    while fleet.host(fleet.names[1]).points_at != digest(3) and time.monotonic() < until:
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(play.pid, signal.SIGKILL)
    play.wait()
    assert 0 < len(at(fleet, 3)) < len(fleet.names)


def test_a_replaced_object_splits_no_fleet_and_too_many_lost_hosts_take_all_back(fleet: Simulation) -> None:
    fleet.faults = {fleet.names[len(fleet.names) // 2]: "fetch:replaced"}
    replaced = fleet.play()
    assert replaced.returncode == 2
    assert at(fleet, 1) == fleet.names, "a host was switched although others had not got the same image"
    assert "untrusted" in "".join(replaced.lines("Stage"))

    fleet.revive()
    fleet.publish(2)
    ill, dead = fleet.names[2:4], fleet.names[4]
    fleet.faults = {**dict.fromkeys(ill, "flip:ill"), dead: "flip:unreachable"}
    done = fleet.play(rollout_max_lost=2, rollout_waves=[1, 4, 3])
    assert done.returncode == 2
    assert len(done.lines("Wave ")) == 2, "the wave after the one in which the budget was passed has begun"
    assert at(fleet, 1) == fleet.names
    assert Outcome.of(fleet, done, wanted=2, before=1).broken_invariants() == []
    rest = len(fleet.names) - 5
    assert done.lines("Verdict") == [
        f"Verdict    2 taken back · 2 went back · 1 could not be taken back · {rest} staged"
    ]
