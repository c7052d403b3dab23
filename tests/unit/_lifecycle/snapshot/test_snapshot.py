# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""unpacked → activated: one snapshot for each name, mapped for whom it is meant."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from module_utils._errors import BadInput, Busy, FlydError, NoSpace, OutOfOrder
from module_utils._lifecycle.snapshot.device_node import NodeAccess
from module_utils._lifecycle.snapshot.mode import Mode
from module_utils._lifecycle.store.records import Image, Snapshot, State, Volume
from tests.unit._lifecycle.machine import BASE_BYTES, Machine
from tests.unit.fakes.kernel import Kernel

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the base's tree can only be written by root")


def snapshot(machine: Machine, name: str = "default") -> Snapshot:
    [found] = [one for one in machine.records(Snapshot) if one.name == name]
    assert isinstance(found, Snapshot)
    return found


def node(machine: Machine, name: str = "default") -> Path:
    """The node of a snapshot below the host's /dev."""
    return machine.root / "dev/mapper" / os.path.basename(snapshot(machine, name).device)


def content(machine: Machine, name: str = "default") -> dict[str, bytes]:
    [volume] = [one for one in machine.records(Volume) if one.ulid == snapshot(machine, name).ulid]
    return machine.tree_of(volume)


def test_a_snapshot_is_mapped_and_reported(unpacked: Machine) -> None:
    outcome = unpacked.snapshot()
    made = snapshot(unpacked)
    assert node(unpacked).exists()
    assert made.device == f"/dev/mapper/snap-{made.ulid}"
    drive = {"drive_id": "rootfs", "path_on_host": made.device, "is_root_device": True, "is_read_only": False}
    assert outcome.facts == {
        **outcome.facts,
        "device": made.device,
        "ulid": made.ulid,
        "drive": drive,
        "name": "default",
    }
    [image] = unpacked.records(Image)
    assert (image.state, image.snap_device) == (State.ACTIVATED, made.device)


def test_the_row_of_the_image_shows_the_default_snapshot_or_the_newest(unpacked: Machine) -> None:
    for name in ("blue", "green"):
        unpacked.snapshot(name)
        [image] = unpacked.records(Image)
        assert (image.state, image.snap_device) == (State.ACTIVATED, snapshot(unpacked, name).device)
    unpacked.snapshot()
    unpacked.snapshot("red")
    assert unpacked.records(Image)[0].snap_device == snapshot(unpacked).device
    unpacked.remove_snapshot()
    assert unpacked.records(Image)[0].snap_device == snapshot(unpacked, "red").device


def test_a_named_snapshot_is_in_the_result_with_the_line_of_success(unpacked: Machine) -> None:
    facts = unpacked.snapshot("blue").facts
    device = snapshot(unpacked, "blue").device
    assert (facts["snap_device"], facts["msg"]) == (device, f"SUCCESS: Image activated at device {device}")
    again = unpacked.snapshot("blue").facts
    assert (again["snap_device"], again["msg"]) == (device, facts["msg"])
    assert [line["message"] for line in unpacked.log() if "message" in line] == [facts["msg"]]


def test_a_second_name_is_a_second_snapshot_and_what_is_written_to_one_is_not_seen_in_another(
    activated: Machine,
) -> None:
    assert activated.snapshot("second").changed
    (activated.fake.tree(str(node(activated))) / "pattern").write_bytes(b"written by a guest")
    assert activated.snapshot("third").changed
    assert "pattern" in content(activated)
    assert content(activated, "second") == content(activated, "third") == {"etc/kept": b"kept", "redis-server": b"#!"}
    assert activated.left_over() == []


def test_the_same_snapshot_is_mapped_again_when_another_program_has_unmapped_it(activated: Machine) -> None:
    before = snapshot(activated)
    activated.fake.dm.remove(node(activated).name)
    outcome = activated.snapshot()
    assert (outcome.changed, outcome.facts["ulid"]) == (True, before.ulid)
    assert activated.records(Snapshot) == [before]
    assert not activated.snapshot().changed
    assert activated.left_over() == []


