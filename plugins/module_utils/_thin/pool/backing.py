# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is below a pool: two files made here, or two block devices given to us.

Invariant: a backing file under its name is whole, 0600 and on disk; nothing that exists is ever overwritten or zeroed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import BadInput, CorruptStore, DamagedPool
from ..._host.files.durable import file_errors, make_private_directory, require_room, sync_directory
from ..._host.processes.command import CommandLine, Program, Runner
from ..._names import exact_size_text, printable
from ..loop import check_backing_file
from .metadata import first_block, has_superblock

_NOTHING_FOUND = 2  # exit code of `blkid --probe`
# Below /sys/block/NAME; the first that says something.
_IDENTITIES = ("dm/uuid", "wwid", "device/wwid", "md/uuid", "serial")


class Backing(NamedTuple):
    """The data and the metadata of a pool: paths of files when ``is_loop``, else of block devices."""

    data: str
    metadata: str
    is_loop: bool


def make_backing_file(runner: Runner, path: str, size_bytes: int) -> bool:
    """Make ``path`` with ``size_bytes`` of allocated zeros, whole or not at all; ``False`` when a right one is there.

    It gets its name only once it is on disk (O_TMPFILE, open(2)), so a killed run leaves nothing behind.
    """
    if os.path.lexists(path):
        check_backing_file(path, size_bytes)
        return False
    directory = os.path.dirname(path)
    make_private_directory(directory)
    require_room(path, size_bytes, hint="make room on that file system")
    runner.ran.append(CommandLine("fallocate", "--length", str(size_bytes), path))
    with file_errors("making the backing file"):
        _allocate(directory, os.path.basename(path), size_bytes)
    return True


def _allocate(directory: str, name: str, size_bytes: int) -> None:
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
        try:
            os.fchmod(fd, 0o600)
            os.posix_fallocate(fd, 0, size_bytes)
            os.fsync(fd)
            # linkat(2) with AT_SYMLINK_FOLLOW on the descriptor: fails, never replaces, when the name is taken meanwhile.
            os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd, follow_symlinks=True)
        finally:
            os.close(fd)
    finally:
        os.close(directory_fd)
    sync_directory(directory)


def enlarge_backing_file(runner: Runner, path: str, size_bytes: int, *, no_room_hint: str) -> None:
    """Let the backing file grow to ``size_bytes``, allocated and on disk; ``NoSpace`` when its file system has not as much."""
    check_backing_file(path)
    require_room(path, size_bytes - device_bytes(path), hint=no_room_hint)
    runner.ran.append(CommandLine("fallocate", "--length", str(size_bytes), path))
    with file_errors("growing the backing file"), _for_writing(path) as fd:
        end = os.lseek(fd, 0, os.SEEK_END)
        if end < size_bytes:  # only what is new: the holes of what was discarded stay holes
            os.posix_fallocate(fd, end, size_bytes - end)
        os.fsync(fd)


def shorten_backing_file(path: str, size_bytes: int) -> None:
    """Cut what the pool does not use yet off the backing file: a growth was given up."""
    with file_errors("cutting the backing file"), _for_writing(path) as fd:
        if os.lseek(fd, 0, os.SEEK_END) > size_bytes:
            os.ftruncate(fd, size_bytes)
        os.fsync(fd)


@contextlib.contextmanager
def _for_writing(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def check_device(runner: Runner, path: str, size_bytes: int, *, is_new: bool) -> None:
    """Refuse a device that is too small for its pool, or, for a new one, that holds something."""
    if is_new:
        refuse_used_device(runner, path)
    found = device_bytes(path)
    if found < size_bytes and is_new:
        raise BadInput(
            f"the device {path} has {exact_size_text(found)}, and {exact_size_text(size_bytes)} are requested",
            hint="give a larger device, or ask for less",
        )
    if found < size_bytes:
        raise DamagedPool(
            f"the device {path} has {exact_size_text(found)}, the pool needs {exact_size_text(size_bytes)}",
            hint="bring back the device that the pool was made on",
        )


def device_bytes(path: str) -> int:
    """The size of a file or a block device in bytes."""
    with file_errors("looking at the size"), open(path, "rb") as file:
        return file.seek(0, os.SEEK_END)


def device_identity(path: str, sysfs: str) -> str:
    """What stays the same of a block device when devices get other names, as sysfs shows it; empty when it shows nothing.

    Of a partition: that of its disk, and its number.
    """
    with file_errors("looking at the device"):
        number = os.stat(path).st_rdev
    directory = os.path.realpath(os.path.join(sysfs, "dev/block", f"{os.major(number)}:{os.minor(number)}"))
    partition = _attribute(directory, "partition")
    disk = os.path.dirname(directory) if partition else directory
    found = next(filter(None, (_attribute(disk, name) for name in _IDENTITIES)), "")
    return f"{found}-part{partition}" if found and partition else found


def _attribute(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
            return printable(file.read().strip())
    except OSError:
        return ""


def metadata_is_blank(path: str) -> bool:
    """Whether the first 4 KiB are zero: the kernel then formats the device (dm-thin-metadata.c, superblock_all_zeroes)."""
    return not any(first_block(path))


def check_metadata(path: str, *, may_format: bool) -> None:
    """Refuse metadata that must not be opened: blank where a pool is expected, used where a new one is, or something else."""
    if metadata_is_blank(path):
        if not may_format:
            raise DamagedPool(
                f"{printable(path)} should hold the metadata of a pool, but it is blank",
                hint="it was exchanged or cleared: bring back the right metadata_file or metadata_device; to format it again would lose every image",
            )
    elif not has_superblock(path):
        error = BadInput if may_format else DamagedPool
        raise error(
            f"{printable(path)} holds something that is not the metadata of a thin pool",
            hint="give another metadata device; if what it holds is of no use, clear its first 4 KiB yourself",
        )
    elif may_format:
        raise CorruptStore(
            f"{printable(path)} holds the metadata of a pool already; a new pool was to be made there",
            hint="give the database back that belongs to that pool, or another metadata device; it is never cleared here",
        )


def refuse_used_device(runner: Runner, path: str) -> None:
    """Raise ``BadInput`` for a block device that holds a file system, a partition table or anything else that blkid knows."""
    done = runner.run(Program.BLKID, "--probe", "--output", "export", path, accept=(0, _NOTHING_FOUND))
    if done.returncode != _NOTHING_FOUND:
        found = ", ".join(line for line in done.stdout.splitlines() if "TYPE=" in line) or "something"
        raise BadInput(
            f"the device {printable(path)} is in use: it holds {printable(found)}",
            hint="give an empty device; if what it holds is of no use, clear it with `wipefs` yourself",
        )
