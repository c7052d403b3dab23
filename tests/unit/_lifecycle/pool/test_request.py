# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left out keeps what the pool has; only a new pool gets defaults."""

from __future__ import annotations

import os
from typing import Any

import pytest

from module_utils._errors import BadInput
from module_utils._lifecycle.pool.data_size import DataSize
from module_utils._lifecycle.store.records import PoolRecord
from tests.unit._lifecycle.machine import POOL_BYTES, Machine

LEFT_OUT: dict[str, Any] = {
    "data_bytes": None,
    "metadata_bytes": None,
    "error_if_no_space": None,
    "min_free_percent": None,
}
GIVEN: dict[str, Any] = {
    "data_bytes": 2 * POOL_BYTES,
    "low_water_blocks": 3,
    "error_if_no_space": False,
    "min_free_percent": 7,
}


def record(machine: Machine) -> PoolRecord:
    [found] = machine.records(PoolRecord)
    assert isinstance(found, PoolRecord)
    return found


def test_plays_that_differ_only_in_what_they_leave_out_do_not_change_the_pool_in_turn(virgin: Machine) -> None:
    virgin.pool(**{**LEFT_OUT, **GIVEN})
    before = record(virgin)
    changed = [virgin.pool(**{**LEFT_OUT, **given}).changed for given in (GIVEN, {}) * 5]
    assert changed == [False] * 10
    assert record(virgin) == before


@pytest.mark.parametrize("left_out", sorted(GIVEN))
def test_each_option_that_is_left_out_stays_as_it_is(virgin: Machine, left_out: str) -> None:
    virgin.pool(**{**LEFT_OUT, **GIVEN})
    before = record(virgin)
    given = {name: value for name, value in GIVEN.items() if name != left_out}
    assert not virgin.pool(**{**LEFT_OUT, **given}).changed
    assert record(virgin) == before


def test_left_out_options_stay_in_check_mode_and_after_a_reboot_too(virgin: Machine) -> None:
    virgin.pool(**{**LEFT_OUT, **GIVEN})
    before = record(virgin)
    assert not virgin.pool(dry_run=True, **LEFT_OUT).changed
    virgin.fake.reboot()
    assert virgin.pool(**LEFT_OUT).changed
    assert record(virgin) == before


def test_a_new_pool_gets_the_defaults(virgin: Machine) -> None:
    virgin.pool(dry_run=True, **LEFT_OUT)
    outcome = virgin.pool(**{**LEFT_OUT, "data_bytes": POOL_BYTES})
    made = record(virgin)
    assert outcome.changed
    assert (bool(made.error_if_no_space), made.min_free_percent) == (True, 10)


def test_a_new_pool_in_files_has_two_gibibytes(virgin: Machine) -> None:
    prediction = virgin.pool(dry_run=True, **LEFT_OUT)
    assert prediction.after["data"]["size"] == 2 << 30


def test_a_share_of_the_file_system_that_holds_the_file(virgin: Machine) -> None:
    found = os.statvfs(virgin.state.parent)
    wanted = virgin.pool(dry_run=True, **{**LEFT_OUT, "data_size": DataSize.parse("50%")}).after["data"]["size"]
    whole = found.f_blocks * found.f_frsize
    assert 0 <= whole // 2 - wanted < 1 << 20


@pytest.mark.parametrize(
    ("text", "size"), [("80%", (80, True)), (" 100 % ", (100, True)), ("512M", (512 << 20, False))]
)
def test_sizes_and_shares_are_read(text: str, size: tuple[int, bool]) -> None:
    assert DataSize.parse(text) == size


@pytest.mark.parametrize("text", ["0%", "101%", "%", "8 0%", "-5%", "50%x", "5.5%", "none"])
def test_what_is_neither_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput, match="data_size"):
        DataSize.parse(text)


@pytest.mark.parametrize("percent", [-1, 100])
def test_a_share_to_keep_free_that_cannot_be_is_refused(virgin: Machine, percent: int) -> None:
    with pytest.raises(BadInput, match="min_free_percent"):
        virgin.pool(min_free_percent=percent)
