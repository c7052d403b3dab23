# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a rollout leaves out, as they have the generation already, and where flyd_prune is run after it."""

from __future__ import annotations

from typing import Any

import pytest

from plugin_utils._rollout import results
from plugin_utils._rollout.filters import rollout_plan, rollout_state

NEW, OLD, OLDER = "b" * 64, "a" * 64, "c" * 64
KEY = "images/redis.tar"
Facts = dict[str, Any]


def instance(name: str = "web", **others: Any) -> Facts:
    """An instance that has the generation of the rollout."""
    facts = {"name": name, "key": KEY, "current": NEW, "previous": OLD, "confirmed": True, "in_place": True}
    return {**facts, "updated_at": "2026-01-02T00:00:00Z", **others}


def generation(sha256: str, **others: Any) -> Facts:
    return {"key": KEY, "sha256": sha256, "has_base": True, "confirmed_at": "2026-01-01T00:00:00Z", **others}


def seen(*instances: Facts, generations: tuple[Facts, ...] = (), **others: Any) -> Facts:
    """What flyd_info says of a host."""
    facts = {"changed": False, "instances": list(instances), "operations": [], "generations": list(generations)}
    return {results.SEEN: {**facts, **others}}


def counted(variables: Facts, *, instances: tuple[str, ...] = ("web",), **options: Any) -> Facts:
    options = {"pin": NEW, "leave_out": True, "key": KEY, "keep": 2, "since": "2026-01-01T00:00:00Z", **options}
    return rollout_state({"h": variables}, ["h"], instances=instances, **options)


WORK: dict[str, Facts] = {
    "another generation": seen(instance(current=OLD)),
    "not confirmed": seen(instance(confirmed=False)),
    "a link or a device that is gone": seen(instance(in_place=False)),
    "an interrupted run": seen(instance(), operations=[{"kind": "prune"}]),
    "operations that were not asked for": seen(instance(), operations=None),
    "no instance": seen(),
    "one of two instances": seen(instance(), instance("db", current=OLD)),
}


def test_a_host_that_has_the_generation_is_confirmed_and_left_out() -> None:
    found = counted(seen(instance(), instance("other", current=OLD)))
    assert (found["confirmed"], found["left_out"], found["to_flip"]) == (["h"], ["h"], [])
    assert "1 have it already" in found["lines"]["stage"]


@pytest.mark.parametrize("name", list(WORK))
def test_a_host_on_which_there_is_work_is_not_left_out(name: str) -> None:
    found = counted(WORK[name], instances=("web", "db") if "two" in name else ("web",))
    assert (found["left_out"], found["to_flip"], found["confirmed"]) == ([], ["h"], [])


def test_no_host_is_left_out_before_the_digest_is_known_or_when_a_gate_is_to_be_asked() -> None:
    assert counted(seen(instance()), pin="")["left_out"] == []
    assert counted(seen(instance()), leave_out=False)["left_out"] == []


def test_a_host_may_have_names_of_its_own() -> None:
    variables = {**seen(instance("db")), results.INSTANCES: "db"}
    assert counted(variables)["left_out"] == ["h"]
    assert counted({**variables, results.INSTANCES: ["db", "web"]})["left_out"] == []


def test_a_host_that_was_asked_again_is_judged_by_its_answer() -> None:
    variables = {**seen(instance()), results.BOUND: {"results": [{"unreachable": True, "item": "web"}]}}
    found = counted(variables)
    assert (found["lost"], found["left_out"]) == (["h"], [])


def test_a_host_that_was_left_out_goes_back_with_the_others_when_this_rollout_has_switched_it() -> None:
    flip = {"failed": True, "msg": "not healthy", "item": "web"}
    lost = {**seen(instance(current=OLD, previous=OLDER)), results.BOUND: {"results": [flip], "failed": True}}
    variables = {"h": seen(instance()), "lost": lost}
    options: Facts = {"pin": NEW, "instances": ["web"], "leave_out": True, "max_lost": 0}
    found = rollout_state(variables, list(variables), since="2026-01-01T00:00:00Z", **options)
    assert (found["to_return"], found["earlier"]["h"]) == (["h", "lost"], {"web": OLD})
    later = rollout_state(variables, list(variables), since="2026-01-03T00:00:00Z", **options)
    assert later["to_return"] == ["lost"]


