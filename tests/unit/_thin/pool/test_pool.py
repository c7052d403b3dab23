"""The pool's life over a simulated kernel: made once, brought back, never formatted twice."""

from __future__ import annotations

import errno
import os

import pytest

from module_utils._errors import (
    BadInput,
    Busy,
    CorruptStore,
    DamagedPool,
    ForeignDevice,
    NoSpace,
    OutOfOrder,
    Unsupported,
    doing,
)
from module_utils._thin.dm.device_mapper import IoctlFailed
from module_utils._thin.dm.table import MAX_THIN_ID, PoolMode
from module_utils._thin.pool.thin_pool import (
    Backing,
    PoolSpec,
    ThinPool,
    activate,
    allocate_files,
    deactivate,
    has_superblock,
    metadata_is_blank,
    pool_errors,
    status,
)
from tests.unit.fakes.host import FakeHost

pytestmark = pytest.mark.slow


@pytest.fixture
def spec(fake_host: FakeHost) -> PoolSpec:
    return fake_host.pool_spec()


@pytest.fixture
def pool(fake_host: FakeHost, spec: PoolSpec) -> ThinPool:
    """A new, active pool."""
    allocate_files(fake_host.runner, spec)
    activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    return ThinPool(fake_host.dm, spec.name)


def nothing_is_left_over(host: FakeHost) -> bool:
    return host.devices() == {} and host.loops() == {}


def test_a_new_pool_is_formatted_and_healthy(fake_host: FakeHost, spec: PoolSpec) -> None:
    assert allocate_files(fake_host.runner, spec) == (spec.backing.metadata, spec.backing.data)
    device = activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    now = status(fake_host.dm, spec.name)
    assert device.uuid == spec.uuid
    assert (now.mode, now.transaction_id, now.total_data_blocks) == (PoolMode.RW, 0, spec.geometry.data_blocks)
    assert now.no_space_policy == "error"
    assert has_superblock(spec.backing.metadata)


def test_an_active_pool_is_found_and_nothing_is_run(fake_host: FakeHost, spec: PoolSpec, pool: ThinPool) -> None:
    fake_host.runner.ran.clear()
    assert allocate_files(fake_host.runner, spec) == ()
    assert activate(fake_host.dm, fake_host.runner, spec, may_format=False).name == pool.name
    assert fake_host.runner.ran == []


def test_a_pool_left_suspended_is_resumed(fake_host: FakeHost, spec: PoolSpec, pool: ThinPool) -> None:
    fake_host.dm.suspend(pool.name)
    assert not activate(fake_host.dm, fake_host.runner, spec, may_format=False).suspended


def test_after_a_reboot_the_pool_comes_back_with_its_volumes(
    fake_host: FakeHost, spec: PoolSpec, pool: ThinPool
) -> None:
    pool.create_thin(7)
    pool.set_transaction_id(0, 5)
    loops = fake_host.loops()
    fake_host.reboot()
    activate(fake_host.dm, fake_host.runner, spec, may_format=False)
    assert fake_host.thin_ids(spec.name) == {7}
    assert status(fake_host.dm, spec.name).transaction_id == 5
    assert set(fake_host.loops().values()) == set(loops.values())
    assert not set(fake_host.loops()) & set(loops), "other numbers, same files"


def test_a_pool_that_should_exist_is_never_formatted(fake_host: FakeHost, spec: PoolSpec) -> None:
    allocate_files(fake_host.runner, spec)
    with pytest.raises(DamagedPool, match="it is blank"):
        activate(fake_host.dm, fake_host.runner, spec, may_format=False)
    assert metadata_is_blank(spec.backing.metadata)
    assert nothing_is_left_over(fake_host)


def test_a_pool_that_should_be_new_never_takes_another_ones_metadata(
    fake_host: FakeHost, spec: PoolSpec, pool: ThinPool
) -> None:
    pool.create_thin(7)
    deactivate(fake_host.dm, fake_host.runner, spec)
    with pytest.raises(CorruptStore, match="holds the metadata of a pool already"):
        activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    assert nothing_is_left_over(fake_host)
    activate(fake_host.dm, fake_host.runner, spec, may_format=False)
    assert fake_host.thin_ids(spec.name) == {7}


@pytest.mark.parametrize("may_format", [True, False])
def test_what_is_no_metadata_is_refused_and_not_touched(fake_host: FakeHost, spec: PoolSpec, may_format: bool) -> None:
    allocate_files(fake_host.runner, spec)
    with open(spec.backing.metadata, "r+b") as file:
        file.write(b"somebody's diary")
    with pytest.raises(BadInput if may_format else DamagedPool, match="something that is not the metadata"):
        activate(fake_host.dm, fake_host.runner, spec, may_format=may_format)
    with open(spec.backing.metadata, "rb") as file:
        assert file.read(16) == b"somebody's diary"
    assert nothing_is_left_over(fake_host)


