# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two slots in the reserved start of a pool's data: always one that is whole, and nothing that a host would take for something else."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from module_utils._errors import NoSpace
from module_utils._thin.pool.head import MOST_BYTES, read_head, write_head
from module_utils._thin.pool.reserve import RESERVED_BYTES


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"\xaa" * (4 << 20))
    return path


def test_what_is_written_last_is_read(device: Path) -> None:
    assert read_head(str(device)) is None
    for number in range(1, 6):
        write_head(str(device), b"content %d" % number)
        kept = read_head(str(device))
        assert kept is not None
        assert (kept.number, kept.data, kept.slot) == (number, b"content %d" % number, (number - 1) % 2)


def test_nothing_is_written_before_16_kib_and_behind_the_reserve(device: Path) -> None:
    for _time in range(3):
        write_head(str(device), os.urandom(MOST_BYTES - 200))
    raw = device.read_bytes()
    assert raw[: 16 << 10] == b"\xaa" * (16 << 10)
    assert raw[RESERVED_BYTES:] == b"\xaa" * len(raw[RESERVED_BYTES:])


def test_only_hexadecimal_digits_of_the_content_are_written(device: Path) -> None:
    """Whoever chooses the content, here incompressible so that zlib stores it, puts no signature onto the device."""
    content = os.urandom(5000) + b"LABELONE" + b"_BHRfS_M" + b"\x53\xef" * 100
    write_head(str(device), content)
    written = device.read_bytes()[16 << 10 :].partition(b"\xaa")[0]
    assert re.fullmatch(rb"flyd\.lite: copy of the database, [a-z0-9, ]*\n[0-9a-f]+", written)


@pytest.mark.parametrize("at", [0, 30, 60, 100, 140, 160])
def test_a_write_that_is_cut_off_leaves_the_one_before(device: Path, at: int) -> None:
    write_head(str(device), b"first")
    write_head(str(device), b"second")
    kept = read_head(str(device))
    assert kept is not None
    raw = bytearray(device.read_bytes())
    begin = (16 << 10) + kept.slot * (504 << 10)
    raw[begin + at : begin + at + 4] = b"\0\0\0\0"
    device.write_bytes(bytes(raw))
    before = read_head(str(device))
    assert before is not None
    assert before.data == b"first"


def test_what_is_too_large_is_refused_and_leaves_the_one_before(device: Path) -> None:
    write_head(str(device), b"first")
    with pytest.raises(NoSpace, match="when it is compressed"):
        write_head(str(device), os.urandom(MOST_BYTES + 1))
    kept = read_head(str(device))
    assert kept is not None
    assert kept.data == b"first"
