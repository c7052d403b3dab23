# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare files of an earlier tree with those of a new image under the same names, byte by byte, in a sandbox of its own.

Invariant: nothing is changed, and files alone are opened. A file is called the same only when every byte of it was read on both sides.
Runs in a process of its own: it never gets its old root back.
"""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Sequence
from typing import Callable

from ..._errors import CommandFailed
from ..extent import Extent
from ..limits import Deadline
from ..merge.inodes import File, Inode
from ..merge.plan import Plan
from ..options import Options
from ..writing.dirfd_cache import DirfdCache
from ..writing.sandbox import contain
from ..writing.tree_writer import processes_of, shares
from ..writing.workers import Team
from .manifest import Manifest
from .matching import Matching
from .sandbox import OLD_FILE, lock_comparing

_CHUNK_BYTES = 1 << 18


def differing_rows(plan: Plan, old: Manifest, matching: Matching, root_fd: int, options: Options) -> str:
    """Which of ``matching.unsure`` differ from the tree in ``root_fd``: a byte in hex for each, 01 where it does. For a child process only."""
    gc.disable()  # as in writing.tree_writer
    rows = matching.unsure
    inodes = [plan.leaves.inodes[row] for row in rows]
    parts = [
        _part(inodes[begin:end], [matching.leaves[row] for row in rows[begin:end]], old, root_fd, options)
        for begin, end in shares(inodes, processes_of(options))
    ]
    team = Team(parts, "comparing files", lock_comparing)
    contain(root_fd, options.limits, team.start, lock_comparing)
    return "".join(map(str, team.run()))


def rows_of(answer: object, unsure: Sequence[int]) -> list[int]:
    """The rows that ``differing_rows`` has named; raises ``CommandFailed`` for what is no answer to ``unsure``."""
    try:
        found = bytes.fromhex(str(answer))
    except ValueError:
        found = b""
    if len(found) != len(unsure):
        raise CommandFailed("the child for comparing files answers what cannot be understood", hint="run again")
    return [row for row, differs in zip(unsure, found) if differs]


def _part(
    inodes: Sequence[Inode], there: Sequence[int], old: Manifest, root_fd: int, options: Options
) -> Callable[[], str]:
    def work() -> str:
        comparer = _Comparer(old, root_fd, Deadline(options.limits))
        try:
            return bytes(not comparer.is_same(inode, row) for inode, row in zip(inodes, there)).hex()
        finally:
            comparer.close()

    return work


class _Comparer:
    def __init__(self, old: Manifest, root_fd: int, deadline: Deadline) -> None:
        self._leaves = old.leaves
        self._handles = DirfdCache(root_fd, old.directories.places())
        self._deadline = deadline
        self._ours = bytearray(_CHUNK_BYTES)
        self._theirs = bytearray(_CHUNK_BYTES)

    def close(self) -> None:
        self._handles.close()

    def is_same(self, inode: Inode, row: int) -> bool:
        """Whether the leaf ``row`` of the earlier tree is a file with the content of ``inode``, which has its size and its holes."""
        self._deadline.check()
        leaves = self._leaves
        if not isinstance(inode, File):
            return False
        directory, name = self._handles.fd(leaves.parents[row]), leaves.names[row]
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise FileNotFoundError(f"{name!r} is no file")
        fd = os.open(name, OLD_FILE, dir_fd=directory)
        try:
            return os.fstat(fd).st_size == inode.size and self._has_content(fd, inode)
        finally:
            os.close(fd)

    def _has_content(self, fd: int, inode: File) -> bool:
        at = inode.offset
        for offset, length in ((0, inode.size),) if inode.ranges is None else inode.ranges:
            if not self._has_range(fd, offset, inode.source, at, length):
                return False
            at += length
        return True

    def _has_range(self, fd: int, offset: int, source: Extent, at: int, length: int) -> bool:
        ours, theirs = self._ours, self._theirs
        end = offset + length
        while offset < end:
            self._deadline.check()
            count = min(_CHUNK_BYTES, end - offset)
            if not (_fill(theirs, fd, offset, count) and _fill(ours, source.fd, source.offset + at, count)):
                return False
            if (ours != theirs) if count == _CHUNK_BYTES else (ours[:count] != theirs[:count]):
                return False
            offset, at = offset + count, at + count
        return True


def _fill(buffer: bytearray, fd: int, offset: int, count: int) -> bool:
    """Read ``count`` bytes to the start of ``buffer``; says whether there were so many."""
    view, done = memoryview(buffer)[:count], 0
    while done < count:
        got = os.preadv(fd, [view[done:]], offset + done)
        if not got:
            return False
        done += got
    return True
