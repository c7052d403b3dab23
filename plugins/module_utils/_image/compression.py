# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive or a layer is compressed with, told by its first bytes, and streams that undo it.

Invariant: a stream gives at most as many bytes as it is asked for, so nothing grows before its reader has counted it, and it ends
only where its input ends: bytes behind the compressed data are refused. Media types and file names are never asked.
"""

from __future__ import annotations

import enum
import importlib
import zlib
from functools import partial
from typing import Any, Callable, Protocol

from .._errors import Unsupported
from .refusal import refused
from .tar_header import BLOCK, parse_header


def _optional(name: str) -> Any:
    """The module ``name``, or None on a host that lacks it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fast_zlib = _optional("isal.isal_zlib")
_zstandard = _optional("zstandard")

_CHUNK_BYTES = 1 << 18
_MAX_WINDOW_BYTES = 1 << 27  # what the zstd program takes without --long
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


class Input(Protocol):
    """Where compressed bytes come from; ``read`` gives b"" at the end."""

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes."""


class Stream(Protocol):
    """Where the bytes come out; ``read`` gives b"" at the end."""

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes."""


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


def open_stream(compression: Compression, source: Input, what: str) -> Stream:
    """The decompressed ``source``; raises ``Unsupported`` when this host cannot, ``Untrusted`` from ``read`` for damaged data."""
    if compression is Compression.GZIP:
        library = _fast_zlib or zlib
        return _Members(source, what, lambda: _ZlibMember(library.decompressobj(31)), library.error)
    if compression is Compression.XZ:
        lzma = _standard("lzma", compression, what)
        make = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        return _Members(source, what, lambda: _BufferedMember(make()), lzma.LZMAError)
    if compression is Compression.BZIP2:
        bz2 = _standard("bz2", compression, what)
        return _Members(source, what, lambda: _BufferedMember(bz2.BZ2Decompressor()), OSError)
    if _zstandard is None:
        raise Unsupported(
            f"{what} is compressed with zstd, and this Python cannot read that",
            hint="install the Python package zstandard on this host, or save the image with gzip",
            library="zstandard",
        )
    return _Zstd(source, what)


def _standard(name: str, compression: Compression, what: str) -> Any:
    """A module that Python has, unless it was built without; most images need none of them."""
    module = _optional(name)
    if module is None:
        raise Unsupported(
            f"{what} is compressed with {compression.value}, and this Python was built without its module {name}",
            hint="use the distribution's own Python, or save the image with gzip",
            library=name,
        )
    return module


class _Member(Protocol):
    """One compressed member (a gzip member, an xz stream)."""

    def output(self, data: bytes, count: int) -> bytes:
        """At most ``count`` bytes of output, of ``data`` and of what was given before."""

    @property
    def hungry(self) -> bool:
        """Whether more input is needed for more output."""

    @property
    def rest(self) -> bytes | None:
        """The input behind the member's end, or None as long as it has not ended."""


class _ZlibMember:
    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._full = False

    def output(self, data: bytes, count: int) -> bytes:
        out: bytes = self._decoder.decompress(self._decoder.unconsumed_tail + data, count)
        # With all input taken in, more output may still wait inside: it came out in full when it filled what was asked for.
        self._full = len(out) == count
        return out

    @property
    def hungry(self) -> bool:
        return not self._decoder.unconsumed_tail and not self._full

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None


class _BufferedMember:
    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def output(self, data: bytes, count: int) -> bytes:
        return bytes(self._decoder.decompress(data, count))

    @property
    def hungry(self) -> bool:
        return bool(self._decoder.needs_input)

    @property
    def rest(self) -> bytes | None:
        return self._decoder.unused_data if self._decoder.eof else None


class _Members:
    """Members one behind the other, and zeros behind the last (tapes and some builders pad)."""

    def __init__(self, source: Input, what: str, make: Callable[[], _Member], error: type[Exception]) -> None:
        self._source = source
        self._what = what
        self._make = make
        self._errors = (error, EOFError, ValueError)
        self._member: _Member | None = make()
        self._pending = b""

    def read(self, count: int) -> bytes:
        while self._member is not None:
            if self._member.hungry and not self._pending:
                self._pending = self._source.read(_CHUNK_BYTES)
                if not self._pending:
                    raise refused(f"{self._what} ends in the middle of its compressed data")
            out = self._output(self._member, count)
            if self._member.rest is not None:
                self._member = self._following(self._member.rest)
            if out:
                return out
        return b""

    def _output(self, member: _Member, count: int) -> bytes:
        data, self._pending = self._pending, b""
        try:
            return member.output(data, count)
        except self._errors as error:
            raise refused(f"the compressed data of {self._what} is damaged: {error}") from None

    def _following(self, rest: bytes) -> _Member | None:
        """The member behind the one that has just ended, or None at the end of the input."""
        rest = rest or self._source.read(_CHUNK_BYTES)
        if rest[:1] not in (b"", b"\0"):
            self._pending = rest
            return self._make()
        while rest:
            if rest.strip(b"\0"):
                raise refused(f"something stands behind the compressed data of {self._what}")
            rest = self._source.read(_CHUNK_BYTES)
        return None


class _Zstd:
    def __init__(self, source: Input, what: str) -> None:
        decoder = _zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._reader = decoder.stream_reader(source, read_across_frames=True)
        self._what = what

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._reader.read(count))
        except _zstandard.ZstdError as error:
            raise refused(f"the compressed data of {self._what} is damaged: {error}") from None
