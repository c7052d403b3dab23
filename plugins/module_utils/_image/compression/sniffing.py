# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Detect the compression of an archive or a layer from its first bytes.

Invariant: media types and file names are ignored.
"""

from __future__ import annotations

import enum

from ..tar.header import BLOCK, parse_header


class Compression(enum.Enum):
    """The formats of layers and of whole archives."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"
    BZIP2 = "bzip2"


_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
    b"\xfd7zXZ\0": Compression.XZ,
    b"BZh": Compression.BZIP2,
}


def sniff(head: bytes) -> Compression:
    """The format of data that begins with ``head`` (its first 512 bytes)."""
    # A tar may begin with a member called "BZhello".
    if len(head) >= BLOCK and parse_header(head[:BLOCK]) is not None:
        return Compression.NONE
    if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:  # a skippable frame: RFC 8878, 3.1.2
        return Compression.ZSTD
    for magic, compression in _MAGIC.items():
        if head.startswith(magic):
            return compression
    return Compression.NONE
