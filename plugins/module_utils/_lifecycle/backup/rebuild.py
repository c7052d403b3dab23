# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuild a lost database from the copies that are stored with the pools, as far as the pools still match them.

Invariant: no pool is changed, and no volume is adopted that may be foreign. A copy can be older than its pool, by the changes of runs that
were killed before they updated it. A volume is that of the copy only if the pool had it at the transaction of the copy: the
pool's metadata records for each volume the transaction that created it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import BadInput, CorruptStore, FlydError, OutOfOrder
from ..._host.files.durable import check_private_directory, sync_directory
from ..._names import printable
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.pool.head import read_head
from ..._thin.pool.metadata import Superblock, read_details, read_superblock
from ..findings import RecoveryKind
from ..pool.state import with_data_sectors
from ..run import Run, open_host
from ..settings import Settings
from ..store.copies import rank_of_copy
from ..store.records import PoolRecord, Volume, VolumeState
from ..store.store import open_store
from ..volumes.missing_volumes import forget
from .keep import NAME


class Rebuilt(NamedTuple):
    """Where the database was rebuilt from, and what of it was left out: the volumes that the pools no longer have, by their devices."""

    source: str
    left_out: tuple[str, ...]


class _Candidate(NamedTuple):
    source: str
    path: str
    rank: tuple[int, str]


def rebuild(settings: Settings, data: str, target: str, *, pool: str, dry_run: bool) -> Rebuilt | None:
    """Write the database to ``target`` from the newest copy there is; None when there is a database, which is left as it is.

    ``data`` is the file or device of a pool outside of the state directory, ``pool`` the name of one that must be known,
    each empty for none. In a dry run ``target`` is in a directory of the
    caller's. Raises ``CorruptStore`` when there is no copy, or when its pool is older than it, and for a database that is damaged: that is to
    be moved away first.
    """
    path = settings.path(NAME)
    if os.path.exists(path) and os.path.getsize(path) > 0:
        open_store(path, writable=False, busy_seconds=settings.lock_timeout_seconds).close()
        return None
    check_private_directory(settings.path())
    with contextlib.ExitStack() as stack:
        chosen = max(_candidates(settings, data, target, stack), key=lambda one: one.rank, default=None)
        if chosen is None:
            raise CorruptStore(
                f"there is no copy of the database below {settings.path('pools')}"
                + (f", and none on {data}" if data else ""),
                hint="name the pool's data_device and metadata_device (or data_file and metadata_file) when it does not lie in the state directory; "
                "without a copy, restore flyd.db from a backup: docs/errors.md, corrupt_store",
            )
        left_out = _adjust(settings, chosen, pool, dry_run=dry_run)
        os.rename(chosen.path, target)
        sync_directory(os.path.dirname(target))
    return Rebuilt(chosen.source, tuple(left_out))


def _candidates(settings: Settings, data: str, target: str, stack: contextlib.ExitStack) -> Iterator[_Candidate]:
    """Each copy as a private file that may be moved, with how new it is."""
    directory = settings.path("pools")
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    sources = [(path, b"") for path in (os.path.join(directory, name, NAME) for name in names) if os.path.isfile(path)]
    kept = read_head(data) if data else None
    if kept is not None:
        sources.append((data, kept.data))
    for number, (source, content) in enumerate(sources):
        path = f"{target}.copy-{number}"
        stack.callback(_remove, path)
        if not content:
            with open(source, "rb") as file:
                content = file.read()
        _write(path, content)
        rank = rank_of_copy(path)
        if rank is not None:
            yield _Candidate(source, path, rank)


def _write(path: str, content: bytes) -> None:
    _remove(path)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _adjust(settings: Settings, chosen: _Candidate, pool_name: str, *, dry_run: bool) -> list[str]:
    """Bring the copy to this release's schema, and to what each pool has now; the devices of volumes that are left out."""
    with open_host(settings, dry_run=False, database=chosen.path) as host:
        require_pool(host, pool_name, f" that {chosen.source} holds")
        with host.store.transaction():
            host.store.rows("DELETE FROM _busy")
        return [device for pool in host.store.all(PoolRecord) for device in _match(host, pool, dry_run=dry_run)]


def _match(host: Run, pool: PoolRecord, *, dry_run: bool) -> list[str]:
    try:
        there = read_superblock(pool.metadata)
        now = there.transaction_id
        details = read_details(pool.metadata)
    except FlydError:
        return []  # its device is away, or damaged: it is looked at when it comes up
    if now < pool.transaction_id:
        raise CorruptStore(
            f"the pool '{pool.name}' is at transaction {now}, and the newest copy of the database at {pool.transaction_id}: the pool is the older one",
            hint="the pool's files were restored from a backup, or exchanged: restore the flyd.db of the same time",
        )
    gone = [
        volume
        for volume in host.store.all(Volume, "pool_id=?", pool.id)
        if volume.state is VolumeState.LIVE
        and (volume.thin_id not in details or details[volume.thin_id].transaction_id >= pool.transaction_id)
    ]
    for volume in () if dry_run else gone:
        text = f"left out {volume.device_name}: the pool '{pool.name}' has no thin id {volume.thin_id} of the time of the copy"
        forget(host, volume, RecoveryKind.VOLUME_MISSING, text)
    with host.store.transaction():
        host.store.change(pool, transaction_id=now, **_sizes(pool, there))
    return [volume.device_path for volume in gone]


def _sizes(pool: PoolRecord, there: Superblock) -> dict[str, int]:
    """Those of a pool that has grown since the copy was written: growing is no transaction."""
    metadata_bytes = there.metadata_blocks * METADATA_BLOCK_BYTES if pool.is_loop else 0
    after = with_data_sectors(pool, max(pool.data_sectors, there.data_blocks * pool.block_sectors))
    return {
        "data_sectors": after.data_sectors,
        "low_water_blocks": after.low_water_blocks,
        "metadata_bytes": max(pool.metadata_bytes, metadata_bytes),
    }


def require_pool(host: Run, name: str, where: str) -> None:
    """Raise ``OutOfOrder`` when the database does not know the pool ``name``; any will do for an empty one."""
    if name and host.store.pool(name) is None:
        raise OutOfOrder(
            f"there is no pool '{name}' in the database{where}",
            hint=f"it has: {', '.join(one.name for one in host.store.all(PoolRecord)) or 'none'}; leave name out for all of them",
        )


def require_named(settings: Settings, what: str, path: str) -> None:
    """Raise ``BadInput`` when the file or device that the option ``what`` names is not there."""
    if path and not os.path.exists(path):
        raise BadInput(
            f"{what} is {printable(path)}, which does not exist",
            hint=f"name the files or devices of the pool, or leave {what} out for pools below {settings.path('pools')}",
        )
