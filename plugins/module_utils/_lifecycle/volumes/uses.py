# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a snapshot was last in use: the kernel says whether its device is open now, the store keeps when that was last seen.

Invariant: ``used_at`` is a lower bound. A use is seen when an instance flips, is rolled back or removed, and once a day by flyd-backup.service.
"""

from __future__ import annotations

from ..._thin.dm.in_use import open_counts
from ..run import Run
from ..store.records import Snapshot, Volume
from ..store.store import utc_now


def open_snapshots(host: Run) -> set[str]:
    """The ULIDs of the snapshots whose devices are open: mounted, held by a process, or below another device."""
    volumes = host.store.all(Volume, "ulid IN (SELECT ulid FROM snapshots)")
    names = {device.uuid: device.name for device in host.dm.devices()}
    found = {volume.ulid: names[volume.uuid] for volume in volumes if volume.uuid in names}
    counts = open_counts(host.dm, list(found.values())) if found else {}
    return {ulid for ulid, name in found.items() if counts.get(name, 0)}


def mark_used(host: Run, *ulids: str) -> None:
    """Record that the snapshots among ``ulids`` are in use now; in a transaction of the caller."""
    for ulid in ulids:
        snapshot = host.store.find(Snapshot, "ulid=?", ulid)
        if snapshot is not None:
            host.store.put(snapshot._replace(used_at=utc_now()))


def record_uses(host: Run) -> None:
    """Record the use of each snapshot that is open."""
    used = open_snapshots(host)
    if used:
        with host.store.transaction():
            mark_used(host, *used)