def test_a_foreign_device_with_the_pools_name_is_refused(fake_host: FakeHost, spec: PoolSpec) -> None:
    allocate_files(fake_host.runner, spec)
    fake_host.make_foreign(spec.name)
    with pytest.raises(ForeignDevice, match="is there already"):
        activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    assert fake_host.loops() == {}
    assert metadata_is_blank(spec.backing.metadata)


def test_our_pool_under_another_name_is_refused(fake_host: FakeHost, spec: PoolSpec, pool: ThinPool) -> None:
    renamed = spec._replace(name="other")
    with pytest.raises(CorruptStore, match="mapped under the name pool"):
        activate(fake_host.dm, fake_host.runner, renamed, may_format=False)


def test_a_kernel_without_thin_pool_is_reported_before_any_loop_is_attached(
    fake_host: FakeHost, spec: PoolSpec
) -> None:
    allocate_files(fake_host.runner, spec)
    fake_host.without_target()
    with pytest.raises(Unsupported, match="thin-pool"):
        activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    assert nothing_is_left_over(fake_host)


def test_a_pool_that_cannot_be_made_leaves_no_loop(fake_host: FakeHost, spec: PoolSpec) -> None:
    allocate_files(fake_host.runner, spec)
    fake_host.refuse("dmsetup create", errno.EIO)
    with pytest.raises(IoctlFailed):
        activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    assert nothing_is_left_over(fake_host)


def test_deactivating_removes_device_and_loops_and_keeps_the_files(
    fake_host: FakeHost, spec: PoolSpec, pool: ThinPool
) -> None:
    assert deactivate(fake_host.dm, fake_host.runner, spec) is True
    assert nothing_is_left_over(fake_host)
    assert has_superblock(spec.backing.metadata)
    assert deactivate(fake_host.dm, fake_host.runner, spec) is False


def test_a_pool_whose_volumes_are_mapped_is_busy(fake_host: FakeHost, spec: PoolSpec, pool: ThinPool) -> None:
    pool.create_thin(1)
    device = fake_host.dm.by_name(pool.name)
    assert device is not None
    fake_host.dm.create("v1", "FLYD-1", f"0 2048 thin {device.number} 1")
    with pytest.raises(Busy):
        deactivate(fake_host.dm, fake_host.runner, spec)
    assert fake_host.loops() != {}


def test_files_of_another_size_are_refused(fake_host: FakeHost, spec: PoolSpec) -> None:
    allocate_files(fake_host.runner, spec)
    os.truncate(spec.backing.data, spec.geometry.data_bytes - 1)
    with pytest.raises(DamagedPool, match="are expected"):
        allocate_files(fake_host.runner, spec)
    with pytest.raises(DamagedPool, match="are expected"):
        activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    assert nothing_is_left_over(fake_host)


def test_a_disk_without_room_is_reported_before_anything_is_made(fake_host: FakeHost) -> None:
    spec = fake_host.pool_spec(data_bytes=1 << 60)
    with pytest.raises(NoSpace, match="file system has"):
        allocate_files(
            fake_host.runner,
            spec._replace(geometry=spec.geometry._replace(metadata_bytes=1 << 22)),
        )
    assert not os.path.exists(spec.backing.data)


def test_block_devices_that_hold_something_are_refused(fake_host: FakeHost, spec: PoolSpec) -> None:
    allocate_files(fake_host.runner, spec)
    with open(spec.backing.data, "r+b") as file:
        file.seek(1080)
        file.write(b"\x53\xef")
    devices = spec._replace(backing=spec.backing._replace(is_loop=False))
    with pytest.raises(BadInput, match="it holds TYPE=ext4"):
        activate(fake_host.dm, fake_host.runner, devices, may_format=True)
    assert nothing_is_left_over(fake_host)


def test_a_block_device_that_is_too_small_is_refused(fake_host: FakeHost, spec: PoolSpec) -> None:
    allocate_files(fake_host.runner, spec)
    small = spec._replace(backing=Backing(spec.backing.metadata, spec.backing.metadata, is_loop=False))
    with pytest.raises(BadInput, match="are requested") as caught:
        activate(fake_host.dm, fake_host.runner, small, may_format=True)
    assert "larger device" in caught.value.hint


