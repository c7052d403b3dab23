# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open directories of the tree that is being written.

Invariant: a directory is opened by one name in its open parent, never by a path and never through a symbolic link; at most 32 are
open, whatever the tree's depth and the host's limit of open files.
"""

from __future__ import annotations

import os

from ..merge.plan import Places
from .sandbox import DIRECTORY

_MAX_OPEN = 32


class DirfdCache:
    """Descriptors of ``directories`` below ``root_fd``, which stays its owner's."""

    def __init__(self, root_fd: int, directories: Places) -> None:
        self._directories = directories
        self._root_fd = root_fd
        self._open: dict[int, int] = {}
        self._last = 0
        self._last_fd = root_fd

    def fd(self, number: int) -> int:
        """A descriptor of the directory in row ``number``, good until the next call."""
        if number == self._last:
            return self._last_fd
        self._last_fd = self._find(number)
        self._last = number
        return self._last_fd

    def _find(self, number: int) -> int:
        way: list[int] = []
        while number and number not in self._open:
            way.append(number)
            number = self._directories.parents[number]
        fd = self._root_fd
        if number:
            fd = self._open[number] = self._open.pop(number)  # it is the youngest now
        for step in reversed(way):
            fd = self._keep(step, os.open(self._directories.names[step], DIRECTORY, dir_fd=fd))
        return fd

    def _keep(self, number: int, fd: int) -> int:
        self._open[number] = fd
        if len(self._open) > _MAX_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        return fd

    def close(self) -> None:
        """Close them all."""
        while self._open:
            os.close(self._open.popitem()[1])
        self._last, self._last_fd = 0, self._root_fd
