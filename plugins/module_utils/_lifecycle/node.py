# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may open a device's node: what was asked for, and what is there."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import NamedTuple

from .._errors import BadInput
from .outcome import Facts

_MAX_ID = 2**32 - 2  # chown(2): the number above means "leave it"


class NodeAccess(NamedTuple):
    """Who may open the device's node: numeric ids, -1 for as it is; mode bits, -1 for as they are."""

    uid: int = -1
    gid: int = -1
    mode: int = -1

    @classmethod
    def parse(cls, owner: str, group: str, mode: str) -> NodeAccess:
        """From names or numbers and an octal string, each empty for "leave it"; raises ``BadInput``."""
        try:
            uid = -1 if not owner else int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
            gid = -1 if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
            bits = -1 if not mode else int(mode, 8)
        except (KeyError, ValueError) as error:
            raise BadInput(
                f"owner, group or mode of the node cannot be used: {error}",
                hint="give names known on this host or numbers, and an octal mode such as '0660'",
            ) from None
        if not -1 <= bits <= 0o777 or mode.startswith("-"):
            raise BadInput(f"mode {mode} is not the mode of a device node", hint="give an octal mode such as '0660'")
        if max(uid, gid) > _MAX_ID:
            raise BadInput(
                f"owner or group of the node is {max(uid, gid)}", hint=f"an id of Linux is at most {_MAX_ID}"
            )
        return cls(uid, gid, bits)

    def asked(self) -> Facts:
        """What was asked for, for a diff; empty when the node may be as it is."""
        wanted = {"uid": self.uid, "gid": self.gid, "mode": self.mode}
        return {name: f"{value:04o}" if name == "mode" else value for name, value in wanted.items() if value >= 0}

    def found(self, path: str) -> Facts:
        """How the node at ``path`` is, of what was asked for."""
        node = os.stat(path)
        there = {"uid": node.st_uid, "gid": node.st_gid, "mode": f"{stat.S_IMODE(node.st_mode):04o}"}
        return {name: there[name] for name in self.asked()}

    def differs(self, path: str) -> bool:
        """Whether the node at ``path`` is not as asked."""
        return self.found(path) != self.asked()

    def apply(self, path: str) -> None:
        """Set what was asked for on the node at ``path``."""
        os.chown(path, self.uid, self.gid)
        if self.mode >= 0:
            os.chmod(path, self.mode)
