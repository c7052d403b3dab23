# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened in a rollout: one span a task and host, from what a callback sees of the results.

Invariant: nothing of the options of a module is kept, and of its result only what is named here. A span that has not ended is no span.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .. import results

# By the name under which the result is registered, the step; all other tasks are no steps of a rollout.
STEPS = {
    results.SEEN: "plan",
    results.COMPARED: "fetch",
    **results.STAGING,
    results.BOUND: "flip",
    results.CONFIRMED: "confirm",
    results.UNDONE: "undo",
    results.RETURNED: "back",
    results.PRUNED: "prune",
}
STATUSES = ("ok", "changed", "failed", "unreachable")
MAX_TEXT = 600


class Span(NamedTuple):
    """A task on a host; times in seconds since the epoch."""

    host: str
    step: str
    status: str
    begun: float
    ended: float
    wave: int = 0
    received_bytes: int = 0
    error_kind: str = ""
    msg: str = ""
    hint: str = ""


class Recorder:
    """Collects spans, lines of the summary, and what the role says of the rollout."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.lines: list[str] = []
        self.subject: dict[str, Any] = {}
        self.plan: dict[str, Any] = {}
        self.outcome: dict[str, Any] = {}
        self.stopped = ""
        self.wave = 0
        self._begun: dict[tuple[str, str], float] = {}

    def began(self, host: str, registered: str, now: float) -> None:
        """A task began on a host."""
        if registered in STEPS:
            self._begun[host, registered] = now

    def ended(self, host: str, registered: str, given: Mapping[str, Any], now: float) -> Span | None:
        """A task ended on a host; its span, if it is a step that was not skipped."""
        begun = self._begun.pop((host, registered), now)
        found = results.read(given)
        if registered not in STEPS or not found.ran:
            return None
        status = "unreachable" if found.unreachable else "failed" if found.failed else "ok"
        span = Span(
            host,
            STEPS[registered],
            "changed" if status == "ok" and found.changed else status,
            begun,
            now,
            self.wave if STEPS[registered] in ("flip", "confirm", "undo") else 0,
            int(found.number("received_bytes")),
            found.text("error_kind"),
            *(("", "") if status == "ok" else (found.message[:MAX_TEXT], found.text("hint")[:MAX_TEXT])),
        )
        self.spans.append(span)
        return span

    def facts(self, given: Mapping[str, Any]) -> None:
        """What the role has set as facts."""
        for name, kept in (("subject", self.subject), ("plan", self.plan), ("outcome", self.outcome)):
            found = given.get(f"__rollout_{name}")
            if isinstance(found, Mapping):
                kept.clear()
                kept.update(found)

    @property
    def name(self) -> str:
        """The rollout's name; empty until the first host has found the digest."""
        return str(self.plan.get("name") or "")
