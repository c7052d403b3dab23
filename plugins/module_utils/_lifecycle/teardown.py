# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a pool: its device, its loops and its files are gone, and so is its row.

Invariant: only a pool of the store is torn down, and only when nothing lives in it, unless that is asked for. A teardown that was cut
off is carried on before anything else is done with a pool of that name.
"""

from __future__ import annotations

import contextlib
import os

from .._errors import BadInput, OutOfOrder, doing
from .._host.crash import crash_point
from .._host.files import remove_file, sync_directory
from .._names import ShortName
from .._thin.pool import deactivate
from .host import Host
from .outcome import Outcome
from .pool import is_active
from .pool_making import spec_of
from .records import Image, Operation, OperationKind, PoolRecord, RetiredImage, Volume
from .remove import remove_base
from .settle import settle
from .views import no_pool, pool_view


def remove_pool(host: Host, name: ShortName, *, force: bool) -> Outcome:
    """Tear the pool down, or find that there is none. ``force`` takes the images in it along."""
    gone = no_pool(name.value)
    with doing(f"removal of the pool {name}"):
        if host.store.pool(name.value) is None:
            return Outcome(gone, gone, False, {"removed": []})
        with host.lock(f"pool setup {name}"):
            pool = host.store.pool(name.value)
            if pool is None:
                return Outcome(gone, gone, False, {"removed": []})
            before = pool_view(pool, active=is_active(host, pool))
            settle(host)
            images = _images_in(host, pool, force=force)
            removed = [pool.device_path, *([pool.data, pool.metadata] if pool.is_loop else [])]
            if not host.dry_run:
                with host.log.transition("remove pool", pool=pool.name):
                    for image in images:
                        remove_base(host, image)
                    finish_teardown(host, pool)
            return Outcome(before, gone, True, {"removed": removed}, tuple(host.settled))


def finish_teardown(host: Host, pool: PoolRecord) -> None:
    """Carry a teardown through, from wherever an earlier one was cut off."""
    if host.store.find(Operation, "kind=? AND subject=?", OperationKind.TEARDOWN.value, pool.name) is None:
        with host.store.transaction():
            host.store.put(host.begin(OperationKind.TEARDOWN, pool.name))
    crash_point("teardown:planned")
    deactivate(host.dm, host.runner, spec_of(pool))
    crash_point("teardown:deactivated")
    if pool.is_loop:
        for path in (pool.data, pool.metadata):
            remove_file(path)
        _remove_directory(host.settings.path("pools", pool.id))
    crash_point("teardown:removed")
    with host.store.transaction():
        host.store.drop(pool)
        for operation in host.store.all(Operation, "subject=? AND kind IN ('pool', 'teardown')", pool.name):
            host.store.drop(operation)


def _images_in(host: Host, pool: PoolRecord, *, force: bool) -> list[Image]:
    volumes = host.store.all(Volume, "pool_id=?", pool.id)
    ulids = {volume.ulid for volume in volumes}
    images = [image for image in (*host.store.all(Image), *host.store.all(RetiredImage)) if image.base_ulid in ulids]
    if volumes and not force:
        raise OutOfOrder(
            f"the pool {pool.name} holds {len(volumes)} volumes, of {', '.join(sorted({one.object_key for one in images}))}",
            hint="remove the images first (role flyd.lite.deactivate), or set force to remove them with the pool",
        )
    if volumes and not is_active(host, pool):
        raise BadInput(
            f"the pool {pool.name} is not active", hint="run flyd_pool first, so that its volumes can be removed"
        )
    return images


def _remove_directory(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)
        sync_directory(os.path.dirname(path))
