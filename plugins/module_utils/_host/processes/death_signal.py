# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child that does not outlive its parent.

Invariant: the kernel sees to it, so it holds however the parent ends.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from typing import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None]:
    """A function for a new child to call: the kernel then kills it when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended between fork and prctl
            os._exit(1)

    return set_signal


def die_with_reader(pipe: int) -> None:
    """The same for a child that cannot see its parent, which is outside of its pid namespace, but reads ``pipe``.

    To be called again by a process that has changed its identity: the kernel then forgets the signal.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    ends = select.poll()
    ends.register(pipe, 0)
    if ends.poll(0):  # POLLERR: the parent ended before
        os._exit(1)
