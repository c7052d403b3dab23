# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool grows while it is in use: more data, more metadata, never less.

Invariant: the store says the size that the pool's metadata has. An intent is open from before the files grow until the new size is recorded;
a growth that was interrupted is settled by what the metadata says: grown, or not and the files are cut back.
"""

from __future__ import annotations

from ..._errors import BadInput, doing
from ..._host.processes.crash import crash_point
from ..._names import exact_size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.pool.backing import device_bytes, enlarge_backing_file, shorten_backing_file
from ..._thin.pool.metadata import read_superblock
from ..._thin.pool.resizing import refresh_loops, resize, settle_size
from ..._thin.pool.thin_pool import require_sound, status
from ..findings import RecoveryKind, of_pool
from ..run import Run
from ..store.records import OperationKind, PoolRecord
from .create import spec_of
from .state import growing, with_data_sectors

ASKED = "it was asked for"


def grow(host: Run, pool: PoolRecord, wanted: PoolRecord, *, why: str = ASKED) -> PoolRecord:
    """Let ``pool``, which is up, have the size of ``wanted``; the record as it was committed. A failure leaves it as it was."""
    with doing(f"growing the pool '{pool.name}'"), host.log.transition("grow", pool=pool.name, why=why) as log:
        require_sound(
            status(host.dm, pool.name)
        )  # one that needs repair does not grow (dm-thin.c, maybe_resize_metadata_dev)
        with host.store.transaction():
            host.store.put(host.begin(OperationKind.GROW, pool.name))
            # Here already: a growth that is interrupted is settled by what the pool has, which does not say who wanted it.
            host.store.change(
                pool,
                grown_from_sectors=wanted.grown_from_sectors or pool.grown_from_sectors,
                grown_from_metadata_bytes=wanted.grown_from_metadata_bytes or pool.grown_from_metadata_bytes,
            )
        crash_point("grow:planned")
        try:
            _make_room(host, wanted)
            crash_point("grow:allocated")
            resize(host.dm, host.runner, spec_of(wanted))
            crash_point("grow:resized")
        except BaseException:
            settle_growth(host, pool)
            raise
        log.update(data_size=wanted.data_sectors * SECTOR_BYTES, metadata_size=wanted.metadata_bytes)
        return _record(host, wanted)


def settle_growth(host: Run, pool: PoolRecord) -> PoolRecord:
    """Under the lock of the pool's setup: finish or undo a growth that was interrupted, as its metadata says; the record as it is then."""
    if not growing(host, pool):
        return pool
    if host.dry_run:
        text = f"would finish or undo the growth of the pool '{pool.name}'"
        host.report(RecoveryKind.GROWTH_RECOVERED, of_pool(pool.name), text)
        return pool
    pool = host.store.pool(pool.name) or pool
    settle_size(host.dm, pool.name)
    there = read_superblock(pool.metadata)
    actual = _with_live_table(host, with_data_sectors(pool, there.data_blocks * pool.block_sectors))
    if pool.is_loop:  # of a device the kernel uses all, whatever was asked for
        actual = actual._replace(metadata_bytes=max(pool.metadata_bytes, there.metadata_blocks * METADATA_BLOCK_BYTES))
        shorten_backing_file(pool.data, actual.data_sectors * SECTOR_BYTES)
        shorten_backing_file(pool.metadata, actual.metadata_bytes)
        refresh_loops(host.dm, host.runner, spec_of(actual))
    has_grown = (actual.data_sectors, actual.metadata_bytes) != (pool.data_sectors, pool.metadata_bytes)
    text = f"{'finished' if has_grown else 'undid'} the growth of the pool '{pool.name}'"
    host.report(RecoveryKind.GROWTH_RECOVERED, of_pool(pool.name), text)
    return _record(host, actual)


def _with_live_table(host: Run, pool: PoolRecord) -> PoolRecord:
    """With the mark and the policy for a full pool that the growth has put into its table, when the pool is up."""
    device = host.dm.find(pool.uuid)
    if device is None or not device.sectors:
        return pool
    words = host.dm.table(device.name).split()
    return pool._replace(low_water_blocks=int(words[6]), error_if_no_space="error_if_no_space" in words)


def _make_room(host: Run, wanted: PoolRecord) -> None:
    for what, path, size_bytes in (
        ("metadata", wanted.metadata, wanted.metadata_bytes),
        ("data", wanted.data, wanted.data_sectors * SECTOR_BYTES),
    ):
        if wanted.is_loop:
            hint = f"give a smaller {what}_size, or make room"
            enlarge_backing_file(host.runner, path, size_bytes, no_room_hint=hint)
        elif device_bytes(path) < size_bytes:
            raise BadInput(
                f"the pool '{wanted.name}' is to grow to {exact_size_text(size_bytes)}, but {path} has {exact_size_text(device_bytes(path))}",
                hint=f"make the device larger first, or give a smaller {what}_size",
            )


def _record(host: Run, pool: PoolRecord) -> PoolRecord:
    with host.store.transaction():
        now = host.store.pool(pool.name) or pool  # its transaction id may have gone on meanwhile
        pool = now._replace(
            data_sectors=pool.data_sectors,
            metadata_bytes=pool.metadata_bytes,
            low_water_blocks=pool.low_water_blocks,
            error_if_no_space=pool.error_if_no_space,
            grown_from_sectors=pool.grown_from_sectors,
            grown_from_metadata_bytes=pool.grown_from_metadata_bytes,
        )
        host.store.put(pool)
        host.store.rows("DELETE FROM operations WHERE kind=? AND subject=?", OperationKind.GROW.value, pool.name)
    return pool
