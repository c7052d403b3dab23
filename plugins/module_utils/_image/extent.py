# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A range of bytes in an open file: the archive, a member of it, or a layer in the spool.

Invariant: reading never moves a file position, so several processes can read through one descriptor, and never goes past the end
of the range.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

from .refusal import malformed


class Readable(Protocol):
    """What headers are read from: ``size`` bytes, of which ``read`` returns as many as it has in one piece, none only behind the end."""

    @property
    def size(self) -> int: ...

    def read(self, at: int, count: int, /) -> bytes: ...


class Extent(NamedTuple):
    """``size`` bytes from ``offset`` on in the open file ``fd``."""

    fd: int
    offset: int
    size: int

    @classmethod
    def whole(cls, fd: int) -> Extent:
        """All of a regular file, as long as it is now."""
        return cls(fd, 0, os.fstat(fd).st_size)

    def part(self, offset: int, size: int) -> Extent:
        """The range of ``size`` bytes at ``offset`` within this one; the caller has checked that it fits."""
        return Extent(self.fd, self.offset + offset, size)

    def covers(self, other: Extent) -> bool:
        """Whether all of ``other`` is in this range."""
        ends = other.offset + other.size <= self.offset + self.size
        return self.fd == other.fd and self.offset <= other.offset and ends

    def read(self, at: int, count: int) -> bytes:
        """The bytes from ``at`` on: ``count`` of them, or fewer when the range ends before. ``Untrusted`` when the file was cut."""
        wanted = min(count, self.size - at)
        if wanted <= 0:
            return b""
        data = os.pread(self.fd, wanted, self.offset + at)
        while len(data) < wanted:
            more = os.pread(self.fd, wanted - len(data), self.offset + at + len(data))
            if not more:
                raise malformed(f"the file ends at byte {self.offset + at + len(data)}: it was cut while it was read")
            data += more
        return data
