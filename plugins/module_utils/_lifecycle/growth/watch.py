# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's service: it grows pools that are short of space, at their events and every half minute.

Invariant: it holds nothing between two checks: no lock, no database, no device. It reports a failure once, not at every check, and a failed
pool does not keep it from the others. It checks without writing, and opens the database for writing only to grow a pool.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Protocol

from ..._errors import FlydError
from ..._thin.dm.events import events
from ..._thin.pool.health import status
from ..at_end import at_end
from ..pool.state import growing, is_active
from ..run import Run
from ..store.records import PoolRecord
from ..unexpected import as_flyd_error
from .automatic import grow_if_needed
from .due import Due, growth_due
from .policy import NO_POLICY

LONGEST_SECONDS = 30.0


class Opened(Protocol):
    """Opens the host, as ``run.open_host`` with its settings does."""

    def __call__(self, *, dry_run: bool) -> contextlib.AbstractContextManager[Run]:
        """The host, in a dry run without writing."""


class Say(Protocol):
    """Takes a line for the journal."""

    def __call__(self, line: str, /) -> object:
        """Write it."""


class Watch:
    """What was reported of each pool, and when one is checked again after a failure."""

    def __init__(self, opened: Opened, say: Say) -> None:
        self._opened = opened
        self._say = say
        self._said: dict[str, str] = {}
        self._not_before: dict[str, float] = {}

    def look(self) -> None:
        """One look at all pools."""
        try:
            with self._opened(dry_run=True) as host:
                found = [pool.name for pool in host.store.all(PoolRecord, "formatted") if self._is_due(host, pool)]
        except Exception as error:  # noqa: BLE001 - whatever it is: the next look may succeed
            self._failed("", error)
            return
        self._said.pop("", None)
        for name in found:
            self._grow(name)

    def _is_due(self, host: Run, pool: PoolRecord) -> bool:
        """Whether there is something to do or to tell of the pool."""
        if pool.policy == NO_POLICY or time.monotonic() < self._not_before.get(pool.name, 0.0):
            return False
        try:
            if not is_active(host, pool):
                return False
            due = growth_due(host, pool, status(host.dm, pool.name))
            if not due.why:
                self._said.pop(pool.name, None)
            return due.grows or growing(host, pool) or (bool(due.stops) and self._is_new(due))
        except FlydError as error:
            self._failed(pool.name, error)
            return False

    def _grow(self, name: str) -> None:
        try:
            with self._opened(dry_run=False) as host:
                try:
                    due = grow_if_needed(host, name)
                except FlydError as error:
                    if self._failed(name, error):
                        host.log.failed(error, module="grow", subject=name)
                    return
                finally:
                    at_end(host)
                for one in host.grown:
                    self._say(f"grown: the pool '{name}', {one['why']}")
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(name, error)
            return
        if due is not None and due.stops and self._is_new(due):
            self._said[name] = _text(due)
            self._say(f"cannot grow: the pool '{name}', {due.why}: {_text(due)}")

    def _is_new(self, due: Due) -> bool:
        return self._said.get(due.pool.name) != _text(due)

    def _failed(self, name: str, caught: Exception) -> bool:
        """Wait before the next attempt; says whether this failure is another one than the last."""
        error = as_flyd_error(caught, [])
        text = f"{error.kind.value}: {error}; {error.hint}"
        is_new = self._said.get(name) != text
        self._said[name], self._not_before[name] = text, time.monotonic() + LONGEST_SECONDS
        if is_new:
            self._say(text)
        return is_new


def _text(due: Due) -> str:
    """What stops it; not how much there is, which changes from look to look."""
    return "; ".join(f"{stop.remedy}, or remove what is not used" for stop in due.stops)


def watch(opened: Opened, say: Say, *, program: str, stop_fd: int, longest_seconds: float = LONGEST_SECONDS) -> None:
    """Look until ``stop_fd`` is readable, or the file ``program`` is another than at first: a new release was installed."""
    one, first = Watch(opened, say), _state_of(program)
    with os.fdopen(os.dup(stop_fd), "rb", buffering=0) as stop:
        os.set_blocking(stop.fileno(), False)
        while stop.read(1) is None and _state_of(program) == first:
            with events(stop_fd=stop_fd) as wait:
                one.look()
                wait(longest_seconds)


def _state_of(path: str) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_ino, found.st_mtime_ns
    return (0, 0)
