# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dmsetup's texts turned into numbers of errno, once.

Invariant: nobody else reads what dmsetup prints on standard error.
"""

from __future__ import annotations

import errno
import os
import re

from .._errors import CommandFailed, FlydError, NoSpace, Unsupported
from .._host.command import Program, Runner

# "device-mapper: message ioctl on pool  failed: File exists"
_IOCTL_FAILED = re.compile(r"^device-mapper: .* ioctl on .*failed: (?P<reason>.+)$", re.MULTILINE)
_ABSENT = re.compile(r"^Device (\S+ not found|does not exist)", re.MULTILINE)
_NO_DRIVER = re.compile(r"/dev/mapper/control|Failure to communicate with kernel device-mapper driver", re.MULTILINE)
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


def _understood(error: CommandFailed, said: str) -> FlydError:
    match = _IOCTL_FAILED.search(said)
    if match and match["reason"] in _NUMBERS:
        number = _NUMBERS[match["reason"]]
        return _no_space(error) if number == errno.ENOSPC else IoctlFailed(error, number)
    if _ABSENT.search(said):
        return IoctlFailed(error, errno.ENXIO)
    if _NO_DRIVER.search(said):
        return Unsupported(
            f"this kernel has no device-mapper, or /dev/mapper/control cannot be opened: {error.msg}",
            hint="load dm_mod, install the package with the kernel's modules, or run the role flyd.lite.prepare on this host",
        )
    return error


def _no_space(error: CommandFailed) -> NoSpace:
    return NoSpace(
        f"the thin pool has no room for its metadata: {error.msg}",
        hint="remove images or snapshots that are not needed, or give the pool a larger metadata device",
        errno="ENOSPC",
    )
