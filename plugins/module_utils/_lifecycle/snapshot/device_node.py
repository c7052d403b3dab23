# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owner, group and mode of a device node: as requested, and as they are."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from typing import NamedTuple

from ..._errors import BadInput
from ..._names import printable
from ..outcome import Facts
from .mode import Mode

_MAX_ID = 2**32 - 2  # chown(2): the number above means "leave it"


class NodeAccess(NamedTuple):
    """Who may open the device's node: numeric ids, -1 for as it is; a mode, None for as it is."""

    uid: int = -1
    gid: int = -1
    mode: Mode | None = None

    @classmethod
    def parse(cls, owner: str, group: str, mode: object) -> NodeAccess:
        """From names or numbers, each empty for "leave it", and what ``Mode.parse`` takes; raises ``BadInput`` that names the option."""
        uid = _id("owner", owner, lambda name: pwd.getpwnam(name).pw_uid)
        return cls(uid, _id("group", group, lambda name: grp.getgrnam(name).gr_gid), Mode.parse(mode))

    @classmethod
    def recorded(cls, uid: int, gid: int, bits: int) -> NodeAccess:
        """Numeric ids and mode bits, each -1 for "leave it"."""
        return cls(uid, gid, Mode(bits) if bits >= 0 else None)

    def asked(self, path: str | None = None) -> Facts:
        """What was asked for, for a diff; empty when the node may be as it is. A symbolic mode counts from the one of ``path``."""
        wanted: Facts = {name: value for name, value in (("uid", self.uid), ("gid", self.gid)) if value >= 0}
        if self.mode is not None:
            wanted["mode"] = str(self.mode) if path is None else f"{self.mode.of(_bits(path)):04o}"
        return wanted

    def found(self, path: str) -> Facts:
        """How the node at ``path`` is, of what was asked for."""
        node = os.stat(path)
        there = {"uid": node.st_uid, "gid": node.st_gid, "mode": f"{stat.S_IMODE(node.st_mode):04o}"}
        return {name: there[name] for name in self.asked()}

    def differs(self, path: str) -> bool:
        """Whether the node at ``path`` is not as asked."""
        return self.found(path) != self.asked(path)

    def apply(self, path: str) -> None:
        """Set what was asked for on the node at ``path``. The mode last: a change of the owner may clear bits of it."""
        bits = None if self.mode is None else self.mode.of(_bits(path))
        os.chown(path, self.uid, self.gid)
        if bits is not None:
            os.chmod(path, bits)


def _bits(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _id(option: str, given: str, look_up: Callable[[str], int]) -> int:
    """The numeric id that ``given`` is, or names on this host; -1 when it is empty."""
    if not given:
        return -1
    try:
        found = int(given) if given.isdecimal() else look_up(given)
    except KeyError:
        raise BadInput(
            f"{option} is {printable(given)!r}, which this host does not know",
            hint="give a name that this host knows, or a number",
        ) from None
    if found > _MAX_ID:
        raise BadInput(f"{option} is {found}", hint=f"set owner and group to names, or to ids up to {_MAX_ID}")
    return found
