# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's service lets each pool grow in time, says once what it cannot do, and ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from module_utils._lifecycle.findings import DriftKind
from module_utils._lifecycle.growth import watch as watching
from module_utils._lifecycle.growth.watch import Watch, watch
from module_utils._lifecycle.report.drift import drift
from module_utils._lifecycle.report.metrics import metrics
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.store.schema import VERSION
from tests.unit._lifecycle.growth.test_automatic import BLOCKS, STEP, blocks, fill, growing, lines, policy
from tests.unit._lifecycle.machine import POOL_BYTES, Machine

__all__ = ["growing"]
pytestmark = pytest.mark.slow


class Service:
    """The service on a machine, with what it has said and how often it has opened the database for writing."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.said: list[str] = []
        self.writes = 0
        self.watch = Watch(self.opened, self.said.append)

    def opened(self, *, dry_run: bool) -> contextlib.AbstractContextManager[Run]:
        self.writes += not dry_run
        return self._machine.host(dry_run=dry_run)


@pytest.fixture
def service(growing: Machine) -> Service:
    return Service(growing)


def test_a_look_at_pools_that_are_well_writes_nothing(growing: Machine, service: Service) -> None:
    before = growing.everything()
    service.watch.look()
    assert growing.everything() == before
    assert (service.said, service.writes) == ([], 0)


def test_a_host_on_which_nothing_was_made_is_well(virgin: Machine) -> None:
    service = Service(virgin)
    service.watch.look()
    assert (service.said, service.writes) == ([], 0)
    assert not virgin.state.exists()


def test_a_short_pool_grows_and_another_one_is_let_alone(growing: Machine, service: Service) -> None:
    growing.pool(name="other")
    growing.fake.set_pool("other", used_data_blocks=64)
    growing.fake.set_pool("pool", used_data_blocks=63)
    service.watch.look()
    sizes = {name: growing.fake.devices()[name]["table"].split()[1] for name in ("pool", "other")}
    assert sizes == {"pool": str((BLOCKS + STEP) * 128), "other": str(BLOCKS * 128)}
    assert service.said == ["grown: the pool 'pool', data: 64 KiB free of 4 MiB"]


def test_what_it_cannot_do_is_said_and_logged_once_and_again_when_it_comes_back(
    growing: Machine, service: Service
) -> None:
    growing.pool(policy=policy(max_size=str(POOL_BYTES)))
    fill(growing, 2)
    service.watch.look()
    fill(growing, 1)
    for _ in range(3):
        service.watch.look()
    assert len(service.said) == len(lines(growing, "cannot grow")) == service.writes == 1
    assert service.said[0].startswith(
        "cannot grow: the pool 'pool', data: 128 KiB free of 4 MiB: set a larger max_size"
    )
    fill(growing, 40)
    service.watch.look()
    fill(growing, 2)
    service.watch.look()
    assert len(service.said) == 2


def test_a_pool_at_its_maximum_goes_on_after_a_removal_and_grows_after_a_larger_maximum(
    growing: Machine, service: Service
) -> None:
    growing.pool(policy=policy(max_size=str(POOL_BYTES)))
    fill(growing, 0, mode="out_of_data_space")
    service.watch.look()
    assert blocks(growing) == BLOCKS
    growing.fake.set_pool("pool", mode="rw", used_data_blocks=8)  # as the kernel does when blocks are free again
    service.watch.look()
    assert not growing.pool().changed
    fill(growing, 0, mode="out_of_data_space")
    assert growing.pool(policy=policy()).facts["status"] == "rw"


def test_a_failure_is_said_once_and_does_not_keep_it_from_other_pools(
    growing: Machine, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LONGEST_SECONDS", 0.0)
    growing.pool(name="other", policy=policy())
    for name in ("pool", "other"):
        growing.fake.set_pool(name, used_data_blocks=63)
    growing.fake.refuse("dmsetup load pool", 5, times=3)
    for _ in range(3):
        service.watch.look()
    assert int(growing.fake.devices()["other"]["table"].split()[1]) > BLOCKS * 128
    assert blocks_of(growing, "pool") == BLOCKS
    assert [line["subject"] for line in lines(growing, "failed")] == ["pool"]
    assert [line.split(":")[0] for line in service.said] == ["command_failed", "grown"]
    service.watch.look()
    assert blocks_of(growing, "pool") == BLOCKS + STEP
    assert growing.left_over() == []


def blocks_of(machine: Machine, name: str) -> int:
    return int(machine.fake.devices()[name]["table"].split()[1]) // 128


def test_after_a_failure_it_waits_before_it_tries_again(growing: Machine, service: Service) -> None:
    fill(growing, 1)
    growing.fake.refuse("dmsetup load pool", 5)
    service.watch.look()
    service.watch.look()
    assert service.writes == 1
    assert blocks(growing) == BLOCKS


def test_a_growth_that_was_killed_is_settled_by_the_next_look(growing: Machine, service: Service) -> None:
    fill(growing, 1)
    growing.killed_at("grow:allocated", Service(growing).watch.look)
    service.watch.look()
    assert growing.left_over() == []
    assert blocks(growing) == BLOCKS + STEP


def test_a_database_of_a_later_release_is_said_once(growing: Machine, service: Service) -> None:
    with growing.host() as host:
        host.store.rows("PRAGMA user_version=99")
    for _ in range(2):
        service.watch.look()
    assert [line.split(":")[0] for line in service.said] == ["unsupported"]


@pytest.mark.parametrize("by", ["stop", "another program"])
def test_it_ends_when_it_is_stopped_and_when_its_program_is_replaced(
    growing: Machine, service: Service, tmp_path: Path, by: str
) -> None:
    program = tmp_path / "program"
    program.write_text("one")
    stopped, stop = os.pipe()
    thread = threading.Thread(
        target=watch,
        args=(service.opened, service.said.append),
        kwargs={"program": str(program), "stop_fd": stopped, "longest_seconds": 0.3},
    )
    thread.start()
    try:
        fill(growing, 1)
        until = time.monotonic() + 30
        while blocks(growing) == BLOCKS and time.monotonic() < until:
            time.sleep(0.1)
        assert thread.is_alive()
        if by == "stop":
            os.write(stop, b"x")
        else:
            program.with_name("new").write_text("other")
            program.with_name("new").rename(program)
        thread.join(30)
        assert not thread.is_alive()
    finally:
        os.write(stop, b"x")
        thread.join(30)
        os.close(stop)
        os.close(stopped)
    assert blocks(growing) == BLOCKS + STEP


# What there is to see of it


def seen(machine: Machine) -> tuple[list[str], dict[str, float]]:
    """The kinds of drift that concern the pool's growth, and the metrics of it."""
    with machine.host(dry_run=True) as host:
        kinds = [one.kind.value for one in drift(host) if one.kind is DriftKind.POOL_CANNOT_GROW]
        lines_of_metrics = [line.split() for line in metrics(host).splitlines() if not line.startswith("#")]
    names = ("max_bytes", "can_grow", "short")
    return kinds, {
        name: float(value) for key, value in lines_of_metrics for name in names if f"flyd_pool_{name}{{" in key
    }


