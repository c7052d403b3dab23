"""The blocks of single inodes, by what the formats of ext4 say."""

from __future__ import annotations

import pytest

from module_utils._image.extent import Extent
from module_utils._image.merge.footprint import SCATTER_BLOCK_BYTES, Footprint, leaves_of, xattr_blocks
from module_utils._image.merge.inodes import Directory, File
from module_utils._image.tar.access import Access
from module_utils._image.tar.posix_acl import ACCESS
from module_utils._image.tar.sparse import Ranges

ROOTS = Access(0o644, 0, 0)
MIB = 1 << 20


def plain(size: int, ranges: Ranges | None = None) -> File:
    return File(ROOTS, 0, (), Extent(-1, 0, size), 0, size, ranges)


def blocks_of(file: File) -> int:
    footprint = Footprint()
    footprint.add_file(file)
    return footprint.blocks


@pytest.mark.parametrize(
    ("xattrs", "blocks"),
    [
        ((), 0),
        (((b"user.a", b"v" * 64),), 0),  # 16 + 4 + 64, and 4 at the end: 88
        (((b"user.a", b"v" * 68),), 0),  # 92: all there is
        (((b"user.a", b"v" * 69),), 1),
        (((b"user.a", b"v" * 21), (b"user.b", b"v" * 25)), 1),  # 86 in plain bytes, 96 in fours
        (((b"user.abcd", b"v" * 24), (b"user.b", b"v" * 24)), 0),
        (((b"user.abcde", b"v" * 24), (b"user.b", b"v" * 24)), 1),
        (((b"security.capability", b"v" * 20), (b"user.x", b"v" * 20)), 0),
        (((ACCESS, b"v" * 44), (b"user.x", b"v" * 4)), 0),
    ],
)
def test_attributes_are_rounded_to_fours_and_have_an_end(xattrs: tuple[tuple[bytes, bytes], ...], blocks: int) -> None:
    assert xattr_blocks(xattrs) == blocks


@pytest.mark.parametrize(
    ("ranges", "blocks"),
    [
        ((), 0),
        (((0, 1),), 1),
        (((4095, 2),), 2),  # two bytes in two blocks
        (((0, 1), (4095, 1)), 1),
        (((0, 1), (4096, 0), (8192, 1)), 2),
        (((0, 4096), (4096, 4096)), 2),
        (tuple((row * 8192, 1) for row in range(4)), 4),  # as many extents as an inode holds
        (tuple((row * 8192, 1) for row in range(5)), 6),
        (tuple((row * 8192, 1) for row in range(1000)), 1000 + 6 + 1),  # leaves that are half full, and their root
    ],
)
def test_a_sparse_file_takes_the_blocks_that_its_ranges_touch(ranges: Ranges, blocks: int) -> None:
    assert blocks_of(plain(1 << 30, ranges)) == blocks


def test_a_large_file_has_an_extent_tree() -> None:
    assert blocks_of(plain(4 * MIB)) == 1024
    assert blocks_of(plain(1 << 30)) - (1 << 18) == 4


@pytest.mark.parametrize(("names", "least", "most"), [(0, 1, 1), (253, 1, 1), (254, 3, 7), (1000, 7, 15)])
def test_a_directory_that_outgrows_a_block_is_hashed(names: int, least: int, most: int) -> None:
    footprint, directory = Footprint(), Directory()
    directory.children = {b"%08d" % number: plain(0) for number in range(names)}
    footprint.add_directory(directory)
    assert least <= footprint.blocks <= most


@pytest.mark.parametrize(("entry_bytes", "fullest"), [(12, 0.58), (16, 0.6), (32, 0.63), (264, 0.65)])
def test_leaves_are_taken_for_no_fuller_than_a_wave_of_splits_leaves_them(entry_bytes: int, fullest: float) -> None:
    count = 100_000
    assert 0.55 < count * entry_bytes / 4084 / leaves_of(count, count * entry_bytes) < fullest


def test_files_are_aligned_to_the_power_of_two_above_their_size() -> None:
    footprint = Footprint()
    footprint.add_file(plain(60_000))
    assert set(footprint.scattered_bytes) == {0}, "small files are packed"
    footprint.add_file(plain(100 << 10))
    between = dict(zip(SCATTER_BLOCK_BYTES, footprint.scattered_bytes))
    assert between[64 << 10] == between[128 << 10] == between[MIB] == 28 << 10
    footprint.add_file(plain(3 * MIB + (10 << 10)))
    between = dict(zip(SCATTER_BLOCK_BYTES, footprint.scattered_bytes))
    assert between[64 << 10] == (28 << 10) + (54 << 10)
    assert between[MIB] == (28 << 10) + MIB - (10 << 10)


def test_a_sparse_file_may_touch_a_block_of_the_pool_for_each_range() -> None:
    footprint = Footprint()
    footprint.add_file(plain(10 * MIB, tuple((row * MIB, 4096) for row in range(10))))
    assert footprint.scattered_bytes[0] == 11 * (64 << 10) - 10 * 4096
