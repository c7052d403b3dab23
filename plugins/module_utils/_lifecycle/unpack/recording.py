# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded of a base that was made: how others can be made of it, and that the image has it.

Invariant: all of it is committed in one transaction with the end of the intent.
"""

from __future__ import annotations

from ..._errors import FlydError
from ..._host.processes.crash import crash_point
from ..._image.opening import OpenImage
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.filesystem import RECIPE, inodes_with_room
from ..._thin.ext4.sizing import inodes_when_grown
from ..outcome import Facts
from ..run import Run
from ..store.base_record import BaseRecord, layers_text, residue_text
from ..store.records import Image, Operation, State, Volume, VolumeState
from ..store.store import utc_now
from ..volumes.manifests import keep_manifest
from .origins import Candidate


def record_of(host: Run, image: OpenImage, origin: Candidate | None, base: Volume, manifest_fd: int) -> BaseRecord:
    """How bases can be made of this one; without a manifest none can, and that is all."""
    try:
        manifest_sha256 = keep_manifest(host, base, manifest_fd)
    except FlydError as error:
        manifest_sha256 = ""
        host.log.write("manifest not kept", base=base.device_name, error_kind=error.kind.value, error=str(error))
    crash_point("unpack:manifest")
    return BaseRecord(
        base.ulid,
        origin.volume.ulid if origin else "",
        origin.record.depth + 1 if origin else 0,
        RECIPE,
        _inodes_of(image, origin, base),
        image.plan.volume_blocks,
        manifest_sha256,
        layers_text(image.layers),
        residue_text(image.layers, origin and origin.record),
    )


def origin_facts(origin: Candidate | None) -> Facts:
    """What the result tells of the base that the new one was made of."""
    return {"origin": origin and origin.volume.device_name, "origin_key": (origin and origin.key) or None}


def _inodes_of(image: OpenImage, origin: Candidate | None, base: Volume) -> int:
    if origin is None:
        return inodes_with_room(image.plan.inodes)
    return inodes_when_grown(origin.size_bytes, origin.record.inodes, base.sectors * SECTOR_BYTES)


def commit_hidden(host: Run, base: Volume, record: BaseRecord, operation: Operation) -> Volume:
    """A hidden base, which no image has, as it is then."""
    live = base._replace(state=VolumeState.LIVE)
    with host.store.transaction():
        host.store.put(live)
        host.store.put(record)
        host.store.drop(operation)
    return live


def commit(host: Run, image: Image, base: Volume, record: BaseRecord, operation: Operation) -> Image:
    """The image, which is unpacked now; its tree is in ``base``."""
    after = image._replace(
        state=State.UNPACKED,
        pool_device=base.device_path,
        base_ulid=base.ulid,
        keep_archive=True,
        updated_at=utc_now(),
    )
    with host.store.transaction():
        host.store.put(base._replace(state=VolumeState.LIVE))
        host.store.put(record)
        host.store.put(after)
        host.store.drop(operation)
    return after
