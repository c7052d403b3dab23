# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that must survive a power cut, and directories that only root may write to.

Invariant: a file under its final name is whole and on disk; nothing is left under a name that its maker does not know.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ..._errors import BadInput, CommandFailed, FlydError, NoSpace, Unsupported
from ..._names import printable, size_text
from .directories import open_directory

DISK_RESERVE_BYTES = 64 << 20  # what large files leave free on the file system of state_dir, for the store and the log


def sync_directory(path: str) -> None:
    """fsync(2) a directory: only then does a rename or an unlink in it survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_private_directory(path: str) -> None:
    """Make ``path`` (0700) with its parents (0755), each synced; refuse one that others could write to."""
    if not os.path.isdir(path):
        _check_parents(path)
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            os.makedirs(parent, mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        sync_directory(parent)
    check_private_directory(path)


def check_private_directory(path: str) -> None:
    """Refuse a directory that is a symbolic link, is not ours, or that another user may write to or exchange (``BadInput``)."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise BadInput(
            f"{printable(path)} is not a directory", hint="name a directory, not a link to one, or remove what is there"
        )
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise BadInput(
            f"{printable(path)} belongs to uid {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}: others could change what is trusted here",
            hint=f"look at what it holds, then `chown root: {path}` and `chmod 0700 {path}`",
        )
    _check_parents(path)


def _check_parents(path: str) -> None:
    """Refuse a path with a directory in it, as far as it exists, in which another user could exchange the next one (``BadInput``)."""
    with contextlib.suppress(FileNotFoundError):
        os.close(open_directory(path, private=True))


def free_bytes(path: str) -> int:
    """Bytes that may still be written to the file system below ``path``, or below its nearest parent that exists."""
    found = os.statvfs(_nearest(path))
    return found.f_bavail * found.f_frsize


def disk_of(path: str) -> int:
    """What two paths have in common that share their free bytes: the device number of the file system."""
    return os.stat(_nearest(path)).st_dev


def _nearest(path: str) -> str:
    """``path``, or its nearest parent that exists."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def free_bytes_of(fd: int) -> int:
    """The same for the file system of the open file ``fd``."""
    found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize


def require_room(path: str, needed_bytes: int, *, hint: str) -> None:
    """Raise ``NoSpace`` unless the file system of ``path`` takes ``needed_bytes`` more and keeps its reserve."""
    free = free_bytes(path)
    if free < needed_bytes + DISK_RESERVE_BYTES:
        raise NoSpace(
            f"{printable(path)} needs {size_text(needed_bytes)}, but its file system has {size_text(free)} left, of which {size_text(DISK_RESERVE_BYTES)} "
            f"stay free for the database and the log",
            hint=hint,
            needed_bytes=needed_bytes,
            free_bytes=free,
            reserve_bytes=DISK_RESERVE_BYTES,
        )


def remove_file(path: str) -> bool:
    """Unlink ``path`` and sync its directory; says whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    sync_directory(os.path.dirname(path))
    return True


@contextlib.contextmanager
def file_errors(what: str) -> Iterator[None]:
    """Turn an ``OSError`` of ``what`` ("writing the archive") into one of our errors."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, what) from error


def from_os_error(error: OSError, what: str) -> FlydError:
    """The error of our family that says what ``error`` means for an operator."""
    name = error.filename if isinstance(error.filename, (bytes, str)) else str(error.filename or "")
    where = f"{what}: {printable(name)}" if name else what
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            f"{where}: no space left on the device",
            hint="make room on the file system that holds it (`df -h`, `df -i`), then run again",
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unsupported(
            f"{where}: not permitted ({error.strerror})",
            hint="set `become: true`, and run outside of restricted containers",
        )
    if error.errno == errno.EROFS:
        return Unsupported(
            f"{where}: the file system is read-only",
            hint="a file system that went read-only after errors shows in `dmesg`; remount it when it is sound",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Unsupported(
            f"{where}: the host refuses resources ({error.strerror})",
            hint="raise the limits of memory and open files for this process (`ulimit -a`)",
        )
    if error.errno == errno.EIO:
        return CommandFailed(
            f"{where}: {error.strerror}",
            hint="the disk below fails: see `dmesg`; what was begun is not recorded as done, so run again once the disk is sound",
        )
    return Unsupported(f"{where}: {error.strerror or error}", hint="`dmesg` often has the kernel's side of it")
