# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest as the bytes of a file: columns of numbers as they lie in memory, names separated by zero bytes, what is rare as JSON.

Invariant: whatever bytes are read, they run nothing and take no more memory than an image within the limits does; numbers that point
nowhere, names that are paths and directories before their parents are refused (``UnfitOrigin``).
"""

from __future__ import annotations

import json
import stat
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..limits import Limits
from ..tar.access import Access
from .layer_index import Contents, LayerIndex, UnfitOrigin
from .manifest import FILE, SPECIAL, SYMLINK, Leaves, Manifest, Rows, Target

_MAGIC = f"flyd manifest 2 {sys.byteorder}\n".encode()
_LEVEL = 1  # what a higher one saves of a file of a megabyte costs more time than writing it
_ENTRY_BYTES = 80  # of all columns together, names aside
_LENGTH_BYTES = 8
_MAX_NAME_BYTES = 255
_FILE_TYPES = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO)


class _Column(NamedTuple):
    owner: str  # an attribute of Manifest; empty: the manifest itself
    name: str


_NUMBERS = (
    *(_Column("directories", name) for name in ("parents", "accesses", "seconds", "nanoseconds")),
    *(_Column("leaves", name) for name in ("parents", "accesses", "seconds", "nanoseconds")),
    *(_Column("leaves", name) for name in ("kinds", "sizes", "layers", "offsets")),
    _Column("", "link_parents"),
    _Column("", "link_leaves"),
)
_NAMES = (_Column("directories", "names"), _Column("leaves", "names"), _Column("", "link_names"))


def _owner(manifest: Manifest, column: _Column) -> Any:
    return getattr(manifest, column.owner) if column.owner else manifest


def dump(manifest: Manifest) -> bytes:
    """The bytes of ``manifest``, for ``load`` on a host with the same order of bytes."""
    numbers = [getattr(_owner(manifest, column), column.name).tobytes() for column in _NUMBERS]
    names = [getattr(_owner(manifest, column), column.name) for column in _NAMES]
    texts = [b"\0".join(each) for each in names]
    rare = json.dumps(_rare(manifest)).encode()
    indexes = manifest.indexes
    ranges = [column.tobytes() for one in indexes.values() for column in (one.contents.begins, one.contents.ends)]
    header = json.dumps(
        {
            "layers": manifest.layers,
            "accesses": manifest.accesses,
            "names": list(map(len, names)),
            "indexes": [[identity, one.size, len(one.packed)] for identity, one in indexes.items()],
            "sizes": [len(part) for part in (*numbers, *texts, rare, *ranges)],
        }
    ).encode()
    length = len(header).to_bytes(_LENGTH_BYTES, "little")
    packed = zlib.compress(b"".join((length, header, *numbers, *texts, rare, *ranges)), _LEVEL)
    return b"".join((_MAGIC, packed, *(one.packed for one in indexes.values())))  # which are packed by themselves


def _rare(manifest: Manifest) -> dict[str, Any]:
    leaves = manifest.leaves
    return {
        "directory_xattrs": _hex_xattrs(manifest.directories),
        "leaf_xattrs": _hex_xattrs(leaves),
        "targets": [[row, one.hex() if isinstance(one, bytes) else one] for row, one in leaves.targets.items()],
        "ranges": list(leaves.ranges.items()),
    }


def _hex_xattrs(rows: Rows) -> list[Any]:
    return [[row, [[name.hex(), value.hex()] for name, value in found]] for row, found in rows.xattrs.items()]


def load(data: bytes, limits: Limits) -> Manifest:
    """The manifest in ``data``; raises ``UnfitOrigin`` for what no ``dump`` on this host writes."""
    try:
        return _checked(_parsed(data, limits))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, zlib.error):
        raise UnfitOrigin("manifest") from None


def _parsed(data: bytes, limits: Limits) -> Manifest:
    if not data.startswith(_MAGIC):
        raise ValueError("another version, or another order of bytes")
    # Names of a tree may come from links and directories that no member is; the limits bound both.
    most_bytes = _ENTRY_BYTES * (limits.entries + limits.implied_directories) + 4 * limits.metadata_bytes
    inflater = zlib.decompressobj()
    raw = memoryview(inflater.decompress(memoryview(data)[len(_MAGIC) :], most_bytes))
    if not inflater.eof:
        raise ValueError("too long, or cut")
    at = _LENGTH_BYTES + int.from_bytes(raw[:_LENGTH_BYTES], "little")
    header = json.loads(bytes(raw[_LENGTH_BYTES:at]))
    parts = _Parts(raw, at, header["sizes"])
    made = Manifest()
    made.layers = [_text(one) for one in header["layers"]]
    made.accesses = [Access(*map(_number, one)) for one in header["accesses"]]
    for column in _NUMBERS:
        getattr(_owner(made, column), column.name).frombytes(parts.next())
    for column, count in zip(_NAMES, header["names"]):
        setattr(_owner(made, column), column.name, _names(bytes(parts.next()), _number(count)))
    _add_rare(made, json.loads(bytes(parts.next())))
    _add_indexes(made, header["indexes"], parts, inflater.unused_data)
    return made


def _add_indexes(made: Manifest, described: Sequence[Any], parts: _Parts, packed: bytes) -> None:
    at = 0
    for identity, size, packed_bytes in described:
        contents = Contents()
        contents.begins.frombytes(parts.next())
        contents.ends.frombytes(parts.next())
        made.indexes[_text(identity)] = LayerIndex(_number(size), contents, packed[at : at + _number(packed_bytes)])
        at += packed_bytes
    if at != len(packed):
        raise ValueError("the indexes are not the whole")


class _Parts:
    """The parts of ``raw`` behind ``at``, one after another."""

    def __init__(self, raw: memoryview, at: int, sizes: Sequence[int]) -> None:
        if at + sum(map(_number, sizes)) != len(raw):
            raise ValueError("the parts are not the whole")
        self._raw = raw
        self._at = at
        self._sizes = iter(sizes)

    def next(self) -> memoryview:
        begin, self._at = self._at, self._at + next(self._sizes, 0)
        return self._raw[begin : self._at]


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("not a number")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _names(text: bytes, count: int) -> list[bytes]:
    names = text.split(b"\0") if count else []
    if len(names) != count or (not count and text):
        raise ValueError("another number of names")
    return names


def _add_rare(made: Manifest, rare: dict[str, Any]) -> None:
    for rows, found in ((made.directories, rare["directory_xattrs"]), (made.leaves, rare["leaf_xattrs"])):
        rows.xattrs = {
            _number(row): tuple((bytes.fromhex(name), bytes.fromhex(value)) for name, value in pairs)
            for row, pairs in found
        }
    made.leaves.targets = {_number(row): _target(one) for row, one in rare["targets"]}
    made.leaves.ranges = {
        _number(row): tuple((_number(at), _number(length)) for at, length in pairs) for row, pairs in rare["ranges"]
    }


def _target(value: Any) -> Target:
    if isinstance(value, str):
        return bytes.fromhex(value)
    file_type, device = map(_number, value)
    if file_type not in _FILE_TYPES:
        raise ValueError("not a special file")
    return file_type, device


def _checked(made: Manifest) -> Manifest:
    """Refuse numbers that point nowhere, and names that could lead out of their directory."""
    directories, leaves = made.directories, made.leaves
    if not all(_is_sound(made)) or len({*zip(directories.parents, directories.names)}) != len(directories):
        raise ValueError("a number points nowhere")
    for name in (*directories.names[1:], *leaves.names, *made.link_names):
        if not 0 < len(name) <= _MAX_NAME_BYTES or b"/" in name or name in (b".", b".."):
            raise ValueError("a name is a path")
    return made


def _is_sound(made: Manifest) -> Iterator[bool]:
    directories, leaves = made.directories, made.leaves
    count, leaf_count = len(directories), len(leaves)
    yield count > 0 and directories.parents[0] == 0 and directories.names[0] == b""
    yield all(parent < row for row, parent in enumerate(directories.parents[1:], 1))
    for rows in (directories, leaves):
        columns: list[array[int]] = [rows.parents, rows.accesses, rows.seconds, rows.nanoseconds]
        yield all(len(column) == len(rows) for column in columns)
        yield _below(rows.parents, count) and _below(rows.accesses, len(made.accesses))
        yield all(row < len(rows) for row in rows.xattrs)
    yield _are_whole(leaves, len(made.layers))
    yield len(made.link_parents) == len(made.link_leaves) == len(made.link_names)
    yield _below(made.link_parents, count) and _below(made.link_leaves, leaf_count)


def _are_whole(leaves: Leaves, layer_count: int) -> bool:
    columns: list[array[int]] = [leaves.kinds, leaves.sizes, leaves.layers, leaves.offsets]
    if not all(len(column) == len(leaves) for column in columns):
        return False
    for row, kind in enumerate(leaves.kinds):
        if kind == FILE:
            if leaves.layers[row] >= layer_count:
                return False
        elif kind not in (SYMLINK, SPECIAL) or isinstance(leaves.targets[row], bytes) != (kind == SYMLINK):
            return False
    return all(row < len(leaves) for row in leaves.ranges)


def _below(column: array[int], bound: int) -> bool:
    return not column or max(column) < bound
