# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool is made once, comes back after a reboot, and is never mistaken for another one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import (
    BadInput,
    Busy,
    CorruptStore,
    DamagedPool,
    FlydError,
    ForeignDevice,
    NoSpace,
    OutOfOrder,
    Unsupported,
)
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.pool.data_size import DataSize
from module_utils._lifecycle.store.records import Operation, PoolRecord
from module_utils._lifecycle.volumes.missing_volumes import foreign_thin_ids
from module_utils._lifecycle.volumes.volumes import _free_thin_id
from module_utils._names import exact_size_text, option_size
from module_utils._thin.pool.reserve import RESERVED_BYTES, RESERVED_ID
from tests.unit._lifecycle.conftest import needs_root
from tests.unit._lifecycle.machine import METADATA_BYTES, POOL_BYTES, Machine
from tests.unit._thin.host_files import RULE, Files

GREATER_THAN_ANY_DISK = 1 << 60


def record(machine: Machine) -> PoolRecord:
    [found] = machine.records(PoolRecord)
    assert isinstance(found, PoolRecord)
    return found


def replace_by_link(path: Path) -> None:
    path.rename(f"{path}.away")
    path.symlink_to(f"{path}.away")


def nothing_is_left(machine: Machine) -> bool:
    """Whether the host is as before, but for an empty store and the log."""
    files = [path for path in (machine.state / "pools").rglob("*") if path.is_file()]
    recorded = [*machine.records(PoolRecord), *machine.records(Operation)]
    return not (files or recorded or machine.fake.loops() or "FLYD" in str(machine.fake.devices()))


# Made once


def test_a_pool_is_made_and_reported(virgin: Machine) -> None:
    outcome = virgin.pool()
    pool = record(virgin)
    assert outcome.changed
    assert (outcome.before["active"], outcome.after["active"]) == (False, True)
    assert outcome.facts["device"] == "/dev/mapper/pool"
    assert outcome.facts["status"] == "rw"
    assert outcome.facts["data"]["size"] == POOL_BYTES
    assert outcome.facts["transaction_id"] == pool.transaction_id
    assert virgin.fake.devices()["pool"]["uuid"] == f"FLYD-{pool.id}-pool"
    assert virgin.left_over() == []


def test_two_pools_never_begin_at_the_same_transaction(virgin: Machine) -> None:
    virgin.pool()
    virgin.pool(name="other")
    first, second = virgin.records(PoolRecord)
    assert first.transaction_id != second.transaction_id
    assert min(first.transaction_id, second.transaction_id) >= 1 << 32


def test_a_second_run_finds_it_and_writes_nothing(pooled: Machine) -> None:
    before = pooled.everything()
    outcome = pooled.pool()
    assert not outcome.changed
    assert outcome.before == outcome.after
    assert pooled.everything() == before


def test_a_host_on_which_udev_may_read_what_guests_write_is_warned_of(virgin: Machine) -> None:
    """In each run, in check mode too: a pool that is there is no reason to be silent."""
    files = Files(virgin.root)

    def of_udev(*, dry_run: bool = False) -> list[str]:
        return [line for line in virgin.pool(dry_run=dry_run).facts["warnings"] if "udev" in line]

    assert of_udev(dry_run=True) == []
    files.put("run/udev/control")
    for dry_run in (True, False, False, True):
        [warning] = of_udev(dry_run=dry_run)
        assert warning.startswith("the udev rule 10-flyd.rules is missing")
        assert "run the role flyd.lite.prepare" in warning
    files.put("etc/udev/rules.d/10-flyd.rules", RULE)
    [warning] = of_udev()
    assert "has not been applied to pool" in warning
    with virgin.host() as host:
        device = host.dm.by_name("pool")
    assert device is not None
    files.put(f"run/udev/data/b{device.number}", "E:FLYD_RULES=1\n")
    assert of_udev() == []


