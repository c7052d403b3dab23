# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two requests put to device-mapper without a program: a target's status, and a message to it.

To start dmsetup takes longer than what it does for these two. Whatever makes or removes a node, which udev must confirm, is left to it.

Invariant: the kernel is called by a child with a time limit, as a program would be: a disk below that hangs costs us that time, and the run
goes on to say so. Source: linux/dm-ioctl.h.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Callable, Protocol

from .._errors import CommandFailed, Unsupported
from .._host.command import Program, Runner
from .._names import printable
from .dmsetup import NO_DRIVER_HINT, kernel_refused

_NODE = "/dev/mapper/control"
# struct dm_ioctl: version[3], data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name, uuid
_HEADER = struct.Struct("=6IiIIIQ128s129s7x")
_TARGET = struct.Struct("=QQiI16s")  # struct dm_target_spec: sector_start, length, status, next, target_type
_SECTOR = struct.Struct("=Q")  # struct dm_target_msg, before its text
_VERSION = (4, 0, 0)  # the oldest of this interface, which every kernel takes
_TABLE_STATUS, _TARGET_MESSAGE = 12, 14
_NO_FLUSH = 1 << 11
_STATUS_BYTES = 1 << 16
_MAX_NAME_BYTES = 127


class Control(Protocol):
    """Whoever takes requests for devices; ``OSError`` has the kernel's errno."""

    def message(self, name: str, text: str) -> str:
        """Send ``text`` to the only target of the device; returns nothing of interest."""

    def status(self, name: str) -> str:
        """The status of the only target, as `dmsetup status --noflush` prints it."""


class ControlNode:
    """The kernel's own."""

    def message(self, name: str, text: str) -> str:
        """See ``Control``."""
        _ioctl(_TARGET_MESSAGE, name, _SECTOR.pack(0) + os.fsencode(text) + b"\0")
        return ""

    def status(self, name: str) -> str:
        """See ``Control``."""
        data = _ioctl(_TABLE_STATUS, name, bytes(_STATUS_BYTES), flags=_NO_FLUSH)
        begin, sectors, _status, _next, kind = _TARGET.unpack_from(data)
        said = data[_TARGET.size :].partition(b"\0")[0]
        return f"{begin} {sectors} {os.fsdecode(kind.rstrip(bytes(1)))} {os.fsdecode(said)}"


def ask(runner: Runner, words: tuple[str, ...], call: Callable[[], str]) -> str:
    """What ``call`` of a control answers; ``words`` are dmsetup's for the same, with which it is logged and named in errors.

    Raises ``IoctlFailed`` with the kernel's errno, ``NoSpace`` for ENOSPC, ``CommandFailed`` when time is up, ``Unsupported`` where dmsetup is
    not installed.
    """
    from .._host.child import in_child  # late: a run with nothing to do asks nothing

    runner.find(Program.DMSETUP)  # what comes next needs it, and without it nothing should begin
    line = " ".join(("dmsetup", *words))
    runner.ran.append(line)

    def work() -> dict[str, object]:
        try:
            return {"said": call()}
        except OSError as error:
            return {"errno": error.errno}

    shown = printable(line)
    answer = in_child(work, what=f"`{shown}`", kept_fds=(), timeout_seconds=runner.timeout_seconds)
    if "errno" in answer:
        number = int(answer["errno"])
        raise kernel_refused(
            CommandFailed(
                f"`{shown}`: the kernel refuses: {os.strerror(number)}",
                hint="`dmesg` often has the kernel's side of it",
                program="dmsetup",
            ),
            number,
        )
    return str(answer["said"])


def _ioctl(number: int, name: str, data: bytes, *, flags: int = 0) -> bytes:
    """The data that the kernel answers."""
    encoded = os.fsencode(name)
    if len(encoded) > _MAX_NAME_BYTES:
        raise AssertionError(f"a device's name is at most {_MAX_NAME_BYTES} bytes long")
    size = _HEADER.size + len(data)
    header = _HEADER.pack(*_VERSION, size, _HEADER.size, 0, 0, flags, 0, 0, 0, encoded, b"")
    buffer = bytearray(header + data)
    try:
        fd = os.open(_NODE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Unsupported(f"{_NODE} cannot be opened: {error.strerror}", hint=NO_DRIVER_HINT) from None
    try:
        # _IOWR(DM_IOCTL, number, struct dm_ioctl) of asm-generic/ioctl.h
        fcntl.ioctl(fd, 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | number, buffer, True)
    finally:
        os.close(fd)
    start = int(_HEADER.unpack_from(buffer)[4])
    return bytes(buffer[start:])
