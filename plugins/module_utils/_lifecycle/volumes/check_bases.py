# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the bases of a pool after a metadata repair, and remove a damaged one, so that the next run creates it again.

Invariant: only a base that e2fsck has checked and found damaged is removed, and the intent to do so is committed with that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..._errors import CommandFailed
from ..._thin.ext4.filesystem import check
from ..findings import RecoveryKind
from ..run import Run
from ..store.records import Image, OperationKind, PoolRecord, RetiredImage, Volume, VolumeState
from .hidden import HIDDEN, hidden_bases
from .missing_volumes import forget
from .volumes import destroy_volume, map_thin, unmap

# Usage, cancelled, no library (e2fsck(8)); what cannot be opened as ext4 is damaged, 8.
_E2FSCK_DID_NOT_LOOK = 16 | 32 | 128


def check_bases(host: Run, pool: PoolRecord) -> list[str]:
    """e2fsck without writing; a damaged base is removed from the pool and the store, so that the next run creates it again.

    Returns the devices of the images' bases that are clean.
    """
    clean = []
    bases = {image.base_ulid: image.object_key for image in (*host.store.all(Image), *host.store.all(RetiredImage))}
    bases.update({volume.ulid: volume.device_name for volume in hidden_bases(host, pool)})
    for volume in host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value):
        if volume.ulid not in bases:
            continue
        damage = _damage(host, pool, volume)
        if damage:
            _remove_damaged(host, pool, volume, key=bases[volume.ulid], damage=damage)
        elif volume.kind != HIDDEN:
            clean.append(volume.device_path)
    return clean


def _damage(host: Run, pool: PoolRecord, volume: Volume) -> str:
    """What e2fsck says of the base, empty when it is clean. That it could not be asked is an error, and costs no base."""
    with _mapped(host, pool, volume) as path:
        try:
            check(host.runner, path)
        except CommandFailed as error:
            code = int(error.details.get("returncode", -1))
            if code < 0 or code & _E2FSCK_DID_NOT_LOOK:
                raise
            return error.msg[:200]
    return ""


def _remove_damaged(host: Run, pool: PoolRecord, volume: Volume, *, key: str, damage: str) -> None:
    operation = host.begin(OperationKind.REMOVE, key, volume_ulid=volume.ulid)
    text = f"removed {volume.device_name}, whose file system is damaged: {damage}"
    forget(host, volume, RecoveryKind.BASE_DAMAGED, text, removal=operation)
    destroy_volume(host, pool, volume._replace(state=VolumeState.DELETING))
    with host.store.transaction():
        host.store.drop(operation)


@contextlib.contextmanager
def _mapped(host: Run, pool: PoolRecord, volume: Volume) -> Iterator[str]:
    try:
        yield map_thin(host, pool, volume, read_only=True).path
    finally:
        unmap(host, volume)
