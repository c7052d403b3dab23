"""Unpacks images made in memory, as a test wants them: planned only, or written below a directory with canaries around it.

Invariant: a canary tree beside, above and at the literal path of the host is compared after each writing, so that every test of
this package is also one that nothing else was touched.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from module_utils._image.limits import Limits
from module_utils._image.merge.plan import Plan
from module_utils._image.opening import open_family, open_image
from module_utils._image.options import Options, Summary
from module_utils._image.pipeline.unpacking import open_image as read_image
from tests.tools.tree import Row, Rows, rows_of_directory
from tests.unit.builders import images

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="writing a tree with its owners needs root")
FORMS = ("docker", "oci", "family")
_LITERAL = ("/", "/etc", "/root", "/run", "/var")  # what attacks name; others may be at work below them


@dataclass(frozen=True)
class Unpacked:
    """A tree that was written: ``rows`` of tree.py by path, nanoseconds and attribute values included."""

    root: Path
    rows: Rows
    summary: Summary

    def __getitem__(self, path: str) -> Row:
        return self.rows[path]

    def kinds(self) -> dict[str, str]:
        """The type of every path but the root."""
        return {path: row[1] for path, row in self.rows.items() if path != "/"}

    def content(self, path: str) -> bytes:
        """The content of a file; it is opened without following links."""
        with open(os.open(str(self.root) + path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read()


def options(directory: Path, **given: Any) -> Options:
    """Options with a spool in ``directory``."""
    return Options(**{"limits": Limits(), "spool_directory": str(directory), **given})


def plan_of(directory: Path, archive: bytes, **given: Any) -> Plan:
    """The plan of the image in ``archive``."""
    path = directory / "archive"
    path.write_bytes(archive)
    fd = os.open(path, os.O_RDONLY)
    try:
        with read_image(fd, options(directory, **given)) as unpacking:
            return unpacking.plan
    finally:
        os.close(fd)


def _seen_of_host(name: str) -> tuple[object, ...]:
    """What is known about a directory of the host, and the names in it that attacks try to make."""
    seen = os.lstat(name)
    tried = [
        made for made in ("x", "pwned", "target", "victim", "unbroken", "file") if os.path.lexists(f"{name}/{made}")
    ]
    return seen.st_ino, seen.st_mode, seen.st_uid, seen.st_gid, *tried


class Playground:
    """A directory to unpack into, and canaries around it that must not change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.root = directory / "outer" / "root"
        self.victim = directory / "outer" / "victim"
        self._made = 0
        for place in (directory, directory / "outer", self.victim):
            place.mkdir(exist_ok=True)
            (place / "canary").write_text("alive")
            os.chmod(place / "canary", 0o400)
            os.symlink("canary", place / "pointer")
            os.link(place / "canary", place / "second")
            with contextlib.suppress(OSError):  # a tmpfs may know none
                os.setxattr(place / "canary", "user.canary", b"sings")
        (self.victim / "hello").write_text("world")
        os.chmod(self.victim, 0o700)
        self.root.mkdir()
        os.chmod(self.root, 0o755)

    def canaries(self) -> dict[str, tuple[object, ...]]:
        """What is known about everything outside of the root and of our own working files."""
        found: dict[str, tuple[object, ...]] = {name: _seen_of_host(name) for name in _LITERAL}
        for place in (self._directory, self._directory / "outer", self.victim):
            for path in [place, *place.iterdir()]:
                if path.name in ("root", "archive", "layers", "spool"):
                    continue
                seen = os.lstat(path)
                times = () if path == self._directory else (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_nlink)
                attributes = [
                    (name, os.getxattr(path, name, follow_symlinks=False))
                    for name in os.listxattr(path, follow_symlinks=False)
                ]
                if stat.S_ISREG(seen.st_mode):
                    times = (*times, path.read_bytes())
                found[str(path)] = (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_gid, *times, *attributes)
        return found

    def unpack(self, form: str, layers: Sequence[bytes], pack: images.Pack = images.as_it_is, **given: Any) -> Unpacked:
        """Write the image of ``layers`` in one of ``FORMS``; the canaries are compared whatever comes of it."""
        if form == "family":
            return self.unpack_files([pack(layer) for layer in layers], True, **given)
        make = images.docker_archive if form == "docker" else images.oci_archive
        return self.unpack_archive(make(layers, pack), **given)

    def unpack_archive(self, archive: bytes, **given: Any) -> Unpacked:
        """Write the image in ``archive``."""
        return self.unpack_files([archive], False, **given)

    def unpack_files(self, files: Sequence[bytes], is_family: bool, **given: Any) -> Unpacked:
        """Write the image in an archive, or in the layers of a family."""
        (self._directory / "spool").mkdir(exist_ok=True)
        fds = [self._opened(data) for data in files]
        before = self.canaries()
        root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        chosen = options(self._directory / "spool", **given)
        try:
            with open_family(fds, chosen) if is_family else open_image(fds[0], chosen) as unpacking:
                summary = unpacking.write_into(root_fd)
        finally:
            for fd in (root_fd, *fds):
                os.close(fd)
            assert self.canaries() == before, "something outside of the root has changed"
        return Unpacked(self.root, rows_of_directory(self.root, exact=True), summary)

    def _opened(self, data: bytes) -> int:
        path = self._directory / "layers"
        path.mkdir(exist_ok=True)
        self._made += 1
        path = path / str(self._made)
        path.write_bytes(data)
        return os.open(path, os.O_RDONLY)
