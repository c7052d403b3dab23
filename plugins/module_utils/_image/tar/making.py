# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar archive of a few files that we make, in the pax interchange format (POSIX.1-2017, pax): what is laid over an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

BLOCK = 512
_NAME_BYTES = 100


class AddedFile(NamedTuple):
    """A regular file: its name in the tree without a slash before it, content, permission bits, and numeric owner."""

    name: bytes
    content: bytes
    mode: int
    uid: int = 0
    gid: int = 0


def tar_of(files: Iterable[AddedFile]) -> Iterator[bytes]:
    """The archive in pieces, its end included; times are 0, so that the same files always give the same bytes."""
    for file in files:
        if len(file.name) > _NAME_BYTES or file.uid > 0o7777777 or file.gid > 0o7777777:
            records = [(b"path", file.name), (b"uid", b"%d" % file.uid), (b"gid", b"%d" % file.gid)]
            content = b"".join(_record(key, value) for key, value in records)
            yield _header(b"pax", b"x", len(content), 0o644, 0, 0) + _padded(content)
        yield _header(file.name[:_NAME_BYTES], b"0", len(file.content), file.mode, file.uid, file.gid)
        yield _padded(file.content)
    yield bytes(2 * BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record begins with its own length in decimal digits, these included."""
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest)
    while len(str(size)) + len(rest) != size:
        size = len(str(size)) + len(rest)
    return str(size).encode() + rest


def _header(name: bytes, kind: bytes, size: int, mode: int, uid: int, gid: int) -> bytes:
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    fields = (
        (100, 8, mode),
        (108, 8, min(uid, 0o7777777)),
        (116, 8, min(gid, 0o7777777)),
        (124, 12, size),
        (136, 12, 0),
    )
    for at, width, value in fields:
        block[at : at + width] = b"%0*o\0" % (width - 1, value)
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\0" + b"00"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)
