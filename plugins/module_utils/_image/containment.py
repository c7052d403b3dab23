# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second wall: what the kernel lets the writer do, whatever the plan says.

Invariant: once ``contain`` has returned, this process and its children reach no file outside of the tree but those they hold open,
have only the capabilities that writing the tree takes and cannot get others, start no program, look no name up (there is no socket to
ask anybody through, and no file of the host's to read), and can load no code: a module imported now would come from the image.
"""

from __future__ import annotations

import codecs
import ctypes
import os
import resource
import sys

from .._host.seccomp import no_programs_no_sockets
from .limits import Limits

# capabilities(7); linux/capability.h
_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD, _SETFCAP = 0, 1, 3, 4, 27, 31
_CAPABILITIES = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD, _SETFCAP)
_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4

_MAX_OPEN_FILES = 256  # directories kept open, a file, pipes of workers, and what the caller held
_CPU_GRACE_SECONDS = 10  # the deadline on the clock comes first, and has words
_MAX_GROWTH_BYTES = 512 << 20  # of address space, above what the plan takes when the writing begins


def contain(root_fd: int, limits: Limits) -> None:
    """Make the directory ``root_fd`` the root of this process, for good; without root's rights only resources are limited."""
    _load_what_is_loaded_late()
    os.umask(0)
    _limit_resources(limits)
    os.fchdir(root_fd)
    no_programs_no_sockets()
    if os.geteuid() != 0:
        return
    os.chroot(".")
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()
    _keep_capabilities()


def _limit_resources(limits: Limits) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        size_bytes = int(file.read().split()[0]) * resource.getpagesize()
    for kind, wanted in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_AS, size_bytes + _MAX_GROWTH_BYTES),
        (resource.RLIMIT_CPU, limits.seconds + _CPU_GRACE_SECONDS),
    ):
        given = [limit for limit in resource.getrlimit(kind) if limit != resource.RLIM_INFINITY]
        allowed = min([wanted, *given])
        resource.setrlimit(kind, (allowed, allowed))


def _load_what_is_loaded_late() -> None:
    # Messages escape what is not printable, and Python loads its codecs when they are first asked for.
    for name in ("ascii", "latin-1", "utf-8", "unicode_escape", "idna"):
        codecs.lookup(name)


def _keep_capabilities() -> None:
    """Give up all capabilities but those of ``_CAPABILITIES`` (capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    for number in set(range(64)) - set(_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL above the kernel's last one
    mask = sum(1 << number for number in _CAPABILITIES)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    current = (ctypes.c_uint32 * 6)()
    if libc.capget(header, current) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "capget")
    # Two words each of effective, permitted and inheritable; in a container some may be absent already.
    permitted = current[1] & mask
    wanted = (ctypes.c_uint32 * 6)(permitted, permitted, 0, 0, 0, 0)
    if libc.capset(header, wanted) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "capset")
