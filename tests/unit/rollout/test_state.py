# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rollout_state: each host is in one state, by what was registered of it, and the budgets count all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin_utils._rollout import results, words
from plugin_utils._rollout.filters import rollout_state
from plugin_utils._rollout.state import STATES

NEW, OLD = "b" * 64, "a" * 64
Facts = dict[str, Any]
OK: Facts = {"changed": True}
FAILED: Facts = {"failed": True, "msg": "no", "hint": "make room", "error_kind": "no_space"}
SILENT: Facts = {"unreachable": True, "msg": "Task failed: timed out"}
SKIPPED: Facts = {"skipped": True, "changed": False}


def seen(current: str | None = OLD, previous: str | None = None, updated_at: str = "2026-01-01T00:00:00Z") -> Facts:
    """What flyd_info says of a host with one instance; with ``current`` None, of one without."""
    instance = {"name": "web", "current": current, "previous": previous, "updated_at": updated_at, "confirmed": True}
    return {results.SEEN: {"changed": False, "instances": [instance] if current else []}}


def staged(**others: Facts) -> Facts:
    """A host that has the image."""
    return {**seen(), results.POOL: OK, results.FETCHED: OK, results.UNPACKED: OK, **others}


def flipped(**item: Any) -> Facts:
    """The registered result of the flip, a loop over one instance."""
    one = {"changed": True, "confirmed": True, "previous": OLD, "item": "web", **item}
    return {results.BOUND: {"results": [one], "changed": one["changed"]}}


UNHEALTHY = {"failed": True, "msg": "not healthy", "error_kind": "unhealthy", "details": {"went_back": True}}
HOSTS: list[tuple[str, Facts]] = [
    ("not_asked", {}),
    ("absent", {results.SEEN: SILENT}),
    ("absent", {results.SEEN: FAILED}),
    ("ready", seen()),
    ("ready", {**seen(), results.POOL: OK}),
    ("absent", {**seen(), results.POOL: FAILED, results.FETCHED: SKIPPED, results.UNPACKED: SKIPPED}),
    ("absent", {**seen(), results.POOL: OK, results.FETCHED: SILENT, results.UNPACKED: SKIPPED}),
    ("absent", {**seen(), results.POOL: OK, results.FETCHED: OK, results.UNPACKED: FAILED}),
    ("staged", staged()),
    ("confirmed", staged(**flipped())),
    ("confirmed", staged(**flipped(changed=False))),
    ("unconfirmed", staged(**flipped(confirmed=False))),
    ("confirmed", staged(**flipped(confirmed=False), **{results.CONFIRMED: OK})),
    ("lost", staged(**flipped(confirmed=False), **{results.CONFIRMED: SILENT})),
    ("went_back", staged(**flipped(**UNHEALTHY))),
    ("lost", staged(**flipped(**FAILED))),
    ("lost", staged(**flipped(**SILENT))),
    ("lost", staged(**{results.BOUND: {"failed": True, "msg": "undefined variable"}})),
    ("refused", staged(**flipped(), **{results.REFUSED: {"msg": "latency"}})),
    ("returned", staged(**flipped(), **{results.RETURNED: {"results": [OK]}})),
    ("stuck", staged(**flipped(), **{results.RETURNED: {"results": [SILENT]}})),
]


@pytest.mark.parametrize(("state", "variables"), HOSTS, ids=[f"{n}-{state}" for n, (state, _) in enumerate(HOSTS)])
def test_a_host_is_in_the_state_that_its_results_show(state: str, variables: Facts) -> None:
    found = rollout_state({"h": variables}, ["h"], pin=NEW)
    assert [name for name in STATES if found[name]] == [state]


