# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers that speak of the member behind them: PAX (x, g) and the long names of GNU tar (L, K).

Invariant: one member is spoken of by at most one header of each type, and what they say overrides the member's own header in the
order of GNU tar: long names, then global PAX, then PAX.
"""

from __future__ import annotations

from typing import NamedTuple

from ..limits import Limits
from ..refusal import Name, malformed
from . import pax

LOCAL_PAX = (b"x", b"X")  # X is what Solaris wrote
GLOBAL_PAX = b"g"
LONG_NAME = b"L"
LONG_LINK = b"K"
LONG = (LONG_NAME, LONG_LINK)
TYPES = frozenset((*LOCAL_PAX, GLOBAL_PAX, *LONG))
_FIELDS = (b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime")


class Overrides(NamedTuple):
    """What replaces the fields of the next member's own header; None leaves a field as it is."""

    name: bytes | None = None
    link: bytes | None = None
    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    records: pax.Records = []  # noqa: RUF012 - never changed


NOTHING = Overrides()


class Extensions:
    """Collects extension headers until the member that they speak of."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._global_bytes = 0
        self._globals: dict[bytes, bytes] = {}
        self._found: dict[bytes, bytes] = {}

    @property
    def waiting(self) -> bool:
        """Whether a header waits for its member."""
        return bool(self._found)

    @property
    def speaking(self) -> bool:
        """Whether something was said that may concern the next member."""
        return bool(self._found or self._globals)

    def add(self, typeflag: bytes, data: bytes, member: Name) -> None:
        """Take the content of one extension header."""
        if typeflag == GLOBAL_PAX:
            self._global_bytes += len(data)
            if self._global_bytes > self._limits.header_bytes:
                self._limits.exceeded("header_bytes", self._global_bytes, member)
            self._add_globals(pax.parse_records(data, member), member)
            return
        kind = b"x" if typeflag in LOCAL_PAX else typeflag
        if kind in self._found:
            raise malformed(f"two headers of type {kind.decode()} for one member", member)
        self._found[kind] = data

    def _add_globals(self, records: pax.Records, member: Name) -> None:
        # Only what decides about members is kept: git writes a comment into every archive, and a hostile one much more.
        for key, value in records:
            if key.startswith(b"GNU.sparse."):
                raise malformed("a sparse map in a global header", member)
            if key in _FIELDS and self._globals.setdefault(key, value) != value:
                raise malformed(f"two global headers of different opinion about {key.decode()}", member)

    def take(self, member: Name) -> Overrides:
        """What the headers collected so far say about the next member; they are done with then."""
        if not self._found and not self._globals:
            return NOTHING
        found, self._found = self._found, {}
        records = pax.parse_records(found.get(b"x", b""), member)
        fields: dict[bytes, bytes] = {}
        if LONG_NAME in found:
            fields[b"path"] = found[LONG_NAME].partition(b"\0")[0]
        if LONG_LINK in found:
            fields[b"linkpath"] = found[LONG_LINK].partition(b"\0")[0]
        fields.update(self._globals)
        fields.update(records)
        return Overrides(
            name=fields.get(b"path"),
            link=fields.get(b"linkpath"),
            size=_whole(fields, b"size", member),
            uid=_whole(fields, b"uid", member),
            gid=_whole(fields, b"gid", member),
            mtime_ns=pax.nanoseconds(fields[b"mtime"], member) if b"mtime" in fields else None,
            records=records,
        )


def _whole(fields: dict[bytes, bytes], key: bytes, member: Name) -> int | None:
    return pax.whole_number(fields[key], key.decode(), member) if key in fields else None
