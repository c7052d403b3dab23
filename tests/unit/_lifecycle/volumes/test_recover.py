# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was interrupted left behind is settled; what belongs to a living one, or is finished, is let alone."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

import pytest

from module_utils._errors import CorruptStore, DamagedPool, OutOfOrder
from module_utils._host.processes.process import own_identity
from module_utils._lifecycle.findings import Finding, RecoveryKind
from module_utils._lifecycle.store.records import Operation, OperationKind, PoolRecord, Volume, VolumeState
from module_utils._lifecycle.volumes.recover import abandoned, recover
from module_utils._lifecycle.volumes.volumes import active_pool, create_volume, map_thin, new_volume_ulid
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import needs_root
from tests.unit._lifecycle.disk import beside, gone_pid
from tests.unit._lifecycle.machine import ARCHIVE, KEY, METADATA_BYTES, POOL_BYTES, Machine
from tests.unit.fakes.kernel import BLOCK_BYTES

pytestmark = pytest.mark.slow

ME = own_identity()
OTHER_KEY = ObjectKey("images/other.tar")
KEPT: list[contextlib.AbstractContextManager[None]] = []


def intent(kind: OperationKind = OperationKind.UNPACK, volume_ulid: str = "") -> Operation:
    """The intent of a process that is gone."""
    return Operation(new_volume_ulid(), kind, KEY.value, volume_ulid, ME.boot_id, gone_pid(), 1)


def leave(machine: Machine, *records: object) -> None:
    with machine.host() as host, host.store.transaction():
        for record in records:
            host.store.put(record)


def undone(text: str) -> Finding:
    return Finding(RecoveryKind.OPERATION_UNDONE, KEY.value, text)


def removed(path: str, verb: str = "removed") -> Finding:
    return Finding(RecoveryKind.FILE_REMOVED, path, f"{verb} {path}, which belongs to no run")


def settled(machine: Machine, *, dry_run: bool = False) -> list[Finding]:
    """What a run reports to have recovered."""
    with machine.host(dry_run=dry_run) as host:
        recover(host)
        return host.settled


def volume_left_by(machine: Machine, operation: Operation, state: VolumeState) -> Volume:
    """A mapped volume whose row is in ``state``."""
    with machine.host() as host:
        pool = active_pool(host, "pool")
        made = create_volume(host, pool, operation, kind="base", sectors=2048)
        map_thin(host, pool, made)
    left = made._replace(state=state)
    leave(machine, left)
    return left


def test_on_a_host_at_rest_nothing_is_settled_and_nothing_written(pooled: Machine) -> None:
    before = pooled.everything()
    assert settled(pooled) == []
    assert pooled.everything() == before


@pytest.mark.parametrize(
    "gone",
    [
        {"boot_id": "00000000-0000-4000-8000-000000000000"},
        {"started": ME.started - 1},
        {"pid": gone_pid()},
    ],
    ids=["of another boot", "whose pid was given again", "without a process"],
)
def test_the_intent_of_a_process_that_is_gone_is_settled(pooled: Machine, gone: dict[str, Any]) -> None:
    operation = intent()._replace(boot_id=ME.boot_id, pid=ME.pid, started=ME.started)
    leave(pooled, operation._replace(**gone))
    assert settled(pooled) == [undone(f"undid the unpack of {KEY}")]
    assert pooled.left_over() == []
    assert settled(pooled) == []


def test_the_intent_of_a_living_process_is_let_alone(pooled: Machine) -> None:
    leave(pooled, intent()._replace(pid=ME.pid, started=ME.started))
    before = pooled.everything()
    assert settled(pooled) == []
    assert pooled.everything() == before


