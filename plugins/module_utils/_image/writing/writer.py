# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the plan into an empty directory.

Invariant: every inode is made by one new name in an open directory (O_EXCL, O_NOFOLLOW); no path is resolved, no special file is
opened, no link is followed, so what a name means cannot be changed by what the image holds. Order on each inode: create, owner, mode
(a change of owner clears setuid), attributes (writing and changing the owner clear capabilities), times.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from ..._errors import FlydError
from ..._host.files.durable import from_os_error
from ..._host.files.writeback import begin_writeback
from ..._names import printable
from ..limits import Deadline, Limits
from ..merge.inodes import File, Inode, Special, Symlink
from ..merge.plan import HardLink, Places, Plan
from ..refusal import malformed
from .copying import Copier
from .dirfd_cache import DirfdCache
from .sandbox import NEW_FILE

_SETID = 0o6000
# A small file costs more on its own than among others, when all is written in the end. Measured on ext4.
_WORTH_AN_EARLY_START_BYTES = 65536
_IMAGES_FAULT = (errno.ENAMETOOLONG, errno.EMLINK, errno.EILSEQ, errno.EINVAL, errno.ELOOP, errno.EFBIG)


class Writer:
    """Writes parts of ``plan`` below ``root_fd``; one for each process."""

    def __init__(self, plan: Plan, root_fd: int, limits: Limits) -> None:
        self._deadline = Deadline(limits)
        self._plan = plan
        self._handles = DirfdCache(root_fd, plan.directories)
        self._copier = Copier()
        self._firsts = DirfdCache(root_fd, plan.directories)
        self._makes_root_owned = os.geteuid() == 0 and os.getegid() == 0

    def make_directories(self, rows: Iterable[int]) -> None:
        """Make the directories of ``rows``, parents first, closed to everybody else until they are finished."""
        directories = self._plan.directories
        row = 0
        try:
            for row in rows:
                self._deadline.check()
                os.mkdir(directories.names[row], 0o700, dir_fd=self._handles.fd(directories.parents[row]))
        except OSError as error:
            raise self._error_at(error, directories, row) from error

    def write_leaves(self, rows: Iterable[int]) -> None:
        """Make the leaves of ``rows``."""
        leaves = self._plan.leaves
        row = 0
        try:
            for row in rows:
                self._deadline.check()
                self._write_leaf(leaves.inodes[row], leaves.names[row], self._handles.fd(leaves.parents[row]))
        except OSError as error:
            raise self._error_at(error, leaves, row) from error

    def make_hard_links(self, links: Iterable[HardLink]) -> None:
        """Make further names of inodes that have several; all leaves are there by now."""
        for link in links:
            self._deadline.check()
            first = self._firsts.fd(link.first_directory)
            os.link(
                link.first_name,
                link.name,
                src_dir_fd=first,
                dst_dir_fd=self._handles.fd(link.directory),
                follow_symlinks=False,
            )

    def finish_directories(self) -> None:
        """Give directories their owners, modes, attributes and times, children before parents, when nothing is made in them any more."""
        directories = self._plan.directories
        row = 0
        try:
            for row in range(len(directories) - 1, -1, -1):
                self._deadline.check()
                self._finish(self._handles.fd(row), directories.inodes[row], 0o700)
        except OSError as error:
            raise self._error_at(error, directories, row) from error

    def close(self) -> None:
        """Close what is open."""
        self._handles.close()
        self._firsts.close()

    def _write_leaf(self, inode: Inode, name: bytes, directory: int) -> None:
        if isinstance(inode, File):
            self._write_file(inode, name, directory)
            return
        access = inode.access
        if isinstance(inode, Symlink):
            os.symlink(inode.target, name, dir_fd=directory)
        elif isinstance(inode, Special):
            os.mknod(name, inode.file_type | 0o600, inode.device, dir_fd=directory)
        if access.uid or access.gid or not self._makes_root_owned:
            os.chown(name, access.uid, access.gid, dir_fd=directory, follow_symlinks=False)
        if isinstance(inode, Special):  # a link has no mode; chmod would follow it
            os.chmod(name, access.mode, dir_fd=directory)
        os.utime(name, ns=(inode.mtime_ns, inode.mtime_ns), dir_fd=directory, follow_symlinks=False)

    def _write_file(self, inode: File, name: bytes, directory: int) -> None:
        mode = inode.access.mode
        # A plain file of root's can be born with its mode, which saves a system call; writing clears setuid bits.
        born_mode = 0o600 if mode & _SETID else mode
        fd = os.open(name, NEW_FILE, born_mode, dir_fd=directory)
        try:
            if inode.ranges is not None:
                self._write_ranges(inode, fd)
            elif inode.size:
                self._copier.copy(inode.source, inode.offset, fd, inode.size)
                if inode.size >= _WORTH_AN_EARLY_START_BYTES:
                    begin_writeback(fd)
            self._finish(fd, inode, born_mode)
        finally:
            os.close(fd)

    def _write_ranges(self, inode: File, fd: int) -> None:
        at = inode.offset
        for offset, length in inode.ranges or ():
            self._deadline.check()
            os.lseek(fd, offset, os.SEEK_SET)
            self._copier.copy(inode.source, at, fd, length)
            at += length
        os.ftruncate(fd, inode.size)

    def _finish(self, fd: int, inode: Inode, born_mode: int) -> None:
        """Owner, mode, attributes, times: in this order, since each of them may undo the one behind it."""
        mode, uid, gid = inode.access
        if uid or gid or not self._makes_root_owned:
            os.fchown(fd, uid, gid)
        if mode != born_mode or mode & _SETID:
            os.fchmod(fd, mode)
        for name, value in inode.xattrs:
            os.setxattr(fd, name, value)
        os.utime(fd, ns=(inode.mtime_ns, inode.mtime_ns))

    def _error_at(self, error: OSError, places: Places, row: int) -> FlydError:
        """What ``error`` means, with the path at which it happened."""
        path = self._path(places, row)
        if error.errno in _IMAGES_FAULT:
            return malformed(f"the file system does not take it: {error.strerror}", path)
        return from_os_error(OSError(error.errno, error.strerror), f"writing {printable(path)}")

    def _path(self, places: Places, row: int) -> bytes:
        parts = [places.names[row]]
        above = places.parents[row]
        while above:
            parts.append(self._plan.directories.names[above])
            above = self._plan.directories.parents[above]
        return b"/".join(reversed(parts))