def test_the_backing_files_are_ours_alone(pooled: Machine) -> None:
    pool = record(pooled)
    assert [oct(os.stat(path).st_mode & 0o777) for path in (pool.data, pool.metadata)] == ["0o600"] * 2
    assert oct(os.stat(os.path.dirname(pool.data)).st_mode & 0o777) == "0o700"


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"data_bytes": POOL_BYTES // 2}, "data_size"),
        ({"metadata_bytes": METADATA_BYTES // 2}, "metadata_size"),
        ({"block_bytes": 1 << 17}, "block_size"),
        ({"data": "/srv/other"}, "data_file or data_device"),
        ({"metadata": "/srv/other"}, "metadata_file or metadata_device"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_cannot_be_changed_in_a_pool_is_refused(
    pooled: Machine, asked: dict[str, Any], what: str, dry_run: bool
) -> None:
    before = pooled.everything()
    with pytest.raises(BadInput, match=f"exists with {what}"):
        pooled.pool(**asked, dry_run=dry_run)
    assert pooled.everything() == before


def test_a_size_that_is_no_multiple_of_a_block_is_found_again(virgin: Machine) -> None:
    assert virgin.pool(data_bytes=POOL_BYTES + 1000).changed
    assert not virgin.pool(data_bytes=POOL_BYTES + 1000).changed


# After a reboot


def test_after_a_reboot_the_pool_is_the_same(pooled: Machine) -> None:
    before = record(pooled)
    pooled.fake.reboot()
    assert pooled.pool().changed
    assert record(pooled) == before
    assert pooled.left_over() == []
    assert not pooled.pool().changed


def test_a_pool_that_was_left_suspended_is_resumed(pooled: Machine) -> None:
    pooled.fake.dm.suspend("pool")
    assert pooled.pool().changed
    assert not pooled.fake.devices()["pool"]["suspended"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_looking_after_a_reboot_says_that_it_would_come_back(pooled: Machine, dry_run: bool) -> None:
    pooled.fake.reboot()
    outcome = pooled.pool(dry_run=dry_run)
    assert (outcome.changed, outcome.before["active"], outcome.after["active"]) == (True, False, True)


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: os.truncate(path, 4096), "are expected"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "it is blank"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "not the metadata of a thin pool"),
        (lambda path: path.chmod(0o666), "others could change"),
        (replace_by_link, "is a symbolic link"),
    ],
    ids=["missing", "shorter", "cleared", "overwritten", "open to others", "a link"],
)
def test_metadata_that_is_not_what_it_was_is_refused_and_not_touched(pooled: Machine, harm: Any, error: str) -> None:
    metadata = Path(record(pooled).metadata)
    pooled.fake.reboot()
    harm(metadata)
    seen = metadata.read_bytes() if metadata.exists() else b""
    with pytest.raises(FlydError, match=error):
        pooled.pool()
    assert (metadata.read_bytes() if metadata.exists() else b"") == seen
    assert (pooled.fake.devices(), pooled.fake.loops()) == ({}, {})


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: os.truncate(path, 4096), "are expected"),
        (lambda path: os.truncate(path, 2 * POOL_BYTES), "are expected"),
        (lambda path: path.chmod(0o666), "others could change"),
        (lambda path: os.chown(path, 1, -1), "belongs to uid 1"),
        (replace_by_link, "is a symbolic link"),
    ],
    ids=["missing", "shorter", "longer", "open to others", "of another owner", "a link"],
)
def test_data_that_is_not_what_it_was_is_refused_and_not_touched(
    pooled: Machine, harm: Any, error: str, dry_run: bool
) -> None:
    needs_root()
    data = Path(record(pooled).data)
    pooled.fake.reboot()
    harm(data)
    seen = data.read_bytes() if data.exists() else b""
    with pytest.raises(FlydError, match=error):
        pooled.pool(dry_run=dry_run)
    assert (data.read_bytes() if data.exists() else b"") == seen
    assert (pooled.fake.devices(), pooled.fake.loops()) == ({}, {})


