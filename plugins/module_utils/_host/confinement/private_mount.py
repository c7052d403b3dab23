# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file system mounted where no other process sees it, and from where no other file system can be reached.

Invariant: its mount namespace holds nothing else but an empty, read-only file system, so that ``..`` of its root ends
there, also for a process that only receives a descriptor of it. It is mounted once: ``unmount`` fails as long as any process holds it, and when it
returns the file system has released its device. The kernel unmounts it when the process that mounted it ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .isolation import (
    INERT,
    MS_RDONLY,
    MS_REMOUNT,
    change_root,
    enter_mount_namespace,
    mount,
    own_mount_namespace,
    unmount,
)

_NAMESPACE = "/proc/self/ns/mnt"
_NAME = "volume"


class PrivateMount:
    """``source``, mounted by way of the empty directory ``mount_point``, which stays as it is for all other processes; for a process that has one thread."""

    def __init__(self, source: str, mount_point: str, kind: str, flags: int, data: str = "") -> None:
        self._home = os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        self._root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        own_mount_namespace()
        with self._back_home():
            self._inside = os.open(_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            mount("none", mount_point, "tmpfs", INERT, "size=4k,nr_inodes=3,mode=0700")
            os.mkdir(f"{mount_point}/{_NAME}", 0o700)
            mount(source, f"{mount_point}/{_NAME}", kind, flags, data)
            mount("none", mount_point, "", MS_REMOUNT | MS_RDONLY | INERT)
            change_root(mount_point)

    def open(self) -> int:
        """A descriptor of the root of what is mounted."""
        with self._within():
            return os.open(f"/{_NAME}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def unmount(self) -> None:
        """umount2(2) without force; raises ``OSError``."""
        with self._within():
            unmount(f"/{_NAME}")

    @contextlib.contextmanager
    def _within(self) -> Iterator[None]:
        enter_mount_namespace(self._inside)
        with self._back_home():
            yield

    @contextlib.contextmanager
    def _back_home(self) -> Iterator[None]:
        try:
            yield
        finally:
            enter_mount_namespace(self._home)
            os.fchdir(self._root)
            os.chroot(".")  # it may have been another one than the namespace's
