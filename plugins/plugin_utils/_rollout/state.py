# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far each host of a rollout has come, by the registered results of its tasks; the two budgets counted over all of them.

Invariant: every host is in exactly one state. *Absent* is what was not ready before the first flip, *lost* what failed or went away from
its flip on; no host is both. A host that did not answer is counted, whatever Ansible's own counters say of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from . import results, words
from .generations import is_done
from .results import Result, Variables

# not_asked: no task for it yet. ready, staged: nothing is changed on it. confirmed: as wanted. unconfirmed: flipped, and waits for a word.
# went_back: its flip failed, and it undid that. refused: flipped, and the gate said no. lost: failed, or silent since its flip.
# returned: taken back by the rollout. stuck: to be taken back, and it did not work.
ABSENT, LOST = ("absent",), ("went_back", "refused", "lost")
FLIPPED = ("confirmed", "unconfirmed", "refused")
STATES = ("not_asked", "absent", "ready", "staged", "confirmed", "unconfirmed", *LOST, "returned", "stuck")
NO_ANSWER = "no answer"


class Row(NamedTuple):
    """One host. ``reason`` groups what went wrong; ``was_lost`` outlives that it is taken back.

    ``is_ours``: it was flipped by this run, or by an earlier one of the same rollout. ``earlier`` has the digest to go back to, by instance.
    ``is_left_out``: it had the generation already when the rollout looked, and was asked no more.
    """

    host: str
    state: str
    step: str = ""
    reason: str = ""
    msg: str = ""
    hint: str = ""
    was_lost: bool = False
    changed: bool = False
    is_ours: bool = False
    is_left_out: bool = False
    earlier: Mapping[str, str] = MappingProxyType({})


class Rollout(NamedTuple):
    """Which rollout the rows are of: its digest, and since when (UTC, as flyd_info writes it) a flip to that digest was one of its own.

    ``instances``: their names; a host may have its own. ``leave_out``: a host where they are done already is left out.
    """

    pin: str = ""
    since: str = ""
    instances: Sequence[str] = ()
    leave_out: bool = False

    def names_of(self, variables: Variables) -> Sequence[str]:
        """The instances of a host."""
        given = variables.get(results.INSTANCES) or self.instances
        return [given] if isinstance(given, str) else list(given)

    def leaves_out(self, seen: Result, names: Sequence[str]) -> bool:
        """Whether there is nothing to do on a host."""
        return bool(self.pin) and self.leave_out and is_done(seen.items[0], names, self.pin)


def row_of(host: str, variables: Variables, rollout: Rollout) -> Row:
    """The state of a host by its variables."""
    seen = results.result(variables, results.SEEN)
    if not seen.ran:
        return Row(host, "not_asked")
    if not seen.ok:
        return _wrong(host, "absent", "plan", seen)
    row = _before_flip(host, variables)
    bound = results.result(variables, results.BOUND)
    if bound.ran:
        row = _flipped(host, variables, bound, rollout.pin)
        names = [str(item.get("item", "")) for item in bound.items]
        is_ours = bound.changed or not bound.ok or _is_recent(seen, names, rollout)
        row = row._replace(earlier=_earlier(seen, names, rollout.pin), is_ours=is_ours)
    elif rollout.leaves_out(seen, its := rollout.names_of(variables)):
        earlier, is_ours = _earlier(seen, its, rollout.pin), _is_recent(seen, its, rollout)
        row = Row(host, "confirmed", "plan", earlier=earlier, is_ours=is_ours, is_left_out=True)
    returned = results.result(variables, results.RETURNED)
    return _returned(row, returned) if returned.ran else row


def _before_flip(host: str, variables: Variables) -> Row:
    state = "ready"
    for name, step in results.STAGING.items():
        found = results.result(variables, name)
        if found.ran and not found.ok:
            return _wrong(host, "absent", step, found)
        state = "staged" if step == "unpack" and found.ok else state
    return Row(host, state)


def _flipped(host: str, variables: Variables, bound: Result, pin: str) -> Row:
    if not bound.ok:
        undone = results.result(variables, results.UNDONE)
        is_back = all("went_back" in one for one in bound.bad_details()) and (undone.ok or not undone.ran)
        return _wrong(host, "went_back" if is_back and not bound.unreachable else "lost", "flip", bound)
    refused = variables.get(results.REFUSED)
    if refused:
        why = str(refused.get("msg", "")) if isinstance(refused, Mapping) else ""
        return Row(host, "refused", "gate", "refused", why, was_lost=True)
    confirmed = results.result(variables, results.CONFIRMED)
    if confirmed.ran and not confirmed.ok:
        return _wrong(host, "lost", "confirm", confirmed)
    waits = not confirmed.ok and any(item.get("confirmed") is False for item in bound.items)
    return Row(host, "unconfirmed" if waits else "confirmed", "flip")


