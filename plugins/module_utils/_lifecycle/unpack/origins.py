# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which base of an earlier generation a new one is made of, and whether it is worth it.

Invariant: an origin is a sealed base of the same key in the same pool, with a file system of the same kind. Nothing of it is ever written to.
A doubt is a reason in ``Fresh``, and never an error.
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator
from typing import NamedTuple

from ..._image.opening import OpenImage
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.filesystem import RECIPE, inodes_with_room
from ..._thin.ext4.layout import BLOCK_BYTES, INODE_BYTES
from ..._thin.ext4.sizing import grown_bytes_for, room_bytes_in
from ..run import Run
from ..store.base_record import BaseRecord
from ..store.records import Image, PoolRecord, Volume, VolumeState
from ..volumes.manifests import open_manifest
from .options import UnpackOptions

_MOST_DEPTH = 64  # a damaged block is inherited by all that are made of it
_LEAST_SHARE = 3  # of the content, one part in so many
_PLACES = 64  # of the file system that are written in any case: bitmaps, descriptors, directories


class Fresh(str, enum.Enum):
    """Why a base was not made of an earlier one."""

    NEVER = "reuse_never"
    NO_BASE = "no_earlier_base"
    NO_MANIFEST = "no_manifest"
    OTHER_KIND = "other_filesystem"
    DEEP = "too_many_before_it"
    DIFFERENT = "too_different"
    INODES = "too_few_inodes"
    SIZE = "smaller_size"
    ROOM = "no_room"
    FAILED = "failed"


class Candidate(NamedTuple):
    """A base that the new one may be made of, and the open file with its manifest."""

    volume: Volume
    record: BaseRecord
    manifest_fd: int


class Choice(NamedTuple):
    """The base that the new one is made of, or why it is made fresh."""

    origin: Candidate | None
    fresh_because: Fresh | None

    @property
    def manifest_fd(self) -> int:
        """The open file with the manifest of the origin, -1 for none."""
        return -1 if self.origin is None else self.origin.manifest_fd

    @property
    def least_bytes(self) -> int:
        """The size that the new base has at least."""
        return 0 if self.origin is None else self.origin.volume.sectors * SECTOR_BYTES


def fresh(because: Fresh) -> Choice:
    """No origin."""
    return Choice(None, because)


@contextlib.contextmanager
def choose(host: Run, pool: PoolRecord, image: Image, asked: UnpackOptions) -> Iterator[Choice]:
    """The newest base of the key in ``pool`` that something can be made of; it is not weighed yet."""
    if asked.reuses_nothing:
        yield fresh(Fresh.NEVER)
        return
    found, record = _newest(host, pool, image)
    problem = Fresh.NO_BASE if found is None else _problem(record)
    if found is None or record is None or problem:
        yield fresh(problem or Fresh.NO_MANIFEST)
        return
    fd = open_manifest(host, found.ulid, record.manifest_sha256)
    if fd < 0:
        yield fresh(Fresh.NO_MANIFEST)
        return
    try:
        yield Choice(Candidate(found, record, fd), None)
    finally:
        os.close(fd)


def _newest(host: Run, pool: PoolRecord, image: Image) -> tuple[Volume | None, BaseRecord | None]:
    ulids = sorted((one.base_ulid for one in host.store.generations(image.object_key) if one.base_ulid), reverse=True)
    live = VolumeState.LIVE.value
    for ulid in ulids:
        volume = host.store.find(Volume, "ulid=? AND pool_id=? AND state=?", ulid, pool.id, live)
        if volume is not None:
            return volume, host.store.find(BaseRecord, "base_ulid=?", ulid)
    return None, None


def _problem(record: BaseRecord | None) -> Fresh | None:
    if record is None or not record.manifest_sha256:
        return Fresh.NO_MANIFEST
    if record.recipe != RECIPE:
        return Fresh.OTHER_KIND
    return Fresh.DEEP if record.depth + 1 >= _MOST_DEPTH else None


def weighed(choice: Choice, unpacking: OpenImage, asked: UnpackOptions) -> Choice:
    """``choice`` once the image is known: an origin that saves little, or is too small, is none."""
    if choice.origin is None:
        return choice
    if unpacking.origin is None:
        return fresh(Fresh.NO_MANIFEST)
    plan, found, record = unpacking.plan, unpacking.origin, choice.origin.record
    if asked.size_bytes and asked.size_bytes < choice.least_bytes:
        return fresh(Fresh.SIZE)
    if (found.reused_bytes + found.compared_bytes) * _LEAST_SHARE < plan.content_bytes:
        return fresh(Fresh.DIFFERENT)
    spare = (inodes_with_room(plan.inodes) - plan.inodes) // 2
    if plan.inodes + spare > record.inodes or found.old_inodes + found.new_inodes >= record.inodes:
        return fresh(Fresh.INODES)
    size_bytes = max(asked.size_bytes, choice.least_bytes)
    new_bytes = found.written_bytes + found.compared_bytes + found.new_inodes * BLOCK_BYTES
    if asked.size_bytes and record.volume_blocks * BLOCK_BYTES + new_bytes > room_bytes_in(size_bytes, plan.inodes):
        return fresh(Fresh.ROOM)
    return choice


def changed_bytes_for(choice: Candidate, unpacking: OpenImage, size_bytes: int, block_bytes: int) -> int:
    """What changing the origin's tree takes of the pool: what is written is scattered, and the pool gives out whole blocks."""
    found = unpacking.origin
    if found is None:
        return size_bytes
    content_bytes = 2 * (found.written_bytes + found.compared_bytes) + found.new_inodes * BLOCK_BYTES
    own_bytes = choice.record.inodes * INODE_BYTES + _PLACES * block_bytes
    old_bytes = choice.volume.sectors * SECTOR_BYTES
    if size_bytes > old_bytes:
        own_bytes += grown_bytes_for(old_bytes, size_bytes, unpacking.plan.inodes, block_bytes)
    return content_bytes + own_bytes
