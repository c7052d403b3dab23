"""Removal: nothing of ours is left, nothing of others is touched, and a second removal changes nothing."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import REDIS_KEY
from tests.e2e.machine import Machine, Play

pytestmark = pytest.mark.timeout(1800)

# Somebody else's: names that look like ours, without our UUID.
LOOK_ALIKES = """
truncate -s 8M /root/snap-foreign && losetup --find --show /root/snap-foreign > /root/foreign.loop
dmsetup create snap-01ARZ3NDEKTSV4RRFFQ69G5FAV --table "0 16384 linear $(cat /root/foreign.loop) 0"
"""
THEIRS = """dmsetup info -c --noheadings -o name,uuid snap-01ARZ3NDEKTSV4RRFFQ69G5FAV
losetup --list --noheadings $(cat /root/foreign.loop)
sha256sum /root/snap-foreign
"""
REMOVE_LOOK_ALIKES = "dmsetup remove snap-01ARZ3NDEKTSV4RRFFQ69G5FAV; losetup --detach $(cat /root/foreign.loop)"


def test_a_pool_with_images_is_not_torn_down(prepared: Machine, activation: Play) -> None:
    before = prepared.traces()
    result = prepared.module("flyd_pool", state="absent")
    assert result["error_kind"] == "out_of_order"
    assert REDIS_KEY in result["msg"]
    assert prepared.traces() == before


def test_a_base_with_snapshots_is_not_removed(prepared: Machine, activation: Play) -> None:
    before = prepared.traces()
    result = prepared.module("flyd_unpack", key=REDIS_KEY, state="absent")
    assert result["error_kind"] == "out_of_order"
    assert activation.device in result["msg"]
    assert prepared.traces() == before


def test_a_snapshot_in_use_stays_and_the_error_names_the_user(prepared: Machine, activation: Play) -> None:
    prepared.ssh(f"sleep 600 < {activation.device} > /dev/null 2>&1 & echo $! > /root/sleeper")
    try:
        result = prepared.module("flyd_snapshot", key=REDIS_KEY, state="absent")
        assert (result["error_kind"], result["retryable"]) == ("busy", True)
        assert prepared.ssh("cat /root/sleeper").strip() in result["msg"]
    finally:
        prepared.ssh("kill $(cat /root/sleeper)")
    assert prepared.module("flyd_info")["transitions"] == []


def test_deactivation_and_teardown_leave_nothing_of_ours_and_all_of_theirs(prepared: Machine, activation: Play) -> None:
    prepared.ssh(LOOK_ALIKES)
    theirs = prepared.ssh(THEIRS)
    first = prepared.play("playbooks/deactivate.yml", key=REDIS_KEY)
    assert (first.returncode, first.changed) == (0, 2), first.output
    again = prepared.play("playbooks/deactivate.yml", key=REDIS_KEY)
    assert (again.returncode, again.changed) == (0, 0), again.output
    torn = prepared.play("playbooks/teardown.yml", force="true")
    assert (torn.returncode, torn.changed) == (0, 1), torn.output
    assert prepared.play("playbooks/teardown.yml").changed == 0
    traces = prepared.traces()
    assert traces["devices"].split()[0] == "snap-01ARZ3NDEKTSV4RRFFQ69G5FAV"
    assert len(traces["devices"].splitlines()) == 1
    assert traces["loops"].split() == ["/root/snap-foreign"]
    assert "/var/lib/flyd/pools/" not in traces["files"]
    assert traces["intents"] == ""
    assert prepared.ssh(THEIRS) == theirs
    prepared.ssh(REMOVE_LOOK_ALIKES)
