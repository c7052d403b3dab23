# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PAX extended headers: records of ``length key=value``.

Invariant: the records fill their header exactly, and a number is decimal digits or the archive is refused. Source: POSIX.1-2017 pax,
"pax Extended Header".
"""

from __future__ import annotations

import re

from ..refusal import Name, malformed

Records = list[tuple[bytes, bytes]]

_LENGTH = re.compile(rb"([1-9][0-9]{0,7}) ")
_WHOLE = re.compile(rb"[0-9]{1,19}")
_SECONDS = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")


def parse_records(data: bytes, member: Name) -> Records:
    """The records in order, doubles kept: in the map of a sparse file (PAX 0.0) keys repeat."""
    records: Records = []
    at = 0
    while at < len(data):
        match = _LENGTH.match(data, at)
        if not match:
            raise malformed(f"a PAX record begins with {data[at : at + 12]!r}, not with its length", member)
        end = at + int(match[1])
        key, equals, value = data[match.end() : end - 1].partition(b"=")
        if data[end - 1 : end] != b"\n" or not equals or not key or b"\0" in key:
            raise malformed(f"the PAX record {data[at : at + 40]!r} is malformed", member)
        records.append((key, value))
        at = end
    return records


def whole_number(value: bytes, what: str, member: Name) -> int:
    """A decimal number that is not negative, below 10^19."""
    if not _WHOLE.fullmatch(value):
        raise malformed(f"the PAX {what} is {value[:40]!r}, which is no number", member)
    return int(value)


def nanoseconds(value: bytes, member: Name) -> int:
    """A time in nanoseconds since the epoch; finer fractions are rounded down, as GNU tar does."""
    match = _SECONDS.fullmatch(value)
    if not match:
        raise malformed(f"the PAX time is {value[:40]!r}, which is no time", member)
    sign, seconds, fraction = match[1], match[2], match[3] or b""
    whole = int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    if not sign:
        return whole
    return -whole - 1 if fraction[9:].strip(b"0") else -whole
