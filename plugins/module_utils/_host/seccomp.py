# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter of system calls: this process starts no program and talks to nobody, and nor does any child of it.

Invariant: once it is set it cannot be taken off. Where the kernel or the processor's table is unknown nothing is set, and the caller is
told: the filter is the last of several locks. Sources: seccomp(2), linux/filter.h, linux/seccomp.h, linux/audit.h and the kernel's
tables of system calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_AT_NUMBER, _AT_ARCHITECTURE = 0, 4  # in struct seccomp_data
_X32_CALLS = 0x40000000  # the same calls again, on x86_64, under other numbers

# execve, execveat, socket, socketpair, io_uring_setup (which could do the same unseen), ptrace, process_vm_writev
_CALLS = {
    "x86_64": (0xC000003E, (59, 322, 41, 53, 425, 101, 311)),
    "aarch64": (0xC00000B7, (221, 281, 198, 199, 425, 117, 271)),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def no_programs_no_sockets() -> bool:
    """Refuse the calls for good; needs no_new_privs. Says whether this kernel and processor could."""
    if os.uname().machine not in _CALLS or struct.calcsize("P") != 8:
        return False
    architecture, calls = _CALLS[os.uname().machine]
    code = _filter(architecture, calls)
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EINVAL:  # a kernel without filters
        return False
    raise OSError(number, os.strerror(number), "seccomp")


def _filter(architecture: int, calls: tuple[int, ...]) -> bytes:
    """The filter as the kernel reads it: anything of another architecture is refused, then the calls by number."""
    count = len(calls)
    code = [
        _instruction(_LOAD_WORD, 0, 0, _AT_ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, 0, count + 3, architecture),
        _instruction(_LOAD_WORD, 0, 0, _AT_NUMBER),
        _instruction(_JUMP_IF_AT_LEAST, count + 1, 0, _X32_CALLS),
        *(_instruction(_JUMP_IF_EQUAL, count - at, 0, number) for at, number in enumerate(calls)),
        _instruction(_RETURN, 0, 0, _ALLOW),
        _instruction(_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(code)


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
