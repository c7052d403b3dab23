# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and validate the members of a tar.

Invariant: the members are those that GNU tar lists, or the archive is refused. Every header's checksum is right, every member lies
within the archive, and the archive ends where it says. One exception: a size in the header of a link, a device or a FIFO speaks of no
content, as POSIX has it and Go's archive/tar reads it; GNU tar skips as many bytes, except for hard links and directories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from ..extent import Readable
from ..limits import Deadline, Limits
from ..refusal import Name, malformed
from . import sparse
from .access import Access
from .blocks import Blocks
from .extensions import LONG, TYPES, Extensions, Overrides
from .header import BLOCK, ZERO_BLOCK, Header, number, parse_header
from .member import Kind, Member
from .plain_members import Accesses, Times, plain_members

_VOLUME_LABEL = b"V"
_DUMP_DIRECTORY = b"D"
_OLD_SPARSE = b"S"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous
    _OLD_SPARSE: Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    _DUMP_DIRECTORY: Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
_FILE, _DIRECTORY, _DEVICES = Kind.FILE, Kind.DIRECTORY, (Kind.CHARACTER, Kind.BLOCK)
_NO_DEVICE = (0, 0)


# A member's name, kind, size, data, stored and ranges, as in Member.
_Content = tuple[bytes, Kind, int, int, int, Optional[sparse.Ranges]]


