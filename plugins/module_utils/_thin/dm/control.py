# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests put to device-mapper without a program: a target's status, a message to it, how often a device is open, and what sends an event
to udev.

To start dmsetup takes longer than what it does for the first three; and it cannot give a new or resumed device the flags that keep udev's
rules off it (cookie.py). A removal is left to dmsetup: udev's rules do not look at its flags.

Invariant: the kernel is called by a child with a time limit, as a program would be: a disk below that hangs costs us that time, and the run
goes on to say so. Source: linux/dm-ioctl.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import Any, Callable, Protocol

from ..._errors import CommandFailed, Unsupported
from ..._host.processes.command import CommandLine, Program, Runner
from ..._names import printable
from .cookie import Cookie, udev_cookie
from .dmsetup import NO_DRIVER_HINT, kernel_refused

NODE = "/dev/mapper/control"
# struct dm_ioctl: version[3], data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name, uuid
_HEADER = struct.Struct("=6IiIIIQ128s129s7x")
_TARGET = struct.Struct("=QQiI16s")  # struct dm_target_spec: sector_start, length, status, next, target_type
_SECTOR = struct.Struct("=Q")  # struct dm_target_msg, before its text
_VERSION = (4, 0, 0)  # the oldest of this interface, which every kernel takes
_CREATE, _REMOVE, _RESUME, _DEVICE_STATUS, _LOAD, _TABLE_STATUS, _TARGET_MESSAGE = 3, 4, 6, 7, 9, 12, 14
_OPEN_COUNT, _FLAGS = 6, 7  # their places among the fields of the header
_READ_ONLY, _NO_FLUSH, _EVENT_SENT = 1 << 0, 1 << 11, 1 << 13
_STATUS_BYTES = 1 << 16
_OF_PROGRAM = 0.9  # of a program's time is for udev: the waiting ends before the child that waits does
_MAX_NAME_BYTES, _MAX_UUID_BYTES = 127, 128


class Control(Protocol):
    """What takes requests for devices; ``OSError`` has the kernel's errno."""

    def message(self, name: str, text: str) -> str:
        """Send ``text`` to the only target of the device; returns nothing of interest."""

    def status(self, name: str) -> str:
        """The status of the only target, as `dmsetup status --noflush` prints it."""

    def open_count(self, name: str) -> int:
        """How often the device is open: by processes, mounts, devices on top of it, and the kernel's own users."""

    def create(self, name: str, uuid: str, table: str, *, read_only: bool, limit_seconds: float) -> str:
        """Make a device with a table of one line, and return once udev's rules have run; nothing is left when the table is refused."""

    def resume(self, name: str, *, limit_seconds: float) -> str:
        """Let the device run, with the table that was loaded if there is one, and return once udev's rules have run."""


class ControlNode:
    """The kernel's own."""

    def message(self, name: str, text: str) -> str:
        """See ``Control``."""
        _ioctl(_TARGET_MESSAGE, name, _SECTOR.pack(0) + os.fsencode(text) + b"\0")
        return ""

    def status(self, name: str) -> str:
        """See ``Control``."""
        data = _data(_ioctl(_TABLE_STATUS, name, bytes(_STATUS_BYTES), flags=_NO_FLUSH))
        begin, sectors, _status, _next, kind = _TARGET.unpack_from(data)
        said = data[_TARGET.size :].partition(b"\0")[0]
        return f"{begin} {sectors} {os.fsdecode(kind.rstrip(bytes(1)))} {os.fsdecode(said)}"

    def open_count(self, name: str) -> int:
        """See ``Control``."""
        return int(_HEADER.unpack_from(_ioctl(_DEVICE_STATUS, name, b""))[_OPEN_COUNT])

    def create(self, name: str, uuid: str, table: str, *, read_only: bool, limit_seconds: float) -> str:
        """See ``Control``."""
        flags = _READ_ONLY if read_only else 0
        with udev_cookie() as cookie:
            _ioctl(_CREATE, name, b"", flags=flags, uuid=uuid)
            try:
                _ioctl(_LOAD, name, _one_target(table), flags=flags, targets=1)
                _resume(name, cookie, limit_seconds)
            except OSError:
                with contextlib.suppress(OSError):  # the first error is the one to report
                    _ioctl(_REMOVE, name, b"")
                raise
        return ""

    def resume(self, name: str, *, limit_seconds: float) -> str:
        """See ``Control``."""
        with udev_cookie() as cookie:
            _resume(name, cookie, limit_seconds)
        return ""


