# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flyd_info reports: the store beside what the kernel really has. Changes nothing."""

from __future__ import annotations

import enum
from typing import Any, Callable, NamedTuple

from ..._errors import FlydError
from ..._names import ObjectKey, printable
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.pool.thin_pool import is_low, status
from ..attempts import repeated_if_transient
from ..diff import is_mapped, pool_view
from ..fetch.progress import progress_path
from ..fetch.progress import read as read_progress
from ..growth.reach import can_grow_to
from ..image.placement import pool_of
from ..instance.link import is_published
from ..instance.options import Settings
from ..instance.views import content_of, instance_facts
from ..outcome import Facts, Outcome
from ..params import ModuleParams
from ..run import Run
from ..store.instance_record import Instance
from ..store.records import Image, Operation, PoolRecord, RetiredImage, Snapshot, Volume
from ..store.store import utc_now
from ..volumes.hidden import hidden_bases
from ..volumes.recover import abandoned
from ..volumes.room import data_room, metadata_room
from ..volumes.uses import open_snapshots
from .drift import drift
from .generations import generations_of, in_full, in_short
from .history import history
from .host_facts import host_facts, room_below
from .shares import UNKNOWN_BASE, UNKNOWN_SNAPSHOT, Shared, shared

UNKNOWN_STATUS = "unknown"  # of a pool that cannot be asked; drift says why


class Subject(str, enum.Enum):
    """What can be asked for."""

    IMAGES = "images"
    GENERATIONS = "generations"
    SNAPSHOTS = "snapshots"
    POOLS = "pools"
    INSTANCES = "instances"
    OPERATIONS = "operations"
    DRIFT = "drift"
    HOST = "host"
    HISTORY = "history"


# The history is read from files of up to 60 MiB: only for who asks. The generations are the images in short.
DEFAULT_SUBJECTS = [one.value for one in Subject if one not in (Subject.HISTORY, Subject.GENERATIONS)]


class Only(NamedTuple):
    """What the report is limited to; empty for all."""

    pool: str = ""
    key: str = ""
    runs: int = 50  # of the history

    @classmethod
    def of(cls, given: ModuleParams) -> Only:
        """From the options of flyd_info."""
        key = given.text("key")
        return cls(given.text("pool"), ObjectKey(key).value if key else "", int(given.number("runs", least=1)))


def inform(host: Run, what: frozenset[Subject], only: Only = Only()) -> Outcome:  # noqa: B008 - a tuple does not change
    """The report on each of ``what``, limited to ``only``.

    What fails for a transient reason is asked again, as a transition is done again.
    """

    def read() -> Facts:
        shares = shared(host, is_of_bases=Subject.IMAGES in what, is_of_snapshots=Subject.SNAPSHOTS in what)
        return {one.value: _REPORTS[one](host, only, shares) for one in Subject if one in what}

    pool, key = only.pool, only.key
    if pool and host.store.pool(pool) is None:
        host.warnings.append(f"there is no pool '{printable(pool)}' on this host")
    if key and not host.store.generations(key) and not host.store.downloads(key):
        host.warnings.append(f"there is no image {printable(key)} on this host")
    facts = repeated_if_transient(host, read, what="report")
    counted = {"attempts": 1 + host.retry.repeated, "waited_seconds": round(host.retry.waited_seconds, 3)}
    return Outcome({}, {}, False, {**facts, **counted})


def _images(host: Run, only: Only, shares: Shared) -> list[Facts]:
    return [
        {**in_full(host, image), **shares.bases.get(image.base_ulid, UNKNOWN_BASE)}
        for image in generations_of(host)
        if _is_meant(host, image, only)
    ]


def _in_short(host: Run, only: Only, _shares: Shared) -> list[Facts]:
    return [in_short(image) for image in generations_of(host) if _is_meant(host, image, only)]


def _is_meant(host: Run, image: Image, only: Only) -> bool:
    return only.key in ("", image.object_key) and (not only.pool or _name(pool_of(host, image)) == only.pool)


def _name(pool: PoolRecord | None) -> str:
    return "" if pool is None else pool.name


def _snapshots(host: Run, only: Only, shares: Shared) -> list[Facts]:
    used, now = open_snapshots(host), utc_now()
    keys = {image.id: image.object_key for image in (*host.store.all(Image), *host.store.all(RetiredImage))}
    return [
        {
            **snapshot._asdict(),
            "uid": _known(snapshot.uid),
            "gid": _known(snapshot.gid),
            "mode": None if snapshot.mode < 0 else f"{snapshot.mode:04o}",
            "key": keys.get(snapshot.image_id),
            "mapped": is_mapped(host, snapshot.ulid),
            "in_use": snapshot.ulid in used,
            "used_at": now if snapshot.ulid in used else snapshot.used_at or None,
            **shares.snapshots.get(snapshot.ulid, UNKNOWN_SNAPSHOT),
        }
        for snapshot in host.store.all(Snapshot)
        if only.key in ("", keys.get(snapshot.image_id)) and (not only.pool or _is_in(host, snapshot, only.pool))
    ]


