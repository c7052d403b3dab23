# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolate a process: its own namespaces, an unprivileged identity, no_new_privs.

Invariant: what is mounted in a namespace is seen by no other process and is gone when the process is, so a killed run cannot leave a
mount behind (mount_namespaces(7)). What a kernel or a container does not allow is named, never passed over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Collection, Iterator

_CLONE_NEWNS, _CLONE_NEWPID = 0x00020000, 0x20000000
# Those that are given to a process once it runs; linux/sched.h.
NAMESPACES = {"cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000}
_NOT_ALLOWED = (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOSPC, errno.ENOENT, errno.EACCES)
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 38, 24, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_DETACH = 2
NOBODY = 65534
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    1024,
    0x4000,
    1 << 18,
)
INERT = MS_NOSUID | MS_NODEV | MS_NOEXEC


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _unshare(flags: int) -> bool:
    """unshare(2); says whether it was allowed."""
    try:
        _check(_libc().unshare(flags), "unshare")
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            return False
        raise
    return True


def enter_mount_namespace(fd: int) -> None:
    """Enter the mount namespace that ``fd`` names; its root is then that of this process, which has one thread (setns(2))."""
    _check(_libc().setns(fd, _CLONE_NEWNS), "setns")


def own_mount_namespace() -> None:
    """Give the calling process a mount namespace from which nothing propagates (unshare(2))."""
    _check(_libc().unshare(_CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def own_namespaces() -> list[str]:
    """Give the calling process ipc, net, uts and cgroup namespaces of its own; returns the names of those that it could not get."""
    if _unshare(sum(NAMESPACES.values())):
        return []
    return [name for name, flag in NAMESPACES.items() if not _unshare(flag)]


@contextlib.contextmanager
def own_pid_namespace_for_child() -> Iterator[bool]:
    """The child that is forked inside is the first process of a pid namespace; gives whether that is so (pid_namespaces(7)).

    When it ends, the kernel ends all that it has forked.
    """
    try:
        here = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        is_apart = _unshare(_CLONE_NEWPID)
        try:
            yield is_apart
        finally:
            if is_apart:  # the next child is to be an ordinary one
                _check(_libc().setns(here, _CLONE_NEWPID), "setns")
    finally:
        os.close(here)


def empty_root() -> bool:
    """Leave every file system: the root of this process is an empty one that cannot be written to. Says whether that was allowed.

    What was mounted is gone from here, so that a device is not kept busy by a copy of its mount.
    """
    if not _unshare(_CLONE_NEWNS):
        return False
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    # Any directory will do: it is hidden from this process alone, and only until its root has changed.
    mount("none", "/proc", "tmpfs", MS_RDONLY | INERT, "size=4k,nr_inodes=2,mode=0555")
    change_root("/proc")
    return True


def change_root(mount_point: str) -> None:
    """Make what is mounted on ``mount_point`` the root of this mount namespace, and all else gone from it (pivot_root(2))."""
    os.chdir(mount_point)
    _check(_libc().pivot_root(b".", b"."), "pivot_root")
    _check(_libc().umount2(b".", _DETACH), "umount2")
    os.chdir("/")


def become_nobody() -> bool:
    """Give up root's identity and every capability, and the chance to get any. Says whether this host allowed all of it.

    The kernel forgets the signal that a child is to get when its parent ends (``death_signal``).
    """
    try:
        _drop_bounding_set()
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        is_nobody = True
    except PermissionError:  # a container may have taken the right to change identities
        is_nobody = False
    keep_capabilities()
    return is_nobody


def no_new_privileges() -> None:
    """Set no_new_privs: no program started from here can gain anything by setuid or capabilities (prctl(2))."""
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def keep_capabilities(*kept: int, once: Collection[int] = ()) -> None:
    """Give up all capabilities but those of the numbers ``kept``, and the chance to get any (capabilities(7), capset(2)).

    Those of ``once`` are kept too, until this is called without them.
    """
    libc = _libc()
    _drop_bounding_set(*kept)
    mask = sum(1 << number for number in {*kept, *once})
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    current = (ctypes.c_uint32 * 6)()
    _check(libc.capget(header, current), "capget")
    # Two words each of effective, permitted and inheritable; in a container some may be absent already.
    permitted = current[1] & mask
    wanted = (ctypes.c_uint32 * 6)(permitted, permitted, 0, 0, 0, 0)
    _check(libc.capset(header, wanted), "capset")


def _drop_bounding_set(*kept: int) -> None:
    libc = _libc()
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    for number in set(range(64)) - set(kept):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL above the kernel's last one


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
