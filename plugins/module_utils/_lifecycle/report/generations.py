# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations of all images as flyd_info reports them, in full and in short. Only reads."""

from __future__ import annotations

import json
import os

from ..diff import platform_of
from ..fetch.fetched import objects_of
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, RetiredImage, Snapshot


def generations_of(host: Run) -> list[Image]:
    """All generations, those of a key together: the current one first, then the retired ones, the newest first."""
    found = [*host.store.all(Image), *reversed(host.store.all(RetiredImage))]
    order = {key: number for number, key in enumerate(dict.fromkeys(image.object_key for image in found))}
    return sorted(found, key=lambda image: order[image.object_key])


def in_full(host: Run, image: Image) -> Facts:
    """A generation as it is recorded, with its files and snapshots."""
    facts: Facts = image._asdict()
    del facts["voucher_id"]  # a hash of what may hold a secret
    config, base_device = json.loads(image.config), facts.pop("pool_device")
    for column in ("id", "object_key", "size_bytes", "members"):
        del facts[column]
    return {
        "image_id": image.id,
        "key": image.object_key,
        "current": not isinstance(image, RetiredImage),
        "size": image.size_bytes,
        **facts,
        "archives": [path for path in map(host.archive_path, image.digests) if os.path.exists(path)],
        "snapshots": [
            {"name": one.name, "device": one.device} for one in host.store.all(Snapshot, "image_id=?", image.id)
        ],
        "base_device": base_device or None,
        "snap_device": image.snap_device or None,
        "state": image.state.value,
        "platform": platform_of(config),
        "config": config or None,
        "summary": json.loads(image.summary),
        "objects": objects_of(image),
        "made_with": json.loads(image.made_with),
    }


def in_short(image: Image) -> Facts:
    """A generation in a line: what a rollout asks a thousand hosts for."""
    return {
        "key": image.object_key,
        "sha256": image.sha256,
        "current": not isinstance(image, RetiredImage),
        "state": image.state.value,
        "has_base": bool(image.base_ulid),
        "confirmed_at": image.confirmed_at,
    }
