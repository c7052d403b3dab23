# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A limit of the bytes per second that all connections of a download receive together: a token bucket.

Invariant: ``wait`` returns no earlier than when all bytes so far, of all threads, may have been received. What
was left unused is kept for ``_KEPT_SECONDS`` only, so no burst is larger than that. Bytes are counted once they were read: what the kernel
has received ahead of that is at most its buffers, and no more comes until they are read.
"""

from __future__ import annotations

import threading
import time
from typing import Callable

_KEPT_SECONDS = 0.25
_SLICE_SECONDS = 0.25
_LEAST_BYTES = 1 << 10


class Rate:
    """At most ``bytes_per_second`` from the first bytes on; 0 is no limit. May be shared by threads."""

    def __init__(
        self,
        bytes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until: float | None = None  # when the bytes so far may have been received

    def chunk_bytes(self, most_bytes: int) -> int:
        """How much to read at a time instead of ``most_bytes``, so that no connection is left alone for long while the others wait."""
        if not self._bytes_per_second:
            return most_bytes
        return min(most_bytes, max(_LEAST_BYTES, round(self._bytes_per_second * _SLICE_SECONDS)))

    def seconds_for(self, count: int) -> float:
        """How long ``count`` bytes take at this rate."""
        return count / self._bytes_per_second if self._bytes_per_second else 0.0

    def wait(self, count: int, check: Callable[[], None]) -> float:
        """Wait until ``count`` bytes that were read may have been; the seconds that took. ``check`` is called now and then, and may raise."""
        if not self._bytes_per_second:
            return 0.0
        with self._lock:
            begun = self._clock()
            before = begun if self._paid_until is None else max(self._paid_until, begun - _KEPT_SECONDS)
            due = self._paid_until = before + self.seconds_for(count)
        now = begun
        while now < due:
            check()
            self._sleep(min(_SLICE_SECONDS, due - now))
            now = self._clock()
        return now - begun
