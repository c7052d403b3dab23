# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One tar header: 512 bytes, their checksum and their numbers.

Invariant: a ``Header`` exists only for a block whose checksum is right. Numbers are what GNU tar makes of the same field, or the
archive is refused. Layout: POSIX.1-2017 pax, "ustar Interchange Format", and the GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple
from zlib import adler32

from ..refusal import Name, malformed

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

LAYOUT = struct.Struct("100s24s12s12s8sc100s8s64x16s155s12x")
# As GNU tar reads it: a field of nothing but spaces is none, and one NUL in front is left by writers whose field before overflowed.
_OCTAL = re.compile(rb"\0? *(?:([0-7]+)(?:[ \0].*)?|\0.*)", re.DOTALL)


class Header(NamedTuple):
    """The fields as they stand in the block; numbers are not decoded yet.

    ``access`` is mode, uid and gid, ``device`` major and minor number, each of 8 bytes.
    """

    name: bytes
    access: bytes
    size: bytes
    mtime: bytes
    checksum: bytes
    typeflag: bytes
    link: bytes
    magic: bytes
    device: bytes
    prefix: bytes

    @property
    def full_name(self) -> bytes:
        """The name with the prefix of ustar; GNU tar and v7 keep other things where ustar has the prefix."""
        name = self.name.rstrip(b"\0")
        if b"\0" in name:
            name = name.partition(b"\0")[0]
        if self.prefix[0] and self.magic[:6] == b"ustar\0":
            return self.prefix.partition(b"\0")[0] + b"/" + name
        return name


class LowSums(dict[bytes, int]):
    """What the low half of adler32 of a whole block must be, by its checksum field; -1 when the field is no number.

    That half is 1 + the sum of the bytes modulo 65521. A block of seven-bit bytes stays below (512 * 127 = 65024), so for it this
    is the exact sum, twenty times as fast as sum().
    """

    _MAX = 16384

    def __missing__(self, checksum: bytes) -> int:
        if len(self) > self._MAX:
            self.clear()
        stated = _checksum(checksum)
        # The field itself is summed as eight spaces.
        low = self[checksum] = -1 if stated is None else 1 + stated - 8 * 32 + sum(checksum)
        return low


low_sums = LowSums()


def parse_header(block: bytes) -> Header | None:
    """The header in ``block`` (512 bytes), or None when its checksum is wrong."""
    header = tuple.__new__(Header, LAYOUT.unpack(block))  # _make() and __new__() do the same, slower
    if block.isascii() and adler32(block) & 0xFFFF == low_sums[header.checksum]:
        return header
    return _with_odd_checksum(block, header)


def _with_odd_checksum(block: bytes, header: Header) -> Header | None:
    stated = _checksum(header.checksum)
    # Some old tars summed signed bytes; GNU tar takes either.
    return (
        None if stated is None or stated not in (_unsigned_sum(block, header.checksum), _signed_sum(block)) else header
    )


def _checksum(field: bytes) -> int | None:
    return _octal(field) if field.strip(b" \0") else None


def _unsigned_sum(block: bytes, checksum: bytes) -> int:
    # The low half of adler32 is 1 + the sum of the bytes modulo 65521, which 256 bytes (at most 65280) cannot reach: so this
    # is the exact sum, ten times as fast as sum(). The checksum's own field counts as eight spaces.
    halves = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF)
    return halves - (adler32(checksum) & 0xFFFF) - 1 + 8 * 32


def _signed_sum(block: bytes) -> int:
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])


def number(field: bytes, what: str, member: Name) -> int:
    """The value of a numeric field: octal digits, or base 256 when its first byte is 0x80, or 0xff for a negative number (GNU tar)."""
    if field[0] & 0x80:
        if field[0] not in (0x80, 0xFF):
            raise malformed(f"the {what} in its header is {field!r}, which is no number", member)
        return int.from_bytes(field[1:], "big") - (field[0] == 0xFF) * (1 << 8 * (len(field) - 1))
    value = _octal(field)
    if value is None:
        raise malformed(f"the {what} in its header is {field!r}, which is no number", member)
    return value


def _octal(field: bytes) -> int | None:
    digits = field.rstrip(b" \0")
    if digits.isdigit():  # what nearly all fields are
        try:
            return int(digits, 8)
        except ValueError:  # an 8 or a 9
            return None
    match = _OCTAL.fullmatch(field)
    return int(match[1] or b"0", 8) if match else None


def padded(size_bytes: int) -> int:
    """``size_bytes`` rounded up to whole blocks."""
    return (size_bytes + BLOCK - 1) & ~(BLOCK - 1)
