# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new base: planned, made, filled, sealed, recorded. It is made fresh, or of an earlier base.

Invariant: ``unpacked`` is committed only after the tree was written, every digest was verified, the file system was synced, unmounted
and checked, and the volume was flushed and unmapped. A volume that did not get that far is discarded as a whole.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from ..._errors import FlydError, NoSpace, Untrusted, doing
from ..._host.processes.command import Program
from ..._host.processes.crash import crash_point
from ..._image.opening import DeviceNodes, Options
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.filesystem import check, grow, make_ext4, populate, syncing
from ..._thin.ext4.journal import without_journal
from ..._thin.pool.thin_pool import pool_errors
from ..._thin.volume import flush
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, Operation, OperationKind, PoolRecord, Volume
from ..volumes.hidden import HIDDEN, remove_hidden
from ..volumes.room import require_room
from ..volumes.volumes import active_pool, at_rest, create_volume, map_thin, new_volume_ulid, undo_after, unmap
from .base_size import Making, base_bytes, fresh_bytes, size_named, sized
from .choosing import Offering, WantsHidden, no_offer, offering
from .inject import read_files
from .made_with import DEFAULT_DEVICE_NODES, made_with
from .options import UnpackOptions
from .origins import Candidate, Fresh, fresh
from .recording import commit, commit_hidden, origin_facts, record_of
from .sources import new_file, opened

_WHILE_FILLING = "while_filling"


_Base = tuple[Image, Volume, Facts]  # the last is the summary of the writing


class _MakeFresh(Exception):
    """The base is to be made without an origin, since ``because``; that is no error."""

    def __init__(self, because: Fresh) -> None:
        self.because = because


def make_base(host: Run, image: Image, asked: UnpackOptions) -> _Base:
    """Plan the tree of ``image``, make a volume that fits it, write, seal, record; the last is the summary of the writing.

    Where a base cannot be made of an earlier one it is made fresh.
    """
    pool = active_pool(host, host.settings.pool.value)
    host.runner.require(Program.DMSETUP, Program.MKFS_EXT4, Program.E2FSCK)
    host.directory("mnt")  # refused before anything is made, when it is not ours alone
    with offering(host, pool, image, asked) as offered:
        try:
            return _attempt(host, pool, image, asked, offered)
        except _MakeFresh as reason:
            return _attempt(host, pool, image, asked, Offering(fresh(reason.because)))
        except WantsHidden as wanted:
            count = wanted.count
    return _on_hidden(host, pool, image, asked, count)


def _on_hidden(host: Run, pool: PoolRecord, image: Image, asked: UnpackOptions, count: int) -> _Base:
    """The base made of a hidden one, which is made first of the ``count`` lowest layers; fresh where that does not come to it."""
    hidden = _hidden(host, pool, image, asked, count)
    with offering(host, pool, image, asked, wants_hidden=False) as offered:
        try:
            return _attempt(host, pool, image, asked, offered)
        except _MakeFresh as reason:
            because = reason.because
        except NoSpace:
            if hidden is None:
                raise
            because = Fresh.ROOM
    if hidden is not None:
        remove_hidden(host, pool, hidden)  # a fresh base takes the room that there was without it
    return _attempt(host, pool, image, asked, Offering(fresh(because)))


def _hidden(host: Run, pool: PoolRecord, image: Image, asked: UnpackOptions, count: int) -> Volume | None:
    """A new hidden base; None, and a line in the log, where it cannot be made but for what is wrong with the image itself."""
    options = _options(host, image, asked)._replace(first_layers=count)
    try:
        with new_file() as manifest_fd, opened(host, image, options, (), manifest_fd, no_offer) as unpacking:
            plan, size = unpacking.plan, asked._replace(size_bytes=0)
            size_bytes = base_bytes(pool, plan, size, 0, 0)
            making = Making(pool, unpacking, size, None, 0, size_bytes, HIDDEN)
            require_room(host, pool, fresh_bytes(making), what="a hidden base")
            operation = host.begin(OperationKind.UNPACK, str(asked.key), volume_ulid=new_volume_ulid())
            try:
                base, _summary = _made(host, making, operation)
                record = record_of(host, unpacking, None, base, manifest_fd)
                if not record.manifest_sha256:
                    raise NoSpace("its manifest could not be kept", hint="make room below state_dir")
            except BaseException as error:
                unpacking.stop()
                undo_after(host, pool, operation, error)
                raise
            base = commit_hidden(host, base, record, operation)
    except Untrusted:
        raise
    except FlydError as error:
        facts = {"image": str(asked.key), "error_kind": error.kind.value, "error": str(error)}
        host.log.write("hidden base not made", **facts)
        return None
    crash_point("unpack:hidden")
    return base


