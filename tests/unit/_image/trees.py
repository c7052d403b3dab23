"""Random trees as archives, and what their file system takes, measured on a loop device."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from module_utils._host.processes.command import Runner
from module_utils._image.merge.footprint import SCATTER_BLOCK_BYTES
from module_utils._image.merge.plan import Plan
from module_utils._image.pipeline.unpacking import open_image
from module_utils._thin.ext4.filesystem import check, make_ext4, populate, syncing
from module_utils._thin.ext4.sizing import MIB, volume_bytes_for, written_bytes_for
from tests.unit._image.unpacked import options
from tests.unit.builders import images
from tests.unit.builders.tar import device, directory, fifo, file, hard_link, pax, symlink, tar

BLOCK_BYTES = 4096
POOL_BLOCKS = SCATTER_BLOCK_BYTES[:5]  # 64 KiB to 1 MiB


class Part(NamedTuple):
    """One directory of a random tree: ``entries`` of one ``kind``, with ``number`` for sizes and lengths."""

    kind: str
    entries: int
    number: int
    more: int


# kind: most entries, largest number
KINDS = {
    "files": (400, 300_000),
    "large": (4, 12_000_000),
    "small": (1500, 9000),
    "attributes": (300, 100),
    "many attributes": (120, 400),
    "names": (2500, 250),
    "links": (600, 99),
    "hard links": (3000, 240),
    "sparse": (30, 80),
    "deep": (150, 100),
    "directories": (800, 90),
    "devices": (50, 10),
}


@st.composite
def _parts(draw: st.DrawFn) -> Part:
    kind = draw(st.sampled_from(sorted(KINDS)))
    most, largest = KINDS[kind]
    return Part(kind, draw(st.integers(1, most)), draw(st.integers(1, largest)), draw(st.integers(0, 2**16)))


trees = st.lists(_parts(), min_size=1, max_size=5)
frees = st.sampled_from([None, None, 0, 16 * MIB, 300 * MIB, 3 << 30])


def archive(parts: list[Part]) -> bytes:
    """The image with a directory for each of ``parts``."""
    members = [member for number, part in enumerate(parts) for member in _members(b"p%d" % number, part)]
    return images.docker_archive([tar(*members)])


def _members(top: bytes, part: Part) -> Iterator[bytes]:
    yield directory(top)
    for row in range(part.entries):
        yield from _entry(top, part, row)


def _entry(top: bytes, part: Part, row: int) -> Iterator[bytes]:
    name, varied = top + b"/%d" % row, (row * part.more) % part.number + 1
    if part.kind in ("files", "large", "small"):
        size = varied if part.kind != "large" else part.number
        yield file(name, b"x" * size)
    elif part.kind == "attributes":  # one to three of every small size
        yield _attributes([(b"a" * (1 + (row + one) % 9), b"%d" % row * varied) for one in range(1 + part.more % 3)])
        yield file(name, b"y" * (row % 5))
    elif part.kind == "many attributes":
        yield _attributes([(b"n%d" % one, b"%08d" % row * (1 + varied % 40)) for one in range(1 + part.more % 8)])
        yield directory(name) if row % 3 == 0 else file(name)
    elif part.kind == "names":
        yield pax((b"path", _long(top, row, part.number)))
        yield file(b"x")
    elif part.kind == "hard links":
        if row == 0:
            yield file(top + b"/first", b"z")
        yield pax((b"path", _long(top, row, part.number)))
        yield hard_link(b"x", top + b"/first")
    else:
        yield _other(top, part, row)


def _other(top: bytes, part: Part, row: int) -> bytes:
    name = top + b"/%d" % row
    if part.kind == "links":
        return symlink(name, b"t" * (1 + (row + part.number) % 99))
    if part.kind == "sparse":
        step = 512 * (1 + part.more % 60)
        pairs = b",".join(b"%d,%d" % (at * step, 1 + part.more % 512) for at in range(part.number))
        held = part.number * (1 + part.more % 512)
        records = ((b"GNU.sparse.size", b"%d" % (part.number * step)), (b"GNU.sparse.numblocks", b"%d" % part.number))
        return pax(*records, (b"GNU.sparse.map", pairs), (b"GNU.sparse.name", name)) + file(b"x", b"s" * held)
    if part.kind == "deep":
        return pax((b"path", top + b"/d" * (row + 1) + b"/")) + directory(b"x")
    if part.kind == "directories":
        return directory(name + b"n" * (part.number % 80))
    return fifo(name) if row % 2 else device(name, b"34"[row % 4 // 2 : row % 4 // 2 + 1], 1, row)


def _long(top: bytes, row: int, length: int) -> bytes:
    return top + b"/" + (b"%d" % row).ljust(length, b"n")


def _attributes(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return pax(*((b"SCHILY.xattr.user." + name, value) for name, value in pairs))


class Measured(NamedTuple):
    """Bytes: what was computed for a tree, and what there really was."""

    computed: int  # of the tree
    taken: int
    volume: int
    free: int  # what is left for others than the tree
    used: int  # of the volume
    written_bounds: tuple[int, ...]  # for blocks of POOL_BLOCKS
    written: tuple[int, ...]


def measure(workplace: Path, image: bytes, free_bytes: int | None) -> Measured:
    """Unpack ``image`` to a new file system of the computed size, as flyd_unpack does."""
    path, disk = workplace / "archive", workplace / "disk"
    path.write_bytes(image)
    archive_fd = os.open(path, os.O_RDONLY)
    try:
        with open_image(archive_fd, options(workplace)) as unpacking:
            plan = unpacking.plan
            volume = volume_bytes_for(plan.volume_blocks, plan.inodes, free_bytes=free_bytes)
            with _loop(disk, volume) as device_path:
                make_ext4(Runner(), device_path, inodes=plan.inodes)
                _write_tables(device_path)
                before = _superblock(device_path)
                mount_point = str(workplace / "mnt")
                os.makedirs(mount_point, exist_ok=True)
                populate(device_path, mount_point, lambda fd: unpacking.write_into(fd, lambda: syncing(fd)).to_json())
                check(Runner(), device_path)
                after = _superblock(device_path)
                return _measured(plan, volume, disk, before, after)
    finally:
        os.close(archive_fd)
        disk.unlink()


def _measured(plan: Plan, volume: int, disk: Path, before: dict[str, int], after: dict[str, int]) -> Measured:
    lost_and_found_and_root = 5
    withheld = min(after["Block count"] // 50, 4096)
    return Measured(
        plan.volume_blocks * BLOCK_BYTES,
        (before["Free blocks"] + lost_and_found_and_root - after["Free blocks"]) * BLOCK_BYTES,
        volume,
        (after["Free blocks"] - withheld) * BLOCK_BYTES,
        (after["Block count"] - after["Free blocks"]) * BLOCK_BYTES,
        tuple(
            written_bytes_for(plan.volume_blocks, plan.inodes, volume, one, plan.scattered_bytes) for one in POOL_BLOCKS
        ),
        tuple(_touched(disk, one) * one for one in POOL_BLOCKS),
    )


@contextlib.contextmanager
def _loop(disk: Path, size_bytes: int) -> Iterator[str]:
    with disk.open("wb") as file_object:
        file_object.truncate(size_bytes)
    argv = ["losetup", "--find", "--show", str(disk)]
    device_path = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield device_path
    finally:
        subprocess.run(["losetup", "--detach", device_path], check=True)


def _write_tables(device_path: str) -> None:
    """Where the device does not read as zero, as a thin volume cannot, mke2fs writes the inode tables."""
    groups = subprocess.run(["dumpe2fs", device_path], capture_output=True, text=True, check=True).stdout
    fd = os.open(device_path, os.O_RDWR)
    try:
        for first, last in re.findall(r"Inode table at (\d+)-(\d+)", groups):
            table = os.pread(fd, (int(last) - int(first) + 1) * BLOCK_BYTES, int(first) * BLOCK_BYTES)
            os.pwrite(fd, table, int(first) * BLOCK_BYTES)
    finally:
        os.close(fd)


def _superblock(device_path: str) -> dict[str, int]:
    text = subprocess.run(["dumpe2fs", "-h", device_path], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"^([^:\n]+):\s+(\d+)$", text, re.MULTILINE)}


def _touched(disk: Path, block_bytes: int) -> int:
    """How many blocks of ``block_bytes`` hold something: what a thin pool would have given out."""
    count, behind, at = 0, 0, 0
    fd = os.open(disk, os.O_RDONLY)
    try:
        while True:
            try:
                first = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # no data behind it
                return count
            at = os.lseek(fd, first, os.SEEK_HOLE)
            end = -(-at // block_bytes)
            count += max(0, end - max(behind, first // block_bytes))
            behind = max(behind, end)
    finally:
        os.close(fd)
