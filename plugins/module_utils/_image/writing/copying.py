# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves file content from the archive to a new file without bringing it into this process.

Invariant: exactly the bytes asked for are written, or an error is raised. Whether the kernel copies between two file systems by
copy_file_range(2) depends on both (since Linux 5.19 they must be of one type); sendfile(2) always works from a regular file.
"""

from __future__ import annotations

import errno
import os

from ..extent import Extent
from ..refusal import malformed

_NOT_HERE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_BUFFER_BYTES = 1 << 20


def _by_range(source: int, at: int, target: int, count: int) -> int:
    return os.copy_file_range(source, target, count, at)


def _by_sendfile(source: int, at: int, target: int, count: int) -> int:
    return os.sendfile(target, source, at, count)


def _by_hand(source: int, at: int, target: int, count: int) -> int:
    return os.write(target, os.pread(source, min(count, _BUFFER_BYTES), at))


class Copier:
    """Copies with the best of three ways that these two file systems allow, found out at the first try."""

    def __init__(self) -> None:
        self._steps = [_by_hand, _by_sendfile, _by_range]

    def copy(self, source: Extent, at: int, target: int, count: int) -> None:
        """Write ``count`` bytes from ``at`` in ``source`` to ``target`` at its file position."""
        begin = source.offset + at
        end = begin + count
        while begin < end:
            try:
                copied = self._steps[-1](source.fd, begin, target, end - begin)
            except OSError as error:
                if error.errno not in _NOT_HERE or len(self._steps) == 1:
                    raise
                self._steps.pop()
                continue
            if copied == 0:
                # Some file systems answer copy_file_range with 0 instead of an error.
                if len(self._steps) == 1:
                    raise malformed(f"the file ends at byte {begin}: it was cut while it was read")
                self._steps.pop()
            begin += copied
