# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What undoes a compression on this host.

Invariant: what this host cannot undo is ``Unsupported``, and says what is missing.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

from .._errors import Unsupported
from .sniffing import Compression
from .streams import BufferedMember, Input, Members, Stream, ZlibMember, ZstdProgram, optional
from .zstd import open_zstd

_XZ_MEMORY_BYTES = 1 << 28


def open_stream(compression: Compression, source: Input, what: str, zstd: ZstdProgram | None) -> Stream:
    """The decompressed ``source``; raises ``Unsupported`` when this host cannot, ``Untrusted`` from ``read`` for damaged data.

    ``zstd`` is asked where this Python knows no zstd.
    """
    if compression is Compression.GZIP:
        library = _fastest_zlib()
        return Members(source, what, lambda: ZlibMember(library.decompressobj(31)), library.error)
    if compression is Compression.XZ:
        lzma = _standard("lzma", compression, what)
        make = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        return Members(source, what, lambda: BufferedMember(make()), lzma.LZMAError)
    if compression is Compression.BZIP2:
        bz2 = _standard("bz2", compression, what)
        return Members(source, what, lambda: BufferedMember(bz2.BZ2Decompressor()), OSError)
    return open_zstd(source, what, zstd)


def _fastest_zlib() -> Any:
    # Loaded when it is needed: most runs find nothing to unpack.
    return optional("isal.isal_zlib") or zlib


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
