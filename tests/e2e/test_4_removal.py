"""Removal: nothing of the collection is left, nothing of others is touched, and a second removal changes nothing."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import REDIS_KEY
from tests.e2e.machine import Machine, Play

pytestmark = pytest.mark.timeout(1800)

# Another program's: devices, loops and files with names like ours, without our UUID. Their thin volume has the thin id of our base.
LOOK_ALIKES = """set -e
truncate -s 8M /root/snap-foreign /root/metadata && truncate -s 32M /root/data
for file in snap-foreign metadata data; do losetup --find --show /root/$file; done > /root/foreign.loops
set -- $(cat /root/foreign.loops)
dmsetup create snap-01ARZ3NDEKTSV4RRFFQ69G5FAV --table "0 16384 linear $1 0"
dmsetup create pool-of-others --uuid OTHERS-FLYD-pool --table "0 65536 thin-pool $2 $3 128 0"
dmsetup message pool-of-others 0 "create_thin 1"
dmsetup create base-01ARZ3NDEKTSV4RRFFQ69G5FAW --table "0 8192 thin /dev/mapper/pool-of-others 1"
mkdir -p /root/pools/01ARZ3NDEKTSV4RRFFQ69G5FAX && echo theirs > /root/pools/01ARZ3NDEKTSV4RRFFQ69G5FAX/data
mkdir -p /var/lib/flyd/pools/01ARZ3NDEKTSV4RRFFQ69G5FAX && echo theirs > /var/lib/flyd/pools/01ARZ3NDEKTSV4RRFFQ69G5FAX/data
"""
# And in our own pool: a thin id that the store does not know, mapped under a name like ours, with something in it.
GUEST = "snap-01ARZ3NDEKTSV4RRFFQ69G5FAY"
IN_OUR_POOL = f"""set -e
dmsetup message pool 0 "create_thin 5000"
dmsetup create {GUEST} --table "0 8192 thin /dev/mapper/pool 5000"
yes theirs | head -c 1M | dd of=/dev/mapper/{GUEST} conv=fsync status=none
"""
IN_OUR_POOL_THEN = f"dmsetup info -c --noheadings {GUEST}; dmsetup table {GUEST}; sha256sum /dev/mapper/{GUEST}"
THEIRS = """for name in snap-01ARZ3NDEKTSV4RRFFQ69G5FAV pool-of-others base-01ARZ3NDEKTSV4RRFFQ69G5FAW
do dmsetup info -c --noheadings $name; dmsetup table $name; done
dmsetup status --noflush pool-of-others; losetup --list --noheadings --output NAME,BACK-FILE $(cat /root/foreign.loops)
sha256sum /root/snap-foreign /root/metadata /root/pools/*/data /var/lib/flyd/pools/01ARZ3NDEKTSV4RRFFQ69G5FAX/data
"""
REMOVE_LOOK_ALIKES = """dmsetup remove base-01ARZ3NDEKTSV4RRFFQ69G5FAW snap-01ARZ3NDEKTSV4RRFFQ69G5FAV
dmsetup remove pool-of-others; losetup --detach $(cat /root/foreign.loops)
rm -r /root/snap-foreign /root/metadata /root/data /root/pools /var/lib/flyd/pools
"""


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
    assert prepared.module("flyd_info")["operations"] == []


def test_deactivation_and_teardown_leave_only_what_is_foreign(prepared: Machine, activation: Play) -> None:
    prepared.ssh(LOOK_ALIKES + IN_OUR_POOL)
    theirs, guest = prepared.ssh(THEIRS), prepared.ssh(IN_OUR_POOL_THEN)
    archive = prepared.ssh("ls -S /var/lib/flyd/archives | head -1").strip()
    first = prepared.play("playbooks/deactivate.yml", deactivate_key=REDIS_KEY)
    assert (first.returncode, first.changed) == (0, 1), first.output
    again = prepared.play("playbooks/deactivate.yml", deactivate_key=REDIS_KEY)
    assert (again.returncode, again.changed) == (0, 0), again.output
    held = prepared.module("flyd_pool", state="absent", force=True)
    assert (held["error_kind"], GUEST in held["msg"]) == ("foreign_device", True), held
    assert prepared.ssh(IN_OUR_POOL_THEN) == guest
    assert prepared.module("flyd_info")["operations"] == []
    prepared.ssh(f"dmsetup remove {GUEST}")
    torn = prepared.play("playbooks/teardown.yml", teardown_force="true")
    assert (torn.returncode, torn.changed) == (0, 1), torn.output
    assert prepared.play("playbooks/teardown.yml").changed == 0
    traces = prepared.traces()
    assert [line.split()[0] for line in traces["devices"].splitlines()] == [
        "base-01ARZ3NDEKTSV4RRFFQ69G5FAW",
        "pool-of-others",
        "snap-01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ]
    assert traces["loops"].split() == ["/root/data", "/root/metadata", "/root/snap-foreign"]
    ours = [path for path in traces["files"].splitlines() if "01ARZ3NDEKTSV4RRFFQ69G5FAX" not in path]
    assert [path for path in ours if "/pools/" in path or archive in path] == []
    assert "/mnt/" not in traces["mounts"]
    assert traces["intents"] == ""
    assert prepared.ssh(THEIRS) == theirs
    prepared.ssh(REMOVE_LOOK_ALIKES)