def test_the_first_wave_is_that_of_the_hosts_that_are_switched() -> None:
    flip = {"failed": True, "msg": "not healthy", "item": "web"}
    lost = {**seen(instance(current=OLD)), results.BOUND: {"results": [flip], "failed": True}}
    found = rollout_state(
        {"done": seen(instance()), "lost": lost},
        ["done", "lost"],
        pin=NEW,
        instances=["web"],
        leave_out=True,
        max_lost=2,
        waves=[1, 1],
    )
    assert found["too_many_lost"]


@pytest.mark.parametrize(
    ("generations", "is_asked"),
    [
        ((NEW, OLD), False),
        ((NEW, OLD, OLDER, "d" * 64), False),
        ((NEW, OLD, OLDER, "d" * 64, "e" * 64), True),
    ],
)
def test_hosts_are_pruned_when_more_generations_are_there_than_stay(
    generations: tuple[str, ...], is_asked: bool
) -> None:
    found = counted(seen(instance(), generations=tuple(map(generation, generations))))
    assert (found["to_prune"] == ["h"]) is is_asked


def test_what_was_never_confirmed_and_what_is_not_known_is_left_to_flyd_prune() -> None:
    never = generation(OLDER, confirmed_at="")
    assert counted(seen(instance(), generations=(generation(NEW), never)))["to_prune"] == ["h"]
    other = {**never, "key": "another.tar"}
    assert counted(seen(instance(), generations=(generation(NEW), other)))["to_prune"] == []
    unknown = seen(instance())
    del unknown[results.SEEN]["generations"]
    assert counted(unknown)["to_prune"] == ["h"]


def test_a_switched_host_keeps_what_it_had_and_loses_what_was_before_that() -> None:
    flip = {"changed": True, "confirmed": True, "item": "web"}
    had = [generation(one) for one in (OLD, OLDER)]
    variables = {
        **seen(instance(current=OLD, previous=OLDER), generations=tuple(had)),
        results.BOUND: {"results": [flip]},
    }
    assert counted(variables, keep=1)["to_prune"] == []
    assert counted(variables, keep=0)["to_prune"] == ["h"]


def test_hosts_are_settled_when_all_are_done_with_one_generation() -> None:
    def settled(*hosts: Facts, **options: Any) -> str:
        known = {f"h{number}": variables for number, variables in enumerate(hosts)}
        options = {"leave_out": True, "instances": ("web",), **options}
        return str(rollout_state(known, list(known), **options)["settled_at"])

    assert settled(seen(instance()), seen(instance())) == NEW
    assert settled(seen(instance(current=OLD)), seen(instance(current=OLD))) == OLD
    assert settled(seen(instance()), seen(instance(current=OLD))) == ""
    assert settled(seen(instance()), {**seen(), results.INSTANCES: "none"}) == ""
    assert settled(seen(instance()), {results.SEEN: {"unreachable": True}}) == NEW, "a host that is absent was counted"
    assert settled(seen(instance()), leave_out=False) == "", "the gate is to be asked"
    for facts in WORK.values():
        assert facts is WORK["another generation"] or settled(facts, instances=("web", "db")) == ""


def test_the_plan_reads_what_was_compared_where_nothing_was_fetched() -> None:
    compared = {"sha256": NEW, "size": 7, "trust": "object", "changed": False}
    skipped = {"skipped": True, "changed": False}
    known = {"h": {**seen(instance()), results.FETCHED: skipped, results.COMPARED: compared}}
    found = rollout_plan(known, ["h"], first="h", pin=NEW, instances=("web",), key=KEY)
    assert (found["sha256"], found["size"], found["already"]) == (NEW, 7, ["h"])
