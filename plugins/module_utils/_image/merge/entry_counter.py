# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts a tar's headers before anything is made of them.

Invariant: ten million empty members are refused for the price of counting as many as the limit allows, before they cost memory.
The count is only a first look: whatever seems odd ends it, and is left to the reader, which decides.
"""

from __future__ import annotations

import threading

from ..extent import Extent
from ..limits import Deadline, Limits
from ..tar.extensions import TYPES
from ..tar.header import BLOCK, padded

_WINDOW_BYTES = 1 << 16
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # whatever their size says


class Walk:
    """How far a tar has been walked from header to header."""

    def __init__(self, tar: Extent) -> None:
        self.tar = tar
        self.at = 0
        self.count = 0
        self.ended = False


class EntryCounter:
    """Counts the members of tars, those of one image together."""

    def __init__(self, limits: Limits, deadline: Deadline | None = None) -> None:
        self._limits = limits
        self._deadline = deadline or Deadline(limits)
        self._count = 0
        self._lock = threading.Lock()
        self._walks: list[Walk] = []

    def next_tar(self) -> Walk:
        """What comes now is another tar; give ``look`` what is returned when several come side by side."""
        walk = Walk(Extent(-1, 0, 0))
        self._walks.append(walk)
        return walk

    def look(self, tar: Extent, walk: Walk | None = None) -> None:
        """Count what has not been counted of ``tar``, which may still grow; refuse it when there are too many members.

        Tars that are too short to hold too many between them are not walked: most images are.
        """
        with self._lock:
            (walk or self._walks[-1]).tar = tar
            self._count_all()

    def forget(self, walk: Walk) -> None:
        """Take back what was counted of a tar that comes once more."""
        with self._lock:
            self._count -= walk.count
            self._walks.remove(walk)

    def _count_all(self) -> None:
        if sum(walk.tar.size for walk in self._walks) // BLOCK <= self._limits.entries:
            return
        for walk in self._walks:
            while not walk.ended and walk.at + BLOCK <= walk.tar.size:
                self._deadline.check()
                self._count_in(walk, walk.tar.read(walk.at, _WINDOW_BYTES))
                if self._count > self._limits.entries:
                    self._limits.exceeded("entries", self._count)

    def _count_in(self, walk: Walk, window: bytes) -> None:
        """Count the headers in ``window``, which begins with one, and go on behind it."""
        at = 0
        while at + BLOCK <= len(window):
            field = window[at + 124 : at + 136]
            try:
                size = int.from_bytes(field[1:], "big") if field[0] & 0x80 else int(field.strip(b" \0") or b"0", 8)
            except ValueError:
                size = -1
            if size < 0 or not window[at + 148]:  # no checksum: the zero blocks of the end
                walk.ended = True
                break
            typeflag = window[at + 156 : at + 157]
            self._count += typeflag not in TYPES
            walk.count += typeflag not in TYPES
            if typeflag in _WITHOUT_CONTENT:
                size = 0
            at += BLOCK + padded(size)
        walk.at += at
