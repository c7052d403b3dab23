# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An option that is left out means "as it is": plays that differ only in what they leave out do not change the host in turn."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")
pytest.importorskip("boto3", reason="boto3 is not installed")

from tests.unit._lifecycle.machine import KEY, Machine
from tests.unit._lifecycle.s3_stand_in import BUCKET
from tests.unit.modules.modules import Modules, Result

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root"),
]
MODULES = ("flyd_pool", "flyd_fetch", "flyd_unpack", "flyd_snapshot")
ROUNDS = 10

# No value is the default of its option.
FULL: dict[str, dict[str, Any]] = {
    "flyd_pool": {
        "name": "small",
        "data_size": "3M",
        "metadata_size": "20M",
        "block_size": "128K",
        "low_water_mark": 2,
        "error_if_no_space": False,
        "min_free_percent": 3,
        "max_size": "1G",
        "grow_by": "1M",
        "grow_reserve": "5%",
    },
    "flyd_fetch": {
        "pool": "small",
        "bucket": BUCKET,
        "max_size": "1G",
        "connections": 2,
        "part_size": "1M",
        "on_change": "ignore",
    },
    "flyd_unpack": {
        "pool": "small",
        "size": "1M",
        "platform": "linux/x86_64",
        "image_name": "0",
        "limits": {"entries": 1000, "seconds": 600},
        "device_nodes": "skip",
        "keep_archive": False,
    },
    "flyd_snapshot": {
        "pool": "small",
        "size": "1280K",
        "read_only": True,
        "owner": "12",
        "group": "34",
        "mode": "u=rw,g=r,o=",
    },
}
NOTHING: dict[str, dict[str, Any]] = {module: {} for module in MODULES}


def play(machine: Machine, given: dict[str, dict[str, Any]], *, check: bool = False) -> list[Result]:
    """One play of the four modules. How S3 is reached is no part of what may be left out."""
    s3 = {"endpoint_url": machine.s3.url, "region": "us-east-1", "anonymous": True}
    modules, results = Modules(machine), []
    for module in MODULES:
        results.append(
            modules.run(
                module, {"key": KEY.value, **(s3 if module == "flyd_fetch" else {}), **given[module]}, check=check
            )
        )
        assert "failed" not in results[-1], results[-1]["msg"]
    return results


def changes(results: list[Result]) -> int:
    return sum(result["changed"] for result in results)


def test_two_plays_of_which_one_leaves_everything_out_change_nothing_in_turn(virgin: Machine) -> None:
    assert changes(play(virgin, FULL)) == 4
    before = virgin.everything()
    for turn in range(1, ROUNDS):
        given = NOTHING if turn % 2 else FULL
        assert changes(play(virgin, given, check=True)) == 0
        results = play(virgin, given)
        assert changes(results) == 0, (turn, [result["changed"] for result in results])
        assert [result.warned for result in results] == [[], [], [], []]
    assert virgin.everything() == before
    assert virgin.left_over() == []


def test_plays_that_leave_out_what_they_like_change_nothing_in_turn(virgin: Machine) -> None:
    choose = random.Random(20260131)
    assert changes(play(virgin, FULL)) == 4
    for turn in range(ROUNDS):
        given = {
            module: {name: value for name, value in FULL[module].items() if choose.random() < 0.5} for module in MODULES
        }
        results = play(virgin, given)
        assert changes(results) == 0, (turn, given)


def test_what_a_second_play_adds_is_made_so_once(virgin: Machine) -> None:
    """The play that leaves out comes first: what can be changed is, by the second, and then nothing more."""
    can_change = {
        **NOTHING,
        "flyd_pool": {"low_water_mark": 2, "min_free_percent": 3},
        "flyd_unpack": {"keep_archive": False},
        "flyd_snapshot": {"mode": "0640"},
    }
    small = {
        **NOTHING,
        "flyd_pool": {"data_size": "4M"},
        "flyd_unpack": {"size": "1M"},
        "flyd_fetch": {"bucket": BUCKET},
    }
    assert changes(play(virgin, small)) == 4
    assert changes(play(virgin, can_change)) == 3
    for turn in range(ROUNDS):
        assert changes(play(virgin, can_change if turn % 2 else NOTHING)) == 0
