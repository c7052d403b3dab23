# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repair a pool whose metadata the kernel or thin_check refuses; only on request.

Invariant: the metadata is copied before anything is written, and its replacement is checked first. Before the replacement, an interrupted
repair begins again from the copy; afterwards, it resumes the check of the bases. No other process uses the pool in between.
"""

from __future__ import annotations

import os

from ..._errors import BadInput, DamagedPool, OutOfOrder, doing
from ..._host.files.durable import remove_file, sync_directory
from ..._host.processes.crash import crash_point
from ..._names import ShortName, exact_size_text
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.pool.backing import device_bytes
from ..._thin.pool.geometry import MAX_METADATA_BYTES
from ..._thin.pool.metadata import has_superblock, read_superblock, read_thin_ids
from ..._thin.pool.repair import blank_metadata, copy_metadata, thin_check, thin_repair, write_metadata
from ..._thin.pool.thin_pool import deactivate, require_sound, status
from ..attempts import attempted
from ..backup.metadata_dumps import naming_the_newest
from ..diff import pool_view
from ..findings import FORGOTTEN
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.lock_names import pool_lock, pool_setup_lock
from ..store.records import Operation, OperationKind, PoolRecord
from ..volumes.check_bases import check_bases
from ..volumes.missing_volumes import settle_lost
from ..volumes.recover import nothing_to_recover, recover
from ..volumes.unmapping import require_pool_free, take_down
from .bring_up import bring_up, map_again, map_snapshots
from .create import spec_of
from .state import is_active, unmapped_snapshots, with_restored

_NEARLY_FULL = 0.75


def repair_pool(host: Run, name: ShortName, metadata_bytes: int = 0) -> Outcome:
    """Mend the pool, or find it sound. ``metadata_bytes`` lets the new metadata be larger; it is when the old was nearly full."""
    with doing(f"repair of the pool '{name}'"):
        return attempted(
            host, lambda: _sound_or_repaired(host, name, metadata_bytes), transition="repair", pool=name.value
        )


def _sound_or_repaired(host: Run, name: ShortName, metadata_bytes: int) -> Outcome:
    if _is_sound(host, name) and nothing_to_recover(host) and not _unmapped(host, name):
        return _outcome_of_sound(host, name, metadata_bytes)
    with host.lock(pool_setup_lock(name.value)):
        if _is_sound(host, name):
            return _settled(host, name, metadata_bytes)
        return _repaired(host, name, metadata_bytes)


def _is_sound(host: Run, name: ShortName) -> bool:
    """Whether there is nothing to repair; writes nothing."""
    pool = host.store.pool(name.value)
    if pool is None or not pool.formatted:
        raise OutOfOrder(f"there is no pool '{name}' to repair", hint="make it with flyd_pool, state: present")
    return _begun(host, pool) is None and not _trouble(host, pool)


def _unmapped(host: Run, name: ShortName) -> bool:
    """Whether the pool is up without all of its snapshots: a repair that was interrupted at its very end leaves it so."""
    pool = _recorded(host, name)
    return is_active(host, pool) and bool(unmapped_snapshots(host, pool))


def _settled(host: Run, name: ShortName, metadata_bytes: int) -> Outcome:
    """Of a sound pool: what runs that were interrupted have left is settled, and its snapshots are back if it is up."""
    recover(host)
    restored = map_again(host, _recorded(host, name)) if _unmapped(host, name) else []
    outcome = _outcome_of_sound(host, name, metadata_bytes)
    return with_restored(outcome, restored) if restored else outcome


def _outcome_of_sound(host: Run, name: ShortName, metadata_bytes: int) -> Outcome:
    pool = _recorded(host, name)
    view = pool_view(pool, active=is_active(host, pool))
    warnings = []
    if metadata_bytes not in (0, pool.metadata_bytes):
        warnings.append(
            f"metadata_size: {exact_size_text(metadata_bytes)} is given, but the pool has {exact_size_text(pool.metadata_bytes)} of metadata and "
            "is sound; it counts only when new metadata is written: with state: present the metadata grows"
        )
    return Outcome(view, view, False, {**_facts(""), "warnings": warnings}, tuple(host.settled))


def _recorded(host: Run, name: ShortName) -> PoolRecord:
    pool = host.store.pool(name.value)
    if pool is None:
        raise AssertionError("it was there under this lock")
    return pool


def _facts(trouble: str) -> Facts:
    return {"trouble": trouble, "metadata_copy": None, "bases": [], "lost": [], "restored": []}


def _repaired(host: Run, name: ShortName, metadata_bytes: int) -> Outcome:
    pool = _recorded(host, name)
    before = pool_view(pool, active=is_active(host, pool))
    begun = _begun(host, pool)
    facts = _facts("a repair was interrupted" if begun else _trouble(host, pool))
    after = _larger(pool, metadata_bytes)
    require_pool_free(host, pool)
    if not host.dry_run:
        with host.log.transition("repair", pool=pool.name, trouble=facts["trouble"]):
            after = _repair(host, pool, after, begun, facts)
    return Outcome(before, pool_view(after, active=True), True, facts, tuple(host.settled))


def _repair(host: Run, pool: PoolRecord, wanted: PoolRecord, begun: Operation | None, facts: Facts) -> PoolRecord:
    with host.lock(pool_lock(pool.name)):
        if begun is None or begun.kind is OperationKind.REPAIR:
            begun, wanted = _mend(host, pool, wanted, begun)
        else:
            wanted = pool
        facts["metadata_copy"] = _copy_path(host, wanted, begun)
        bring_up(host, wanted)
    settle_lost(host, wanted)
    facts["bases"] = check_bases(host, wanted)
    facts["lost"] = [one.record() for one in host.settled if one.kind in FORGOTTEN]
    with host.store.transaction():
        host.store.drop(begun)
    recover(host)
    facts["restored"] = map_snapshots(host, wanted)
    return wanted


def _mend(host: Run, pool: PoolRecord, wanted: PoolRecord, begun: Operation | None) -> tuple[Operation, PoolRecord]:
    """New metadata in the place of the old; the intent to check the bases, and the pool's record."""
    take_down(host, pool)
    if begun is None:
        begun = host.begin(OperationKind.REPAIR, pool.name)
        with host.store.transaction():
            host.store.put(begun)
    crash_point("repair:planned")
    deactivate(host.dm, host.runner, spec_of(pool))
    copy, new = _copy_path(host, pool, begun), f"{_copy_path(host, pool, begun)}.new"
    if not os.path.exists(copy):
        copy_metadata(pool.metadata, copy)
    elif not _trouble(host, pool):  # it is in its place already, or another program has restored it from a backup since
        found = pool._replace(metadata_bytes=device_bytes(pool.metadata)) if pool.is_loop else pool
        return _go_on_to_check(host, found, begun)
    crash_point("repair:copied")
    blank_metadata(new, wanted.metadata_bytes if pool.is_loop else _bytes_on_device(wanted))
    with naming_the_newest(host.settings, pool):
        thin_repair(
            host.runner,
            copy,
            new,
            transaction_id=_transaction_id(pool, copy),
            block_sectors=pool.block_sectors,
            data_blocks=pool.data_sectors // pool.block_sectors,
        )
        thin_check(host.runner, new, clears_mark=True)
    crash_point("repair:written")
    _put_in_place(pool, new)
    crash_point("repair:swapped")
    return _go_on_to_check(host, wanted, begun)


