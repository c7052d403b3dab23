# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new base: planned, made, filled, sealed, recorded.

Invariant: ``unpacked`` is committed only after the tree was written, every digest was verified, the file system was synced, unmounted
and checked, and the volume was flushed and unmapped. A volume that did not get that far is discarded as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from ..._errors import BadInput, CommandFailed, Internal, NoSpace, OutOfOrder, doing
from ..._host.files.durable import file_errors
from ..._host.processes.command import Program
from ..._host.processes.crash import crash_point
from ..._image.opening import DeviceNodes, OpenImage, Options, PlanFigures, open_family, open_image
from ..._names import ObjectKey, option_size, size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.filesystem import check, make_ext4, populate, syncing
from ..._thin.ext4.sizing import default_free_bytes, volume_bytes_for, written_bytes_for
from ..._thin.pool.thin_pool import pool_errors
from ..._thin.volume import flush
from ..image.corruption import rot_removed
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, Operation, OperationKind, PoolRecord, State, Volume, VolumeState
from ..store.store import utc_now
from ..volumes.room import require_room
from ..volumes.volumes import active_pool, create_volume, map_thin, new_volume_ulid, undo_after, unmap
from .inject import layer_of, read_files
from .made_with import DEFAULT_DEVICE_NODES, made_with
from .options import UnpackOptions

_GIB = 1 << 30


def make_base(host: Run, image: Image, asked: UnpackOptions) -> tuple[Image, Volume, Facts]:
    """Plan the tree of ``image``, make a volume that fits it, write, seal, record; the last is the summary of the writing."""
    pool = active_pool(host, host.settings.pool.value)
    host.runner.require(Program.DMSETUP, Program.MKFS_EXT4, Program.E2FSCK)
    host.directory("mnt")  # refused before anything is made, when it is not ours alone
    added = read_files(asked.inject)
    options = Options(
        limits=asked.limits,
        spool_directory=host.directory("spool"),
        image_name=asked.image_name,
        platform=asked.platform,
        device_nodes=DeviceNodes(asked.device_nodes or DEFAULT_DEVICE_NODES),
        expected_sha256=image.sha256,
    )
    with layer_of(added) as layer_fd, _open_image(host, image, options._replace(top_layer_fd=layer_fd)) as unpacking:
        plan = unpacking.plan
        free_bytes = 0 if asked.size_bytes else asked.free_bytes or default_free_bytes(plan.volume_blocks)
        size_bytes = _volume_bytes(pool, plan, asked, free_bytes)
        written_bytes = written_bytes_for(
            plan.volume_blocks, plan.inodes, size_bytes, pool.block_sectors * SECTOR_BYTES, plan.scattered_bytes
        )
        require_room(host, pool, written_bytes, what=f"the image {asked.key}")
        operation = host.begin(OperationKind.UNPACK, str(asked.key), volume_ulid=new_volume_ulid())
        try:
            with unpacking.phases.phase("volume"):
                base = create_volume(host, pool, operation, kind="base", sectors=size_bytes // SECTOR_BYTES)
            with pool_errors(host.dm, pool.name):
                summary = {**_fill(host, pool, base, unpacking, asked), "free_size": free_bytes or None}
        except BaseException as error:
            unpacking.stop()  # it may hold the volume
            undo_after(host, pool, operation, error)
            raise
        after = _record(host, image._replace(made_with=made_with(asked, added)), base, unpacking, summary, operation)
    return after, base, summary


def _volume_bytes(pool: PoolRecord, plan: PlanFigures, asked: UnpackOptions, free_bytes: int) -> int:
    if asked.size_bytes and asked.size_bytes < plan.content_bytes:
        raise BadInput(
            f"size: {option_size(asked.size_bytes)} is less than the {size_text(plan.content_bytes)} that the files of {asked.key} have",
            hint=_size_hint(plan),
        )
    wanted = asked.size_bytes or volume_bytes_for(plan.volume_blocks, plan.inodes, free_bytes=free_bytes)
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return -(-wanted // block_bytes) * block_bytes


def _size_hint(plan: PlanFigures) -> str:
    least = option_size(volume_bytes_for(plan.volume_blocks, plan.inodes, free_bytes=0))
    return f"set size: {least} or more on flyd_unpack (role activate: activate_size), or leave it out"


@contextlib.contextmanager
def _size_named(plan: PlanFigures, size_bytes: int, *, is_computed: bool) -> Iterator[None]:
    """Say of a new volume that is full whose size it was: no room that is made elsewhere helps."""
    try:
        yield
    except CommandFailed as error:
        if not is_computed and error.details.get("program") == Program.MKFS_EXT4.value:
            error.hint = f"{_size_hint(plan)}; {error.hint}"
        raise
    except NoSpace as error:
        size = size_text(size_bytes)
        if not is_computed:
            error.msg = f"the image does not fit the volume of {size} that size asked for: {error.msg}"
            error.hint = _size_hint(plan)
            raise
        larger = option_size(-(-size_bytes * 2 // _GIB) * _GIB)
        fault = Internal(
            f"a fault in flyd.lite itself: the volume of {size} that was computed for this image is too small: {error.msg}",
            hint=f"set size: {larger} on flyd_unpack (role activate: activate_size), and please report it: "
            f"{plan.volume_blocks} blocks and {plan.inodes} inodes were computed",
            volume_bytes=size_bytes,
            volume_blocks=plan.volume_blocks,
            inodes=plan.inodes,
        )
        fault.trail = list(error.trail)
        raise fault from error


def _fill(host: Run, pool: PoolRecord, base: Volume, unpacking: OpenImage, asked: UnpackOptions) -> Facts:
    size_bytes = base.sectors * SECTOR_BYTES
    phase = unpacking.phases.phase
    with phase("volume"):
        device = map_thin(host, pool, base)
    crash_point("unpack:mapped")
    is_computed = not asked.size_bytes
    named = _size_named(unpacking.plan, size_bytes, is_computed=is_computed)
    with phase("format"), named, doing(f"making the file system on {device.name}"):
        make_ext4(host.runner, device.path, inodes=unpacking.plan.inodes)
    crash_point("unpack:formatted")
    named = _size_named(unpacking.plan, size_bytes, is_computed=is_computed)
    with phase("fill"), named, doing(f"writing the tree to {device.name}"):
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


def _record(host: Run, image: Image, base: Volume, unpacking: OpenImage, summary: Facts, operation: Operation) -> Image:
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
def _open_image(host: Run, image: Image, options: Options) -> Iterator[OpenImage]:
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
                f"the fetched archive {path} is gone",
                hint="run flyd_fetch again: it finds that out and downloads the archive again",
            ) from None
    try:
        yield fd
    finally:
        os.close(fd)
