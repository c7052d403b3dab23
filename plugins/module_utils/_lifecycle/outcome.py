# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run found or did, in the form in which it leaves the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._thin.table import SECTOR_BYTES
from .records import Image, PoolRecord

Facts = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """``before`` and ``after`` are for the diff, ``facts`` the module's own returns: all ready for JSON."""

    before: Facts
    after: Facts
    changed: bool
    facts: Facts
    settled: tuple[str, ...] = ()


def image_view(image: Image) -> Facts:
    """What a diff shows of an image."""
    return {
        "key": image.object_key,
        "state": image.state.value,
        "image_id": image.id or None,
        "sha256": image.sha256 or None,
        "base": image.pool_device or None,
        "snapshot": image.snap_device or None,
    }


def pool_view(pool: PoolRecord, *, active: bool) -> Facts:
    """What a diff shows of a pool; sizes in bytes."""
    return {
        "name": pool.name,
        "active": active,
        "data": pool.data,
        "metadata": pool.metadata,
        "data_bytes": pool.data_sectors * SECTOR_BYTES,
        "metadata_bytes": pool.metadata_bytes,
        "block_bytes": pool.block_sectors * SECTOR_BYTES,
        "low_water_blocks": pool.low_water_blocks,
        "min_free_percent": pool.min_free_percent,
    }
