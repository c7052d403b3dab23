# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool with a policy grows before it is full, never above its maximum or into the reserve, and is never half grown."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from module_utils._errors import BadInput, Busy, FlydError, NoSpace
from module_utils._lifecycle.findings import RecoveryKind
from module_utils._lifecycle.growth.automatic import grow_if_needed
from module_utils._lifecycle.growth.due import Due
from module_utils._lifecycle.growth.policy import PolicyRequest
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.store.lock_names import pool_setup_lock
from module_utils._lifecycle.store.records import Operation, PoolRecord
from tests.unit._lifecycle.machine import METADATA_BYTES, POOL_BYTES, Machine

pytestmark = pytest.mark.slow

BLOCK = 64 << 10
BLOCKS = POOL_BYTES // BLOCK
STEP = BLOCKS * 20 // 100
LEFT_OUT: dict[str, Any] = {"data_bytes": None, "metadata_bytes": None, "min_free_percent": None}


def policy(max_size: str = "1G", grow_by: str = "", grow_reserve: str = "1M") -> PolicyRequest:
    return PolicyRequest.parse(max_size, grow_by, grow_reserve)


@pytest.fixture
def growing(pooled: Machine) -> Machine:
    """A host with a pool that may grow to 1 GiB."""
    assert pooled.pool(policy=policy()).changed
    return pooled


