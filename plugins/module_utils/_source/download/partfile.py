# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A download in progress on disk: the part file, and the state file that records which of its bytes are valid.

Invariant: what the state file claims can be checked. Bytes from the first on are claimed with their SHA-256; bytes further on
are claimed only for this boot of the machine, because what was written survives a killed process, but not a power cut.
The state file is also what others read to see the progress.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..._errors import Busy, FlydError, Unsupported
from ..._host.files.durable import file_errors, require_room, sync_directory
from ..._host.processes.process import boot_id
from ..._names import printable
from ..objects import ObjectInfo
from ..s3_errors import ObjectChanged
from .segments import Span, merged

STATE_SUFFIX = ".state"
_NEW_SUFFIX = ".state.new"
_FORMAT = 2
_WHAT = "writing the download"


@dataclass(frozen=True)
class Received:
    """What is good of a part file: ``hashed_bytes`` from the first on, with their digest, and more ``spans`` of this boot.

    ``promise`` is the digest of the whole that a download must expect to go on with these bytes: some were taken from an archive of another key,
    which only who knows what they make together may have. Empty when all are the object's own, or its key's.
    """

    hashed_bytes: int = 0
    hashed_sha256: str = ""
    spans: tuple[Span, ...] = ()
    promise: str = ""


class PartFile:
    """An open part file of ``info``'s size, reserved on disk, that this process alone writes to."""

    def __init__(self, path: str, info: ObjectInfo, fd: int, received: Received) -> None:
        self.path = path
        self.info = info
        self.fd = fd
        self.received = received

    def write_at(self, chunk: bytes, offset: int) -> None:
        """pwrite(2) all of ``chunk``."""
        with file_errors(_WHAT):
            view = memoryview(chunk)
            while view:
                written = os.pwrite(self.fd, view, offset)
                view, offset = view[written:], offset + written

    def read_at(self, buffer: memoryview, offset: int) -> int:
        """preadv(2) into ``buffer``; how many bytes were there."""
        with file_errors("reading the download back"):
            return os.preadv(self.fd, [buffer], offset)

    def bytes_at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on."""
        with file_errors("reading the download back"):
            return os.pread(self.fd, count, offset)

    def sync(self) -> None:
        """fsync(2): the bytes are on disk, or it is an error."""
        with file_errors("syncing the download"):
            os.fsync(self.fd)

    def save(self, received: Received) -> None:
        """Say in the state file what is good now. Not synced: after a power cut an older state is as good, or the digest differs."""
        here = merged([(0, received.hashed_bytes), *received.spans])
        state = {
            "format": _FORMAT,
            "object": _identity(self.info),
            "received_bytes": sum(end - first for first, end in here),
            "total_bytes": self.info.size_bytes,
            "hashed_bytes": received.hashed_bytes,
            "hashed_sha256": received.hashed_sha256,
            "boot_id": boot_id(),
            "spans": here,
            "promise": received.promise,
        }
        # A state that cannot be written costs a later run the bytes received so far, never their rightness: no reason to fail.
        with contextlib.suppress(OSError):
            fd = os.open(
                self.path + _NEW_SUFFIX, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(state, file)
            os.rename(self.path + _NEW_SUFFIX, self.path + STATE_SUFFIX)


@contextlib.contextmanager
def open_part(path: str, info: ObjectInfo, *, resume: bool, promise: str = "") -> Iterator[PartFile]:
    """Open or make the part file (0600) and reserve its space; what an earlier run left of the same object is kept when ``resume``.

    ``promise`` is the digest that is expected of the whole, if any: see ``Received``.
    An error on the way removes it, unless a later run can resume it. Raises ``NoSpace`` before anything is downloaded, and
    ``Busy`` when another process has it open for writing: then it is that one's, and stays.
    """
    with file_errors(f"opening {printable(path)}"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _take(fd, path)
        try:
            received = _kept(fd, path, info, promise) if resume else _begun_anew(fd, path)
            _reserve(fd, path, info.size_bytes)
            yield PartFile(path, info, fd, received)
        except FlydError as error:
            forget_unless_resumable(path, info, error)
            raise
    finally:
        os.close(fd)


def reserve(path: str, info: ObjectInfo) -> None:
    """Take the space that ``info`` needs now, what is here of it included; raises as ``open_part`` does."""
    with open_part(path, info, resume=True):
        pass


def forget_unless_resumable(path: str, info: ObjectInfo, error: BaseException) -> None:
    """After ``error``: remove what a later run could not resume."""
    may_pass = not isinstance(error, FlydError) or (error.retryable and not isinstance(error, ObjectChanged))
    if not may_pass or load(path, info) == Received():
        discard(path)


def reserved_bytes(path: str) -> int:
    """What a part file takes of its disk already; 0 when there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def _kept(fd: int, path: str, info: ObjectInfo, promise: str) -> Received:
    received = load(path, info)
    return received if received != Received() and received.promise in ("", promise) else _begun_anew(fd, path)


