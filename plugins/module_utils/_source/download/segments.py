# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bytes of an object were received, and which are still missing.

Invariant: a byte counts as received only after it was written. One worker owns a segment and moves its ``next_byte`` forward;
all others only read it (one attribute, one writer: no lock is needed).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

Span = tuple[int, int]  # first byte, and the byte after the last


@dataclass
class Segment:
    """The bytes ``first_byte`` to ``end_byte`` (not included); those before ``next_byte`` are here."""

    first_byte: int
    end_byte: int
    next_byte: int


class Ledger:
    """All segments of an object of ``size_bytes``, ``have`` of which is here already."""

    def __init__(self, size_bytes: int, segment_bytes: int, have: Iterable[Span] = ()) -> None:
        self.size_bytes = size_bytes
        self.segments = list(_segments(size_bytes, segment_bytes, merged(have)))
        missing = [one for one in self.segments if one.next_byte < one.end_byte]
        self.missing_segments = len(missing)
        self._unclaimed = iter(missing)
        self._lock = threading.Lock()
        self._cursor = 0

    def claim(self) -> Segment | None:
        """The next segment that is not taken, in order; ``None`` when all are taken."""
        with self._lock:
            return next(self._unclaimed, None)

    def received_bytes(self) -> int:
        """How many bytes are here, wherever they are."""
        return sum(one.next_byte - one.first_byte for one in self.segments)

    def contiguous_bytes(self) -> int:
        """How many bytes are here from the first one on without a gap; for one reader."""
        while self._cursor < len(self.segments):
            segment = self.segments[self._cursor]
            if segment.next_byte < segment.end_byte:
                return segment.next_byte
            self._cursor += 1
        return self.size_bytes

    def spans(self) -> list[Span]:
        """What is here, merged and in order."""
        return merged((one.first_byte, one.next_byte) for one in self.segments)


def merged(spans: Iterable[Span]) -> list[Span]:
    """``spans`` in order, with those that touch or overlap made one and empty ones left out."""
    found: list[Span] = []
    for first, end in sorted(spans):
        if end <= first:
            continue
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return found


def without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """``spans`` merged, less every byte of ``holes``."""
    found = merged(spans)
    for first, end in merged(holes):
        found = [piece for span in found for piece in ((span[0], min(span[1], first)), (max(span[0], end), span[1]))]
        found = [piece for piece in found if piece[0] < piece[1]]
    return found


def _segments(size_bytes: int, segment_bytes: int, have: list[Span]) -> Iterable[Segment]:
    at = 0
    for first, end in [*have, (size_bytes, size_bytes)]:
        while at < first:
            stop = min(first, at + segment_bytes)
            yield Segment(at, stop, at)
            at = stop
        if end > first:
            yield Segment(first, end, end)
            at = end