def fill(machine: Machine, free_blocks: int, **facts: Any) -> None:
    """Let so many blocks be free of what the pool has."""
    machine.fake.set_pool("pool", used_data_blocks=record(machine).data_sectors * 512 // BLOCK - free_blocks, **facts)


def record(machine: Machine) -> PoolRecord:
    [found] = machine.records(PoolRecord)
    assert isinstance(found, PoolRecord)
    return found


def blocks(machine: Machine) -> int:
    return record(machine).data_sectors * 512 // BLOCK


def look(machine: Machine, *, dry_run: bool = False) -> Due | None:
    """What the host's service does."""
    with machine.host(dry_run=dry_run) as host:
        return grow_if_needed(host, "pool")


def lines(machine: Machine, event: str) -> list[dict[str, Any]]:
    return [line for line in machine.log() if line["event"] == event]


def test_a_pool_that_is_short_grows_by_a_step_and_then_rests(growing: Machine) -> None:
    fill(growing, record(growing).low_water_blocks)
    due = look(growing)
    assert due is not None
    assert due.grows
    assert blocks(growing) == BLOCKS + STEP
    assert growing.fake.devices()["pool"]["table"].split()[1] == str((BLOCKS + STEP) * BLOCK // 512)
    assert growing.left_over() == []
    [end] = [line for line in lines(growing, "end") if line["transition"] == "grow"]
    assert (end["outcome"], end["why"]) == ("ok", "data: 384 KiB free of 4 MiB")
    before = growing.everything()
    again = look(growing)
    assert again is not None
    assert not again.grows
    assert growing.everything() == before


def test_a_pool_with_more_free_than_the_mark_does_not_grow(growing: Machine) -> None:
    fill(growing, record(growing).low_water_blocks + 2)
    before = growing.everything()
    look(growing)
    assert growing.everything() == before


def test_a_pool_without_a_policy_does_not_grow_automatically(pooled: Machine) -> None:
    fill(pooled, 0)
    before = pooled.everything()
    assert look(pooled) is None
    assert pooled.everything() == before


def test_the_share_that_must_stay_free_counts_where_it_is_more_than_the_mark(growing: Machine) -> None:
    growing.pool(min_free_percent=50, policy=policy())
    fill(growing, BLOCKS // 4)
    look(growing)
    assert blocks(growing) >= 2 * BLOCKS * 3 // 4
    growing.pool(min_free_percent=50)


def test_the_mark_counts_where_it_is_more_than_the_share(growing: Machine) -> None:
    growing.pool(low_water_blocks=20)
    fill(growing, 21)
    look(growing)
    assert blocks(growing) == BLOCKS
    fill(growing, 20)
    look(growing)
    assert blocks(growing) == BLOCKS + STEP


def test_a_step_of_a_size_is_that_size(growing: Machine) -> None:
    growing.pool(policy=policy(grow_by="2M"))
    fill(growing, 1)
    look(growing)
    assert blocks(growing) == BLOCKS + 32


def test_a_mark_that_was_given_stays_and_a_computed_one_grows_along(growing: Machine) -> None:
    fill(growing, 1)
    look(growing)
    assert record(growing).low_water_blocks == (BLOCKS + STEP) // 10
    growing.pool(low_water_blocks=3)
    fill(growing, 3)
    look(growing)
    assert record(growing).low_water_blocks == 3
    assert not growing.pool(low_water_blocks=3).changed


def test_the_play_that_made_the_pool_changes_nothing_once_it_has_grown(growing: Machine) -> None:
    fill(growing, 1)
    look(growing)
    before = growing.everything()
    assert not growing.pool().changed
    assert not growing.pool(**LEFT_OUT).changed
    assert growing.everything() == before
    with pytest.raises(BadInput, match="data_size"):
        growing.pool(data_bytes=POOL_BYTES // 2)
    larger = 2 * POOL_BYTES
    assert growing.pool(data_bytes=larger).changed
    with pytest.raises(BadInput, match="data_size"):  # it was asked for, so less of it is a mistake again
        growing.pool(data_bytes=POOL_BYTES)


def test_it_never_grows_above_its_maximum(growing: Machine) -> None:
    most = BLOCKS + STEP // 2
    growing.pool(policy=policy(max_size=str(most * BLOCK)))
    fill(growing, 1)
    look(growing)
    assert blocks(growing) == most
    fill(growing, 1)
    before = growing.fake.devices()
    due = look(growing)
    assert due is not None
    assert (due.grows, [stop.word for stop in due.stops]) == (False, ["maximum"])
    assert growing.fake.devices() == before
    line = lines(growing, "cannot grow")[-1]
    assert f"max_size: {most * 64}K" in line["text"]
    assert "larger max_size" in line["remedy"]


class Disk:
    """What statvfs says of the file system."""

    def __init__(self, total_bytes: int, free_bytes: int) -> None:
        self.f_frsize = self.f_bsize = 4096
        self.f_blocks, self.f_bavail = total_bytes // 4096, free_bytes // 4096


def test_it_never_grows_into_the_reserve_of_the_host(growing: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    growing.pool(policy=policy(grow_reserve="10%"))
    total, room = 10 << 30, 5 * BLOCK
    holes = sum(
        max(0, os.stat(path).st_size - os.stat(path).st_blocks * 512)
        for path in (record(growing).data, record(growing).metadata)
    )
    monkeypatch.setattr(os, "statvfs", lambda _path: Disk(total, total // 10 + room + holes))
    fill(growing, 1)
    look(growing)
    assert blocks(growing) == BLOCKS + 5
    monkeypatch.setattr(os, "statvfs", lambda _path: Disk(total, total // 10))
    fill(growing, 1)
    due = look(growing)
    assert due is not None
    assert (due.grows, [stop.word for stop in due.stops]) == (False, ["host"])
    assert blocks(growing) == BLOCKS + 5
    assert "grow_reserve" in lines(growing, "cannot grow")[-1]["remedy"]


def test_what_guests_may_write_to_discarded_blocks_counts_as_taken(
    growing: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing.pool(policy=policy(grow_reserve="10%"))
    total = 10 << 30
    os.truncate(record(growing).data, 0)  # all of it is a hole now
    os.truncate(record(growing).data, POOL_BYTES)
    monkeypatch.setattr(os, "statvfs", lambda _path: Disk(total, total // 10 + POOL_BYTES))
    fill(growing, 1)
    due = look(growing)
    assert due is not None
    assert not due.grows


def test_metadata_grows_at_its_own_mark(growing: Machine) -> None:
    growing.fake.set_pool("pool", used_metadata_blocks=48)
    look(growing)
    assert record(growing).metadata_bytes > METADATA_BYTES
    assert blocks(growing) == BLOCKS
    assert growing.left_over() == []
    assert not growing.pool().changed


def test_metadata_that_is_full_grows_and_the_pool_is_writable_again(growing: Machine) -> None:
    growing.fake.set_pool("pool", used_metadata_blocks=64, mode="ro")
    look(growing)
    assert growing.pool().facts["status"] == "rw"


@pytest.mark.parametrize("error_if_no_space", [True, False])
def test_a_pool_that_is_out_of_space_gets_out_of_it(growing: Machine, error_if_no_space: bool) -> None:
    growing.pool(policy=policy(), error_if_no_space=error_if_no_space)
    fill(growing, 0, mode="out_of_data_space")
    look(growing)
    outcome = growing.pool(error_if_no_space=error_if_no_space)
    assert (outcome.changed, outcome.facts["status"]) == (False, "rw")


def test_a_pool_that_needs_repair_does_not_grow(growing: Machine) -> None:
    fill(growing, 0, needs_check=True)
    before = growing.everything()
    look(growing)
    assert growing.everything() == before


def test_a_pool_on_devices_grows_as_far_as_they_go(virgin: Machine) -> None:
    disks = virgin.root / "disks"
    disks.mkdir()
    for name, size in (("data", 8 << 20), ("metadata", 32 << 20)):
        (disks / name).touch()
        os.truncate(disks / name, size)
    virgin.pool(
        data=str(disks / "data"),
        metadata=str(disks / "metadata"),
        is_loop=False,
        metadata_bytes=None,
        policy=policy("100%", "100%"),
    )
    fill(virgin, 0)
    look(virgin)
    assert record(virgin).data_sectors * 512 == 7 << 20  # all but the end, where the host looks for arrays
    fill(virgin, 0)
    due = look(virgin)
    assert due is not None
    assert [stop.word for stop in due.stops] == ["device"]
    os.truncate(disks / "data", 16 << 20)
    look(virgin)
    assert record(virgin).data_sectors * 512 == 14 << 20
    virgin.fake.set_pool("pool", used_metadata_blocks=8000)
    os.truncate(disks / "metadata", 64 << 20)
    look(virgin)
    assert record(virgin).metadata_bytes == 64 << 20
    assert virgin.left_over() == []


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize(
    ("label", "said"), [("grow:planned", "undid"), ("grow:allocated", "undid"), ("grow:resized", "finished")]
)
@pytest.mark.parametrize("by", ["service", "flyd_pool"])
def test_a_growth_that_is_killed_is_completed_by_whoever_comes_next(
    growing: Machine, label: str, said: str, rebooted: bool, by: str
) -> None:
    fill(growing, 1)
    growing.killed_at(label, lambda: look(growing))
    if rebooted:
        growing.fake.reboot()
    if by == "flyd_pool" or rebooted:  # a pool that is down is none for the service
        settled = growing.pool().settled
    else:
        with growing.host() as host:
            grow_if_needed(host, "pool")
            settled = tuple(host.settled)
    assert [(one.kind, one.text.split()[0]) for one in settled] == [(RecoveryKind.GROWTH_RECOVERED, said)]
    assert growing.left_over() == []
    assert blocks(growing) == BLOCKS + STEP
    assert record(growing).low_water_blocks == (BLOCKS + STEP) // 10
    assert int(growing.fake.devices()["pool"]["table"].split()[6]) == (BLOCKS + STEP) // 10
    assert not growing.pool().changed


def test_a_pool_grows_without_the_packages_of_the_environment(
    growing: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ulid", None)
    fill(growing, 1)
    look(growing)
    assert blocks(growing) == BLOCKS + STEP


def test_two_growers_at_once_let_it_grow_once(growing: Machine) -> None:
    fill(growing, 1)
    together, failed = threading.Barrier(2), []

    def one() -> None:
        try:
            with growing.host() as host:
                together.wait()
                grow_if_needed(host, "pool")
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert blocks(growing) == BLOCKS + STEP
    assert growing.left_over() == []


def test_it_waits_for_a_run_that_works_on_the_pool(growing: Machine) -> None:
    fill(growing, 1)
    with growing.host() as other, other.lock(pool_setup_lock("pool")):
        growing.lock_timeout_seconds = 0.2
        with pytest.raises(Busy, match="the setup of the pool 'pool' is held"):
            look(growing)
    assert blocks(growing) == BLOCKS


def test_flyd_pool_lets_a_short_pool_grow_and_says_so_in_check_mode(growing: Machine) -> None:
    fill(growing, 1)
    before = growing.everything()
    foreseen = growing.pool(dry_run=True)
    assert growing.everything() == before
    done = growing.pool()
    assert (foreseen.changed, done.changed) == (True, True)
    assert foreseen.after == done.after
    assert done.after["data"]["size"] == (BLOCKS + STEP) * BLOCK
    assert not growing.pool().changed


def test_nothing_is_written_by_a_run_of_a_pool_that_is_short_and_cannot_grow(growing: Machine) -> None:
    growing.pool(policy=policy(max_size=str(POOL_BYTES)))
    fill(growing, 1)
    before = growing.everything()
    assert not growing.pool().changed
    assert growing.everything() == before


# What makes something in the pool


@pytest.fixture
def room_for(fetched: Machine) -> Callable[..., Machine]:
    """A host with an archive, in a pool of the policy that has so many blocks free."""

    def made(free_blocks: int, **given: str) -> Machine:
        fetched.pool(policy=policy(**given), min_free_percent=10)
        fill(fetched, free_blocks)
        return fetched

    return made


def unpack(machine: Machine, *, dry_run: bool = False) -> tuple[Outcome, list[dict[str, Any]]]:
    from module_utils._image.limits import Limits
    from module_utils._lifecycle.image.advance import advance
    from module_utils._lifecycle.unpack.options import UnpackOptions
    from module_utils._lifecycle.unpack.unpack import Unpack
    from tests.unit._lifecycle.machine import BASE_BYTES, KEY

    with machine.host(dry_run=dry_run) as host:
        return advance(host, KEY, Unpack(UnpackOptions(KEY, BASE_BYTES, Limits()))), host.grown


def test_an_image_that_would_not_fit_lets_the_pool_grow_first(room_for: Callable[..., Machine]) -> None:
    machine = room_for(BLOCKS * 12 // 100 + 1)  # more than the mark, less than the image
    outcome, grown = unpack(machine)
    assert outcome.changed
    assert [one["pool"] for one in grown] == ["pool"]
    assert blocks(machine) > BLOCKS
    assert machine.left_over() == []
    assert not machine.unpack().changed


def test_a_pool_that_is_short_grows_before_an_image_is_made_and_check_mode_says_so(
    room_for: Callable[..., Machine],
) -> None:
    machine = room_for(2)
    before = machine.everything()
    foreseen, would = unpack(machine, dry_run=True)
    assert machine.everything() == before
    done, grown = unpack(machine)
    assert (foreseen.changed, done.changed) == (True, True)
    assert would[0] == grown[0]


def test_an_image_that_does_not_fit_at_the_maximum_is_refused_with_what_to_do(
    room_for: Callable[..., Machine],
) -> None:
    machine = room_for(2, max_size=str(POOL_BYTES))
    with pytest.raises(NoSpace) as foreseen:
        unpack(machine, dry_run=True)
    with pytest.raises(NoSpace) as refused:
        unpack(machine)
    assert "has reached its maximum, max_size: 4M: set a larger max_size" in refused.value.hint
    assert refused.value.msg == foreseen.value.msg
    assert machine.left_over() == []
    assert machine.records(Operation) == []


def test_a_growth_that_fails_is_reported_and_leaves_the_pool_as_it_was(growing: Machine) -> None:
    fill(growing, 1)
    growing.fake.refuse("dmsetup load pool", 5)
    with pytest.raises(FlydError):
        look(growing)
    assert blocks(growing) == BLOCKS
    assert growing.left_over() == []
    look(growing)
    assert blocks(growing) == BLOCKS + STEP


# The options


def test_what_is_left_out_of_the_policy_stays(pooled: Machine) -> None:
    pooled.pool(policy=policy("2G", "50%", "3G"))
    assert not pooled.pool(policy=policy("2G", "50%", "3G")).changed
    assert not pooled.pool().changed
    outcome = pooled.pool(policy=PolicyRequest.parse("none", "", ""))
    assert (outcome.changed, outcome.after["max_size"], outcome.after["grow_by"]) == (True, "none", "50%")
    assert not pooled.pool(policy=PolicyRequest.parse("none", "", "")).changed


def test_a_policy_changes_no_table(pooled: Machine) -> None:
    before = pooled.fake.devices()
    pooled.pool(policy=policy())
    assert pooled.fake.devices() == before
    assert [line for line in lines(pooled, "end") if line["transition"] == "grow"] == []


def test_a_maximum_below_what_the_pool_has_is_refused(pooled: Machine, virgin: Machine) -> None:
    with pytest.raises(BadInput, match="max_size: 1M is less than the 4 MiB of data"):
        virgin.pool(policy=policy("1M"))
    assert virgin.records(PoolRecord) == []


@pytest.mark.parametrize("text", ["0", "lots", "101%", "0%"])
@pytest.mark.parametrize("option", ["max_size", "grow_by", "grow_reserve"])
def test_what_is_no_size_is_refused_by_its_name(option: str, text: str) -> None:
    given = {"max_size": "", "grow_by": "", "grow_reserve": "", option: text}
    with pytest.raises(BadInput, match=option):
        PolicyRequest.parse(**given)
