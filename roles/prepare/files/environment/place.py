# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The place where environments lie: one run at a time, one link that leads to the one in use, nothing left of others.

Invariant: HOME/venv changes by one rename, from an environment that works to another that was tried.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import os
import platform
import shutil
import time
from collections.abc import Iterator

LOCK_SECONDS = 900.0
LINK = "venv-link."  # the new link before it has its place, then what it took the place of
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
RENAMEAT2 = {"x86_64": 316, "aarch64": 276}  # the system call's number, for a C library without the function


class Failed(Exception):
    """What is wrong; what to do."""


@contextlib.contextmanager
def locked(home: str) -> Iterator[int]:
    """Be the only one at work in ``home``. Programs that are given the descriptor hold the lock until they end."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Failed(f"another run of prepare is at work in {home}", "wait for it, or end it") from None
                time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)


def current(home: str) -> str:
    """The directory that HOME/venv leads to."""
    return os.path.realpath(os.path.join(home, "venv"))


def in_use(directory: str) -> bool:
    """Whether a process runs by the interpreter in ``directory``: it may import more. One that was HOME/venv itself may be known as that."""
    names = [directory]
    if os.path.basename(directory).startswith(LINK):
        names.append(os.path.join(os.path.dirname(directory), "venv"))
    begins = tuple(os.fsencode(name) + b"/" for name in names)
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read(4096).startswith(begins):
                return True
    return False


def discard(path: str) -> bool:
    """Remove a file or a directory; false when it is in use."""
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return True
    if in_use(path):
        return False
    shutil.rmtree(path)
    return True


def clean(home: str, keep: str = "") -> list[str]:
    """Remove all that runs made in ``home``, but the environment that it has now and ``keep``; returns what was removed."""
    found = glob.glob(os.path.join(home, "venv-*")) + glob.glob(os.path.join(home, "incoming-*"))
    return [path for path in sorted(found) if path != current(home) and path != keep and discard(path)]


def exchange(home: str, directory: str) -> None:
    """HOME/venv leads to ``directory``, by one rename; what was there as a directory gets the name of the new link."""
    link, venv = os.path.join(home, f"{LINK}{os.getpid()}"), os.path.join(home, "venv")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(os.path.basename(directory), link)
    os.sync()  # else a power cut could leave the link with files that are empty
    if os.path.isdir(venv) and not os.path.islink(venv):
        exchange_names(link, venv)
    else:
        os.rename(link, venv)
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange_names(one: str, other: str) -> None:
    """Exchange two names of one file system in one step."""
    library = ctypes.CDLL(None, use_errno=True)
    arguments = (
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(one)),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(other)),
    )
    if hasattr(library, "renameat2"):
        result = library.renameat2(*arguments, ctypes.c_uint(RENAME_EXCHANGE))
    else:
        number = RENAMEAT2[platform.machine()]
        result = library.syscall(ctypes.c_long(number), *arguments, ctypes.c_uint(RENAME_EXCHANGE))
    if result != 0:
        raise Failed(
            f"the file system of {other} cannot exchange it with a link: {os.strerror(ctypes.get_errno())}",
            f"remove the directory {other} once, and run prepare again",
        )
