# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start writeback early, so that less is left to write when the file system is synced.

Invariant: nothing waits here, and nothing is guaranteed: durability comes from syncfs(2) (``isolation.sync_filesystem``).
"""

from __future__ import annotations

import ctypes

_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: begin to write what is dirty, and wait for nothing

_libc = ctypes.CDLL(None)


def begin_writeback(fd: int) -> None:
    """Have the kernel begin to write the content of the file ``fd``; where it cannot (sync_file_range(2)), nothing happens."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
