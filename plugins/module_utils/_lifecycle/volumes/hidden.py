# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hidden bases: the lowest layers of images that share them, unpacked once, so that bases of several keys can be made of them.

Invariant: a hidden base belongs to no image, is never mapped but while it is made or removed, and has held nothing but its layers. It is removed
when no base is left whose layers begin with those; what was made of it does not need it.
"""

from __future__ import annotations

from collections.abc import Collection

from ..._host.processes.crash import crash_point
from ..attempts import repeated_if_transient
from ..run import Run
from ..store.base_record import BaseRecord
from ..store.records import Operation, OperationKind, PoolRecord, Volume, VolumeState
from .recover import abandoned
from .volumes import destroy_volume

HIDDEN = "hidden"  # the kind of their volumes


def hidden_bases(host: Run, pool: PoolRecord) -> list[Volume]:
    """Those that are sealed, in ``pool``."""
    return host.store.all(Volume, "pool_id=? AND kind=? AND state=?", pool.id, HIDDEN, VolumeState.LIVE.value)


def unneeded(host: Run, pool: PoolRecord, assumed_gone: Collection[str] = ()) -> list[Volume]:
    """Those that no base in ``pool`` begins with, but for those with the ULIDs ``assumed_gone``; none while a base is being made."""
    hidden = hidden_bases(host, pool)
    if not hidden or _is_one_made(host):
        return []
    layers = {one.base_ulid: one.own_layers for one in host.store.all(BaseRecord)}
    bases = host.store.all(Volume, "pool_id=? AND kind='base' AND state=?", pool.id, VolumeState.LIVE.value)
    there = [layers.get(base.ulid, ()) for base in bases if base.ulid not in assumed_gone]
    return [one for one in hidden if not any(_begins(base, layers.get(one.ulid, ())) for base in there)]


def _is_one_made(host: Run) -> bool:
    left = {operation.ulid for operation in abandoned(host)}
    return any(one.ulid not in left for one in host.store.all(Operation, "kind=?", OperationKind.UNPACK.value))


def _begins(layers: tuple[str, ...], lowest: tuple[str, ...]) -> bool:
    return bool(lowest) and layers[: len(lowest)] == lowest


def remove_hidden(host: Run, pool: PoolRecord, volume: Volume) -> None:
    """Remove one, unless another run has begun to; from its intent on it counts as removed.

    What fails for a transient reason is done again; what stays is an open intent for the next process.
    """
    operation = host.begin(OperationKind.REMOVE, volume.device_name, volume_ulid=volume.ulid)
    with host.store.transaction():
        if host.store.find(Volume, "ulid=?", volume.ulid) != volume:
            return
        host.store.put(operation)
        host.store.put(volume._replace(state=VolumeState.DELETING))
    host.removed.append(volume.device_path)
    host.subject = {"transition": "prune", "volume": volume.device_name}
    repeated_if_transient(host, lambda: _finish(host, pool, operation), what="transition")


def _finish(host: Run, pool: PoolRecord, operation: Operation) -> None:
    """Safe to do again: once the volume's row is gone, its thin id may be another volume's."""
    crash_point("remove:hidden")
    left = host.store.find(Volume, "ulid=?", operation.volume_ulid)
    if left is not None:
        destroy_volume(host, pool, left)
    with host.store.transaction():
        host.store.drop(operation)
