# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters rollout_state and rollout_plan, without Ansible: variables of hosts in, what the tasks of the role rollout ask of them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import lines, plan, results, words
from .state import ABSENT, Budgets, Rollout, Row, rows_of, summary


def rollout_state(
    variables: Mapping[str, Any],
    hosts: Sequence[str],
    pin: str = "",
    since: str = "",
    short: Mapping[str, str] | None = None,
    max_absent: object = "5%",
    max_lost: object = "2%",
    batch: Sequence[str] = (),
    flipping: Sequence[str] = (),
    waves: object = (),
    check: bool = False,
) -> dict[str, Any]:
    """The states, counts and lines of a rollout; raises ``ValueError`` for a value that is not a budget."""
    budgets = Budgets(words.allowed(max_absent, len(hosts)), words.allowed(max_lost, len(hosts)))
    rows = rows_of(variables.__getitem__, hosts, Rollout(pin, since), short or {})
    state = summary(rows, budgets, first_wave=next(iter(words.waves(waves, _to_flip(rows))), []))
    received = sum(_received(variables[row.host]) for row in rows if row.state != "absent")
    state["lines"] = {
        "plan": lines.plan_line(state),
        "stage": lines.stage_line(state, received),
        "verdict": lines.verdict_line(state, check=check),
        "problems": lines.problem_lines(state),
        "wave": lines.wave_line(batch, words.waves(waves, flipping), state) if batch else "",
    }
    return state


def _to_flip(rows: Sequence[Row]) -> list[str]:
    return [row.host for row in rows if row.state not in ABSENT]


def _received(variables: Mapping[str, Any]) -> int:
    return int((variables.get("__activate_fetched") or {}).get("received_bytes") or 0)


def rollout_plan(
    variables: Mapping[str, Any],
    hosts: Sequence[str],
    first: str,
    pin: str = "",
    instances: Sequence[str] = (),
    pool: str = "pool",
    key: str = "",
) -> dict[str, Any]:
    """The need, the hosts without room, and those that are done."""
    its = variables[first]
    fetched, unpacked = (its.get(name) or {} for name in (results.FETCHED, results.UNPACKED))
    need = plan.need_of(its.get(results.SEEN), its.get("__rollout_measured"), fetched, unpacked, pool)
    seen = {host: variables[host][results.SEEN] for host in hosts if results.result(variables[host], results.SEEN).ok}
    short: dict[str, str] = {}
    for host, facts in seen.items():
        found = plan.shortages(facts, need, str(variables[host].get("activate_pool") or pool), pin)
        if found and host != first:
            short[host] = ", ".join(one.text for one in found)
    frees = {
        host: int((variables[host].get("__rollout_prunable") or {}).get("would_free_bytes") or 0) for host in short
    }
    already = [host for host, facts in seen.items() if plan.has_generation(facts, list(instances), pin)]
    sha256 = str(fetched.get("sha256") or "")
    stem = str(key).rstrip("/").rpartition("/")[2].partition(".")[0]
    return {
        "name": f"{stem}-{(sha256 or 'predicted')[:12]}",
        "sha256": sha256,
        "trust": str(fetched.get("trust") or ""),
        "size": int(fetched.get("size") or 0),
        "need": need._asdict(),
        "short": short,
        "ready": list(seen),
        "already": already,
        "lines": {
            "canary": lines.canary_line(first, fetched, need, already),
            "capacity": lines.capacity_line(len(seen), short, frees),
        },
    }
