# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flyd_info reports of the host itself: what runs on it, in which versions, and how much room there is.

Invariant: only reads, and nothing is asked that could hang: no pool, no server.
"""

from __future__ import annotations

import os
import re
from typing import Any

from ..._host import host_program
from ..._host.files.durable import DISK_RESERVE_BYTES
from ..._host.processes.process import boot_id
from ..._image.platforms import Platform
from ..outcome import Facts
from ..run import Run
from ..store.records import PoolRecord
from ..store.schema import VERSION
from ..version import COLLECTION_VERSION

_SHA256 = re.compile(r"[0-9a-f]{64}")


def host_facts(host: Run) -> Facts:
    """The host as a rollout plans with it."""
    return {
        "boot_id": boot_id(),
        "kernel": os.uname().release,
        "platform": str(Platform.of_this_machine()),
        "collection_version": COLLECTION_VERSION,
        "schema": VERSION,
        "boot_program_schema": host_program.schema_of_installed(root=host.dm.root),
        "state_dir": {"path": host.settings.path(), **(room_of(host.settings.path()) or {"size": None, "free": None})},
        "archives": _archives(host),
    }


def room_of(path: str) -> dict[str, Any] | None:
    """Size and free bytes of the file system that holds ``path`` or its nearest parent, without what stays free for the database."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return {
        "size": found.f_blocks * found.f_frsize,
        "free": max(0, found.f_bavail * found.f_frsize - DISK_RESERVE_BYTES),
    }


def room_below(pool: PoolRecord) -> int | None:
    """Free bytes of the file system below a pool in files, which are sparse: the pool can give out no more. None for devices."""
    room = room_of(pool.data) if pool.is_loop else None
    return None if room is None else int(room["free"])


def _archives(host: Run) -> list[str]:
    """The digests of the archives that are on the host."""
    path = host.settings.path("archives")
    names = os.listdir(path) if os.path.isdir(path) else []
    return sorted(name for name in names if _SHA256.fullmatch(name))
