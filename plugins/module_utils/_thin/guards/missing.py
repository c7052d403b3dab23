# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find which of the guards that keep the host from reading guests' data are missing on this host.

The flags of each event (cookie.py) need nothing on the host. The other guards are files that the role prepare installs: a rule for udev, and a
filter for LVM and a setting for mdadm, which also read devices without udev.

Invariant: only reads files. Each message names the file and the remedy.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..._host.processes.command import SEARCH_PATH
from ..dm.cookie import udev_runs
from ..dm.device import Device
from .mdadm import look, text_of
from .udev_rule import RULE, missing_rule

NAMES = "by-path/flyd-"  # of devices that LVM is to leave alone; the rule gives them
_LVM_FILES = ("etc/lvm/lvmlocal.conf", "etc/lvm/lvm.conf")
_PREPARE = "run the role flyd.lite.prepare on this host"


class Lack(NamedTuple):
    """What keeps ``program`` (udev, lvm or mdadm) from leaving guests' data alone; ``subject`` is the file or program concerned."""

    program: str
    subject: str
    text: str


def missing_guards(devices: Iterable[Device], *, root: str = "/", search: tuple[str, ...] = SEARCH_PATH) -> list[Lack]:
    """Each thing that this host lacks. ``devices`` are ours that are mapped; ``root`` is where the host's files begin."""
    if not udev_runs(os.path.join(root, "run/udev")):
        return []  # a container without udev: none of what follows acts on its devices
    return [
        *(Lack("udev", RULE, text) for text in missing_rule(devices, root=root)),
        *(Lack("lvm", "lvm", text) for text in _of_lvm(root, search)),
        *(Lack("mdadm", "mdadm", text) for text in _of_mdadm(root, search)),
    ]


def _of_lvm(root: str, search: tuple[str, ...]) -> Iterator[str]:
    if not _has("lvm", search):
        return
    if not any(NAMES in _settings(os.path.join(root, path)) for path in _LVM_FILES):
        yield (
            f"LVM may read what a guest has written: {_PREPARE}; "
            f'where lvm.conf has a global_filter of its own, add "r|/dev/disk/{NAMES}|" as its first pattern'
        )


def _of_mdadm(root: str, search: tuple[str, ...]) -> Iterator[str]:
    if not _has("mdadm", search):
        return
    found = look(root)
    for name in found.of_guests:
        yield f"the array {name} is of devices of guests alone: run `mdadm --stop /dev/{name}`"
    unlisted = ", ".join(found.unlisted)
    hint = "add its line of `mdadm --detail --scan` to mdadm.conf"
    if found.is_off:
        if unlisted:
            yield f"mdadm will not assemble {unlisted} when the host boots, for no ARRAY line names it by its UUID: {hint}"
        return
    what = "`mdadm --assemble --scan` may start an array that a guest has written"
    if found.auto_file not in ("", found.drop_in):
        yield f"{what}: {found.auto_file} has an AUTO line that does not begin with -all; make it `AUTO -all`"
    elif unlisted:
        yield f"{what}: no ARRAY line names {unlisted} by its UUID; {hint}, then {_PREPARE}"
    else:
        yield f"{what}: {_PREPARE}, with prepare_mdadm: true"


def _has(program: str, search: tuple[str, ...]) -> bool:
    return shutil.which(program, path=os.pathsep.join(search)) is not None


def _settings(path: str) -> str:
    """The lines of a file that are no comments."""
    return "\n".join(line for line in text_of(path).splitlines() if not line.lstrip().startswith("#"))
