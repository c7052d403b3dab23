# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the headers of an object in few round trips: what had to be read of an archive of this host is requested of the object together.

    where they were -> a known header has moved -> the others, moved as far

Invariant: this only decides when something is requested. What is read, and what it is taken for, is the same without it.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..._image.outline.claims import Claim, claims
from ..._image.tar.header import BLOCK
from ..._source.download.segments import Span, merged
from ..._source.reuse.paged import AHEAD_AT_ONCE, Paged

_PADDING_BYTES = 20 * BLOCK  # tar fills its last record up
_TAIL_BYTES = 64 << 10
_PARTS = AHEAD_AT_ONCE


class Outline(NamedTuple):
    """What an archive claims, and which parts of it had to be read to know that, in order."""

    size_bytes: int
    claims: tuple[Claim, ...]
    parts: tuple[Span, ...]


def outline_of(fd: int) -> Outline:
    """That of an open archive; without claims when it cannot be understood."""
    parts = list[Span]()

    def read(offset: int, _least: int, most: int) -> bytes:
        parts.append((offset, offset + most))
        return os.pread(fd, most, offset)

    size_bytes = os.fstat(fd).st_size
    return Outline(size_bytes, claims(read, size_bytes) or (), tuple(parts))


class Ahead:
    """Reads ``elsewhere``, which is probably like the archive ``fd`` with ``outline``."""

    def __init__(self, elsewhere: Paged, fd: int, outline: Outline) -> None:
        last = outline.claims[-1].offset
        self._elsewhere = elsewhere
        self._parts = [one for one in outline.parts if one[0] <= last]
        self._numbers = {_identity(os.pread(fd, BLOCK, one[0])): number for number, one in enumerate(self._parts)}
        behind = [begin for begin, _end in outline.parts if begin > last]
        elsewhere.prefetch(merged([*self._parts[:_PARTS], *self._tail(behind, outline.size_bytes)]))

    def read(self, offset: int, least: int, most: int) -> bytes:
        """As ``elsewhere`` does; when that is where a known header is now, what follows it is requested as far from it as it was."""
        data = self._elsewhere.read(offset, least, most)
        number = self._numbers.get(_identity(data[:BLOCK]))
        if number is not None:
            shift = offset - self._parts[number][0]
            following = [(begin + shift, end + shift) for begin, end in self._parts[number + 1 :][:_PARTS]]
            if following and self._elsewhere.lacks(following[0][0], BLOCK):
                self._elsewhere.prefetch(merged(following))
        return data

    def _tail(self, behind: list[int], was_bytes: int) -> list[Span]:
        """What is behind the last layer, which is about as far from the end as it was."""
        size_bytes = self._elsewhere.size_bytes
        begins = [begin + size_bytes - was_bytes - _PADDING_BYTES for begin in behind[:1]]
        return [(max(0, begin, size_bytes - _TAIL_BYTES), size_bytes) for begin in begins]


def _identity(header: bytes) -> bytes:
    """What of a header tells that it is the same member: its name, size and type."""
    return header[:100] + header[124:136] + header[156:157]
