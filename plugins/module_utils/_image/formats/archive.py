# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outer archive: a tar whose members are documents and layers.

Invariant: a name that a document mentions is looked up among the members and nowhere else; nothing of it becomes a path on the
host. A name that two members have is refused when it is asked for, unless both are the same bytes.
"""

from __future__ import annotations

from ..extent import Extent
from ..limits import Deadline, Limits
from ..names import components, member_name
from ..refusal import malformed
from ..tar.member import Kind, Member
from ..tar.members import TarReader

_MAX_HOPS = 8
ROOT_DIRECTORIES = frozenset((b"etc", b"bin", b"usr", b"sbin", b"lib"))  # what makes an archive a root file system
LISTS = frozenset(
    (b"index.json", b"oci-layout", b"manifest.json", b"repositories")
)  # what makes an archive one of images
_COMPARED_BYTES = 1 << 20
MAX_MEMBERS = 65536  # an image archive has a few for each layer; what has more can only be a root file system


class Archive:
    """The members of an archive by name, symbolic links among them."""

    def __init__(self, limits: Limits, deadline: Deadline) -> None:
        self.limits = limits
        self.deadline = deadline
        self.files: dict[bytes, Extent] = {}
        self.links: dict[bytes, bytes] = {}
        self.broken_links: set[bytes] = set()
        self.doubles: dict[bytes, list[Extent]] = {}  # the other files of a name in ``files``, which may be the same
        self.contradictory: set[bytes] = set()
        self.case_variants: set[bytes] = set()  # of the names of lists, in another case
        self.top: set[bytes] = set()  # first components of all names

    def has(self, name: str) -> bool:
        """Whether a member of this name is there, as a file or as a link."""
        path = self._path(name)
        return path in self.files or path in self.links

    def file(self, name: str) -> Extent:
        """The content of the member ``name``, links followed; raises ``Untrusted``."""
        self.deadline.check()  # each document and each layer is asked for here
        path = self._path(name)
        for _hop in range(_MAX_HOPS + 1):
            if path in self.contradictory or not self._is_one(path):
                raise malformed("the archive has two different members of this name", name)
            if path in self.broken_links:
                raise malformed("it is a link to something outside of the archive", name)
            if path in self.files:
                return self.files[path]
            if path not in self.links:
                raise malformed(
                    "the archive lacks this member",
                    name,
                    hint="the archive is incomplete: save it again (`skopeo copy --all`), with all platforms' layers",
                )
            path = self.links[path]
        raise malformed(f"it is a chain of more than {_MAX_HOPS} links", name)

    def _is_one(self, path: bytes) -> bool:
        """Whether all files of this name hold the same bytes; they are read once."""
        others = self.doubles.pop(path, [])
        if all(_is_same(self.files[path], other, self.deadline) for other in others):
            return True
        self.contradictory.add(path)
        return False

    def _path(self, name: str) -> bytes:
        try:
            return b"/".join(components(name.encode("utf-8"), self.limits))
        except UnicodeEncodeError:
            raise malformed("it is no name that a member could have", name) from None


def index(extent: Extent, limits: Limits, deadline: Deadline) -> Archive:
    """Read all headers of the archive in ``extent``; raises ``Untrusted``."""
    archive = Archive(limits, deadline)
    names_bytes = 0
    for count, member in enumerate(TarReader(extent, limits, terminated=False, deadline=deadline), 1):
        names_bytes += len(member.name) + len(member.link)
        if not count & 63:
            deadline.check()
        if count > limits.entries:
            limits.exceeded("entries", count)
        if names_bytes > limits.metadata_bytes:
            limits.exceeded("metadata_bytes", names_bytes)
        path = components(member_name(member.name, is_directory=member.kind is Kind.DIRECTORY), limits)
        if count <= MAX_MEMBERS or ROOT_DIRECTORIES.intersection(path[:1]):
            archive.top.update(path[:1])
        if path and (count <= MAX_MEMBERS or (len(path) == 1 and path[0] in LISTS)):
            _add(archive, b"/".join(path), member, extent)
        if len(path) == 1 and path[0] not in LISTS and path[0].lower() in LISTS:
            archive.case_variants.add(path[0])
    return archive


def _add(archive: Archive, path: bytes, member: Member, extent: Extent) -> None:
    is_known = path in archive.files or path in archive.links or path in archive.broken_links
    if member.kind is Kind.DIRECTORY and not is_known:
        return
    if is_known and member.kind not in (Kind.FILE, Kind.SYMLINK, Kind.HARD_LINK):
        archive.contradictory.add(path)
    if member.kind is Kind.FILE and member.ranges is None:
        content = extent.part(member.data, member.size)
        if path in archive.links or path in archive.broken_links:
            archive.contradictory.add(path)
        elif path in archive.files:
            archive.doubles.setdefault(path, []).append(content)
        archive.files.setdefault(path, content)
    elif member.kind in (Kind.SYMLINK, Kind.HARD_LINK):
        base = path.rpartition(b"/")[0] if member.kind is Kind.SYMLINK else b""
        target, is_inside = _join(base, member.link)
        if path in archive.files or (path in archive.links and archive.links[path] != target):
            archive.contradictory.add(path)
        if is_inside:
            archive.links[path] = target
        else:
            archive.broken_links.add(path)


def _is_same(one: Extent, other: Extent, deadline: Deadline) -> bool:
    if one.size != other.size:
        return False
    for at in range(0, one.size, _COMPARED_BYTES):
        deadline.check()
        if one.read(at, _COMPARED_BYTES) != other.read(at, _COMPARED_BYTES):
            return False
    return True


def _join(base: bytes, target: bytes) -> tuple[bytes, bool]:
    """``target`` seen from the directory ``base``, and whether it stays inside. docker save links ``../other/layer.tar``."""
    way = base.split(b"/") if base else []
    for part in target.split(b"/"):
        if part == b"..":
            if not way:
                return b"", False
            way.pop()
        elif part not in (b"", b"."):
            way.append(part)
    return b"/".join(way), not target.startswith(b"/")
