# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a process is, for as long as the machine runs, and after.

Invariant: an ``Identity`` never names two processes: the boot id tells the boots apart, the start time tells apart processes that
were given the same pid. No clock is asked.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Identity(NamedTuple):
    """A process: ``boot_id`` from the kernel, ``pid``, and ``started`` in clock ticks since boot (proc(5), stat field 22)."""

    boot_id: str
    pid: int
    started: int

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return self.boot_id == boot_id() and _start_ticks(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid}"


def boot_id() -> str:
    """The id of this boot of the machine (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def own_identity() -> Identity:
    """The identity of the calling process."""
    started = _start_ticks(os.getpid())
    if started is None:
        raise AssertionError("a running process has a start time")
    return Identity(boot_id(), os.getpid(), started)


def _start_ticks(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The command's name stands in parentheses and may hold anything, parentheses too: count from the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def command_line(pid: int) -> str:
    """What process ``pid`` runs, for messages; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").strip().decode("utf-8", "replace")
    except OSError:
        return ""