@pytest.mark.parametrize("arrow", ["pool", "fetch", "repair"])
def test_the_lock_of_a_dead_run_goes_with_the_next_run_even_if_that_has_nothing_to_do(
    fetched: Machine, arrow: str
) -> None:
    with fetched.host() as host:
        host.store.rows("INSERT INTO _busy VALUES ('image x', ?, ?, ?)", ME.boot_id, gone_pid(), 1)
    assert not getattr(fetched, arrow)(dry_run=True).changed
    assert fetched.left_over() == ["locks: [('image x',)], not []"]
    assert not getattr(fetched, arrow)().changed
    before = fetched.everything()
    assert fetched.left_over() == []
    assert not getattr(fetched, arrow)().changed
    assert fetched.everything() == before


def test_a_teardown_that_finds_no_pool_settles_what_was_left_too(pooled: Machine) -> None:
    pooled.remove_pool()
    leave(pooled, intent())
    with pooled.host() as host:
        host.store.rows("INSERT INTO _busy VALUES ('pool setup pool', ?, ?, ?)", ME.boot_id, gone_pid(), 1)
    looked = pooled.remove_pool(dry_run=True)
    assert (looked.changed, looked.settled) == (False, (undone(f"would undo the unpack of {KEY}"),))
    again = pooled.remove_pool()
    assert (again.changed, again.settled) == (False, (undone(f"undid the unpack of {KEY}"),))
    assert pooled.left_over() == []
    before = pooled.everything()
    assert pooled.remove_pool().settled == ()
    assert pooled.everything() == before


# What lies in the spool and belongs to no run

OWNERLESS = "01J9Z3M4N5P6Q7R8S9T0V1W2X3.0.part"


def put_into_spool(machine: Machine, *names: str) -> None:
    spool = machine.state / "spool"
    spool.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        (spool / name).touch()


@pytest.mark.parametrize("arrow", ["pool", "fetch", "unpack", "snapshot", "remove_snapshot", "remove_pool", "repair"])
def test_parts_that_no_intent_owns_go_with_the_next_run_whatever_it_does(pooled: Machine, arrow: str) -> None:
    needs_root()
    if arrow in ("fetch", "unpack", "snapshot"):
        pooled.fetch()
    if arrow in ("unpack", "snapshot"):
        pooled.unpack()
    if arrow == "remove_pool":
        pooled.remove_pool()
    put_into_spool(pooled, OWNERLESS, f"{OWNERLESS}.state", "of-somebody.else")
    before = pooled.everything()
    paths = [f"{pooled.state}/spool/{OWNERLESS}", f"{pooled.state}/spool/{OWNERLESS}.state"]
    looked = getattr(pooled, arrow)(dry_run=True)
    assert looked.settled == tuple(removed(path, "would remove") for path in paths)
    assert pooled.everything() == before
    assert getattr(pooled, arrow)().settled == tuple(removed(path) for path in paths)
    assert pooled.files_in("spool") == ["of-somebody.else"]
    assert getattr(pooled, arrow)().settled == ()


def test_parts_that_an_intent_owns_stay_even_if_it_is_of_a_dead_run(pooled: Machine) -> None:
    pooled.killed_at("fetch:downloaded", pooled.fetch)
    owned = pooled.files_in("spool")
    put_into_spool(pooled, OWNERLESS)
    assert settled(pooled) == [removed(f"{pooled.state}/spool/{OWNERLESS}")]
    assert pooled.files_in("spool") == owned != []


def test_parts_that_cannot_be_removed_stop_no_run(fetched: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_root()
    put_into_spool(fetched, OWNERLESS)
    unlink = os.unlink

    def fail(path: str, *, dir_fd: int | None = None) -> None:
        if OWNERLESS in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        unlink(path, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", fail)
        outcome = fetched.unpack()
    assert outcome.changed
    [found] = outcome.settled
    assert (found.kind, found.subject) == (RecoveryKind.NOT_RECOVERED, f"{fetched.state}/spool")
    assert found.text.startswith("left parts of downloads that belong to no run for later: ")
    assert fetched.files_in("spool") == [OWNERLESS]


# Intents with volumes


@pytest.mark.parametrize("state", [VolumeState.PLANNED, VolumeState.CREATED, VolumeState.DELETING])
def test_an_unfinished_volume_is_unmapped_and_deleted(pooled: Machine, state: VolumeState) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, state)
    assert settled(pooled) == [undone(f"undid the unpack of {KEY} ({volume.device_name})")]
    assert pooled.fake.thin_ids("pool") == set()
    assert pooled.left_over() == []


def test_a_volume_that_is_live_is_never_deleted(pooled: Machine) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.LIVE)
    settled(pooled)
    assert pooled.records(Volume) == [volume]
    assert pooled.fake.thin_ids("pool") == {volume.thin_id}
    assert pooled.records(Operation) == []