def test_a_snapshot_whose_node_was_lost_gets_it_back(activated: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils._thin.dm.dmsetup._NODE_SECONDS", 0.05)
    node(activated).unlink()
    assert activated.snapshot().changed
    assert node(activated).exists()


def test_a_snapshot_before_the_pool_is_back_is_reported(activated: Machine) -> None:
    activated.fake.reboot()
    with pytest.raises(OutOfOrder, match="is not active"):
        activated.snapshot()


def test_an_origin_that_another_program_has_mapped_is_suspended_and_resumed(unpacked: Machine) -> None:
    [base] = unpacked.records(Volume)
    with unpacked.host() as host:
        pool = host.dm.by_name("pool")
        assert pool is not None
        host.dm.create(base.device_name, base.uuid, f"0 {base.sectors} thin {pool.number} {base.thin_id}")
    unpacked.snapshot()
    assert not unpacked.fake.devices()[base.device_name]["suspended"]
    with Kernel.of(str(unpacked.root)) as kernel:
        metadata = kernel.metadata(kernel.devices["pool"]["table"].split())
    assert "corrupted" not in metadata


# Size and mode


def test_a_larger_snapshot_gets_a_file_system_that_fills_it(unpacked: Machine) -> None:
    unpacked.snapshot(size_bytes=2 * BASE_BYTES - 1)
    [action] = [line for line in unpacked.ran if line.startswith("resize2fs")]
    assert node(unpacked).stat().st_size == 2 * BASE_BYTES
    assert action.endswith(str(node(unpacked)))


def test_a_snapshot_smaller_than_its_base_is_refused(unpacked: Machine) -> None:
    with pytest.raises(BadInput, match="is smaller than the base"):
        unpacked.snapshot(size_bytes=BASE_BYTES // 2)
    assert unpacked.left_over() == []


def test_a_read_only_snapshot_is_mapped_so(unpacked: Machine) -> None:
    assert unpacked.snapshot(read_only=True).facts["drive"]["is_read_only"] is True
    assert unpacked.fake.devices()[node(unpacked).name]["ro"] is True
    assert not unpacked.snapshot(read_only=True).changed


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_snapshot_grows_while_it_is_in_use_and_its_file_system_is_left_alone(
    activated: Machine, rebooted: bool
) -> None:
    if rebooted:
        activated.fake.reboot()
    else:
        activated.fake.hold(node(activated).name)
    foreseen = activated.snapshot(size_bytes=2 * BASE_BYTES, dry_run=True) if not rebooted else None
    if rebooted:
        activated.pool()
    outcome = activated.snapshot(size_bytes=2 * BASE_BYTES)
    assert (outcome.changed, outcome.facts["size"]) == (True, 2 * BASE_BYTES)
    assert foreseen is None or (foreseen.before, foreseen.after) == (outcome.before, outcome.after)
    assert activated.fake.devices()[node(activated).name]["table"].split()[1] == str(2 * BASE_BYTES // 512)
    assert not [line for line in activated.ran if line.startswith(("resize2fs", "e2fsck"))]
    assert not activated.snapshot(size_bytes=2 * BASE_BYTES).changed
    activated.fake.let_go()
    assert activated.left_over() == []


def test_a_growth_that_is_killed_between_store_and_device_is_completed(activated: Machine) -> None:
    found = snapshot(activated)
    with activated.host() as host, host.store.transaction():
        [volume] = host.store.all(Volume, "ulid=?", found.ulid)
        host.store.put(volume._replace(sectors=2 * volume.sectors))
    outcome = activated.snapshot()
    assert (outcome.changed, outcome.facts["size"]) == (True, 2 * BASE_BYTES)
    assert node(activated).stat().st_size == 2 * BASE_BYTES
    assert not activated.snapshot().changed
    assert activated.left_over() == []


def test_a_snapshot_refuses_writes_and_takes_them_again(activated: Machine) -> None:
    for read_only in (True, False):
        foreseen = activated.snapshot(read_only=read_only, dry_run=True)
        outcome = activated.snapshot(read_only=read_only)
        assert (outcome.changed, outcome.facts["read_only"]) == (True, read_only)
        assert (foreseen.before, foreseen.after) == (outcome.before, outcome.after)
        assert activated.fake.devices()[node(activated).name]["ro"] is read_only
        assert snapshot(activated).read_only is read_only
        assert not activated.snapshot(read_only=read_only).changed
    assert activated.left_over() == []


def test_one_that_is_in_use_keeps_the_way_it_is_mapped(activated: Machine) -> None:
    activated.fake.hold(node(activated).name)
    before = activated.fake.devices()
    with pytest.raises(Busy):
        activated.snapshot(read_only=True)
    assert activated.fake.devices() == before
    assert not snapshot(activated).read_only
    activated.fake.let_go()
    assert activated.snapshot(read_only=True).changed


def test_a_change_that_is_killed_before_the_device_follows_is_completed(activated: Machine) -> None:
    with activated.host() as host, host.store.transaction():
        host.store.put(snapshot(activated)._replace(read_only=True))
    assert activated.snapshot(read_only=True).changed
    assert activated.fake.devices()[node(activated).name]["ro"] is True
    assert activated.left_over() == []


def test_a_snapshot_that_is_there_does_not_become_smaller(activated: Machine) -> None:
    activated.snapshot(size_bytes=2 * BASE_BYTES)
    before = activated.fake.devices()
    for dry_run in (True, False):
        with pytest.raises(BadInput, match="exists with size: 2 MiB"):
            activated.snapshot(size_bytes=BASE_BYTES, dry_run=dry_run)
    assert activated.fake.devices() == before


def test_a_snapshot_is_never_looked_for_in_another_pool(activated: Machine) -> None:
    activated.fake.dm.remove(node(activated).name)
    activated.pool(name="other")
    with activated.host(pool="other") as host:
        host.dm.message("other", "create_thin 2")  # another program's volume, of the same number
    with pytest.raises(BadInput, match="lies in the pool 'pool', not in 'other'"):
        activated.snapshot(pool="other")
    assert not node(activated).exists()


@pytest.mark.parametrize("pool", ["other"])
def test_a_base_in_another_pool_is_reported(unpacked: Machine, pool: str) -> None:
    unpacked.pool(name=pool)
    with pytest.raises(BadInput, match="lies in the pool 'pool', not in 'other'"):
        unpacked.snapshot(pool=pool)


@pytest.mark.parametrize("line", ["dmsetup message pool 0 create_snap", "dmsetup create snap-"])
def test_a_program_that_fails_leaves_no_snapshot(unpacked: Machine, line: str) -> None:
    unpacked.fake.refuse(line, errno.EIO)
    with pytest.raises(FlydError):
        unpacked.snapshot()
    assert unpacked.left_over() == []
    assert unpacked.snapshot().changed


# The node


@needs_root
def test_the_node_gets_the_owner_and_mode_that_were_asked_for(unpacked: Machine) -> None:
    unpacked.snapshot(access=NodeAccess(uid=1234, gid=2345, mode=Mode(0o640)))
    seen = node(unpacked).stat()
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (1234, 2345, 0o640)
    assert not unpacked.snapshot(access=NodeAccess(uid=1234, gid=2345, mode=Mode(0o640))).changed
    assert not unpacked.snapshot().changed, "what is not asked for is left alone"
    assert unpacked.snapshot(access=NodeAccess(mode=Mode(0o600))).changed
    assert stat.S_IMODE(node(unpacked).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("owner", "group", "mode", "expected"),
    [
        ("", "", "", NodeAccess(-1, -1, None)),
        ("1234", "2345", "0660", NodeAccess(1234, 2345, Mode(0o660))),
        ("root", "root", "640", NodeAccess(0, 0, Mode(0o640))),
    ],
)
def test_access_is_read_from_names_and_numbers(owner: str, group: str, mode: str, expected: NodeAccess) -> None:
    assert NodeAccess.parse(owner, group, mode) == expected


@pytest.mark.parametrize(
    ("owner", "group", "mode"),
    [
        ("nobody-of-that-name", "", ""),
        ("", "no-group-of-that-name", ""),
        ("", "", "rw-"),
        ("", "", "0999"),
        ("", "", "14755"),
        ("", "", "-1"),
        ("", "", "-0"),
        ("99999999999", "", ""),
    ],
)
def test_access_that_cannot_be_given_is_refused(owner: str, group: str, mode: str) -> None:
    with pytest.raises(BadInput):
        NodeAccess.parse(owner, group, mode)


def test_a_snapshot_needs_metadata_for_what_is_written_to_it(unpacked: Machine) -> None:
    before = unpacked.left_over()
    unpacked.fake.set_pool("pool", used_metadata_blocks=64 - 31)
    for dry_run in (True, False):
        with pytest.raises(NoSpace, match="of metadata free") as caught:
            unpacked.snapshot(dry_run=dry_run)
        assert "set metadata_size: 64M on flyd_pool" in caught.value.hint
    assert unpacked.left_over() == before
    unpacked.fake.set_pool("pool", used_metadata_blocks=64 - 32)
    assert unpacked.snapshot().changed
