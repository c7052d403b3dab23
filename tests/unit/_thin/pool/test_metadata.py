"""Metadata is read as the kernel commits it; damage and haste are reported apart."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from module_utils._errors import DamagedPool
from module_utils._thin.pool import btree, metadata
from module_utils._thin.pool.metadata import has_superblock, read_superblock, read_thin_ids

BLOCK = 4096
MANY = range(7, 400)


def superblock(details_root: int = 1, *, transaction_id: int = 9, flags: int = 0, blocks: int = 64) -> bytes:
    head = struct.pack("<IIQ16sQIIQQ", 0, flags, 0, b"", 27022010, 2, 0, transaction_id, 0)
    roots = struct.pack("<Q120x", 1024) + struct.pack("<Q120x", blocks)
    return (head + roots + struct.pack("<QQI", 0, details_root, 128)).ljust(BLOCK, b"\0")


def node(number: int, keys: list[int], children: list[int] | None = None) -> bytes:
    flags, value_bytes, most = (2, 24, 126) if children is None else (1, 8, 252)
    head = struct.pack("<IIQIIII", 0, flags, number, len(keys), most, value_bytes, 0)
    values = b"" if children is None else struct.pack(f"<{len(children)}Q", *children)
    return (head + struct.pack(f"<{len(keys)}Q", *keys).ljust(8 * most, b"\0") + values).ljust(BLOCK, b"\0")


def tree() -> dict[int, bytes]:
    """Four leaves below a root, not in order."""
    leaves = {5: list(MANY[:126]), 3: list(MANY[126:252]), 9: list(MANY[252:378]), 2: list(MANY[378:])}
    root = node(1, [keys[0] for keys in leaves.values()], list(leaves))
    return {0: superblock(), 1: root, **{number: node(number, keys) for number, keys in leaves.items()}}


def write(path: Path, blocks: dict[int, bytes]) -> str:
    path.write_bytes(b"".join(blocks.get(number, bytes(BLOCK)) for number in range(64)))
    return str(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata"


def test_the_superblock_reports_the_pools_numbers(path: Path) -> None:
    found = read_superblock(write(path, {0: superblock(transaction_id=1 << 60, flags=1)}))
    assert (found.transaction_id, found.needs_check) == (1 << 60, True)
    assert (found.data_blocks, found.metadata_blocks, found.block_sectors) == (1024, 64, 128)


def test_all_thin_ids_are_found_through_the_nodes(path: Path) -> None:
    assert read_thin_ids(write(path, tree())) == frozenset(MANY)
    assert read_thin_ids(write(path, {0: superblock(), 1: node(1, [])})) == frozenset()


@pytest.mark.parametrize(
    "blocks",
    [
        {0: superblock(details_root=64)},
        {0: superblock(details_root=0)},
        {3: node(4, [1])},
        {3: bytes(BLOCK)},
        {1: node(1, [7], [1])},
        {3: struct.pack("<IIQIIII", 0, 2, 3, 127, 126, 24, 0).ljust(BLOCK, b"\0")},
        {3: struct.pack("<IIQIIII", 0, 2, 3, 1, 4000, 24, 0).ljust(BLOCK, b"\0")},
    ],
    ids=["root behind the end", "no root", "another's number", "no node", "a circle", "too many", "impossible"],
)
def test_damage_is_reported(path: Path, blocks: dict[int, bytes]) -> None:
    with pytest.raises(DamagedPool, match="is damaged") as caught:
        read_thin_ids(write(path, {**tree(), **blocks}))
    assert "state: repaired" in caught.value.hint


def test_invalid_metadata_is_reported(path: Path) -> None:
    write(path, {})
    assert not has_superblock(str(path))
    with pytest.raises(DamagedPool, match="does not hold the metadata"):
        read_superblock(str(path))


def test_a_pool_that_changes_meanwhile_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the superblock and the tree the pool commits, and a block of the old tree is used for something else."""
    write(path, tree())
    read = btree.read_block
    left = [3]

    def read_and_change(fd: int, number: int) -> bytes:
        found = read(fd, number)
        if number == 0 and left[0]:
            left[0] -= 1
            if left[0] == 2:
                write(path, {**tree(), 0: superblock(transaction_id=10), 1: node(1, [1, 2]), 3: bytes(BLOCK)})
        return found

    monkeypatch.setattr(metadata, "read_block", read_and_change)
    assert read_thin_ids(str(path)) == {1, 2}