def ask(runner: Runner, words: tuple[str, ...], call: Callable[[], str]) -> str:
    """What ``call`` of a control answers; ``words`` are dmsetup's for the same, with which it is logged and named in errors.

    Raises ``IoctlFailed`` with the kernel's errno, ``NoSpace`` for ENOSPC, ``CommandFailed`` when time is up, ``Unsupported`` where dmsetup is
    not installed.
    """
    runner.find(Program.DMSETUP)  # what comes next needs it, and without it nothing should begin
    line = CommandLine("dmsetup", *words)
    if runner.ran[-1:] != [line]:  # what is asked until the answer changes is one line
        runner.ran.append(line)

    def work() -> dict[str, object]:
        try:
            return {"said": call()}
        except OSError as error:
            return {"errno": error.errno}

    shown = printable(line)
    answer = _in_child(work, f"`{shown}`", runner.timeout_seconds)
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


def _in_child(work: Callable[[], dict[str, object]], what: str, timeout_seconds: float) -> Any:
    from ..._host.processes.child import in_child  # late: a run with nothing to do asks nothing

    return in_child(work, what=what, kept_fds=(), timeout_seconds=timeout_seconds)


def create(runner: Runner, control: Control, name: str, uuid: str, table: str, *, read_only: bool) -> None:
    """Make a device as ``Control`` says. Errors as of ``ask``; ``CommandFailed`` when udev is not done with it in time."""
    words = ("create", name, "--uuid", uuid, *(["--readonly"] if read_only else []), "--table", table)
    limit = _OF_PROGRAM * runner.timeout_seconds
    ask(runner, words, lambda: control.create(name, uuid, table, read_only=read_only, limit_seconds=limit))


def resume(runner: Runner, control: Control, name: str) -> None:
    """Let a device run as ``Control`` says. Errors as of ``create``."""
    limit = _OF_PROGRAM * runner.timeout_seconds
    ask(runner, ("resume", name), lambda: control.resume(name, limit_seconds=limit))


def _resume(name: str, cookie: Cookie, limit_seconds: float) -> None:
    answer = _ioctl(_RESUME, name, b"", event_number=cookie.event_number)
    if int(_HEADER.unpack_from(answer)[_FLAGS]) & _EVENT_SENT:
        cookie.wait(limit_seconds)


def _one_target(table: str) -> bytes:
    """The line of a table as the kernel takes it: struct dm_target_spec, the arguments, a NUL, all of it a multiple of 8 bytes."""
    begin, sectors, kind, arguments = [*table.split(None, 3), ""][:4]
    text = os.fsencode(arguments) + b"\0"
    text += bytes(-len(text) % 8)
    return _TARGET.pack(int(begin), int(sectors), 0, _TARGET.size + len(text), os.fsencode(kind)) + text


def _ioctl(
    number: int, name: str, data: bytes, *, flags: int = 0, uuid: str = "", targets: int = 0, event_number: int = 0
) -> bytes:
    """The kernel's answer, its header included."""
    encoded, mark = os.fsencode(name), os.fsencode(uuid)
    if len(encoded) > _MAX_NAME_BYTES:
        raise AssertionError(f"a device's name is at most {_MAX_NAME_BYTES} bytes long")
    if len(mark) > _MAX_UUID_BYTES:
        raise AssertionError(f"a device's UUID is at most {_MAX_UUID_BYTES} bytes long")
    size = _HEADER.size + len(data)
    header = _HEADER.pack(*_VERSION, size, _HEADER.size, targets, 0, flags, event_number, 0, 0, encoded, mark)
    buffer = bytearray(header + data)
    try:
        fd = os.open(NODE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Unsupported(f"{NODE} cannot be opened: {error.strerror}", hint=NO_DRIVER_HINT) from None
    try:
        # _IOWR(DM_IOCTL, number, struct dm_ioctl) of asm-generic/ioctl.h
        fcntl.ioctl(fd, 3 << 30 | _HEADER.size << 16 | 0xFD << 8 | number, buffer, True)
    finally:
        os.close(fd)
    return bytes(buffer)


def _data(answer: bytes) -> bytes:
    return answer[int(_HEADER.unpack_from(answer)[4]) :]
