# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps a block device busy: mounts, open files, devices on top of it.

Invariant: only reads; whatever vanishes while it is looked at is left out. The answer is for a message, nothing is decided by it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from .._host.process import command_line
from .._names import printable

_MOST_SHOWN = 5


def who_holds(major: int, minor: int, *, sysfs: str = "/sys", proc: str = "/proc") -> tuple[str, ...]:
    """Holders of device ``major:minor`` in words ("process 41 (mount of /mnt)"), the first few of them."""
    found = [*_devices_on_top(major, minor, sysfs), *_mounts(major, minor, proc), *_open_files(major, minor, proc)]
    return tuple(dict.fromkeys(found))[:_MOST_SHOWN]


def _devices_on_top(major: int, minor: int, sysfs: str) -> Iterator[str]:
    for holder in _listed(os.path.join(sysfs, "dev", "block", f"{major}:{minor}", "holders")):
        name = _read(os.path.join(sysfs, "block", holder, "dm", "name")).strip()
        yield f"device {name or holder}"
    for loop in _listed(os.path.join(sysfs, "block")):
        backing = _read(os.path.join(sysfs, "block", loop, "loop", "backing_file")).strip()
        if backing and _is_device(backing, major, minor):
            yield f"device {loop}"


def _mounts(major: int, minor: int, proc: str) -> Iterator[str]:
    """Each place it is mounted on, with the first process that sees it there; one process for each mount namespace is asked."""
    namespaces: set[str] = set()
    places: set[str] = set()
    for pid in _pids(proc):
        namespace = _link(os.path.join(proc, pid, "ns", "mnt")) or pid
        if namespace in namespaces:
            continue
        namespaces.add(namespace)
        for line in _read(os.path.join(proc, pid, "mountinfo")).splitlines():
            fields = line.split(" ")
            if len(fields) > 4 and fields[2] == f"{major}:{minor}" and fields[4] not in places:
                places.add(fields[4])
                yield f"a mount on {printable(fields[4])} (seen by {_process(pid)})"


def _open_files(major: int, minor: int, proc: str) -> Iterator[str]:
    for pid in _pids(proc):
        directory = os.path.join(proc, pid, "fd")
        if any(_is_device(os.path.join(directory, fd), major, minor) for fd in _listed(directory)):
            yield _process(pid)


def _process(pid: str) -> str:
    return f"process {pid} ({printable(command_line(int(pid)), 60) or 'kernel'})"


def _pids(proc: str) -> list[str]:
    return sorted((entry for entry in _listed(proc) if entry.isdigit()), key=int)


def _is_device(path: str, major: int, minor: int) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISBLK(found.st_mode) and found.st_rdev == os.makedev(major, minor)


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