def test_an_intent_waits_for_its_pool(pooled: Machine) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.CREATED)
    pooled.fake.reboot()
    assert settled(pooled) == []
    assert pooled.records(Operation) == [operation]
    assert pooled.pool().settled == (undone(f"undid the unpack of {KEY} ({volume.device_name})"),)
    assert pooled.left_over() == []


def test_check_mode_says_what_would_be_settled_and_writes_nothing(pooled: Machine) -> None:
    operation = intent(OperationKind.REMOVE, volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.DELETING)
    before = pooled.everything()
    text = f"would finish the remove of {KEY} ({volume.device_name})"
    assert settled(pooled, dry_run=True) == [Finding(RecoveryKind.OPERATION_FINISHED, KEY.value, text)]
    assert pooled.everything() == before


@pytest.mark.parametrize("kind", [OperationKind.POOL, OperationKind.FETCH, OperationKind.TEARDOWN])
def test_what_its_own_module_takes_up_again_is_left_to_it(pooled: Machine, kind: OperationKind) -> None:
    operation = intent(kind)
    leave(pooled, operation)
    with pooled.host() as host:
        assert abandoned(host) == []
    assert settled(pooled) == []
    assert pooled.records(Operation) == [operation]


def test_check_mode_says_what_will_be_settled_once_the_pool_is_up(pooled: Machine) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.CREATED)
    pooled.fake.reboot()
    before = pooled.everything()
    outcome = pooled.pool(dry_run=True)
    assert outcome.settled == (undone(f"would undo the unpack of {KEY} ({volume.device_name})"),)
    assert pooled.everything() == before
    assert pooled.fetch(dry_run=True).settled == ()  # which brings no pool up


@pytest.fixture
def sick(fetched: Machine) -> Machine:
    """A host whose second pool needs repair, with something left in it that cannot be undone before."""
    fetched.pool(name="other")
    operation = intent(volume_ulid=new_volume_ulid())
    with fetched.host(pool="other") as host:
        made = create_volume(host, active_pool(host, "other"), operation, kind="base", sectors=2048)
    leave(fetched, made, operation)
    fetched.fake.set_pool("other", mode="ro", needs_check=True)
    return fetched


def test_a_pool_in_trouble_is_reported_and_the_others_work(sick: Machine) -> None:
    needs_root()
    outcome = sick.unpack()
    assert outcome.changed
    [found] = outcome.settled
    assert (found.kind, found.subject) == (RecoveryKind.NOT_RECOVERED, KEY.value)
    assert found.text.startswith(f"left the unpack of {KEY} for later: ")
    [line] = [line for line in sick.log() if line["event"] == "left"]
    assert {**found.record(), "error_kind": "damaged_pool"}.items() <= line.items()
    assert sick.snapshot().changed
    assert not sick.fetch().changed
    assert not sick.pool().changed


def test_a_pool_in_trouble_can_be_torn_down_with_what_is_left_in_it(sick: Machine) -> None:
    assert sick.remove_pool("other", force=True).changed
    assert sick.left_over() == []
    assert sick.pool().settled == ()


