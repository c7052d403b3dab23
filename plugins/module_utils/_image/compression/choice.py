# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the decompressor for a format on this host.

Invariant: a format that this host cannot decompress raises ``Unsupported``, which names what is missing.
"""

from __future__ import annotations

import zlib
from typing import Any

from ..._errors import Unsupported
from .sniffing import Compression
from .streams import BufferedMember, Input, Members, MoreMemory, Open, Stream, ZlibMember, optional
from .zstd import zstd_decoder


def decoder(compression: Compression, what: str) -> Open:
    """What decompresses ``what``, with all its code loaded; raises ``Unsupported`` when this host has nothing that can.

    The stream's ``read`` raises ``Untrusted`` for damaged data, and ``MoreMemory``.
    """
    if compression is Compression.GZIP:
        library = _fastest_zlib()
        return lambda source, _memory: Members(
            source, what, lambda: ZlibMember(library.decompressobj(31)), library.error
        )
    if compression is Compression.XZ:
        return _xz(_standard("lzma", compression, what), what)
    if compression is Compression.BZIP2:
        bz2 = _standard("bz2", compression, what)
        return lambda source, _memory: Members(source, what, lambda: BufferedMember(bz2.BZ2Decompressor()), OSError)
    return zstd_decoder(what)


def _xz(lzma: Any, what: str) -> Open:
    class XzStream(BufferedMember):
        """liblzma says in words alone that a dictionary is larger than allowed."""

        def output(self, data: bytes, count: int) -> bytes:
            try:
                return super().output(data, count)
            except lzma.LZMAError as error:
                if "limit" in str(error):
                    raise MoreMemory(0) from None
                raise

    def opened(source: Input, memory_bytes: int) -> Stream:
        limit = _memory_limit(memory_bytes)
        return Members(source, what, lambda: XzStream(lzma.LZMADecompressor(lzma.FORMAT_XZ, limit)), lzma.LZMAError)

    return opened


def _memory_limit(memory_bytes: int) -> int:
    """What liblzma is asked to keep to; the kernel sees to it that it does."""
    return memory_bytes


def _fastest_zlib() -> Any:
    # Loaded when it is needed: most runs find nothing to unpack.
    return optional("isal.isal_zlib") or zlib


def _standard(name: str, compression: Compression, what: str) -> Any:
    """A module that Python has, unless it was built without; most images need none of them."""
    module = optional(name)
    if module is None:
        raise Unsupported(
            f"{what} is compressed with {compression.value}, and this Python was built without its module {name}",
            hint="set ansible_python_interpreter to the distribution's own Python, or save the image with gzip (`skopeo copy --dest-compress-format=gzip`)",
            library=name,
        )
    return module
