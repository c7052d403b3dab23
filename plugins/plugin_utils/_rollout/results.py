# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registered results of the tasks of a rollout, read into a few facts.

Invariant: a result of a loop is that of its worst item; what is not there reads as not run. Nothing is raised for what a module did not return.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Variables = Mapping[str, Any]

SEEN = "__rollout_seen"
INSTANCES = "rollout_instances"  # an option, which a host may have of its own
POOL, FETCHED, UNPACKED = "__activate_made", "__activate_fetched", "__activate_unpacked"
COMPARED = "__rollout_compared"  # on the first host, instead of the three before
BOUND, CONFIRMED, REFUSED = "__rollout_bound", "__rollout_confirmed", "__rollout_refused"
UNDONE, RETURNED, PRUNED = "__rollout_undone", "__rollout_returned", "__rollout_pruned"
STAGING = {POOL: "pool", FETCHED: "fetch", UNPACKED: "unpack"}


class Result(NamedTuple):
    """How one task ended on one host. ``items`` are the results of a loop, or the result itself."""

    ran: bool = False
    failed: bool = False
    unreachable: bool = False
    changed: bool = False
    items: tuple[Mapping[str, Any], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it ran and did what it was to do."""
        return self.ran and not self.failed and not self.unreachable

    def text(self, name: str) -> str:
        """The first text ``name`` of an item that failed; of any item when none did."""
        for item in (*self._bad(), *self.items):
            if item.get(name):
                return str(item[name])
        return ""

    @property
    def message(self) -> str:
        """What went wrong, in the words of the module or the connection, without Ansible's own before them."""
        return self.text("msg").removeprefix("Task failed: ")

    def bad_details(self) -> list[Mapping[str, Any]]:
        """The details of the failures, one of each item that failed."""
        return [item.get("details") or {} for item in self._bad()]

    def number(self, name: str) -> float:
        """The sum of a number over all items."""
        return float(sum(item.get(name) or 0 for item in self.items))

    def _bad(self) -> Iterator[Mapping[str, Any]]:
        return (item for item in self.items if item.get("failed") or item.get("unreachable"))


def result(variables: Variables, name: str) -> Result:
    """The registered result ``name`` of a host."""
    given = variables.get(name)
    return read(given) if isinstance(given, Mapping) else Result()


def read(given: Mapping[str, Any]) -> Result:
    """A result as Ansible registers it."""
    items = tuple(one for one in given.get("results") or [given] if isinstance(one, Mapping))
    ran = tuple(one for one in items if not one.get("skipped"))
    if given.get("skipped") or not (ran or given.get("failed")):
        return Result()

    def any_of(name: str) -> bool:
        return bool(given.get(name)) or any(one.get(name) for one in ran)

    return Result(True, any_of("failed"), any_of("unreachable"), any_of("changed"), ran or (given,))
