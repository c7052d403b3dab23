# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest fills its pool: the pool grows before it is full, and at its maximum the guest gets errors, not hangs, until something is removed.

The guest is a writer to the device of a snapshot. The tests run in order; each finds the machine as the one before has left it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from module_utils._thin.pool.reserve import RESERVED_ID
from tests.campaigns.harness.target import STATE_DIR, Step, Target
from tests.e2e.machine import Machine
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

KEY = "growth/image.tar"
MIB = 1 << 20
FIRST, MOST = 128, 384  # of the pool, in MiB
POOL: dict[str, Any] = {"data_size": f"{FIRST}M", "max_size": f"{MOST}M", "grow_reserve": "128M"}
GROW = "flyd-grow.service"
NEVER_FULL = "dmesg | grep -c 'switching pool to out-of-data-space' || true"
METADATA = "/var/tmp/restored-metadata"


class Host:
    """The machine with its pool and two snapshots, which are the guests' devices."""

    def __init__(self, target: Target, devices: dict[str, str]) -> None:
        self.target = target
        self.devices = devices

    def pool(self, **options: Any) -> dict[str, Any]:
        [result] = self.target.drive([Step("flyd_pool", {**POOL, **options})])
        assert not result.get("failed"), result
        return result

    def info(self) -> dict[str, Any]:
        [result] = self.target.drive([Step("flyd_info", {"what": ["pools", "drift"]})])
        return result

    def size_bytes(self) -> int:
        """Of the pool's data."""
        [pool] = self.info()["pools"]
        return int(pool["data"]["size"])

    def size(self) -> int:
        """Of the pool's data, in whole MiB."""
        return self.size_bytes() // MIB

    def write(self, guest: str, first: int, count: int, *, pause_seconds: float = 0.0, limit_seconds: int = 120) -> str:
        """Let a guest write so many MiB from there on; "written", "failed" or, when it hangs, "late"."""
        device = self.devices[guest]
        paced = (
            f"for i in $(seq {first} {first + count - 1}); do"
            f" dd if=/dev/urandom of={device} bs=1M seek=$i count=1 oflag=direct status=none || exit 1; sleep {pause_seconds}; done"
        )
        at_once = f"dd if=/dev/zero of={device} bs=1M seek={first} count={count} oflag=direct conv=fsync status=none"
        command = paced if pause_seconds else at_once
        return self.target.ssh(
            f"timeout --signal=KILL {limit_seconds} bash -c '{command}' 2> /root/writer;"
            " case $? in 0) echo written;; 124 | 137) echo late;; *) echo failed;; esac"
        ).strip()


@pytest.fixture(scope="module")
def host(prepared: Machine, target: Target, upload: Callable[[str, bytes], None]) -> Host:
    upload(KEY, images.docker_archive([tar.tar(tar.file(b"hello", b"world"))]))
    of_image: dict[str, Any] = {"key": KEY}
    steps = [
        Step("flyd_pool", POOL),
        Step("flyd_fetch", {**of_image, **prepared.s3_options()}),
        Step("flyd_unpack", of_image),
        *(Step("flyd_snapshot", {**of_image, "name": name, "size": "2G"}) for name in ("guest", "other")),
    ]
    made = target.drive(steps)
    assert len(made) == len(steps), made[-1]
    assert not any(result.get("failed") for result in made), made
    target.ssh("dmesg --clear")
    return Host(target, {result["name"]: result["device"] for result in made[-2:]})


def test_the_service_runs_and_takes_little(host: Host) -> None:
    assert host.target.ssh(f"systemctl is-active {GROW}").strip() == "active"
    memory = int(host.target.ssh(f"systemctl show --property=MemoryCurrent --value {GROW}"))
    print(f"{GROW} has {memory / MIB:.1f} MiB")
    assert memory < 64 * MIB


def test_a_pool_grows_before_it_is_full_while_a_guest_writes(host: Host) -> None:
    """Past the first size, at some 15 MiB a second."""
    assert host.write("guest", 64, FIRST + 32, pause_seconds=0.05) == "written"
    assert host.size() > FIRST
    assert host.target.ssh(NEVER_FULL).strip() == "0"
    assert "grown: the pool" in host.target.ssh(f"journalctl --unit {GROW} --boot")
    assert host.target.violations() == []


def test_the_play_that_made_the_pool_changes_nothing_now(host: Host) -> None:
    assert host.pool()["changed"] is False


