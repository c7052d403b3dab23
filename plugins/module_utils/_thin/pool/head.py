# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of the reserved start of a pool's data (reserve.py): two slots, the older of which is overwritten.

Invariant: one slot is complete at any time, whatever interrupts a write: each has its number, length and digest. What is written are lines of
hexadecimal digits, so nothing that the host looks for at the start of a device (a partition table, a file system, a member of an array) can be
among it. The first 16 KiB, where most of these lie, are left as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from typing import NamedTuple

from ..._errors import NoSpace
from ..._host.files.durable import file_errors
from .reserve import RESERVED_BYTES

_FIRST, _SLOT_BYTES = 16 << 10, 504 << 10
_SLOTS = (_FIRST, _FIRST + _SLOT_BYTES)
_HEAD = re.compile(
    rb"flyd\.lite: copy of the database, number ([0-9]{20}), length ([0-9]{10}), sha256 ([0-9a-f]{64})\n"
)
_HEAD_TEXT = "flyd.lite: copy of the database, number {:020d}, length {:010d}, sha256 {}\n"
_HEAD_BYTES = len(_HEAD_TEXT.format(0, 0, "0" * 64))
MOST_BYTES = (_SLOT_BYTES - _HEAD_BYTES) // 2
"""How many bytes a slot takes, compressed."""


class Kept(NamedTuple):
    """What a slot holds; numbers count up."""

    number: int
    data: bytes
    slot: int


def write_head(path: str, data: bytes) -> None:
    """Keep ``data`` in the reserved start of the file or device ``path``; raises ``NoSpace`` when it is too large for that."""
    packed = zlib.compress(data, 6)
    if len(packed) > MOST_BYTES:
        raise NoSpace(
            f"the database has {len(packed)} bytes when it is compressed, and the start of {path} takes {MOST_BYTES}",
            hint="remove images and snapshots that are not needed; until then flyd.db has no copy in this pool: back it up",
        )
    before = read_head(path)
    number, slot = (before.number + 1, 1 - before.slot) if before else (1, 0)
    text = packed.hex().encode()
    head = _HEAD_TEXT.format(number, len(text), hashlib.sha256(text).hexdigest()).encode()
    with file_errors(f"writing to the start of {path}"):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, head + text, _SLOTS[slot])
            os.fsync(fd)
        finally:
            os.close(fd)


def read_head(path: str) -> Kept | None:
    """The newest of what is kept at ``path`` that is whole; None when there is none."""
    with file_errors(f"reading the start of {path}"), open(path, "rb") as file:
        raw = file.read(RESERVED_BYTES)
    found = [kept for slot in range(len(_SLOTS)) for kept in [_parse(raw, slot)] if kept is not None]
    return max(found, key=lambda kept: kept.number, default=None)


def _parse(raw: bytes, slot: int) -> Kept | None:
    begin = _SLOTS[slot]
    head = _HEAD.match(raw, begin)
    if head is None:
        return None
    text = raw[begin + _HEAD_BYTES : begin + _HEAD_BYTES + int(head[2])]
    if hashlib.sha256(text).hexdigest().encode() != head[3]:
        return None
    try:
        return Kept(int(head[1]), zlib.decompress(bytes.fromhex(text.decode("ascii"))), slot)
    except (ValueError, zlib.error):
        return None
