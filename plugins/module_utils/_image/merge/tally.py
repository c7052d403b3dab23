# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the layers of an image were made of, and what of it could not be kept.

Invariant: each member is compared with the limits before it costs more memory than its header.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from ..._errors import FlydError
from ..._names import printable
from ..extent import Extent
from ..limits import Limits
from ..tar.member import Member
from ..tar.members import TarReader
from ..tar.sparse import RANGE_COST_BYTES

_MAX_NAMES_SHOWN = 12


class Tally:
    """What all layers so far were made of, and what was changed on the way; ``metadata_bytes`` is what it costs in memory."""

    def __init__(self) -> None:
        self.entries = 0
        self.content_bytes = 0
        self.largest_bytes = 0
        self.metadata_bytes = 0
        self.whiteouts = 0
        self.left_out = 0
        self.dropped_xattrs = 0
        self._dropped_names: dict[bytes, int] = {}
        self.clamped_times = 0
        self.tails = 0  # layers with something behind their end

    def drop(self, names: tuple[bytes, ...]) -> None:
        """Count attributes that could not be kept, each by its name as long as there are few names."""
        self.dropped_xattrs += len(names)
        for name in names:
            known = name if name in self._dropped_names or len(self._dropped_names) < _MAX_NAMES_SHOWN else b"others"
            self._dropped_names[known] = self._dropped_names.get(known, 0) + 1

    def warnings(self) -> list[str]:
        """What the operator should know of how the layers were read."""
        said = []
        if self.tails:
            said.append(f"behind the end of {self.tails} of the layers stand bytes that are not part of the image")
        if self.dropped_xattrs:
            names = ", ".join(f"{printable(name)} ({count})" for name, count in sorted(self._dropped_names.items()))
            said.append(f"{self.dropped_xattrs} attributes of files were not kept: {names}")
        return said

    def add(self, member: Member, limits: Limits) -> None:
        """Count ``member``, and refuse it when it is one too many."""
        self.entries += 1
        self.largest_bytes = max(self.largest_bytes, member.size)
        if self.entries > limits.entries:
            limits.exceeded("entries", self.entries, member.name)
        if member.size > limits.file_bytes:
            limits.exceeded("file_bytes", member.size, member.name)
        self.content_bytes += member.size
        if self.content_bytes > limits.content_bytes:
            limits.exceeded("content_bytes", self.content_bytes, member.name)
        self.metadata_bytes += len(member.name) + len(member.link)
        if member.records:
            self.metadata_bytes += sum(len(key) + len(value) for key, value in member.records)
        if member.ranges:
            self.metadata_bytes += RANGE_COST_BYTES * len(member.ranges)
        if self.metadata_bytes > limits.metadata_bytes:
            limits.exceeded("metadata_bytes", self.metadata_bytes, member.name)


COUNTED = ("entries", "content_bytes", "file_bytes", "metadata_bytes")


def whole_needs(tars: Sequence[Extent], limits: Limits, seconds: float) -> dict[str, int] | None:
    """What all members of ``tars`` need of the limits ``COUNTED``; None when that is not known within ``seconds``."""
    free = limits._replace(**dict.fromkeys(COUNTED, sys.maxsize), seconds=1)
    until = time.monotonic() + seconds
    tally = Tally()
    try:
        for tar in tars:
            for member in TarReader(tar, free, terminated=False, is_covered=True):
                tally.add(member, free)
                if not tally.entries & 255 and time.monotonic() > until:
                    return None
    except FlydError:
        return None
    return dict(zip(COUNTED, (tally.entries, tally.content_bytes, tally.largest_bytes, tally.metadata_bytes)))
