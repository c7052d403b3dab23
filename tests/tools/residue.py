# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices, loops, mounts and files on a machine that its database does not explain, for tools/invariants.py."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from machine_state import Host, backing_files, files_below, pool_uuid, repair_copies, volume_uuid

# A run that is killed while it saves the counters leaves a .new, which the next one replaces.
_FILES = {"flyd.db", "log/flyd.jsonl", "log/counters.json", "log/counters.json.new"}
_ROTATED = re.compile(r"log/flyd-\d{6}\.jsonl")
_DUMP = re.compile(r"metadata-\d{6}\.xml\.gz")


def expected(host: Host) -> Iterator[str]:
    """Devices, loops, mounts and files are those that the store explains."""
    yield from differing("devices", {device.uuid for device in host.devices()}, expected_devices(host))
    ours = [path for path in backing_files() if path.startswith(f"{host.state_dir}/")]
    loops = set(ours)
    for path in sorted(loops):
        if ours.count(path) > 1:
            yield f"{ours.count(path)} loop devices over {path}"
    pools = [pool for pool in host.active_pools() if pool["is_loop"]]
    wanted = {pool[part] for pool in pools for part in ("data", "metadata")}
    yield from differing("loop devices", loops, {path for path in wanted if path.startswith(f"{host.state_dir}/")})
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    # The state directory may be a file system of its own.
    yield from differing("mounts", {path for path in mounts if path.startswith(f"{host.state_dir}/")}, set())
    yield from differing("files", files_below(host.state_dir), expected_files(host))


def expected_devices(host: Host) -> set[str]:
    """The active pools, and the volumes of their snapshots."""
    volumes = host.rows("SELECT * FROM volumes WHERE ulid IN (SELECT ulid FROM snapshots)")
    pools = host.active_pools()
    active = {pool["id"] for pool in pools}
    return {pool_uuid(pool) for pool in pools} | {volume_uuid(one) for one in volumes if one["pool_id"] in active}


def expected_files(host: Host) -> set[str]:
    """The store, the log, the archives and families that a row names, the pools, and parts that an open download owns."""
    rows = host.rows("SELECT sha256, base_ulid FROM images UNION SELECT sha256, base_ulid FROM retired_images")
    there = files_below(host.state_dir)
    names = {row["sha256"] for row in rows}
    wanted = {name for name in there if name in _FILES or _ROTATED.fullmatch(name)}
    # An archive may be gone once its base is sealed, and a family lies in several files: what is there must be named.
    wanted |= {path for path in there if path.startswith("archives/") and explains(host, names, path)}
    # One that is missing is no fault: no base is made of that one then.
    wanted |= {f"manifests/{row['ulid']}" for row in host.rows("SELECT ulid FROM volumes WHERE kind!='snap'")} & there
    for pool in host.rows("SELECT * FROM pools"):
        dumps = f"backup/{pool['name']}/"
        wanted |= {path for path in there if path.startswith(dumps) and _DUMP.fullmatch(path[len(dumps) :])}
        paths = repair_copies(host, pool) | ({pool["data"], pool["metadata"]} if pool["is_loop"] else set())
        wanted |= {os.path.relpath(path, host.state_dir) for path in paths}
        # The copy of the database, and what a killed run has left of one: the next copy replaces it. To a device it goes by way of a file.
        copies = {
            f"{copy}{end}" for copy in (f"pools/{pool['id']}/flyd.db", f"flyd.db.{pool['id']}") for end in ("", ".part")
        }
        wanted |= copies & there
    downloads = {row["ulid"] for row in host.rows("SELECT ulid FROM operations WHERE kind='fetch'")}
    wanted |= {path for path in there if path.startswith("spool/") and Path(path).name.split(".")[0] in downloads}
    return {path for path in wanted if not path.startswith("..")}


def explains(host: Host, names: set[str], path: str) -> bool:
    """Whether a row names the archive at ``path``: itself, or the family's list that lies beside it."""
    name = Path(path).name
    if name.split(".")[0] in names:
        return True
    lists = [host.state_dir / "archives" / f"{one}.family" for one in names]
    return any(name in file.read_text() for file in lists if file.exists())


def differing(what: str, found: set[str], wanted: set[str]) -> Iterator[str]:
    """A sentence for what is there and should not be, and one for what is missing."""
    if found - wanted:
        yield f"{what} that nothing explains: {', '.join(sorted(found - wanted))}"
    if wanted - found:
        yield f"{what} that are missing: {', '.join(sorted(wanted - found))}"
