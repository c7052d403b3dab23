# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An allowlist of system calls for this process and its children.

Invariant: once it is set it cannot be removed, only narrowed. A call of another table than the processor's own (32-bit, x32) is
refused, whatever its number. Where the kernel or the processor's table is unknown, nothing is set, and the caller learns of it: the list is
the last of several barriers. Sources: seccomp(2), linux/filter.h, linux/seccomp.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .syscalls import ARCHITECTURES, number

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD_WORD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16  # in struct seccomp_data; both processors are little-endian
_ANY = 0xFFFFFFFF

_EXECUTABLE, _ANONYMOUS = 4, 0x20  # PROT_EXEC, MAP_ANONYMOUS


class Argument(NamedTuple):
    """What argument ``at`` (from 0) of a call must be: one of ``values`` behind ``mask``, in its low 32 bits.

    That is all that the kernel looks at where it takes an ``int``; flags that are longer have their meanings there, too.
    """

    at: int
    values: tuple[int, ...]
    mask: int = _ANY


class Call(NamedTuple):
    """A call by name, and what its arguments must be; with ``error``, it is answered by that and not carried out."""

    name: str
    arguments: tuple[Argument, ...] = ()
    error: int = 0


def calls(names: str) -> tuple[Call, ...]:
    """Calls that are allowed whatever their arguments are: their names, separated by blanks."""
    return tuple(map(Call, names.split()))


# What an interpreter takes that only computes, reads and writes what it holds open, and ends. Code can be neither brought in nor made.
COMPUTING = (
    *calls("read write close"),
    Call("mmap", (Argument(2, (0,), _EXECUTABLE), Argument(3, (_ANONYMOUS,), _ANONYMOUS))),
    Call("mprotect", (Argument(2, (0,), _EXECUTABLE),)),
    Call("madvise", (Argument(2, (4, 8, 14, 15)),)),  # DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE
    # WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET: what locks of libc take, without those that inherit priorities
    Call("futex", (Argument(1, (0, 1, 3, 4, 5, 9, 10), _ANY ^ 0x180),)),
    *calls(
        "munmap mremap brk fstat clock_gettime gettimeofday clock_nanosleep nanosleep sched_yield getpid gettid getrandom"
    ),
    *calls("rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall exit exit_group"),
    Call(
        "clone3", error=errno.ENOSYS
    ),  # as on an older kernel, so that libc takes clone, whose flags a filter can read
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def allow_only(allowed: Sequence[Call]) -> bool:
    """Refuse all other calls for good, with EPERM; needs no_new_privs. Says whether this kernel and processor could."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES or struct.calcsize("P") != 8:
        return False
    code = b"".join(_filter(machine, allowed))
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0:
        return True
    failed = ctypes.get_errno()
    if failed == errno.EINVAL:  # a kernel without filters
        return False
    raise OSError(failed, os.strerror(failed), "seccomp")


def _filter(machine: str, allowed: Sequence[Call]) -> Iterator[bytes]:
    """The filter as the kernel reads it: a block for each call, which ends in an answer, so that no jump is long."""
    yield _instruction(_LOAD_WORD, _AT_ARCHITECTURE)
    yield _instruction(_JUMP_IF_EQUAL, ARCHITECTURES[machine], if_true=1)
    yield _instruction(_RETURN, _ERROR | errno.EPERM)
    yield _instruction(_LOAD_WORD, _AT_NUMBER)
    for call in allowed:
        found = number(machine, call.name)
        if found is not None:
            block = list(_block(call))
            yield _instruction(_JUMP_IF_EQUAL, found, if_false=len(block))
            yield from block
    yield _instruction(_RETURN, _ERROR | errno.EPERM)


def _block(call: Call) -> Iterator[bytes]:
    for argument in call.arguments:
        yield _instruction(_LOAD_WORD, _AT_ARGUMENTS + 8 * argument.at)
        yield _instruction(_AND, argument.mask)
        last = len(argument.values)
        for at, value in enumerate(argument.values):
            yield _instruction(_JUMP_IF_EQUAL, value, if_true=last - at)
        yield _instruction(_RETURN, _ERROR | errno.EPERM)
    yield _instruction(_RETURN, _ERROR | call.error if call.error else _ALLOW)


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
