"""Stand-ins for mkfs.ext4, e2fsck, resize2fs, blkid and blkdiscard: they know an ext4 by its magic number and nothing else."""

from __future__ import annotations

import os
import sys

from tests.unit.fakes.kernel import Kernel

MAGIC_OFFSET = 1024 + 56
MAGIC = b"\x53\xef"


def is_ext4(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(MAGIC_OFFSET)
        return file.read(2) == MAGIC


def mkfs(path: str) -> int:
    with open(path, "r+b") as file:
        file.seek(MAGIC_OFFSET)
        file.write(MAGIC)
    return 0


def e2fsck(path: str) -> int:
    if is_ext4(path):
        print(f"{path}: 11/1024 files (0.0% non-contiguous), 100/1024 blocks")
        return 0
    print(
        f"ext2fs_open2: Bad magic number in super-block\ne2fsck: Superblock invalid, trying backup blocks...\n{path}: bad",
        file=sys.stderr,
    )
    return 8


def resize2fs(path: str) -> int:
    return 0 if is_ext4(path) else 1


def blkid(path: str) -> int:
    if not is_ext4(path):
        return 2
    print("DEVNAME=" + path + "\nTYPE=ext4\nUSAGE=filesystem")
    return 0


def blkdiscard(path: str) -> int:
    size = os.stat(path).st_size
    with open(path, "r+b") as file:
        file.truncate(0)
        file.truncate(size)
    return 0


PROGRAMS = {"mkfs.ext4": mkfs, "blkdiscard": blkdiscard, "e2fsck": e2fsck, "resize2fs": resize2fs, "blkid": blkid}


def run(root: str, program: str, arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit status."""
    with Kernel.of(root) as kernel:
        fault = kernel.take_fault(program, arguments)
    if fault:
        print(f"{program}: {os.strerror(fault['errno'])}", file=sys.stderr)
        return 1
    path = next(argument for argument in reversed(arguments) if argument.startswith("/"))
    return PROGRAMS[program](path)
