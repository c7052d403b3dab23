# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse an image that cannot fit its pool before the download.

Invariant: pieces of the archive are requested from S3 only when the object itself is larger than the free space of the pool. What a forecast
cannot determine is left to flyd_unpack, which knows the tree.
"""

from __future__ import annotations

from ..._errors import FlydError, NoSpace
from ..._image.outline.forecast import least_layers_bytes
from ..._names import printable, size_text
from ..._source.download.fetch import Asked
from ..._source.objects import ObjectInfo
from ..._source.source import Source
from ..._thin.pool.health import status
from ..growth.policy import Policy, may_grow
from ..growth.reach import data_reach
from ..pool.request import DEFAULT_MIN_FREE_PERCENT
from ..pool.state import is_active
from ..run import Run
from ..volumes.room import Room, data_room

_ESCAPE = "; when its layers replace each other's files, it may fit: leave pool out of flyd_fetch (activate_check_room: false)"


def require_fit(host: Run, bucket: Source, asked: Asked, pool_bytes: int) -> None:
    """Raise ``NoSpace`` when what is behind the key takes more than the pool of this run has room for.

    ``pool_bytes`` is the size of a pool that a simulated flyd_pool would have made or grown, otherwise 0. A pool that is not there, or
    not active, is not judged.
    """
    room = _room(host, pool_bytes)
    if room is None or asked.found.size_bytes <= room.free_bytes:
        return
    needed_bytes: int | None = asked.found.size_bytes
    if not asked.found.key.is_family:
        needed_bytes = _layers_bytes(host, bucket, asked.infos[0])
    if needed_bytes is None or needed_bytes <= room.free_bytes:
        return
    name = host.settings.pool.value
    pool = host.store.pool(name)
    option = "max_size" if pool is not None and may_grow(pool.policy) else "data_size"
    raise NoSpace(
        f"{printable(asked.found.key.value)} does not fit the thin pool '{name}': its layers have {size_text(needed_bytes)}, "
        f"and the pool has {size_text(room.free_bytes)} free beyond its reserve of {room.reserve_percent} %; nothing was downloaded",
        hint=f"set {option}: {room.size_for(needed_bytes)} or more on flyd_pool (role activate: activate_pool_{option}){_ESCAPE}",
        needed_bytes=needed_bytes,
        free_bytes=room.free_bytes,
    )


def _room(host: Run, pool_bytes: int) -> Room | None:
    pool = host.store.pool(host.settings.pool.value)
    if pool is None or not pool.formatted:
        return Room("data_size", 0, pool_bytes, DEFAULT_MIN_FREE_PERCENT) if pool_bytes else None
    if not is_active(host, pool):
        return None
    try:
        room = data_room(pool, status(host.dm, pool.name))
    except FlydError:  # a pool that cannot be asked: the run that makes a volume in it reports why
        return None
    can_have = data_reach(
        host, pool, Policy.recorded(pool.policy)
    ).size_bytes  # nothing where the pool does not grow automatically
    return room._replace(total_bytes=max(room.total_bytes, pool_bytes, can_have))


def _layers_bytes(host: Run, bucket: Source, info: ObjectInfo) -> int | None:
    def read(offset: int, length: int) -> bytes:
        def once() -> bytes:
            with bucket.open(info, offset, offset + length - 1) as body:
                pieces = []
                while piece := body.read(length):
                    pieces.append(piece)
                return b"".join(pieces)

        return host.retry.call(once)

    return least_layers_bytes(read, info.size_bytes)
