# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some volumes have is counted once, whether they share nodes or data, and never from two states of a pool."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from module_utils._errors import Busy, DamagedPool
from module_utils._thin.pool import btree, mappings, metadata
from module_utils._thin.pool.btree import Node, read_node
from module_utils._thin.pool.mappings import read_freed_blocks, read_shares
from tests.unit._thin.pool.test_metadata import BLOCK, node

BLOCKS, MOST = 512, 252
Volumes = dict[int, dict[int, int]]


def superblock(
    root: int, *, transaction_id: int = 9, data_blocks: int = 100_000, metadata_blocks: int = BLOCKS
) -> bytes:
    head = struct.pack("<IIQ16sQIIQQ", 0, 0, 0, b"", 27022010, 2, 0, transaction_id, 0)
    roots = struct.pack("<Q120x", data_blocks) + struct.pack("<Q120x", metadata_blocks)
    return (head + roots + struct.pack("<QQI", root, 0, 128)).ljust(BLOCK, b"\0")


def leaf(number: int, values: dict[int, int]) -> bytes:
    head = struct.pack("<IIQIIII", 0, 2, number, len(values), MOST, 8, 0)
    keys = struct.pack(f"<{len(values)}Q", *values).ljust(8 * MOST, b"\0")
    return (head + keys + struct.pack(f"<{len(values)}Q", *values.values())).ljust(BLOCK, b"\0")


class Tree:
    """Metadata in the making: nodes are numbered as they are added, and equal ones are shared."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}
        self._shared: dict[object, int] = {}

    def _add(self, what: object, make: object) -> int:
        if what not in self._shared:
            self._shared[what] = number = len(self.blocks) + 1
            self.blocks[number] = make(number)  # type: ignore[operator]
        return self._shared[what]

    def volume(self, mappings: dict[int, int], *, time: int = 3) -> int:
        """The root of the tree of a volume: its block to its data block."""
        packed = {key: data << 24 | time for key, data in sorted(mappings.items())}
        parts = [dict(list(packed.items())[at : at + MOST]) for at in range(0, len(packed), MOST)] or [{}]
        leaves = [self._add(tuple(part.items()), lambda number, part=part: leaf(number, part)) for part in parts]
        if len(leaves) == 1:
            return leaves[0]
        firsts = [next(iter(part)) for part in parts]
        return self._add((tuple(firsts), tuple(leaves)), lambda number: node(number, firsts, leaves))

    def write(self, path: Path, volumes: Volumes, **numbers: int) -> str:
        roots = {thin_id: self.volume(mappings) for thin_id, mappings in volumes.items()}
        root = self._add(("roots", tuple(roots.items())), lambda number: leaf(number, roots))
        self.blocks[0] = superblock(root, **numbers)
        path.write_bytes(b"".join(self.blocks.get(number, bytes(BLOCK)) for number in range(BLOCKS)))
        return str(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata"


BASE = {key: 1000 + key for key in range(1000)}
OWN = {7: 5, 2000: 6}
SNAPSHOT = {**BASE, **OWN}  # one block of the base is written over


def test_a_base_and_its_snapshot_give_back_what_they_share_when_the_last_of_them_goes(path: Path) -> None:
    name = Tree().write(path, {1: BASE, 2: SNAPSHOT})
    assert read_freed_blocks(name, [[2], [1]]) == [2, 1000]
    assert read_freed_blocks(name, [[1], [2]]) == [1, 1001]
    assert read_freed_blocks(name, [[1, 2]]) == [1002]
    assert read_freed_blocks(name, [[2]]) == [2]
    assert read_freed_blocks(name, [[], [9], [1]]) == [0, 0, 1]
    assert read_freed_blocks(name, []) == []


def test_random_volumes_give_back_what_no_other_has(path: Path) -> None:
    dice = random.Random(7)
    for _round in range(20):
        volumes: Volumes = {}
        for thin_id in range(1, 7):
            made = dict(dice.choice(list(volumes.values()))) if volumes and dice.random() < 0.7 else {}
            made.update({dice.randrange(2000): dice.randrange(50_000) for _ in range(dice.randrange(600))})
            volumes[thin_id] = made
        groups = [[1, 4], [2], [6]]
        name = Tree().write(path, volumes)
        left, expected = dict(volumes), []
        for group in groups:
            before = {data for made in left.values() for data in made.values()}
            left = {thin_id: made for thin_id, made in left.items() if thin_id not in group}
            expected.append(len(before - {data for made in left.values() for data in made.values()}))
        assert read_freed_blocks(name, groups) == expected


def test_damage_is_reported(path: Path) -> None:
    damages: list[Callable[[Tree], object]] = [
        lambda tree: tree.blocks.update({1: bytes(BLOCK)}),
        lambda tree: tree.blocks.update({1: leaf(1, {0: 100_000 << 24})}),
        lambda tree: tree.blocks.update({1: node(1, [1])}),
        lambda tree: tree.blocks.update({0: superblock(BLOCKS)}),
        lambda tree: tree.blocks.update({0: superblock(len(tree.blocks) - 1, data_blocks=1 << 60)}),
    ]
    for damage in damages:
        tree = Tree()
        tree.write(path, {1: BASE})
        damage(tree)
        path.write_bytes(b"".join(tree.blocks.get(number, bytes(BLOCK)) for number in range(BLOCKS)))
        with pytest.raises(DamagedPool, match="is damaged"):
            read_freed_blocks(str(path), [[1]])


def test_a_tree_of_volumes_that_leads_back_to_itself_is_damage(path: Path) -> None:
    blocks = {0: superblock(1), 1: node(1, [1, 2], [2, 1]), 2: leaf(2, {1: 3}), 3: leaf(3, {})}
    path.write_bytes(b"".join(blocks.get(number, bytes(BLOCK)) for number in range(BLOCKS)))
    with pytest.raises(DamagedPool, match="block 1 cannot be a node"):
        read_freed_blocks(str(path), [[1]])


def test_a_pool_that_commits_meanwhile_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest's writes change the superblock without another transaction id, and blocks of the old tree are used anew."""
    Tree().write(path, {1: BASE, 2: SNAPSHOT})
    read = btree.read_block
    commits: list[int] = []

    def read_and_commit(fd: int, number: int) -> bytes:
        found = read(fd, number)
        if not commits:
            commits.append(number)
            Tree().write(path, {1: {}, 2: SNAPSHOT, 3: OWN})
        return found

    monkeypatch.setattr(metadata, "read_block", read_and_commit)
    assert read_freed_blocks(str(path), [[2]]) == [999]


