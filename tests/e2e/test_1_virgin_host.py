"""A host that has never seen the collection: what is predicted, and what is refused before anything is made."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import REDIS_KEY
from tests.e2e.machine import Machine

pytestmark = pytest.mark.timeout(1800)

# State directory, tables of device-mapper, loops, mounts: one hash of all of it.
HASH = """(find /var/lib -printf '%p %m %s %T@\\n' | grep flyd; find /var/lib/flyd -type f -exec sha256sum {} +
dmsetup table; dmsetup info -c --noheadings; losetup --list; cat /proc/self/mountinfo) 2>&1 | sha256sum"""


def test_check_mode_predicts_four_changes_and_leaves_no_trace(prepared: Machine) -> None:
    before, traces = prepared.ssh(HASH), prepared.traces()
    play = prepared.play("playbooks/activate.yml", check=True, key=REDIS_KEY)
    assert (play.returncode, play.changed) == (0, 4), play.output
    assert (prepared.ssh(HASH), prepared.traces()) == (before, traces)
    assert traces["files"] == ""
    for line in ("/dev/mapper/pool", "base-<new ULID>", "snap-<new ULID>", "activated"):
        assert line in play.output, "the diff tells state, devices and pool"


def test_a_kernel_without_the_thin_pool_target_is_reported_before_anything_is_made(prepared: Machine) -> None:
    blocked = "/etc/modprobe.d/without-thin-pool.conf"
    prepared.ssh(f"modprobe --remove dm_thin_pool; echo 'install dm_thin_pool /bin/false' > {blocked}")
    try:
        result = prepared.module("flyd_pool")
        assert (result["error_kind"], result["retryable"]) == ("unsupported", False)
        assert "thin-pool" in result["msg"]
        assert result["hint"]
        traces = prepared.traces()
        assert (traces["devices"].strip(), traces["loops"]) in (("No devices found", ""), ("", ""))
        assert "pools" not in traces["files"]
    finally:
        prepared.ssh(f"rm {blocked}")


def test_unpacking_what_was_never_fetched_is_refused(prepared: Machine) -> None:
    result = prepared.module("flyd_unpack", key="images/never.tar")
    assert result["error_kind"] == "out_of_order"
    assert "flyd_fetch" in result["hint"]
