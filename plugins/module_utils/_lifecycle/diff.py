# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a diff shows: an image with its archives, its devices and its pool; a pool with its devices and sizes.

Invariant: the prediction of a dry run has the same shape as what the real run reads back, and differs from it only in new names
(``NEW_ULID``) and in values that only the bytes themselves determine (``UNKNOWN``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Callable

from .._thin.dm.device import SECTOR_BYTES
from .growth.policy import Policy
from .outcome import Facts
from .run import Run
from .store.records import Image, PoolRecord, RetiredImage, Snapshot, State, Volume

NEW_ULID = "<new ULID>"
UNKNOWN = "<known after the download>"


def assumed_generation(key: str, sha256: str = UNKNOWN) -> Image:
    """A generation that only a simulated download has made: fetched, and nothing else is known of it."""
    return Image(NEW_ULID, key, sha256=sha256, state=State.FETCHED, etag=UNKNOWN, trust=UNKNOWN)


def known_id(image: Image) -> str | None:
    """The id of a generation that exists."""
    return None if image.id in ("", NEW_ULID) else image.id


def image_facts(image: Image) -> Facts:
    """What every module of the image returns; None for what is not known before the image is fetched or unpacked."""
    config = json.loads(image.config)
    return {
        "image_id": known_id(image),
        "sha256": _known(image.sha256),
        "trust": _known(image.trust),
        "vouched_by": image.vouched_by or None,
        "platform": platform_of(config),
        "config": config or None,
    }


def platform_of(config: Facts) -> str | None:
    """The platform of an image with this configuration, such as linux/arm/v7; None when it names none."""
    return "/".join(config[part] for part in ("os", "architecture", "variant") if config.get(part)) or None


def _known(value: str) -> str | None:
    return None if value in ("", UNKNOWN) else value


def image_view(host: Run, image: Image) -> Facts:
    """A generation of a key, mostly the current one, as the store and the kernel have it, and the others that were retired by their ids."""
    paths = [host.archive_path(digest) for digest in image.digests]
    retired: list[Image] = [*host.store.all(RetiredImage, "object_key=? AND id<>?", image.object_key, image.id)]
    is_assumed = image.id == NEW_ULID
    if is_assumed:
        retired += host.store.all(Image, "object_key=?", image.object_key)
    return {
        "key": image.object_key,
        "image_id": image.id or None,
        **_generation(host, image),
        "archives": [path for path in paths if is_assumed or os.path.exists(path)],
        "etag": image.etag or None,
        "trust": image.trust or None,
        "retired": {old.id: _generation(host, old) for old in retired},
    }


def _generation(host: Run, image: Image) -> Facts:
    base = host.store.find(Volume, "ulid=?", image.base_ulid)
    pool = None if base is None else host.store.find(PoolRecord, "id=?", base.pool_id)
    return {
        "state": image.state.value,
        "sha256": image.sha256 or None,
        "pool": pool and pool.device_path,
        "base_device": image.pool_device or None,
        "snapshots": {one.name: _snapshot(host, one) for one in host.store.all(Snapshot, "image_id=?", image.id)},
    }


def _snapshot(host: Run, snapshot: Snapshot) -> Facts:
    volume = host.store.find(Volume, "ulid=?", snapshot.ulid)
    device = None if volume is None else host.dm.find(volume.uuid)
    return {"device": snapshot.device, "mapped": device is not None, "read_only": snapshot.read_only}


def drive_of(snapshot: Snapshot) -> Facts:
    """A drive object as Firecracker's API takes it."""
    return {
        "drive_id": "rootfs",
        "path_on_host": snapshot.device,
        "is_root_device": True,
        "is_read_only": snapshot.read_only,
    }


def is_mapped(host: Run, ulid: str) -> bool:
    """Whether the device of a volume is there."""
    volume = host.store.find(Volume, "ulid=?", ulid)
    return volume is not None and host.dm.find(volume.uuid) is not None


def fetched(before: Facts, archives: list[str], *, sha256: str, etag: str, trust: str) -> Facts:
    """What a download changes of ``before``: the same generation with its archives, or a new one before which the old one is retired."""
    arrived: Facts = {"archives": archives, "sha256": sha256, "etag": etag, "trust": trust}
    if before["sha256"] == sha256:
        return {**arrived, "state": max(State(before["state"]), State.FETCHED, key=lambda one: one.rank).value}
    old = {name: before[name] for name in ("state", "sha256", *_NO_BASE)}
    retired = {**before["retired"], before["image_id"]: old} if before["image_id"] else before["retired"]
    return {**arrived, **_NO_BASE, "image_id": NEW_ULID, "state": State.FETCHED.value, "retired": retired}


def revived(host: Run, before: Facts, image: Image, archives: list[str], *, etag: str, trust: str) -> Facts:
    """What it changes of ``before`` when the generation ``image``, which is retired, becomes the current one with all that it has."""
    here = {"archives": archives, "etag": etag or None, "trust": trust}
    if before["image_id"] == image.id:
        return here
    seen = _generation(host, image)
    retired = {old: one for old, one in before["retired"].items() if old != image.id}
    if before["image_id"]:
        retired[before["image_id"]] = {name: before[name] for name in seen}
    state = max(image.state, State.FETCHED, key=lambda one: one.rank).value
    return {**here, **seen, "image_id": image.id, "state": state, "retired": retired}


def unpacked(pool_name: str) -> Facts:
    """What an unpacking changes."""
    base = f"/dev/mapper/base-{NEW_ULID}"
    return {"state": State.UNPACKED.value, "pool": f"/dev/mapper/{pool_name}", "base_device": base}


def activated(before: Facts, name: str, *, device: str | None, read_only: bool) -> Facts:
    """What a snapshot, or mapping it again, changes of ``before``; ``device`` is known when it is recorded."""
    snapshot = {"device": device or f"/dev/mapper/snap-{NEW_ULID}", "mapped": True, "read_only": read_only}
    return {"state": State.ACTIVATED.value, "snapshots": {**before["snapshots"], name: snapshot}}


def without_snapshot(before: Facts, name: str, of: Collection[str]) -> Facts:
    """What the removal of the snapshots of one name changes, of the generations with the ids ``of``."""
    return _each(before, of, lambda seen, _is_current: _without_snapshot(seen, name))


def _each(before: Facts, of: Collection[str], change: Callable[[Facts, bool], Facts]) -> Facts:
    """What changes when ``change`` says what does of each of these generations; it is asked for the current one with true."""
    retired = {old: {**seen, **change(seen, False)} if old in of else seen for old, seen in before["retired"].items()}
    return {**(change(before, True) if before["image_id"] in of else {}), "retired": retired}


def _without_snapshot(seen: Facts, name: str) -> Facts:
    left = {other: snapshot for other, snapshot in seen["snapshots"].items() if other != name}
    return {"snapshots": left, "state": seen["state"] if left else _at_most(seen["state"], State.UNPACKED)}


def without_base(before: Facts, of: Collection[str]) -> Facts:
    """What the removal of the bases with their snapshots changes, of the generations with the ids ``of``."""
    left = State.FETCHED if before["archives"] else State.NEW  # what was not kept is to be fetched again
    return _each(before, of, lambda seen, is_current: _without_base(seen, left if is_current else State.FETCHED))


def _without_base(seen: Facts, highest: State) -> Facts:
    return {**_NO_BASE, "state": _at_most(seen["state"], highest)}


def forgotten(before: Facts, gone: Collection[str]) -> Facts:
    """What forgetting the generations with the ids ``gone`` changes. No other one becomes current."""
    retired = {old: seen for old, seen in before["retired"].items() if old not in gone}
    if before["image_id"] not in gone:
        return {"retired": retired}
    nothing = dict.fromkeys(("image_id", "sha256", "etag", "trust"))
    return {**nothing, **_NO_BASE, "archives": [], "state": State.NEW.value, "retired": retired}


def pool_view(pool: PoolRecord, *, active: bool) -> Facts:
    """A pool; sizes in bytes."""
    return {
        "name": pool.name,
        "active": active,
        "device": pool.device_path,
        "data": {"path": pool.data, "size": pool.data_sectors * SECTOR_BYTES},
        "metadata": {"path": pool.metadata, "size": pool.metadata_bytes},
        "block_size": pool.block_sectors * SECTOR_BYTES,
        "low_water_mark": pool.low_water_blocks,
        "error_if_no_space": pool.error_if_no_space,
        "min_free_percent": pool.min_free_percent,
        **Policy.recorded(pool.policy).facts(),
    }


def no_pool(name: str) -> Facts:
    """A pool that does not exist."""
    return {"name": name, "active": False}


_NO_BASE: Facts = {"pool": None, "base_device": None, "snapshots": {}}


def _at_most(state: str, highest: State) -> str:
    return min(State(state), highest, key=lambda one: one.rank).value
