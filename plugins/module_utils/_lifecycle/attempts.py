# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retry a whole transition, or a report, after a transient error: the one place that decides which errors are retried, and how.

Invariant: no lock is held while a run waits for its next attempt. Each attempt reads the store and the kernel again, and recovers what the
previous one has left. What an inner layer has retried (a request to S3) is not retried here, so the two never multiply.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Callable, TypeVar

from .._errors import ErrorKind, FlydError
from .outcome import Outcome
from .run import Run

T = TypeVar("T")

# Long enough for a server or a udev that restarts; a program that was killed for its time (command_timeout) is retried once.
DEADLINE_SECONDS = 120.0


class Retried(str, enum.Enum):
    """Whether errors of a kind are retried. ``marked``: only those that are ``retryable``, although their kind is not."""

    YES = "yes"
    MARKED = "marked"
    NO = "no"


# Busy has waits of its own, lock_timeout and 15 seconds for a device: to repeat those would only multiply them.
RETRIED: Mapping[ErrorKind, Retried] = {
    ErrorKind.BAD_INPUT: Retried.NO,
    ErrorKind.UNTRUSTED: Retried.NO,
    ErrorKind.OUT_OF_ORDER: Retried.NO,
    ErrorKind.BUSY: Retried.NO,
    ErrorKind.NO_SPACE: Retried.NO,
    ErrorKind.TRANSIENT: Retried.YES,
    ErrorKind.COMMAND_FAILED: Retried.MARKED,
    ErrorKind.FOREIGN_DEVICE: Retried.NO,
    ErrorKind.DAMAGED_POOL: Retried.NO,
    ErrorKind.CORRUPT_STORE: Retried.NO,
    ErrorKind.UNHEALTHY: Retried.NO,
    ErrorKind.UNSUPPORTED: Retried.NO,
    ErrorKind.INTERNAL: Retried.NO,
}


def may_retry(error: FlydError) -> bool:
    """Whether a transition that ``error`` has ended is tried again."""
    return error.retryable and not error.gave_up and RETRIED[error.kind] is not Retried.NO


def repeated_if_transient(host: Run, work: Callable[[], T], *, what: str) -> T:
    """What ``work`` returns, retried after transient errors as the options say; it must be safe to do again."""
    limit = min(DEADLINE_SECONDS, host.retry.deadline_seconds)
    return host.retry.call(work, what=what, may_retry=may_retry, deadline_seconds=limit)


def attempted(host: Run, work: Callable[[], Outcome], **subject: str) -> Outcome:
    """The outcome of ``work``, retried after transient errors as the options say; ``subject`` names it in the log.

    Adds to the facts ``attempts``, 1 plus whatever was retried (transition or request), 0 when there was nothing to do, and
    ``waited_seconds``. An error has both in its details.
    """
    host.subject = subject
    outcome = repeated_if_transient(host, _Attempt(host, work), what="transition")
    repeated = host.retry.repeated
    was_done = repeated or (outcome.changed and not host.dry_run)
    counted = {"attempts": 1 + repeated if was_done else 0, "waited_seconds": round(host.retry.waited_seconds, 3)}
    return outcome._replace(facts={**outcome.facts, **counted})


class _Attempt:
    """One call an attempt."""

    def __init__(self, host: Run, work: Callable[[], Outcome]) -> None:
        self._host = host
        self._work = work
        self._failed = 0

    def __call__(self) -> Outcome:
        if self._failed:
            self._host.forget_failed_attempt()
        begun = self._host.retry.clock()
        try:
            outcome = self._work()
        except FlydError:
            self._failed += 1
            self._host.failed_seconds += self._host.retry.clock() - begun
            raise
        return self._with_earlier(outcome) if self._failed else outcome

    def _with_earlier(self, outcome: Outcome) -> Outcome:
        """What earlier attempts have done, or begun so that this one has finished it, is the run's work all the same."""
        removed = self._host.removed
        if outcome.changed or not (removed or self._host.has_mended):
            return outcome
        shown = {"removed": list(removed), "warnings": []} if removed and "removed" in outcome.facts else {}
        return outcome._replace(changed=True, facts={**outcome.facts, **shown})