def test_exchanged_metadata_is_refused_although_it_is_sound(pooled: Machine) -> None:
    pooled.pool(name="other")
    first, second = pooled.records(PoolRecord)
    pooled.fake.reboot()
    Path(first.metadata).write_bytes(Path(second.metadata).read_bytes())
    with pytest.raises(CorruptStore, match="this is not the pool it was"):
        pooled.pool()
    assert (pooled.fake.devices(), pooled.fake.loops()) == ({}, {})


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_active_pool_of_another_time_is_refused(pooled: Machine, dry_run: bool) -> None:
    pooled.fake.set_pool("pool", transaction_id=record(pooled).transaction_id + 5)
    with pytest.raises(CorruptStore, match="not the pool it was" if dry_run else "do not belong together"):
        pooled.pool(dry_run=dry_run)


def test_a_pool_that_is_one_ahead_without_a_reason_is_refused(pooled: Machine) -> None:
    pooled.fake.set_pool("pool", transaction_id=record(pooled).transaction_id + 1)
    with pytest.raises(CorruptStore, match="do not belong together"):
        pooled.pool()


# Health


@pytest.mark.parametrize(
    ("facts", "kind", "message"),
    [
        ({"mode": "ro"}, DamagedPool, "read-only"),
        ({"mode": "out_of_data_space"}, NoSpace, "out of data space"),
        ({"mode": "Fail"}, DamagedPool, "has failed"),
        ({"needs_check": True}, DamagedPool, "needs_check"),
    ],
)
@pytest.mark.parametrize(
    ("rebooted", "dry_run"), [(False, False), (False, True), (True, False)], ids=["found", "looked at", "brought back"]
)
def test_a_sick_pool_is_reported_with_its_kind(
    pooled: Machine, facts: dict[str, Any], kind: type[FlydError], message: str, rebooted: bool, dry_run: bool
) -> None:
    pooled.fake.set_pool("pool", **facts)
    if rebooted:
        pooled.fake.reboot()
    with pytest.raises(kind, match=message):
        pooled.pool(dry_run=dry_run)