def _options(host: Run, image: Image, asked: UnpackOptions) -> Options:
    return Options(
        limits=asked.limits,
        spool_directory=host.directory("spool"),
        image_name=asked.image_name,
        platform=asked.platform,
        device_nodes=DeviceNodes(asked.device_nodes or DEFAULT_DEVICE_NODES),
        expected_sha256=image.sha256,
    )


def _attempt(host: Run, pool: PoolRecord, image: Image, asked: UnpackOptions, offered: Offering) -> _Base:
    added = read_files(asked.inject)
    options = _options(host, image, asked)._replace(asks_origin=offered.is_open)
    with new_file() as manifest_fd, opened(host, image, options, added, manifest_fd, offered.offer) as unpacking:
        making, because = sized(host, pool, unpacking, asked, offered.choice)
        if making.origin is None and unpacking.origin is not None and unpacking.origin.unread_layers:
            raise _MakeFresh(because or Fresh.FAILED)  # layers were not read that are written now
        operation = host.begin(OperationKind.UNPACK, str(asked.key), volume_ulid=new_volume_ulid())
        try:
            base, summary = _made(host, making, operation)
        except BaseException as error:
            unpacking.stop()  # it may hold the volume
            undo_after(host, pool, operation, error)
            if making.origin is not None and isinstance(error, FlydError) and _blames_origin(error):
                _note_failure(host, making.origin, error)
                raise _MakeFresh(Fresh.FAILED) from error
            raise
        record = record_of(host, unpacking, making.origin, base, manifest_fd)
        summary = {**summary, **origin_facts(making.origin), "fresh_because": because and because.value}
        after = image._replace(
            config=json.dumps(unpacking.config.to_json()),
            made_with=made_with(asked, added),
            summary=json.dumps(summary),
        )
        return commit(host, after, base, record, operation), base, summary


def _made(host: Run, making: Making, operation: Operation) -> tuple[Volume, Facts]:
    """The sealed volume, and the summary of the writing."""
    pool, origin, phase = making.pool, making.origin, making.image.phases.phase
    sectors = making.size_bytes // SECTOR_BYTES
    with phase("volume"):
        if origin is None:
            base = create_volume(host, pool, operation, kind=making.kind, sectors=sectors)
        else:
            with at_rest(host, origin.volume):
                base = create_volume(host, pool, operation, kind="base", sectors=sectors, origin=origin.volume)
    with pool_errors(host.dm, pool.name):
        return base, {**_fill(host, making, base), "free_size": making.free_bytes or None}


def _fill(host: Run, making: Making, base: Volume) -> Facts:
    unpacking, origin = making.image, making.origin
    phase, is_computed = unpacking.phases.phase, not making.asked.size_bytes
    with phase("volume"):
        device = map_thin(host, making.pool, base)
    crash_point("unpack:mapped")
    if origin is None:
        named = size_named(unpacking.plan, making.size_bytes, is_computed=is_computed)
        with phase("format"), named, doing(f"making the file system on {device.name}"):
            make_ext4(host.runner, device.path, inodes=unpacking.plan.inodes)
        crash_point("unpack:formatted")
    elif base.sectors > origin.volume.sectors:
        with phase("format"), doing(f"growing the file system on {device.name}"):
            grow(host.runner, device.path)
        crash_point("unpack:grown")
    named = size_named(unpacking.plan, making.size_bytes, is_computed=is_computed)
    write = unpacking.write_into if origin is None else unpacking.write_onto
    with phase("fill"), named, doing(f"writing the tree to {device.name}"), without_journal(device.path):
        crash_point("unpack:unjournalled")
        with _marked(None if origin is None else _WHILE_FILLING):
            summary: Facts = populate(
                device.path,
                host.directory("mnt"),
                lambda root_fd: write(root_fd, lambda: syncing(root_fd)).to_json(),
                stalled_seconds=host.settings.command_timeout_seconds,
                trim_bytes=0 if origin is None else making.block_bytes,
            )
    crash_point("unpack:written")
    with phase("seal"), doing(f"sealing {device.name}"):
        check(host.runner, device.path)
        flush(device.path)
        unmap(host, base)
    crash_point("unpack:sealed")
    # The writing was done by a child, which knows nothing of what its parent measured since.
    return {**summary, "seconds": {**summary["seconds"], **unpacking.phases.seconds}}


@contextlib.contextmanager
def _marked(detail: str | None) -> Iterator[None]:
    """Note ``detail``, if there is one, with an error that is raised inside."""
    try:
        yield
    except FlydError as error:
        if detail is not None:
            error.details[detail] = True
        raise


def _blames_origin(error: FlydError) -> bool:
    """Whether a fresh base may be made in spite of ``error``: it is not the image's, and not one that passes elsewhere."""
    return not isinstance(error, Untrusted) and (not error.retryable or _WHILE_FILLING in error.details)


def _note_failure(host: Run, origin: Candidate, error: FlydError) -> None:
    facts = {"base": origin.volume.device_name, "error_kind": error.kind.value, "error": str(error)}
    host.log.write("origin not used", **facts)
