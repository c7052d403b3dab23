# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a process, across pid reuse and reboots.

Invariant: an ``Identity`` never names two processes: the boot id reports the boots apart, the start time tells apart processes that
were given the same pid. No clock is asked.
"""

from __future__ import annotations

import contextlib
import datetime
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
    fields = _stat(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on, the state; none when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return []  # any other error does not show that it is gone: what it holds would be taken from it
    # The command's name stands in parentheses and may hold anything, parentheses too: count from the last one.
    return stat[stat.rindex(b")") + 2 :].split()


def descendants_activity(pid: int) -> int:
    """A number that stays the same while the descendants of process ``pid`` neither compute nor read nor write anything.

    Clock ticks (proc(5), stat fields 14 and 15) and the counters of /proc/PID/io, added up. What ``pid`` itself does is left out, as to
    look is to do something.
    """
    stats = {int(name): fields for name in os.listdir("/proc") if name.isdigit() and (fields := _stat(int(name)))}
    family, found = {pid}, 0
    while len(family) > found:
        found = len(family)
        family |= {one for one, fields in stats.items() if int(fields[1]) in family}
    return sum(int(stats[one][11]) + int(stats[one][12]) + _io(one) for one in family & stats.keys() - {pid})


def _io(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/io", "rb") as file:
            return sum(int(line.split()[1]) for line in file)
    except OSError:  # gone, or of another program whom we may not look at
        return 0


def take_name(name: str) -> None:
    """Show as ``name`` in `ps` and to runs that wait for a lock: with pipelining the command line is a bare interpreter's."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(name)


def name_of(pid: int) -> str:
    """The name of process ``pid`` (proc(5), comm), which a module sets to its own; empty when it is gone."""
    return _read(f"/proc/{pid}/comm")


def command_line(pid: int) -> str:
    """What process ``pid`` runs, for messages; empty when it is gone."""
    return _read(f"/proc/{pid}/cmdline")


def started_at(identity: Identity) -> str:
    """When a process of this boot began, in UTC as ISO 8601 to the second; empty when the kernel does not say. For messages only."""
    for line in _read("/proc/stat").splitlines():
        if line.startswith("btime "):
            seconds = int(line.split()[1]) + identity.started // os.sysconf("SC_CLK_TCK")
            return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ""


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().replace(b"\0", b" ").strip().decode("utf-8", "replace")
    except OSError:
        return ""
