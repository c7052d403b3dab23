# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool grows while it is in use, and is never half grown."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from module_utils._errors import BadInput, DamagedPool, FlydError, NoSpace
from module_utils._lifecycle.findings import Finding, RecoveryKind
from module_utils._lifecycle.store.records import PoolRecord
from module_utils._thin.pool.thin_pool import status
from tests.unit._lifecycle.machine import METADATA_BYTES, POOL_BYTES, Machine

pytestmark = pytest.mark.slow

GREATER_THAN_ANY_DISK = 1 << 60


def sizes(machine: Machine) -> tuple[int, int]:
    """Data and metadata in bytes, as recorded."""
    [pool] = machine.records(PoolRecord)
    return pool.data_sectors * 512, pool.metadata_bytes


def test_a_pool_grows_and_both_sides_say_so(pooled: Machine) -> None:
    outcome = pooled.grow()
    assert outcome.changed
    assert (outcome.before["data"]["size"], outcome.after["data"]["size"]) == (POOL_BYTES, 2 * POOL_BYTES)
    assert outcome.facts["data"]["size"] == 2 * POOL_BYTES
    assert outcome.facts["metadata"]["size"] == 2 * METADATA_BYTES
    assert sizes(pooled) == (2 * POOL_BYTES, 2 * METADATA_BYTES)
    assert status(pooled.fake.dm, "pool").total_data_blocks == 2 * POOL_BYTES >> 16
    assert pooled.left_over() == []
    assert not pooled.grow().changed


def test_metadata_grows_along_with_the_data_unless_it_is_given(virgin: Machine) -> None:
    virgin.pool(metadata_bytes=None)
    virgin.pool(metadata_bytes=None, data_bytes=16 << 30)
    assert sizes(virgin) == (16 << 30, 48 * (16 << 30 >> 16) + 1000 * 32 * 4096)


def test_metadata_can_grow_alone(pooled: Machine) -> None:
    assert pooled.pool(metadata_bytes=2 * METADATA_BYTES).changed
    assert sizes(pooled) == (POOL_BYTES, 2 * METADATA_BYTES)
    assert not pooled.pool(metadata_bytes=None).changed


@pytest.mark.parametrize(
    ("given", "end"), [({"error_if_no_space": False}, "128 6"), ({"low_water_blocks": 7}, "128 7 1 error_if_no_space")]
)
def test_what_the_table_says_changes_in_a_pool_that_is_up(pooled: Machine, given: dict[str, Any], end: str) -> None:
    before = pooled.everything()
    outcome = pooled.pool(dry_run=True, **given)
    assert outcome.changed
    shown = {"low_water_blocks": "low_water_mark"}  # records and options count blocks, results name the mark
    assert {name: outcome.after[shown.get(name, name)] for name in given} == given
    assert pooled.everything() == before
    assert pooled.pool(**given).changed
    assert pooled.fake.devices()["pool"]["table"].endswith(f" {end}")
    assert pooled.left_over() == []
    assert not pooled.pool(**given).changed


def test_what_the_table_cannot_say_is_refused_in_a_pool_that_is_up(pooled: Machine) -> None:
    before = pooled.everything()
    with pytest.raises(BadInput, match="low_water_mark: -1 blocks is negative"):
        pooled.pool(low_water_blocks=-1)
    assert pooled.everything() == before


def test_growing_in_check_mode_writes_nothing_and_says_what_would_be(pooled: Machine) -> None:
    before = pooled.everything()
    outcome = pooled.grow(dry_run=True)
    assert (outcome.changed, outcome.after["data"]["size"]) == (True, 2 * POOL_BYTES)
    assert pooled.everything() == before


def test_after_a_reboot_a_pool_comes_back_and_grows_in_one_run(pooled: Machine) -> None:
    pooled.fake.reboot()
    assert pooled.grow().changed
    assert sizes(pooled) == (2 * POOL_BYTES, 2 * METADATA_BYTES)
    assert pooled.left_over() == []


def test_a_full_pool_works_again_once_it_has_grown(pooled: Machine) -> None:
    pooled.fake.set_pool("pool", mode="out_of_data_space")
    assert pooled.grow(dry_run=True).changed
    assert pooled.grow().facts["status"] == "rw"


def test_a_pool_that_needs_repair_does_not_grow(pooled: Machine) -> None:
    pooled.fake.set_pool("pool", needs_check=True)
    before = pooled.everything()
    with pytest.raises(DamagedPool, match="needs_check"):
        pooled.grow()
    assert pooled.everything()["devices"] == before["devices"]
    assert sizes(pooled) == (POOL_BYTES, METADATA_BYTES)


@pytest.mark.parametrize("line", ["losetup --set-capacity", "dmsetup load pool", "dmsetup suspend pool"])
def test_a_growth_that_fails_leaves_the_pool_as_it_was(pooled: Machine, line: str) -> None:
    pooled.fake.refuse(line, errno.EIO)
    with pytest.raises(FlydError):
        pooled.grow()
    assert sizes(pooled) == (POOL_BYTES, METADATA_BYTES)
    assert pooled.left_over() == []
    assert not pooled.pool().changed


def test_a_growth_beyond_the_disk_is_refused_before_anything_grows(pooled: Machine) -> None:
    with pytest.raises(NoSpace, match="its file system has") as refused:
        pooled.grow(data_bytes=GREATER_THAN_ANY_DISK, metadata_bytes=None)
    assert "_size" in refused.value.hint
    assert pooled.left_over() == []


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize(
    ("label", "said", "size"),
    [
        ("grow:planned", "undid", POOL_BYTES),
        ("grow:allocated", "undid", POOL_BYTES),
        ("grow:resized", "finished", 2 * POOL_BYTES),
    ],
)
def test_a_growth_that_was_interrupted_is_settled_by_what_the_pool_says(
    pooled: Machine, label: str, said: str, size: int, rebooted: bool
) -> None:
    pooled.killed_at(label, pooled.grow)
    if rebooted:
        pooled.fake.reboot()
    before = pooled.everything()
    growth, text = RecoveryKind.GROWTH_RECOVERED, "the growth of the pool 'pool'"
    assert pooled.grow(dry_run=True).settled == (Finding(growth, "pool pool", f"would finish or undo {text}"),)
    assert pooled.everything() == before
    asked: dict[str, Any] = {"data_bytes": size, "metadata_bytes": None}
    assert Finding(growth, "pool pool", f"{said} {text}") in pooled.pool(**asked).settled
    assert sizes(pooled)[0] == size
    assert pooled.left_over() == []
    assert not pooled.pool(**asked).changed


def test_a_table_that_was_loaded_and_not_put_in_its_place_is_forgotten(pooled: Machine) -> None:
    pooled.killed_at("grow:allocated", pooled.grow)
    table = pooled.fake.devices()["pool"]["table"]
    pooled.fake.dm.load("pool", table.replace(f"0 {POOL_BYTES // 512} ", f"0 {POOL_BYTES // 256} "))
    pooled.pool()
    pooled.fake.dm.suspend("pool")
    pooled.pool()
    assert pooled.fake.devices()["pool"]["table"] == table
    [pool] = pooled.records(PoolRecord)
    assert os.stat(pool.data).st_size == POOL_BYTES
