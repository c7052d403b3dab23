# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a rollout's summary, one a phase.

Invariant: a line names hosts, and counts what it does not name. Every host that is not as wanted is in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import words
from .plan import Need

WORDS = {
    "confirmed": "confirmed",
    "unconfirmed": "not confirmed yet",
    "returned": "taken back",
    "went_back": "went back",
    "refused": "refused by the gate",
    "lost": "lost",
    "stuck": "could not be taken back",
    "staged": "staged",
    "ready": "ready",
    "absent": "absent",
}


def plan_line(state: Mapping[str, Any]) -> str:
    """How many hosts are ready, and the budgets."""
    budgets = f"budget: {state['allowed_absent']} absent, {state['allowed_lost']} lost"
    return words.line("Plan", [f"{len(state['ready']):,} ready", *_wrong(state, ("absent",)), budgets])


def capacity_line(ready: int, short: Mapping[str, str], frees: Mapping[str, int]) -> str:
    """How many have room, and what the others lack."""
    texts = [
        f"{host} {text}" + (f" (prune would free {words.size(frees[host])})" if frees.get(host) else "")
        for host, text in list(short.items())[: words.SHOWN_HOSTS]
    ]
    more = f"and {len(short) - len(texts)} more" if len(short) > len(texts) else ""
    lacking = f"{len(short):,} short: " + ", ".join(texts) + f" {more}" if short else ""
    return words.line("Capacity", [f"{ready - len(short):,} have room", lacking.strip()])


def stage_line(state: Mapping[str, Any], received_bytes: float) -> str:
    """How many have the generation, and how much has come for it."""
    moved = f"{words.size(received_bytes)} received" if received_bytes else ""
    done = f"{len(state['left_out']):,} have it already" if state["left_out"] else ""
    return words.line("Stage", [f"{len(state['staged']):,} staged", done, moved, *_wrong(state, ("absent",))])


def canary_line(host: str, fetched: Mapping[str, Any], need: Need, already: list[str]) -> str:
    """What the first host found: the digest and who vouches for it, and what the others need."""
    digest = f"sha256:{fetched.get('sha256') or 'shown by the download only'}"
    trust = f"trust: {fetched['trust']}" if fetched.get("trust") else ""
    known = "measured" if need.is_measured else "at most, by its tree"
    needs = f"each host needs {words.size(need.archive_bytes)} for the archive"
    tree = f"{words.size(need.data_bytes)} of its pool ({known})" if need.data_bytes else ""
    done = f"{len(already):,} have it already" if already else ""
    return words.line("Canary", [host, digest, trust, needs, tree, done])


def wave_line(batch: Sequence[str], waves: Sequence[Sequence[str]], state: Mapping[str, Any]) -> str:
    """How a wave went; hosts that are lost, with the reason."""
    here = set(batch)
    done = [host for host in (*state["confirmed"], *state["unconfirmed"]) if host in here]
    lost = [host for host in state["all_lost"] if host in here]
    mine = [
        (words.hosts([host for host in one["hosts"] if host in here]), one)
        for one in _problems(state, ("went_back", "refused", "lost"))
    ]
    why = [f"{hosts}: {one['step']}: {one['reason']}" for hosts, one in mine if hosts]
    number = next((index for index, one in enumerate(waves, 1) if batch[0] in one), 1)
    ends = (
        "no host of the first wave is confirmed, so no other wave begins" if number == 1 and lost and not done else ""
    )
    texts = [f"{len(done):,}/{len(batch):,} confirmed", f"lost {len(lost):,}: {'; '.join(why)}" if lost else "", ends]
    return words.line(f"Wave {number}/{max(number, len(waves))}", texts)


def verdict_line(state: Mapping[str, Any], *, check: bool) -> str:
    """Where every host is in the end."""
    counts = [f"{len(state[name]):,} {text}" for name, text in WORDS.items() if state.get(name)]
    return words.line("Would be" if check else "Verdict", counts)


def problem_lines(state: Mapping[str, Any]) -> list[str]:
    """What went wrong with whom, and what to do about it."""
    return [
        " · ".join(part for part in (f"{WORDS[one['state']]}: {one['text']}", one["msg"], one["hint"]) if part)
        for one in state["problems"]
    ]


def _wrong(state: Mapping[str, Any], states: tuple[str, ...]) -> list[str]:
    names = [host for name in states for host in state[name]]
    why = "; ".join(one["text"] for one in _problems(state, states))
    return [f"{len(names):,} absent: {why}"] if names else []


def _problems(state: Mapping[str, Any], states: tuple[str, ...]) -> list[Mapping[str, Any]]:
    return [one for one in state["problems"] if one["state"] in states]
