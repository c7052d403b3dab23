# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply a difference to the tree of an earlier base, in the writer's sandbox.

Invariant: what is made inherits nothing from where it is made, as in a new tree: a kept directory passes on neither its group nor its access
control list while names change in it. What goes is set aside first and removed when all else is written, since the holes that it leaves
would be filled page by page. Whatever is not as the manifest says is an error, and the tree is worth nothing then.
"""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Collection, Iterable, Sequence
from typing import Callable

from ..merge.inodes import File, Inode, Special
from ..merge.plan import Places, Plan
from ..options import Options
from ..phases import Phases
from ..writing.dirfd_cache import DirfdCache
from ..writing.sandbox import DIRECTORY, contain
from ..writing.tree_writer import Written, processes_of, shares
from ..writing.workers import Team
from ..writing.writer import Writer
from .difference import Difference, Kept
from .manifest import Manifest
from .matching import Matching
from .sandbox import lock_changing

_DEFAULT_ACL = b"system.posix_acl_default"
_ASIDE = b".flyd-aside"


def change_tree(
    plan: Plan, old: Manifest, matching: Matching, found: Difference, root_fd: int, options: Options
) -> Written:
    """Turn the tree ``old`` in the directory ``root_fd`` into that of ``plan``. For a child process only."""
    gc.disable()  # as in writing.tree_writer
    inodes = [plan.leaves.inodes[row] for row in found.written]
    cuts = shares(inodes, processes_of(options))
    parts = [_part(plan, root_fd, options, found.written[begin:end]) for begin, end in cuts]
    team = Team(parts, "writing files", lock_changing)
    missing = contain(root_fd, options.limits, team.start, lock_changing)
    phases = Phases()
    changer = _Changer(plan, root_fd, options, old, matching, found)
    with phases.phase("directories"):
        changer.open_directories()
        changer.set_aside()
        changer.writer.make_directories(found.new_directories)
        changer.close()
    with phases.phase("files"):
        team.run()
    with phases.phase("finish"):
        changer.change_kept(found.kept)
        changer.writer.make_hard_links(found.links)
        changer.remove_aside()
        changer.finish_directories()
        changer.close()
    return Written(phases.seconds, missing)


def _part(plan: Plan, root_fd: int, options: Options, rows: Sequence[int]) -> Callable[[], None]:
    def work() -> None:
        writer = _OntoWriter(plan, root_fd, options.limits)
        writer.write_leaves(rows)
        writer.close()

    return work


class _OntoWriter(Writer):
    """A writer that also changes what is there."""

    def change_leaf(self, kept: Kept, inode: Inode) -> None:
        """Give a leaf that stays its new attributes, by its name: it has neither capabilities nor lists that a change would touch."""
        directory = self._handles.fd(kept.directory)
        if kept.is_more_than_time:
            os.chown(kept.name, inode.access.uid, inode.access.gid, dir_fd=directory, follow_symlinks=False)
            if isinstance(inode, (File, Special)):
                os.chmod(kept.name, inode.access.mode, dir_fd=directory)
        times = (inode.mtime_ns, inode.mtime_ns)
        os.utime(kept.name, ns=times, dir_fd=directory, follow_symlinks=False)

    def directory_fd(self, row: int) -> int:
        """The directory of the plan in ``row``; good until the next call."""
        return self._handles.fd(row)

    def finish_new(self, row: int) -> None:
        """Give a directory that was made its attributes."""
        self._finish(self._handles.fd(row), self._plan.directories.inodes[row], 0o700)

    def finish_kept(self, row: int, had: Collection[bytes]) -> None:
        """The same for one that was there, with the attributes ``had``."""
        fd, inode = self._handles.fd(row), self._plan.directories.inodes[row]
        for name in had:
            os.removexattr(fd, name)
        os.fchown(fd, inode.access.uid, inode.access.gid)
        os.fchmod(fd, inode.access.mode)
        for name, value in inode.xattrs:
            os.setxattr(fd, name, value)
        os.utime(fd, ns=(inode.mtime_ns, inode.mtime_ns))


class _Changer:
    def __init__(
        self, plan: Plan, root_fd: int, options: Options, old: Manifest, matching: Matching, found: Difference
    ) -> None:
        self.writer = _OntoWriter(plan, root_fd, options.limits)
        self._plan = plan
        self._old = old
        self._matching = matching
        self._found = found
        self._root_fd = root_fd
        self._old_handles = DirfdCache(root_fd, old.directories.places())
        self._had = {row: {name for name, _value in pairs} for row, pairs in old.directories.xattrs.items()}
        self._aside = _unused_name(_ASIDE, old, plan)
        self._is_aside_made = bool(found.gone_names or found.gone_directories)
        self._moved: dict[int, bytes] = {}  # directories of the earlier tree by their names aside

    def close(self) -> None:
        self.writer.close()
        self._old_handles.close()

    def open_directories(self) -> None:
        """Take from kept directories in which names change what a new name would inherit."""
        for row in sorted(self._found.touched):
            there = self._matching.directories[row]
            had = self._had.get(there, set())
            if self._old.accesses[self._old.directories.accesses[there]].mode & stat.S_ISGID:
                os.fchmod(self.writer.directory_fd(row), 0o700)
            if _DEFAULT_ACL in had:
                os.removexattr(self.writer.directory_fd(row), _DEFAULT_ACL)
                had.remove(_DEFAULT_ACL)

    def set_aside(self) -> None:
        """Move what goes into one directory: names one by one, directories with all that is in them."""
        if not self._is_aside_made:
            return
        os.mkdir(self._aside, 0o700, dir_fd=self._root_fd)
        aside_fd = self._open_aside()
        try:
            gone = set(self._found.gone_directories)
            for number, (directory, name) in enumerate(self._found.gone_names):
                if directory not in gone:
                    self._move(directory, name, aside_fd, b"f%d" % number)
            for row in self._found.gone_directories:
                parent = self._old.directories.parents[row]
                if parent not in gone:
                    self._moved[row] = b"d%d" % row
                    self._move(parent, self._old.directories.names[row], aside_fd, self._moved[row])
        finally:
            os.close(aside_fd)
        self._old_handles.close()

    def _open_aside(self) -> int:
        return os.open(self._aside, DIRECTORY, dir_fd=self._root_fd)

    def _move(self, directory: int, name: bytes, aside_fd: int, to: bytes) -> None:
        os.rename(name, to, src_dir_fd=self._old_handles.fd(directory), dst_dir_fd=aside_fd)

    def change_kept(self, kept: Iterable[Kept]) -> None:
        """Give leaves that stay their new attributes."""
        for one in kept:
            self.writer.change_leaf(one, self._plan.leaves.inodes[one.row])

    def remove_aside(self) -> None:
        """Remove what was set aside, which holds what the manifest says and nothing else."""
        if not self._is_aside_made:
            return
        aside_fd = self._open_aside()
        handles = DirfdCache(aside_fd, self._places_aside())
        try:
            gone = set(self._found.gone_directories)
            for number, (directory, name) in enumerate(self._found.gone_names):
                if directory in gone:
                    os.unlink(name, dir_fd=handles.fd(directory))
                else:
                    os.unlink(b"f%d" % number, dir_fd=aside_fd)
            handles.close()
            for row in reversed(self._found.gone_directories):
                name = self._moved.get(row) or self._old.directories.names[row]
                parent = aside_fd if row in self._moved else handles.fd(self._old.directories.parents[row])
                os.rmdir(name, dir_fd=parent)
        finally:
            handles.close()
            os.close(aside_fd)
        os.rmdir(self._aside, dir_fd=self._root_fd)

    def _places_aside(self) -> Places:
        """The earlier tree's directories as they lie in the directory aside: those that were moved stand at its top."""
        old = self._old.directories
        parents = [0 if row in self._moved else parent for row, parent in enumerate(old.parents)]
        return Places(parents, [self._moved.get(row, name) for row, name in enumerate(old.names)])

    def finish_directories(self) -> None:
        """Give directories their attributes, children before parents; the root's time has changed in any case."""
        new = set(self._found.new_directories)
        for row in sorted({0, *new, *self._found.touched, *self._found.changed}, reverse=True):
            if row in new:
                self.writer.finish_new(row)
            else:
                self.writer.finish_kept(row, self._had.get(self._matching.directories[row], ()))


def _unused_name(wanted: bytes, old: Manifest, plan: Plan) -> bytes:
    """``wanted``, longer by as much as it takes for neither tree to have it in its root."""
    taken = {
        name
        for rows in (old.directories, old.leaves, plan.directories, plan.leaves)
        for parent, name in zip(rows.parents, rows.names)
        if parent == 0
    }
    taken.update(name for parent, name in zip(old.link_parents, old.link_names) if parent == 0)
    taken.update(link.name for link in plan.hard_links if link.directory == 0)
    while wanted in taken:
        wanted += b"-"
    return wanted