def test_a_pool_that_never_rests_is_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tree().write(path, {1: BASE})
    read, numbers = btree.read_block, iter(range(10_000))

    def read_another(fd: int, number: int) -> bytes:
        Tree().write(path, {1: BASE}, transaction_id=next(numbers))
        return read(fd, number)

    monkeypatch.setattr(metadata, "read_block", read_another)
    with pytest.raises(Busy, match="changes faster"):
        read_freed_blocks(str(path), [[1]])


# What bases share


def shares_of(mappings: Volumes) -> dict[int, tuple[int, int]]:
    """By counting blocks."""
    counts = [block for volume in mappings.values() for block in {*volume.values()}]
    return {
        thin_id: (
            sum(counts.count(block) == 1 for block in volume.values()),
            sum(counts.count(block) > 1 for block in volume.values()),
        )
        for thin_id, volume in mappings.items()
    }


def test_own_and_shared_blocks_of_a_base_and_its_snapshot(path: Path) -> None:
    found = read_shares(Tree().write(path, {1: BASE, 2: SNAPSHOT}), [[1, 2]])
    assert found == [{1: (1, 999), 2: (2, 999)}]


def test_volumes_that_were_not_asked_for_do_not_count(path: Path) -> None:
    name = Tree().write(path, {1: BASE, 2: SNAPSHOT, 3: BASE})
    assert read_shares(name, [[1, 9], [1, 3], []]) == [{1: (1000, 0)}, {1: (0, 1000), 3: (0, 1000)}, {}]


def test_no_node_is_read_twice_for_several_groups(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[int]()

    def noted(fd: int, number: int, metadata_blocks: int) -> Node:
        read.append(number)
        return read_node(fd, number, metadata_blocks)

    monkeypatch.setattr(mappings, "read_node", noted)
    read_shares(Tree().write(path, {1: BASE, 2: SNAPSHOT}), [[1], [1, 2], [2]])
    assert len(read) == len(set(read)) > 3


@pytest.mark.parametrize("seed", range(10))
def test_shares_are_those_that_counting_gives(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    volumes: Volumes = {1: {key: key + 1 for key in range(chance.randrange(1, 400))}}
    for thin_id in range(2, 6):
        earlier = volumes[chance.randrange(1, thin_id)]
        changed = {chance.randrange(600): 1000 * thin_id + number for number in range(chance.randrange(20))}
        volumes[thin_id] = {**earlier, **changed}
    assert read_shares(Tree().write(path, volumes), [volumes]) == [shares_of(volumes)]


def test_a_node_that_is_its_own_child_is_damage(path: Path) -> None:
    tree = Tree()
    name = tree.write(path, {1: {key: key + 1 for key in range(600)}})
    root = next(number for number, block in tree.blocks.items() if struct.unpack_from("<I", block, 4)[0] == 1)
    data = bytearray(path.read_bytes())
    data[root * BLOCK : (root + 1) * BLOCK] = node(root, [0], [root])
    path.write_bytes(data)
    with pytest.raises(DamagedPool):
        read_shares(name, [[1]])