def test_a_pool_that_cannot_grow_is_drift_and_shows_in_the_metrics(growing: Machine) -> None:
    growing.pool(policy=policy(max_size="5M"))
    assert seen(growing) == ([], {"max_bytes": 5 << 20, "can_grow": 1, "short": 0})
    growing.pool(policy=policy(max_size="4M"))
    fill(growing, 1)
    before = growing.everything()
    kinds, found = seen(growing)
    assert growing.everything() == before
    assert (kinds, found) == (["pool_cannot_grow"], {"max_bytes": POOL_BYTES, "can_grow": 0, "short": 1})


def test_a_pool_without_a_policy_is_no_drift_however_full(pooled: Machine) -> None:
    fill(pooled, 0)
    assert seen(pooled) == ([], {"max_bytes": POOL_BYTES, "can_grow": 0, "short": 0})


def test_a_prepared_host_without_the_service_is_warned_of(pooled: Machine) -> None:
    program = pooled.root / "usr/local/lib/flyd-host.py"
    program.parent.mkdir(parents=True)
    program.write_text(f"# Schema of the database: {VERSION}\n")
    assert pooled.pool().facts["warnings"] == pooled.pool(policy=policy("none")).facts["warnings"]
    assert any("no flyd-grow.service" in one for one in pooled.pool(policy=policy()).facts["warnings"])
    unit = pooled.root / "etc/systemd/system/flyd-grow.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert not any("flyd-grow" in one for one in pooled.pool(policy=policy()).facts["warnings"])
