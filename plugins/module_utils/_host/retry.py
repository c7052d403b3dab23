# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying again: exponential back-off of which half is random, bounded in number and in time.

Invariant: only a ``FlydError`` that says ``retryable`` is tried again, and what was tried is counted and told.
"""

from __future__ import annotations

import random
import time
from typing import Callable, TypeVar

from .._errors import FlydError

T = TypeVar("T")


class Retry:
    """How often and how patiently to try: ``attempts`` in all, waits growing from ``base_seconds`` up to ``cap_seconds``.

    ``tried`` and ``waited_seconds`` add up over the object's life, for the result.
    """

    def __init__(
        self,
        attempts: int = 5,
        base_seconds: float = 0.5,
        cap_seconds: float = 20.0,
        deadline_seconds: float = 600.0,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.attempts = attempts
        self.base_seconds = base_seconds
        self.cap_seconds = cap_seconds
        self.deadline_seconds = deadline_seconds
        self.sleep = sleep
        self.tried = 0
        self.waited_seconds = 0.0

    def call(self, work: Callable[[], T]) -> T:
        """The result of ``work``; raises its last error when attempts or time are used up."""
        until = time.monotonic() + self.deadline_seconds
        for attempt in range(1, self.attempts + 1):
            self.tried += 1
            try:
                return work()
            except FlydError as error:
                pause = self.pause_seconds(attempt, error)
                if not error.retryable or attempt == self.attempts or time.monotonic() + pause > until:
                    self.tell(error, attempt)
                    raise
                self.waited_seconds += pause
                self.sleep(pause)
        raise AssertionError("attempts is at least one")

    def tell(self, error: FlydError, attempts: int) -> None:
        """Let ``error``, which ends the trying, say how often it was tried in a row and how long was waited in all."""
        error.details.setdefault("attempts", attempts)
        if self.waited_seconds:
            error.details.setdefault("waited_seconds", round(self.waited_seconds, 3))

    def pause_seconds(self, attempt: int, error: FlydError) -> float:
        """Seconds before the next try: what the other side asked for, or a random part of the exponential step."""
        asked = error.details.get("retry_after_seconds")
        if isinstance(asked, (int, float)):
            return float(asked)
        step = min(self.cap_seconds, self.base_seconds * float(2 ** (attempt - 1)))
        return random.uniform(step / 2, step)  # noqa: S311 - spreading load, not secrecy
