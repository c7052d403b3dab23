# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The merged tree, and how a path of the image is resolved in it.

Invariant: a path is resolved here, in memory, as if the image's root were ``/``; the host's file system is never asked. Symbolic
links are followed in the middle of a path, never at its end. Nothing is mutated through a name: another inode takes its place.
"""

from __future__ import annotations

from ..limits import Deadline, Limits
from ..names import Path
from ..refusal import malformed
from .inodes import Directory, Inode, Symlink

_STEPS_BETWEEN_CHECKS = 4096  # of a fraction of a microsecond each

Place = tuple[Directory, bytes]

MAX_HOPS = 40  # as Linux: path_resolution(7)
MAX_STEPS = 8192  # components of one path, those of the links on its way included
MAX_ALL_STEPS = 200_000_000  # of all paths together: half a minute; honest images of a million files take a tenth


class Tree:
    """A root directory and what the layers so far have put below it."""

    def __init__(self, limits: Limits, deadline: Deadline) -> None:
        self.root = Directory()
        self.names_of: dict[Inode, int] = {}  # how often an inode was linked, for those that were
        self._limits = limits
        self._deadline = deadline
        self._implied = 0
        self._steps = self._next_check = 0
        # Members of one directory mostly follow each other. Any replacement of a name may change what a path means.
        self._last_path: Path = ()
        self._last_directory: Directory | None = self.root

    def put(self, path: Path, inode: Inode) -> Directory:
        """Make ``inode`` what ``path`` names. A directory over a directory replaces its attributes only.

        Returns the directory that it went into, for ``put_beside``.
        """
        directory = self._directory(path[:-1], path)
        self._put(directory, path[-1], inode)
        return directory

    def put_beside(self, directory: Directory, name: bytes, inode: Inode) -> bool:
        """Like ``put``, with the directory of the last ``put``; says whether that path still means the same."""
        if directory is not self._last_directory:
            return False
        self._put(directory, name, inode)
        return True

    def _put(self, parent: Directory, name: bytes, inode: Inode) -> None:
        old = parent.children.get(name)
        if old is None:
            parent.children[name] = inode
        elif isinstance(old, Directory) and isinstance(inode, Directory):
            _replace_attributes(old, inode)
        else:
            parent.children[name] = inode
            self._last_directory = None

    def put_root(self, inode: Directory) -> None:
        """Give the root the attributes of ``inode``."""
        _replace_attributes(self.root, inode)

    def link(self, path: Path, target: Path) -> bool:
        """Make ``path`` another name of what ``target`` names; says whether there is such a thing."""
        place = self.find(target)
        inode = place[0].children.get(place[1]) if place else None
        if place is None or inode is None:
            return False
        if isinstance(inode, Directory):
            raise malformed("a hard link to a directory", b"/".join(path))
        if place == (self._directory(path[:-1], path), path[-1]):
            raise malformed("a hard link to itself", b"/".join(path))
        count = self.names_of.get(inode, 1) + 1
        if count > self._limits.hard_links:
            self._limits.exceeded("hard_links", count, b"/".join(path))
        self.names_of[inode] = count
        self.put(path, inode)
        return True

    def find(self, path: Path) -> Place | None:
        """The directory in which ``path`` is a name, and the name; None when the way there does not exist."""
        parent = self.find_directory(path[:-1]) if path else None
        return None if parent is None else (parent, path[-1])

    def find_directory(self, path: Path) -> Directory | None:
        """The directory that ``path`` leads to, its last component followed too; None when there is none."""
        return self._walk(path, path, make=False)

    def remove(self, place: Place) -> bool:
        """Remove a name and all below it; says whether it was there."""
        self._last_directory = None
        return place[0].children.pop(place[1], None) is not None

    def clear(self, directory: Directory) -> None:
        """Remove all that is below ``directory``."""
        self._last_directory = None
        directory.children.clear()

    def _directory(self, path: Path, whole: Path) -> Directory:
        if path == self._last_path and self._last_directory is not None:
            return self._last_directory
        found = self._walk(path, whole, make=True)
        if found is None:
            raise AssertionError("what is missing was made")
        self._last_path, self._last_directory = path, found
        return found

    def _walk(self, path: Path, whole: Path, *, make: bool) -> Directory | None:
        """The directory that ``path`` leads to. What is missing or in the way becomes a directory with ``make``.

        Each step is counted as it is taken, so a path that leads nowhere counts as well.
        """
        if self._steps >= self._next_check:
            self._check_steps(whole)
        way = [self.root]
        todo = list(reversed(path))
        hops, last_step = 0, self._steps + MAX_STEPS
        self._steps += 1  # to set out is one too
        while todo:
            name = todo.pop()
            self._steps += 1
            if name == b"..":  # only links' targets have it; it stops at the image's root
                del way[max(1, len(way) - 1) :]
                continue
            if name in (b"", b"."):
                continue
            child = way[-1].children.get(name)
            if isinstance(child, Symlink):
                hops += 1
                if hops > MAX_HOPS or self._steps > last_step:
                    raise malformed(
                        "too many symbolic links on its way, or they go round in a circle", b"/".join(whole)
                    )
                way = way[:1] if child.target.startswith(b"/") else way
                todo += reversed(child.target.split(b"/"))
                continue
            if not isinstance(child, Directory):
                if not make:
                    return None
                child = self._make_directory(way[-1], name, whole)
            way.append(child)
            if len(way) > self._limits.depth:
                self._limits.exceeded("depth", len(way), b"/".join(whole))
        return way[-1]

    def _check_steps(self, whole: Path) -> None:
        self._next_check = min(self._steps + _STEPS_BETWEEN_CHECKS, MAX_ALL_STEPS)
        self._deadline.check()
        if self._steps >= MAX_ALL_STEPS:
            raise malformed("its links take too many steps to follow", b"/".join(whole))

    def _make_directory(self, parent: Directory, name: bytes, whole: Path) -> Directory:
        self._implied += 1
        if self._implied > self._limits.implied_directories:
            self._limits.exceeded("implied_directories", self._implied, b"/".join(whole))
        if name in parent.children:
            self._last_directory = None
        made = parent.children[name] = Directory()
        return made


def _replace_attributes(old: Directory, new: Directory) -> None:
    old.access, old.mtime_ns, old.xattrs = new.access, new.mtime_ns, new.xattrs
