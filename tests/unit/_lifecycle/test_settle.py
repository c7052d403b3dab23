# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was cut off left behind is settled; what belongs to a living one, or is finished, is let alone."""

from __future__ import annotations

from typing import Any

import pytest

from module_utils._host.process import own_identity
from module_utils._lifecycle.records import Operation, OperationKind, Volume, VolumeState
from module_utils._lifecycle.settle import abandoned, settle
from module_utils._lifecycle.volumes import active_pool, create_volume, map_thin, new_volume_ulid
from tests.unit._lifecycle.disk import gone_pid
from tests.unit._lifecycle.machine import KEY, Machine

ME = own_identity()


def intent(kind: OperationKind = OperationKind.UNPACK, volume_ulid: str = "") -> Operation:
    """The intent of a process that is gone."""
    return Operation(new_volume_ulid(), kind, KEY.value, volume_ulid, ME.boot_id, gone_pid(), 1)


def leave(machine: Machine, *records: object) -> None:
    with machine.host() as host, host.store.transaction():
        for record in records:
            host.store.put(record)


def settled(machine: Machine, *, dry_run: bool = False) -> list[str]:
    """What a run says that it has settled."""
    with machine.host(dry_run=dry_run) as host:
        settle(host)
        return host.settled


def volume_left_by(machine: Machine, operation: Operation, state: VolumeState) -> Volume:
    """A mapped volume whose row is in ``state``."""
    with machine.host() as host:
        pool = active_pool(host, "pool")
        made = create_volume(host, pool, operation, kind="base", sectors=2048)
        map_thin(host, pool, made)
    left = made._replace(state=state)
    leave(machine, left)
    return left


def test_on_a_host_at_rest_nothing_is_settled_and_nothing_written(pooled: Machine) -> None:
    before = pooled.everything()
    assert settled(pooled) == []
    assert pooled.everything() == before


@pytest.mark.parametrize(
    "gone",
    [
        {"boot_id": "00000000-0000-4000-8000-000000000000"},
        {"started": ME.started - 1},
        {"pid": gone_pid()},
    ],
    ids=["of another boot", "whose pid was given again", "without a process"],
)
def test_the_intent_of_a_process_that_is_gone_is_settled(pooled: Machine, gone: dict[str, Any]) -> None:
    operation = intent()._replace(boot_id=ME.boot_id, pid=ME.pid, started=ME.started)
    leave(pooled, operation._replace(**gone))
    assert settled(pooled) == [f"undid the unpack of {KEY}"]
    assert pooled.left_over() == []
    assert settled(pooled) == []


def test_the_intent_of_a_living_process_is_let_alone(pooled: Machine) -> None:
    leave(pooled, intent()._replace(pid=ME.pid, started=ME.started))
    before = pooled.everything()
    assert settled(pooled) == []
    assert pooled.everything() == before


@pytest.mark.parametrize("arrow", ["pool", "fetch"])
def test_the_lock_of_a_dead_run_goes_with_the_next_run_even_if_that_has_nothing_to_do(
    fetched: Machine, arrow: str
) -> None:
    with fetched.host() as host:
        host.store.rows("INSERT INTO _busy VALUES ('image x', ?, ?, ?)", ME.boot_id, gone_pid(), 1)
    assert not getattr(fetched, arrow)(dry_run=True).changed
    assert fetched.left_over() == ["locks: [('image x',)], not []"]
    assert not getattr(fetched, arrow)().changed
    before = fetched.everything()
    assert fetched.left_over() == []
    assert not getattr(fetched, arrow)().changed
    assert fetched.everything() == before


@pytest.mark.parametrize("state", [VolumeState.PLANNED, VolumeState.CREATED, VolumeState.DELETING])
def test_an_unfinished_volume_is_unmapped_and_deleted(pooled: Machine, state: VolumeState) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, state)
    assert settled(pooled) == [f"undid the unpack of {KEY} ({volume.device_name})"]
    assert pooled.fake.thin_ids("pool") == set()
    assert pooled.left_over() == []


def test_a_volume_that_is_live_is_never_deleted(pooled: Machine) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.LIVE)
    settled(pooled)
    assert pooled.records(Volume) == [volume]
    assert pooled.fake.thin_ids("pool") == {volume.thin_id}
    assert pooled.records(Operation) == []


def test_an_intent_waits_for_its_pool(pooled: Machine) -> None:
    operation = intent(volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.CREATED)
    pooled.fake.reboot()
    assert settled(pooled) == []
    assert pooled.records(Operation) == [operation]
    assert pooled.pool().settled == (f"undid the unpack of {KEY} ({volume.device_name})",)
    assert pooled.left_over() == []


def test_check_mode_says_what_would_be_settled_and_writes_nothing(pooled: Machine) -> None:
    operation = intent(OperationKind.REMOVE, volume_ulid=new_volume_ulid())
    volume = volume_left_by(pooled, operation, VolumeState.DELETING)
    before = pooled.everything()
    assert settled(pooled, dry_run=True) == [f"would finish the remove of {KEY} ({volume.device_name})"]
    assert pooled.everything() == before


@pytest.mark.parametrize("kind", [OperationKind.POOL, OperationKind.FETCH, OperationKind.TEARDOWN])
def test_what_its_own_module_takes_up_again_is_left_to_it(pooled: Machine, kind: OperationKind) -> None:
    operation = intent(kind)
    leave(pooled, operation)
    with pooled.host() as host:
        assert abandoned(host) == []
    assert settled(pooled) == []
    assert pooled.records(Operation) == [operation]


def test_what_was_settled_is_in_the_log(pooled: Machine) -> None:
    leave(pooled, intent())
    settled(pooled)
    assert (pooled.log()[-1]["event"], pooled.log()[-1]["what"]) == ("settled", f"undid the unpack of {KEY}")
