# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandboxes of the processes that compare the tree of an earlier base and change it.

Invariant: the comparing process can open files for reading only; the changing process opens no existing file. Neither opens a device node: the
tree is mounted nodev, and special files are never opened.
"""

from __future__ import annotations

import os

from ..._host.confinement.seccomp import COMPUTING, Argument, Call, allow_only, calls
from ..._host.processes.child import is_in_own_pid_namespace
from ..writing.sandbox import DIRECTORY, NEW_FILE, SIGNALLING, WRITING

OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MORE = calls(
    "unlinkat renameat renameat2 fremovexattr"
)  # a name goes, or goes elsewhere; a directory loses attributes
_CHANGING = (*WRITING, *_MORE)
_COMPARING = (
    Call("openat", (Argument(2, (OLD_FILE, DIRECTORY)),)),
    *calls("pread64 preadv preadv2 newfstatat lseek wait4 getppid"),
    Call("fcntl", (Argument(1, (1, 2, 3)),)),  # F_GETFD, F_SETFD, F_GETFL
    *COMPUTING,
)


def with_delta(allowed: tuple[Call, ...]) -> tuple[Call, ...]:
    """``allowed``, the list of a process that starts writers, with what those need who compare and change: a list only gets narrower."""
    others = tuple(call for call in allowed if call.name != "openat")
    return (Call("openat", (Argument(2, (NEW_FILE, DIRECTORY, OLD_FILE)),)), *others, *_MORE)


def lock_comparing() -> bool:
    """Allow this process what comparing takes, and nothing else; says whether the kernel and the processor could."""
    return allow_only(_with_signals(_COMPARING))


def lock_changing() -> bool:
    """The same for what changing the tree takes."""
    return allow_only(_with_signals(_CHANGING))


def _with_signals(allowed: tuple[Call, ...]) -> tuple[Call, ...]:
    return (*allowed, *SIGNALLING) if is_in_own_pid_namespace() else allowed
