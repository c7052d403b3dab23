# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in an archive and where they are, from its headers alone.

Invariant: at most ``_MAX_READS`` pieces are read and ``_MAX_DOCUMENTS`` documents parsed, and no content of a layer. The archive may be
hostile, and the reading is done in the module's own process, so it is limited to fields of fixed widths and documents of 1 MiB. Nothing of it
becomes a name.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from ..documents import parse
from ..tar.header import BLOCK, ZERO_BLOCK, number, padded, parse_header
from ..tar.pax import parse_records

Read = Callable[[int, int, int], bytes]  # offset, and how many bytes at least and at most; fewer at the end

_WINDOW_BYTES = 16 << 10  # a header, and the small members behind it
_LEAST_WINDOW_BYTES = 4 << 10
_MAX_READS = 400
_MAX_DOCUMENTS = 100
_MAX_DOCUMENT_BYTES = 1 << 20
_NAME_TYPES = (b"x", b"L")
_CONTENT_TYPES = (b"0", b"\0", b"7")


class TooMuch(Exception):
    """The archive needs more pieces than this is worth."""


class Place(NamedTuple):
    offset: int
    size: int


class Pieces:
    """The archive, read in windows that are kept until another one is needed."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read = read
        self.size_bytes = size_bytes
        self._begin = 0
        self._window = b""
        self._ahead_bytes = _WINDOW_BYTES
        self._reads = 0
        self._documents = 0

    def read(self, offset: int, length: int, *, ahead: bool = True) -> bytes:
        """``length`` bytes from ``offset`` on, fewer at the end of the archive.

        ``ahead`` reads a whole window; without it, what was read before is not read again with more behind it.
        """
        length = min(length, self.size_bytes - offset)
        if length <= 0:
            return b""
        if not self._begin <= offset <= offset + length <= self._begin + len(self._window):
            self._count()
            wanted = min(max(length, self._next_window_bytes(offset) if ahead else 0), self.size_bytes - offset)
            self._begin, self._window = offset, self._read(offset, length, wanted)
        at = offset - self._begin
        return self._window[at : at + length]

    def _next_window_bytes(self, offset: int) -> int:
        """Less where the last window was left for a place far behind it, as from one large member to the next; else more again."""
        is_near = offset <= self._begin + len(self._window) + self._ahead_bytes
        most, least = min(_WINDOW_BYTES, 2 * self._ahead_bytes), max(_LEAST_WINDOW_BYTES, self._ahead_bytes // 2)
        self._ahead_bytes = most if is_near else least
        return self._ahead_bytes

    def document(self, place: Place, *, ahead: bool = True) -> Any:
        """The JSON document there."""
        self._documents += 1
        if place.size > _MAX_DOCUMENT_BYTES or self._documents > _MAX_DOCUMENTS:
            raise TooMuch
        return parse(self.read(place.offset, place.size, ahead=ahead), "a list of the archive")

    def _count(self) -> None:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise TooMuch


def members(pieces: Pieces) -> dict[str, Place]:
    """Where the content of each file in the archive is, by its name; links to others among them, as docker writes them for equal layers."""
    found: dict[str, Place] = {}
    links: dict[str, str] = {}
    offset, name, size = 0, "", -1
    while len(block := pieces.read(offset, BLOCK)) == BLOCK and block != ZERO_BLOCK:
        header = parse_header(block)
        if header is None:
            raise ValueError(offset)
        offset += BLOCK
        stored = number(header.size, "size", header.name)
        if header.typeflag in _NAME_TYPES:
            name, size = _extended(pieces.read(offset, min(stored, _WINDOW_BYTES)), header.typeflag, name, size)
        else:
            stored = stored if size < 0 else size
            key = clean(name or header.full_name.decode("utf-8", "replace"))
            if header.typeflag in (b"1", b"2"):
                links[key] = _target(key, header.link.rstrip(b"\0").decode("utf-8", "replace"), header.typeflag)
            elif header.typeflag in _CONTENT_TYPES:
                found[key] = Place(offset, stored)
            name, size = "", -1
        if stored < 0:  # else the same header would be read for ever
            raise ValueError(stored)
        offset += padded(stored)
    found.update({key: found[target] for key, target in links.items() if target in found})
    return found


def _extended(data: bytes, typeflag: bytes, name: str, size: int) -> tuple[str, int]:
    if typeflag == b"L":
        return data.rstrip(b"\0").decode("utf-8", "replace"), size
    records = dict(parse_records(data, ""))
    path = records.get(b"path")
    return (
        name if path is None else path.decode("utf-8", "replace"),
        int(records[b"size"]) if b"size" in records else size,
    )


def clean(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _target(name: str, target: str, typeflag: bytes) -> str:
    if typeflag == b"1":
        return clean(target)
    parts = name.split("/")[:-1]
    for part in target.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return clean("/".join(parts))
