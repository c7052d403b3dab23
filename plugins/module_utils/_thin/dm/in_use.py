# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether devices are in use, before any of them is removed.

Invariant: nothing is changed. The kernel's own count decides, the one for which it refuses to remove a device (dm.c,
dm_lock_for_deletion): it includes mounts in every namespace, swap, devices on top and users inside the kernel. Who the users are is
looked up for the message only.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Sequence

from ..._errors import Busy
from .control import ask
from .device import Device, refuse_foreign
from .device_mapper import DeviceMapper
from .holders import has_lasting_holder, held_by, who_holds


def require_free(
    dm: DeviceMapper, wanted: Iterable[tuple[str, str]], *, ours: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Raise ``Busy`` that names the users of every device in ``wanted`` (name and UUID) that is open.

    A device that does not exist is free. ``ours`` has, by a device's name, the names of the devices on top of it that do not count. A
    process is waited for as in ``DeviceMapper.remove``, for it may be udev's; a mount, swap or a device on top is not. ``ForeignDevice``: a
    device of others has the name.
    """
    there = {device.name: device for device in dm.devices()}
    found = [(there[name], uuid) for name, uuid in wanted if name in there]
    for device, uuid in found:
        refuse_foreign(device, uuid)
    held = dm.busy.call(lambda: _in_use(dm, [device for device, _uuid in found], ours or {})) if found else None
    if held is not None:
        raise held


def open_counts(dm: DeviceMapper, names: Sequence[str]) -> dict[str, int]:
    """How often each of the devices is open; those that do not exist are left out."""

    def count() -> str:
        counts = ((name, _open_count(dm, name)) for name in names)
        return "\n".join(f"{name} {opened}" for name, opened in counts if opened is not None)

    words = ("info", "--columns", "--noheadings", "--options", "name,open", *names)
    pairs = (line.rpartition(" ") for line in ask(dm.runner, words, count).splitlines())
    return {name: int(opened) for name, _space, opened in pairs}


def require_loops_free(dm: DeviceMapper, loops: Sequence[str], pool: str) -> None:
    """Raise ``Busy`` that names what uses one of the loop devices (their paths), other than the pool's own device.

    The kernel shows no count of these, so what /proc and /sys show decides.
    """

    def look() -> None:
        for path in loops:
            with contextlib.suppress(FileNotFoundError):  # detached since
                major, minor = _numbers(os.path.join(dm.sysfs, "block", os.path.basename(path), "dev"))
                users = who_holds(major, minor, sysfs=dm.sysfs, proc=dm.proc, but=[pool])
                if users:
                    raise Busy(
                        f"loop device {path} of the pool '{pool}' is held by {', '.join(users)}",
                        hint="end what uses it, then run again; nothing was removed",
                        device=path,
                    )

    dm.busy.call(look)


def _in_use(dm: DeviceMapper, devices: Sequence[Device], ours: Mapping[str, Sequence[str]]) -> Busy | None:
    """The error for those of ``devices`` that are open, None when none is; raised where all of their uses may end soon."""
    counts = open_counts(dm, [device.name for device in devices])
    held = [device for device in devices if counts.get(device.name, 0) > len(ours.get(device.name, ()))]
    if not held:
        return None
    error = Busy(
        "; ".join(
            held_by(device, dm.label(device.name), sysfs=dm.sysfs, proc=dm.proc, but=ours.get(device.name, ()))
            for device in held
        ),
        hint="unmount it or end what uses it, then run again; nothing was removed",
        device=held[0].name,
    )
    if any(
        has_lasting_holder(device.major, device.minor, sysfs=dm.sysfs, proc=dm.proc, but=ours.get(device.name, ()))
        for device in held
    ):
        return error
    raise error


def _open_count(dm: DeviceMapper, name: str) -> int | None:
    try:
        return dm.control.open_count(name)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def _numbers(path: str) -> tuple[int, int]:
    with open(path, encoding="ascii") as file:
        major, minor = file.read().split(":")
    return int(major), int(minor)
