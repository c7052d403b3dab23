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
from collections.abc import Callable
from typing import NamedTuple, Union

from ..extent import Extent, Readable
from ..limits import Deadline, Limits
from ..names import check_link_target, components, member_name, sibling
from ..refusal import malformed
from ..tar import xattrs
from ..tar.access import Access
from ..tar.member import Kind, Member
from ..tar.members import TarReader
from . import whiteouts
from .inodes import Directory, File, Inode, Special, Symlink
from .tally import Tally
from .tree import MAX_HOPS, Place, Tree

MAX_ID = (1 << 32) - 2  # (uid_t) -1 means "leave it"
# What an ext4 inode of 256 bytes can hold: 34 bits of seconds that begin in 1901.
MIN_TIME_NS = -(1 << 31) * 1_000_000_000
MAX_TIME_NS = ((1 << 34) - (1 << 31)) * 1_000_000_000 - 1
MAX_MAJOR, MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1  # new_encode_dev() in linux/kdev_t.h
LEAST_NOTED_BYTES = 2048  # of a content; a shorter one costs less where it is than its place does
_MAX_SHARED = 4096  # owners and modes, or sets of attributes, that are kept to be shared; an image has a handful
_XATTR_COST_BYTES = 128  # what an attribute costs in memory beside its name and its value, for the limit metadata_bytes

_FILE, _DIRECTORY, _SYMLINK, _HARD_LINK = Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARD_LINK
_FILE_TYPES = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


class HardLink(NamedTuple):
    """A name for an inode that something else brings; never in the tree itself."""

    target: bytes


Addition = tuple[bytes, Union[Inode, HardLink]]


class Layers:
    """Applies layers, lowest first, to ``tree``."""

    def __init__(self, limits: Limits, deadline: Deadline) -> None:
        self.limits = limits
        self.deadline = deadline
        self.tree = Tree(limits, deadline)
        self.tally = Tally()
        self._accesses: dict[Access, Access] = {}
        self._shared_xattrs: dict[xattrs.Xattrs, xattrs.Xattrs] = {}

    def apply(
        self,
        layer: Extent,
        *,
        terminated: bool,
        headers: Readable | None = None,
        note: Callable[[int, int], None] | None = None,
    ) -> None:
        """Merge the layer in ``layer``, an uncompressed tar; raises ``Untrusted``. ``terminated`` where no digest covers it.

        ``headers`` is read instead of ``layer``, where given. ``note`` receives the place and the length of each content that is stored.
        """
        additions: deque[Addition] = deque()
        removals: list[Place] = []
        emptied: list[Directory] = []
        covered = not terminated
        reader = TarReader(
            headers or layer, self.limits, terminated=terminated, is_covered=covered, deadline=self.deadline
        )
        for at, member in enumerate(reader):
            self.tally.add(member, self.limits)
            if note is not None and member.stored >= LEAST_NOTED_BYTES:
                note(member.data, member.stored)
            if not at & 63:
                self.deadline.check()
            if whiteouts.MARKER in member.name and not self._is_addition(member, removals, emptied):
                continue
            name = member_name(member.name, is_directory=member.kind is _DIRECTORY)
            additions.append((name, self._inode(member, layer)))
        self.tally.tails += reader.has_tail
        for place in removals:
            self.deadline.spend()
            self.tree.remove(place)
        for directory in emptied:
            self.deadline.spend()
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
        waiting: dict[bytes, bytes] = {}
        beside: tuple[bytes, Directory] | None = None  # members of one directory mostly follow each other
        while additions:
            name, inode = additions.popleft()
            if not len(additions) & 63:
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

    def _put(self, name: bytes, inode: Inode | HardLink, waiting: dict[bytes, bytes]) -> Directory | None:
        """Put one addition into the tree; returns the directory that it went into, if what comes next may well go there."""
        path = components(name, self.limits)
        if waiting:
            waiting.pop(b"/".join(path), None)
        if not path:
            self._put_root(inode, name)
        elif isinstance(inode, HardLink):
            target = components(inode.target, self.limits)
            if not self.tree.link(path, target):
                # Joined, since a tuple of short components takes twenty times as much memory.
                waiting[b"/".join(path)] = b"/".join(target)
        else:
            return self.tree.put(path, inode)
        return None

    def _put_root(self, inode: Inode | HardLink, name: bytes) -> None:
        if not isinstance(inode, Directory):
            raise malformed("the image's root as something else than a directory", name)
        self.tree.put_root(inode)

    def _link_waiting(self, waiting: dict[bytes, bytes]) -> None:
        """Make the hard links whose target came behind them; links may wait for links, but not in a long chain."""
        for _round in range(MAX_HOPS):
            made = [path for path, target in waiting.items() if self._link(path, target)]
            if waiting and not made:
                path, target = next(iter(waiting.items()))
                raise malformed(f"a hard link to {target!r}, which is not there", path)
            for path in made:
                del waiting[path]
        if waiting:
            raise malformed("a hard link that waits for too many others", next(iter(waiting)))

    def _link(self, path: bytes, target: bytes) -> bool:
        self.deadline.spend(1 + (len(path) + len(target) >> 4))
        return self.tree.link(tuple(path.split(b"/")), tuple(target.split(b"/")))

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
            if dropped:
                self.tally.drop(dropped)
            if kept:
                kept = self._shared_xattrs.get(kept) or self._new_xattrs(kept)
        if kind is _FILE:
            return File(access, mtime_ns, kept, layer, member.data, member.size, member.ranges)
        if kind is _DIRECTORY:
            return Directory(access, mtime_ns, kept)
        if kind is _SYMLINK:
            check_link_target(member.link, member.name)
            return Symlink(access, mtime_ns, member.link)
        return Special(access, mtime_ns, _FILE_TYPES[kind], _device(member))

    def _new_xattrs(self, kept: xattrs.Xattrs) -> xattrs.Xattrs:
        self.tally.metadata_bytes += _XATTR_COST_BYTES * len(kept)
        if len(self._shared_xattrs) >= _MAX_SHARED:
            self._shared_xattrs.clear()
        self._shared_xattrs[kept] = kept
        return kept

    def _new_access(self, member: Member) -> Access:
        access = member.access
        if not (0 <= access.uid <= MAX_ID and 0 <= access.gid <= MAX_ID):
            raise malformed(f"it belongs to {access.uid}:{access.gid}, which Linux cannot store", member.name)
        if len(self._accesses) >= _MAX_SHARED:
            self._accesses.clear()
        self._accesses[access] = access
        return access


def _device(member: Member) -> int:
    major, minor = member.device
    if not (0 <= major <= MAX_MAJOR and 0 <= minor <= MAX_MINOR):
        raise malformed(f"a device with the numbers {major}:{minor}, which Linux cannot have", member.name)
    return os.makedev(major, minor)
