# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive in a file of this host, also one that the controller has sent.

Invariant: the bytes are of a regular file that is the same from the first to the last of them: its identity, size and times are compared
before and after each part, or, where the controller has sent a digest, its bytes with that one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from .._errors import BadInput, Unsupported
from .._host.files.durable import file_errors
from .._names import ObjectKey, printable
from .body import Body
from .objects import ObjectInfo
from .options import S3Options
from .place import Place
from .s3_errors import ObjectChanged, Where


class AwaitsFile(Unsupported):
    """The bytes of a file of the controller are needed, and it has not been sent yet."""


class HostFile:
    """One file, whatever the key that it is fetched as; see ``Source``."""

    def __init__(self, options: S3Options, place: Place) -> None:
        self.options = options
        self._place = place

    def __enter__(self) -> HostFile:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def head(self, key: ObjectKey) -> ObjectInfo:
        """Its size, and what it is known by: the digest that the controller has sent, or what stat(2) returns."""
        place = self._place
        if place.is_sent:
            return ObjectInfo(key.value, place.size_bytes, f'"sha256-{place.sha256}"')
        with _opened(place.path) as fd:
            seen = os.fstat(fd)
        return ObjectInfo(key.value, seen.st_size, _tag(seen))

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        """See ``Source``; raises ``AwaitsFile`` when the controller has not sent the file yet."""
        place, last = self._place, info.size_bytes - 1 if last_byte is None else last_byte
        if not place.path:
            raise awaiting(place)
        where = Where(place.name, "", info.key)
        piece = _Piece(place, info, first_byte, last + 1, where)
        return Body(piece, last - first_byte + 1, where)

    def settle_tags(self, asked: ObjectInfo) -> bool:
        """A file that seems to be replaced is."""
        return False

    def list_family(self, prefix: ObjectKey) -> tuple[ObjectInfo, ...]:
        """A file is no family."""
        raise no_family(prefix)

    def read_small(self, key: ObjectKey, limit_bytes: int) -> bytes:
        """There is no bucket that a checksum file could be in."""
        raise no_bucket(key)

    def title(self, key: ObjectKey) -> str:
        """The name of the file."""
        return self._place.base_name


class _Piece:
    """What ``Body`` reads from: one part of the file."""

    def __init__(self, place: Place, info: ObjectInfo, offset: int, end: int, where: Where) -> None:
        self._place, self._info, self._offset, self._end, self._where = place, info, offset, end, where
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Piece:
        self._fd = self._stack.enter_context(_opened(self._place.path))
        try:
            self._check()
        except BaseException:
            self.close()
            raise
        return self

    def read1(self, limit_bytes: int) -> bytes:
        with file_errors(f"reading {printable(self._place.path)}"):
            got = os.pread(self._fd, min(limit_bytes, self._end - self._offset), self._offset)
        self._offset += len(got)
        if not got:
            self._check()
        return got

    def _check(self) -> None:
        """Refuse a file that is not, or no longer, the one that was announced."""
        seen = os.fstat(self._fd)
        is_same = seen.st_size == self._info.size_bytes and (self._place.is_sent or _tag(seen) == self._info.etag)
        if not is_same:
            raise ObjectChanged(f"the file was changed while it was read: {self._where}", hint="run again")

    def release_conn(self) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()


def read_file(path: str, limit_bytes: int) -> bytes:
    """The whole of a small file of this host; raises ``BadInput`` when it has more than ``limit_bytes``."""
    with _opened(path) as fd, file_errors(f"reading {printable(path)}"), os.fdopen(os.dup(fd), "rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise BadInput(
            f"{printable(path)} has more than {limit_bytes} bytes", hint="check that the path is the one you mean"
        )
    return content


def awaiting(place: Place) -> AwaitsFile:
    """The error for a file of the controller whose bytes are needed."""
    return AwaitsFile(
        f"the bytes of {printable(place.base_name)} are on the controller",
        hint="call the module as flyd.lite.flyd_fetch, whose action plugin sends the file",
        awaits="src",
    )


def no_family(prefix: ObjectKey) -> BadInput:
    """The error for a family that is to come from one file or URL."""
    return BadInput(
        f"{prefix} is a family of objects, but src is one archive",
        hint="give a key that does not end in / for an archive; the layers of a family come from S3",
    )


def no_bucket(key: ObjectKey) -> BadInput:
    """The error for a checksum file that is named by a key although there is no bucket."""
    return BadInput(
        f"checksum names the key {printable(key.value)}, but src is not in a bucket",
        hint="write sha256:<64 hex digits>, or the place of a checksum file as s3://BUCKET/KEY, https://… or file:///PATH of the managed host",
    )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        # Without O_NONBLOCK a FIFO would be waited for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(
            f"there is no file {printable(path)} on this host",
            hint="check the path: it is one of the managed host",
        ) from None
    except OSError:
        with file_errors(f"opening {printable(path)}"):
            raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadInput(f"{printable(path)} is not a regular file", hint="give the path of an archive")
        yield fd
    finally:
        os.close(fd)


def _tag(seen: os.stat_result) -> str:
    """What distinguishes one state of the file from another without reading it."""
    numbers = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return '"file-' + "-".join(f"{number:x}" for number in numbers) + '"'
