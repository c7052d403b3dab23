# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin ids: pool and store count together, and what is not provably ours is never deleted."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from module_utils._errors import Busy, CorruptStore, NoSpace, OutOfOrder
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.store.records import Operation, OperationKind, PoolRecord, Volume, VolumeState
from module_utils._lifecycle.volumes.room import require_room
from module_utils._lifecycle.volumes.volumes import (
    active_pool,
    check_transaction,
    create_volume,
    destroy_volume,
    map_thin,
    new_volume_ulid,
    undo_after,
    unmap,
)
from module_utils._thin.dm.device_mapper import IoctlFailed
from module_utils._thin.dm.table import MAX_THIN_ID
from module_utils._thin.pool.thin_pool import ThinPool, status
from tests.unit._lifecycle.machine import POOL_BYTES, Machine

SECTORS = 2048


@pytest.fixture
def host(pooled: Machine) -> Iterator[Run]:
    """One run on a host with a pool."""
    with pooled.host() as host:
        yield host


def pool_of(host: Run) -> PoolRecord:
    """The pool as the store has it now."""
    return active_pool(host, "pool")


def intent(host: Run) -> Operation:
    return host.begin(OperationKind.UNPACK, "images/redis.tar", volume_ulid=new_volume_ulid())


def made(host: Run) -> Volume:
    return create_volume(host, pool_of(host), intent(host), kind="base", sectors=SECTORS)


def in_pool(host: Run) -> int:
    """The transaction id of the pool's metadata."""
    return status(host.dm, "pool").transaction_id


def test_a_volume_is_made_and_both_sides_count_it(pooled: Machine, host: Run) -> None:
    first = pool_of(host).transaction_id
    volume = made(host)
    assert (volume.thin_id, volume.kind, volume.sectors, volume.state) == (1, "base", SECTORS, VolumeState.CREATED)
    assert host.store.all(Volume) == [volume]
    assert pooled.fake.thin_ids("pool") == {1}
    assert in_pool(host) == pool_of(host).transaction_id == first + 1


def test_the_intent_is_committed_before_the_pool_gets_the_volume(pooled: Machine, host: Run) -> None:
    pooled.fake.refuse("dmsetup message pool 0 create_thin", errno.EIO)
    operation = intent(host)
    with pytest.raises(IoctlFailed):
        create_volume(host, pool_of(host), operation, kind="base", sectors=SECTORS)
    [volume] = host.store.all(Volume)
    assert (volume.ulid, volume.state) == (operation.volume_ulid, VolumeState.PLANNED)
    assert host.store.all(Operation) == [operation]


def test_a_snapshot_is_a_volume_of_its_own(pooled: Machine, host: Run) -> None:
    base = made(host)
    snapshot = create_volume(host, pool_of(host), intent(host), kind="snap", sectors=SECTORS, origin=base)
    assert (snapshot.thin_id, snapshot.device_name) == (2, f"snap-{snapshot.ulid}")
    assert pooled.fake.thin_ids("pool") == {1, 2}


def test_an_id_that_is_in_doubt_is_not_used_again(host: Run) -> None:
    with host.store.transaction():
        host.store.put(Volume(new_volume_ulid(), pool_of(host).id, 7, "base", SECTORS, VolumeState.DELETING))
    assert made(host).thin_id == 8


def test_above_the_last_id_the_gaps_are_used(host: Run) -> None:
    for thin_id in (1, 2, MAX_THIN_ID):
        with host.store.transaction():
            host.store.put(Volume(new_volume_ulid(), pool_of(host).id, thin_id, "base", SECTORS, VolumeState.LIVE))
    assert made(host).thin_id == 3


def test_deleting_a_volume_unmaps_it_and_both_sides_count_it(pooled: Machine, host: Run) -> None:
    volume = made(host)
    map_thin(host, pool_of(host), volume)
    before = pool_of(host).transaction_id
    destroy_volume(host, pool_of(host), volume)
    assert host.store.all(Volume) == []
    assert pooled.fake.thin_ids("pool") == set()
    assert list(pooled.fake.devices()) == ["pool"]
    assert in_pool(host) == pool_of(host).transaction_id == before + 1


