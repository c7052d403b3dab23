# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fleet_drift: each host beside the lock file has one state, the worst that is true of it."""

from __future__ import annotations

from typing import Any

import pytest

from plugin_utils._rollout.drift import STATES, fleet_drift

Facts = dict[str, Any]
KEY, NEW, OLD = "images/a.tar", "b" * 64, "a" * 64
LOCK = {KEY: {"sha256": NEW, "rolled_out_at": "2026-01-02T00:00:00Z"}}


def instance(current: str = NEW, **others: Any) -> Facts:
    """What flyd_info says of one."""
    made = {"name": "web", "key": KEY, "current": current, "confirmed": True, "updated_at": "2026-01-01T00:00:00Z"}
    return {**made, **others}


def seen(*instances: Facts, **others: Any) -> Facts:
    return {"__fleet_seen": {"changed": False, "instances": list(instances), "pools": [], "drift": [], **others}}


TROUBLE = {"kind": "pool_inactive", "subject": "pool x", "text": "pool x is inactive"}
WAITS = {"kind": "instance_unconfirmed", "subject": "web", "text": "waits"}
HOSTS = [
    ("as_locked", seen(instance())),
    ("behind", seen(instance(OLD))),
    ("ahead", seen(instance(OLD, updated_at="2026-01-03T00:00:00Z"))),
    ("not_locked", seen(instance(key="images/other.tar"))),
    ("unconfirmed", seen(instance(confirmed=False), drift=[WAITS])),
    ("behind", seen(instance(), instance(OLD, name="db"))),
    ("trouble", seen(instance(OLD), drift=[TROUBLE])),
    ("empty", seen()),
    ("absent", {"__fleet_seen": {"unreachable": True, "msg": "timed out"}}),
    ("absent", {"__fleet_seen": {"failed": True, "msg": "no root"}}),
    ("absent", {}),
]


@pytest.mark.parametrize(("state", "variables"), HOSTS, ids=[f"{n}-{state}" for n, (state, _) in enumerate(HOSTS)])
def test_a_host_has_the_worst_state_that_is_true_of_it(state: str, variables: Facts) -> None:
    found = fleet_drift({"h": variables}, ["h"], LOCK)
    assert [name for name in STATES if found[name]] == [state]
    assert found["wrong"] == ([] if state in ("as_locked", "empty") else ["h"])


def test_hosts_of_which_the_same_is_wrong_are_one_line() -> None:
    found = fleet_drift(
        {name: seen(instance(OLD)) for name in "abcdefg"} | {"z": seen(instance())}, [*"abcdefgz"], LOCK
    )
    assert found["lines"] == [
        "Fleet      1 as locked · 7 behind",
        f"behind: a b c d e and 2 more: web has {OLD[:12]} of {KEY}, locked is {NEW[:12]}",
    ]


def test_a_row_has_the_digests_and_whether_a_pool_is_short() -> None:
    found = fleet_drift({"h": seen(instance(), pools=[{"is_low": True}])}, ["h"], LOCK)
    [row] = found["rows"]
    assert (row["instances"], row["is_low"]) == ({"web": NEW}, True)
