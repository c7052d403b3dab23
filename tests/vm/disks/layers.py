"""Layers of a container image, cut out of whole trees.

Invariant: unpacking the first tree and then the difference gives the second tree (OCI image-spec,
layer.md: changed entries are whole, removed ones are empty files named ``.wh.NAME``).
"""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"

_NODES = "dev/"
"""Below this is what the container's host puts there; an image only has the directory itself."""

_State = tuple[object, ...]


def write_base(tree: Path, layer: Path) -> None:
    """Write the whole of ``tree``, but nothing below /dev."""
    with tarfile.open(tree) as tar, tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as out:
        for member in _members(tar):
            out.addfile(member, tar.extractfile(member) if member.isreg() else None)


def write_difference(older: Path, newer: Path, layer: Path) -> None:
    """Write what is new or changed in tar ``newer``, and whiteouts for what is gone from ``older``."""
    with tarfile.open(older) as before_tar, tarfile.open(newer) as after_tar:
        before = {_name(member): _state(before_tar, member) for member in _members(before_tar)}
        after = {_name(member): member for member in _members(after_tar)}
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as out:
            written: set[str] = set()
            for name, member in after.items():
                # A link to a file of this layer belongs here, too: below, it would still mean the old file.
                if before.get(name) != _state(after_tar, member) or (member.islnk() and member.linkname in written):
                    out.addfile(member, after_tar.extractfile(member) if member.isreg() else None)
                    written.add(member.name)
            for name in _topmost(before.keys() - after.keys()):
                out.addfile(_whiteout(name))


def write_whiteouts(tree: Path, layer: Path, *, removed: Iterable[str], emptied: Iterable[str]) -> None:
    """Write a layer that only takes away: whole paths by name, and the content of directories (opaque)."""
    with tarfile.open(tree) as tar, tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as out:
        members = {_name(member): member for member in tar}
        for name in removed:
            out.addfile(_whiteout(_name(members[name])))
        for name in emptied:
            out.addfile(members[name])
            out.addfile(tarfile.TarInfo(posixpath.join(name, _OPAQUE)))


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in tar if not _name(member).startswith(_NODES))


def _name(member: tarfile.TarInfo) -> str:
    return posixpath.normpath(member.name)


def _state(tar: tarfile.TarFile, member: tarfile.TarInfo) -> _State:
    """All that makes two entries the same; times as the archive has them, to the nanosecond."""
    xattrs = tuple(sorted(item for item in member.pax_headers.items() if item[0].startswith("SCHILY.xattr.")))
    numbers = (member.mode, member.uid, member.gid, member.devmajor, member.devminor)
    time = member.pax_headers.get("mtime", member.mtime)
    return (member.type, numbers, member.linkname, time, xattrs, _content(tar, member))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = tar.extractfile(member) if member.isreg() else None
    # Such a stream has the readinto() that it needs; its type does not say so.
    return hashlib.file_digest(stream, "sha256").hexdigest() if stream else ""  # type: ignore[arg-type]


def _topmost(names: Iterable[str]) -> list[str]:
    """Names whose parent is not among them: one whiteout takes away all that is below it."""
    gone = set(names)
    return sorted(name for name in gone if not any(str(parent) in gone for parent in Path(name).parents))


def _whiteout(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(posixpath.join(posixpath.dirname(name), f"{_WHITEOUT}{posixpath.basename(name)}"))
