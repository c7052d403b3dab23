# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocks of a tar, and where it ends.

Invariant: a block is read from within the archive or not at all, and the end is the end: two zero blocks and nothing but zeros
behind them, unless a digest covers the whole range. Then it ends where Go's archive/tar and GNU tar end it.
"""

from __future__ import annotations

from ..extent import Readable
from ..limits import Deadline
from ..refusal import Name, malformed
from .header import BLOCK, ZERO_BLOCK, padded, parse_header

_WINDOW_BYTES = 32768
_SMALL_WINDOW_BYTES = 4096
_SCAN_BYTES = 1 << 20
_ZEROS = bytes(_SCAN_BYTES)
_ESTARGZ_INDEX = b"stargz.index.json"


class Blocks:
    """Reads blocks of 512 bytes from ``extent``, many at a time, since headers of small files stand close together."""

    def __init__(self, extent: Readable, deadline: Deadline) -> None:
        self.extent = extent
        self._deadline = deadline
        self._window = b""
        self._window_at = 0

    def at(self, at: int) -> bytes:
        """The block at byte ``at``; shorter, or empty, when the archive ends before it does."""
        start = at - self._window_at
        block = self._window[start : start + BLOCK] if start >= 0 else b""
        if len(block) == BLOCK:
            return block
        # Behind a large file the next one is mostly large too, and what is read ahead is read in vain.
        is_near = at <= self._window_at + len(self._window)
        self._window = self.extent.read(at, _WINDOW_BYTES if is_near else _SMALL_WINDOW_BYTES)
        self._window_at = at
        return self._window[:BLOCK]

    def window(self, at: int) -> tuple[bytes, int]:
        """Some of the archive, and where in it the block at byte ``at`` begins; no whole block when the archive ends before it."""
        self.at(at)
        return self._window, at - self._window_at

    def whole(self, at: int, member: Name) -> bytes:
        """The block at byte ``at`` in the middle of ``member``, which must be there."""
        block = self.at(at)
        if len(block) < BLOCK:
            raise malformed("the archive ends in the middle of it", member)
        return block

    def behind(self, at: int, size: int, member: Name) -> int:
        """Where the block behind ``size`` bytes of data and their padding begins; they must all be there."""
        end = at + padded(size)
        if end > self.extent.size:
            raise malformed(f"the archive ends {end - self.extent.size} bytes before it does", member)
        return end

    def check_end(self, at: int, *, terminated: bool, is_covered: bool) -> bool:
        """Refuse unless the archive really ends at ``at``, where no header stands; returns whether something stands behind the end.

        ``terminated`` demands the two zero blocks: where no digest covers the archive, nothing else shows that it was cut
        between two members. With ``is_covered`` one zero block at the end is enough, and what stands behind two is left alone.
        An archive of no bytes at all is an empty layer.
        """
        size = self.extent.size
        if at == size and (not terminated or size == 0):
            return False
        if at == size:
            raise malformed("the archive ends without its two zero blocks: it was cut")
        if self.at(at) != ZERO_BLOCK:
            raise malformed(f"the archive ends in the middle of a block, after {size} bytes")
        if is_covered and at + BLOCK == size:
            return False
        if self.at(at + BLOCK) != ZERO_BLOCK:
            raise malformed(f"a lone zero block at byte {at}: the archive was cut or tampered with")
        behind = self.first_non_zero(at + 2 * BLOCK)
        if behind < size and not is_covered:
            raise malformed(f"something stands behind the end of the archive, at byte {behind}")
        # Builders that append the index of eStargz to a finished tar leave it behind the end.
        return behind < size and self.first_non_zero(self._behind_index(behind & -BLOCK)) < size

    def first_non_zero(self, at: int) -> int:
        """Where the first byte from ``at`` on stands that is not zero; the end of the archive when there is none."""
        while at < self.extent.size:
            self._deadline.check()
            chunk = self.extent.read(at, _SCAN_BYTES)
            if chunk != _ZEROS[: len(chunk)]:
                return at + len(chunk) - len(chunk.lstrip(b"\0"))
            at += len(chunk)
        return at

    def _behind_index(self, at: int) -> int:
        """The end of the eStargz index at ``at``; ``at`` itself when it is something else."""
        block = self.at(at)
        header = parse_header(block) if len(block) == BLOCK else None
        if header is None or header.full_name != _ESTARGZ_INDEX or header.typeflag not in (b"0", b"\0"):
            return at
        size = header.size.strip(b" \0")
        return at + BLOCK + padded(int(size, 8) if size.isdigit() and not size.strip(b"01234567") else 0)
