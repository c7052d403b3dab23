# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a reboot everything that was there comes back, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

import pytest

from module_utils._errors import Busy, DamagedPool, ForeignDevice, Internal, NoSpace
from module_utils._lifecycle.findings import RecoveryKind
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.pool.restore import restore
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.snapshot.device_node import NodeAccess
from module_utils._lifecycle.snapshot.mode import Mode
from module_utils._lifecycle.store.records import Snapshot
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.disk import in_process
from tests.unit._lifecycle.machine import KEY, OTHER_ARCHIVE, POOL_BYTES, Machine

Way = Callable[[Machine], Outcome]


def restored(machine: Machine) -> Outcome:
    return machine.run(restore)


# The unit that runs when a host boots, and the first module of the next play.
ways = pytest.mark.parametrize("way", [restored, Machine.pool], ids=["unit", "play"])


@ways
@pytest.mark.parametrize("stage", ["pooled", "fetched", "unpacked", "activated"])
def test_every_state_comes_back_as_it_was(stages: Stages, stage: str, way: Way) -> None:
    if stage in ("unpacked", "activated"):
        needs_root()
    machine = stages.at(stage)
    before = {name: device["uuid"] for name, device in machine.fake.devices().items()}
    machine.fake.reboot()
    assert way(machine).changed
    assert {name: device["uuid"] for name, device in machine.fake.devices().items()} == before
    assert machine.left_over() == []
    assert not machine.pool().changed
    if stage == "activated":
        assert not machine.snapshot().changed


def test_what_is_there_is_let_alone(activated: Machine) -> None:
    devices = activated.fake.devices()
    assert not restored(activated).changed
    assert activated.fake.devices() == devices


@ways
def test_all_names_and_generations_of_an_image_come_back(activated: Machine, way: Way) -> None:
    activated.snapshot("second", read_only=True)
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    activated.fetch()
    activated.unpack()
    activated.snapshot()
    before = activated.fake.devices().keys()
    activated.fake.reboot()
    restored_devices = set(way(activated).facts["restored"]) - {"/dev/mapper/pool"}
    assert restored_devices == {one.device for one in activated.records(Snapshot)}
    assert activated.fake.devices().keys() == before
    assert len(before) == 4
    assert activated.left_over() == []


@ways
def test_a_snapshot_alone_comes_back_and_the_next_run_finds_nothing_to_do(activated: Machine, way: Way) -> None:
    activated.snapshot("second")
    device = activated.records(Snapshot)[1].device
    activated.fake.dm.remove(device.rpartition("/")[2])
    outcome = way(activated)
    assert (outcome.changed, outcome.facts["restored"]) == (True, [device])
    assert activated.left_over() == []
    assert not way(activated).changed
    before = activated.everything()
    assert not activated.pool().changed
    assert activated.everything() == before


def test_a_play_that_was_killed_between_pool_and_snapshots_is_resumed(activated: Machine) -> None:
    activated.snapshot("second")
    activated.fake.reboot()
    activated.killed_at("restore:mapping", activated.pool)
    assert set(activated.fake.devices()) == {"pool"}
    assert len(activated.pool().facts["restored"]) == 2
    assert activated.left_over() == []