def test_deleting_what_the_pool_has_forgotten_already_ends_well(host: Run) -> None:
    volume = made(host)
    ThinPool(host.dm, "pool").delete(volume.thin_id)
    destroy_volume(host, pool_of(host), volume)
    assert host.store.all(Volume) == []


def test_a_volume_in_use_is_not_deleted_and_its_row_says_what_was_wanted(pooled: Machine, host: Run) -> None:
    volume = made(host)
    device = map_thin(host, pool_of(host), volume)
    pooled.fake.hold(device.name)
    with pytest.raises(Busy, match=rf"device {device.name} (\(.*\) )?is held by"):
        destroy_volume(host, pool_of(host), volume)
    assert [one.state for one in host.store.all(Volume)] == [VolumeState.DELETING]
    assert pooled.fake.thin_ids("pool") == {1}
    pooled.fake.let_go()
    destroy_volume(host, pool_of(host), volume)
    assert pooled.fake.thin_ids("pool") == set()


def test_mapping_finds_what_is_mapped_and_resumes_what_was_left_suspended(host: Run) -> None:
    volume = made(host)
    device = map_thin(host, pool_of(host), volume)
    assert map_thin(host, pool_of(host), volume) == device
    host.dm.suspend(device.name)
    assert not map_thin(host, pool_of(host), volume).suspended


def test_unmapping_what_is_not_mapped_says_so(host: Run) -> None:
    volume = made(host)
    assert unmap(host, volume) is False
    map_thin(host, pool_of(host), volume)
    assert unmap(host, volume) is True


# Pool and store of different times


def test_an_id_that_another_program_has_made_is_stepped_over_and_never_deleted(pooled: Machine, host: Run) -> None:
    ThinPool(host.dm, "pool").create_thin(1)
    volume = made(host)
    assert volume.thin_id == 2
    destroy_volume(host, pool_of(host), volume)
    assert pooled.fake.thin_ids("pool") == {1}


