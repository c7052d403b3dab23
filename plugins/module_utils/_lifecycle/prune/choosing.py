# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generations stay, each with its reason, and in which order the others are removed.

Invariant: only reads. The current generation of a key is never removed, nor one that an instance points at, waits to confirm, or would roll back
to. This is checked again under the key's lock before a generation is removed (``stays``).
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator
from typing import NamedTuple

from ..image.placement import pool_of
from ..image.remove_volumes import snapshots_of
from ..outcome import Facts
from ..run import Run
from ..store.instance_record import Instance
from ..store.records import Image, PoolRecord, RetiredImage
from ..store.store import utc_now
from .options import PruneOptions


class Reason(str, enum.Enum):
    """Why a generation is still there; the values are part of the interface."""

    CURRENT = "current"
    INSTANCE = "instance"
    NEWEST = "newest"
    RECENT = "recent"
    ENOUGH_FREE = "enough_free"
    NOT_IN_POOL = "not_in_pool"
    ARCHIVE = "archive"
    IN_USE = "in_use"
    FOREIGN_DEVICE = "foreign_device"


class Verdict(NamedTuple):
    """A generation that is still there, why, and the same as a sentence."""

    image: Image
    reason: Reason
    text: str

    def record(self) -> Facts:
        """For a result."""
        return {
            "key": self.image.object_key,
            "sha256": self.image.sha256,
            "reason": self.reason.value,
            "text": f"{self.image.object_key}, sha256:{self.image.sha256[:12]}: {self.text}",
        }


class Candidate(NamedTuple):
    """A generation that may go, and the pool that it takes room in."""

    image: Image
    pool: PoolRecord | None


class Choice(NamedTuple):
    """What may go, in this order, what stays, and the pools that they take room in."""

    candidates: list[Candidate]
    kept: list[Verdict]
    pools: list[PoolRecord]


def choose(host: Run, options: PruneOptions) -> Choice:
    """What may go: generations that were never confirmed first, then the longest retired."""
    candidates: list[Candidate] = []
    kept: list[Verdict] = []
    pools: dict[str, PoolRecord] = {}
    for key in [options.key] if options.key else _keys(host):
        for image, verdict in _of_key(host, key, options):
            pool = pool_of(host, image)
            if host.settings.names_pool and (pool is None or pool.name != host.settings.pool.value):
                continue
            if pool is not None:
                pools[pool.id] = pool
            if verdict is not None:
                kept.append(verdict)
            else:
                candidates.append(Candidate(image, pool))
    candidates.sort(key=lambda one: (bool(one.image.confirmed_at), one.image.updated_at))
    return Choice(candidates, kept, list(pools.values()))


def stays(host: Run, image: Image, options: PruneOptions) -> Verdict | None:
    """Why ``image`` stays, by what the store has now; None when it may go or is gone."""
    found = {one.id: verdict for one, verdict in _of_key(host, image.object_key, options)}
    return found.get(image.id)


def _keys(host: Run) -> list[str]:
    return sorted({image.object_key for image in (*host.store.all(Image), *host.store.all(RetiredImage))})


def _of_key(host: Run, key: str, options: PruneOptions) -> Iterator[tuple[Image, Verdict | None]]:
    """Each generation of a key, the oldest first, and why it stays; None for one that may go."""
    generations = host.store.generations(key)
    named = _named(host)
    newest = {one.id for one in _counted(host, generations, named)[: options.keep]}
    for image in sorted(generations, key=lambda one: not isinstance(one, RetiredImage)):
        yield image, _verdict(host, image, options, named.get(image.id, []), is_newest=image.id in newest)


def _verdict(
    host: Run, image: Image, options: PruneOptions, instances: list[str], *, is_newest: bool
) -> Verdict | None:
    if not isinstance(image, RetiredImage):
        return Verdict(image, Reason.CURRENT, "it is the current generation of its key")
    if instances:
        names = ", ".join(instances)
        return Verdict(image, Reason.INSTANCE, f"named by {names}, as current, as target or as previous")
    if is_newest:
        return Verdict(image, Reason.NEWEST, f"it is among the newest generations that stay (keep: {options.keep})")
    if _is_recent(image, options.older_than_seconds):
        return Verdict(image, Reason.RECENT, f"its record changed less than older_than ago, at {image.updated_at}")
    if not options.archives and not image.base_ulid and not snapshots_of(host, [image]):
        return Verdict(image, Reason.ARCHIVE, "only its archive is here, and archives stay (archives: false)")
    return None


def _named(host: Run) -> dict[str, list[str]]:
    """By the id of a generation, the instances that point at it or would go back to it."""
    found: dict[str, list[str]] = {}
    for one in host.store.all(Instance):
        for image_id in dict.fromkeys((one.current_id, one.target_id, one.previous_id)):
            found.setdefault(image_id, []).append(f"the instance '{one.name}'")
    return found


def _counted(host: Run, generations: list[Image], named: dict[str, list[str]]) -> list[Image]:
    """Those that ``keep`` counts, the newest first: retired ones that no instance names, and of a key in use by instances, confirmed ones."""
    left = {one.left_id for one in host.store.all(Instance)}
    is_used = any(one.confirmed_at or one.id in named or one.id in left for one in generations)
    retired = [one for one in generations if isinstance(one, RetiredImage) and one.id not in named]
    return [one for one in reversed(retired) if one.confirmed_at or not is_used]


def _is_recent(image: Image, older_than_seconds: int | None) -> bool:
    """Whether it changed since; also one whose time cannot be read, or lies in the future."""
    if older_than_seconds is None:
        return False
    try:
        age = _time(utc_now()) - _time(image.updated_at)
    except ValueError:
        return True
    return age.total_seconds() < older_than_seconds


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