def _is_recent(seen: Result, names: Sequence[str], rollout: Rollout) -> bool:
    """Whether the host was flipped by a recent run of this rollout."""
    before = [one for item in seen.items for one in item.get("instances") or () if one.get("name") in names]
    return bool(rollout.since) and any(
        one.get("current") == rollout.pin and str(one.get("updated_at", "")) >= rollout.since for one in before
    )


def _earlier(seen: Result, names: Sequence[str], pin: str) -> dict[str, str]:
    """By instance, what it pointed at before the rollout. One that pointed at the new generation already says what was before."""
    before = {str(one.get("name")): one for item in seen.items for one in item.get("instances") or ()}
    found = {}
    for name in names:
        was = before.get(name, {})
        digest = was.get("previous") if was.get("current") == pin else was.get("current")
        if digest:
            found[name] = str(digest)
    return found


def _returned(row: Row, returned: Result) -> Row:
    if returned.ok:
        return row._replace(state="returned")
    return _wrong(row.host, "stuck", "back", returned)._replace(was_lost=row.was_lost, earlier=row.earlier)


def _wrong(host: str, state: str, step: str, found: Result) -> Row:
    reason = NO_ANSWER if found.unreachable else found.text("error_kind") or "failed"
    return Row(host, state, step, reason, found.message, found.text("hint"), was_lost=state in LOST)


class Budgets(NamedTuple):
    """How many hosts may be absent, and how many lost."""

    absent: int
    lost: int


def rows_of(
    get: Callable[[str], Variables], hosts: Iterable[str], rollout: Rollout, short: Mapping[str, str]
) -> list[Row]:
    """The rows of ``hosts``, in their order; those of ``short`` have no room, and why."""
    rows = (row_of(host, get(host), rollout) for host in hosts)
    return [_without_room(row, short[row.host]) if row.host in short else row for row in rows]


def _without_room(row: Row, msg: str) -> Row:
    if row.state != "ready":
        return row
    return row._replace(state="absent", step="capacity", reason="no room", msg=msg)


def summary(rows: Sequence[Row], budgets: Budgets, first_wave: Sequence[str] = ()) -> dict[str, Any]:
    """Names by state, what is over its budget, and who is to go back if the rollout does, with the digests to go back to.

    When all of ``first_wave`` are lost, that is too many whatever the budget: in a large fleet it is larger than the first wave, and an image
    that works nowhere would reach the second.
    """
    by_state = {state: [row.host for row in rows if row.state == state] for state in STATES}
    lost = [row.host for row in rows if row.was_lost]
    returning = [row for row in rows if row.state in (*FLIPPED, "lost") and row.is_ours]
    refused = [row.host for row in returning if row.state == "refused" and row.earlier]
    too_many = len(lost) > budgets.lost or (bool(first_wave) and set(first_wave) <= set(lost))
    wrong = [row for row in rows if row.was_lost or row.state in (*ABSENT, "stuck")]
    return {
        **by_state,
        "to_flip": to_flip(rows),
        "left_out": [row.host for row in rows if row.is_left_out],
        "all_lost": lost,
        "too_many_absent": len(by_state["absent"]) > budgets.absent,
        "too_many_lost": too_many,
        "allowed_absent": budgets.absent,
        "allowed_lost": budgets.lost,
        "to_return": [row.host for row in returning if row.earlier] if too_many else refused,
        "refused_to_return": refused,
        "cannot_return": [row.host for row in returning if not row.earlier],
        "earlier": {row.host: dict(row.earlier) for row in returning if row.earlier},
        "wrong": [row.host for row in wrong],
        "why": {row.host: why(row) for row in wrong},
        "problems": problems(rows),
    }


def to_flip(rows: Sequence[Row]) -> list[str]:
    """The hosts of all waves, in their order."""
    return [row.host for row in rows if row.state not in ABSENT and not row.is_left_out]


def why(row: Row) -> str:
    """What went wrong on a host, in a sentence, with what to do about it."""
    text = f"{row.state.replace('_', ' ')} at {row.step}: {row.msg or row.reason}"
    return f"{text} ({row.hint})" if row.hint else text


def problems(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What went wrong, grouped by state, step and reason, the largest group first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.reason:
            groups.setdefault((row.state, row.step, row.reason), []).append(row)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        {
            "state": state,
            "step": step,
            "reason": reason,
            "hosts": [row.host for row in found],
            "msg": next((row.msg for row in found if row.msg), ""),
            "hint": next((row.hint for row in found if row.hint), ""),
            "text": f"{words.hosts([row.host for row in found])}: {step}: {reason}",
        }
        for (state, step, reason), found in ordered
    ]
