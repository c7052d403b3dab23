# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a new base is made of an earlier one: what that may hold, and whether it is worth it.

Invariant: an origin is a sealed base in the same pool with a file system of the same kind, and nothing of it is ever written to. That of another
key has held nothing but layers of the new image: what its free blocks may still hold, the new image's archive has. A doubt is a reason in
``Fresh``, and never an error.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import NamedTuple

from ..._image.opening import OpenImage
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.filesystem import inodes_with_room
from ..._thin.ext4.layout import BLOCK_BYTES, INODE_BYTES
from ..._thin.ext4.sizing import bytes_with_inodes, grown_bytes_for, inodes_when_grown, room_bytes_in
from ..store.base_record import BaseRecord
from ..store.records import Volume
from .options import UnpackOptions

_LEAST_SHARE = 3  # of the content, one part in so many
_MOST_GROWTH = 2  # times the size, for the sake of inodes
_MOST_MORE = 8  # one part in so many that a base may be larger than is wanted
_PLACES = 64  # of the file system that are written in any case: bitmaps, descriptors, directories


class Fresh(str, enum.Enum):
    """Why a base was not made of an earlier one."""

    NEVER = "reuse_never"
    NO_BASE = "no_earlier_base"
    NO_MANIFEST = "no_manifest"
    OTHER_KIND = "other_filesystem"
    DEEP = "too_many_before_it"
    OTHER_LAYERS = "other_layers"
    UNKNOWN_LAYERS = "unknown_layers"
    IN_USE = "in_use"
    DIFFERENT = "too_different"
    INODES = "too_few_inodes"
    SIZE = "smaller_size"
    ROOM = "no_room"
    FAILED = "failed"


class Candidate(NamedTuple):
    """A base that the new one may be made of, the key that it belongs to, and the open files with its manifest and what it was made of.

    ``archive_fds`` are the archive of its image, or the layers of a family with the digests ``layer_sha256``; none for another key's.
    """

    volume: Volume
    record: BaseRecord
    key: str
    manifest_fd: int
    is_of_same_key: bool
    archive_fds: tuple[int, ...] = ()
    layer_sha256: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self.volume.sectors * SECTOR_BYTES


class Choice(NamedTuple):
    """The base that the new one is made of, or why it is made fresh; ``least_bytes`` is the size that the new one has at least."""

    origin: Candidate | None
    fresh_because: Fresh | None
    least_bytes: int = 0


def fresh(because: Fresh) -> Choice:
    """No origin."""
    return Choice(None, because)


def refused(record: BaseRecord, layers: Collection[str]) -> Fresh | None:
    """Why an image of ``layers`` must not be made of a base of another key; None when it may.

    Bytes of files that were removed stay readable in free blocks of the device, so each layer that the base has had must be one that the archive
    of the image has. Files that no digest covers, such as those that the host has added, are in no archive.
    """
    if record.held is None:
        return Fresh.UNKNOWN_LAYERS
    return None if "" not in record.held and record.held <= frozenset(layers) else Fresh.OTHER_LAYERS


def weighed(choice: Choice, unpacking: OpenImage, asked: UnpackOptions, wanted_bytes: int) -> Choice:
    """``choice`` once the image is known, which is to have ``wanted_bytes``: an origin that saves little, or is too small, is none."""
    origin = choice.origin
    if origin is None:
        return choice
    if unpacking.origin is None:
        return fresh(Fresh.NO_MANIFEST)
    refusal = None if origin.is_of_same_key else refused(origin.record, unpacking.layers)
    if refusal is not None:
        return fresh(refusal)
    plan, found, record = unpacking.plan, unpacking.origin, origin.record
    if not origin.is_of_same_key or asked.size_bytes:
        # An image that hides files of layers below takes less than these do. Nothing asks for the computed size to the byte.
        more_bytes = 0 if asked.size_bytes else wanted_bytes // _MOST_MORE
        if wanted_bytes + more_bytes < origin.size_bytes:
            return fresh(Fresh.SIZE)
    if (found.reused_bytes + found.compared_bytes) * _LEAST_SHARE < plan.content_bytes:
        return fresh(Fresh.DIFFERENT)
    size_bytes = _size_with_inodes(origin, unpacking, asked, wanted_bytes)
    if size_bytes == 0:
        return fresh(Fresh.INODES)
    new_bytes = found.written_bytes + found.compared_bytes + found.new_inodes * BLOCK_BYTES
    if asked.size_bytes and record.volume_blocks * BLOCK_BYTES + new_bytes > room_bytes_in(size_bytes, plan.inodes):
        return fresh(Fresh.ROOM)
    return choice._replace(least_bytes=size_bytes)


def _size_with_inodes(origin: Candidate, unpacking: OpenImage, asked: UnpackOptions, wanted_bytes: int) -> int:
    """The size at which the file system has inodes for both trees, and then some; 0 for none that is reasonable."""
    plan, found, record = unpacking.plan, unpacking.origin, origin.record
    spare = (inodes_with_room(plan.inodes) - plan.inodes) // 2
    needed = max(plan.inodes + spare, found.old_inodes + found.new_inodes + 1 if found else 0)
    size_bytes = max(wanted_bytes, origin.size_bytes)
    if inodes_when_grown(origin.size_bytes, record.inodes, size_bytes) >= needed:
        return size_bytes
    larger_bytes = 0 if asked.size_bytes else bytes_with_inodes(origin.size_bytes, record.inodes, needed)
    return larger_bytes if larger_bytes <= size_bytes * _MOST_GROWTH else 0


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
