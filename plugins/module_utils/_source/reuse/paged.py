# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An object that is read here and there before its download: what is read comes by ranged requests, and stays in the part file.

Invariant: what was read is of the announced object, as every range of a download is, and lies in the part file where it belongs. The walk
is bounded whatever the object holds: by the requests in a row that found nothing here, by bytes, and by time.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterable

from ..._errors import FlydError
from ..download.partfile import PartFile
from ..download.retry_policy import DownloadOptions, Patience
from ..download.run_concurrently import together
from ..download.segments import Span, merged, without
from ..s3_errors import ObjectChanged, RangesRefused
from ..source import Source

_MAX_MISSES = 64
_MAX_SECONDS = 3.0
_MAX_PERCENT = 2
AHEAD_AT_ONCE = 16


class NotWorthIt(Exception):
    """Reading the object here and there takes more than it can save."""


class Paged:
    """The object of ``part``, read on demand. ``spans`` are what came; ``requests`` is how many requests that took."""

    def __init__(self, bucket: Source, part: PartFile, patience: Patience, options: DownloadOptions) -> None:
        self._bucket = bucket
        self._part = part
        self._patience = patience
        self._options = options
        self._misses = 0
        self._received_bytes = 0
        self._until = time.monotonic() + _MAX_SECONDS
        self._failures: list[FlydError] = []
        self._lock = threading.Lock()
        self.spans: list[Span] = []
        self.requests = 0

    @property
    def size_bytes(self) -> int:
        """The size of the object."""
        return self._part.info.size_bytes

    def read(self, offset: int, least: int, most: int = 0) -> bytes:
        """``least`` bytes from ``offset`` on, fewer at the end of the object; up to ``most`` where they are here, or a request is made anyway.

        Raises ``NotWorthIt``, and what a request raises.
        """
        self._patience.check_time()
        end = min(self.size_bytes, offset + max(least, most))
        missing = without([(offset, end)], self.spans)
        if missing and missing[0][0] >= offset + least:
            end, missing = missing[0][0], []
        self._misses = self._misses + 1 if missing else 0
        self._refuse_too_much(sum(stop - first for first, stop in missing))
        try:
            for first, stop in missing:
                self._get(first, stop)
        except FlydError as error:
            self._failures.append(error)
            raise
        return self._part.bytes_at(offset, max(0, end - offset))

    def lacks(self, offset: int, length: int) -> bool:
        """Whether not all of these bytes have come."""
        return bool(without([(offset, min(self.size_bytes, offset + length))], self.spans))

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Request at once what will probably be read, within half of the bytes that reading may take; what fails is read later."""
        within, wanted = self.size_bytes * _MAX_PERCENT // 200 - self._received_bytes, list[Span]()
        # What is expected before the beginning or behind the end of the object is not there: a request for it would be refused.
        inside = ((max(0, first), min(end, self.size_bytes)) for first, end in spans)
        for first, end in without([one for one in inside if one[0] < one[1]], self.spans):
            within -= end - first
            if within >= 0:
                wanted.append((first, end))
        self._received_bytes += sum(end - first for first, end in wanted)
        works = [functools.partial(self._prefetch_one, *span) for span in wanted]
        if works:
            together(works, at_once=AHEAD_AT_ONCE, give_up=self._patience.give_up)

    def _prefetch_one(self, first: int, end: int) -> None:
        try:
            self._get(first, end)
        except NotWorthIt:
            return
        except FlydError as error:
            self._failures.append(error)

    def check(self) -> None:
        """Raise what a request has met that concerns the whole download, whatever the reader has made of it."""
        for failure in self._failures:
            if isinstance(failure, (ObjectChanged, RangesRefused)):
                raise failure

    def _refuse_too_much(self, count_bytes: int) -> None:
        self._received_bytes += count_bytes
        if (
            self._misses > _MAX_MISSES
            or self._received_bytes * 100 > self.size_bytes * _MAX_PERCENT
            or time.monotonic() > self._until
        ):
            raise NotWorthIt

    def _allow(self, seconds: float) -> None:
        """Leave out of the time limit what the rate asks for: the download is as slow, so the search saves as much."""
        with self._lock:
            self._until += seconds

    def _get(self, first: int, stop: int) -> None:
        failures, first_failure, never = 0, time.monotonic(), threading.Event()
        while True:
            try:
                with self._patience.turn(never):
                    self._receive(first, stop, never)
                break
            except FlydError as error:
                failures += 1
                self._patience.bear(error, failures, first_failure, never)
                self._refuse_too_much(0)
        with self._lock:
            self.spans = merged([*self.spans, (first, stop)])

    def _receive(self, first: int, stop: int, never: threading.Event) -> None:
        with self._lock:
            self.requests += 1
        with self._bucket.open(self._part.info, first, stop - 1) as body:
            at = first
            while chunk := body.read(self._patience.rate.chunk_bytes(self._options.chunk_bytes)):
                self._part.write_at(chunk, at)
                at += len(chunk)
                self._patience.pace(len(chunk), never)
                self._allow(self._patience.rate.seconds_for(len(chunk)))
                self._refuse_too_much(0)
