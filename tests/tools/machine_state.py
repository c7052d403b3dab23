#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the store of a machine says and what its kernel has, for tools/invariants.py.

It shares no code with the collection, whose work is checked by it. A pool is suspended for as long as its metadata is copied; a volume that
is not mapped is mapped read-only for as long as it is read. Nothing else is changed.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "FLYD-"
_CHECKED = "flyd-invariants"
_REPAIR_COPY = re.compile(r"metadata\.before-repair-[0-9A-HJKMNP-TV-Z]{26}")


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program's end, with its output."""
    return subprocess.run(argv, capture_output=True, text=True, check=check, stdin=subprocess.DEVNULL)


@dataclass(frozen=True)
class Mapped:
    """A device of device-mapper."""

    name: str
    uuid: str


class Host:
    """What the store says and what the kernel has."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._store = sqlite3.connect(f"file:{state_dir}/flyd.db?mode=ro", uri=True)
        self._store.row_factory = sqlite3.Row

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the store."""
        return [dict(row) for row in self._store.execute(sql, values)]

    def devices(self) -> list[Mapped]:
        """The devices that bear our mark."""
        found = []
        for path in Path("/sys/block").glob("dm-*/dm"):
            uuid = (path / "uuid").read_text().strip()
            if uuid.startswith(PREFIX):
                found.append(Mapped((path / "name").read_text().strip(), uuid))
        return found

    def active_pools(self) -> list[dict[str, Any]]:
        """The rows of the pools that are mapped."""
        mapped = {device.uuid for device in self.devices()}
        return [pool for pool in self.rows("SELECT * FROM pools") if pool_uuid(pool) in mapped]


def pool_uuid(pool: dict[str, Any]) -> str:
    """The UUID of a pool's device."""
    return f"{PREFIX}{pool['id']}-pool"


def volume_uuid(volume: dict[str, Any]) -> str:
    """The UUID of a volume's device."""
    return f"{PREFIX}{volume['pool_id']}-{volume['ulid']}"


@contextlib.contextmanager
def copied_metadata(pool: dict[str, Any]) -> Iterator[str]:
    """A copy of the metadata as the kernel has committed it."""
    run("dmsetup", "suspend", pool["name"])
    try:
        content = Path(pool["metadata"]).read_bytes()
    finally:
        run("dmsetup", "resume", pool["name"])
    # The thin tools read with O_DIRECT, which a /tmp in memory cannot do.
    with tempfile.NamedTemporaryFile(prefix="flyd-metadata-", dir="/var/tmp") as file:
        file.write(content)
        file.flush()
        yield file.name


def backing_files() -> list[str]:
    """What the loop devices stand on; a file as often as there are loops over it."""
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return [path.read_text().strip() for path in found]


def files_below(directory: Path) -> set[str]:
    """Every regular file, by its path from ``directory``."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


def repair_copies(host: Host, pool: dict[str, Any]) -> set[str]:
    """What a repair has kept of the pool's metadata: beside the file, or in the state directory for a device."""
    directories = {Path(pool["metadata"]).parent} if pool["is_loop"] else set()
    directories.add(host.state_dir / "pools" / pool["id"])
    found = (path for directory in directories if directory.is_dir() for path in directory.iterdir())
    return {str(path) for path in found if _REPAIR_COPY.fullmatch(path.name)}


def is_alive(boot_id: str, pid: int, started: int) -> bool:
    """Whether that process of that boot runs."""
    if boot_id != Path("/proc/sys/kernel/random/boot_id").read_text().strip():
        return False
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) == started
    return False


def live_volumes(host: Host) -> list[dict[str, Any]]:
    """The volumes that the store says are good, in pools that are active."""
    active = {pool["id"] for pool in host.active_pools()}
    return [one for one in host.rows("SELECT * FROM volumes WHERE state='live'") if one["pool_id"] in active]


@contextlib.contextmanager
def mapped(host: Host, volumes: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """The device of each volume by its ULID: the one that is there, else a read-only one for now."""
    there = {device.uuid: f"/dev/mapper/{device.name}" for device in host.devices()}
    pools = {pool["id"]: pool["name"] for pool in host.active_pools()}
    found, made = {}, []
    try:
        for volume in volumes:
            name = f"{_CHECKED}-{volume['ulid']}"
            found[volume["ulid"]] = there.get(volume_uuid(volume), f"/dev/mapper/{name}")
            if volume_uuid(volume) not in there:
                table = f"0 {volume['sectors']} thin /dev/mapper/{pools[volume['pool_id']]} {volume['thin_id']}"
                run("dmsetup", "create", name, "--readonly", "--table", table)
                made.append(name)
        yield found
    finally:
        if made:
            run("udevadm", "settle", check=False)
            run("dmsetup", "remove", "--retry", *made)
