# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write and remove a file in a directory that may belong to another user, such as that of node-exporter's textfile collector.

Invariant: nothing outside of the directory is opened, created, changed, renamed or removed, whatever its owner puts there meanwhile. The
work is done through the directory's descriptor, with the rights of its owner, and no name is opened that exists already.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from .directories import open_directory

_NEW = os.O_WRONLY | os.O_CLOEXEC
_NO_TMPFILE = (
    errno.EOPNOTSUPP,
    errno.EISDIR,
    errno.ENOENT,
    errno.EINVAL,
)  # open(2), O_TMPFILE: what has none says these
_TRIES = 5
_MODE = 0o644
_NOGROUP = 65534  # instead of root's group


def publish(path: str, data: bytes) -> None:
    """Have ``path`` hold ``data``, for all to read: whole, or as it was. Raises ``OSError``, and ``BadInput`` as ``open_directory`` does."""
    with _as_its_owner(path) as (directory, name):
        for _attempt in range(_TRIES):
            if _replaced(directory, name, data):
                return
        raise OSError(errno.EAGAIN, "another process keeps removing the new file", path)


def withdraw(path: str) -> bool:
    """Remove what ``publish`` has written; says whether it was there. Raises as ``publish`` does."""
    try:
        with _as_its_owner(path) as (directory, name):
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _as_its_owner(path: str) -> Iterator[tuple[int, str]]:
    """Descriptor and name, with the rights of who owns the directory; root drops to them for as long (credentials(7))."""
    directory = open_directory(os.path.dirname(path), private=False)
    try:
        found = os.fstat(directory)
        with _rights_of(found.st_uid, found.st_gid):
            yield directory, os.path.basename(path)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _rights_of(uid: int, gid: int) -> Iterator[None]:
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    groups, own_gid = os.getgroups(), os.getegid()
    try:
        os.setgroups([])
        os.setegid(gid or _NOGROUP)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_gid)
        os.setgroups(groups)


def _replaced(directory: int, name: str, data: bytes) -> bool:
    """Whether the new file got the name; not where another run has taken it for a leftover at the same time."""
    part = f".{name}.new"
    try:
        _create(directory, part, data)
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except (FileNotFoundError, FileExistsError):
        return False
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise
    return True


def _create(directory: int, part: str, data: bytes) -> None:
    """A new file ``part`` that holds ``data``; where the file system can, it gets the name once it is whole (O_TMPFILE, open(2))."""
    try:
        fd = os.open(".", _NEW | os.O_TMPFILE, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
        fd = _named(directory, part)
        is_named = True
    else:
        is_named = False
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, _MODE)
        file.write(data)
        file.flush()
        if not is_named:
            _link(directory, part, fd)


def _named(directory: int, part: str) -> int:
    _remove_leftover(directory, part)
    return os.open(part, _NEW | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)


def _link(directory: int, part: str, fd: int) -> None:
    """Name an O_TMPFILE: AT_SYMLINK_FOLLOW on its descriptor, which fails and never replaces when the name is taken (linkat(2))."""
    _remove_leftover(directory, part)
    os.link(f"/proc/self/fd/{fd}", part, dst_dir_fd=directory, follow_symlinks=True)


def _remove_leftover(directory: int, part: str) -> None:
    """What a killed run has left under the name, or what the directory's owner has put there, is removed and never opened."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=directory)
