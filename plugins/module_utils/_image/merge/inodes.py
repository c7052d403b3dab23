# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inodes of the merged tree.

Invariant: an inode knows neither its name nor its parent; two names of one inode are a hard link. There may be a million of them:
slots, shared ``Access`` objects, and nothing kept that the writer does not need.
"""

from __future__ import annotations

import stat

from ..extent import Extent
from ..tar.access import Access
from ..tar.sparse import Ranges
from ..tar.xattrs import Xattrs

IMPLIED_DIRECTORY = Access(0o755, 0, 0)


class Inode:
    """What all kinds have: access, time of modification in nanoseconds since the epoch, attributes."""

    __slots__ = ("access", "mtime_ns", "xattrs")

    def __init__(self, access: Access, mtime_ns: int, xattrs: Xattrs) -> None:
        self.access = access
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs


class Directory(Inode):
    """A directory; ``children`` are its names."""

    __slots__ = ("children",)

    def __init__(self, access: Access = IMPLIED_DIRECTORY, mtime_ns: int = 0, xattrs: Xattrs = ()) -> None:
        super().__init__(access, mtime_ns, xattrs)
        self.children: dict[bytes, Inode] = {}


class File(Inode):
    """A regular file of ``size`` bytes; its content stands in ``source`` from ``offset`` on, cut into ``ranges`` when sparse."""

    __slots__ = ("offset", "ranges", "size", "source")

    def __init__(  # one argument a field
        self,
        access: Access,
        mtime_ns: int,
        xattrs: Xattrs,
        source: Extent,
        offset: int,
        size: int,
        ranges: Ranges | None,
    ) -> None:
        self.access = access
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.source = source
        self.offset = offset
        self.size = size
        self.ranges = ranges

    @property
    def stored_bytes(self) -> int:
        """The bytes of content that are no holes."""
        return self.size if self.ranges is None else sum(length for _offset, length in self.ranges)


class Symlink(Inode):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, access: Access, mtime_ns: int, target: bytes) -> None:
        super().__init__(access, mtime_ns, ())
        self.target = target


class Special(Inode):
    """A character or block device or a FIFO: ``file_type`` is one of stat.S_IFCHR, S_IFBLK, S_IFIFO, ``device`` a dev_t."""

    __slots__ = ("device", "file_type")

    def __init__(self, access: Access, mtime_ns: int, file_type: int, device: int) -> None:
        super().__init__(access, mtime_ns, ())
        self.file_type = file_type
        self.device = device

    @property
    def is_device(self) -> bool:
        """Whether it is a device and no FIFO."""
        return self.file_type != stat.S_IFIFO
