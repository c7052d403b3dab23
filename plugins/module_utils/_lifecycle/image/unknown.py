# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Warn of a removal whose name the store does not know, with the nearest known names.

Invariant: removing what does not exist is neither an error nor a change, but a misspelt name must not look like success.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._names import printable
from ..run import Run
from ..store.records import Image, PoolRecord, RetiredImage, Snapshot

_MOST_SHOWN = 3
_LEAST_ALIKE = 0.4


def unknown_key(host: Run, key: str) -> list[str]:
    """A warning when no image of that key is known; else none."""
    known = {image.object_key for image in (*host.store.all(Image), *host.store.all(RetiredImage))}
    if key in known or host.store.downloads(key):
        return []
    return [_warning("image", key, known, f"in {host.settings.state_dir}")]


def unknown_generation(host: Run, key: str, sha256: str) -> list[str]:
    """A warning when the key is not known, or ``sha256`` is given and is that of none of its generations; else none."""
    known = {image.sha256 for image in host.store.generations(key)}
    if not known or sha256 in ("", *known):
        return unknown_key(host, key)
    return [_warning("generation", sha256, known, f"of {key}")]


def unknown_snapshot(host: Run, key: str, name: str, sha256: str = "") -> list[str]:
    """A warning when the key or the generation is not known, or has snapshots and none of that name; else none."""
    ids = [image.id for image in host.store.generations(key) if sha256 in ("", image.sha256)]
    known = {snapshot.name for image_id in ids for snapshot in host.store.all(Snapshot, "image_id=?", image_id)}
    if not known or name in known:
        return unknown_generation(host, key, sha256)
    return [_warning("snapshot", name, known, f"of {key}")]


def unknown_pool(host: Run, name: str) -> list[str]:
    """A warning that no pool of that name is known."""
    return [_warning("pool", name, {pool.name for pool in host.store.all(PoolRecord)}, f"in {host.settings.state_dir}")]


def _warning(what: str, name: str, known: Iterable[str], where: str) -> str:
    from difflib import get_close_matches  # late: only for a name that is not known

    names = sorted(known)
    nearest = get_close_matches(name, names, _MOST_SHOWN, _LEAST_ALIKE) or names[:_MOST_SHOWN]
    there = f"the nearest of {len(names)}: {', '.join(map(printable, nearest))}" if names else "there is none at all"
    return f"there is no {what} {printable(name)} {where}, so nothing is removed; {there}"
