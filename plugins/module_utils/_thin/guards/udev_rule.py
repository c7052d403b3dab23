# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host has the udev rule of the role prepare, and which devices udev has not processed with it.

udev keeps a record of each device below /run/udev/data, named by the device's number. The rule sets a property in it, whose value is the
rule's version: a record without it is of an event that udev processed without the rule, or with an earlier version of it.

Invariant: only reads files. The role prepare runs this file on the host as it is: nothing but the standard library is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..dm.device import Device

RULE = "10-flyd.rules"
VERSION = "1"  # another one whenever the rule does something else
_DIRECTORIES = ("etc/udev/rules.d", "run/udev/rules.d", "usr/local/lib/udev/rules.d", "usr/lib/udev/rules.d")
_POOL_FILE = re.compile(r"/pools/.{26}/(data|metadata)")
_PREPARE = "run the role flyd.lite.prepare on this host"


def missing_rule(devices: Iterable[Device], *, root: str = "/") -> list[str]:
    """What keeps the rule from acting on ``devices``, a sentence each; ``root`` is where the host's files begin. Without udev: nothing."""
    if not os.path.exists(os.path.join(root, "run/udev/control")):
        return []
    found = [path for path in (os.path.join(root, one, RULE) for one in _DIRECTORIES) if os.path.exists(path)]
    if not found:
        return [f"the udev rule {RULE} is missing: udev may read what a guest has written; {_PREPARE}"]
    if f'ENV{{FLYD_RULES}}="{VERSION}"' not in _text(found[0]):  # it hides those of the other directories
        return [f"{found[0]} is not the udev rule of this release: udev may read what a guest has written; {_PREPARE}"]
    return [
        f"the udev rule {RULE} has not been applied to {device.name}: "
        f"run `udevadm control --reload` and `udevadm trigger {device.path}`"
        for device in devices
        if not is_applied(device.number, root)
    ]


def is_applied(number: str, root: str) -> bool:
    """Whether udev has processed the device ``number`` ("254:3") with this version of the rule."""
    return f"E:FLYD_RULES={VERSION}" in _text(os.path.join(root, "run/udev/data", f"b{number}")).splitlines()


def not_applied(root: str = "/") -> list[str]:
    """The kernel's names of the devices that the rule is for and that udev has not processed with it."""
    blocks = os.path.join(root, "sys/block")
    try:
        names = sorted(os.listdir(blocks))
    except OSError:
        return []
    ours = [name for name in names if _is_ours(os.path.join(blocks, name))]
    return [name for name in ours if not is_applied(_text(os.path.join(blocks, name, "dev")).strip(), root)]


def _is_ours(directory: str) -> bool:
    """Whether the rule is for the block device of that directory in sysfs."""
    if _text(os.path.join(directory, "dm/uuid")).startswith("FLYD-"):
        return True
    return _POOL_FILE.search(_text(os.path.join(directory, "loop/backing_file"))) is not None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
