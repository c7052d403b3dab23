# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much the layers of an image take, from a few small pieces of an archive that is still elsewhere.

Invariant: at most ``_MAX_READS`` pieces are read and no content of a layer. What cannot be understood gives None: this is a forecast,
and ``flyd_unpack`` judges the archive itself. Nothing that is read here is recorded or becomes a name, so it is read in the module's own
process: fields of fixed widths, and documents of 1 MiB at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, NamedTuple

from .._errors import FlydError
from .compression.sniffing import Compression, sniff
from .documents import parse
from .tar.header import BLOCK, ZERO_BLOCK, number, padded, parse_header
from .tar.pax import parse_records

Read = Callable[[int, int], bytes]  # offset and length to bytes; fewer at the end

_WINDOW_BYTES = 16 << 10  # a header, and the small members behind it
_MAX_READS = 200
_MAX_DOCUMENT_BYTES = 1 << 20
_MAX_DEPTH = 4  # of lists of manifests
_NAME_TYPES = (b"x", b"L")
_CONTENT_TYPES = (b"0", b"\0", b"7")


class _TooMuch(Exception):
    """The archive needs more pieces than a forecast is worth."""


class _Place(NamedTuple):
    offset: int
    size: int


def least_layers_bytes(read: Read, size_bytes: int) -> int | None:
    """The stored bytes of all layers of the smallest image in an archive of ``size_bytes``; None when that cannot be reported.

    Of an archive that is compressed as a whole it is the archive's own size: no layer is smaller than what it was compressed to.
    """
    pieces = _Pieces(read, size_bytes)
    try:
        if sniff(pieces.read(0, BLOCK)) is not Compression.NONE:
            return size_bytes
        members = _members(pieces)
        images = [sum(members[name].size for name in layers) for layers in _images(pieces, members)]
    except (_TooMuch, FlydError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return min(images, default=None)


class _Pieces:
    """The archive, read in windows that are kept until another one is needed."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read = read
        self.size_bytes = size_bytes
        self._begin = 0
        self._window = b""
        self._reads = 0

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` on, fewer at the end of the archive."""
        length = min(length, self.size_bytes - offset)
        if length <= 0:
            return b""
        if not self._begin <= offset <= offset + length <= self._begin + len(self._window):
            self._reads += 1
            if self._reads > _MAX_READS:
                raise _TooMuch
            wanted = min(max(length, _WINDOW_BYTES), self.size_bytes - offset)
            self._begin, self._window = offset, self._read(offset, wanted)
        at = offset - self._begin
        return self._window[at : at + length]

    def document(self, place: _Place) -> Any:
        """The JSON document there."""
        if place.size > _MAX_DOCUMENT_BYTES:
            raise _TooMuch
        return parse(self.read(place.offset, place.size), "a list of the archive")


def _members(pieces: _Pieces) -> dict[str, _Place]:
    """Where the content of each file in the archive is, by its name; links to others among them, as docker writes them for equal layers."""
    found: dict[str, _Place] = {}
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
            key = _clean(name or header.full_name.decode("utf-8", "replace"))
            if header.typeflag in (b"1", b"2"):
                links[key] = _target(key, header.link.rstrip(b"\0").decode("utf-8", "replace"), header.typeflag)
            elif header.typeflag in _CONTENT_TYPES:
                found[key] = _Place(offset, stored)
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


def _clean(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _target(name: str, target: str, typeflag: bytes) -> str:
    if typeflag == b"1":
        return _clean(target)
    parts = name.split("/")[:-1]
    for part in target.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return _clean("/".join(parts))


def _images(pieces: _Pieces, members: dict[str, _Place]) -> Iterable[list[str]]:
    """The names of the layers of each image that the archive lists, each layer once."""
    if "manifest.json" in members:
        listed = pieces.document(members["manifest.json"])
        return [sorted({_clean(str(layer)) for layer in image["Layers"]}) for image in listed]
    if "index.json" in members:
        return _oci_images(pieces, members, pieces.document(members["index.json"]), _MAX_DEPTH)
    return []


def _oci_images(pieces: _Pieces, members: dict[str, _Place], document: Any, depth: int) -> list[list[str]]:
    if "layers" in document:
        return [sorted({_blob(layer) for layer in document["layers"]})]
    if depth <= 0:
        raise _TooMuch
    found: list[list[str]] = []
    for entry in document["manifests"]:
        place = members.get(_blob(entry))
        if place is not None:  # of other platforms, blobs may be left out
            found += _oci_images(pieces, members, pieces.document(place), depth - 1)
    return found


def _blob(descriptor: Any) -> str:
    algorithm, _colon, value = str(descriptor["digest"]).partition(":")
    return f"blobs/{algorithm}/{value}"
