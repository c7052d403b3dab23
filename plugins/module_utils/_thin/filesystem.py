# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ext4 on a volume: how large, made, filled in a mount that nobody else sees, and checked.

Invariant: when ``populate`` returns, the file system is unmounted and on disk; when it raises, its mount is gone too, and the
volume is worth nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from .._errors import CommandFailed
from .._host.child import Json, in_child
from .._host.command import Program, Runner
from .._host.isolation import (
    MS_NOATIME,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    mount,
    own_mount_namespace,
    sync_filesystem,
    unmount,
)
from .._host.process import descendants_activity
from .device import requests_done
from .volume import flush

MIB = 1 << 20
BLOCK_BYTES = 4096
_INODE_BYTES = 256
_MIN_ROOM_BYTES = 64 * MIB
_ROOM_PERCENT = 25
_MIN_ROOM_INODES = 4096
_RESERVED_BYTES = 4 * MIB  # superblocks, group descriptors and the blocks kept for growing them
_GROUP_BYTES = 128 * MIB
_GROUP_OVERHEAD_BYTES = 3 * BLOCK_BYTES  # two bitmaps and the rest of a table's last block
_CLEAN = 0
_MENDED = 1

# Named one by one, so that every e2fsprogs makes the same file system and every kernel from 4.18 on can mount it: newer
# defaults (orphan_file, metadata_csum_seed) are not known to older ones. resize_inode lets a snapshot grow while mounted.
_FEATURES = (
    "none",
    "has_journal",
    "ext_attr",
    "resize_inode",
    "dir_index",
    "filetype",
    "extent",
    "64bit",
    "flex_bg",
    "sparse_super",
    "large_file",
    "huge_file",
    "dir_nlink",
    "extra_isize",
    "metadata_csum",
)