def test_a_pool_without_metadata_grows_although_nothing_can_be_undone_before(pooled: Machine) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.CREATED)
    pooled.fake.set_pool("pool", mode="ro", used_metadata_blocks=METADATA_BYTES // 4096)
    assert [one.kind for one in pooled.grow().settled] == [RecoveryKind.NOT_RECOVERED]
    assert pooled.pool(data_bytes=2 * POOL_BYTES, metadata_bytes=None).settled == (
        undone(f"undid the unpack of {KEY} ({volume.device_name})"),
    )
    assert pooled.left_over() == []


def test_metadata_that_cannot_be_read_stops_only_its_own_pool(fetched: Machine) -> None:
    needs_root()
    fetched.pool(name="other")
    damage_details("other", fetched)
    [found] = fetched.unpack().settled
    assert (found.kind, found.subject) == (RecoveryKind.NOT_RECOVERED, "pool other")
    with pytest.raises(DamagedPool, match="is damaged"):
        fetched.pool(name="other")
    assert fetched.remove_pool("other", force=True).changed
    assert fetched.left_over() == []


def damage_details(pool: str, machine: Machine) -> None:
    """The metadata of a pool that is up has no readable list of volumes any more."""
    path = next(one.metadata for one in machine.records(PoolRecord) if one.name == pool)
    with open(path, "r+b") as file:
        file.seek(BLOCK_BYTES)
        file.write(bytes(BLOCK_BYTES))


def test_in_a_pool_of_another_time_nothing_is_discarded(activated: Machine) -> None:
    [pool] = activated.records(PoolRecord)
    activated.fake.set_pool("pool", transaction_id=pool.transaction_id + 5)
    with pytest.raises(CorruptStore, match="not the pool it was"):
        activated.remove_snapshot()
    assert [line for line in activated.ran if line.startswith("blkdiscard")] == []


@pytest.mark.parametrize("lock", ["", "pool setup pool"])
def test_a_pool_that_was_left_suspended_is_resumed_unless_another_program_is_at_work_with_it(
    fetched: Machine, lock: str
) -> None:
    needs_root()
    fetched.s3.put(OTHER_KEY.value, ARCHIVE)
    fetched.fake.dm.suspend("pool")
    with beside(lambda: locked(fetched, lock)) if lock else contextlib.nullcontext():
        fetched.fetch(key=OTHER_KEY)
    assert fetched.fake.devices()["pool"]["suspended"] is bool(lock)


def test_a_pool_that_was_left_suspended_is_resumed_before_anything_in_it_is_undone(pooled: Machine) -> None:
    volume_left_by(pooled, intent(volume_ulid=new_volume_ulid()), VolumeState.CREATED)
    pooled.fake.dm.suspend("pool")
    settled(pooled)
    first = next(line for line in pooled.ran if line.startswith(("blkdiscard", "dmsetup resume", "dmsetup message")))
    assert first == "dmsetup resume pool"
    assert pooled.left_over() == []


def test_a_base_that_was_left_suspended_is_resumed(unpacked: Machine) -> None:
    [base] = unpacked.records(Volume)
    with unpacked.host() as host:
        map_thin(host, active_pool(host, "pool"), base)
    unpacked.killed_at("snap:sent", unpacked.snapshot)
    assert unpacked.fake.devices()[base.device_name]["suspended"]
    kinds = [one.kind for one in unpacked.snapshot().settled]
    assert RecoveryKind.DEVICE_RESUMED in kinds
    assert not unpacked.fake.devices()[base.device_name]["suspended"]


def locked(machine: Machine, name: str) -> None:
    """Take the lock and keep it as long as this process lives."""
    with machine.host() as host:
        KEPT.append(host.lock(name))
        KEPT[-1].__enter__()


def test_a_pool_whose_removal_was_interrupted_takes_no_new_volume(fetched: Machine) -> None:
    needs_root()
    fetched.killed_at("teardown:planned", fetched.tear_down)
    with pytest.raises(OutOfOrder, match="was interrupted"):
        fetched.unpack()
    assert fetched.tear_down().changed
    assert fetched.pool().changed
    assert fetched.left_over() == []


def test_what_was_settled_is_in_the_log(pooled: Machine) -> None:
    leave(pooled, intent())
    settled(pooled)
    line = pooled.log()[-1]
    assert {"event": "settled", **undone(f"undid the unpack of {KEY}").record()}.items() <= line.items()
