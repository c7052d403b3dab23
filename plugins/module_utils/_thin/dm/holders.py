# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the users of a block device: mounts, swap, open files, devices on top of it.

Invariant: only reads; a user that vanishes meanwhile is left out. The result is for messages only and decides nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence

from ..._host.processes.process import command_line
from ..._names import printable
from .device import Device

_MOST_SHOWN = 5
_UNKNOWN_USER = (
    "a user that neither /proc nor /sys shows: one that has just ended, an export of the kernel (iSCSI, NBD),"
    " or a mount namespace without processes"
)


def who_holds(
    major: int, minor: int, *, sysfs: str = "/sys", proc: str = "/proc", but: Collection[str] = ()
) -> tuple[str, ...]:
    """Holders of device ``major:minor`` in words ("process 41 (mount of /mnt)"), the first few of them.

    The devices on top that are named in ``but`` are left out.
    """
    found = [*_lasting(major, minor, sysfs, proc, but), *_open_files(major, minor, proc)]
    return tuple(dict.fromkeys(found))[:_MOST_SHOWN]


def has_lasting_holder(
    major: int, minor: int, *, sysfs: str = "/sys", proc: str = "/proc", but: Collection[str] = ()
) -> bool:
    """Whether it is mounted, swapped to or below another device: what does not end soon, as a process may."""
    return any(True for _holder in _lasting(major, minor, sysfs, proc, but))


def _lasting(major: int, minor: int, sysfs: str, proc: str, but: Collection[str]) -> Iterator[str]:
    yield from (f"device {name}" for name in _devices_on_top(major, minor, sysfs) if name not in but)
    yield from _mounts(major, minor, proc)
    yield from _swaps(major, minor, proc)


def _devices_on_top(major: int, minor: int, sysfs: str) -> Iterator[str]:
    for holder in _listed(os.path.join(sysfs, "dev", "block", f"{major}:{minor}", "holders")):
        name = _read(os.path.join(sysfs, "block", holder, "dm", "name")).strip()
        yield name or holder
    for loop in _listed(os.path.join(sysfs, "block")):
        backing = _read(os.path.join(sysfs, "block", loop, "loop", "backing_file")).strip()
        if backing and _is_device(backing, major, minor):
            yield loop


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


def _swaps(major: int, minor: int, proc: str) -> Iterator[str]:
    for line in _read(os.path.join(proc, "swaps")).splitlines()[1:]:
        if _is_device(line.split(" ")[0], major, minor):
            yield "swap"


def _open_files(major: int, minor: int, proc: str) -> Iterator[str]:
    """Processes with the device open or mapped, or with a file of the file system on it, which may be unmounted lazily."""
    for pid in _pids(proc):
        directory = os.path.join(proc, pid)
        links = [os.path.join(directory, "fd", fd) for fd in _listed(os.path.join(directory, "fd"))]
        links += [os.path.join(directory, name) for name in ("cwd", "root", "exe")]
        if any(_is_device(link, major, minor) or _is_on(link, major, minor) for link in links) or any(
            _is_device(path, major, minor) for path in _mapped_nodes(os.path.join(directory, "maps"))
        ):
            yield _process(pid)


def _mapped_nodes(maps: str) -> set[str]:
    """The nodes below /dev that a process has mapped into its memory (proc(5), maps)."""
    fields = (line.split(None, 5) for line in _read(maps).splitlines())
    return {one[5] for one in fields if len(one) == 6 and one[5].startswith("/dev/")}


def _is_on(path: str, major: int, minor: int) -> bool:
    try:
        return os.stat(path).st_dev == os.makedev(major, minor)
    except OSError:
        return False


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


def held_by(device: Device, label: str, *, sysfs: str, proc: str, but: Sequence[str] = ()) -> str:
    """ "device NAME (LABEL) is held by ..." with its users, but for the devices named in ``but``."""
    users = who_holds(device.major, device.minor, sysfs=sysfs, proc=proc, but=but)
    return f"device {device.name}{f' ({label})' if label else ''} is held by {', '.join(users) or _UNKNOWN_USER}"
