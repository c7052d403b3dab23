# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an archive at rest is still the file that was verified: its size, times and inode compared with those recorded then.

Invariant: a row of ``archives`` describes a file whose bytes had the digest when the row was written. A file with other values is
hashed before it is used. The device number is not compared: for many file systems it differs after a reboot.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator

from ..._host.files.durable import file_errors, remove_file
from ..findings import DriftKind, Finding
from ..run import Run
from ..store.records import Archive

_CHUNK_BYTES = 1 << 20
_MAX_INTEGER = (1 << 63) - 1  # SQLite's


class Condition(str, enum.Enum):
    """What was found of an archive, the best first: as recorded; touched, and sound; absent; touched, and other bytes now."""

    UNCHANGED = "unchanged"
    VERIFIED = "verified"
    MISSING = "missing"
    DAMAGED = "damaged"


class Seals:
    """The condition of archives, in one run: what was hashed once is not hashed again while it looks the same."""

    def __init__(self) -> None:
        self._sound: dict[Archive, bool] = {}

    def condition(self, host: Run, sha256: str) -> Condition:
        """The condition of the archive of that digest. Hashes it only when it does not look as recorded; writes nothing."""
        seen = look_at(host, sha256)
        if seen is None:
            return Condition.MISSING
        recorded = recorded_seal(host, sha256)
        if recorded == seen:
            return Condition.UNCHANGED
        if recorded is not None and recorded.size_bytes != seen.size_bytes:
            return Condition.DAMAGED
        if seen not in self._sound:
            self._sound[seen] = hashed(host.archive_path(sha256), "sha256") == sha256 and look_at(host, sha256) == seen
        return Condition.VERIFIED if self._sound[seen] else Condition.DAMAGED

    def record(self, host: Run, digests: Iterable[str]) -> None:
        """For a transaction: record those that this run has found sound, as they look now."""
        for sha256 in digests:
            seen = look_at(host, sha256)
            if seen is not None and self._sound.get(seen):
                host.store.put(seen)


def look_at(host: Run, sha256: str) -> Archive | None:
    """How the archive of that digest looks now; None when it is absent, of size -1 when it is no file."""
    try:
        found = os.lstat(host.archive_path(sha256))
    except FileNotFoundError:
        return None
    return _as_it_looks(sha256, found)


def _as_it_looks(sha256: str, found: os.stat_result) -> Archive:
    size_bytes = found.st_size if stat.S_ISREG(found.st_mode) else -1
    numbers = (size_bytes, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return Archive(sha256, *(min(number, _MAX_INTEGER) for number in numbers))


def is_as_recorded(host: Run, sha256: str, fd: int) -> bool:
    """Whether the open archive ``fd`` looks as that of the digest did when it was verified."""
    return _as_it_looks(sha256, os.fstat(fd)) == recorded_seal(host, sha256)


def recorded_seal(host: Run, sha256: str) -> Archive | None:
    """How the archive of that digest looked when it was verified; None when that was never recorded."""
    return host.store.find(Archive, "sha256=?", sha256)


def seal(host: Run, sha256: str) -> None:
    """For the transaction that records what was verified just now: record how it looks."""
    seen = look_at(host, sha256)
    if seen is not None:
        host.store.put(seen)


def remove_archive(host: Run, sha256: str) -> None:
    """Remove an archive and what is recorded of it; inside a transaction."""
    remove_file(host.archive_path(sha256))
    host.store.drop(Archive(sha256))


def hashed(path: str, algorithm: str) -> str:
    """The digest of a regular file in hex; empty for anything else."""
    with file_errors("reading the archive"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            if stat.S_ISREG(os.lstat(path).st_mode):
                raise
            return ""
        with contextlib.closing(os.fdopen(fd, "rb", buffering=0)) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return ""
            digest = hashlib.new(algorithm)
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def touched(host: Run) -> Iterator[Finding]:
    """Each archive that does not look as recorded; nothing is hashed."""
    for recorded in host.store.all(Archive):
        seen = look_at(host, recorded.sha256)
        path = host.archive_path(recorded.sha256)
        if seen is not None and seen.size_bytes != recorded.size_bytes:
            text = f"the archive {path} has {seen.size_bytes} bytes, and had {recorded.size_bytes} when it was verified"
            yield Finding(DriftKind.ARCHIVE_CHANGED, path, text)
        elif seen is not None and seen != recorded:
            names = [
                name for name in ("mtime_ns", "ctime_ns", "inode") if getattr(seen, name) != getattr(recorded, name)
            ]
            what = ", ".join(name.partition("_")[0] for name in names)
            text = f"the archive {path} was touched since it was verified ({what}); flyd_fetch hashes it again"
            yield Finding(DriftKind.ARCHIVE_TOUCHED, path, text)
