# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive or a layer is compressed with, told by its first bytes, and what undoes it on this host.

Invariant: media types and file names are never asked; what this host cannot undo is ``Unsupported``, and says what is missing.
"""

from __future__ import annotations

import enum
import zlib
from functools import partial
from typing import Any

from .._errors import Unsupported
from .streams import BufferedMember, Input, Members, Stream, ZlibMember, optional
from .tar_header import BLOCK, parse_header
from .zstd import ZstdProgram, open_zstd

_fast_zlib = optional("isal.isal_zlib")

_XZ_MEMORY_BYTES = 1 << 28


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


def open_stream(compression: Compression, source: Input, what: str, zstd: ZstdProgram | None) -> Stream:
    """The decompressed ``source``; raises ``Unsupported`` when this host cannot, ``Untrusted`` from ``read`` for damaged data.

    ``zstd`` is asked where this Python knows no zstd.
    """
    if compression is Compression.GZIP:
        library = _fast_zlib or zlib
        return Members(source, what, lambda: ZlibMember(library.decompressobj(31)), library.error)
    if compression is Compression.XZ:
        lzma = _standard("lzma", compression, what)
        make = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        return Members(source, what, lambda: BufferedMember(make()), lzma.LZMAError)
    if compression is Compression.BZIP2:
        bz2 = _standard("bz2", compression, what)
        return Members(source, what, lambda: BufferedMember(bz2.BZ2Decompressor()), OSError)
    return open_zstd(source, what, zstd)


def _standard(name: str, compression: Compression, what: str) -> Any:
    """A module that Python has, unless it was built without; most images need none of them."""
    module = optional(name)
    if module is None:
        raise Unsupported(
            f"{what} is compressed with {compression.value}, and this Python was built without its module {name}",
            hint="use the distribution's own Python, or save the image with gzip",
            library=name,
        )
    return module
