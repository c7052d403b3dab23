# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process that can open no files any more, and its children, do without /proc and /dev.

Invariant: ``leave_files`` is called before the files are gone, and by a process that holds nothing but what it was given to hold.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection


class _Left:
    """``is_true`` in a process that has left its files, and in its children; ``statm`` is the open /proc/self/statm of the first."""

    is_true = False
    statm: int | None = None


def leave_files() -> None:
    """Prepare this process for being without files; ``forget_size`` gives up the only one that it still needs."""
    _Left.statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    _Left.is_true = True


def has_left_files() -> bool:
    """Whether this process can open no files."""
    return _Left.is_true


def own_pages() -> list[int]:
    """The sizes of this process in pages (proc(5), statm); of a child without files those of its parent, which it has when it begins."""
    if _Left.statm is not None:
        return list(map(int, os.pread(_Left.statm, 256, 0).split()))
    with open("/proc/self/statm", encoding="ascii") as file:
        return list(map(int, file.read().split()))


def forget_size() -> None:
    """Close what ``own_pages`` reads from, if this process has left its files."""
    if _Left.statm is not None:
        os.close(_Left.statm)
        _Left.statm = None


def close_all_but(kept: Collection[int]) -> None:
    """Close every descriptor above 2 that is not in ``kept``."""
    if has_left_files():
        _close_between({fd for fd in (*kept, _Left.statm) if fd is not None and fd > 2})
        return
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the one that listed the directory
                os.close(fd)


def _close_between(kept: Collection[int]) -> None:
    """Close all descriptors but ``kept`` that can have been opened since there is a limit on their numbers."""
    begin = 3
    for fd in sorted(kept):
        os.closerange(begin, fd)
        begin = fd + 1
    os.closerange(begin, max(begin, os.sysconf("SC_OPEN_MAX")))
