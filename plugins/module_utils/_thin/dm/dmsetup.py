# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dmsetup's texts turned into numbers of errno, once, and the questions that only dmsetup can answer.

Invariant: only this file reads what dmsetup prints on standard error.
"""

from __future__ import annotations

import errno
import os
import re
import time

from ..._errors import CommandFailed, FlydError, NoSpace, Unsupported
from ..._host.processes.command import Program, Runner
from .cookie import udev_runs

# "device-mapper: message ioctl on pool  failed: File exists"
_IOCTL_FAILED = re.compile(r"^device-mapper: .* ioctl on .*failed: (?P<reason>.+)$", re.MULTILINE)
_ABSENT = re.compile(r"^Device (\S+ not found|does not exist)", re.MULTILINE)
_NO_DRIVER = re.compile(r"/dev/mapper/control|Failure to communicate with kernel device-mapper driver", re.MULTILINE)
NO_DRIVER_HINT = (
    "load dm_mod, install the package with the kernel's modules, or run the role flyd.lite.prepare on this host"
)
_NODE_SECONDS = 5.0
_POLL_SECONDS = 0.02
_NUMBERS = {os.strerror(number): number for number in errno.errorcode}


class IoctlFailed(CommandFailed):
    """The kernel refused; ``number`` is its errno."""

    def __init__(self, error: FlydError, number: int) -> None:
        details = {**error.details, "errno": errno.errorcode[number]}
        super().__init__(error.msg, hint=error.hint, retryable=error.retryable, **details)
        self.number = number


def run_dmsetup(runner: Runner, *args: str) -> str:
    """What dmsetup printed; raises ``IoctlFailed`` with the kernel's errno, or ``Unsupported`` when there is no device-mapper."""
    try:
        return runner.run(Program.DMSETUP, *args).stdout
    except CommandFailed as error:
        raise _understood(error, str(error.details.get("stderr", ""))) from None


def half_made_uuid(runner: Runner, name: str) -> str | None:
    """The UUID of a device that has no table, ``None`` when there is no such device.

    One whose making was cut short between its creation and its table. Since Linux 5.15 sysfs does not show it (dm.c registers
    the disk with the first table), but its name and UUID are taken.
    """
    try:
        text = run_dmsetup(
            runner, "info", "--columns", "--noheadings", "--separator", "|", "--options", "uuid,tables_loaded", name
        )
    except IoctlFailed as error:
        if error.number == errno.ENXIO:
            return None
        raise
    uuid, _bar, tables = text.strip().rpartition("|")
    return uuid if tables == "None" else None


def require_target(runner: Runner, target: str) -> None:
    """Raise ``Unsupported`` unless the kernel has ``target`` or can load its module.

    Asking for a target's version makes the kernel look for its module, just as loading a table does (dm-ioctl.c,
    get_target_version, from Linux 5.5 on), but touches no device.
    """
    try:
        run_dmsetup(runner, "target-version", target)
    except CommandFailed:
        if target not in [line.split()[0] for line in run_dmsetup(runner, "targets").splitlines() if line]:
            raise Unsupported(
                f"the kernel {os.uname().release} has no device-mapper target {target}",
                hint="install the package with this kernel's modules (dm_thin_pool), or run the role flyd.lite.prepare on this host",
                target=target,
            ) from None


def wait_for_node(runner: Runner, name: str, path: str) -> None:
    """Return once the node ``path`` is there. Without udev, or with one that lost the event, dmsetup is asked to make it."""
    if os.path.exists(path) or (udev_runs() and _appears(path)):
        return
    run_dmsetup(runner, "mknodes", name)
    if not _appears(path):
        raise Unsupported(
            f"the node {path} does not appear",
            hint="see whether udev runs (`systemctl status systemd-udevd`) and whether /dev/mapper is writable (a container with its own /dev?)",
        )


def unconfirmed(name: str, what: str, error: CommandFailed, *, is_done: bool) -> CommandFailed:
    """``error``, or what it means when time was up although the kernel had done its part."""
    if "returncode" in error.details or not is_done:
        return error
    return CommandFailed(
        f"device {name} is {what}, but udev did not confirm it in time: {error.msg}",
        hint="see `dmsetup udevcookies` and systemd-udevd; running again goes on from there",
        retryable=True,
        device=name,
    )


def _appears(path: str) -> bool:
    until = time.monotonic() + _NODE_SECONDS
    while not os.path.exists(path):
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _understood(error: CommandFailed, said: str) -> FlydError:
    match = _IOCTL_FAILED.search(said)
    if match and match["reason"] in _NUMBERS:
        return kernel_refused(error, _NUMBERS[match["reason"]])
    if _ABSENT.search(said):
        return IoctlFailed(error, errno.ENXIO)
    if _NO_DRIVER.search(said):
        return Unsupported(
            f"this kernel has no device-mapper, or /dev/mapper/control cannot be opened: {error.msg}",
            hint=NO_DRIVER_HINT,
        )
    return error


def kernel_refused(error: CommandFailed, number: int) -> FlydError:
    """``error`` as what it is, now that the kernel's errno is known."""
    return _no_space(error) if number == errno.ENOSPC else IoctlFailed(error, number)


def _no_space(error: CommandFailed) -> NoSpace:
    return NoSpace(
        f"the thin pool has no room for its metadata: {error.msg}",
        hint="remove images or snapshots that are not needed, or give the pool a larger metadata device",
        errno="ENOSPC",
    )
