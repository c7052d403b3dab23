# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whiteouts: names that say what a layer takes away.

Invariant: no name with a marker in it ever gets into the tree. Source: OCI image-spec, "Representing Changes", "Whiteouts".
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ..names import Path
from ..refusal import malformed
from ..tar.member import Kind, Member

MARKER = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."


class Verdict(enum.Enum):
    """What a member whose name holds a marker is."""

    ORDINARY = "ordinary"
    WHITEOUT = "whiteout"
    OPAQUE = "opaque"
    LEFT_OUT = "left out"


class Reading(NamedTuple):
    """``path`` is what to remove, or the directory to empty."""

    verdict: Verdict
    path: Path


def read(path: Path, member: Member) -> Reading:
    """What the member ``path`` means; raises ``Untrusted`` for a marker that must not be."""
    for at, name in enumerate(path):
        if not name.startswith(MARKER):
            continue
        is_last = at == len(path) - 1
        if is_last and name == _OPAQUE:
            _check_is_empty(member)
            return Reading(Verdict.OPAQUE, path[:-1])
        if name.startswith(_AUFS):  # what aufs keeps for itself: .wh..wh.plnk, .wh..wh.aufs
            return Reading(Verdict.LEFT_OUT, path)
        if not is_last:
            raise malformed("a member below a whiteout", member.name)
        removed = name[len(MARKER) :]
        if removed in (b"", b".", b".."):
            raise malformed("a whiteout of nothing, of its own directory or of the one above", member.name)
        _check_is_empty(member)
        return Reading(Verdict.WHITEOUT, path[:-1] + (removed,))
    return Reading(Verdict.ORDINARY, path)


def _check_is_empty(member: Member) -> None:
    # aufs made all of its whiteouts links to one file, so a hard link may be one too.
    if member.kind not in (Kind.FILE, Kind.HARD_LINK) or member.size:
        raise malformed("a whiteout that is no empty file", member.name)
