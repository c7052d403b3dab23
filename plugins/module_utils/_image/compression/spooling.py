# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One compressed stream on its way to the spool: out of a confined decoder, counted, hashed and written here.

Invariant: no number of the decoder's is relied upon, and no byte is written that a limit or the reserve of the file system forbids.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from typing import Callable

from ..._errors import NoSpace
from ..._host.files.durable import DISK_RESERVE_BYTES, file_errors, free_bytes_of
from ..._names import Digest, printable, size_text
from ..digests import check_digest
from ..extent import Extent
from ..limits import Deadline, Limits
from ..refusal import malformed
from .decoder_process import MAX_FRAME_BYTES

_PART_BYTES = 1 << 18
# Sparse and preallocated files come out as zeros, a thousand times their input: the ratio says something only behind this much.
_RATIO_FREE_BYTES = 1 << 30


class Account:
    """What all streams of one unpacking together have put out, in whatever thread; ``side_by_side`` of them may write at a time."""

    def __init__(self, limits: Limits, deadline: Deadline) -> None:
        self.limits = limits
        self.side_by_side = 1
        self._deadline = deadline
        self._written_bytes = 0
        self._read_bytes = 0
        self._is_stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let what is being decompressed in other threads end with an error."""
        self._is_stopped = True

    def add(self, count: int, newly_read: int, what: str) -> None:
        """Count ``count`` bytes that are about to be written for the stream ``what``, and what was read for them."""
        self._deadline.check()
        if self._is_stopped:
            raise malformed("it was not read to its end, because another layer was refused", what)
        with self._lock:
            self._written_bytes += count
            self._read_bytes += newly_read
            total, read = self._written_bytes, self._read_bytes
        if total > self.limits.decompressed_bytes:
            self.limits.exceeded("decompressed_bytes", total, what)
        if total > _RATIO_FREE_BYTES and total > read * self.limits.ratio:
            self.limits.exceeded("ratio", -(-total // max(read, 1)), what)

    def give_back(self, written_bytes: int, read_bytes: int) -> None:
        """Forget what came out of a stream that is decompressed once more."""
        with self._lock:
            self._written_bytes -= written_bytes
            self._read_bytes -= read_bytes

    def require_room(self, fd: int, count: int, what: str) -> None:
        """Raise ``NoSpace`` unless ``count`` bytes can be written to ``fd`` with the reserve left free."""
        free = free_bytes_of(fd)
        # The others may have asked at the same time.
        if free < DISK_RESERVE_BYTES + max(count, MAX_FRAME_BYTES) * (self.side_by_side + 1):
            raise NoSpace(
                f"decompressing {printable(what)} takes more room than the file system of state_dir has: {size_text(free)} are free, and "
                f"{size_text(DISK_RESERVE_BYTES)} of them stay free for the database and the log",
                hint="make room on the file system of state_dir, put state_dir on a larger one, or save the image with plain layers",
                free_bytes=free,
                reserve_bytes=DISK_RESERVE_BYTES,
            )


class Spooling:
    """A stream ``what`` on its way into the new file ``fd``; ``content`` is the digest of what comes out, if it is known.

    ``look`` is called with the bytes that are in the file, after each step.
    """

    def __init__(
        self, what: str, fd: int, account: Account, content: Digest | None, look: Callable[[int], None]
    ) -> None:
        self._what = what
        self._fd = fd
        self._account = account
        self._content = _Hash(content)
        self._look = look
        self.written_bytes = self.read_bytes = 0

    def add(self, data: memoryview, read_bytes: int) -> None:
        """Write ``data``, which came out of the first ``read_bytes`` of the stream."""
        self._account.add(len(data), read_bytes - self.read_bytes, self._what)
        self.written_bytes += len(data)
        self.read_bytes = read_bytes
        self._account.require_room(self._fd, len(data), self._what)
        self._content.update(data)
        with file_errors("writing decompressed layers to the spool"):
            view = data
            while view:
                view = view[os.write(self._fd, view) :]
        self._look(self.written_bytes)

    def check(self, source: Extent, stored: Digest | None) -> None:
        """Compare the digests: of the stream as it is ``stored``, and of what came out."""
        hasher = _Hash(stored)
        for part in _parts(source) if stored else ():
            hasher.update(part)
        hasher.check(self._what)
        self._content.check(f"{self._what}, decompressed,")


class _Hash:
    """Hashes for ``expected``, if there is such a digest."""

    def __init__(self, expected: Digest | None) -> None:
        self._expected = expected
        self._hasher = hashlib.new(expected.algorithm) if expected else None

    def update(self, data: memoryview | bytes) -> None:
        if self._hasher:
            self._hasher.update(data)

    def check(self, what: str) -> None:
        if self._hasher and self._expected:
            check_digest(self._expected, self._hasher.hexdigest(), what)


def _parts(extent: Extent) -> Iterator[bytes]:
    return (extent.read(at, _PART_BYTES) for at in range(0, extent.size, _PART_BYTES))
