# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rollout_plan: what the first host took is what the others need, and each of their rooms is compared with it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from plugin_utils._rollout import results
from plugin_utils._rollout.filters import rollout_plan

NEW, MIB = "b" * 64, 1 << 20
Facts = dict[str, Any]


def seen(*, used: int = 10, size: int = 100, free: int = 50, disk: int = 500, below: int | None = None) -> Facts:
    """What flyd_info says of a host; sizes in MiB."""
    pool = {
        "name": "pool",
        "active": True,
        "block_size": 65536,
        "data": {"path": "/dev/x", "size": size * MIB, "used": used * MIB, "free": free * MIB},
        "metadata": {"path": "/dev/y", "size": MIB, "used": 1000 * used, "free": MIB},
        "can_grow_to": size * MIB,
        "free_below": None if below is None else below * MIB,
    }
    host = {"archives": [], "state_dir": {"path": "/var/lib/flyd", "free": disk * MIB}}
    return {"changed": False, "pools": [pool], "generations": [], "instances": [], "host": host}


def fleet(**others: Facts) -> dict[str, Facts]:
    """A first host whose pool took 40 MiB for an archive of 20 MiB, and others as they answered."""
    first = {
        results.SEEN: seen(used=10),
        "__rollout_measured": seen(used=50),
        results.FETCHED: {"changed": True, "size": 20 * MIB, "sha256": NEW},
        results.UNPACKED: {"changed": True, "bytes": 30 * MIB, "entries": 100},
    }
    return {"first": first, **{name: {results.SEEN: facts} for name, facts in others.items()}}


def planned(variables: dict[str, Facts]) -> Facts:
    return rollout_plan(variables, list(variables), first="first", pin=NEW, instances=["web"])


def test_the_need_is_what_the_first_host_took() -> None:
    assert planned(fleet())["need"] == {
        "archive_bytes": 20 * MIB,
        "data_bytes": 40 * MIB,
        "metadata_bytes": 40000,
        "is_measured": True,
    }


def test_a_first_host_that_had_the_image_bounds_the_need_by_its_tree() -> None:
    variables = fleet()
    variables["first"][results.UNPACKED]["changed"] = False
    need = planned(variables)["need"]
    assert (need["is_measured"], need["data_bytes"]) == (False, 30 * MIB + 100 * 4096)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (seen(free=30), "10.0 MiB short in the pool pool"),
        (seen(disk=15), "5.0 MiB short in the file system of state_dir"),
        (seen(below=30), "10.0 MiB short in the file system below the pool pool"),
    ],
)
def test_a_room_that_is_too_small_is_named_with_what_is_missing(facts: Facts, text: str) -> None:
    assert planned(fleet(h=facts))["short"] == {"h": text}


def test_a_sparse_pool_beside_the_archives_shares_their_room() -> None:
    facts = seen(below=50)
    facts["pools"][0]["data"]["path"] = "/var/lib/flyd/pools/x/data"
    assert "10.0 MiB short" in planned(fleet(h=facts))["short"]["h"]


def test_a_pool_that_may_grow_counts_with_what_it_can_grow_by() -> None:
    facts = seen(free=30)
    facts["pools"][0]["can_grow_to"] = 110 * MIB
    assert planned(fleet(h=facts))["short"] == {}


def test_what_a_host_has_already_needs_no_room() -> None:
    has_archive, has_base = seen(disk=0), seen(disk=0, free=0)
    has_archive["host"]["archives"] = [NEW]
    has_base["generations"] = [{"sha256": NEW, "has_base": True}]
    assert planned(fleet(a=has_archive, b=has_base))["short"] == {}


def test_a_host_without_a_pool_has_its_archive_compared() -> None:
    facts = seen(disk=5)
    facts["pools"] = []
    assert planned(fleet(h=facts))["short"] == {"h": "15.0 MiB short in the file system of state_dir"}


def test_a_host_that_did_not_answer_is_not_planned_with() -> None:
    found = planned(fleet(h={"unreachable": True, "msg": "no"}))
    assert (found["ready"], found["short"]) == (["first"], {})


def test_the_hosts_that_are_done_are_listed() -> None:
    done, waiting = seen(), seen()
    done["instances"] = [{"name": "web", "current": NEW, "confirmed": True}]
    waiting["instances"] = [{"name": "web", "current": NEW, "confirmed": False}]
    assert planned(fleet(done=done, waiting=waiting))["already"] == ["done"]


def test_what_pruning_would_free_is_said_of_a_host_without_room() -> None:
    variables = copy.deepcopy(fleet(h=seen(free=30)))
    variables["h"]["__rollout_prunable"] = {"would_free_bytes": 64 * MIB}
    assert "(prune would free 64.0 MiB)" in planned(variables)["lines"]["capacity"]