def _begun_anew(fd: int, path: str) -> Received:
    with file_errors(_WHAT):
        os.ftruncate(fd, 0)
    _forget_state(path)
    return Received()


def load(path: str, info: ObjectInfo) -> Received:
    """What the state file claims to be good of the part file at ``path``, for the object ``info``; nothing when they do not fit."""
    try:
        with open(path + STATE_SUFFIX, encoding="utf-8") as file:
            state: Any = json.load(file)
        if state["format"] != _FORMAT or state["object"] != _identity(info) or os.stat(path).st_size != info.size_bytes:
            return Received()
        spans = tuple((int(first), int(end)) for first, end in state["spans"]) if state["boot_id"] == boot_id() else ()
        received = Received(int(state["hashed_bytes"]), str(state["hashed_sha256"]), spans, str(state["promise"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Received()
    edges = [received.hashed_bytes, *(edge for span in received.spans for edge in span)]
    return received if all(0 <= edge <= info.size_bytes for edge in edges) else Received()


def discard(path: str) -> None:
    """Remove a part file and its state, whether they are there or not."""
    gone = [_unlinked(path + suffix) for suffix in ("", STATE_SUFFIX, _NEW_SUFFIX)]
    if any(gone):
        sync_directory(os.path.dirname(path) or ".")


def publish(part_path: str, final_path: str) -> None:
    """Give a finished download its name: rename(2), then sync the directories, so that a power cut shows all of it or nothing."""
    with file_errors(f"publishing {printable(final_path)}"):
        os.rename(part_path, final_path)
        _forget_state(part_path)
        for directory in sorted({os.path.dirname(final_path) or ".", os.path.dirname(part_path) or "."}):
            sync_directory(directory)


def _identity(info: ObjectInfo) -> dict[str, object]:
    return {"key": info.key, "etag": info.etag, "version_id": info.version_id, "size_bytes": info.size_bytes}


def _take(fd: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise Unsupported(
            f"{printable(path)} is not a regular file",
            hint="remove what is there; the directory must belong to flyd.lite alone",
        )
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(
            f"another process downloads to {printable(path)}", hint="wait for it; `fuser -v` on the file names it"
        ) from None


def _reserve(fd: int, path: str, size_bytes: int) -> None:
    """Reserve the blocks now, so that a full disk is an error before the first byte and not in the middle."""
    there = os.fstat(fd).st_blocks * 512
    hint = f"make room on the file system of {printable(os.path.dirname(path))}, then run again"
    if size_bytes > there:
        require_room(path, size_bytes - there, hint=hint)
    if size_bytes == 0:
        return
    try:
        os.posix_fallocate(fd, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            with file_errors("reserving space for the download"):
                raise
        os.ftruncate(fd, size_bytes)  # a file system without reservation: a full disk shows when it is written to


def _forget_state(path: str) -> None:
    for suffix in (STATE_SUFFIX, _NEW_SUFFIX):
        _unlinked(path + suffix)


def _unlinked(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
