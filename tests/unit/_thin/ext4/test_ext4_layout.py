"""What mke2fs makes, beside what was computed; on sparse files, so that neither root nor room is needed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from module_utils._host.processes.command import Runner
from module_utils._thin.ext4.filesystem import make_ext4
from module_utils._thin.ext4.layout import BLOCK_BYTES, Layout, lay_out
from module_utils._thin.ext4.sizing import (
    MIB,
    bytes_with_inodes,
    inodes_when_grown,
    inodes_with_room,
    journal_bytes_for,
    room_bytes_in,
    volume_bytes_for,
)

GIB = 1 << 30
CASES = [
    # size, inodes
    (33 * MIB, 10),
    (100 * MIB, 4000),
    (129 * MIB, 100),  # a last group that is too small
    (128 * MIB + 8 * MIB, 150_000),
    (900 * MIB, 1_200_000),  # more inodes than bitmaps of groups of 128 MiB have
    (1364 * MIB, 1_087_000),
    (3 * GIB + 17 * MIB, 70_000),
    (9 * GIB, 30_000),
    (33 * GIB, 5_000),
]


def made(path: Path, size_bytes: int, inodes: int) -> dict[str, int]:
    """The numbers in the superblock of a file system for ``inodes`` of an image."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    make_ext4(Runner(), str(path), inodes=inodes)
    return superblock(path)


def superblock(path: Path) -> dict[str, int]:
    """The numbers in the superblock of the file system in ``path``."""
    text = subprocess.run(["dumpe2fs", "-h", str(path)], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"^([^:\n]+):\s+(\d+)$", text, re.MULTILINE)}


def laid_out(size_bytes: int, inodes: int) -> Layout:
    found = lay_out(size_bytes // BLOCK_BYTES, inodes_with_room(inodes))
    assert found is not None
    return found


@pytest.mark.parametrize(("size_bytes", "inodes"), CASES)
def test_real_the_layout_is_that_of_mke2fs(tmp_path: Path, size_bytes: int, inodes: int) -> None:
    layout, real = laid_out(size_bytes, inodes), made(tmp_path / "disk", size_bytes, inodes)
    assert layout.blocks == real["Block count"]
    assert layout.group_blocks == real["Blocks per group"]
    assert layout.table_blocks == real["Inode blocks per group"]
    assert layout.reserved_blocks == real["Reserved GDT blocks"]
    used = real["Block count"] - real["Free blocks"]
    computed = layout.own_blocks + journal_bytes_for(size_bytes) // BLOCK_BYTES
    assert used <= computed <= used + 8


@pytest.mark.parametrize(
    ("old_bytes", "inodes", "new_bytes"),
    [
        (100 * MIB, 4000, 900 * MIB),
        (1300 * MIB, 9000, 2 * GIB),
        (1300 * MIB, 9000, 2 * GIB + 9 * MIB),
        (3 * GIB, 70_000, 7 * GIB),
    ],
)
def test_real_a_file_system_that_grows_has_the_inodes_that_were_computed(
    tmp_path: Path, old_bytes: int, inodes: int, new_bytes: int
) -> None:
    path = tmp_path / "disk"
    made(path, old_bytes, inodes)
    computed = inodes_when_grown(old_bytes, inodes_with_room(inodes), new_bytes)
    with path.open("r+b") as file:
        file.truncate(new_bytes)
    for argv in (
        ["e2fsck", "-f", "-y", str(path)],
        ["resize2fs", str(path)],
    ):  # as filesystem.grow, which needs a device
        subprocess.run(argv, capture_output=True, check=True)
    group_inodes = laid_out(old_bytes, inodes).group_inodes
    assert computed <= superblock(path)["Inode count"] <= computed + group_inodes
    # What is recorded of the grown one gives its groups again.
    again = lay_out(new_bytes // BLOCK_BYTES, computed)
    assert again is not None
    assert again.group_inodes <= group_inodes
    wanted = computed + 3 * group_inodes
    larger_bytes = bytes_with_inodes(old_bytes, inodes_with_room(inodes), wanted)
    assert inodes_when_grown(old_bytes, inodes_with_room(inodes), larger_bytes) >= wanted


@pytest.mark.parametrize("inodes", [1, 5000, 300_000, 3_000_000])
@pytest.mark.parametrize("tree_blocks", [1, 5000, 3_000_000])
@pytest.mark.parametrize("free_bytes", [0, None, 3 * GIB])
def test_a_volume_has_the_room_that_was_asked_for(inodes: int, tree_blocks: int, free_bytes: int | None) -> None:
    size_bytes = volume_bytes_for(tree_blocks, inodes, free_bytes=free_bytes)
    room_bytes = room_bytes_in(size_bytes, inodes)
    assert room_bytes >= tree_blocks * BLOCK_BYTES + (free_bytes or 0)
    if free_bytes is not None and inodes < 1_000_000:  # the tables of more do not fit into groups that small
        assert room_bytes <= tree_blocks * BLOCK_BYTES * 1.02 + free_bytes + 40 * MIB, "no more than that"


@pytest.mark.parametrize("inodes", [1_500_000, 4_000_000])
def test_real_mke2fs_makes_a_volume_of_many_inodes_and_hardly_anything_else(tmp_path: Path, inodes: int) -> None:
    size_bytes = volume_bytes_for(10, inodes)
    real = made(tmp_path / "disk", size_bytes, inodes)
    assert real["Inode count"] >= inodes_with_room(inodes)
    assert real["Free blocks"] * BLOCK_BYTES >= 64 * MIB


def test_what_no_file_system_of_that_size_holds() -> None:
    assert lay_out(32 * MIB // BLOCK_BYTES, 1_000_000) is None
