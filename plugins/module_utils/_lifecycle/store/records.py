# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the store as named tuples: one class per table, one field per column, in the order of the schema.

Invariant: a record is a row as it was committed; changing one means writing a new one through the store.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")

DEFAULT_NAME = "default"  # of a snapshot


class State(str, enum.Enum):
    """How far an image has come. ``rank`` orders the states along the arrows."""

    NEW = "new"
    FETCHED = "fetched"
    UNPACKED = "unpacked"
    ACTIVATED = "activated"

    @property
    def rank(self) -> int:
        """0 for ``new`` up to 3 for ``activated``."""
        return list(State).index(self)


class VolumeState(str, enum.Enum):
    """The states of a thin id: planned before the pool creates it, deleting before the pool deletes it."""

    PLANNED = "planned"
    CREATED = "created"
    LIVE = "live"
    DELETING = "deleting"


class OperationKind(str, enum.Enum):
    """What an open intent was about to do."""

    POOL = "pool"
    GROW = "grow"
    REPAIR = "repair"
    CHECK = "check"
    FETCH = "fetch"
    UNPACK = "unpack"
    SNAPSHOT = "snapshot"
    REMOVE = "remove"
    TEARDOWN = "teardown"
    BIND = "bind"


class Image(NamedTuple):
    """The current generation of an object key.

    ``pool_device`` is the base volume. ``snap_device`` is the snapshot named ``default``, or the newest when there is none of that name.
    """

    id: str
    object_key: str
    sha256: str = ""
    state: State = State.NEW
    pool_device: str = ""
    snap_device: str = ""
    created_at: str = ""
    updated_at: str = ""
    bucket: str = ""
    size_bytes: int = 0
    etag: str = ""
    version_id: str = ""
    trust: str = ""
    base_ulid: str = ""
    config: str = "{}"
    summary: str = "{}"
    members: str = "[]"  # the objects of a family as JSON, lowest layer first
    keep_archive: bool = True
    vouched_by: str = ""  # for people: a digest, a checksum file without secrets
    voucher_id: str = ""  # a hash of the checksum file's whole name
    vouched_digest: str = (
        ""  # what was vouched for, ``sha512:…`` when a checksum file says so; empty for a family's objects
    )
    made_with: str = "{}"  # the options that the base was made with, as JSON; see made_with.py
    confirmed_at: str = ""  # when an instance was first confirmed with this generation; empty: never

    @property
    def digests(self) -> tuple[str, ...]:
        """The files in state_dir/archives that the image is made of: its archive, or its layers, lowest first."""
        return tuple(member["sha256"] for member in json.loads(self.members)) or ((self.sha256,) if self.sha256 else ())


class RetiredImage(Image):
    """An earlier generation of a key, whose base and snapshots are still there."""

    __slots__ = ()


class Archive(NamedTuple):
    """A file in state_dir/archives as it looked when its bytes had the digest; times in nanoseconds."""

    sha256: str
    size_bytes: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0


class Snapshot(NamedTuple):
    """One named activation of an image. ``uid``, ``gid`` and ``mode`` of its node, each -1 for as it is."""

    ulid: str
    image_id: str
    name: str
    device: str
    read_only: bool
    created_at: str = ""
    uid: int = -1
    gid: int = -1
    mode: int = -1
    used_at: str = ""  # when it was last seen in use; empty: never


def shown_device(snapshots: Sequence[Snapshot]) -> str:
    """The device in ``images.snap_device`` for an image with ``snapshots``, oldest first: the default one's, else the newest's."""
    default = [snapshot.device for snapshot in snapshots if snapshot.name == DEFAULT_NAME]
    return (default or [snapshot.device for snapshot in snapshots] or [""])[-1]


class Volume(NamedTuple):
    """A thin id of a pool. ``ulid`` names its device, ``base-<ulid>`` or ``snap-<ulid>``."""

    ulid: str
    pool_id: str
    thin_id: int
    kind: str
    sectors: int
    state: VolumeState

    @property
    def device_name(self) -> str:
        """The device-mapper name while it is mapped."""
        return f"{self.kind}-{self.ulid}"

    @property
    def device_path(self) -> str:
        """The device's path while it is mapped."""
        return f"/dev/mapper/{self.device_name}"

    @property
    def uuid(self) -> str:
        """The device-mapper UUID that proves that the device is ours."""
        return f"FLYD-{self.pool_id}-{self.ulid}"


class PoolRecord(NamedTuple):
    """A thin pool that we made. ``transaction_id`` is what its metadata must say: it ties pool and store together.

    ``data_identity`` ties a data device to it, which has no mark of its own; empty for a file, or a device that tells none.
    """

    id: str
    name: str
    data: str
    metadata: str
    is_loop: bool
    data_sectors: int
    metadata_bytes: int
    block_sectors: int
    low_water_blocks: int
    error_if_no_space: bool
    min_free_percent: int
    transaction_id: int
    formatted: bool
    data_identity: str = ""
    policy: str = "{}"  # how it grows automatically, as JSON; see growth/policy.py
    grown_from_sectors: int = 0  # what flyd_pool last made of it, where it has grown automatically since; else 0
    grown_from_metadata_bytes: int = 0

    @property
    def device_path(self) -> str:
        """The path of the pool's device while it is active."""
        return f"/dev/mapper/{self.name}"

    @property
    def has_reserved_start(self) -> bool:
        """Whether no volume gets the start of the data: where udev's rule does not know the loop over it by its file."""
        return not (self.is_loop and self.data.endswith(f"/pools/{self.id}/data"))

    @property
    def uuid(self) -> str:
        """The device-mapper UUID of the pool's device."""
        return f"FLYD-{self.id}-pool"


class Operation(NamedTuple):
    """An open intent: what a process (boot id, pid, start time) is about to make, written down before it is made."""

    ulid: str
    kind: OperationKind
    subject: str
    volume_ulid: str
    boot_id: str
    pid: int
    started: int
    begun_at: str = ""


_ENUMS: dict[tuple[str, str], type[enum.Enum]] = {
    ("Image", "state"): State,
    ("RetiredImage", "state"): State,
    ("Volume", "state"): VolumeState,
    ("Operation", "kind"): OperationKind,
}


def columns(record: type[Any]) -> tuple[str, ...]:
    """The names of the columns of ``record``'s table, in order."""
    names: tuple[str, ...] = record._fields
    return names


def from_row(record: type[R], row: tuple[Any, ...] | None) -> R | None:
    """The record that ``row`` (its columns in order) holds; None for None."""
    if row is None:
        return None
    values = dict(zip(columns(record), row))
    for name, value in values.items():
        kind = _ENUMS.get((record.__name__, name))
        if kind is not None:
            values[name] = kind(value)
    return record(**{name: bool(value) if name in _FLAGS else value for name, value in values.items()})


_FLAGS = frozenset(("keep_archive", "read_only", "is_loop", "error_if_no_space", "formatted"))


def to_row(record: Any) -> tuple[Any, ...]:
    """The values of ``record`` in the order of its columns, as SQLite takes them."""
    values = (getattr(record, name) for name in columns(type(record)))
    return tuple(
        value.value if isinstance(value, enum.Enum) else int(value) if isinstance(value, bool) else value
        for value in values
    )
