# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generation after generation on one real ext4, filled without its journal: tree, journal, size, and what e2fsck says of it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from module_utils._errors import CommandFailed, FlydError
from module_utils._host.processes.command import Runner
from module_utils._thin.ext4.filesystem import check, grow, make_ext4, populate, syncing
from module_utils._thin.ext4.journal import crc32c, without_journal
from tests.tools.tree import Rows, rows_of_directory
from tests.unit._image.delta.pairs import opened
from tests.unit._image.unpacked import options
from tests.unit.builders import tar
from tests.unit.support.real import needs_loops

pytestmark = [pytest.mark.slow, needs_loops]

MIB = 1 << 20
BLOCK_BYTES = 64 << 10


def layer(prefix: bytes, number: int) -> bytes:
    """A layer of which a part differs from generation to generation, with what a directory passes on."""
    members = [tar.directory(prefix, mode=0o2775, gid=50), tar.directory(b"lost+found", mode=0o700)]
    for file in range(120):
        content = b"%d" % (number if file % 10 == number % 10 else 0) * (100 + 997 * file % 90_000)
        members.append(tar.file(b"%s/d%d/f%d" % (prefix, file % 7, file), content))
    kinds = [
        tar.symlink(prefix + b"/x", b"a"),
        tar.fifo(prefix + b"/x"),
        tar.directory(prefix + b"/x"),
        tar.file(prefix + b"/x"),
    ]
    return tar.tar(*members, tar.hard_link(b"%s/l%d" % (prefix, number), prefix + b"/d1/f1"), kinds[number % 4])


def generation(number: int) -> tuple[bytes, ...]:
    return layer(b"usr", number // 3), layer(b"app", number)


class Volume:
    """A file system on a loop device over a file in ``disk``, which is ``directory`` unless it is named."""

    def __init__(self, directory: Path, disk: Path | None = None) -> None:
        self.directory = directory
        self.file = (disk or directory) / "disk"
        self.path = ""
        (directory / "mnt").mkdir()

    @contextlib.contextmanager
    def of(self, size_bytes: int) -> Iterator[str]:
        """The device, with so many bytes."""
        self.file.touch()
        os.truncate(self.file, size_bytes)
        argv = ["losetup", "--find", "--show", str(self.file)]
        self.path = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
        try:
            yield self.path
        finally:
            subprocess.run(["losetup", "--detach", self.path], check=True)

    def unpack(self, layers: Sequence[bytes], *, manifest_fd: int, origin_fd: int = -1) -> None:
        """Fill the file system, or change what is in it, as flyd_unpack does."""
        chosen = options(self.directory, processes=2, manifest_fd=manifest_fd, origin_fd=origin_fd)
        with opened(layers, self.directory, chosen) as unpacking, without_journal(self.path):
            write = unpacking.write_into if origin_fd < 0 else unpacking.write_onto
            populate(
                self.path,
                str(self.directory / "mnt"),
                lambda fd: write(fd, lambda: syncing(fd)).to_json(),
                trim_bytes=0 if origin_fd < 0 else BLOCK_BYTES,
            )
        check(Runner(), self.path)

    def rows(self) -> Rows:
        """What is in it, the root among it."""
        place = self.directory / "look"
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "ro,noload", self.path, place], check=True)
        try:
            return rows_of_directory(place, exact=True)
        finally:
            subprocess.run(["umount", place], check=True)

    def superblock(self) -> dict[str, str]:
        said = subprocess.run(["dumpe2fs", "-h", self.path], capture_output=True, text=True, check=True).stdout
        return dict(re.findall(r"^([A-Z][^:]+):\s+(.*)$", said, re.MULTILINE))


def fresh_rows(directory: Path, layers: Sequence[bytes]) -> Rows:
    """The tree of the image on a file system of its own."""
    directory.mkdir()
    volume, manifest = Volume(directory), os.memfd_create("manifest")
    with volume.of(96 * MIB) as device:
        make_ext4(Runner(), device, inodes=2000)
        volume.unpack(layers, manifest_fd=manifest)
        os.close(manifest)
        return volume.rows()


@pytest.mark.timeout(300)
def test_a_chain_of_generations_holds_what_fresh_ones_do(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    manifests = [os.memfd_create("manifest") for _number in range(9)]
    with volume.of(96 * MIB) as device:
        make_ext4(Runner(), device, inodes=2000)
        volume.unpack(generation(0), manifest_fd=manifests[0])
        first = volume.superblock()
        for number in range(1, 9):
            volume.unpack(generation(number), manifest_fd=manifests[number], origin_fd=manifests[number - 1])
        last = volume.superblock()
        assert volume.rows() == fresh_rows(tmp_path / "fresh", generation(8))
    assert "has_journal" in first["Filesystem features"]
    for name in ("Filesystem features", "Journal inode", "Filesystem UUID", "Filesystem state"):
        assert first[name] == last[name]
    assert abs(int(first["Free blocks"]) - int(last["Free blocks"])) < 200
    for fd in manifests:
        os.close(fd)


def test_a_file_system_that_has_grown_keeps_a_lost_found_of_the_image(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    manifests = [os.memfd_create("manifest") for _number in range(2)]
    with volume.of(96 * MIB) as device:
        make_ext4(Runner(), device, inodes=2000)
        volume.unpack(generation(0), manifest_fd=manifests[0])
    with volume.of(300 * MIB) as device:
        grow(Runner(), device)
        volume.unpack(generation(1), manifest_fd=manifests[1], origin_fd=manifests[0])
        assert int(volume.superblock()["Block count"]) * 4096 == 300 * MIB
        assert volume.rows() == fresh_rows(tmp_path / "fresh", generation(1))
    for fd in manifests:
        os.close(fd)


def test_the_journal_is_away_inside_only(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    with volume.of(64 * MIB) as device:
        make_ext4(Runner(), device, inodes=100)
        with without_journal(device):
            assert "has_journal" not in volume.superblock()["Filesystem features"]
            check(Runner(), device)
        assert "has_journal" in volume.superblock()["Filesystem features"]
        check(Runner(), device)


def test_the_journal_stays_away_when_filling_fails(tmp_path: Path) -> None:
    """The volume is thrown away; nothing more is written to a device that may fail."""
    volume = Volume(tmp_path)
    with volume.of(64 * MIB) as device:
        make_ext4(Runner(), device, inodes=100)
        with pytest.raises(CommandFailed), without_journal(device):
            raise CommandFailed("full", hint="")
        assert "has_journal" not in volume.superblock()["Filesystem features"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Volume]:
    """A file system of 200 MiB on a device that has room for 30 of them, and fails to write more."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", place], check=True)
    try:
        yield Volume(tmp_path, place)
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize(
    "members",
    [
        [tar.file(b"f%d" % number, random.Random(number).randbytes(MIB)) for number in range(40)],
        [tar.directory(b"d%d/e%d" % (number % 300, number)) for number in range(15000)],
    ],
    ids=["data", "metadata"],
)
def test_a_device_that_fails_meanwhile_is_an_error_without_a_journal_too(
    small_disk: Volume, members: list[bytes]
) -> None:
    manifest = os.memfd_create("manifest")
    with small_disk.of(200 * MIB) as device:
        make_ext4(Runner(), device, inodes=20000)
        with pytest.raises(FlydError, match=r"syncfs|flushing"):
            small_disk.unpack([tar.tar(*members)], manifest_fd=manifest)
    os.close(manifest)


def test_what_is_no_ext4_has_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(4096))
    with pytest.raises(CommandFailed, match="no ext4"), without_journal(str(path)):
        pass
    assert path.read_bytes() == bytes(4096)


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283
