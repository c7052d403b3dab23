# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log's files: lines are appended to flyd.jsonl, which becomes flyd-000001.jsonl and so on when it is large or old.

Invariant: rotation is one rename, and numbers only grow, so a kill at any point leaves every line in exactly one file. Writers take turns
by flock(2) on the directory; a writer that cannot have its turn in time appends without it, and loses at most its line's count.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator

from ..._host.files.directories import open_directory
from ..._host.files.durable import make_private_directory

NAME = "flyd.jsonl"
MAX_BYTES = 10 << 20
MAX_AGE_DAYS = 30
KEPT = 5  # rotated files
_ROTATED = re.compile(r"flyd-(\d{6,})\.jsonl")
_TURN_SECONDS, _POLL_SECONDS = 1.0, 0.002
_TIME = re.compile(rb'\{"time": "(\d{4}-\d\d-\d\d)T')


class LogDirectory:
    """The open directory of the log; made by ``opened``. ``has_turn``: no other writer is at work meanwhile."""

    def __init__(self, fd: int, *, has_turn: bool) -> None:
        self.fd = fd
        self.has_turn = has_turn

    def numbers(self) -> list[int]:
        """The numbers of the rotated files, oldest first."""
        return sorted(int(found[1]) for found in map(_ROTATED.fullmatch, os.listdir(self.fd)) if found)

    def has(self, name: str) -> bool:
        """Whether there is anything of that name."""
        return name in os.listdir(self.fd)

    def size(self, name: str) -> int:
        """Bytes of a file, 0 when it is missing."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes of a file from ``start`` to ``end``, empty when it is missing or no file."""
        with contextlib.suppress(OSError), _regular(self.fd, name, os.O_RDONLY) as fd:
            return os.pread(fd, max(0, end - start), start)
        return b""

    def append(self, line: bytes) -> None:
        """Append ``line``, on a line of its own even behind one that a full disk or a kill has cut short."""
        with _regular(self.fd, NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
            size = os.fstat(fd).st_size
            glued = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            os.write(fd, b"\n" + line if glued else line)

    def is_due(self) -> bool:
        """Whether flyd.jsonl is to be rotated: for its size, or for the age of its first line."""
        if self.size(NAME) >= MAX_BYTES:
            return True
        begun = _TIME.match(self.read(NAME, 0, 32))
        try:
            day = datetime.date.fromisoformat(begun[1].decode()) if begun else None
        except ValueError:
            day = None
        return day is not None and (datetime.datetime.now(datetime.timezone.utc).date() - day).days > MAX_AGE_DAYS

    def rotate(self, number: int) -> None:
        """Rename flyd.jsonl to the file of that number, and remove the oldest beyond ``KEPT``."""
        os.rename(NAME, rotated_name(number), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        for old in self.numbers()[:-KEPT]:
            os.unlink(rotated_name(old), dir_fd=self.fd)


def rotated_name(number: int) -> str:
    """The name of the rotated file of that number."""
    return f"flyd-{number:06}.jsonl"


@contextlib.contextmanager
def opened(path: str, *, writable: bool) -> Iterator[LogDirectory]:
    """The directory ``path``, made when missing if ``writable``, and this process's turn in it if it can be had in a second."""
    if writable:
        make_private_directory(path)
    step = open_directory(path, private=True)
    try:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=step)
    finally:
        os.close(step)
    try:
        yield LogDirectory(fd, has_turn=_take_turn(fd, fcntl.LOCK_EX if writable else fcntl.LOCK_SH))
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked meanwhile has the descriptor too
        os.close(fd)


def _take_turn(fd: int, kind: int) -> bool:
    until = time.monotonic() + _TURN_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _regular(directory: int, name: str, flags: int) -> Iterator[int]:
    """The regular file ``name`` (0600 when it is made): a link is not followed, a FIFO or a device is not waited for (``OSError``)."""
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{name} is no regular file")
        yield fd
    finally:
        os.close(fd)
