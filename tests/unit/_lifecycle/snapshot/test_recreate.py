# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_snapshot with recreate: a new snapshot takes the name of the old one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from module_utils._errors import Busy, FlydError, OutOfOrder
from module_utils._lifecycle.snapshot.device_node import NodeAccess
from module_utils._lifecycle.snapshot.mode import Mode
from module_utils._lifecycle.store.records import Image, Snapshot, Volume
from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import BASE_BYTES, Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the base's tree can only be written by root")


def only(machine: Machine) -> Snapshot:
    [found] = machine.records(Snapshot)
    assert isinstance(found, Snapshot)
    return found


def node(machine: Machine) -> Path:
    return machine.root / "dev/mapper" / os.path.basename(only(machine).device)


def content(machine: Machine) -> dict[str, bytes]:
    [volume] = [one for one in machine.records(Volume) if one.ulid == only(machine).ulid]
    return machine.tree_of(volume)


def write(machine: Machine) -> None:
    """Let a guest overwrite the start of its disk."""
    with open(os.path.realpath(node(machine)), "r+b") as file:
        file.write(b"guest" * 4096)
        os.fsync(file.fileno())
    machine.fake.commit(os.path.basename(only(machine).device))


def test_the_new_one_has_the_content_of_the_base_and_the_name(activated: Machine) -> None:
    old, was = only(activated), content(activated)
    write(activated)
    outcome = activated.snapshot(recreate=True)
    new = only(activated)
    assert (outcome.changed, outcome.facts["removed"]) == (True, [old.device])
    assert (new.name, outcome.facts["device"]) == (old.name, new.device)
    assert new.ulid != old.ulid
    assert content(activated) == was
    assert activated.records(Image)[0].snap_device == new.device
    assert not (activated.root / "dev/mapper" / os.path.basename(old.device)).exists()
    assert len(activated.fake.thin_ids("pool")) == len(activated.records(Volume)) == 2
    assert activated.left_over() == []
    assert not activated.snapshot().changed


def test_what_is_left_out_is_as_it_was(unpacked: Machine) -> None:
    access = NodeAccess(1234, 4321, Mode.parse("0640"))
    unpacked.snapshot(size_bytes=2 * BASE_BYTES, read_only=True, access=access)
    facts = unpacked.snapshot(recreate=True).facts
    assert (facts["size"], facts["read_only"]) == (2 * BASE_BYTES, True)
    assert access.found(str(node(unpacked))) == {"uid": 1234, "gid": 4321, "mode": "0640"}
    after = unpacked.snapshot(recreate=True, size_bytes=BASE_BYTES, read_only=False).facts
    assert (after["size"], after["read_only"]) == (BASE_BYTES, False)


def test_without_a_snapshot_it_makes_one(unpacked: Machine) -> None:
    outcome = unpacked.snapshot(recreate=True)
    assert outcome.changed
    assert "removed" not in outcome.facts


def test_check_mode_predicts_the_real_run(activated: Machine) -> None:
    before = activated.everything()
    predicted = activated.snapshot(recreate=True, dry_run=True)
    assert activated.everything() == before
    real = activated.snapshot(recreate=True)
    assert (predicted.changed, predicted.facts["removed"], predicted.facts["size"]) == (
        True,
        real.facts["removed"],
        None,
    )
    assert set(predicted.after) == set(real.after)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_device_in_use_is_refused_and_stays(activated: Machine, dry_run: bool) -> None:
    old = only(activated)
    activated.fake.hold(os.path.basename(old.device))
    with pytest.raises(Busy):
        activated.snapshot(recreate=True, dry_run=dry_run)
    assert only(activated) == old


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_snapshot_of_an_instance_is_refused(activated: Machine, dry_run: bool) -> None:
    bound = Bound(activated)
    bound.bind()
    [name] = [one.name for one in activated.records(Snapshot) if one.device == bound.device]
    with pytest.raises(OutOfOrder, match="in use by the instance"):
        activated.snapshot(name, recreate=True, dry_run=dry_run)


def test_when_the_new_one_cannot_be_made_the_old_one_stays(activated: Machine) -> None:
    old, was = only(activated), content(activated)
    activated.fake.refuse("create_snap", errno.EIO)
    with pytest.raises(FlydError):
        activated.snapshot(recreate=True)
    assert (only(activated), content(activated)) == (old, was)
    assert activated.left_over() == []


@pytest.mark.parametrize("label", ["snap:sent", "snapshot:mapped", "remove:unmapped", "remove:planned", "delete:sent"])
def test_killed_anywhere_one_of_the_two_is_there(activated: Machine, label: str) -> None:
    old = only(activated)
    activated.killed_at(label, lambda: activated.snapshot(recreate=True))
    is_new = only(activated).ulid != old.ulid
    assert is_new == (label in ("remove:planned", "delete:sent"))
    facts = activated.snapshot().facts
    assert facts["ulid"] == only(activated).ulid
    assert node(activated).exists()
    assert len(activated.fake.thin_ids("pool")) == 2
    assert activated.left_over() == []
