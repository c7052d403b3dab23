# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet beside its lock file: which hosts have the generations that were rolled out last, and which of them are in trouble.

Invariant: a host has one state, the worst that is true of it. Nothing is asked but what flyd_info has returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import results, words
from .results import Variables
from .state import NO_ANSWER

# behind, ahead: another generation than the locked one, bound before or after that was written. not_locked: a key that the file does not have.
STATES = ("absent", "trouble", "unconfirmed", "behind", "ahead", "not_locked", "empty", "as_locked")
_SAID = {
    "absent": "absent",
    "trouble": "in trouble",
    "unconfirmed": "not confirmed yet",
    "behind": "behind",
    "ahead": "ahead",
    "not_locked": "not locked",
    "empty": "without an instance",
    "as_locked": "as locked",
}


class Row(NamedTuple):
    """One host: its state, why, and the digest of each of its instances."""

    host: str
    state: str
    text: str = ""
    instances: Mapping[str, str] = {}
    is_low: bool = False


def fleet_drift(variables: Mapping[str, Variables], hosts: Sequence[str], lock: Mapping[str, Any]) -> dict[str, Any]:
    """The hosts by state, a row for each, and lines for people."""
    rows = [row_of(host, variables[host], lock) for host in hosts]
    by_state = {state: [row.host for row in rows if row.state == state] for state in STATES}
    counts = [f"{len(by_state[state]):,} {_SAID[state]}" for state in reversed(STATES) if by_state[state]]
    return {
        **by_state,
        "rows": [row._asdict() for row in rows],
        "wrong": [row.host for row in rows if row.state not in ("as_locked", "empty")],
        "lines": [words.line("Fleet", counts), *_groups(rows)],
    }


def row_of(host: str, variables: Variables, lock: Mapping[str, Any]) -> Row:
    """The state of one host."""
    seen = results.result(variables, "__fleet_seen")
    if not seen.ok:
        return Row(host, "absent", NO_ANSWER if seen.unreachable or not seen.ran else seen.message)
    [facts] = seen.items
    instances = facts.get("instances") or ()
    digests = {str(one["name"]): str(one.get("current") or "") for one in instances}
    is_low = any(one.get("is_low") for one in facts.get("pools") or ())
    found = [*_trouble(facts), *(_judged(one, lock) for one in instances)] or [("empty", "")]
    state, text = min(found, key=lambda one: STATES.index(one[0]))
    return Row(host, state, text, digests, is_low)


def _trouble(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What flyd_info calls drift; an instance that waits for its confirmation has a state of its own."""
    found = [one for one in facts.get("drift") or () if one.get("kind") != "instance_unconfirmed"]
    return [("trouble", str(one.get("text", ""))) for one in found]


def _judged(instance: Mapping[str, Any], lock: Mapping[str, Any]) -> tuple[str, str]:
    name, key, current = (str(instance.get(word) or "") for word in ("name", "key", "current"))
    locked = lock.get(key)
    text = f"{name} has {current[:12] or 'nothing'} of {key or 'an image that is gone'}"
    if not instance.get("confirmed"):
        return "unconfirmed", text
    if not isinstance(locked, Mapping):
        return "not_locked", text
    if current == locked.get("sha256"):
        return "as_locked", text
    is_newer = str(instance.get("updated_at", "")) > str(locked.get("rolled_out_at", ""))
    return "ahead" if is_newer else "behind", f"{text}, locked is {str(locked.get('sha256'))[:12]}"


def _groups(rows: Sequence[Row]) -> list[str]:
    """One line for all hosts of which the same is wrong."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.state not in ("as_locked", "empty"):
            groups.setdefault((row.state, row.text), []).append(row.host)
    return [f"{_SAID[state]}: {words.hosts(hosts)}: {text}" for (state, text), hosts in groups.items()]
