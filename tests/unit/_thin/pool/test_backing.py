"""Backing files are made whole or not at all; metadata is looked at, never touched."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from module_utils._errors import BadInput, DamagedPool, NoSpace
from module_utils._host.processes.command import Runner
from module_utils._thin.pool.backing import (
    check_metadata,
    device_bytes,
    device_identity,
    make_backing_file,
    metadata_is_blank,
)
from module_utils._thin.pool.metadata import has_superblock

SIZE = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "pools"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def metadata(directory: Path) -> str:
    path = str(directory / "metadata")
    make_backing_file(Runner(), path, SIZE)
    return path


def superblock(magic: int = 27022010) -> bytes:
    """The beginning of a thin pool's metadata, as dm-thin-metadata.c lays it out."""
    return struct.pack("<IIQ16sQI", 0xDEADBEEF, 0, 0, b"\0" * 16, magic, 2)


def test_a_backing_file_is_private_allocated_and_zero(directory: Path) -> None:
    path = directory / "data"
    assert make_backing_file(Runner(), str(path), SIZE) is True
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_size, found.st_nlink) == (0o600, SIZE, 1)
    assert found.st_blocks * 512 >= SIZE
    assert path.read_bytes() == bytes(SIZE)


def test_a_right_file_is_kept_with_what_it_holds(directory: Path, metadata: str) -> None:
    with open(metadata, "r+b") as file:
        file.write(b"precious")
    assert make_backing_file(Runner(), metadata, SIZE) is False
    assert Path(metadata).read_bytes()[:8] == b"precious"


def test_a_missing_directory_is_made_private(tmp_path: Path) -> None:
    make_backing_file(Runner(), str(tmp_path / "new" / "data"), SIZE)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_directory_that_others_may_write_to_is_refused(directory: Path) -> None:
    directory.chmod(0o777)
    with pytest.raises(BadInput, match="others could change"):
        make_backing_file(Runner(), str(directory / "data"), SIZE)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("what", ["link", "directory", "shorter"])
def test_what_is_there_and_wrong_is_refused_and_stays(directory: Path, what: str) -> None:
    path = directory / "data"
    if what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"short")
        path.chmod(0o600)
    before = path.lstat()
    with pytest.raises((BadInput, DamagedPool)):
        make_backing_file(Runner(), str(path), SIZE)
    assert path.lstat() == before


def test_a_disk_without_room_is_reported_with_numbers(directory: Path) -> None:
    with pytest.raises(NoSpace) as caught:
        make_backing_file(Runner(), str(directory / "data"), 1 << 60)
    assert caught.value.details["needed_bytes"] == 1 << 60
    assert list(directory.iterdir()) == []


def test_an_allocation_that_fails_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoSpace):
        make_backing_file(Runner(), str(directory / "data"), SIZE)
    assert list(directory.iterdir()) == []


def test_the_size_of_a_file_or_device(metadata: str) -> None:
    assert device_bytes(metadata) == SIZE


def test_a_new_file_is_blank_and_holds_no_superblock(metadata: str) -> None:
    assert metadata_is_blank(metadata)
    assert not has_superblock(metadata)
    check_metadata(metadata, may_format=True)


def test_one_byte_in_the_first_4_kib_is_not_blank(metadata: str) -> None:
    with open(metadata, "r+b") as file:
        file.seek(4095)
        file.write(b"\x01")
    assert not metadata_is_blank(metadata)
    with pytest.raises(BadInput, match="something that is not the metadata"):
        check_metadata(metadata, may_format=True)


def test_bytes_behind_the_first_4_kib_do_not_matter(metadata: str) -> None:
    with open(metadata, "r+b") as file:
        file.seek(4096)
        file.write(b"\x01")
    assert metadata_is_blank(metadata)


def test_a_superblock_is_known_by_its_magic_number(metadata: str) -> None:
    Path(metadata).write_bytes(superblock())
    assert has_superblock(metadata)
    check_metadata(metadata, may_format=False)
    Path(metadata).write_bytes(superblock(magic=27022011))
    assert not has_superblock(metadata)


def test_a_truncated_superblock_is_none(metadata: str) -> None:
    Path(metadata).write_bytes(superblock()[:20])
    assert not has_superblock(metadata)


@pytest.mark.parametrize(
    ("files", "identity"),
    [
        ({"serial": "S1"}, "S1"),
        ({"dm/uuid": "LVM-x", "serial": "S1"}, "LVM-x"),
        ({"device/wwid": "naa.5", "serial": ""}, "naa.5"),
        ({"serial": ""}, ""),
        ({}, ""),
        ({"partition": "2", "../serial": "S1"}, "S1-part2"),
        ({"partition": "2"}, ""),
    ],
    ids=["a disk", "a logical volume", "a SCSI disk", "no serial", "nothing", "a partition", "of an unknown disk"],
)
def test_a_device_is_known_by_what_stays_the_same(tmp_path: Path, files: dict[str, str], identity: str) -> None:
    device = tmp_path / "device"
    device.touch()  # the number of a file is 0:0
    directory = tmp_path / "sys/devices/disk/part"
    directory.mkdir(parents=True)
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/0:0").symlink_to(directory)
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(f" {text}\n")
    assert device_identity(str(device), str(tmp_path / "sys")) == identity
