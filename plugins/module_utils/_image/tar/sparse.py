# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sparse files: which ranges of a file its archive holds; the rest are holes.

Invariant: a map's ranges are in order, do not overlap, lie within the file, and are together exactly what the archive stores.
Source: GNU tar manual, "Storing Sparse Files": the old GNU format and PAX 0.0, 0.1 and 1.0.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from ..limits import Limits
from ..refusal import Name, malformed
from .header import BLOCK, number, padded
from .pax import Records, whole_number

Ranges = tuple[tuple[int, int], ...]
ReadBlock = Callable[[int], bytes]

RANGE_COST_BYTES = 160  # what one range costs in memory, for the limit metadata_bytes
_KEY = b"GNU.sparse."


class SparseFile(NamedTuple):
    """``ranges`` are (offset in the file, length) in bytes; ``map_bytes`` of map stand before the data in the archive."""

    size: int
    ranges: Ranges
    map_bytes: int
    name: bytes = b""


def old_gnu(block: bytes, read_block: ReadBlock, limits: Limits, member: Name) -> SparseFile:
    """The map in a header of type S and in the blocks that extend it."""
    ranges = _old_gnu_ranges(block[386:482], member)
    extended, map_bytes = block[482], 0
    while extended:
        more = read_block(map_bytes)
        ranges += _old_gnu_ranges(more[:504], member)
        extended, map_bytes = more[504], map_bytes + BLOCK
        if map_bytes > limits.header_bytes:
            limits.exceeded("header_bytes", map_bytes, member)
    return SparseFile(number(block[483:495], "real size", member), tuple(ranges), map_bytes)


def _old_gnu_ranges(table: bytes, member: Name) -> list[tuple[int, int]]:
    ranges = []
    for at in range(0, len(table), 24):
        if not table[at + 12]:
            break
        ranges.append(
            (
                number(table[at : at + 12], "sparse offset", member),
                number(table[at + 12 : at + 24], "sparse length", member),
            )
        )
    return ranges


def is_described(records: Records) -> bool:
    """Whether PAX records speak of a sparse file."""
    return any(key.startswith(_KEY) for key, _value in records)


def from_pax(records: Records, read_block: ReadBlock, limits: Limits, member: Name) -> SparseFile | None:
    """The sparse file that PAX records describe, or None when they describe none."""
    if not is_described(records):
        return None
    found = {key[len(_KEY) :]: value for key, value in records if key.startswith(_KEY)}
    if b"major" in found or b"minor" in found:
        if (found.get(b"major"), found.get(b"minor")) != (b"1", b"0"):
            raise malformed("its sparse format is unknown", member)
        return _pax_1_0(found, read_block, limits, member)
    flat = found[b"map"].split(b",") if b"map" in found else _pairs_0_0(records, member)
    numbers = [whole_number(value, "sparse map", member) for value in flat if value or len(flat) > 1]
    # GNU tar takes no map without its length, and another meaning of the size then.
    blocks = whole_number(found.get(b"numblocks", b""), "sparse block count", member)
    if blocks * 2 != len(numbers):
        raise malformed("its sparse map has another length than it says", member)
    size = whole_number(found.get(b"size", b""), "sparse size", member)
    return SparseFile(size, _pairs(numbers, member), 0, found.get(b"name", b""))


def _pairs_0_0(records: Records, member: Name) -> list[bytes]:
    flat: list[bytes] = []
    for key, value in records:
        if key in (_KEY + b"offset", _KEY + b"numbytes"):
            if (key == _KEY + b"numbytes") != bool(len(flat) % 2):
                raise malformed("the offsets and lengths of its sparse map do not alternate", member)
            flat.append(value)
    return flat


def _pax_1_0(found: dict[bytes, bytes], read_block: ReadBlock, limits: Limits, member: Name) -> SparseFile:
    """PAX 1.0 keeps the map before the data: a count, then offsets and lengths, each a line of digits."""
    text = read_block(0)
    wanted = 1 + 2 * whole_number(text.partition(b"\n")[0], "sparse map", member)
    blocks, newlines, size_bytes = [text], text.count(b"\n"), len(text)
    while newlines < wanted:
        blocks.append(read_block(size_bytes))
        newlines += blocks[-1].count(b"\n")
        size_bytes += BLOCK
        if size_bytes > limits.header_bytes:
            limits.exceeded("header_bytes", size_bytes, member)
    text = b"".join(blocks)
    lines = text.split(b"\n")[:-1]
    numbers = [whole_number(line, "sparse map", member) for line in lines[1:wanted]]
    used = sum(len(line) + 1 for line in lines[:wanted])
    if text[used:].strip(b"\0"):
        raise malformed("something stands behind its sparse map", member)
    size = whole_number(found.get(b"realsize", b""), "sparse size", member)
    return SparseFile(size, _pairs(numbers, member), padded(used), found.get(b"name", b""))


def _pairs(numbers: list[int], member: Name) -> Ranges:
    if len(numbers) % 2:
        raise malformed("its sparse map ends in the middle of a range", member)
    return tuple(zip(numbers[::2], numbers[1::2]))


def check_ranges(sparse: SparseFile, stored_bytes: int, member: Name) -> Ranges:
    """The ranges that hold data; raises ``Untrusted`` unless they fit the file and what the archive stores of it."""
    end = 0
    for offset, length in sparse.ranges:
        if offset < end or length < 0:
            raise malformed("the ranges of its sparse map overlap or are out of order", member)
        end = offset + length
    if end > sparse.size:
        raise malformed(f"its sparse map reaches to byte {end}, and the file is {sparse.size} bytes long", member)
    total = sum(length for _offset, length in sparse.ranges)
    if total != stored_bytes:
        raise malformed(f"its sparse map covers {total} bytes, and the archive holds {stored_bytes} bytes", member)
    return tuple([pair for pair in sparse.ranges if pair[1]])
