#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a directory tree, a path a line, or compare two such descriptions.

    tree.py DIR [--exact]          print the rows of DIR, tab-separated
    tree.py A B [--exact]          compare; A and B are directories or files of rows; exit 1 with the differences

A row: path, type (d f l p c b s), mode (octal), uid, gid, size (files), sha256 | link target | major:minor, mtime, first path of the
same hard-link group (or -: it is the first), extended attributes (or -). Without ``--exact`` the time is in whole seconds and only the names of attributes
are given; with it nanoseconds, and values in hex.

Invariant: paths are escaped, so that a row is a line of seven-bit text whatever bytes a name has.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Row = tuple[str, ...]
Rows = dict[str, Row]

_TYPES = {
    stat.S_IFDIR: "d",
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFSOCK: "s",
}
_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True)
class _Place:
    """A name in an open directory: paths may be longer than any system call takes."""

    directory_fd: int
    name: bytes
    path: bytes

    @property
    def proc_path(self) -> bytes:
        """For the calls that take no directory."""
        return b"/proc/self/fd/%d/%s" % (self.directory_fd, self.name)


def rows_of_directory(root: Path, *, exact: bool = False) -> Rows:
    """The rows of all that is below ``root``, and of ``root`` itself as ``/``, by path."""
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        rows = [_row(_Place(root_fd, b".", b"/"), exact), *_rows_below(root_fd, b"", exact)]
    finally:
        os.close(root_fd)
    firsts: dict[str, str] = {}
    for row in sorted(rows):  # what stood for the inode until now becomes the first of its names
        firsts.setdefault(row[8], row[0])
    return {row[0]: (*row[:8], "-" if firsts[row[8]] == row[0] else firsts[row[8]], row[9]) for row in sorted(rows)}


def _rows_below(directory_fd: int, path: bytes, exact: bool) -> Iterator[Row]:
    for name in map(os.fsencode, os.listdir(directory_fd)):
        place = _Place(directory_fd, name, path + b"/" + name)
        row = _row(place, exact)
        yield row
        if row[1] == "d":
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory_fd)
            try:
                yield from _rows_below(fd, place.path, exact)
            finally:
                os.close(fd)


def _row(place: _Place, exact: bool) -> Row:
    found = os.stat(place.name, dir_fd=place.directory_fd, follow_symlinks=False)
    kind = _TYPES[stat.S_IFMT(found.st_mode)]
    return (
        escaped(place.path),
        kind,
        f"{stat.S_IMODE(found.st_mode):04o}",
        str(found.st_uid),
        str(found.st_gid),
        str(found.st_size) if kind == "f" else "-",
        _content(place, kind, found),
        str(found.st_mtime_ns if exact else found.st_mtime_ns // _NS_PER_SECOND),
        f"{found.st_dev}:{found.st_ino}",
        _attributes(place, exact),
    )


def _content(place: _Place, kind: str, found: os.stat_result) -> str:
    if kind == "f":
        return _sha256(os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=place.directory_fd))
    if kind == "l":
        return escaped(os.fsencode(os.readlink(place.name, dir_fd=place.directory_fd)))
    if kind in ("c", "b"):
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    return "-"


def _sha256(fd: int) -> str:
    hasher = hashlib.sha256()
    with open(fd, "rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def _attributes(place: _Place, exact: bool) -> str:
    names = sorted(os.listxattr(place.proc_path, follow_symlinks=False))
    if not names:
        return "-"
    if not exact:
        return ",".join(names)
    return ",".join(f"{name}={os.getxattr(place.proc_path, name, follow_symlinks=False).hex()}" for name in names)


def escaped(raw: bytes) -> str:
    """``raw`` as seven-bit text without tabs and newlines."""
    return raw.decode("ascii", "backslashreplace").translate({code: f"\\x{code:02x}" for code in [*range(32), 127]})


def rows_of_file(path: Path) -> Rows:
    """The rows of a file that this program, or the makers of a golden tree, wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {row[0]: row for row in (tuple(line.split("\t")) for line in lines) if len(row) == 10}


def comparable(rows: Rows) -> Rows:
    """``rows`` without what means nothing: the row of the root, and the mode of symbolic links."""
    return {path: (*row[:2], "-", *row[3:]) if row[1] == "l" else row for path, row in rows.items() if path != "/"}


def differences(ours: Rows, theirs: Rows) -> list[str]:
    """What differs, a line each: missing (-), unexpected (+), or both versions of a row."""
    ours, theirs = comparable(ours), comparable(theirs)
    found = []
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            found += [
                f"{sign} {chr(9).join(side[path])}" for sign, side in (("-", theirs), ("+", ours)) if path in side
            ]
    return found


def _rows(name: str, *, exact: bool) -> Rows:
    path = Path(name)
    return rows_of_directory(path, exact=exact) if path.is_dir() else rows_of_file(path)


def main() -> int:
    """Print rows, or differences; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first")
    parser.add_argument("second", nargs="?")
    parser.add_argument("--exact", action="store_true", help="nanoseconds, and the values of attributes")
    given = parser.parse_args()
    first = _rows(given.first, exact=given.exact)
    if given.second is None:
        print("\n".join("\t".join(row) for row in first.values()))
        return 0
    found = differences(first, _rows(given.second, exact=given.exact))
    print("\n".join(found) if found else f"equal: {len(first)} paths")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
