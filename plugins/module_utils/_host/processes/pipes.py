# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipes with a larger buffer.

Invariant: if the kernel does not grant the size, the pipe keeps its default.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which Python names since 3.10
_BYTES = 1 << 20  # what any user may ask for (pipe(7), /proc/sys/fs/pipe-max-size)


def wide_pipe() -> tuple[int, int]:
    """The ends of a pipe to read from and to write to, which holds 1 MiB where that is allowed."""
    read_end, write_end = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(write_end, _SET_PIPE_SIZE, _BYTES)
    return read_end, write_end
