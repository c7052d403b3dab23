"""Volumes are mapped once, under the names they were given."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from module_utils._errors import CorruptStore, ForeignDevice, Unsupported
from module_utils._thin.dm.device_mapper import Device, IoctlFailed
from module_utils._thin.pool.thin_pool import ThinPool, activate, allocate_files
from module_utils._thin.volume import flush, map_volume, unmap_volume
from tests.unit.fakes.host import FakeHost

pytestmark = pytest.mark.slow

UUID = "FLYD-x-1"


@pytest.fixture
def pool(fake_host: FakeHost) -> Device:
    """A pool with the thin id 1."""
    spec = fake_host.pool_spec()
    allocate_files(fake_host.runner, spec)
    device = activate(fake_host.dm, fake_host.runner, spec, may_format=True)
    ThinPool(fake_host.dm, spec.name).create_thin(1)
    return device


def mapped(host: FakeHost, pool: Device, thin_id: int = 1, *, read_only: bool = False) -> Device:
    return map_volume(host.dm, pool, name="base-1", uuid=UUID, thin_id=thin_id, sectors=2048, read_only=read_only)


def test_a_volume_is_mapped_under_its_name(fake_host: FakeHost, pool: Device) -> None:
    device = mapped(fake_host, pool)
    assert (device.name, device.uuid, device.sectors, device.read_only) == ("base-1", UUID, 2048, False)
    assert fake_host.dm.table("base-1") == f"0 2048 thin {pool.number} 1"


def test_mapping_it_again_finds_it(fake_host: FakeHost, pool: Device) -> None:
    device = mapped(fake_host, pool)
    fake_host.runner.ran.clear()
    assert mapped(fake_host, pool) == device
    assert fake_host.runner.ran == []


def test_a_volume_left_suspended_is_resumed(fake_host: FakeHost, pool: Device) -> None:
    mapped(fake_host, pool)
    fake_host.dm.suspend("base-1")
    assert not mapped(fake_host, pool).suspended


def test_a_volume_whose_node_was_lost_gets_it_back(
    fake_host: FakeHost, pool: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("module_utils._thin.dm.dmsetup._NODE_SECONDS", 0.05)
    Path(mapped(fake_host, pool).path).unlink()
    assert Path(mapped(fake_host, pool).path).exists()


def test_a_mapping_that_was_cut_short_is_made_again(fake_host: FakeHost, pool: Device) -> None:
    fake_host.make_half("base-1", UUID)
    assert mapped(fake_host, pool).sectors == 2048


def test_a_read_only_mapping(fake_host: FakeHost, pool: Device) -> None:
    assert mapped(fake_host, pool, read_only=True).read_only


def test_an_id_that_the_pool_does_not_have_is_lost(fake_host: FakeHost, pool: Device) -> None:
    with pytest.raises(CorruptStore, match="has no thin id 2") as caught:
        mapped(fake_host, pool, 2)
    assert caught.value.details["errno"] == "ENODATA"
    assert fake_host.dm.by_name("base-1") is None


def test_another_refusal_of_the_kernel_is_passed_on(fake_host: FakeHost, pool: Device) -> None:
    fake_host.refuse("dmsetup create", errno.ENOMEM)
    with pytest.raises(IoctlFailed):
        mapped(fake_host, pool)


def test_unmapping_keeps_the_volume(fake_host: FakeHost, pool: Device) -> None:
    mapped(fake_host, pool)
    assert unmap_volume(fake_host.dm, "base-1", UUID) is True
    assert unmap_volume(fake_host.dm, "base-1", UUID) is False
    assert fake_host.thin_ids("pool") == {1}


def test_a_device_of_the_same_name_that_another_store_has_made_stays(fake_host: FakeHost, pool: Device) -> None:
    mapped(fake_host, pool)
    with pytest.raises(ForeignDevice, match="is not ours"):
        unmap_volume(fake_host.dm, "base-1", f"{UUID}-of-another-pool")
    assert "base-1" in fake_host.devices()


def test_a_half_made_device_of_the_same_name_that_another_store_has_made_stays(fake_host: FakeHost) -> None:
    fake_host.make_half("base-1", f"{UUID}-of-another-pool")
    assert unmap_volume(fake_host.dm, "base-1", UUID) is False
    assert "base-1" in fake_host.devices()


def test_a_snapshot_keeps_what_its_origin_held_and_not_what_it_got_later(fake_host: FakeHost, pool: Device) -> None:
    origin = mapped(fake_host, pool)
    Path(origin.path).write_bytes(b"before")
    with fake_host.dm.suspended(origin.name):
        ThinPool(fake_host.dm, "pool").create_snap(2, 1)
    Path(origin.path).write_bytes(b"after!")
    snapshot = map_volume(fake_host.dm, pool, name="snap-2", uuid="FLYD-x-2", thin_id=2, sectors=2048)
    assert Path(snapshot.path).read_bytes()[:6] == b"before"


def test_flushing_what_is_no_block_device_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unsupported, match="flushing the volume"):
        flush(str(tmp_path / "file"))
