# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dump the metadata of each pool as text (thin_dump) once a day, for thin_restore when thin_repair cannot read the metadata.

The dump is read from a metadata snapshot (thin-provisioning.rst, reserve_metadata_snap) while the pool is in use.

Invariant: a dump under its final name is complete and on disk; the newest seven are kept. The file ``reserved`` marks a metadata snapshot as
this program's: it is created before the snapshot and removed after it, so the next run releases one that a killed run has left. A metadata
snapshot of another program is never released.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import time
from collections.abc import Iterator

from ..._errors import Busy, DamagedPool
from ..._host.files.durable import file_errors, remove_file, require_room, sync_directory
from ..._host.processes.crash import crash_point
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.pool.dump import state_data_blocks, thin_dump
from ..._thin.pool.thin_pool import ThinPool, require_sound, status
from ..pool.state import is_active
from ..run import Run
from ..settings import Settings
from ..store.lock_names import dump_lock, pool_lock
from ..store.records import PoolRecord

DIRECTORY = "backup"
KEPT = 7
_DAY_SECONDS = 24 * 3600
_SLACK_SECONDS = 3600  # of a timer that comes once a day
_NAME = re.compile(r"metadata-(\d{6,})\.xml\.gz")
_MARK, _TEXT, _PART = "reserved", "metadata.xml", "metadata.xml.gz.part"


def dumps_of(settings: Settings, pool_name: str) -> list[str]:
    """The dumps of the pool's metadata, the oldest first."""
    directory = settings.path(DIRECTORY, pool_name)
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return [os.path.join(directory, name) for name in sorted(filter(_NAME.fullmatch, names), key=_number)]


@contextlib.contextmanager
def naming_the_newest(settings: Settings, pool: PoolRecord) -> Iterator[None]:
    """Say of metadata that cannot be repaired where it was dumped last, and what makes metadata of that."""
    try:
        yield
    except DamagedPool as error:
        for path in dumps_of(settings, pool.name)[-1:]:
            restored = f"`zcat {path} > /var/tmp/pool.xml`, then `thin_restore -i /var/tmp/pool.xml -o {pool.metadata}`"
            error.hint = f"{path} has the metadata as it was: {restored}; {error.hint}"
        raise


def dump_metadata(host: Run, pool: PoolRecord) -> str:
    """Write a dump when the newest is a day old; its path, empty when none is due or the pool is not up."""
    if not is_active(host, pool) or not _is_due(host.settings, pool.name):
        return ""
    host.directory(DIRECTORY)
    host.directory(os.path.join(DIRECTORY, pool.name))
    with host.lock(dump_lock(pool.name)):
        if host.store.pool(pool.name) is None:
            return ""  # it was torn down while this waited
        with host.log.transition("dump", pool=pool.name) as log:
            path = _dumped(host, pool)
            log["size"] = os.path.getsize(path)
    return path


def remove_dumps(settings: Settings, pool_name: str) -> None:
    """With the pool, all that is there of it."""
    shutil.rmtree(settings.path(DIRECTORY, pool_name), ignore_errors=True)
    with contextlib.suppress(OSError):  # other pools' are there, or nothing at all
        os.rmdir(settings.path(DIRECTORY))


def _is_due(settings: Settings, pool_name: str) -> bool:
    found = dumps_of(settings, pool_name)
    if not found:
        return True
    age_seconds = time.time() - os.path.getmtime(found[-1])
    return not 0 <= age_seconds < _DAY_SECONDS - _SLACK_SECONDS  # one of the future was dated by a wrong clock


def _dumped(host: Run, pool: PoolRecord) -> str:
    directory = host.settings.path(DIRECTORY, pool.name)
    text, part = os.path.join(directory, _TEXT), os.path.join(directory, _PART)
    _release_ours(host, pool)
    now = status(host.dm, pool.name)
    require_sound(now)
    # As text it takes about twice what it takes in the pool.
    require_room(
        text, 3 * now.used_metadata_blocks * METADATA_BLOCK_BYTES, hint="make room on the file system of state_dir"
    )
    try:
        _reserve(host, pool)
        crash_point("dump:reserved")
        thin_dump(host.runner, pool.metadata, text)
    finally:
        _release_ours(host, pool)
    with file_errors("compressing the metadata"):
        _compress(text, part, status(host.dm, pool.name).total_data_blocks)
        found = dumps_of(host.settings, pool.name)
        path = os.path.join(
            directory, f"metadata-{_number(os.path.basename(found[-1])) + 1 if found else 1:06d}.xml.gz"
        )
        os.unlink(text)
        crash_point("dump:written")
        os.rename(part, path)
        sync_directory(directory)
    for old in dumps_of(host.settings, pool.name)[:-KEPT]:
        remove_file(old)
    return path


def _compress(source: str, target: str, data_blocks: int) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(source, "rb") as text, os.fdopen(fd, "wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as packed:
            packed.write(state_data_blocks(text.readline(), data_blocks))
            shutil.copyfileobj(text, packed, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _reserve(host: Run, pool: PoolRecord) -> None:
    if status(host.dm, pool.name).held_metadata_root is not None:
        raise Busy(
            f"the pool '{pool.name}' has a metadata snapshot of another program",
            hint=f"end that program, or run `dmsetup message {pool.name} 0 release_metadata_snap` if it is gone",
        )
    mark = host.settings.path(DIRECTORY, pool.name, _MARK)
    with file_errors("marking the metadata snapshot"):
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        sync_directory(os.path.dirname(mark))
    with host.lock(pool_lock(pool.name)):
        ThinPool(host.dm, pool.name).reserve_metadata_snap()


def _release_ours(host: Run, pool: PoolRecord) -> None:
    """Release the metadata snapshot that a mark says to be ours, if there is one."""
    mark = host.settings.path(DIRECTORY, pool.name, _MARK)
    if not os.path.exists(mark):
        return
    if status(host.dm, pool.name).held_metadata_root is not None:
        with host.lock(pool_lock(pool.name)):
            ThinPool(host.dm, pool.name).release_metadata_snap()
    remove_file(mark)


def _number(path: str) -> int:
    found = _NAME.fullmatch(os.path.basename(path))
    return int(found[1]) if found else 0
