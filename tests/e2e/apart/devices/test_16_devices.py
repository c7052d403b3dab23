# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool on logical volumes of a second disk: activation, growth, a disk that comes late at boot, removal, and pools that others have made.

The tests run in order; each finds the machine as the one before has left it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.machine import Machine, lab
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

KEY = "devices/image.tar"
MIB = 1 << 20
DEVICES = {"data_device": "/dev/vg0/flyd_data", "metadata_device": "/dev/vg0/flyd_metadata"}
POOL: dict[str, Any] = {**DEVICES, "data_size": "256M", "max_size": "100%"}
VOLUMES = "vgchange -q -a y vg0 >/dev/null; udevadm settle"
LVCREATE = "lvcreate -q --yes --wipesignatures n --zero y"
MADE_BY_HAND = (
    "dmsetup create byhand --table"
    ' "0 $(blockdev --getsz /dev/vg0/flyd_data) thin-pool /dev/vg0/flyd_metadata /dev/vg0/flyd_data 128 0"'
)
INSTALL = """export DEBIAN_FRONTEND=noninteractive
command -v lvcreate >/dev/null || { apt-get -qq update && apt-get -qq install --yes --no-install-recommends lvm2; } > /root/install.log 2>&1 ||
    { cat /root/install.log >&2; exit 1; }"""


class Host:
    """The machine with its volume group."""

    def __init__(self, target: Target, machine: Machine) -> None:
        self.target = target
        self._s3 = machine.s3_options()

    def run(self, module: str, **options: Any) -> dict[str, Any]:
        result = self.attempt(module, **options)
        assert not result.get("failed"), result
        return result

    def attempt(self, module: str, **options: Any) -> dict[str, Any]:
        [result] = self.target.drive([Step(module, options)])
        return result

    def activate(self) -> dict[str, Any]:
        """From the pool to a snapshot; the result of the last."""
        self.run("flyd_pool", **POOL)
        self.run("flyd_fetch", key=KEY, **self._s3)
        self.run("flyd_unpack", key=KEY)
        return self.run("flyd_snapshot", key=KEY, size="2G")

    def deactivate(self) -> None:
        self.run("flyd_fetch", key=KEY, state="absent", force=True)
        self.run("flyd_pool", state="absent")

    def data_size(self) -> int:
        """Of the pool, in MiB."""
        [pool] = self.run("flyd_info", what=["pools"])["pools"]
        return int(pool["data"]["size"]) // MIB

    def fill(self, device: str, first: int, count: int) -> None:
        """Let a guest write so many MiB from there on, slower than a pool of this size grows."""
        self.target.ssh(
            f"for i in $(seq {first} {first + count - 1}); do dd if=/dev/urandom of={device} bs=1M seek=$i count=1 oflag=direct"
            " conv=notrunc status=none || exit 1; sleep 0.1; done"
        )

    def is_blank(self, device: str) -> bool:
        return self.target.ssh(f"head -c 4096 {device} | tr -d '\\0' | wc -c").strip() == "0"


@pytest.fixture(scope="module")
def host(prepared: Machine, target: Target, upload: Callable[[str, bytes], None]) -> Host:
    upload(KEY, images.docker_archive([tar.tar(tar.file(b"hello", b"world"))]))
    target.ssh(INSTALL)
    lab("attach", prepared.name, "--new")
    target.ssh(
        f"pvcreate -q /dev/vdb && vgcreate -q vg0 /dev/vdb && {LVCREATE} -L 512M -n flyd_data vg0 &&"
        f" {LVCREATE} -L 192M -n flyd_metadata vg0"
    )
    return Host(target, prepared)


def test_a_pool_on_volumes_serves_a_guest(host: Host) -> None:
    device = host.activate()["device"]
    host.target.ssh(f"yes guest | head -c 64K | dd of={device} bs=64K seek=5000 conv=fsync,notrunc status=none")
    assert host.run("flyd_pool", **POOL)["changed"] is False
    assert host.target.violations() == []
    assert host.target.ssh("losetup --list --noheadings | grep flyd || true") == ""