@settings(deadline=None)
@given(st.lists(st.sampled_from([facts for _, facts in HOSTS]), min_size=1, max_size=30))
def test_states_are_disjoint_and_complete_and_nobody_is_absent_and_lost(fleet: list[Facts]) -> None:
    variables = {f"h{number}": facts for number, facts in enumerate(fleet)}
    found = rollout_state(variables, list(variables), pin=NEW, max_absent=3, max_lost="10%")
    listed = [host for name in STATES for host in found[name]]
    assert sorted(listed) == sorted(variables)
    assert not set(found["absent"]) & set(found["all_lost"])
    assert found["too_many_absent"] == (len(found["absent"]) > 3)
    assert found["too_many_lost"] == (len(found["all_lost"]) > len(fleet) // 10)
    assert set(found["wrong"]) == set(found["why"])
    assert set(found["to_return"]) == set(found["earlier"]) if found["too_many_lost"] else True


def test_a_host_that_is_taken_back_still_counts_as_lost_when_it_was() -> None:
    variables = {"h": staged(**flipped(**SILENT), **{results.RETURNED: {"results": [OK]}})}
    found = rollout_state(variables, ["h"], pin=NEW, max_lost=0)
    assert (found["returned"], found["all_lost"], found["too_many_lost"]) == (["h"], ["h"], True)


@pytest.mark.parametrize(("waves", "ends"), [([1, "100%"], True), ([2, "100%"], False), ([], False)])
def test_a_first_wave_that_is_lost_as_a_whole_ends_the_rollout_whatever_the_budget(
    waves: list[Any], ends: bool
) -> None:
    variables = {"dead": {results.SEEN: SILENT}, "first": staged(**flipped(**UNHEALTHY)), "other": staged(**flipped())}
    batch = ["first"] if ends else ["first", "other"]
    found = rollout_state(variables, list(variables), pin=NEW, max_lost="50%", batch=batch, waves=waves)
    assert (found["too_many_lost"], found["to_return"]) == (ends, ["other"] if ends else [])
    assert ("no other wave begins" in found["lines"]["wave"]) == ends


def test_hosts_go_back_to_what_they_had_when_the_rollout_looked() -> None:
    """A host that did not answer may never have been flipped: the digest keeps it from going back two generations."""
    found = rollout_state({"h": staged(**flipped(**SILENT))}, ["h"], pin=NEW, max_lost=0)
    assert found["earlier"] == {"h": {"web": OLD}}


def test_a_host_without_an_earlier_generation_cannot_go_back() -> None:
    variables = {"h": {**staged(), **seen(current=None), **flipped(previous=None)}, "lost": staged(**flipped(**FAILED))}
    found = rollout_state(variables, ["h", "lost"], pin=NEW, max_lost=0)
    assert (found["cannot_return"], found["to_return"]) == (["h"], ["lost"])


@pytest.mark.parametrize(("updated_at", "goes"), [("2026-01-02T00:00:00Z", ["h"]), ("2025-12-31T00:00:00Z", [])])
def test_what_an_earlier_run_of_the_same_rollout_flipped_goes_back_too(updated_at: str, goes: list[str]) -> None:
    before = seen(current=NEW, previous=OLD, updated_at=updated_at)
    variables = {"h": {**staged(), **before, **flipped(changed=False)}, "lost": staged(**flipped(**UNHEALTHY))}
    found = rollout_state(variables, ["h", "lost"], pin=NEW, since="2026-01-01T00:00:00Z", max_lost=0)
    assert found["to_return"] == goes
    assert found["earlier"] == {host: {"web": OLD} for host in goes}


def test_a_host_that_the_gate_refuses_goes_back_although_the_rollout_goes_on() -> None:
    variables = {"h": staged(**flipped(), **{results.REFUSED: {"msg": "latency"}}), "other": staged(**flipped())}
    found = rollout_state(variables, ["h", "other"], pin=NEW, max_lost=1)
    assert found["to_return"] == ["h"]


def test_a_host_without_room_that_is_left_out_is_absent_until_it_is_staged() -> None:
    found = rollout_state({"a": seen(), "b": staged()}, ["a", "b"], short={"a": "1 MiB short", "b": "1 MiB short"})
    assert (found["absent"], found["staged"]) == (["a"], ["b"])


@pytest.mark.parametrize(
    ("budget", "hosts", "allowed"),
    [("2%", 49, 0), ("2%", 50, 1), ("5%", 1000, 50), (3, 10, 3), ("3", 10, 3), ("0%", 10, 0), ("7%", 100, 7)],
)
def test_a_budget_is_a_number_or_a_share_rounded_down(budget: object, hosts: int, allowed: int) -> None:
    assert words.allowed(budget, hosts) == allowed


@pytest.mark.parametrize("budget", ["some", "-1", "-1%", "101%", "", "2.5"])
def test_a_budget_that_is_none_is_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="share"):
        words.allowed(budget, 10)


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [([1, "5%", "25%", "100%"], [1, 5, 25, 69]), ([1, 30], [1, 30, 30, 30, 9]), ("50%", [50, 50]), ("1%", [1] * 100)],
)
def test_waves_are_divided_as_serial_divides_them(spec: object, sizes: list[int]) -> None:
    assert [len(one) for one in words.waves(spec, [f"h{n}" for n in range(100)])] == sizes