def test_a_block_device_that_became_smaller_is_not_the_pools(
    fake_host: FakeHost, spec: PoolSpec, pool: ThinPool
) -> None:
    deactivate(fake_host.dm, fake_host.runner, spec)
    other = spec._replace(backing=Backing(spec.backing.metadata, spec.backing.metadata, is_loop=False))
    with pytest.raises(DamagedPool, match="the pool needs"):
        activate(fake_host.dm, fake_host.runner, other, may_format=False)


def test_a_device_that_another_pool_uses_is_busy(fake_host: FakeHost, spec: PoolSpec, pool: ThinPool) -> None:
    second = spec._replace(name="second", uuid="FLYD-second-pool")
    loops = fake_host.loops()
    with pytest.raises(Busy, match="the data or metadata device of pool 'second' is in use"):
        activate(fake_host.dm, fake_host.runner, second, may_format=False)
    assert set(fake_host.devices()) == {"pool"}
    assert fake_host.loops() == loops, "the first pool keeps its loops"


def test_an_id_is_made_once(fake_host: FakeHost, pool: ThinPool) -> None:
    pool.create_thin(MAX_THIN_ID)
    with pytest.raises(CorruptStore, match="exists in pool 'pool' already") as caught:
        pool.create_thin(MAX_THIN_ID)
    assert caught.value.details["errno"] == "EEXIST"
    assert "File exists" not in caught.value.msg
    with pytest.raises(IoctlFailed):
        pool.create_thin(MAX_THIN_ID + 1)
    assert fake_host.thin_ids("pool") == {MAX_THIN_ID}


def test_a_snapshot_needs_its_origin(fake_host: FakeHost, pool: ThinPool) -> None:
    with pytest.raises(CorruptStore, match="origin of `create_snap 2 1` does not exist") as caught:
        pool.create_snap(2, 1)
    assert caught.value.details["errno"] == "ENODATA"
    pool.create_thin(1)
    pool.create_snap(2, 1)
    assert fake_host.thin_ids("pool") == {1, 2}


def test_deleting_says_whether_the_id_was_there(fake_host: FakeHost, pool: ThinPool) -> None:
    pool.create_thin(1)
    assert pool.delete(1) is True
    assert pool.delete(1) is False
    assert fake_host.thin_ids("pool") == set()


def test_a_mapped_volume_is_not_deleted(fake_host: FakeHost, pool: ThinPool) -> None:
    pool.create_thin(1)
    device = fake_host.dm.by_name(pool.name)
    assert device is not None
    fake_host.dm.create("v1", "FLYD-1", f"0 2048 thin {device.number} 1")
    with pytest.raises(OutOfOrder, match="is mapped"):
        pool.delete(1)
    assert fake_host.thin_ids("pool") == {1}


def test_the_transaction_id_is_compared_before_it_is_set(fake_host: FakeHost, pool: ThinPool) -> None:
    pool.set_transaction_id(0, 9)
    with pytest.raises(CorruptStore, match="is not 0"):
        pool.set_transaction_id(0, 10)
    assert status(fake_host.dm, pool.name).transaction_id == 9


def test_a_read_only_pool_refuses_all_messages(fake_host: FakeHost, pool: ThinPool) -> None:
    fake_host.set_pool("pool", mode="ro")
    for send in (lambda: pool.create_thin(1), lambda: pool.delete(1), lambda: pool.set_transaction_id(0, 1)):
        with pytest.raises(DamagedPool, match="read-only or has failed") as caught:
            send()
        assert "state: repaired" in caught.value.hint


def test_an_error_on_a_full_pool_is_reported_as_the_pools(fake_host: FakeHost, pool: ThinPool) -> None:
    fake_host.set_pool("pool", mode="out_of_data_space")
    with (
        pytest.raises(NoSpace, match="the pool is out of data space") as caught,
        doing("filling"),
        pool_errors(fake_host.dm, "pool"),
        doing("writing the tree"),
    ):
        raise Unsupported("syncfs: Input/output error", hint="see dmesg")
    assert caught.value.trail == ["filling", "writing the tree"]
    assert caught.value.details["caused"] == "syncfs: Input/output error"


def test_an_error_on_a_healthy_pool_stays_what_it_is(fake_host: FakeHost, pool: ThinPool) -> None:
    with pytest.raises(Unsupported, match="Input/output error"), pool_errors(fake_host.dm, "pool"):
        raise Unsupported("syncfs: Input/output error", hint="see dmesg")


def test_an_error_stays_when_the_pool_cannot_be_asked(fake_host: FakeHost) -> None:
    with pytest.raises(Unsupported, match="first"), pool_errors(fake_host.dm, "pool"):
        raise Unsupported("first", hint="")
