# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files or devices of a thin pool that was made by hand and has no volumes become those of a new pool.

Invariant: nothing is cleared but the superblock of a pool that holds no volume, that no pool of the database names, and that nothing uses. A
run that is killed afterwards leaves blank metadata, in which the next one makes the pool.
"""

from __future__ import annotations

import errno
import os

from ..._errors import BadInput, Busy
from ..._names import printable
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.holders import who_holds
from ..._thin.loop import find_all
from ..._thin.pool.backing import check_device
from ..._thin.pool.metadata import has_superblock, read_thin_ids
from ..run import Run
from ..store.records import PoolRecord


def has_adoptable(host: Run, pool: PoolRecord) -> bool:
    """Whether the metadata of the new pool ``pool`` is that of an empty pool, which may be cleared. Writes nothing.

    Raises ``BadInput`` for a pool that has volumes, or that the database names, and for a data device that holds something; ``Busy`` for one
    that is in use.
    """
    path = pool.metadata
    if not os.path.exists(path) or not has_superblock(path):
        return False
    for other in host.store.all(PoolRecord):
        if other.id != pool.id and os.path.exists(other.metadata) and os.path.samefile(other.metadata, path):
            raise BadInput(
                f"{printable(path)} is the metadata of the pool '{other.name}'",
                hint=f"remove that pool first (flyd_pool, name: {other.name}, state: absent), or give other files or devices",
            )
    ids = read_thin_ids(path)
    if ids:
        raise BadInput(
            f"the thin pool on {printable(path)} has volumes ({len(ids)}), and adopt takes over an empty pool only",
            hint="remove its volumes with the program that made them, or give other files or devices",
        )
    for used in (path, pool.data):
        _refuse_used(host, used)
    if not pool.is_loop:
        check_device(host.runner, pool.data, pool.data_sectors * SECTOR_BYTES, is_new=True)
    return True


def _refuse_used(host: Run, path: str) -> None:
    loops = find_all(host.runner, [path], sysfs=host.dm.sysfs)
    try:
        # Linux refuses O_EXCL for a block device that is mounted or has a device on top; of a file it says nothing.
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        held = [one.path for one in loops.values()]
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        number = os.stat(path).st_rdev
        held = list(who_holds(os.major(number), os.minor(number), sysfs=host.dm.sysfs)) or ["another device"]
    if held:
        raise Busy(
            f"{printable(path)} is in use: {', '.join(held)}",
            hint="remove the device of the pool that is to be adopted (`dmsetup remove`, `losetup --detach`), or end what uses it",
        )
