# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams that decompress, member by member.

Invariant: a stream returns at most as many bytes as requested, so nothing grows before its reader has counted it, and it ends
only where its input ends: bytes after the compressed data are refused.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable, Protocol

from ..refusal import malformed

_CHUNK_BYTES = 1 << 18


def optional(name: str) -> Any:
    """The module ``name``, or None on a host that lacks it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Input(Protocol):
    """Where compressed bytes come from; ``read`` gives b"" at the end."""

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes."""


class Stream(Protocol):
    """Where the bytes come out; ``read`` gives b"" at the end."""

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes."""

    def close(self) -> None:
        """Give up what it holds."""


class MoreMemory(Exception):
    """A stream needs ``needed_bytes`` of memory, which is more than it may have; 0 where the library does not say how much."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(needed_bytes)
        self.needed_bytes = needed_bytes


Open = Callable[[Input, int], Stream]  # the decompressed input, with at most so many bytes of memory


class Member(Protocol):
    """One compressed member (a gzip member, an xz stream)."""

    def output(self, data: bytes, count: int) -> bytes:
        """At most ``count`` bytes of output, of ``data`` and of what was given before."""

    @property
    def hungry(self) -> bool:
        """Whether more input is needed for more output."""

    @property
    def rest(self) -> bytes | None:
        """The input behind the member's end, or None as long as it has not ended."""


class ZlibMember:
    """A gzip member, by zlib or what is like it."""

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


class BufferedMember:
    """An xz stream, a bzip2 stream or a zstd frame: decoders that keep what they have not used."""

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


class Members:
    """Members one behind the other, and zeros behind the last (tapes and some builders pad)."""

    def __init__(self, source: Input, what: str, make: Callable[[], Member], error: type[Exception]) -> None:
        self._source = source
        self._what = what
        self._make = make
        self._errors = (error, EOFError, ValueError)
        self._member: Member | None = make()
        self._pending = b""

    def read(self, count: int) -> bytes:
        while self._member is not None:
            if self._member.hungry and not self._pending:
                self._pending = self._source.read(_CHUNK_BYTES)
                if not self._pending:
                    raise malformed(f"{self._what} ends in the middle of its compressed data")
            out = self._output(self._member, count)
            if self._member.rest is not None:
                self._member = self._following(self._member.rest)
            if out:
                return out
        return b""

    def close(self) -> None:
        self._member = None

    def _output(self, member: Member, count: int) -> bytes:
        data, self._pending = self._pending, b""
        try:
            return member.output(data, count)
        except self._errors as error:
            raise malformed(f"the compressed data of {self._what} is damaged: {error}") from None

    def _following(self, rest: bytes) -> Member | None:
        """The member behind the one that has just ended, or None at the end of the input."""
        rest = rest or self._source.read(_CHUNK_BYTES)
        if rest[:1] not in (b"", b"\0"):
            self._pending = rest
            return self._make()
        while rest:
            if rest.strip(b"\0"):
                raise malformed(f"something stands behind the compressed data of {self._what}")
            rest = self._source.read(_CHUNK_BYTES)
        return None
