# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child that works apart: its own mount namespace, no way to gain privileges, dead when its parent is.

Invariant: whatever the child mounts is seen by nobody else and is gone when the child is, so a killed run cannot leave a mount
behind (mount_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Collection
from typing import Any, Callable

from .._errors import CommandFailed, FlydError, error_from_json, error_to_json
from .death_signal import die_with_parent
from .files import from_os_error

_REAP_SECONDS, _REAP_POLL_SECONDS = 5.0, 0.01
Json = Any  # what json.dumps takes and json.loads gives back

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


def close_all_but(kept: Collection[int]) -> None:
    """Close every descriptor above 2 that is not in ``kept``."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # the one that listed the directory
                os.close(fd)


def in_child(
    work: Callable[[], Json],
    *,
    what: str,
    kept_fds: Collection[int] | None = None,
    timeout_seconds: float | None = None,
) -> Json:
    """The result of ``work``, run in a child that dies with this process; it comes back as JSON.

    Nothing richer than JSON is read from the child: it may have been turned by a hostile archive, and unpickling would let it
    run code here. A ``FlydError`` or ``OSError`` of the child is raised here. A child that ends without a word (killed, out of
    memory) is ``CommandFailed`` that names ``what``, and so is one that has not answered after ``timeout_seconds`` (``None``: for ever).
    With ``kept_fds`` the child holds no other descriptor above 2.
    """
    pid, read_end = _start(work, what, kept_fds)
    try:
        with os.fdopen(read_end, "rb") as pipe:
            is_late = timeout_seconds is not None and not select.select([pipe], [], [], timeout_seconds)[0]
            answer = b"" if is_late else pipe.read()
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if timeout_seconds is not None and is_late:
        raise CommandFailed.late(what, timeout_seconds, _killed(pid))
    status = os.waitpid(pid, 0)[1]
    if not answer:
        raise CommandFailed(
            f"the child for {what} ended without an answer (wait status {status})",
            hint="look for the out-of-memory killer in `dmesg`; then run again",
            retryable=True,
        )
    message = json.loads(answer)
    if "error" in message:
        raise error_from_json(message["error"])
    return message["result"]


def _start(work: Callable[[], Json], what: str, kept_fds: Collection[int] | None) -> tuple[int, int]:
    """The pid of a child that does ``work``, and the descriptor at which it answers."""
    set_death_signal = die_with_parent()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        set_death_signal()
        if kept_fds is not None:
            close_all_but({write_end, *kept_fds})
        _answer(work, write_end, what)
    os.close(write_end)
    return pid, read_end


def _killed(pid: int) -> str:
    """What became of a late child that was killed; its end is waited for no longer than makes sense: what hangs in the kernel does not die."""
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < until:
        time.sleep(_REAP_POLL_SECONDS)
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return "and was killed"
    return f"and its process {pid} cannot be killed: it hangs in the kernel"


def _answer(work: Callable[[], Json], write_end: int, what: str) -> None:
    # A signal to the whole group ends this process at once: unwinding is its parent's work.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    try:
        no_new_privileges()
        try:
            message = {"result": work()}
        except FlydError as error:
            message = {"error": error_to_json(error)}
        except OSError as error:
            message = {"error": error_to_json(from_os_error(error, what))}
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(json.dumps(message).encode())
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it was, this process must never return into its parent's code
        sys.__excepthook__(*sys.exc_info())  # written in C: nothing can be imported from in here
    finally:
        os._exit(70)
