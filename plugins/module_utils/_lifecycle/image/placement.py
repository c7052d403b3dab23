# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the pool that holds an image with the pool that a module was called with.

Invariant: an image is never split over two pools: a module that names the wrong pool fails before anything is created, changed or removed.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._errors import BadInput
from ..._names import ShortName, printable
from ..run import Run
from ..store.generations import generation_of
from ..store.records import Image, PoolRecord, RetiredImage, Snapshot, Volume


def pool_of(host: Run, image: Image) -> PoolRecord | None:
    """The pool that holds the base of this generation, or its snapshots when the base was lost; None when it has neither."""
    ulids = [image.base_ulid] if image.base_ulid else []
    ulids += [snapshot.ulid for snapshot in host.store.all(Snapshot, "image_id=?", image.id)] if image.id else []
    for ulid in ulids:
        volume = host.store.find(Volume, "ulid=?", ulid)
        if volume is not None:
            return host.store.find(PoolRecord, "id=?", volume.pool_id)
    return None


def stay_in_pool(host: Run, key: str, sha256: str = "") -> None:
    """Work in the pool that holds the image of ``key``, or held its last generation, where the options name none.

    With ``sha256``, that of the generation with this digest comes first.
    """
    if host.settings.names_pool:
        return
    name = pool_name_of(host, key, generation_of(host.store, key, sha256))
    if name:
        host.settings = host.settings._replace(pool=ShortName(name))


def pool_name_of(host: Run, key: str, named: Image | None = None) -> str:
    """The name of the pool that holds the ``named`` or the current generation of ``key``, or else the last one that lies in a pool.

    Empty when none does.
    """
    current, *retired = [host.store.image_or_new(key), *host.store.all(RetiredImage, "object_key=?", key)]
    for image in (*([named] if named else []), current, *reversed(retired)):
        holder = pool_of(host, image)
        if holder is not None:
            return holder.name
    return ""


def named_pool(host: Run, name: str, pool: str) -> str:
    """The pool that is named by one of two options, of which ``name`` counts before ``pool``; empty when neither was given."""
    if name and pool and name != pool:
        host.warnings.append(f"this is the pool '{name}' (name); pool: {printable(pool)} has no effect here")
    return name or pool


def require_in_pool(host: Run, image: Image, pool_name: str) -> None:
    """Raise ``BadInput`` when ``image`` lies in another pool; one that lies in none may go into any."""
    holder = pool_of(host, image)
    if holder is not None and holder.name != pool_name:
        raise BadInput(
            f"{image.object_key} lies in the pool '{holder.name}', not in '{pool_name}'",
            hint=f"name the pool '{holder.name}' (activate_pool: {holder.name}); to move the image, remove it first with the role"
            f" flyd.lite.deactivate, then activate it in '{pool_name}'",
            pool=holder.name,
        )


def require_all_in_pool(host: Run, generations: Iterable[Image], pool_name: str) -> None:
    """For a removal that names a pool: raise ``BadInput`` when one of the ``generations`` lies in another one."""
    for image in generations:
        holder = pool_of(host, image)
        if holder is not None and holder.name != pool_name:
            raise BadInput(
                f"{image.object_key} lies in the pool '{holder.name}', not in '{pool_name}'; nothing was removed",
                hint=f"name the pool '{holder.name}' (deactivate_pool: {holder.name}), or leave the pool out: all generations of an image are"
                " removed, whatever pool holds them",
                pool=holder.name,
            )


def require_pool_on(host: Run, pool_name: str, data: str, metadata: str) -> None:
    """For a removal or a repair: raise ``BadInput`` when the pool lies on other files or devices than those named; empty names none."""
    pool = host.store.pool(pool_name)
    for what, given, has in () if pool is None else (("data", data, pool.data), ("metadata", metadata, pool.metadata)):
        if given and given != has:
            raise BadInput(
                f"{what}_file or {what}_device is {printable(given)}, but the pool '{pool_name}' has its {what} on {has}; nothing was changed",
                hint="name the pool that is meant, or leave the files and devices out",
            )
