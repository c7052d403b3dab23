# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a reboot everything that was there comes back, and nothing else."""

from __future__ import annotations

import pytest

from module_utils._errors import CorruptStore
from module_utils._lifecycle.node import NodeAccess
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.records import Snapshot
from module_utils._lifecycle.restore import restore
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import Machine


def restored(machine: Machine) -> Outcome:
    return machine.run(restore)


@pytest.mark.parametrize("stage", ["pooled", "fetched", "unpacked", "activated"])
def test_every_state_comes_back_as_it_was(stages: Stages, stage: str) -> None:
    if stage in ("unpacked", "activated"):
        needs_root()
    machine = stages.at(stage)
    before = {name: device["uuid"] for name, device in machine.fake.devices().items()}
    machine.fake.reboot()
    assert restored(machine).changed
    assert {name: device["uuid"] for name, device in machine.fake.devices().items()} == before
    assert machine.left_over() == []
    assert not machine.pool().changed
    if stage == "activated":
        assert not machine.snapshot().changed


def test_what_is_there_is_let_alone(activated: Machine) -> None:
    devices = activated.fake.devices()
    assert not restored(activated).changed
    assert activated.fake.devices() == devices


def test_the_node_of_a_snapshot_has_its_owner_and_mode_again(activated: Machine) -> None:
    activated.snapshot(access=NodeAccess(uid=1, mode=0o640))
    activated.snapshot(access=NodeAccess(gid=2))
    path = activated.fake.root / "dev/mapper" / activated.records(Snapshot)[0].device.rpartition("/")[2]
    activated.fake.reboot()
    restored(activated)
    seen = path.stat()
    assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o777) == (1, 2, 0o640)


def test_on_a_host_without_pools_nothing_is_done(virgin: Machine) -> None:
    assert not restored(virgin).changed
    assert virgin.fake.devices() == {}


def test_a_pool_in_trouble_is_told_and_the_others_come_back(activated: Machine) -> None:
    activated.pool(name="other")
    activated.fake.set_pool("other", damaged=True)
    activated.fake.reboot()
    with pytest.raises(CorruptStore, match="thin_check refuses"):
        restored(activated)
    assert set(activated.fake.devices()) == {"pool", activated.records(Snapshot)[0].device.rpartition("/")[2]}


@pytest.mark.parametrize("label", ["base:told", "unpack:written", "snapshot:mapped"])
def test_what_was_cut_off_by_the_reboot_is_settled(stages: Stages, label: str) -> None:
    needs_root()
    arrow = "snapshot" if label.startswith("snap") else "unpack"
    machine = stages.at("unpacked" if arrow == "snapshot" else "fetched")
    machine.killed_at(label, getattr(machine, arrow))
    machine.fake.reboot()
    assert any("undid" in line for line in restored(machine).settled)
    assert machine.left_over() == []
