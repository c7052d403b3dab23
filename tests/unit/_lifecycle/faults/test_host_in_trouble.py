# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose clock jumps, whose disk became read-only, whose database others hold, on which a program is missing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from module_utils._errors import Busy, CommandFailed, DamagedPool, FlydError, NoSpace, Unsupported
from module_utils._image.opening import open_image
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.store.records import PoolRecord, State, Volume
from module_utils._lifecycle.unpack import make_base as base_making
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.disk import in_process
from tests.unit._lifecycle.machine import BASE_BYTES, OTHER_ARCHIVE, Machine

Step = Callable[..., Outcome]
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS, linux/sched.h
_TEN_YEARS = 10 * 365.25 * 86400


# The clock


@pytest.mark.parametrize("jump", [_TEN_YEARS, -_TEN_YEARS])
def test_a_clock_that_jumps_ten_years_between_two_steps_changes_nothing(
    virgin: Machine, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    needs_root()
    now = time.time
    virgin.pool()
    virgin.fetch()
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    virgin.unpack()
    monkeypatch.setattr(time, "time", now)
    virgin.snapshot()
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    virgin.snapshot("second")
    assert virgin.states() == [State.ACTIVATED]
    assert len({one.ulid for one in virgin.records(Volume)}) == 3
    assert virgin.left_over() == []
    for step in (virgin.pool, virgin.fetch, virgin.unpack, virgin.snapshot):
        assert not step().changed


def test_a_clock_that_jumped_does_not_settle_what_is_at_work(fetched: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with fetched.host() as worker, worker.lock("image somebody's"):
        monkeypatch.setattr(time, "time", lambda: 0.0)
        before = fetched.everything()
        assert not fetched.fetch().changed
        assert fetched.everything() == before


# A disk that became read-only


def in_read_only_state(machine: Machine, work: Any) -> int:
    """Do ``work`` in a process for which the state directory is mounted read-only; its wait status."""

    def work_there() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS) == 0
        for words in (
            ["--make-rprivate", "/"],
            ["--bind", machine.state, machine.state],
            ["-o", "remount,bind,ro", machine.state],
        ):
            subprocess.run(["mount", *words], check=True)
        work()

    return in_process(work_there)


@pytest.mark.parametrize("stage", ["pooled", "fetched", "unpacked"])
def test_on_a_read_only_disk_check_mode_works_and_the_next_step_fails_before_any_effect(
    stages: Stages, stage: str
) -> None:
    needs_root()
    machine = stages.at(stage)
    steps: dict[str, Step] = {"pooled": machine.fetch, "fetched": machine.unpack, "unpacked": machine.snapshot}
    step = steps[stage]

    def look_and_try() -> None:
        assert step(dry_run=True).changed
        with pytest.raises(FlydError) as refused:
            step()
        assert "read-only" in str(refused.value).lower() or "readonly" in str(refused.value)
        assert refused.value.hint

    before = machine.everything()
    assert in_read_only_state(machine, look_and_try) == 0
    assert machine.everything() == before
    assert step().changed
    assert machine.left_over() == []


def test_on_a_read_only_disk_what_is_done_is_still_done(activated: Machine) -> None:
    def look() -> None:
        for step in (activated.pool, activated.fetch, activated.unpack, activated.snapshot):
            assert not step().changed

    assert in_read_only_state(activated, look) == 0


# A database that another program holds


@contextlib.contextmanager
def held_from(machine: Machine, monkeypatch: pytest.MonkeyPatch, module: str, label: str) -> Iterator[None]:
    """From the crash point ``label`` on, another program has the database for itself."""
    others: list[sqlite3.Connection] = []

    def hold(reached: str) -> None:
        if reached == label:
            others.append(sqlite3.connect(machine.state / "flyd.db", isolation_level=None))
            others[0].execute("BEGIN EXCLUSIVE")

    with monkeypatch.context() as patched:
        patched.setattr(f"module_utils._lifecycle.{module}.crash_point", hold)
        yield
    assert others, f"{label} was not reached"
    others[0].close()


@pytest.mark.parametrize(
    ("stage", "arrow", "module", "label"),
    [
        ("pooled", "fetch", "fetch.download", "fetch:published"),
        ("fetched", "unpack", "unpack.make_base", "unpack:sealed"),
        ("unpacked", "snapshot", "snapshot.make_snapshot", "snapshot:mapped"),
    ],
)
def test_a_database_that_is_held_between_effect_and_record_may_pass_and_nothing_is_half_done(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, stage: str, arrow: str, module: str, label: str
) -> None:
    needs_root()
    machine = stages.at(stage)

    def refused() -> None:
        """In a process of its own, as its lock lasts as long as it does."""
        machine.store_busy_seconds = 0.2
        with held_from(machine, monkeypatch, module, label), pytest.raises(Busy) as caught:
            getattr(machine, arrow)()
        assert caught.value.retryable

    assert in_process(refused) == 0
    assert getattr(machine, arrow)().changed
    assert machine.left_over() == []


# What is not there, or changes under way


@pytest.mark.parametrize(
    ("stage", "arrow", "program"),
    [
        *(("virgin", "pool", program) for program in ("dmsetup", "losetup", "thin_check")),
        *(("fetched", "unpack", program) for program in ("dmsetup", "mkfs.ext4", "e2fsck")),
        *(("unpacked", "larger", program) for program in ("dmsetup", "e2fsck", "resize2fs")),
    ],
)
def test_a_program_that_is_missing_is_named_before_any_effect(
    stages: Stages, stage: str, arrow: str, program: str
) -> None:
    if stage != "virgin":
        needs_root()
    machine = stages.at(stage)
    steps: dict[str, Step] = {
        "pool": machine.pool,
        "unpack": machine.unpack,
        "larger": lambda: machine.snapshot(size_bytes=2 * BASE_BYTES),
    }
    step = steps[arrow]
    path = machine.fake.root / "bin" / program
    path.rename(f"{path}.away")
    before = machine.everything()
    with pytest.raises(Unsupported, match=rf"the program {program} is not installed"):
        step()
    path.with_name(f"{program}.away").rename(path)
    after = machine.everything()
    assert {what: after[what] for what in ("devices", "loops", "thin ids")} == {
        what: before[what] for what in ("devices", "loops", "thin ids")
    }
    assert [line for line in machine.ran if "create" in line or "message" in line] == []
    assert step().changed
    assert machine.left_over() == []


def test_an_archive_that_is_exchanged_while_it_is_unpacked_does_not_matter(
    fetched: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    [digest] = fetched.archives_to_keep()
    path = fetched.state / "archives" / digest

    def exchange(fd: int, *given: Any) -> Any:
        other = path.with_name("other")
        other.write_bytes(OTHER_ARCHIVE)
        os.rename(other, path)
        return open_image(fd, *given)

    monkeypatch.setattr("module_utils._lifecycle.unpack.sources.open_image", exchange)
    fetched.unpack()
    [base] = fetched.records(Volume)
    assert set(fetched.tree_of(base)) == {"etc/kept", "redis-server"}


def test_a_volume_that_cannot_be_flushed_is_no_base(fetched: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_root()

    def broken(path: str) -> None:
        raise CommandFailed(f"flushing {path}: Input/output error", hint="see dmesg")

    with monkeypatch.context() as patched:
        patched.setattr(base_making, "flush", broken)
        with pytest.raises(CommandFailed):
            fetched.unpack()
    assert fetched.states() == [State.FETCHED]
    assert fetched.left_over() == []
    assert fetched.unpack().changed


# Check mode


@pytest.mark.parametrize(
    ("facts", "kind"),
    [({"mode": "Fail"}, DamagedPool), ({"mode": "ro"}, DamagedPool), ({"needs_check": True}, DamagedPool)],
)
@pytest.mark.parametrize("stage", ["fetched", "unpacked"])
def test_check_mode_sees_a_pool_in_need_of_repair(
    stages: Stages, stage: str, facts: dict[str, Any], kind: type[FlydError]
) -> None:
    needs_root()
    machine = stages.at(stage)
    machine.fake.set_pool("pool", **facts)
    step = machine.unpack if stage == "fetched" else machine.snapshot
    before = machine.everything()
    with pytest.raises(kind):
        step(dry_run=True)
    assert machine.everything() == before
    with pytest.raises(kind):
        step()


def test_check_mode_lets_a_pool_be_full_which_may_grow_before(fetched: Machine) -> None:
    fetched.fake.set_pool("pool", mode="out_of_data_space")
    assert fetched.unpack(dry_run=True, assume=["pool"]).changed
    for dry_run in (True, False):
        with pytest.raises(NoSpace):
            fetched.unpack(dry_run=dry_run)


@pytest.mark.parametrize("harm", ["missing", "shorter", "damaged"])
def test_check_mode_after_a_reboot_sees_that_the_pool_cannot_come_up(pooled: Machine, harm: str) -> None:
    [pool] = pooled.records(PoolRecord)
    if harm == "damaged":
        pooled.fake.set_pool("pool", damaged=True)
    pooled.fake.reboot()
    if harm == "missing":
        os.unlink(pool.data)
    elif harm == "shorter":
        os.truncate(pool.data, 4096)
    before = pooled.everything()
    with pytest.raises(FlydError) as predicted:
        pooled.pool(dry_run=True)
    assert pooled.everything() == before
    with pytest.raises(type(predicted.value)):
        pooled.pool()
