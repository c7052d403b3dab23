# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ext4 that is filled without its journal.

Invariant: the journal's inode and blocks stay as they are; only the flag in the superblock that says that there is one goes, and comes
back. A file system that is filled like this is worth nothing after a crash, so it is for volumes that are thrown away then.
Source: the kernel's Documentation/filesystems/ext4/super.rst.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

from ..._errors import CommandFailed
from ..._host.files.durable import file_errors

_SUPERBLOCK_AT, _SUPERBLOCK_BYTES = 1024, 1024
_MAGIC_AT, _MAGIC = 0x38, 0xEF53
_COMPATIBLE_AT, _HAS_JOURNAL = 0x5C, 0x4
_CHECKSUM_AT = 0x3FC  # of all that stands before it
_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed


@contextlib.contextmanager
def without_journal(device: str) -> Iterator[None]:
    """Inside, the unmounted ext4 on ``device`` has no journal; it has one again when that ended well. Raises ``CommandFailed`` for no ext4."""
    _set_flag(device, has_journal=False)
    yield
    _set_flag(device, has_journal=True)


def _set_flag(device: str, *, has_journal: bool) -> None:
    with file_errors(f"changing the superblock of {device}"):
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            block = bytearray(os.pread(fd, _SUPERBLOCK_BYTES, _SUPERBLOCK_AT))
            if len(block) < _SUPERBLOCK_BYTES or struct.unpack_from("<H", block, _MAGIC_AT)[0] != _MAGIC:
                raise CommandFailed(f"there is no ext4 on {device}", hint="run again", device=device)
            flags = struct.unpack_from("<I", block, _COMPATIBLE_AT)[0]
            flags = flags | _HAS_JOURNAL if has_journal else flags & ~_HAS_JOURNAL
            struct.pack_into("<I", block, _COMPATIBLE_AT, flags)
            struct.pack_into("<I", block, _CHECKSUM_AT, crc32c(bytes(block[:_CHECKSUM_AT])))
            os.pwrite(fd, block, _SUPERBLOCK_AT)
            os.fsync(fd)
        finally:
            os.close(fd)


def crc32c(data: bytes) -> int:
    """The checksum as ext4 computes it: begun with all ones, and not inverted in the end."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _bit in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value
