# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of the writer.

Invariant: once ``contain`` has returned, this process reaches no file outside of the tree but those it holds open, opens none that it has
not made itself, has only the capabilities that writing the tree takes and cannot get others, and makes only the system calls of a list: it
starts no process, signals none but its own, and can load no code: a module imported now would come from the image.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import Callable

from ..._host.confinement.isolation import keep_capabilities
from ..._host.confinement.seccomp import COMPUTING, Argument, Call, allow_only, calls
from ..._host.processes.child import is_in_own_pid_namespace, missing_namespaces
from ..._host.processes.without_files import forget_size, own_pages
from ..limits import Limits

# capabilities(7); linux/capability.h
_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD, _SETFCAP = 0, 1, 3, 4, 27, 31
CAPABILITIES = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD, _SETFCAP)

_UNWINDER = "libgcc_s.so.1"

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
WRITING = (
    # A new file or a directory: a device node of the image is never opened, wherever the tree lies.
    Call("openat", (Argument(2, (NEW_FILE, DIRECTORY)),)),
    *calls(
        "newfstatat fchown fchmod fsetxattr utimensat copy_file_range sendfile sync_file_range ftruncate lseek pread64"
    ),
    *calls("mkdirat mknodat symlinkat linkat fchownat fchmodat stat lstat wait4 getppid geteuid getegid"),
    Call("fcntl", (Argument(1, (1, 2, 3)),)),  # F_GETFD, F_SETFD, F_GETFL
    *COMPUTING,
)
SIGNALLING = (Call("kill", (Argument(1, (signal.SIGKILL,)),)),)  # where all that it can name works on the same image

_MAX_OPEN_FILES = 256  # directories kept open, a file, pipes of workers, and what the caller held
_CPU_GRACE_SECONDS = 10  # the deadline on the clock comes first, and has words
_MAX_GROWTH_BYTES = 512 << 20  # of address space, above what the plan takes when the writing begins


def contain(
    root_fd: int,
    limits: Limits,
    start: Callable[[], object] = lambda: None,
    lock: Callable[[], bool] | None = None,
) -> list[str]:
    """Make the directory ``root_fd`` the root of this process, for good; without root's rights only resources and calls are limited.

    ``start`` is called last but for the list of system calls, which each process that it forks must take on itself (``lock``, by default
    ``lock_calls``). Returns the names of the walls that this host could not put up.
    """
    load_what_is_loaded_late()
    os.umask(0)
    limit_resources(limits, growth_bytes=_MAX_GROWTH_BYTES, file_bytes=limits.file_bytes)
    forget_size()
    os.fchdir(root_fd)
    missing = missing_namespaces()
    if os.geteuid() == 0:
        os.chroot(".")
        load_no_more()
        keep_capabilities(*CAPABILITIES)
    else:
        missing.append("root")
    start()
    return missing if (lock or lock_calls)() else [*missing, "system_calls"]


def lock_calls() -> bool:
    """Allow this process the calls that writing takes, and no others; says whether the kernel and the processor could."""
    return allow_only((*WRITING, *SIGNALLING) if is_in_own_pid_namespace() else WRITING)


def limit_resources(
    limits: Limits, *, growth_bytes: int, file_bytes: int, cpu_seconds: int = 0, open_files: int = _MAX_OPEN_FILES
) -> None:
    """Limit what this process may take: memory above what it has now, CPU seconds, the size of files, open files.

    ``cpu_seconds`` of 0 are those of ``limits`` and some more.
    """
    size_bytes = own_pages()[0] * resource.getpagesize()
    for kind, wanted in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_AS, size_bytes + growth_bytes),
        (resource.RLIMIT_CPU, cpu_seconds or limits.seconds + _CPU_GRACE_SECONDS),
    ):
        given = [limit for limit in resource.getrlimit(kind) if limit != resource.RLIM_INFINITY]
        allowed = min([wanted, *given])
        resource.setrlimit(kind, (allowed, allowed))


def load_what_is_loaded_late() -> None:
    """Load what Python would load from files, of which there will be none."""
    # Messages escape what is not printable, and codecs are loaded when they are first asked for.
    for name in ("ascii", "latin-1", "utf-8", "unicode_escape", "idna"):
        codecs.lookup(name)
    # glibc loads it when a thread calls pthread_exit, as each does that Python 3.9 has started, and aborts when it cannot.
    with contextlib.suppress(OSError):  # musl has no such library
        ctypes.CDLL(_UNWINDER)


def load_no_more() -> None:
    """Have Python look for modules nowhere: what is imported from now on would come from the image."""
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()