class TarReader:
    """Iterates over the members of the tar in ``extent``; see ``Blocks.check_end`` for ``terminated`` and ``is_covered``.

    ``deadline`` is asked at every header that is not plain, since one of them may cost as much as a thousand that are; those who take
    the members ask it for the plain ones. ``has_tail`` says afterwards whether other bytes than zeros stand behind the end.
    """

    def __init__(
        self,
        extent: Readable,
        limits: Limits,
        *,
        terminated: bool,
        is_covered: bool = False,
        deadline: Deadline | None = None,
    ) -> None:
        self.has_tail = False
        self._is_covered = is_covered
        self._deadline = deadline or Deadline(limits)
        self._blocks = Blocks(extent, self._deadline)
        self._limits = limits
        self._terminated = terminated
        self._at = 0
        self._times = Times()
        self._accesses = Accesses()
        self._extensions = Extensions(limits)

    def __iter__(self) -> Iterator[Member]:
        while True:
            self._deadline.check()
            if not self._extensions.speaking:
                self._at = yield from plain_members(self._blocks, self._at, self._accesses, self._times)
            block = self._blocks.at(self._at)
            if len(block) < BLOCK or block == ZERO_BLOCK:
                break
            header = parse_header(block)
            if header is None:
                raise malformed(f"the header at byte {self._at} has a wrong checksum", block[:100].partition(b"\0")[0])
            self._at += BLOCK
            if header.typeflag in TYPES:
                self._extend(header)
            elif header.typeflag == _VOLUME_LABEL:
                self._at = self._blocks.behind(self._at, self._size(header, header.name), header.name)
                self._extensions.take(header.name)
            else:
                yield self._member(header, block)
        if self._extensions.waiting:
            raise malformed("the archive ends behind an extension header, without the member it is for")
        self.has_tail = self._blocks.check_end(self._at, terminated=self._terminated, is_covered=self._is_covered)

    def _extend(self, header: Header) -> None:
        name = header.full_name
        size = self._size(header, name)
        if size > self._limits.header_bytes:
            self._limits.exceeded("header_bytes", size, name)
        begin, self._at = self._at, self._blocks.behind(self._at, size, name)
        content = self._blocks.extent.read(begin, size)
        if header.typeflag in LONG and b"\0" not in content:
            self._check_ends(begin + size, name)
        self._extensions.add(header.typeflag, content, name)

    def _check_ends(self, at: int, name: Name) -> None:
        # GNU tar reads a long name up to the first NUL, be it in the padding: with other bytes there, two readers see two names.
        if self._blocks.extent.read(at, self._at - at)[:1].strip(b"\0"):
            raise malformed("a long name that goes on behind its end", name)

    def _member(self, header: Header, block: bytes) -> Member:
        over = self._extensions.take(header.name)
        name = header.full_name if over.name is None else over.name
        if not name and over.name is not None:  # Go's programs take the header's own name then, GNU tar takes none
            raise malformed("a name that its extension header makes empty", header.full_name)
        name, kind, size, data, stored, ranges = self._content(header, block, over, name)
        device = _NO_DEVICE
        if kind in _DEVICES:
            device = number(header.device[:8], "major number", name), number(header.device[8:], "minor number", name)
        return Member(
            name,
            kind,
            self._access(header, over),
            self._times[header.mtime] if over.mtime_ns is None else over.mtime_ns,
            header.link.partition(b"\0")[0] if over.link is None else over.link,
            device,
            over.records,
            size,
            data,
            stored,
            ranges,
        )

    def _access(self, header: Header, over: Overrides) -> Access:
        if over.uid is None and over.gid is None:
            return self._accesses[header.access]
        # A field that is overridden is not read: who has a number too large for it may leave anything there.
        uid = number(header.access[8:16], "uid", header.name) if over.uid is None else over.uid
        gid = number(header.access[16:], "gid", header.name) if over.gid is None else over.gid
        return Access(number(header.access[:8], "mode", header.name) & 0o7777, uid, gid)

    def _size(self, header: Header, member: Name) -> int:
        size = number(header.size, "size", member)
        if size < 0:
            raise malformed(f"its size is negative ({size} bytes)", member)
        return size

    def _content(self, header: Header, block: bytes, over: Overrides, name: bytes) -> _Content:
        """What the member is and where its data is; afterwards the next header is at hand."""
        kind = _KINDS.get(header.typeflag)
        if kind is None:
            raise malformed(f"a member of the unknown type {header.typeflag!r}", name)
        size = self._size(header, name) if over.size is None else over.size
        if kind is _FILE:
            if over.records or header.typeflag == _OLD_SPARSE:
                found = self._sparse(header, block, over, size, name)
                if found is not None:
                    return self._sparse_content(found, size, name)
            data, self._at = self._at, self._blocks.behind(self._at, size, name)
            if not name.endswith(b"/"):
                return name, kind, size, data, size, None
            kind = _DIRECTORY  # v7 had no type for directories
            if size and header.typeflag != b"\0":  # a file for Go's programs
                raise malformed("a directory with content", name)
        else:
            if sparse.is_described(over.records):
                raise malformed(f"a sparse map for a {kind.value}", name)
            if size:
                self._skip_unwanted(header.typeflag, size, name, is_pax=over.size is not None)
        return name, kind, 0, 0, 0, None

    def _skip_unwanted(self, typeflag: bytes, size: int, name: bytes, *, is_pax: bool) -> None:
        """Get past a size where there is no content by definition; only dump directories have some, and hard links may (POSIX)."""
        begin = self._at
        if typeflag == _DUMP_DIRECTORY:
            self._at = self._blocks.behind(begin, size, name)
            return
        block = self._blocks.at(begin)
        if len(block) < BLOCK or block == ZERO_BLOCK or parse_header(block):
            # A PAX size moves GNU tar behind it, and a zero block in front of anything else would be the end for one reader only.
            if (is_pax and typeflag != b"5") or (
                block == ZERO_BLOCK and self._blocks.first_non_zero(begin) < self._blocks.extent.size
            ):
                raise malformed(
                    f"a {_KINDS[typeflag].value} with a size of {size} bytes, and no content behind it", name
                )
            return
        if typeflag != b"1":
            raise malformed(f"a {_KINDS[typeflag].value} with {size} bytes of content", name)
        self._at = self._blocks.behind(begin, size, name)
        self._check_is_content(begin, size, name)

    def _check_is_content(self, begin: int, size: int, name: bytes) -> None:
        # GNU tar looks for a header in every block there: where it found one, or an end, two readers would see two different archives.
        for at in range(begin, begin + size, BLOCK):
            self._deadline.spend(8)  # a block costs some microseconds
            block = self._blocks.at(at)
            if block == ZERO_BLOCK or parse_header(block):
                raise malformed(f"a hard link with {size} bytes of content that hide a member", name)

    def _sparse(
        self, header: Header, block: bytes, over: Overrides, size: int, name: bytes
    ) -> sparse.SparseFile | None:
        begin = self._at
        if header.typeflag == _OLD_SPARSE:
            if sparse.is_described(over.records):
                raise malformed("two sparse maps for one file", name)
            found = sparse.old_gnu(block, lambda at: self._blocks.whole(begin + at, name), self._limits, name)
            self._at += found.map_bytes
            return found._replace(map_bytes=0)

        def read_map(at: int) -> bytes:
            if at >= size:
                raise malformed("its sparse map does not end within it", name)
            return self._blocks.whole(begin + at, name)

        return sparse.from_pax(over.records, read_map, self._limits, name)

    def _sparse_content(self, found: sparse.SparseFile, size: int, name: bytes) -> _Content:
        name = found.name or name
        if name.endswith(b"/"):
            raise malformed("a sparse map for a directory", name)
        stored = size - found.map_bytes
        ranges = sparse.check_ranges(found, stored, name)
        data, self._at = self._at + found.map_bytes, self._blocks.behind(self._at, size, name)
        return name, _FILE, found.size, data, stored, ranges
