# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open directories component by component, so that no other user decides where a path leads.

Invariant: a symbolic link is followed only where root or the calling user made it in a directory that no other user can change. What is
done through the returned descriptor happens in the directory that was checked, whatever its name means afterwards.
"""

from __future__ import annotations

import errno
import os
import stat

from ..._errors import BadInput
from ..._names import printable

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel, path_resolution(7)


def open_directory(path: str, *, private: bool) -> int:
    """Return a descriptor (O_PATH) of the absolute ``path``.

    With ``private``, every directory on the way must be one whose entries only root and the calling user can rename; the last one is not
    judged. Raises ``BadInput`` for a component that another user controls, ``OSError`` for one that is missing or is no directory.
    """
    fd, links = os.open("/", _STEP), 0
    parts = _parts(path)
    try:
        while parts:
            name = parts.pop(0)
            parent = os.fstat(fd)
            if private and not is_safe(parent):
                raise _unsafe(path, fd, parent)
            below = _below(fd, name)
            if below is None:
                links += 1
                target = _target(fd, name, parent, path, links)
                parts = [*_parts(target), *parts]
                below = os.open("/" if target.startswith("/") else ".", _STEP, dir_fd=fd)
            os.close(fd)
            fd = below
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_safe(path: str) -> None:
    """Refuse a directory in which, or on the way to which, another user could exchange what root has there (``BadInput``)."""
    fd = open_directory(path, private=True)
    try:
        found = os.fstat(fd)
        if not is_safe(found):
            raise _unsafe(path, fd, found)
    finally:
        os.close(fd)


def is_safe(found: os.stat_result) -> bool:
    """Whether no other user can rename what root or the calling user has in the directory; a sticky one (/tmp) is safe."""
    group_writes = bool(found.st_mode & 0o020) and found.st_gid != 0
    others_write = (group_writes or bool(found.st_mode & 0o002)) and not found.st_mode & stat.S_ISVTX
    return found.st_uid in (0, os.geteuid()) and not others_write


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _below(fd: int, name: str) -> int | None:
    """The directory ``name`` in ``fd``, or None where it is a symbolic link."""
    try:
        return os.open(name, _STEP, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and stat.S_ISLNK(os.lstat(name, dir_fd=fd).st_mode):
            return None
        raise


def _target(fd: int, name: str, parent: os.stat_result, path: str, links: int) -> str:
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    owner = os.lstat(name, dir_fd=fd).st_uid
    if not is_safe(parent) or owner not in (0, os.geteuid()):
        raise BadInput(
            f"{printable(name)} in the path {printable(path)} is a symbolic link that uid {owner} controls",
            hint="remove the link, or give a path without it: its owner could point it anywhere",
        )
    return os.readlink(name, dir_fd=fd)


def _unsafe(path: str, fd: int, found: os.stat_result) -> BadInput:
    where = os.readlink(f"/proc/self/fd/{fd}")
    return BadInput(
        f"{printable(where)}, on the path {printable(path)}, belongs to uid {found.st_uid}:{found.st_gid} "
        f"with mode {stat.S_IMODE(found.st_mode):04o}: another user could exchange what lies there",
        hint=f"give a path below directories of root alone, or see what {where} is for, then `chown root: {where}` and `chmod go-w {where}`",
    )
