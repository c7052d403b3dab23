# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new thin pool: recorded, allocated, formatted, numbered.

Invariant: the pool's row, with its random first transaction id, is committed before its files exist. Whatever a creation that was interrupted
has made by then, the next one resumes it; metadata that holds a superblock is never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import NamedTuple

from ..._errors import BadInput, FlydError
from ..._host.files.durable import disk_of, remove_file, require_room
from ..._host.processes.command import Program
from ..._host.processes.crash import crash_point
from ..._names import exact_size_text, new_ulid, option_size, printable
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.loop import check_backing_file
from ..._thin.pool.backing import device_bytes, device_identity
from ..._thin.pool.geometry import Geometry
from ..._thin.pool.reserve import reserve_head
from ..._thin.pool.thin_pool import (
    Backing,
    PoolSpec,
    ThinPool,
    activate,
    allocate_files,
    check_files,
    deactivate,
    metadata_is_blank,
    status,
)
from ..run import Run
from ..store.records import OperationKind, PoolRecord
from .state import PoolOptions

_FORGET_INTENTS = "DELETE FROM operations WHERE kind=? AND subject=?"


def make_pool(host: Run, options: PoolOptions, begun: PoolRecord | None) -> PoolRecord:
    """Record the pool, then make its files and format it; a creation that was interrupted (``begun``) is taken up again.

    A new one that fails leaves nothing behind, so that it can be asked for again with other options.
    """
    of_files = (Program.LOSETUP,) if options.is_loop else (Program.BLKID,)
    host.runner.require(Program.DMSETUP, Program.THIN_CHECK, *of_files)
    if begun is not None:
        return _make(host, begun)
    pool = new_record(host, options, str(new_ulid()))
    missing = _missing_files(pool)
    adopts = options.adopt and _has_adoptable(host, pool)
    _refuse_backing(pool, missing, adopts=adopts)
    if adopts:
        from ..._thin.pool.repair import blank_superblock  # late: hardly a run needs it

        blank_superblock(pool.metadata)
    with host.store.transaction():
        host.store.put(host.begin(OperationKind.POOL, pool.name))
        host.store.put(pool)
    try:
        return _make(host, pool)
    except BaseException:
        with contextlib.suppress(FlydError, OSError):  # what cannot be undone now is taken up by the next run
            _give_up(host, pool, missing)
        raise


def foresee_pool(host: Run, pool: PoolRecord, *, adopt: bool) -> None:
    """Raise what ``make_pool`` would for the files or devices of a pool that is not recorded. Writes nothing."""
    missing = _missing_files(pool)
    adopts = adopt and _has_adoptable(host, pool)
    _refuse_backing(pool, missing, adopts=adopts)
    if not pool.is_loop and not adopts:
        check_files(host.runner, spec_of(pool), may_format=True)


def _has_adoptable(host: Run, pool: PoolRecord) -> bool:
    from .adopt import has_adoptable  # late: hardly a run needs it

    return has_adoptable(host, pool)


def _missing_files(pool: PoolRecord) -> list[str]:
    return [path for path in (pool.data, pool.metadata) if pool.is_loop and not os.path.lexists(path)]


def _refuse_used_metadata(pool: PoolRecord, missing: list[str]) -> None:
    if pool.metadata not in missing and not metadata_is_blank(pool.metadata):
        raise BadInput(
            f"the metadata file or device {pool.metadata} is not blank",
            hint=f"it may belong to another pool: see `blkid {pool.metadata}`; if nothing on it matters, zero its first 4 KiB with dd",
        )


def _refuse_backing(pool: PoolRecord, missing: list[str], *, adopts: bool) -> None:
    """Refuse, in the words of the options, files and devices in which a new pool cannot be made."""
    if not adopts:
        _refuse_used_metadata(pool, missing)
    needed: dict[int, int] = {}
    for part in _parts(pool):
        if part.path in missing:
            disk = disk_of(part.path)
            needed[disk] = needed.get(disk, 0) + part.size_bytes
            hint = f"give a smaller {part.name}_size or another {part.name}_file, or make room"
            require_room(part.path, needed[disk], hint=hint)
        elif pool.is_loop:
            check_backing_file(part.path)
            _refuse_another_size(part)
        elif device_bytes(part.path) < part.size_bytes:
            raise BadInput(
                f"the device {printable(part.path)} has {exact_size_text(device_bytes(part.path))}, and {exact_size_text(part.size_bytes)} of {part.name} "
                "are requested",
                hint=f"give a smaller {part.name}_size or a larger {part.name}_device",
            )