def _instances(host: Run, only: Only, _shares: Shared) -> list[Facts]:
    """Each with the options that are recorded."""
    found = []
    for instance in host.store.all(Instance):
        image = host.store.generation(instance.shown[0])
        is_meant = only.key in ("", image and image.object_key)
        if is_meant and (not only.pool or (image is not None and _name(pool_of(host, image)) == only.pool)):
            recorded = Settings.from_json(instance.target_settings if instance.target_id else instance.settings)
            left = host.store.generation(instance.left_id) if instance.left_id else None
            facts = {**instance_facts(host, instance), "left": left and left.sha256, "settings": recorded.to_json()}
            facts["updated_at"] = instance.updated_at
            facts["in_place"] = _is_in_place(host, instance)
            del facts["config"], facts["vouched_by"], facts["trust"]
            found.append(facts)
    return found


def _is_in_place(host: Run, instance: Instance) -> bool:
    content = content_of(host, *instance.shown)
    return content is not None and is_mapped(host, content.ulid) and is_published(host.dm.root, instance.name, content)


def _is_in(host: Run, snapshot: Snapshot, pool: str) -> bool:
    volume = host.store.find(Volume, "ulid=?", snapshot.ulid)
    return volume is not None and _name(host.store.find(PoolRecord, "id=?", volume.pool_id)) == pool


def _known(number: int) -> int | None:
    return None if number < 0 else number


def _pools(host: Run, only: Only, _shares: Shared) -> list[Facts]:
    return [_pool(host, one) for one in host.store.all(PoolRecord) if only.pool in ("", one.name)]


def _pool(host: Run, pool: PoolRecord) -> Facts:
    active = host.dm.find(pool.uuid) is not None
    facts = {**pool_view(pool, active=active), "pool_id": pool.id, "transaction_id": pool.transaction_id}
    if active:
        try:
            now = repeated_if_transient(host, lambda: status(host.dm, pool.name), what="status")
        except FlydError:  # what the others are is asked for too; drift reports it as well
            return {**facts, "status": UNKNOWN_STATUS}
        facts["data"]["used"] = now.used_data_blocks * pool.block_sectors * SECTOR_BYTES
        facts["metadata"]["used"] = now.used_metadata_blocks * METADATA_BLOCK_BYTES
        facts["data"]["free"] = data_room(pool, now).free_bytes
        facts["metadata"]["free"] = metadata_room(pool, now).free_bytes
        facts["free_below"] = room_below(pool)
        facts["can_grow_to"] = can_grow_to(host, pool)
        facts["status"] = now.mode.value
        facts["needs_check"] = now.needs_check
        facts["held_metadata"] = now.held_metadata_root is not None
        facts["hidden_bases"] = len(hidden_bases(host, pool))
        facts["is_low"] = is_low(now, pool.min_free_percent, pool.low_water_blocks)
    return facts


def _operations(host: Run, only: Only, _shares: Shared) -> list[Facts]:
    """The open intents; ``abandoned`` ones are settled by the next run of any module."""
    gone = {operation.ulid for operation in abandoned(host)}
    return [
        {
            **operation._asdict(),
            "kind": operation.kind.value,
            "abandoned": operation.ulid in gone,
            "progress": read_progress(progress_path(host.settings, operation)),
        }
        for operation in host.store.all(Operation)
        if only.key in ("", operation.subject)
    ]


def _host(host: Run, _only: Only, _shares: Shared) -> Facts:
    return host_facts(host)


def _history(host: Run, only: Only, _shares: Shared) -> list[Facts]:
    return history(host, only.key, only.pool, only.runs)


def _drift(host: Run, _only: Only, _shares: Shared) -> list[Facts]:
    return [one.record() for one in drift(host)]


_REPORTS: dict[Subject, Callable[[Run, Only, Shared], Any]] = {
    Subject.IMAGES: _images,
    Subject.GENERATIONS: _in_short,
    Subject.SNAPSHOTS: _snapshots,
    Subject.POOLS: _pools,
    Subject.INSTANCES: _instances,
    Subject.OPERATIONS: _operations,
    Subject.DRIFT: _drift,
    Subject.HOST: _host,
    Subject.HISTORY: _history,
}
