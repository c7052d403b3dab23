# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that fill a part file from several connections at once.

Invariant: a chunk is written where it belongs, then counted, and it is of the announced object (``Bucket.open`` sees to it).
After ``stop`` nothing is written any more. Memory is one chunk for each worker, whatever the object's size.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from ..._errors import FlydError
from ..body import Body
from ..source import Source
from .partfile import PartFile
from .retry_policy import WORTH_BYTES, DownloadOptions, Patience, StallDetector, Stopped
from .segments import Ledger, Segment

_JOIN_SECONDS = 5.0


class Receiver:
    """Fetches the ranges that the ledger lacks; use it in a ``with``. ``failure`` is what ended it, if anything did."""

    def __init__(
        self,
        bucket: Source,
        part: PartFile,
        ledger: Ledger,
        patience: Patience,
        options: DownloadOptions,
        *,
        resumable: bool,
    ) -> None:
        self._bucket = bucket
        self._part = part
        self._ledger = ledger
        self._patience = patience
        self._options = options
        self._resumable = resumable
        self._bodies: set[Body] = set()
        self._lock = threading.Lock()
        self.stop = threading.Event()
        streams = min(options.streams, ledger.missing_segments)
        self._threads = [
            threading.Thread(target=self._work, name=f"download-{number}", daemon=True) for number in range(streams)
        ]
        self.news = threading.Event()
        self.failure: BaseException | None = None

    def __enter__(self) -> Receiver:
        for thread in self._threads:
            thread.start()
        return self

    def is_working(self) -> bool:
        """Whether any worker has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        with self._lock:
            for body in self._bodies:
                body.abort()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        try:
            segment = self._ledger.claim()
            while segment is not None:
                self._fetch(segment)
                self.news.set()
                segment = self._ledger.claim()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - a thread has no caller: the reader raises it
            with self._lock:
                self.failure = self.failure or error
            self.stop.set()
        finally:
            self.news.set()

    def _fetch(self, segment: Segment) -> None:
        failures, first_failure = 0, 0.0
        while segment.next_byte < segment.end_byte:
            before = segment.next_byte
            try:
                with self._patience.turn(self.stop):
                    self._receive(segment)
                return
            except FlydError as error:
                if not self._resumable:
                    raise
                if failures == 0 or segment.next_byte - before >= WORTH_BYTES:
                    failures, first_failure = 0, time.monotonic()
                failures += 1
                self._patience.bear(error, failures, first_failure, self.stop)

    def _receive(self, segment: Segment) -> None:
        self._patience.check(self.stop)
        pace = StallDetector(self._options.stall_bytes_per_second, self._options.stall_seconds)
        with self._bucket.open(self._part.info, segment.next_byte, segment.end_byte - 1) as body, self._abortable(body):
            while True:
                chunk = body.read(self._patience.rate.chunk_bytes(self._options.chunk_bytes))
                self._patience.check(self.stop)
                if not chunk:
                    return
                pace.came(len(chunk))
                self._part.write_at(chunk, segment.next_byte)
                segment.next_byte += len(chunk)
                pace.paused(self._patience.pace(len(chunk), self.stop))

    @contextlib.contextmanager
    def _abortable(self, body: Body) -> Iterator[None]:
        with self._lock:
            self._bodies.add(body)
        try:
            yield
        finally:
            with self._lock:
                self._bodies.discard(body)