def test_snapshots_come_back_in_a_pool_that_is_full_before_it_is_refused(activated: Machine) -> None:
    activated.fake.set_pool("pool", used_data_blocks=POOL_BYTES // (1 << 16))
    activated.fake.reboot()
    with pytest.raises(NoSpace):
        activated.pool(min_free_percent=10)
    assert len(activated.fake.devices()) == 2


@ways
def test_a_snapshot_whose_name_others_have_taken_is_reported_and_the_others_come_back(
    activated: Machine, way: Way
) -> None:
    activated.snapshot("second")
    first, second = (one.device.rpartition("/")[2] for one in activated.records(Snapshot))
    activated.fake.reboot()
    activated.fake.make_foreign(first, uuid="OTHER")
    with pytest.raises(ForeignDevice, match=first):
        way(activated)
    assert activated.fake.devices()[first]["uuid"] == "OTHER"
    assert second in activated.fake.devices()


def test_a_snapshot_that_is_being_removed_is_not_mapped_again(activated: Machine) -> None:
    """Its removal has unmapped it and not yet written down that it goes: the one that brings back waits for the removal's end."""
    [snapshot] = activated.records(Snapshot)
    with activated.host() as remover, remover.lock(f"image {KEY}"):
        activated.fake.dm.remove(snapshot.device.rpartition("/")[2])
        activated.lock_timeout_seconds = 0.1
        assert in_process(lambda: refused(activated)) == 0
    assert set(activated.fake.devices()) == {"pool"}


def refused(machine: Machine) -> None:
    with pytest.raises(Busy, match=f"image {KEY} is held by"):
        machine.pool()


@ways
def test_the_node_of_a_snapshot_has_its_owner_and_mode_again(activated: Machine, way: Way) -> None:
    activated.snapshot(access=NodeAccess(uid=1, mode=Mode(0o640)))
    activated.snapshot(access=NodeAccess(gid=2))
    path = activated.fake.root / "dev/mapper" / activated.records(Snapshot)[0].device.rpartition("/")[2]
    activated.fake.reboot()
    for volume in activated.root.glob(
        "volumes/*/*"
    ):  # the node of a simulated volume is the volume; a new node is root's
        if volume.is_file():
            os.chown(volume, 0, 0)
            volume.chmod(0o600)
    way(activated)
    seen = path.stat()
    assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o777) == (1, 2, 0o640)


def test_on_a_host_without_pools_nothing_is_done(virgin: Machine) -> None:
    assert not restored(virgin).changed
    assert virgin.fake.devices() == {}


def test_a_pool_in_trouble_is_reported_and_the_others_come_back(activated: Machine) -> None:
    activated.pool(name="other")
    activated.fake.set_pool("other", damaged=True)
    activated.fake.reboot()
    with pytest.raises(DamagedPool, match="thin_check refuses"):
        restored(activated)
    assert set(activated.fake.devices()) == {"pool", activated.records(Snapshot)[0].device.rpartition("/")[2]}


def test_a_fault_in_the_work_on_one_pool_does_not_keep_the_others_down(activated: Machine) -> None:
    activated.pool(name="other")
    activated.fake.reboot()
    with activated.host() as host, host.store.transaction():
        # No path has a zero byte in it, so what looks at this device fails as nothing expects it to.
        other = host.store.pool("other")
        assert other is not None
        host.store.put(other._replace(data="/dev/\0", is_loop=False))
    with pytest.raises(Internal, match="ValueError"):
        restored(activated)
    assert set(activated.fake.devices()) == {"pool", activated.records(Snapshot)[0].device.rpartition("/")[2]}


def test_an_older_pool_in_trouble_with_something_left_in_it_does_not_keep_the_others_down(stages: Stages) -> None:
    needs_root()
    machine = stages.at("fetched")
    machine.pool(name="other")
    machine.killed_at("base:sent", machine.unpack)
    machine.fake.reboot()
    machine.fake.refuse("dmsetup message pool", errno.EIO, times=9)
    outcome = restored(machine)
    assert {"/dev/mapper/pool", "/dev/mapper/other"} <= set(outcome.facts["restored"])
    assert (RecoveryKind.NOT_RECOVERED, KEY.value) in [(one.kind, one.subject) for one in outcome.settled]


def test_a_pool_that_is_torn_down_meanwhile_is_not_brought_back(pooled: Machine) -> None:
    def torn_down(host: Run) -> Outcome:
        lock = host.lock

        def removed_before_the_lock(name: str) -> contextlib.AbstractContextManager[None]:
            if name == "pool setup pool":
                host.lock = lock  # type: ignore[method-assign]  # once, as a race would have it
                pooled.tear_down()
            return lock(name)

        host.lock = removed_before_the_lock  # type: ignore[method-assign]  # as above
        return restore(host)

    assert not pooled.run(torn_down).changed
    assert pooled.left_over() == []


@pytest.mark.parametrize("label", ["base:sent", "unpack:written", "snapshot:mapped"])
def test_what_was_interrupted_by_the_reboot_is_settled(stages: Stages, label: str) -> None:
    needs_root()
    arrow = "snapshot" if label.startswith("snap") else "unpack"
    machine = stages.at("unpacked" if arrow == "snapshot" else "fetched")
    machine.killed_at(label, getattr(machine, arrow))
    machine.fake.reboot()
    assert RecoveryKind.OPERATION_UNDONE in [one.kind for one in restored(machine).settled]
    assert machine.left_over() == []
