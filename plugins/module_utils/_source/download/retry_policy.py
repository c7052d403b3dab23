# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retry and timeout policy of a download: consecutive failures, their duration, stalled and slow connections, and the overall deadline.

Invariant: every download ends, and at most ``streams`` ranges are requested at once. Progress resets the count of failures, so a
long download over an unreliable connection can succeed; the overall deadline does not move.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..._errors import BadInput, FlydError, Transient
from ..._host.retry import Failed, Retry, is_retryable
from ..._names import size_text
from .rate import Rate

WORTH_BYTES = 64 << 10  # what must have come between two failures for the second to be a new first one
MAX_STREAMS = 128
_SLICE_SECONDS = 0.25


@dataclass(frozen=True)
class DownloadOptions:
    """How to download.

    ``streams`` ranges of ``segment_bytes`` at a time; an object of one segment comes in one stream. The defaults were measured
    (``make bench-fetch-options``): over a line of 40 ms and 40 MB/s a connection fewer streams are slower and more gain nothing.
    What is received is recorded every ``checkpoint_seconds``: no more is lost by a kill. ``deadline_seconds`` is for the whole
    download; less than ``stall_bytes_per_second`` over ``stall_seconds`` on one connection breaks it off and asks for the rest.
    ``max_bytes_per_second`` is for all streams together; 0 is no limit.
    """

    streams: int = 16
    segment_bytes: int = 8 << 20
    chunk_bytes: int = 256 << 10
    checkpoint_seconds: float = 0.2
    deadline_seconds: float = 3600.0
    stall_seconds: float = 30.0
    stall_bytes_per_second: int = 1024
    max_bytes_per_second: int = 0

    def __post_init__(self) -> None:
        """Raises ``BadInput`` for what would never end or never begin."""
        for name, least, value in (
            ("connections", 1, self.streams),
            ("part_size", 1, self.segment_bytes),
            ("deadline", 0, self.deadline_seconds),
            ("stall_timeout", 0, self.stall_seconds),
            ("stall_rate", 0, self.stall_bytes_per_second),
            ("max_rate", 0, self.max_bytes_per_second),
        ):
            if not least <= value < float("inf"):
                raise BadInput(
                    f"{name}: {value} is less than {least}, or infinite",
                    hint=f"leave {name} out, or give a number of at least {least}",
                )
        if self.streams > MAX_STREAMS:
            raise BadInput(
                f"connections is {self.streams}; at most {MAX_STREAMS} are allowed",
                hint="give connections: 16, which is enough for most networks",
            )


class Stopped(Exception):
    """Another worker has failed permanently: the result of this one is not needed."""


class Patience:
    """Shared by all workers of all objects of one fetch; counts into ``retry`` what it repeats and waits."""

    def __init__(self, retry: Retry, deadline_seconds: float, streams: int = 1, rate: Rate | None = None) -> None:
        self.retry = retry
        self.rate = rate or Rate(0)
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(streams)
        self._given_up = threading.Event()
        self._until = time.monotonic() + deadline_seconds
        self._deadline_seconds = deadline_seconds
        self.repeated = 0
        self.waited_seconds = 0.0

    @contextlib.contextmanager
    def turn(self, stop: threading.Event) -> Iterator[None]:
        """Be one of the streams; waits until there is one free. Raises as ``check`` does."""
        while not self._turns.acquire(timeout=_SLICE_SECONDS):
            self.check(stop)
        try:
            yield
        finally:
            self._turns.release()

    def begin(self) -> None:
        """Take up again what was given up; the time that has passed stays passed."""
        self._given_up.clear()

    def give_up(self) -> None:
        """Stop the downloads of all objects: one of them has failed for good, or the process is to end."""
        self._given_up.set()

    def check(self, stop: threading.Event) -> None:
        """Raise ``Stopped`` when ``stop`` is set, or as ``check_time`` does."""
        if stop.is_set():
            raise Stopped
        self.check_time()

    def check_time(self) -> None:
        """Raise ``Stopped`` when all was given up, or ``Transient`` when the time is up."""
        if self._given_up.is_set():
            raise Stopped
        if time.monotonic() > self._until:
            late = Transient(
                f"the download did not end within {self._deadline_seconds:g} s",
                hint="run again: the download resumes; if the connection is only slow, raise deadline (now "
                f"{self._deadline_seconds:g} s)",
            )
            late.gave_up = True
            raise late

    def pace(self, count: int, stop: threading.Event) -> float:
        """Wait as the rate of all streams asks for after ``count`` bytes; the seconds that took. Raises as ``check`` does."""
        return self.rate.wait(count, lambda: self.check(stop))

    def bear(self, error: FlydError, failures: int, first_failure: float, stop: threading.Event) -> None:
        """Wait before the next try after ``failures`` in a row, or raise ``error`` when no more are due.

        ``first_failure`` is the monotonic time of the first of them.
        """
        pause = self.retry.pause_seconds(failures, error)
        until = min(self._until, first_failure + self.retry.deadline_seconds)
        if not is_retryable(error) or failures >= self.retry.attempts or time.monotonic() + pause > until:
            self.retry.give_up(error, failures)
            raise error
        with self._lock:
            self.repeated += 1
            self.waited_seconds += pause
            self.retry.repeat(Failed(error, failures, self.retry.attempts, pause, "request"))
        self._wait(pause, stop)

    def begin_again(self) -> None:
        """Count a download that begins again from its first byte."""
        with self._lock:
            self.repeated += 1
            self.retry.repeated += 1

    def _wait(self, seconds: float, stop: threading.Event) -> None:
        while seconds > 0:
            self.check(stop)
            self.retry.sleep(min(seconds, _SLICE_SECONDS))
            seconds -= _SLICE_SECONDS


class StallDetector:
    """Distinguishes a trickle from a slow connection: less than ``least_bytes_per_second`` over a whole ``window_seconds``."""

    def __init__(self, least_bytes_per_second: int, window_seconds: float) -> None:
        self._least = least_bytes_per_second
        self._window_seconds = window_seconds
        self._since = time.monotonic()
        self._came = 0

    def paused(self, seconds: float) -> None:
        """Leave out ``seconds`` in which nothing was read."""
        self._since += seconds

    def came(self, count: int) -> None:
        """Note that ``count`` bytes came; raises ``Transient`` when the window that ends now had too few."""
        self._came += count
        spent = time.monotonic() - self._since
        if spent < self._window_seconds:
            return
        if self._came < self._least * spent:
            raise Transient(
                f"only {size_text(self._came)} came in {spent:.0f} s, less than stall_rate",
                hint="run again later, look at the server and the network, or lower stall_rate",
            )
        self._since, self._came = time.monotonic(), 0
