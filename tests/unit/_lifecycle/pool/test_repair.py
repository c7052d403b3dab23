# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A damaged pool is repaired when that is asked for, from a copy, and what could not be saved is reported."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import Busy, CommandFailed, DamagedPool, OutOfOrder
from module_utils._lifecycle.findings import Finding, RecoveryKind
from module_utils._lifecycle.store.records import Image, PoolRecord, Snapshot, State, Volume
from tests.unit._lifecycle.machine import KEY, METADATA_BYTES, Machine
from tests.unit.fakes.kernel import BLOCK_BYTES

pytestmark = pytest.mark.slow


def pool_of(machine: Machine) -> PoolRecord:
    [found] = machine.records(PoolRecord)
    assert isinstance(found, PoolRecord)
    return found


def copies(machine: Machine) -> list[Path]:
    return sorted(Path(pool_of(machine).metadata).parent.glob("*.before-repair-*"))


def damage(machine: Machine, **facts: Any) -> bytes:
    """Damage the metadata, of a pool that is up; the metadata as it is then."""
    machine.fake.set_pool("pool", damaged=True, needs_check=True, **facts)
    return Path(pool_of(machine).metadata).read_bytes()


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_sound_pool_is_let_alone(pooled: Machine, rebooted: bool) -> None:
    if rebooted:
        pooled.fake.reboot()
    before = pooled.everything()
    outcome = pooled.repair()
    assert (outcome.changed, outcome.facts["trouble"]) == (False, "")
    assert pooled.everything() == before


def test_there_must_be_a_pool(virgin: Machine) -> None:
    with pytest.raises(OutOfOrder, match="no pool 'pool' to repair"):
        virgin.repair()


def test_a_pool_whose_list_of_volumes_is_damaged_is_repaired_while_the_kernel_has_not_noticed(
    activated: Machine,
) -> None:
    damage_details(activated)
    for refused in (activated.pool, activated.remove_pool):
        with pytest.raises((DamagedPool, OutOfOrder)):
            refused()
    outcome = activated.repair()
    assert "is damaged" in outcome.facts["trouble"]
    assert activated.left_over() == []
    assert not activated.pool().changed


def damage_details(machine: Machine) -> None:
    with open(pool_of(machine).metadata, "r+b") as file:
        file.seek(BLOCK_BYTES)
        file.write(bytes(BLOCK_BYTES))


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_damaged_pool_is_repaired_and_its_old_metadata_kept(activated: Machine, rebooted: bool) -> None:
    old = damage(activated)
    device = activated.records(Snapshot)[0].device
    if rebooted:
        activated.fake.reboot()
    with pytest.raises(DamagedPool) as refused:
        activated.pool()
    assert "state: repaired" in refused.value.hint
    outcome = activated.repair()
    assert outcome.changed
    assert outcome.facts["lost"] == []
    image = activated.image()
    assert image is not None
    assert outcome.facts["bases"] == [image.pool_device]
    assert [path.read_bytes() for path in copies(activated)] == [old]
    assert outcome.facts["metadata_copy"] == str(copies(activated)[0])
    assert activated.left_over() == []
    assert not activated.pool().changed
    assert (activated.snapshot().changed, activated.records(Snapshot)[0].device) == (False, device)


def test_check_mode_says_what_is_wrong_and_writes_nothing(activated: Machine) -> None:
    damage(activated)
    before = activated.everything()
    outcome = activated.repair(dry_run=True)
    assert (outcome.changed, "needs_check" in outcome.facts["trouble"]) == (True, True)
    assert activated.everything() == before


def test_a_volume_that_could_not_be_saved_is_reported_and_made_again(activated: Machine) -> None:
    base = next(one for one in activated.records(Volume) if one.kind == "base")
    damage(activated, lost=[base.thin_id])
    outcome = activated.repair()
    assert [(one["kind"], one["subject"]) for one in outcome.facts["lost"]] == [("volume_missing", base.device_path)]
    image = activated.image()
    assert image is not None
    assert (image.state, image.base_ulid, image.snap_device) == (
        State.FETCHED,
        "",
        activated.records(Snapshot)[0].device,
    )
    assert activated.left_over() == []
    assert activated.unpack().changed
    assert activated.snapshot().changed
    assert activated.states() == [State.ACTIVATED]
    assert not activated.snapshot().changed