class _Part(NamedTuple):
    """The data or the metadata of a pool, with how many bytes it grows by."""

    name: str
    path: str
    size_bytes: int
    unit_bytes: int


def _parts(pool: PoolRecord) -> tuple[_Part, _Part]:
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return (
        _Part("metadata", pool.metadata, pool.metadata_bytes, METADATA_BLOCK_BYTES),
        _Part("data", pool.data, pool.data_sectors * SECTOR_BYTES, block_bytes),
    )


def _refuse_another_size(part: _Part) -> None:
    found_bytes = device_bytes(part.path)
    if found_bytes == part.size_bytes:
        return
    is_possible = found_bytes % part.unit_bytes == 0
    fitting = f"give {part.name}_size: {option_size(found_bytes)}, or " if is_possible else "give "
    raise BadInput(
        f"the file {printable(part.path)} exists with {exact_size_text(found_bytes)}, and {exact_size_text(part.size_bytes)} of {part.name} are requested",
        hint=f"{fitting}another {part.name}_file; if nothing in the file is needed, remove it, and it is made in the right size",
    )


def _give_up(host: Run, pool: PoolRecord, made: list[str]) -> None:
    if pool.metadata not in made and not metadata_is_blank(pool.metadata):
        return  # formatted by now, and not ours to remove: the next run resumes it
    deactivate(host.dm, host.runner, spec_of(pool))
    for path in made:
        remove_file(path)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(host.settings.path("pools", pool.id))
    with host.store.transaction():
        host.store.drop(pool)
        host.store.rows(_FORGET_INTENTS, OperationKind.POOL.value, pool.name)


def _make(host: Run, pool: PoolRecord) -> PoolRecord:
    spec = spec_of(pool)
    crash_point("pool:planned")
    if pool.is_loop:
        host.directory("pools")
        host.directory(os.path.join("pools", pool.id))
        allocate_files(host.runner, spec)
    crash_point("pool:allocated")
    device = activate(host.dm, host.runner, spec, may_format=metadata_is_blank(pool.metadata))
    crash_point("pool:activated")
    if status(host.dm, pool.name).transaction_id == 0:
        if pool.has_reserved_start:
            reserve_head(host.dm, device, spec)
            crash_point("pool:reserved")
        ThinPool(host.dm, pool.name).set_transaction_id(0, pool.transaction_id)
    crash_point("pool:numbered")
    pool = pool._replace(formatted=True)
    with host.store.transaction():
        host.store.put(pool)
        host.store.rows(_FORGET_INTENTS, OperationKind.POOL.value, pool.name)
    return pool


def new_record(host: Run, options: PoolOptions, pool_id: str) -> PoolRecord:
    """The row of a pool that is about to be made."""
    geometry = options.geometry()
    return PoolRecord(
        id=pool_id,
        name=options.name.value,
        data=options.data or host.settings.path("pools", pool_id, "data"),
        metadata=options.metadata or host.settings.path("pools", pool_id, "metadata"),
        is_loop=options.is_loop,
        data_sectors=geometry.data_sectors,
        metadata_bytes=geometry.metadata_bytes,
        block_sectors=geometry.block_sectors,
        low_water_blocks=geometry.low_water_blocks,
        error_if_no_space=options.error_if_no_space,
        min_free_percent=options.min_free_percent,
        transaction_id=(secrets.randbits(30) + 1) << 32,
        formatted=False,
        data_identity="" if options.is_loop else device_identity(options.data, host.dm.sysfs),
        policy=options.policy.to_json(),
    )


def spec_of(pool: PoolRecord) -> PoolSpec:
    """The pool as device-mapper gets it."""
    geometry = Geometry(pool.data_sectors, pool.metadata_bytes, pool.block_sectors, pool.low_water_blocks, ())
    return PoolSpec(
        pool.name, pool.uuid, Backing(pool.data, pool.metadata, pool.is_loop), geometry, pool.error_if_no_space
    )
