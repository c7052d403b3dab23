# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check, copy and repair the metadata of an inactive pool.

Invariant: the metadata itself is only read here; the output goes to a separate file, which gets its final name when it is complete, checked and
on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..._errors import CommandFailed, DamagedPool
from ..._host.files.durable import file_errors, require_room, sync_directory
from ..._host.processes.command import Program, Runner
from ..._names import printable
from ..dm.table import METADATA_BLOCK_BYTES
from .health import REPAIR

_CHUNK_BYTES = 1 << 20
_MAKE_ROOM = "make room on the file system of state_dir, then run again"


def thin_check(runner: Runner, path: str, *, clears_mark: bool = False) -> None:
    """Read all the metadata at ``path``, of a pool that is down; raises ``DamagedPool`` with what is wrong with it.

    ``clears_mark`` takes the kernel's needs_check off metadata that is sound: thin_repair may have taken it over from the old.
    """
    try:
        runner.run(Program.THIN_CHECK, "-q", *(["--clear-needs-check-flag"] if clears_mark else []), path)
    except CommandFailed as error:
        if "returncode" not in error.details:
            raise
        said = printable(str(error.details.get("stderr", "")) or "it said nothing")
        raise DamagedPool(
            f"thin_check refuses the metadata at {printable(path)}: {said}", hint=REPAIR, program="thin_check"
        ) from None


def thin_repair(
    runner: Runner, source: str, target: str, *, transaction_id: int, block_sectors: int, data_blocks: int
) -> None:
    """Write what can be read of ``source`` to the file ``target`` of blank metadata.

    The three numbers are what a superblock that is lost no longer says; one that can be read must agree.
    """
    known = ("--transaction-id", transaction_id, "--data-block-size", block_sectors, "--nr-data-blocks", data_blocks)
    try:
        runner.run(Program.THIN_REPAIR, "-i", source, "-o", target, *(str(word) for word in known))
    except CommandFailed as error:
        if "returncode" not in error.details:
            raise
        raise DamagedPool(
            f"thin_repair can make nothing of the metadata: {printable(str(error.details.get('stderr', '')))}",
            hint="restore the metadata from a backup, or start over: flyd_pool, state: absent with force; its copy stays until then",
            program="thin_repair",
        ) from None


def copy_metadata(source: str, target: str) -> None:
    """Copy ``source`` with its holes to the file ``target`` (0600), which is there whole and on disk, or not at all."""
    require_room(target, os.stat(source).st_blocks * 512, hint=_MAKE_ROOM)  # 0 for a device, whose holes are not known
    with file_errors("copying the metadata"):
        part = f"{target}.part"
        with open(source, "rb", buffering=0) as old, _new(part) as new:
            size = old.seek(0, os.SEEK_END)
            _copy(old.fileno(), new, size, keep_holes=True)
            os.ftruncate(new, size)
            os.fsync(new)
        os.rename(part, target)
        sync_directory(os.path.dirname(target))


def blank_metadata(path: str, size_bytes: int) -> None:
    """A file for new metadata, allocated in full."""
    require_room(path, size_bytes, hint=_MAKE_ROOM)
    with file_errors("making room for new metadata"), _new(path) as fd:
        os.posix_fallocate(fd, 0, size_bytes)
        os.fsync(fd)


def write_metadata(source: str, device: str) -> None:
    """Write the file ``source`` over the block device ``device``, the superblock last, so that a cut is seen as what it is."""
    with file_errors("writing the repaired metadata"), open(source, "rb", buffering=0) as new, _blanked(device) as fd:
        size = new.seek(0, os.SEEK_END)
        _copy(new.fileno(), fd, size, start=METADATA_BLOCK_BYTES)
        os.fsync(fd)
        os.pwrite(fd, os.pread(new.fileno(), METADATA_BLOCK_BYTES, 0), 0)
        os.fsync(fd)


def blank_superblock(device: str) -> None:
    """Zero the first 4 KiB of the metadata on a block device that is not in use."""
    with file_errors("blanking the metadata"), _blanked(device):
        pass


@contextlib.contextmanager
def _blanked(device: str) -> Iterator[int]:
    """The device for writing, for us alone, with no superblock on it any more."""
    fd = os.open(device, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
    try:
        os.pwrite(fd, bytes(METADATA_BLOCK_BYTES), 0)
        os.fsync(fd)
        yield fd
    finally:
        os.close(fd)


def _copy(old: int, new: int, size: int, *, start: int = 0, keep_holes: bool = False) -> None:
    for offset in range(start, size, _CHUNK_BYTES):
        chunk = os.pread(old, min(_CHUNK_BYTES, size - offset), offset)
        if not keep_holes or chunk.count(0) != len(chunk):
            _write_all(new, chunk, offset)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


@contextlib.contextmanager
def _new(path: str) -> Iterator[int]:
    """A new file for writing; one that an interrupted repair left there is replaced."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)