def test_a_base_whose_file_system_is_damaged_is_removed_and_its_snapshot_kept(activated: Machine) -> None:
    base = next(one for one in activated.records(Volume) if one.kind == "base")
    damage(activated)
    activated.fake.refuse("e2fsck -f -n", 5)
    outcome = activated.repair()
    [lost] = outcome.facts["lost"]
    assert (lost["kind"], lost["subject"]) == ("base_damaged", base.device_path)
    assert "file system is damaged" in lost["text"]
    assert [one.kind for one in activated.records(Volume)] == ["snap"]
    assert activated.states() == [State.FETCHED]
    assert activated.left_over() == []


@pytest.mark.parametrize("number", [-9, 32, 127])
def test_that_a_base_could_not_be_looked_at_does_not_cost_it(
    damaged: Machine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_answer(_runner: object, device: str) -> None:
        raise CommandFailed(f"e2fsck of {device} ended with {number}", hint="", returncode=number)

    with monkeypatch.context() as once:
        once.setattr("module_utils._lifecycle.volumes.check_bases.check", no_answer)
        with pytest.raises(CommandFailed, match=f"ended with {number}"):
            damaged.repair()
    bases = [one.ulid for one in damaged.records(Volume) if one.kind == "base"]
    assert len(bases) == 1
    assert len(damaged.repair().facts["bases"]) == 1
    assert damaged.left_over() == []


def test_that_a_base_cannot_be_mapped_does_not_cost_it(damaged: Machine) -> None:
    damaged.fake.refuse("dmsetup create base-", errno.EIO)
    with pytest.raises(CommandFailed):
        damaged.repair()
    assert len(damaged.repair().facts["bases"]) == 1


def test_the_removal_of_a_damaged_base_can_be_interrupted(activated: Machine) -> None:
    damage(activated)
    activated.fake.refuse("e2fsck -f -n", 5)
    activated.killed_at("delete:discarded", activated.repair)
    assert activated.states() == [State.FETCHED]
    assert activated.repair().changed
    assert [one.kind for one in activated.records(Volume)] == ["snap"]
    assert activated.left_over() == []


def test_metadata_that_was_restored_by_hand_is_taken_instead_of_the_copy(activated: Machine) -> None:
    sound = Path(pool_of(activated).metadata).read_bytes()
    damage(activated)
    activated.fake.refuse("thin_repair", 5)
    with pytest.raises(DamagedPool) as refused:
        activated.repair()
    assert "restore the metadata from a backup" in refused.value.hint
    Path(pool_of(activated).metadata).write_bytes(sound)
    outcome = activated.repair()
    assert (outcome.facts["lost"], len(outcome.facts["bases"])) == ([], 1)
    assert Path(pool_of(activated).metadata).read_bytes() == sound
    assert activated.left_over() == []
    assert not activated.pool().changed


def test_a_device_in_use_stops_the_repair_before_anything_is_written(activated: Machine) -> None:
    old = damage(activated)
    activated.fake.hold(Path(activated.records(Snapshot)[0].device).name)
    with pytest.raises(Busy):
        activated.repair()
    assert copies(activated) == []
    assert Path(pool_of(activated).metadata).read_bytes() == old


def test_what_cannot_be_repaired_stays_as_it_is_and_its_copy_too(activated: Machine) -> None:
    old = damage(activated)
    activated.fake.refuse("thin_repair", 5)
    with pytest.raises(DamagedPool, match="can make nothing"):
        activated.repair()
    assert Path(pool_of(activated).metadata).read_bytes() == old
    assert activated.repair().changed
    assert activated.left_over() == []


@pytest.mark.parametrize(
    "label", ["repair:planned", "repair:copied", "repair:written", "repair:swapped", "repair:recorded"]
)
def test_until_a_repair_has_come_to_its_end_nothing_else_works_with_the_pool(damaged: Machine, label: str) -> None:
    damaged.killed_at(label, damaged.repair)
    with pytest.raises((OutOfOrder, DamagedPool)):
        damaged.pool()
    with pytest.raises(OutOfOrder):
        damaged.snapshot("other")
    damaged.fake.reboot()
    damaged.repair()
    assert damaged.left_over() == []
    assert [path.name for path in copies(damaged)] == [Path(copies(damaged)[0]).name]


def test_a_repair_that_was_interrupted_at_its_very_end_is_finished_by_the_next_one(damaged: Machine) -> None:
    [snapshot] = damaged.records(Snapshot)
    damaged.killed_at("restore:mapping", damaged.repair)
    assert damaged.left_over() != []
    before = damaged.everything()
    looked = damaged.repair(dry_run=True)
    assert (looked.changed, looked.facts["restored"]) == (True, [snapshot.device])
    assert damaged.everything() == before
    again = damaged.repair()
    assert (again.changed, again.facts["restored"], again.facts["trouble"]) == (True, [snapshot.device], "")
    assert damaged.left_over() == []
    assert not damaged.repair().changed


def test_the_new_metadata_can_be_larger(activated: Machine) -> None:
    damage(activated)
    assert activated.repair(metadata_bytes=2 * METADATA_BYTES).changed
    assert pool_of(activated).metadata_bytes == 2 * METADATA_BYTES
    assert activated.left_over() == []
    assert not activated.pool(metadata_bytes=2 * METADATA_BYTES).changed


def test_the_copies_go_with_the_pool(damaged: Machine) -> None:
    damaged.repair()
    damaged.remove_pool(force=True)
    assert damaged.files_in("pools") == []


# Lost without a repair


def forget_in_pool(machine: Machine, kind: str) -> Volume:
    """Another program deletes a thin id by hand, so that only the store has it."""
    volume = next(one for one in machine.records(Volume) if one.kind == kind)
    assert isinstance(volume, Volume)
    machine.fake.dm.remove(volume.device_name)
    machine.fake.dm.message("pool", f"delete {volume.thin_id}")
    return volume


def test_a_snapshot_that_only_the_store_has_is_lost_and_made_again(activated: Machine) -> None:
    volume = forget_in_pool(activated, "snap")
    before = activated.everything()
    outcome = activated.snapshot(dry_run=True)
    text = f"would forget {volume.device_name}, which is lost: its pool has no thin id {volume.thin_id}"
    assert outcome.settled == (Finding(RecoveryKind.VOLUME_MISSING, volume.device_path, text),)
    assert activated.everything() == before
    outcome = activated.snapshot()
    assert outcome.changed
    assert [(one.kind, one.subject) for one in outcome.settled] == [(RecoveryKind.VOLUME_MISSING, volume.device_path)]
    assert activated.records(Snapshot)[0].ulid != volume.ulid
    assert activated.left_over() == []
    assert not activated.snapshot().changed
    assert activated.log()[-1]["event"] == "end"
    [line] = [line for line in activated.log() if line["event"] == "lost"]
    assert (line["kind"], line["subject"]) == ("volume_missing", volume.device_path)


def test_the_next_play_makes_again_what_was_lost(activated: Machine) -> None:
    volume = forget_in_pool(activated, "base")
    outcome = activated.pool()
    assert [(one.kind, one.subject) for one in outcome.settled] == [(RecoveryKind.VOLUME_MISSING, volume.device_path)]
    assert activated.unpack().changed
    activated.snapshot()
    assert activated.left_over() == []
    assert not activated.pool().changed


def test_a_base_that_only_the_store_has_is_lost_and_made_again(activated: Machine) -> None:
    volume = forget_in_pool(activated, "base")
    activated.snapshot("other", dry_run=True)
    with pytest.raises(OutOfOrder, match="is fetched, not yet unpacked"):
        activated.snapshot("other")
    assert activated.unpack().changed
    assert activated.snapshot("other").changed
    assert volume not in activated.records(Volume)
    assert activated.left_over() == []
    assert {one.object_key for one in activated.records(Image)} == {str(KEY)}
