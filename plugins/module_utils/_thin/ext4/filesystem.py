# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create ext4 on a volume, fill it in a private mount, check it, and grow it.

Invariant: when ``populate`` returns, the file system is unmounted and on disk; when it raises, its mount is gone too, and the
content of the volume is invalid.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from ..._errors import CommandFailed
from ..._host.confinement.isolation import MS_NOATIME, MS_NODEV, MS_NOEXEC, MS_NOSUID, sync_filesystem
from ..._host.confinement.private_mount import PrivateMount
from ..._host.processes.answer import Json
from ..._host.processes.child import in_child
from ..._host.processes.command import Program, Runner
from ..._host.processes.process import descendants_activity
from ..dm.device import requests_done
from ..volume import flush
from .layout import BLOCK_BYTES, INODE_BYTES
from .sizing import MIB, inodes_with_room, journal_bytes_for, volume_bytes_for, written_bytes_for
from .trimming import trim

__all__ = [
    "check",
    "grow",
    "inodes_with_room",
    "make_ext4",
    "populate",
    "syncing",
    "volume_bytes_for",
    "written_bytes_for",
]

# Named with each base: one is made of another only if both have it. To be counted up when make_ext4 makes another file system.
RECIPE = "ext4 1"
_CLEAN = 0

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
        *("-I", str(INODE_BYTES)),
        *("-N", str(inodes_with_room(inodes))),
        *("-m", "0"),
        *("-O", ",".join(_FEATURES)),
        *("-J", f"size={journal_bytes_for(size_bytes) // MIB}"),
        *("-E", "lazy_itable_init=0,lazy_journal_init=1,nodiscard"),
        *options,
        device,
    )


def populate(
    device: str,
    mount_point: str,
    work: Callable[[int], Json],
    *,
    stalled_seconds: float | None = None,
    trim_bytes: int = 0,
) -> Json:
    """Mount ``device`` on the empty directory ``mount_point``, run ``work`` with a descriptor of its root, and bring all to disk.

    Returns what ``work`` returned. ``work`` runs in a process of its own that may change its root; a file system that is new
    loses its lost+found, so that the tree is the image's alone. One that has a tree already keeps all that is in it, and in the end
    gives free extents of ``trim_bytes`` and more back (0: it is a new one). Whatever ``work``, syncfs or the unmount raise is raised here.
    ``CommandFailed`` when for ``stalled_seconds`` nothing was computed, and nothing was done by the device either.
    """
    return in_child(
        lambda: _populate(device, mount_point, work, trim_bytes),
        what="filling the volume",
        timeout_seconds=stalled_seconds,
        # The process that verifies digests is a child of this process too, and may be the last to end.
        progress=lambda: (descendants_activity(os.getpid()), requests_done(device)),
    )


def _populate(device: str, mount_point: str, work: Callable[[int], Json], trim_bytes: int) -> Json:
    flags = MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME
    place = PrivateMount(device, mount_point, "ext4", flags, "errors=remount-ro")
    try:
        result = _work_and_sync(place.open(), work, trim_bytes)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell; the namespace takes the mount with it
            place.unmount()
        raise
    place.unmount()
    flush(device)
    return result


def _work_and_sync(root_fd: int, work: Callable[[int], Json], trim_bytes: int) -> Json:
    try:
        if not trim_bytes:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir("lost+found", dir_fd=root_fd)
        # A process of its own: work that changes its root would keep the mount busy here.
        result = in_child(lambda: work(root_fd), what="writing the tree")
        sync_filesystem(root_fd)
        if trim_bytes:
            trim(root_fd, trim_bytes)
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
            hint="remove the image or snapshot and make it again (roles flyd.lite.deactivate and flyd.lite.activate)",
            program=Program.E2FSCK.value,
            returncode=done.returncode,
        )


def grow(runner: Runner, device: str) -> None:
    """Let an unmounted ext4 that no guest has written fill ``device``, which is larger; raises ``CommandFailed``.

    The check changes nothing: e2fsck with -y would make a lost+found where the image has none. resize2fs needs -f because such a
    check is not recorded in the superblock.
    """
    check(runner, device)
    runner.run(Program.RESIZE2FS, "-f", device)
    flush(device)


def _size_bytes(device: str) -> int:
    with open(device, "rb") as file:
        return file.seek(0, os.SEEK_END)