def _go_on_to_check(host: Run, pool: PoolRecord, begun: Operation) -> tuple[Operation, PoolRecord]:
    next_step = begun._replace(kind=OperationKind.CHECK)
    with host.store.transaction():
        host.store.put(pool)
        host.store.put(next_step)
    crash_point("repair:recorded")
    return next_step, pool


def _bytes_on_device(pool: PoolRecord) -> int:
    """How large the new metadata of a pool on devices is to be.

    The kernel took all of the device when it made the pool, so more may be in use than was asked for; what is smaller than the device,
    it lets grow automatically.
    """
    usable = min(device_bytes(pool.metadata), MAX_METADATA_BYTES)
    if not has_superblock(pool.metadata):
        return usable
    used = read_superblock(pool.metadata).metadata_used_blocks * METADATA_BLOCK_BYTES
    return min(usable, max(pool.metadata_bytes, 2 * used))


def _put_in_place(pool: PoolRecord, new: str) -> None:
    if pool.is_loop:
        fd = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(new, pool.metadata)
        sync_directory(os.path.dirname(pool.metadata))
        return
    write_metadata(new, pool.metadata)
    remove_file(new)


def _trouble(host: Run, pool: PoolRecord) -> str:
    """What is wrong with the pool, empty when nothing is."""
    try:
        if is_active(host, pool):
            require_sound(status(host.dm, pool.name))
            read_thin_ids(pool.metadata)  # the kernel reads of it only what it needs
        else:
            thin_check(host.runner, pool.metadata)
            if read_superblock(pool.metadata).needs_check:
                return "its metadata is marked needs_check"
    except DamagedPool as error:
        return error.msg
    return ""


def _begun(host: Run, pool: PoolRecord) -> Operation | None:
    return host.store.find(Operation, "kind IN ('repair', 'check') AND subject=?", pool.name)


def _larger(pool: PoolRecord, metadata_bytes: int) -> PoolRecord:
    if metadata_bytes and metadata_bytes < pool.metadata_bytes:
        raise BadInput(
            f"the pool '{pool.name}' has {exact_size_text(pool.metadata_bytes)} of metadata, and metadata_size: {exact_size_text(metadata_bytes)} is requested",
            hint="leave metadata_size out, or give a larger one",
        )
    if not pool.is_loop:
        return pool
    if not metadata_bytes and has_superblock(pool.metadata):
        now = read_superblock(pool.metadata)
        is_tight = now.metadata_used_blocks > _NEARLY_FULL * now.metadata_blocks
        metadata_bytes = min(2 * pool.metadata_bytes, MAX_METADATA_BYTES) if is_tight else 0
    return pool._replace(metadata_bytes=max(metadata_bytes, pool.metadata_bytes))


def _transaction_id(pool: PoolRecord, copy: str) -> int:
    """That of the old superblock, the store's when there is none."""
    return read_superblock(copy).transaction_id if has_superblock(copy) else pool.transaction_id


def _copy_path(host: Run, pool: PoolRecord, operation: Operation) -> str:
    """Beside a file, so that it can be renamed; in the state directory for a device."""
    if pool.is_loop:
        return f"{pool.metadata}.before-repair-{operation.ulid}"
    directory = host.directory(os.path.join("pools", pool.id)) if host.directory("pools") else ""
    return os.path.join(directory, f"metadata.before-repair-{operation.ulid}")