def test_it_grows_to_the_end_of_the_volume_and_further_once_that_is_larger(host: Host) -> None:
    assert host.data_size() == 256
    device = host.run("flyd_snapshot", key=KEY)["device"]
    host.fill(device, 400, 330)
    assert 256 < host.data_size() <= 512
    host.target.ssh("lvextend -q -L 1G vg0/flyd_data >/dev/null")
    host.fill(device, 800, 240)
    assert (
        512 < host.data_size() <= 1024
    )  # the guest has written over its own file system, which the checker would report


def test_a_disk_that_comes_late_is_served_then(host: Host, prepared: Machine) -> None:
    """The unit has failed for the lack of it, with a reason; what guests wrote is there again."""
    device = host.run("flyd_snapshot", key=KEY)["device"]
    written = f"dd if={device} bs=64K skip=5000 count=1 status=none | sha256sum"
    before = host.target.ssh(written)
    lab("cut", prepared.name)
    host.target.ssh("systemctl start flyd-restore.service || true")
    said = host.target.ssh("journalctl --boot --no-pager --unit flyd-restore.service")
    assert DEVICES["metadata_device"] in said or DEVICES["data_device"] in said, said
    assert host.attempt("flyd_snapshot", key=KEY)["failed"]
    lab("attach", prepared.name)
    host.target.ssh(f"{VOLUMES}; systemctl restart flyd-restore.service")
    assert host.target.ssh(written) == before
    assert host.run("flyd_snapshot", key=KEY)["changed"] is False
    # LVM was installed behind prepare, which is reported: it would set the filter.
    assert [one["kind"] for one in host.run("flyd_info", what=["drift"])["drift"]] == ["lvm_filter"]


def test_a_removal_leaves_the_metadata_blank(host: Host) -> None:
    host.deactivate()
    assert host.is_blank(DEVICES["metadata_device"])
    assert host.target.violations() == []


def test_a_pool_that_is_active_or_has_volumes_is_not_adopted(host: Host) -> None:
    host.target.ssh(MADE_BY_HAND)
    used = host.attempt("flyd_pool", **POOL, adopt=True)
    assert (used["error_kind"], "byhand" in used["msg"]) == ("busy", True), used
    host.target.ssh('dmsetup message byhand 0 "create_thin 0" && dmsetup remove byhand')
    before = host.target.ssh(f"sha256sum {DEVICES['metadata_device']}")
    full = host.attempt("flyd_pool", **POOL, adopt=True)
    assert (full["error_kind"], "has volumes (1)" in full["msg"]) == ("bad_input", True), full
    assert host.target.ssh(f"sha256sum {DEVICES['metadata_device']}") == before


def test_an_empty_pool_made_by_hand_is_adopted_when_that_is_asked_for(host: Host) -> None:
    host.target.ssh(f'{MADE_BY_HAND} && dmsetup message byhand 0 "delete 0" && dmsetup remove byhand')
    assert host.attempt("flyd_pool", **POOL)["error_kind"] == "bad_input"
    assert host.run("flyd_pool", **POOL, adopt=True)["changed"]
    assert host.run("flyd_pool", **POOL, adopt=True)["changed"] is False
    assert host.activate()["device"]
    host.deactivate()


def test_a_thin_pool_of_lvm_is_refused_until_it_is_made_two_volumes(host: Host) -> None:
    """As docs/guides/block-devices.md describes it."""
    host.target.ssh(
        "lvremove -q --yes vg0/flyd_data vg0/flyd_metadata && lvcreate -q --type thin-pool -L 256M --poolmetadatasize 192M -n thinpool vg0"
    )
    parts = {"data_device": "/dev/mapper/vg0-thinpool_tdata", "metadata_device": "/dev/mapper/vg0-thinpool_tmeta"}
    used = host.attempt("flyd_pool", **{**POOL, **parts, "data_size": "128M"}, adopt=True)
    assert (used["error_kind"], "vg0-thinpool" in used["msg"]) == ("busy", True), used
    assert host.target.ssh("lvs --noheadings -o lv_health_status vg0/thinpool").strip() == ""
    host.target.ssh(
        f"lvremove -q --yes vg0/thinpool && {LVCREATE} -L 512M -n flyd_data vg0 && {LVCREATE} -L 192M -n flyd_metadata vg0"
    )
    assert host.activate()["device"]
    host.deactivate()
    assert host.target.violations() == []
