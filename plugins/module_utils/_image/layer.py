# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies one layer to the tree: all it takes away first, then all it brings.

Invariant: whatever the order of a layer's members, its whiteouts reach lower layers only. Source: OCI image-spec, "Applying
Changesets".
"""

from __future__ import annotations

import os
import stat
from collections import deque
from typing import NamedTuple, Union

from . import whiteouts, xattrs
from .access import Access
from .extent import Extent
from .inodes import Directory, File, Inode, Special, Symlink
from .limits import Deadline, Limits
from .member import Kind, Member
from .names import Path, check_link_target, components, sibling
from .refusal import refused
from .sparse import RANGE_COST_BYTES
from .tar_reader import TarReader
from .tree import MAX_HOPS, Place, Tree

MAX_ID = (1 << 32) - 2  # (uid_t) -1 means "leave it"
# What an ext4 inode of 256 bytes can hold: 34 bits of seconds that begin in 1901.
MIN_TIME_NS = -(1 << 31) * 1_000_000_000
MAX_TIME_NS = ((1 << 34) - (1 << 31)) * 1_000_000_000 - 1
MAX_MAJOR, MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1  # new_encode_dev() in linux/kdev_t.h

_FILE, _DIRECTORY, _SYMLINK, _HARD_LINK = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARD_LINK
_FILE_TYPES = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


class Tally:
    """What all layers so far were made of, and what was changed on the way; ``metadata_bytes`` is what it costs in memory."""

    def __init__(self) -> None:
        self.entries = 0
        self.content_bytes = 0
        self.metadata_bytes = 0
        self.whiteouts = 0
        self.left_out = 0
        self.dropped_xattrs = 0
        self.clamped_times = 0

    def add(self, member: Member, limits: Limits) -> None:
        """Count ``member``, and refuse it when it is one too many."""
        self.entries += 1
        if self.entries > limits.entries:
            limits.exceeded("entries", self.entries, member.name)
        if member.size > limits.file_bytes:
            limits.exceeded("file_bytes", member.size, member.name)
        self.content_bytes += member.size
        if self.content_bytes > limits.content_bytes:
            limits.exceeded("content_bytes", self.content_bytes, member.name)
        self.metadata_bytes += len(member.name) + len(member.link)
        if member.records:
            self.metadata_bytes += sum(len(key) + len(value) for key, value in member.records)
        if member.ranges:
            self.metadata_bytes += RANGE_COST_BYTES * len(member.ranges)
        if self.metadata_bytes > limits.metadata_bytes:
            limits.exceeded("metadata_bytes", self.metadata_bytes, member.name)


class HardLink(NamedTuple):
    """A name for an inode that something else brings; never in the tree itself."""

    target: bytes


Addition = tuple[bytes, Union[Inode, HardLink]]


class Layers:
    """Applies layers, lowest first, to ``tree``."""

    def __init__(self, limits: Limits, deadline: Deadline) -> None:
        self.limits = limits
        self.deadline = deadline
        self.tree = Tree(limits)
        self.tally = Tally()
        self._accesses: dict[Access, Access] = {}

    def apply(self, layer: Extent, *, terminated: bool) -> None:
        """Merge the layer in ``layer``, an uncompressed tar; raises ``Untrusted``. See ``Blocks.check_end`` for ``terminated``."""
        additions: deque[Addition] = deque()
        removals: list[Place] = []
        emptied: list[Directory] = []
        for at, member in enumerate(TarReader(layer, self.limits, terminated=terminated)):
            self.tally.add(member, self.limits)
            if not at & 255:
                self.deadline.check()
            if whiteouts.MARKER in member.name and not self._is_addition(member, removals, emptied):
                continue
            additions.append((member.name, self._inode(member, layer)))
        for place in removals:
            self.tree.remove(place)
        for directory in emptied:
            self.tree.clear(directory)
        self._add(additions)

    def _is_addition(self, member: Member, removals: list[Place], emptied: list[Directory]) -> bool:
        """Note what a marker removes. It is resolved in the lower layers, before anything of this one is applied."""
        verdict, path = whiteouts.read(components(member.name, self.limits), member)
        if verdict is whiteouts.Verdict.WHITEOUT:
            self.tally.whiteouts += 1
            place = self.tree.find(path)
            if place:
                removals.append(place)
        elif verdict is whiteouts.Verdict.OPAQUE:
            self.tally.whiteouts += 1
            directory = self.tree.find_directory(path)
            if directory:
                emptied.append(directory)
        elif verdict is whiteouts.Verdict.LEFT_OUT:
            self.tally.left_out += 1
        return verdict is whiteouts.Verdict.ORDINARY

    def _add(self, additions: deque[Addition]) -> None:
        """Put the additions into the tree, in order, freeing them as they go."""
        waiting: dict[Path, Path] = {}
        beside: tuple[bytes, Directory] | None = None  # members of one directory mostly follow each other
        while additions:
            name, inode = additions.popleft()
            if not len(additions) & 255:
                self.deadline.check()
            if not (beside and self._put_beside(beside, name, inode)):
                directory = self._put(name, inode, waiting)
                parent, _slash, last = name.rpartition(b"/")
                # Behind a slash at the end nothing stands that is in the directory before it.
                beside = (parent, directory) if directory and last and not waiting else None
        self._link_waiting(waiting)

    def _put_beside(self, beside: tuple[bytes, Directory], name: bytes, inode: Inode | HardLink) -> bool:
        if isinstance(inode, HardLink):
            return False
        last = sibling(name, beside[0], self.limits)
        return last is not None and self.tree.put_beside(beside[1], last, inode)

    def _put(self, name: bytes, inode: Inode | HardLink, waiting: dict[Path, Path]) -> Directory | None:
        """Put one addition into the tree; returns the directory that it went into, if what comes next may well go there."""
        path = components(name, self.limits)
        waiting.pop(path, None)
        if not path:
            self._put_root(inode, name)
        elif isinstance(inode, HardLink):
            target = components(inode.target, self.limits)
            if not self.tree.link(path, target):
                waiting[path] = target
        else:
            return self.tree.put(path, inode)
        return None

    def _put_root(self, inode: Inode | HardLink, name: bytes) -> None:
        if not isinstance(inode, Directory):
            raise refused("the image's root as something else than a directory", name)
        self.tree.put_root(inode)

    def _link_waiting(self, waiting: dict[Path, Path]) -> None:
        """Make the hard links whose target came behind them; links may wait for links, but not in a long chain."""
        for _round in range(MAX_HOPS):
            made = [path for path, target in waiting.items() if self.tree.link(path, target)]
            if waiting and not made:
                path, target = next(iter(waiting.items()))
                raise refused(f"a hard link to {target!r}, which is not there", b"/".join(path))
            for path in made:
                del waiting[path]
        if waiting:
            raise refused("a hard link that waits for too many others", b"/".join(next(iter(waiting))))

    # From members to inodes

    def _inode(self, member: Member, layer: Extent) -> Inode | HardLink:
        kind = member.kind
        if kind is _HARD_LINK:
            return HardLink(member.link)
        access = self._accesses.get(member.access) or self._new_access(member)
        mtime_ns = member.mtime_ns
        if not MIN_TIME_NS <= mtime_ns <= MAX_TIME_NS:
            mtime_ns = min(max(mtime_ns, MIN_TIME_NS), MAX_TIME_NS)
            self.tally.clamped_times += 1
        kept: xattrs.Xattrs = ()
        if member.records:
            kept, dropped = xattrs.select(member.records, kind)
            self.tally.dropped_xattrs += dropped
        if kind is _FILE:
            return File(access, mtime_ns, kept, layer, member.data, member.size, member.ranges)
        if kind is _DIRECTORY:
            return Directory(access, mtime_ns, kept)
        if kind is _SYMLINK:
            check_link_target(member.link, member.name)
            return Symlink(access, mtime_ns, member.link)
        return Special(access, mtime_ns, _FILE_TYPES[kind], _device(member))

    def _new_access(self, member: Member) -> Access:
        access = member.access
        if not (0 <= access.uid <= MAX_ID and 0 <= access.gid <= MAX_ID):
            raise refused(f"it belongs to {access.uid}:{access.gid}, which Linux cannot store", member.name)
        self._accesses[access] = access
        return access


def _device(member: Member) -> int:
    major, minor = member.device
    if not (0 <= major <= MAX_MAJOR and 0 <= minor <= MAX_MINOR):
        raise refused(f"a device with the numbers {major}:{minor}, which Linux cannot have", member.name)
    return os.makedev(major, minor)
