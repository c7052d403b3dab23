# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device is to an operator, who knows images and names of snapshots, not ULIDs.

Invariant: for messages only; a device that the store does not know has no label.
"""

from __future__ import annotations

from ..._names import printable
from ..store.records import Image, RetiredImage, Snapshot
from ..store.store import Store


def label(store: Store, device: str) -> str:
    """ "snapshot 'web' of images/redis.tar" or "base of images/redis.tar" for the name of a device-mapper device; else empty."""
    ulid = device.rpartition("-")[2]
    snapshot = store.find(Snapshot, "ulid=?", ulid)
    if snapshot is not None:
        return f"snapshot '{snapshot.name}' of {_key(store, 'id=?', snapshot.image_id)}"
    key = _key(store, "base_ulid=? AND base_ulid<>''", ulid)
    return f"base of {key}" if key else ""


def _key(store: Store, where: str, value: str) -> str:
    for image in (*store.all(Image, where, value), *store.all(RetiredImage, where, value)):
        return printable(image.object_key)
    return ""
