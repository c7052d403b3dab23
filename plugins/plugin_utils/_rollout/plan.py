# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout: who is ready, who has the generation already, and who has no room for it.

Invariant: what is compared is what the first host took, and what the other hosts said they have; nothing is estimated where the first host
has measured. A host whose pool is not there yet has only its archive compared: its pool is made when the image is staged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import words

METADATA_BYTES_PER_BLOCK = 48
# What a tree takes beyond its content, when the first host had it already and so measured nothing.
BYTES_PER_ENTRY = 4096


class Need(NamedTuple):
    """What a host needs that has nothing of the generation: bytes of the archive, of the pool's data and of its metadata."""

    archive_bytes: int = 0
    data_bytes: int = 0
    metadata_bytes: int = 0
    is_measured: bool = False


class Shortage(NamedTuple):
    """What is missing on a host, and where."""

    where: str
    missing_bytes: int

    @property
    def text(self) -> str:
        return f"{words.size(self.missing_bytes)} short in {self.where}"


def need_of(before: Any, after: Any, fetched: Mapping[str, Any], unpacked: Mapping[str, Any], pool: str) -> Need:
    """What the first host took: its pool's use before and after, or a bound by its tree when it had the base before."""
    archive = int(fetched.get("size") or 0)
    if unpacked.get("changed") and not fetched.get("revived"):
        data, metadata = (_used(after, pool, area) - _used(before, pool, area) for area in ("data", "metadata"))
        if data > 0:
            return Need(archive, data, max(0, metadata), is_measured=True)
    entries, content = int(unpacked.get("entries") or 0), int(unpacked.get("bytes") or 0)
    data = content + entries * BYTES_PER_ENTRY
    block = int(_pool(after or before, pool).get("block_size") or 65536)
    return Need(archive, data, -(-data // block) * METADATA_BYTES_PER_BLOCK)


def shortages(seen: Mapping[str, Any], need: Need, pool_name: str, digest: str) -> list[Shortage]:
    """Where a host has no room for what it has not got yet."""
    has_archive = digest in (seen.get("host") or {}).get("archives", ())
    mine = [one for one in seen.get("generations") or () if one.get("sha256") == digest]
    if any(one.get("has_base") for one in mine):
        return []
    archive = 0 if has_archive else need.archive_bytes
    pool, state = _pool(seen, pool_name), (seen.get("host") or {}).get("state_dir") or {}
    rooms = [("the file system of state_dir", state.get("free"), archive)]
    if pool.get("active"):
        below = pool.get("free_below")
        if below is not None and str((pool.get("data") or {}).get("path")).startswith(str(state.get("path"))):
            rooms = [("the file system of state_dir, which holds the pool, too", below, archive + need.data_bytes)]
        elif below is not None:
            rooms.append((f"the file system below the pool {pool_name}", below, need.data_bytes))
        rooms.append((f"the pool {pool_name}", _room(pool), need.data_bytes))
        rooms.append((f"the metadata of the pool {pool_name}", (pool["metadata"]).get("free"), need.metadata_bytes))
    return [Shortage(where, wanted - int(free)) for where, free, wanted in rooms if free is not None and wanted > free]


def _room(pool: Mapping[str, Any]) -> int | None:
    """The free data of a pool, with what it can grow by."""
    data = pool.get("data") or {}
    if data.get("free") is None:
        return None
    return int(data["free"]) + max(0, int(pool.get("can_grow_to") or 0) - int(data.get("size") or 0))


def _pool(seen: Any, name: str) -> Mapping[str, Any]:
    found = [one for one in (seen or {}).get("pools") or () if one.get("name") == name]
    return found[0] if found else {}


def _used(seen: Any, pool: str, area: str) -> int:
    return int((_pool(seen, pool).get(area) or {}).get("used") or 0)