def test_the_service_comes_back_when_it_is_killed_and_goes_on(host: Host) -> None:
    host.target.ssh(f"systemctl kill --signal=KILL {GROW}; sleep 8")
    assert host.target.ssh(f"systemctl is-active {GROW}").strip() == "active"
    before = host.size()
    assert host.write("other", 64, before - FIRST + 16, pause_seconds=0.05) == "written"
    assert host.size() > before


def test_at_its_maximum_the_guest_gets_errors_and_no_hang(host: Host) -> None:
    begun = time.monotonic()
    assert host.write("guest", 300, MOST, pause_seconds=0.05) == "failed"
    assert time.monotonic() - begun < 90
    assert host.size() == MOST
    assert host.write("guest", 900, 1, limit_seconds=10) == "failed"
    kinds = [one["kind"] for one in host.info()["drift"]]
    assert "pool_cannot_grow" in kinds
    assert "larger max_size" in host.target.ssh(f"grep -h '\"cannot grow\"' {STATE_DIR}/log/flyd.jsonl | tail -n 1")


def test_the_next_removal_lets_the_guest_go_on(host: Host) -> None:
    [removed] = host.target.drive([Step("flyd_snapshot", {"key": KEY, "name": "other", "state": "absent"})])
    assert removed["changed"], removed
    assert host.write("guest", 900, 8, limit_seconds=30) == "written"
    [pool] = host.info()["pools"]
    assert pool["status"] == "rw"
    assert host.target.violations() == []


def test_a_writer_as_fast_as_the_disk_waits_for_the_growth_where_writes_are_queued(host: Host) -> None:
    """error_if_no_space false: a pool that is full for a moment holds writes back until it has grown."""
    assert host.pool(max_size="900M", error_if_no_space=False)["changed"]
    assert host.write("guest", 400, 300, limit_seconds=100) == "written"
    assert MOST < host.size() <= 900
    [pool] = host.info()["pools"]
    assert pool["status"] == "rw"


def test_queued_writes_fail_after_a_minute_at_the_maximum(host: Host) -> None:
    """The device is larger than the pool may become."""
    assert host.pool(max_size=f"{host.size_bytes()}B", error_if_no_space=False)["changed"]
    begun = time.monotonic()
    assert host.write("guest", 64, 1023, limit_seconds=240) == "failed"
    assert 45 < time.monotonic() - begun < 240
    host.pool(max_size="1500M", error_if_no_space=False)
    assert host.write("guest", 64, 1023, limit_seconds=240) == "written"


def test_the_metadata_is_dumped_and_can_be_restored(host: Host) -> None:
    host.target.ssh("systemctl start flyd-backup.service")
    [path] = host.target.ssh(f"ls {STATE_DIR}/backup/pool/*.xml.gz").split()
    host.target.ssh(
        f"zcat {path} > {METADATA}.xml && truncate --size 64M {METADATA}"
        f" && thin_restore -i {METADATA}.xml -o {METADATA} && thin_check -q {METADATA}"
    )
    # The thin id of the volume over the pool's start, which is no guest's, is not in the database.
    command = f"grep '<device ' {METADATA}.xml | grep -vc 'dev_id=\"{RESERVED_ID}\"'; rm {METADATA} {METADATA}.xml"
    ids = host.target.ssh(command).strip()
    volumes = host.target.ssh(f"sqlite3 -readonly {STATE_DIR}/flyd.db 'SELECT COUNT(*) FROM volumes'").strip()  # noqa: S608 - our own
    assert ids == volumes
    assert host.target.ssh("dmsetup status --noflush pool").split()[6] == "-"  # no metadata snapshot is held
    host.target.ssh("systemctl start flyd-backup.service")
    assert host.target.ssh(f"ls {STATE_DIR}/backup/pool").split() == [path.rpartition("/")[2]]
    # By now the guest has written over its own file system.
    assert [line for line in host.target.violations() if not line.startswith("sound: ")] == []


def test_the_pool_goes_and_the_service_stays_for_the_next(host: Host) -> None:
    [gone] = host.target.drive([Step("flyd_pool", {"state": "absent", "force": True})])
    assert gone["changed"], gone
    assert host.target.ssh(f"sleep 2; systemctl is-active {GROW}").strip() == "active"
    assert host.target.ssh(f"ls {STATE_DIR}").split().count("backup") == 0
    assert host.target.violations() == []
