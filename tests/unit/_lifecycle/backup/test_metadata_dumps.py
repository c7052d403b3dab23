# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata of each pool is dumped once a day, whole, and no metadata snapshot is left."""

from __future__ import annotations

import errno
import gzip
import os
import time
from pathlib import Path

import pytest

from module_utils._errors import Busy, DamagedPool, FlydError
from module_utils._thin.pool.thin_pool import ThinPool, status
from tests.unit._lifecycle.machine import Machine

pytestmark = pytest.mark.slow


def dumps(machine: Machine) -> list[Path]:
    return sorted((machine.state / "backup" / "pool").glob("*"))


def age(machine: Machine, hours: float) -> None:
    """Let the newest dump be so old."""
    then = time.time() - hours * 3600
    os.utime(dumps(machine)[-1], (then, then))


def is_held(machine: Machine) -> bool:
    return status(machine.fake.dm, "pool").held_metadata_root is not None


def test_a_dump_has_the_volumes_of_the_pool_and_is_for_root_alone(activated: Machine) -> None:
    [path] = activated.dump().facts["dumps"]
    text = gzip.decompress(Path(path).read_bytes()).decode()
    assert text.startswith("<superblock")
    assert f'nr_data_blocks="{status(activated.fake.dm, "pool").total_data_blocks}"' in text.splitlines()[0]
    assert text.count("<device ") == len(activated.fake.thin_ids("pool"))
    assert (os.stat(path).st_mode & 0o777, os.stat(Path(path).parent).st_mode & 0o777) == (0o600, 0o700)
    assert activated.left_over() == []


def test_a_second_one_on_the_same_day_is_none(pooled: Machine) -> None:
    pooled.dump()
    before = pooled.everything()
    assert not pooled.dump().changed
    assert pooled.everything() == before


def test_every_day_has_one_and_seven_are_kept(pooled: Machine) -> None:
    for _ in range(9):
        assert pooled.dump().changed
        age(pooled, 24)
    assert [path.name for path in dumps(pooled)] == [f"metadata-{number:06d}.xml.gz" for number in range(3, 10)]


def test_one_that_is_dated_by_a_wrong_clock_does_not_keep_the_next_away(pooled: Machine) -> None:
    pooled.dump()
    age(pooled, -1000)
    assert pooled.dump().changed


def test_a_pool_that_is_down_is_passed_over(pooled: Machine) -> None:
    pooled.fake.reboot()
    assert not pooled.dump().changed
    assert not (pooled.state / "backup").exists()


def test_one_that_fails_leaves_nothing_held(pooled: Machine) -> None:
    pooled.fake.refuse("thin_dump", errno.EIO)
    with pytest.raises(FlydError):
        pooled.dump()
    assert not is_held(pooled)
    assert pooled.dump().changed
    assert pooled.left_over() == []


def test_the_metadata_snapshot_of_another_program_is_let_alone(pooled: Machine) -> None:
    ThinPool(pooled.fake.dm, "pool").reserve_metadata_snap()
    with pytest.raises(Busy, match="of another program"):
        pooled.dump()
    assert is_held(pooled)


def test_one_of_a_run_that_was_killed_is_released(pooled: Machine) -> None:
    pooled.killed_at("dump:reserved", pooled.dump)
    assert is_held(pooled)
    assert pooled.dump().changed
    assert pooled.left_over() == []


def test_they_go_with_the_pool(pooled: Machine) -> None:
    pooled.killed_at("dump:reserved", pooled.dump)
    pooled.remove_pool()
    assert not (pooled.state / "backup").exists()


def test_a_repair_that_can_save_nothing_names_the_newest(damaged: Machine) -> None:
    damaged.fake.set_pool("pool", needs_check=False, damaged=False)
    [path] = damaged.dump().facts["dumps"]
    damaged.fake.set_pool("pool", needs_check=True, damaged=True)
    damaged.fake.refuse("thin_repair", errno.EIO)
    with pytest.raises(DamagedPool) as refused:
        damaged.repair()
    assert f"zcat {path}" in refused.value.hint
    assert "thin_restore" in refused.value.hint
