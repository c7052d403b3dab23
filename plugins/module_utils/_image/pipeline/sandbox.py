# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of the reader.

Invariant: before the first byte of an archive is parsed, this process has an empty root, sees no other process and no network, has the
capabilities of a writer and CAP_SYS_CHROOT, opens files only as a writer does, starts no program, and cannot load code. It requests
decoders and spool files from its parent (``broker``).
"""

from __future__ import annotations

import hashlib
import os

from ..._host.confinement.isolation import empty_root, keep_capabilities
from ..._host.confinement.seccomp import Argument, Call, allow_only, calls
from ..._host.processes.child import is_in_own_pid_namespace, missing_namespaces
from ..._host.processes.without_files import leave_files
from ..delta.sandbox import with_delta
from ..writing.sandbox import CAPABILITIES, SIGNALLING, WRITING, load_no_more, load_what_is_loaded_late

_SYS_CHROOT = 18  # capabilities(7): the writer, a child, makes the tree its root
# PR_SET_PDEATHSIG, PR_SET_NAME (of threads), PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT
_PRCTL = (1, 15, 22, 24, 38, 47)
# CLONE_PIDFD, PTRACE, PARENT, UNTRACED and all CLONE_NEW*: linux/sched.h
_CLONE_REFUSED = 0x1000 | 0x2000 | 0x8000 | 0x800000 | 0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x70000000
_ITSELF = Argument(0, (0,))
_READING = (
    *WRITING,
    *calls(
        "readv preadv preadv2 writev poll ppoll select pselect6 pipe2 sendto recvmsg fstatfs sched_getaffinity uname"
    ),
    # Threads, and children: the hasher and the writer, which takes more of this away from itself.
    Call("clone", (Argument(0, (0,), _CLONE_REFUSED),)),
    *calls("fork set_robust_list rseq setsid close_range"),
    Call("dup2", (Argument(1, (2,)),)),
    Call("dup3", (Argument(1, (2,)),)),
    Call("prctl", (Argument(0, _PRCTL),)),
    Call("prlimit64", (_ITSELF,)),
    *calls("getrlimit setrlimit capget capset umask fchdir chroot"),
)
_DIGESTS = ("sha256", "sha512")


def confine(*, changes_trees: bool) -> list[str]:
    """Sandbox this process irrevocably; returns the names of the parts that this host could not set up.

    ``changes_trees``: its children may compare and change a tree that is there.
    """
    load_what_is_loaded_late()
    for name in _DIGESTS:
        hashlib.new(name).digest()  # OpenSSL reads its configuration when it is first used
    leave_files()
    missing = missing_namespaces()
    is_root = os.geteuid() == 0
    if not is_root or not empty_root():
        missing.append("root")
    load_no_more()
    if is_root:
        keep_capabilities(*CAPABILITIES, once=(_SYS_CHROOT,))
    allowed = with_delta(_READING) if changes_trees else _READING
    if is_in_own_pid_namespace():
        allowed = (*allowed, *SIGNALLING)
    return missing if allow_only(allowed) else [*missing, "system_calls"]
