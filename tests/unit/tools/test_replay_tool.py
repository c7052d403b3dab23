# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A log of dm-log-writes is read as the kernel writes it: a sector for each entry, its data behind it, a mark's within it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECTOR = 512
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


def entry(sector: int, flags: int, data: bytes = b"", sectors: int | None = None) -> bytes:
    """One entry; ``sectors`` is given for one without data."""
    count = len(data) // SECTOR if sectors is None else sectors
    inline = data if flags & MARK else b""
    head = struct.pack("<QQQQ", sector, 0 if flags & MARK else count, flags, len(inline)) + inline
    return head.ljust(SECTOR, b"\0") + (b"" if flags & (MARK | DISCARD) else data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    entries = [
        entry(0, 0, b"A" * SECTOR),
        entry(0, MARK, b"begun"),
        entry(2, 0, b"B" * 2 * SECTOR),
        entry(0, FLUSH),
        entry(0, DISCARD, sectors=1),
        entry(1, FUA, b"C" * SECTOR),
        entry(3, 0, b"D" * SECTOR),  # never flushed
    ]
    path = tmp_path / "log"
    head = struct.pack("<QQQI", 0x6A736677736872, 1, len(entries), SECTOR).ljust(SECTOR, b"\0")
    path.write_bytes(head + b"".join(entries))
    return path


def replay(*arguments: object) -> str:
    argv = [sys.executable, str(ROOT / "tests/tools/replay.py"), *map(str, arguments)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_flushes_are_known_by_what_lies_before_them(log: Path) -> None:
    assert json.loads(replay(log, "flushes")) == [4, 6]


def test_marks_are_known_by_their_text(log: Path) -> None:
    assert json.loads(replay(log, "marks")) == [[1, "begun"]]


def test_the_disk_is_that_of_the_flush(log: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"." * 4 * SECTOR)
    replay(log, "write", disk, 0, 4)
    assert disk.read_bytes() == b"A" * SECTOR + b"." * SECTOR + b"B" * 2 * SECTOR
    replay(log, "write", disk, 4, 6)
    assert disk.read_bytes() == bytes(SECTOR) + b"C" * SECTOR + b"B" * 2 * SECTOR


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(4096))
    with pytest.raises(subprocess.CalledProcessError):
        replay(tmp_path / "log", "flushes")
