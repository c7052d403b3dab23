# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The udev cookie of a device-mapper event: it tells udev which rules must skip the device, and device-mapper that all rules have run.

The kernel hands the event number of an ioctl to udev as DM_COOKIE. Its upper half holds flags, which device-mapper's rules turn into
properties that every rule of LVM, md, bcache and the like obeys and that stay in udev's database. Its lower half names a semaphore, which
the last rule (95-dm-notify.rules) lowers by `dmsetup udevcomplete`. dmsetup itself has no option for the flags that are wanted here.

Invariant: udev never probes what a guest has written: every event that is caused here has the flags. A semaphore is removed before this returns.
Source: libdevmapper.h and libdm-common.c of LVM2 (DM_UDEV_*, DM_COOKIE_MAGIC), semop(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from ..._errors import CommandFailed

UDEV_DIRECTORY = "/run/udev"
_NO_SUBSYSTEM_RULES, _NO_DISK_RULES, _NO_OTHER_RULES, _PRIMARY_SOURCE = 0x02, 0x04, 0x08, 0x40
FLAGS = _NO_SUBSYSTEM_RULES | _NO_DISK_RULES | _NO_OTHER_RULES | _PRIMARY_SOURCE
_FLAGS_SHIFT = 16
_MAGIC = 0x0D4D  # the upper half of a semaphore's key
_IPC_CREAT, _IPC_EXCL, _IPC_RMID, _SETVAL = 0o1000, 0o2000, 0, 16
_OWNER_ONLY = 0o600
_SEMBUF = struct.Struct("=Hhh")  # number, operation, flags
_ATTEMPTS = 64


class Cookie:
    """One event: ``event_number`` goes into the ioctl, ``wait`` returns once udev's rules have run."""

    def __init__(self, base: int = 0, semaphore: int = -1) -> None:
        self.event_number = FLAGS << _FLAGS_SHIFT | base
        self._semaphore = semaphore

    def wait(self, limit_seconds: float) -> None:
        """Wait for udev; raises ``CommandFailed`` when it has not come to its end in time. Without udev there is nothing to wait for."""
        if self._semaphore < 0:
            return
        limit = struct.pack("@ll", int(limit_seconds), int(limit_seconds % 1 * 1e9))
        while _libc().semtimedop(self._semaphore, _SEMBUF.pack(0, 0, 0), 1, limit) != 0:
            number = ctypes.get_errno()
            if number in (errno.EIDRM, errno.EINVAL):  # an operator has ended the waiting (`dmsetup udevcomplete_all`)
                return
            if number == errno.EAGAIN:
                raise CommandFailed.late("udev", limit_seconds, "with its rules for the device")
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def udev_cookie(directory: str = UDEV_DIRECTORY) -> Iterator[Cookie]:
    """A cookie for one event, with a semaphore where udev runs; the semaphore is gone when the block ends."""
    if not udev_runs(directory):
        yield Cookie()
        return
    base, semaphore = _new_semaphore()
    try:
        yield Cookie(base, semaphore)
    finally:
        if semaphore >= 0:
            _libc().semctl(semaphore, 0, _IPC_RMID)


def udev_runs(directory: str = UDEV_DIRECTORY) -> bool:
    """Whether udev takes events on this host, as libudev decides it."""
    return os.path.exists(os.path.join(directory, "control"))


def _new_semaphore() -> tuple[int, int]:
    """The lower half of a cookie and the semaphore that it names, which stands at one; zeros and -1 on a kernel without semaphores."""
    for _attempt in range(_ATTEMPTS):
        base = int.from_bytes(os.urandom(2), "little") or 1
        semaphore = _libc().semget(_MAGIC << _FLAGS_SHIFT | base, 1, _OWNER_ONLY | _IPC_CREAT | _IPC_EXCL)
        if semaphore >= 0:
            _libc().semctl(semaphore, 0, _SETVAL, 1)
            return base, int(semaphore)
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            return 0, -1
        if number != errno.EEXIST:
            break
    raise CommandFailed(
        f"there is no semaphore to wait for udev with: {os.strerror(number)}",
        hint="see `ipcs -s` and `dmsetup udevcookies`; `dmsetup udevcomplete_all` removes those that were left behind",
        retryable=True,
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
