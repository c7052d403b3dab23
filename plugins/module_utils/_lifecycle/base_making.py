# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new base: planned, made, filled, sealed, recorded.

Invariant: ``unpacked`` is committed only after the tree was written, every digest was verified, the file system was synced, unmounted
and checked, and the volume was flushed and unmapped. A volume that did not come so far is thrown away whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from .._errors import OutOfOrder, doing
from .._host.command import Program
from .._host.crash import crash_point
from .._host.files import file_errors
from .._host.filter import zstd_program
from .._image.unpacking import DeviceNodes, Options, Unpacking, open_family, open_image
from .._names import ObjectKey
from .._thin.device import SECTOR_BYTES
from .._thin.filesystem import check, make_ext4, populate, syncing, volume_bytes_for, written_bytes_for
from .._thin.pool import blaming_pool
from .._thin.volume import flush
from .host import Host
from .outcome import Facts
from .records import Image, Operation, OperationKind, PoolRecord, State, Volume, VolumeState
from .rot import rot_removed
from .store import utc_now
from .unpack import UnpackOptions
from .volumes import active_pool, create_volume, map_thin, new_volume_ulid, require_room, undo_after, unmap


def make_base(host: Host, image: Image, asked: UnpackOptions) -> tuple[Image, Volume, Facts]:
    """Plan the tree of ``image``, make a volume that fits it, write, seal, record; the last is the summary of the writing."""
    pool = active_pool(host, host.settings.pool.value)
    host.runner.require(Program.DMSETUP, Program.MKFS_EXT4, Program.E2FSCK)
    host.directory("mnt")  # refused before anything is made, when it is not ours alone
    options = Options(
        limits=asked.limits,
        spool_directory=host.directory("spool"),
        image_name=asked.image_name,
        platform=asked.platform,
        device_nodes=DeviceNodes(asked.device_nodes),
        expected_sha256=image.sha256,
        zstd=zstd_program(host.runner),
    )
    with _open_image(host, image, options) as unpacking:
        size_bytes = _volume_bytes(pool, unpacking, asked.size_bytes)
        plan = unpacking.plan
        require_room(host, pool, written_bytes_for(plan.volume_blocks, plan.inodes, size_bytes))
        operation = host.begin(OperationKind.UNPACK, str(asked.key), volume_ulid=new_volume_ulid())
        try:
            with unpacking.phases.phase("volume"):
                base = create_volume(host, pool, operation, kind="base", sectors=size_bytes // SECTOR_BYTES)
            with blaming_pool(host.dm, pool.name):
                summary = _fill(host, pool, base, unpacking)
        except BaseException as error:
            undo_after(host, pool, operation, error)
            raise
        after = _record(host, image, base, unpacking, summary, operation)
    return after, base, summary


def _volume_bytes(pool: PoolRecord, unpacking: Unpacking, asked_bytes: int) -> int:
    plan = unpacking.plan
    wanted = asked_bytes or volume_bytes_for(plan.volume_blocks, plan.inodes)
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return -(-wanted // block_bytes) * block_bytes


def _fill(host: Host, pool: PoolRecord, base: Volume, unpacking: Unpacking) -> Facts:
    phase = unpacking.phases.phase
    with phase("volume"):
        device = map_thin(host, pool, base)
    crash_point("unpack:mapped")
    with phase("format"), doing(f"making the file system on {device.name}"):
        make_ext4(host.runner, device.path, inodes=unpacking.plan.inodes)
    crash_point("unpack:formatted")
    with phase("fill"), doing(f"writing the tree to {device.name}"):
        summary: Facts = populate(
            device.path,
            host.directory("mnt"),
            lambda root_fd: unpacking.write_into(root_fd, lambda: syncing(root_fd)).to_json(),
            stalled_seconds=host.settings.command_timeout_seconds,
        )
    crash_point("unpack:written")
    with phase("seal"), doing(f"sealing {device.name}"):
        check(host.runner, device.path)
        flush(device.path)
        unmap(host, base)
    crash_point("unpack:sealed")
    # The writing was done by a child, which knows nothing of what its parent measured since.
    return {**summary, "seconds": {**summary["seconds"], **unpacking.phases.seconds}}


def _record(
    host: Host, image: Image, base: Volume, unpacking: Unpacking, summary: Facts, operation: Operation
) -> Image:
    after = image._replace(
        state=State.UNPACKED,
        pool_device=base.device_path,
        base_ulid=base.ulid,
        keep_archive=True,
        config=json.dumps(unpacking.config.to_json()),
        summary=json.dumps(summary),
        updated_at=utc_now(),
    )
    with host.store.transaction():
        host.store.put(base._replace(state=VolumeState.LIVE))
        host.store.put(after)
        host.store.drop(operation)
    return after


@contextlib.contextmanager
def _open_image(host: Host, image: Image, options: Options) -> Iterator[Unpacking]:
    """The image in its archive, or that of a family in its layers, each verified by its own digest."""
    with contextlib.ExitStack() as stack:
        fds = [stack.enter_context(_open_archive(host.archive_path(digest))) for digest in image.digests]
        stack.enter_context(rot_removed(host, tuple(zip(fds, image.digests))))
        is_family = ObjectKey(image.object_key).is_family
        opened = open_family(fds, options, image.digests) if is_family else open_image(fds[0], options)
        yield stack.enter_context(opened)


@contextlib.contextmanager
def _open_archive(path: str) -> Iterator[int]:
    """The archive's descriptor: what is hashed and unpacked is what this one open file holds."""
    with file_errors("opening the archive"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise OutOfOrder(
                f"the fetched archive {path} is gone", hint="run flyd_fetch again: it sees that and downloads it anew"
            ) from None
    try:
        yield fd
    finally:
        os.close(fd)
