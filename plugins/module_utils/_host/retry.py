# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retry transient errors: exponential back-off with full jitter, bounded in number and in time.

Invariant: only a ``FlydError`` that is ``retryable`` is retried, each retry is counted, and an error that ends the retrying says so
(``gave_up``): what calls from further out does not retry it again.
"""

from __future__ import annotations

import random
import time
from typing import Callable, NamedTuple, TypeVar

from .._errors import ErrorKind, FlydError

T = TypeVar("T")


class Failed(NamedTuple):
    """An attempt that failed and will be repeated: ``number`` of ``attempts``, ``what`` was tried, and the wait before the next one."""

    error: FlydError
    number: int
    attempts: int
    pause_seconds: float
    what: str


def is_retryable(error: FlydError) -> bool:
    """Whether ``error`` may be retried, and was not retried already."""
    return error.retryable and not error.gave_up


class Retry:
    """How often and how long to retry: ``attempts`` in all, waits of up to ``base_seconds``, doubled each time up to ``cap_seconds``.

    No attempt begins later than ``deadline_seconds`` after the first failure in a row. ``repeated`` and ``waited_seconds`` add up over the
    object's life, for the result; ``on_retry`` hears of each failure that is retried, perhaps in a thread of its own.
    """

    def __init__(
        self,
        attempts: int = 5,
        base_seconds: float = 0.5,
        cap_seconds: float = 20.0,
        deadline_seconds: float = 600.0,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        on_retry: Callable[[Failed], None] = lambda failed: None,
    ) -> None:
        self.attempts = attempts
        self.base_seconds = base_seconds
        self.cap_seconds = cap_seconds
        self.deadline_seconds = deadline_seconds
        self.sleep = sleep
        self.clock = clock
        self.on_retry = on_retry
        self.repeated = 0
        self.waited_seconds = 0.0

    def call(
        self,
        work: Callable[[], T],
        *,
        what: str = "request",
        may_retry: Callable[[FlydError], bool] = is_retryable,
        deadline_seconds: float | None = None,
    ) -> T:
        """The result of ``work``; raises its last error when attempts or time are used up, or ``may_retry`` says no."""
        until, attempt = 0.0, 0
        while True:
            attempt += 1
            try:
                return work()
            except FlydError as error:
                now = self.clock()
                until = until or now + (self.deadline_seconds if deadline_seconds is None else deadline_seconds)
                pause = self.pause_seconds(attempt, error)
                if not may_retry(error) or attempt >= self.attempts or now + pause > until:
                    self.give_up(error, attempt)
                    raise
                self.repeat(Failed(error, attempt, self.attempts, pause, what))
                self.sleep(pause)

    def repeat(self, failed: Failed) -> None:
        """Count a failure that is about to be retried, and report it."""
        self.repeated += 1
        self.waited_seconds += failed.pause_seconds
        self.on_retry(failed)

    def give_up(self, error: FlydError, attempts: int) -> None:
        """Mark ``error`` as final; it says how often it was tried in a row and how long was waited in all."""
        if attempts > 1 and not error.gave_up and error.kind is not ErrorKind.BUSY:
            error.msg += f" (attempt {attempts} of {self.attempts})"
        error.gave_up = error.gave_up or error.retryable
        error.details.setdefault("attempts", attempts)
        if self.waited_seconds:
            error.details.setdefault("waited_seconds", round(self.waited_seconds, 3))

    def pause_seconds(self, attempt: int, error: FlydError) -> float:
        """Seconds before the next attempt: what the server demands (Retry-After), or a random part of the exponential step."""
        demanded = error.details.get("retry_after_seconds")
        if isinstance(demanded, (int, float)):
            return float(demanded)
        step = min(self.cap_seconds, self.base_seconds * float(2 ** min(attempt - 1, 60)))
        return random.uniform(0, step)  # noqa: S311 - spreading load, not secrecy
