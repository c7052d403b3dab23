# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters rollout_state and rollout_plan, without Ansible: variables of hosts in, what the tasks of the role rollout ask of them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import lines, plan, results, words
from .generations import has_generation, may_prune, settled_at
from .results import Variables
from .state import Budgets, Rollout, rows_of, summary, to_flip


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
    instances: Sequence[str] = (),
    leave_out: bool = False,
    key: str = "",
    keep: int = 0,
) -> dict[str, Any]:
    """The states, counts and lines of a rollout; raises ``ValueError`` for a value that is not a budget."""
    budgets = Budgets(words.allowed(max_absent, len(hosts)), words.allowed(max_lost, len(hosts)))
    known, rollout = _known(variables, hosts), Rollout(pin, since, instances, leave_out)
    rows = rows_of(known.__getitem__, hosts, rollout, short or {})
    state = summary(rows, budgets, first_wave=next(iter(words.waves(waves, to_flip(rows))), []))
    received = sum(_received(known[row.host]) for row in rows if row.state != "absent")
    state["to_prune"] = [
        row.host
        for row in rows
        if row.state in ("confirmed", "unconfirmed") and _is_to_prune(known[row.host], rollout, key, int(keep))
    ]
    ready = (known[row.host] for row in rows if row.state == "ready")
    settled = settled_at((results.result(its, results.SEEN).items[0], rollout.names_of(its)) for its in ready)
    state["settled_at"] = settled if leave_out else ""
    state["lines"] = {
        "plan": lines.plan_line(state),
        "stage": lines.stage_line(state, received),
        "verdict": lines.verdict_line(state, check=check),
        "problems": lines.problem_lines(state),
        "wave": lines.wave_line(batch, words.waves(waves, flipping), state) if batch else "",
    }
    return state


# Options of the roles that are read here, which may be templates.
_OPTIONS = (results.INSTANCES, "rollout_keep", "activate_pool")


def _known(variables: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Variables]:
    """The variables of each host, read once.

    What Ansible has registered is read as it is: by ``hostvars[host]`` each result would be copied and looked through for templates, which
    takes the controller several times as long. It has none; options may be some.
    """
    read = getattr(variables, "raw_get", None)
    if read is None:
        return {host: variables[host] for host in hosts}
    found = {}
    for host in hosts:
        given = read(host)
        templates = [name for name in _OPTIONS if "{{" in str(given.get(name))]
        found[host] = {**given, **{name: variables[host][name] for name in templates}} if templates else given
    return found


def _is_to_prune(variables: Variables, rollout: Rollout, key: str, keep: int) -> bool:
    seen, names = results.result(variables, results.SEEN).items[0], rollout.names_of(variables)
    return may_prune(seen, names, rollout.pin, key, int(variables.get("rollout_keep", keep)))


def _received(variables: Mapping[str, Any]) -> int:
    return int((variables.get("__activate_fetched") or {}).get("received_bytes") or 0)


def _fetched(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """What flyd_fetch returned on the first host, where it has fetched the object or only compared it."""
    name = results.FETCHED if results.result(variables, results.FETCHED).ran else results.COMPARED
    return variables.get(name) or {}


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
    known = _known(variables, hosts)
    its = known[first]
    fetched, unpacked = _fetched(its), its.get(results.UNPACKED) or {}
    need = plan.need_of(its.get(results.SEEN), its.get("__rollout_measured"), fetched, unpacked, pool)
    seen = {host: its[results.SEEN] for host, its in known.items() if results.result(its, results.SEEN).ok}
    short: dict[str, str] = {}
    for host, facts in seen.items():
        found = plan.shortages(facts, need, str(known[host].get("activate_pool") or pool), pin)
        if found and host != first:
            short[host] = ", ".join(one.text for one in found)
    frees = {host: int((known[host].get("__rollout_prunable") or {}).get("would_free_bytes") or 0) for host in short}
    already = [host for host, facts in seen.items() if has_generation(facts, list(instances), pin)]
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
