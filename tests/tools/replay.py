#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a disk held at each flush, from a log of dm-log-writes.

    replay.py LOG flushes                      the numbers of the entries behind which all before them had reached the disk, as JSON
    replay.py LOG marks                        the number of each mark's entry and its text, as JSON
    replay.py LOG write TARGET FIRST END       write the entries from FIRST to END (not included) to the file TARGET

dm-log-writes logs writes when they have completed, and those that a flush had to wait for before the flush. So the disk at a flush has at
least what the log has up to it, and what a program wrote and never flushed is not there. The format is that of the kernel's
drivers/md/dm-log-writes.c: a superblock, then entries of one sector each, followed by their data.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A write: where on the disk, where its data lies in the log, how long, and the kernel's flags; a mark has a text instead."""

    offset_bytes: int
    data_bytes: int
    length_bytes: int
    flags: int
    text: str = ""


def entries(log: int) -> Iterator[Entry]:
    """Every entry of the open log."""
    magic, version, count, sector_bytes = _SUPER.unpack(os.pread(log, _SUPER.size, 0))
    if (magic, version) != (MAGIC, 1):
        raise ValueError("this is no log of dm-log-writes")
    at = sector_bytes
    for _number in range(count):
        sector, sectors, flags, text_bytes = _ENTRY.unpack(os.pread(log, _ENTRY.size, at))
        text = os.pread(log, text_bytes, at + _ENTRY.size).rstrip(b"\0").decode() if flags & MARK else ""
        at += sector_bytes
        yield Entry(sector * sector_bytes, at, sectors * sector_bytes, flags, text)
        if not flags & (DISCARD | MARK):
            at += sectors * sector_bytes


def flushes(log: int) -> list[int]:
    """Numbers of entries, one more than that of each flush: a cut there has lost nothing that was flushed, and all that was not."""
    return [number + 1 for number, entry in enumerate(entries(log)) if entry.flags & (FLUSH | FUA)]


def marks(log: int) -> list[tuple[int, str]]:
    """The number and the text of each mark: a cut there has lost all that was not flushed when it was made."""
    return [(number, entry.text) for number, entry in enumerate(entries(log)) if entry.flags & MARK]


def write(log: int, target: int, first: int, end: int) -> None:
    """Do to ``target`` what the entries from ``first`` to ``end`` did to the disk; what was discarded reads as zeros."""
    for number, entry in enumerate(entries(log)):
        if number >= end:
            break
        if number < first or entry.flags & MARK:
            continue
        if entry.flags & DISCARD:
            _zero(target, entry.offset_bytes, entry.length_bytes)
            continue
        for done in range(0, entry.length_bytes, _CHUNK_BYTES):
            data = os.pread(log, min(_CHUNK_BYTES, entry.length_bytes - done), entry.data_bytes + done)
            os.pwrite(target, data, entry.offset_bytes + done)


def _zero(target: int, offset_bytes: int, length_bytes: int) -> None:
    for done in range(0, length_bytes, _CHUNK_BYTES):
        os.pwrite(target, bytes(min(_CHUNK_BYTES, length_bytes - done)), offset_bytes + done)


def main() -> int:
    """Entry point; returns the exit code."""
    path, verb, *rest = sys.argv[1:]
    log = os.open(path, os.O_RDONLY)
    if verb in ("flushes", "marks"):
        print(json.dumps(flushes(log) if verb == "flushes" else marks(log)))
    else:
        name, first, end = rest
        write(log, os.open(name, os.O_WRONLY), int(first), int(end))
    return 0


if __name__ == "__main__":
    sys.exit(main())
