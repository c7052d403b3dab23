# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How libc's allocator treats memory that was freed (mallopt(3))."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_NEVER = 2**31 - 1


def keep_freed_memory(block_bytes: int) -> None:
    """Keep freed blocks of up to ``block_bytes`` for the next allocation instead of returning them to the kernel.

    A process that allocates and frees a large buffer for each piece of its work otherwise gets new pages for each, and each is a page
    fault: for 155 MB in pieces of 256 KiB 38,000 of them, a fifth of the time. Without glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, block_bytes)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