def inodes_with_room(inodes: int) -> int:
    """How many inodes a file system for ``inodes`` of an image gets: a quarter more, and at least 4096 more."""
    return inodes + max(_MIN_ROOM_INODES, inodes * _ROOM_PERCENT // 100)


def journal_bytes_for(volume_bytes: int) -> int:
    """The journal's size: 8 MiB up to a volume of 1 GiB, 32 MiB up to 8 GiB, 64 MiB above."""
    if volume_bytes <= 1 << 30:
        return 8 * MIB
    return 32 * MIB if volume_bytes <= 8 << 30 else 64 * MIB


def volume_bytes_for(tree_blocks: int, inodes: int, *, round_to_bytes: int = MIB) -> int:
    """The size of a volume whose ext4 holds an image and leaves a quarter, at least 64 MiB, to live in.

    ``tree_blocks`` are the blocks of 4096 bytes that contents, directories, long links and attributes take; ``inodes`` counts
    everything in the tree. The result is a multiple of ``round_to_bytes``.
    """
    tree_bytes = tree_blocks * BLOCK_BYTES
    tree_bytes += max(_MIN_ROOM_BYTES, tree_bytes * _ROOM_PERCENT // 100)
    total = tree_bytes + _own_bytes(tree_bytes, inodes)
    return -(-total // round_to_bytes) * round_to_bytes


def written_bytes_for(tree_blocks: int, inodes: int, volume_bytes: int) -> int:
    """What making and filling the file system takes of a thin pool at most: the tree, and what is the file system's own."""
    return min(volume_bytes, tree_blocks * BLOCK_BYTES + _own_bytes(volume_bytes, inodes))


def _own_bytes(volume_bytes: int, inodes: int) -> int:
    tables_bytes = inodes_with_room(inodes) * _INODE_BYTES + _RESERVED_BYTES + journal_bytes_for(volume_bytes)
    groups = (volume_bytes + tables_bytes) // _GROUP_BYTES + 1
    return tables_bytes + groups * _GROUP_OVERHEAD_BYTES


def make_ext4(runner: Runner, device: str, *, inodes: int, label: str = "", uuid: str = "") -> None:
    """Make an ext4 for an image of ``inodes`` on ``device``, whose blocks must read as zero (a new thin volume's do).

    Nothing is left for the kernel to initialise later: that would write to every snapshot in the background. Only the journal is
    not written full of zeros (lazy_journal_init): on a new volume it is zero, and would take its whole size from the pool.
    """
    size_bytes = _size_bytes(device)
    options = ["-L", label] if label else []
    options += ["-U", uuid] if uuid else []
    runner.run(
        Program.MKFS_EXT4,
        "-q",
        "-F",
        *("-b", str(BLOCK_BYTES)),
        *("-I", str(_INODE_BYTES)),
        *("-N", str(inodes_with_room(inodes))),
        *("-m", "0"),
        *("-O", ",".join(_FEATURES)),
        *("-J", f"size={journal_bytes_for(size_bytes) // MIB}"),
        *("-E", "lazy_itable_init=0,lazy_journal_init=1,nodiscard"),
        *options,
        device,
    )


def populate(
    device: str, mount_point: str, work: Callable[[int], Json], *, stalled_seconds: float | None = None
) -> Json:
    """Mount ``device`` on the empty directory ``mount_point``, run ``work`` with a descriptor of its root, and bring all to disk.

    Returns what ``work`` returned. ``work`` runs in a process of its own that may change its root; a file system that is new
    loses its lost+found, so that the tree is the image's alone. Whatever ``work``, syncfs or the unmount raise is raised here.
    ``CommandFailed`` when for ``stalled_seconds`` nothing was computed, and nothing was done by the device either.
    """
    return in_child(
        lambda: _populate(device, mount_point, work),
        what="filling the volume",
        timeout_seconds=stalled_seconds,
        # Whoever verifies digests is a child of this process too, and may be the last to end.
        progress=lambda: (descendants_activity(os.getpid()), requests_done(device)),
    )


def _populate(device: str, mount_point: str, work: Callable[[int], Json]) -> Json:
    own_mount_namespace()
    mount(device, mount_point, "ext4", MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME, "errors=remount-ro")
    try:
        result = _work_and_sync(mount_point, work)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell; the namespace takes the mount with it
            unmount(mount_point)
        raise
    unmount(mount_point)
    flush(device)
    return result


def _work_and_sync(mount_point: str, work: Callable[[int], Json]) -> Json:
    root_fd = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir("lost+found", dir_fd=root_fd)
        # A process of its own: work that changes its root would keep the mount busy here.
        result = in_child(lambda: work(root_fd), what="writing the tree")
        sync_filesystem(root_fd)
        return result
    finally:
        os.close(root_fd)


@contextlib.contextmanager
def syncing(root_fd: int) -> Iterator[None]:
    """Bring what was written so far to disk beside what is done inside; raises what syncfs said if that ended well.

    It must not be swallowed: the kernel tells of a write that failed once, and the sync of ``populate`` would know nothing of it.
    """
    failed: list[Exception] = []

    def sync() -> None:
        try:
            sync_filesystem(root_fd)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised in the other thread
            failed.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failed:
        raise failed[0]


def check(runner: Runner, device: str) -> None:
    """Check an unmounted ext4 without changing it; raises ``CommandFailed`` with what e2fsck found."""
    done = runner.run(Program.E2FSCK, "-f", "-n", device, accept=tuple(range(256)), timeout_seconds=None)
    if done.returncode != _CLEAN:
        said = (done.stdout + done.stderr).strip()
        raise CommandFailed(
            f"the file system on {device} is not clean (e2fsck ended with {done.returncode}): {said[-600:]}",
            hint="remove the image or snapshot and make it again",
            program=Program.E2FSCK.value,
            returncode=done.returncode,
        )


def grow(runner: Runner, device: str) -> None:
    """Let an unmounted ext4 that no guest has written fill ``device``, which is larger; raises ``CommandFailed``."""
    # resize2fs refuses a file system that was mounted since its last full check, and a check with -n is not recorded.
    runner.run(Program.E2FSCK, "-f", "-y", device, accept=(_CLEAN, _MENDED))
    runner.run(Program.RESIZE2FS, device)
    flush(device)


def _size_bytes(device: str) -> int:
    with open(device, "rb") as file:
        return file.seek(0, os.SEEK_END)
