# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a process apart: a mount namespace of its own, no way to gain privileges.

Invariant: what is mounted in there is seen by nobody else and is gone when the process is, so a killed run cannot leave a mount behind
(mount_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNS = 0x00020000
_PR_SET_NO_NEW_PRIVS = 38
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 1024, 0x4000, 1 << 18


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def own_mount_namespace() -> None:
    """Give the calling process a mount namespace from which nothing propagates (unshare(2))."""
    _check(_libc().unshare(_CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def no_new_privileges() -> None:
    """Set no_new_privs: no program started from here can gain anything by setuid or capabilities (prctl(2))."""
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2); raises ``OSError``."""
    _check(
        _libc().mount(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, data.encode() or None),
        target,
    )


def unmount(target: str) -> None:
    """umount2(2) without force, so that it fails rather than detaches; raises ``OSError``."""
    _check(_libc().umount2(os.fsencode(target), 0), target)


def sync_filesystem(fd: int) -> None:
    """syncfs(2): all of the file system that holds ``fd`` is on its device, or ``OSError``."""
    _check(_libc().syncfs(fd), "syncfs")