def test_a_pool_with_less_room_than_asked_for_is_reported(virgin: Machine) -> None:
    virgin.pool(min_free_percent=10)
    virgin.fake.set_pool("pool", used_data_blocks=POOL_BYTES // (1 << 16) - 1)
    with pytest.raises(NoSpace, match="min_free_percent"):
        virgin.pool(min_free_percent=10)


def test_the_room_that_is_asked_for_can_be_lowered_as_the_hint_says(virgin: Machine) -> None:
    virgin.pool(min_free_percent=10)
    virgin.fake.set_pool("pool", used_data_blocks=POOL_BYTES // (1 << 16) - 1)
    assert virgin.pool(min_free_percent=0).changed
    assert not virgin.pool(min_free_percent=0).changed


# A creation that does not succeed leaves nothing, and the next right one does


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_kernel_without_thin_pools_is_reported_and_nothing_is_made(virgin: Machine, dry_run: bool) -> None:
    virgin.fake.without_target()
    with pytest.raises(Unsupported, match="no device-mapper target thin-pool"):
        virgin.pool(dry_run=dry_run)
    assert nothing_is_left(virgin)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_foreign_device_with_the_pools_name_is_reported_and_left_alone(virgin: Machine, dry_run: bool) -> None:
    virgin.fake.make_foreign("pool")
    before = virgin.fake.devices()
    with pytest.raises(ForeignDevice, match="named pool exists and is not ours"):
        virgin.pool(dry_run=dry_run)
    assert virgin.fake.devices() == before
    assert nothing_is_left(virgin)


def test_a_foreign_device_that_took_the_name_while_the_pool_was_down_is_refused(pooled: Machine) -> None:
    pooled.fake.reboot()
    pooled.fake.make_foreign("pool")
    with pytest.raises(ForeignDevice, match="is not ours"):
        pooled.pool()
    assert pooled.fake.loops() == {}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_pool_too_large_for_the_disk_can_be_asked_for_smaller(virgin: Machine, dry_run: bool) -> None:
    with pytest.raises(NoSpace) as refused:
        virgin.pool(data_bytes=GREATER_THAN_ANY_DISK, block_bytes=1 << 30, dry_run=dry_run)
    assert refused.value.hint.startswith("give a smaller data_size or another data_file")
    assert nothing_is_left(virgin)
    assert virgin.pool().changed
    assert virgin.left_over() == []


@pytest.mark.parametrize("line", ["losetup --find", "dmsetup create", "dmsetup message pool 0 set_transaction_id"])
def test_a_creation_that_fails_on_its_way_leaves_nothing(virgin: Machine, line: str) -> None:
    virgin.fake.refuse(line, errno.EIO)
    with pytest.raises(FlydError):
        virgin.pool()
    assert nothing_is_left(virgin)
    assert virgin.pool(data_bytes=2 * POOL_BYTES).changed
    assert virgin.left_over() == []


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("what", "found_bytes", "wanted_bytes", "size"),
    [
        ("data", POOL_BYTES // 2, POOL_BYTES, f"data_size: {option_size(POOL_BYTES // 2)}"),
        ("data", POOL_BYTES - 512, POOL_BYTES, ""),
        ("metadata", 2 * METADATA_BYTES, METADATA_BYTES, f"metadata_size: {option_size(2 * METADATA_BYTES)}"),
    ],
)
def test_a_file_of_the_operator_in_another_size_is_refused_in_check_mode_too(
    virgin: Machine, what: str, found_bytes: int, wanted_bytes: int, size: str, dry_run: bool
) -> None:
    path = virgin.root / "files" / what
    path.write_bytes(bytes(found_bytes))
    path.chmod(0o600)
    with pytest.raises(BadInput) as refused:
        virgin.pool(**{what: str(path)}, dry_run=dry_run)
    text = f"{path} exists with {exact_size_text(found_bytes)}, and {exact_size_text(wanted_bytes)} of {what}"
    assert text in refused.value.msg
    assert size in refused.value.hint
    assert f"another {what}_file" in refused.value.hint
    assert ("_size" in refused.value.hint) == bool(size)
    assert path.stat().st_size == found_bytes
    assert nothing_is_left(virgin)


def test_files_of_the_operator_are_used_and_not_removed_when_the_creation_fails(virgin: Machine) -> None:
    files = virgin.root / "files"
    for name, size in (("data", POOL_BYTES), ("metadata", METADATA_BYTES)):
        (files / name).write_bytes(bytes(size))
        (files / name).chmod(0o600)
    virgin.fake.refuse("dmsetup create", errno.EIO)
    with pytest.raises(FlydError):
        virgin.pool(data=str(files / "data"), metadata=str(files / "metadata"))
    assert sorted(path.name for path in files.iterdir()) == ["data", "metadata"]
    assert virgin.pool(data=str(files / "data"), metadata=str(files / "metadata")).changed


def test_metadata_of_another_pool_is_never_taken_for_a_new_one(pooled: Machine) -> None:
    pool = record(pooled)
    pooled.fake.reboot()
    seen = Path(pool.metadata).read_bytes()
    with pytest.raises(BadInput, match="is not blank"):
        pooled.pool(name="other", data=pool.data, metadata=pool.metadata)
    assert Path(pool.metadata).read_bytes() == seen
    assert pooled.records(PoolRecord) == [pool]


# A creation that was interrupted


def test_another_module_does_not_take_a_half_made_pool_for_a_pool(virgin: Machine) -> None:
    virgin.killed_at("pool:activated", virgin.pool)
    virgin.fetch()
    with pytest.raises(OutOfOrder, match="is half made"):
        virgin.unpack()


@pytest.mark.parametrize("label", ["pool:planned", "pool:allocated", "pool:activated", "pool:numbered"])
def test_a_creation_that_was_interrupted_by_a_reboot_is_taken_up_again(virgin: Machine, label: str) -> None:
    virgin.killed_at(label, virgin.pool)
    virgin.fake.reboot()
    assert virgin.pool().changed
    assert virgin.left_over() == []
    assert not virgin.pool().changed


def test_a_pool_in_which_others_are_at_work_is_as_well_as_it_was(
    pooled: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_path: str) -> frozenset[int]:
        raise Busy("the pool changes faster than it can be read", hint="run again")

    monkeypatch.setattr("module_utils._lifecycle.pool.state.read_thin_ids", busy)
    before = pooled.everything()
    assert (pooled.pool().changed, pooled.pool().settled) == (False, ())
    assert pooled.everything() == before


# On devices


@pytest.fixture
def on_devices(virgin: Machine) -> Machine:
    """A pool on two devices, of which the metadata's is larger than was asked for; files stand for them."""
    for name, size_bytes in (("data", POOL_BYTES), ("metadata", 4 * METADATA_BYTES)):
        disk(virgin, name).parent.mkdir(exist_ok=True)
        with disk(virgin, name).open("wb") as file:
            file.truncate(size_bytes)
    identify(virgin, "WD-1")
    make_on_devices(virgin)
    return virgin


def disk(machine: Machine, name: str) -> Path:
    return machine.root / "disks" / name


def make_on_devices(machine: Machine, **given: Any) -> Outcome:
    return machine.pool(
        is_loop=False, data=str(disk(machine, "data")), metadata=str(disk(machine, "metadata")), **given
    )


def identify(machine: Machine, serial: str) -> None:
    """What sysfs tells of the device; a file's number is 0:0."""
    directory = machine.root / "sys/dev/block/0:0"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "serial").write_text(f"{serial}\n")


def test_the_start_of_a_data_device_is_given_to_no_guest(on_devices: Machine) -> None:
    """The host looks there for partition tables and file systems when it boots; a thin pool gives it out first."""
    assert on_devices.fake.thin_ids("pool") == {RESERVED_ID}
    assert [line for line in on_devices.ran if "create_thin" in line] == [
        f"dmsetup message pool 0 create_thin {RESERVED_ID}"
    ]
    assert set(on_devices.fake.devices()) == {"pool"}, "it is not mapped any more"
    assert on_devices.left_over() == []
    with on_devices.host() as host:
        assert _free_thin_id(host, record(on_devices)) == 1
        assert foreign_thin_ids(host, record(on_devices)) == []


@pytest.mark.parametrize("at", ["pool:activated", "pool:reserved"])
def test_a_start_that_was_interrupted_while_it_was_reserved_is_taken_up_again(virgin: Machine, at: str) -> None:
    for name, size_bytes in (("data", POOL_BYTES), ("metadata", METADATA_BYTES)):
        disk(virgin, name).parent.mkdir(exist_ok=True)
        disk(virgin, name).write_bytes(bytes(size_bytes))
    identify(virgin, "WD-1")
    virgin.killed_at(at, lambda: make_on_devices(virgin))
    assert make_on_devices(virgin).changed
    assert virgin.fake.thin_ids("pool") == {RESERVED_ID}


def test_removal_takes_the_copy_of_the_database_that_a_killed_run_had_not_written_to_the_device(
    on_devices: Machine,
) -> None:
    staged = [on_devices.state / f"flyd.db.{record(on_devices).id}{end}" for end in ("", ".part")]
    for path in staged:
        path.write_bytes(b"not whole")
    on_devices.remove_pool()
    assert [path for path in staged if path.exists()] == []


def test_a_pool_in_a_file_that_udevs_rule_knows_has_nothing_reserved(pooled: Machine) -> None:
    assert pooled.fake.thin_ids("pool") == set()


def test_the_start_of_a_file_of_another_place_is_reserved(virgin: Machine) -> None:
    virgin.pool(data=str(virgin.root / "elsewhere/data"))
    assert virgin.fake.thin_ids("pool") == {RESERVED_ID}


@pytest.mark.parametrize("size", [{"data_bytes": None}, {"data_size": DataSize.parse("100%")}])
def test_a_new_pool_takes_its_device_but_the_end_and_keeps_it_when_the_options_leave_the_size_out(
    virgin: Machine, size: dict[str, Any]
) -> None:
    for name in ("data", "metadata"):
        disk(virgin, name).parent.mkdir(exist_ok=True)
        with disk(virgin, name).open("wb") as file:
            file.truncate(POOL_BYTES + RESERVED_BYTES + 5000)
    identify(virgin, "WD-1")
    assert make_on_devices(virgin, **size).facts["data"]["size"] == POOL_BYTES
    assert not virgin.pool(data_bytes=None, metadata_bytes=None).changed


def disks(machine: Machine, *, data_bytes: int, metadata_bytes: int) -> None:
    """Blank devices of these sizes."""
    for name, size_bytes in (("data", data_bytes), ("metadata", metadata_bytes)):
        disk(machine, name).parent.mkdir(exist_ok=True)
        with disk(machine, name).open("wb") as file:
            file.truncate(size_bytes)
    identify(machine, "WD-1")


def test_a_new_pool_takes_its_metadata_device_whole_and_keeps_it(virgin: Machine) -> None:
    disks(virgin, data_bytes=POOL_BYTES, metadata_bytes=(18 << 20) + 1000)
    outcome = make_on_devices(virgin, metadata_bytes=None)
    assert outcome.facts["metadata"]["size"] == record(virgin).metadata_bytes == 18 << 20
    assert outcome.facts["warnings"] == []
    assert not make_on_devices(virgin, metadata_bytes=None).changed
    assert not virgin.pool(data_bytes=None, metadata_bytes=None).changed


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_metadata_device_that_is_too_small_is_refused_with_what_it_has_and_what_is_needed(
    virgin: Machine, dry_run: bool
) -> None:
    disks(virgin, data_bytes=POOL_BYTES, metadata_bytes=8 << 20)
    with pytest.raises(BadInput) as refused:
        make_on_devices(virgin, metadata_bytes=None, dry_run=dry_run)
    assert "metadata has 8 MiB, and 4 MiB of data in blocks of 64 KiB may need 16 MiB of metadata" in str(refused.value)
    assert "metadata_size: 8M" in refused.value.hint
    assert nothing_is_left(virgin)
    assert make_on_devices(virgin, metadata_bytes=8 << 20).changed


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("given", [{"data_bytes": 2 * POOL_BYTES}, {"metadata_bytes": 32 << 20}])
def test_more_than_a_device_has_is_refused_in_check_mode_too(
    virgin: Machine, dry_run: bool, given: dict[str, Any]
) -> None:
    disks(virgin, data_bytes=POOL_BYTES, metadata_bytes=16 << 20)
    with pytest.raises(BadInput, match="are requested") as refused:
        make_on_devices(virgin, dry_run=dry_run, **given)
    what = "data" if "data_bytes" in given else "metadata"
    assert refused.value.hint == f"give a smaller {what}_size or a larger {what}_device"
    assert nothing_is_left(virgin)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_device_that_holds_something_is_refused_in_check_mode_too(virgin: Machine, dry_run: bool) -> None:
    disks(virgin, data_bytes=POOL_BYTES, metadata_bytes=METADATA_BYTES)
    with disk(virgin, "data").open("r+b") as file:
        file.seek(1080)
        file.write(b"\x53\xef")
    with pytest.raises(BadInput, match="it holds TYPE=ext4"):
        make_on_devices(virgin, dry_run=dry_run)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_pool_does_not_come_up_over_another_disk(on_devices: Machine, dry_run: bool) -> None:
    on_devices.fake.reboot()
    identify(on_devices, "WD-2")
    with pytest.raises(
        CorruptStore, match=r"another disk \(WD-2\) than the pool 'pool' was made on \(WD-1\)"
    ) as refused:
        make_on_devices(on_devices, dry_run=dry_run)
    assert on_devices.fake.devices() == {}
    identify(on_devices, "WD-1")
    assert make_on_devices(on_devices).changed
    assert not make_on_devices(on_devices).changed
    assert "UPDATE pools SET data_identity='' WHERE name='pool'" in refused.value.hint


def test_a_disk_that_was_not_known_is_known_from_now_on(on_devices: Machine) -> None:
    with on_devices.host() as host:
        host.store.rows("UPDATE pools SET data_identity='' WHERE name='pool'")
    on_devices.fake.reboot()
    identify(on_devices, "WD-2")
    make_on_devices(on_devices, dry_run=True)
    assert record(on_devices).data_identity == ""
    make_on_devices(on_devices)
    assert record(on_devices).data_identity == "WD-2"


def test_the_device_of_a_pool_that_is_gone_can_have_a_new_one(on_devices: Machine) -> None:
    assert on_devices.tear_down().changed
    assert disk(on_devices, "metadata").read_bytes()[:4096] == bytes(4096)
    assert make_on_devices(on_devices).changed
    assert on_devices.left_over() == []


def test_a_device_that_is_gone_does_not_keep_its_pool(on_devices: Machine) -> None:
    on_devices.fake.reboot()
    disk(on_devices, "metadata").unlink()
    assert on_devices.tear_down().changed
    assert on_devices.records(PoolRecord) == []
    assert [line["device"] for line in on_devices.log() if line["event"] == "not blanked"] == [
        str(disk(on_devices, "metadata"))
    ]


@pytest.mark.parametrize("by", [-1, 2])
def test_the_metadata_of_another_time_or_pool_is_not_wiped(on_devices: Machine, by: int) -> None:
    on_devices.fake.set_pool("pool", transaction_id=record(on_devices).transaction_id + by)
    on_devices.fake.reboot()
    before = disk(on_devices, "metadata").read_bytes()
    on_devices.tear_down()
    assert disk(on_devices, "metadata").read_bytes() == before


def test_what_others_have_put_on_the_device_meanwhile_is_not_wiped(on_devices: Machine) -> None:
    on_devices.fake.reboot()
    theirs = b"an ext4 of somebody's".ljust(4096, b"x")
    with disk(on_devices, "metadata").open("r+b") as file:
        file.write(theirs)
    on_devices.tear_down()
    assert disk(on_devices, "metadata").read_bytes()[:4096] == theirs


def test_a_repair_on_a_larger_device_has_room_for_all_that_is_in_use(on_devices: Machine) -> None:
    on_devices.fake.set_pool("pool", damaged=True, needs_check=True, used_metadata_blocks=2 * METADATA_BYTES // 4096)
    assert on_devices.repair().changed
    assert record(on_devices).metadata_bytes == METADATA_BYTES
    assert not make_on_devices(on_devices).changed
    on_devices.fake.reboot()
    assert make_on_devices(on_devices).changed


@pytest.mark.parametrize("label", ["grow:allocated", "grow:resized"])
def test_a_growth_on_devices_that_was_interrupted_leaves_the_size_that_was_asked_for(
    on_devices: Machine, label: str
) -> None:
    with disk(on_devices, "data").open("r+b") as file:
        file.truncate(2 * POOL_BYTES)
    on_devices.killed_at(label, lambda: make_on_devices(on_devices, data_bytes=2 * POOL_BYTES))
    make_on_devices(on_devices, data_bytes=2 * POOL_BYTES)
    assert (record(on_devices).data_sectors * 512, record(on_devices).metadata_bytes) == (
        2 * POOL_BYTES,
        METADATA_BYTES,
    )
    assert on_devices.left_over() == []
    assert not make_on_devices(on_devices, data_bytes=2 * POOL_BYTES).changed
