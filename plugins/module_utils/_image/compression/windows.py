# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimate the memory that a compressed stream needs from its first bytes.

Invariant: it is only an estimate, which determines how many streams run in parallel. The decompressor enforces the limit, whatever later
headers contain. Sources: the .xz file format 1.2, RFC 8878.
"""

from __future__ import annotations

from .sniffing import Compression

HEAD_BYTES = 1024
_SMALL_BYTES = 4 << 20  # gzip has a window of 32 KiB; bzip2 takes 3.7 MB for its largest blocks; tables of all kinds
_LZMA2 = 0x21


def memory_bytes(compression: Compression, head: bytes) -> int:
    """The bytes that decompressing a stream that begins with ``head`` takes, tables included."""
    if compression is Compression.XZ:
        return _SMALL_BYTES + _xz_dictionary_bytes(head)
    if compression is Compression.ZSTD:
        return _SMALL_BYTES + _zstd_window_bytes(head)
    return _SMALL_BYTES


def _xz_dictionary_bytes(head: bytes) -> int:
    """The dictionary of the first block's LZMA2 filter; 0 where that is not as it should be, which the decoder will say."""
    try:
        at, flags = 14, head[13]
        for flag in (0x40, 0x80):  # the sizes of the block, packed and not
            if flags & flag:
                at = _behind_number(head, at)
        for _filter in range((flags & 3) + 1):
            identity, at = head[at], _behind_number(head, at)
            length, at = head[at], at + 1
            if identity == _LZMA2:
                bits = head[at]
                return (2 | bits & 1) << (bits // 2 + 11) if bits < 40 else 0xFFFFFFFF
            at += length
    except IndexError:
        pass
    return 0


def _behind_number(head: bytes, at: int) -> int:
    while head[at] & 0x80:
        at += 1
    return at + 1


def _zstd_window_bytes(head: bytes) -> int:
    """The window of the first frame; 0 where skippable frames fill ``head``."""
    at = 0
    while int.from_bytes(head[at : at + 4], "little") & 0xFFFFFFF0 == 0x184D2A50:
        at += 8 + int.from_bytes(head[at + 4 : at + 8], "little")
    if len(head) < at + 18:
        return 0
    descriptor = head[at + 4]
    if not descriptor & 0x20:
        return (8 + (head[at + 5] & 7)) << (7 + (head[at + 5] >> 3))
    at += 5 + (0, 1, 2, 4)[descriptor & 3]
    size_bytes = (1, 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(head[at : at + size_bytes], "little") + 256 * (size_bytes == 2)
