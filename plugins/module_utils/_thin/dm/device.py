# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What device-mapper devices there are, read from sysfs: no program is started, nothing is changed.

Invariant: a ``Device`` is what the kernel said at the moment of reading; names and numbers are never remembered across runs.
Source: the kernel's Documentation/ABI/testing/sysfs-block-dm.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import ForeignDevice
from ..._host.files.durable import from_os_error
from ..._names import printable

NODE_DIRECTORY = "/dev/mapper"
OUR_PREFIX = "FLYD-"
SECTOR_BYTES = 512  # of every table and of sysfs
# The last is device-mapper's own answer for a device that is on its way out (the kernel's drivers/md/dm-sysfs.c).
_REMOVED_WHILE_READ = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EINVAL)
_DONE = (0, 2, 4, 6, 11, 13, 15)  # reads, writes, discards: requests and sectors; flushes


class Device(NamedTuple):
    """A device of device-mapper. ``sectors`` (of 512 bytes) is 0 when it has no live table: its making was cut short."""

    name: str
    uuid: str
    major: int
    minor: int
    suspended: bool
    read_only: bool
    sectors: int = 0
    node_directory: str = NODE_DIRECTORY

    @property
    def path(self) -> str:
        """The node, ``/dev/mapper/NAME``."""
        return os.path.join(self.node_directory, self.name)

    @property
    def number(self) -> str:
        """``major:minor``, as tables name a device: good for as long as the device lives, never across a reboot."""
        return f"{self.major}:{self.minor}"

    def __fspath__(self) -> str:
        return self.path


def read_devices(sysfs: str, node_directory: str, *, name: str = "", uuid: str = "") -> tuple[Device, ...]:
    """All devices, ordered by minor number; or, where ``name`` or ``uuid`` is given, those that have that name or that UUID.

    Of a device that is not asked for only its name or UUID is read: a host may have hundreds, and a run looks many times.
    """
    found = _read_all(sysfs, node_directory, {"dm/name": name, "dm/uuid": uuid})
    return tuple(sorted(found, key=lambda device: device.minor))


def requests_done(path: str, sysfs: str = "/sys") -> tuple[str, ...]:
    """What the block device at ``path`` has come to the end of, in requests and sectors (Documentation/block/stat.rst); empty for none.

    What it has begun, and how long that takes, is not among it: of a device that hangs this stays the same.
    """
    number = os.stat(path).st_rdev
    try:
        with open(f"{sysfs}/dev/block/{os.major(number)}:{os.minor(number)}/stat", encoding="ascii") as file:
            fields = file.read().split()
    except OSError:
        return ()
    return tuple(fields[index] for index in _DONE if index < len(fields))


def _read_all(sysfs: str, node_directory: str, wanted: dict[str, str]) -> Iterator[Device]:
    block = os.path.join(sysfs, "block")
    asked = [(attribute, value) for attribute, value in wanted.items() if value]
    for entry in os.listdir(block):
        if not entry.startswith("dm-"):
            continue
        directory = os.path.join(block, entry)
        try:
            if not asked or any(_attribute(directory, attribute) == value for attribute, value in asked):
                yield _read_one(directory, node_directory)
        except OSError as error:
            if error.errno not in _REMOVED_WHILE_READ:  # else a device that is there would be taken for one that is not
                raise from_os_error(error, "reading what devices there are") from error


def _read_one(directory: str, node_directory: str) -> Device:
    major, minor = _attribute(directory, "dev").split(":")
    return Device(
        name=_attribute(directory, "dm/name"),
        uuid=_attribute(directory, "dm/uuid"),
        major=int(major),
        minor=int(minor),
        suspended=_attribute(directory, "dm/suspended") == "1",
        read_only=_attribute(directory, "ro") == "1",
        sectors=int(_attribute(directory, "size")),
        node_directory=node_directory,
    )


def _attribute(directory: str, name: str) -> str:
    with open(os.path.join(directory, name), encoding="utf-8", errors="surrogateescape") as file:
        return file.read().strip()


def refuse_foreign(device: Device, uuid: str = "") -> None:
    """Raise ``ForeignDevice`` unless the device is ours and has ``uuid``, where that is given."""
    if not device.uuid.startswith(OUR_PREFIX) or (uuid and device.uuid != uuid):
        raise ForeignDevice(
            f"device {device.name} is not ours: its UUID is {printable(device.uuid) or '(none)'}",
            hint="it is left alone; remove or rename it if it is not needed, or choose another name",
            device=device.name,
        )