def test_an_id_that_another_program_makes_in_the_same_instant_is_reported_and_never_deleted(
    pooled: Machine, host: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ThinPool(host.dm, "pool").create_thin(1)
    monkeypatch.setattr("module_utils._lifecycle.volumes.volumes.read_thin_ids", lambda _path: frozenset())
    operation = intent(host)
    with pytest.raises(CorruptStore, match="thin id 1 exists in pool 'pool' already") as caught:
        create_volume(host, pool_of(host), operation, kind="base", sectors=SECTORS)
    undo_after(host, pool_of(host), operation, caught.value)
    assert pooled.fake.thin_ids("pool") == {1}
    assert (host.store.all(Volume), host.store.all(Operation)) == ([], [])


@pytest.mark.parametrize("state", [VolumeState.PLANNED, VolumeState.DELETING])
def test_a_step_that_was_interrupted_explains_one_transaction(host: Run, state: VolumeState) -> None:
    pool = pool_of(host)
    with host.store.transaction():
        host.store.put(Volume(new_volume_ulid(), pool.id, 7, "base", SECTORS, state))
    ThinPool(host.dm, "pool").set_transaction_id(pool.transaction_id, pool.transaction_id + 1)
    assert check_transaction(host, pool).transaction_id == pool.transaction_id + 1
    assert pool_of(host).transaction_id == pool.transaction_id + 1


@pytest.mark.parametrize("ahead", [-1, 2, 1 << 32])
@pytest.mark.parametrize("state", [VolumeState.PLANNED, VolumeState.DELETING])
def test_nothing_explains_more_than_one_transaction(host: Run, ahead: int, state: VolumeState) -> None:
    pool = pool_of(host)
    with host.store.transaction():
        host.store.put(Volume(new_volume_ulid(), pool.id, 7, "base", SECTORS, state))
    ThinPool(host.dm, "pool").set_transaction_id(pool.transaction_id, pool.transaction_id + ahead)
    with pytest.raises(CorruptStore, match="do not belong together"):
        check_transaction(host, pool)
    assert pool_of(host) == pool


@pytest.mark.parametrize("state", [VolumeState.CREATED, VolumeState.LIVE])
def test_a_finished_volume_explains_no_transaction(host: Run, state: VolumeState) -> None:
    pool = pool_of(host)
    with host.store.transaction():
        host.store.put(Volume(new_volume_ulid(), pool.id, 7, "base", SECTORS, state))
    ThinPool(host.dm, "pool").set_transaction_id(pool.transaction_id, pool.transaction_id + 1)
    with pytest.raises(CorruptStore, match="do not belong together"):
        check_transaction(host, pool)


def test_a_store_from_a_backup_is_reported_before_anything_is_made_or_deleted(pooled: Machine) -> None:
    backup = (pooled.state / "flyd.db").read_bytes()
    with pooled.host() as host:
        kept = made(host)
    (pooled.state / "flyd.db").write_bytes(backup)
    with pooled.host() as host, pytest.raises(CorruptStore, match="do not belong together"):
        made(host)
    assert pooled.fake.thin_ids("pool") == {kept.thin_id}


def test_a_pool_that_is_gone_or_was_never_made_is_reported(pooled: Machine) -> None:
    with pooled.host() as host, pytest.raises(OutOfOrder, match="thin pool 'other' does not exist"):
        active_pool(host, "other")
    pooled.fake.reboot()
    with pooled.host() as host, pytest.raises(OutOfOrder, match="thin pool 'pool' is not active"):
        active_pool(host, "pool")


# Room


def test_room_is_what_is_free_beyond_the_reserve(pooled: Machine, host: Run) -> None:
    pool = pool_of(host)._replace(min_free_percent=50)
    require_room(host, pool, POOL_BYTES // 2)
    with pytest.raises(NoSpace, match="beyond its reserve of 50 %") as caught:
        require_room(host, pool, POOL_BYTES // 2 + 1)
    assert caught.value.details["free_bytes"] == POOL_BYTES // 2


# Undoing


def test_undoing_leaves_no_trace(pooled: Machine, host: Run) -> None:
    operation = intent(host)
    volume = create_volume(host, pool_of(host), operation, kind="base", sectors=SECTORS)
    map_thin(host, pool_of(host), volume)
    undo_after(host, pool_of(host), operation, KeyError("x"))
    assert pooled.left_over() == []


def test_what_cannot_be_undone_now_is_left_to_the_next_run_and_the_first_error_stays(
    pooled: Machine, host: Run
) -> None:
    operation = intent(host)
    volume = create_volume(host, pool_of(host), operation, kind="base", sectors=SECTORS)
    pooled.fake.hold(map_thin(host, pool_of(host), volume).name)
    first = NoSpace("the volume is full", hint="make it larger")
    undo_after(host, pool_of(host), operation, first)
    assert str(first.details["left_for_next_run"]).startswith(f"unpack {operation.ulid}: device {volume.device_name}")


def test_a_host_that_refuses_the_clean_up_does_not_hide_the_first_error(
    host: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = intent(host)
    create_volume(host, pool_of(host), operation, kind="base", sectors=SECTORS)

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("module_utils._lifecycle.volumes.volumes.destroy_volume", refuse)
    first = NoSpace("full", hint="make room")
    undo_after(host, pool_of(host), operation, first)
    assert "Too many open files" in str(first.details["left_for_next_run"])
    assert host.store.find(Operation, "ulid=?", operation.ulid) is not None
    assert host.store.all(Operation) == [operation]


def test_room_that_the_host_does_not_get_back_is_in_the_log(pooled: Machine) -> None:
    with pooled.host() as host:
        pool, operation = active_pool(host, "pool"), intent(host)
        made = create_volume(host, pool, operation, kind="base", sectors=2048)
        pooled.fake.refuse("blkdiscard", errno.EIO)
        destroy_volume(host, pool, made)
        again = create_volume(host, pool, operation, kind="base", sectors=2048)
        destroy_volume(host, pool, again)
    told = [(line["volume"], line["error_kind"]) for line in pooled.log() if line["event"] == "not discarded"]
    assert told == [(made.device_name, "command_failed")]
    assert pooled.fake.thin_ids("pool") == set()
