# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state directory of a host that is to be left: state.py look|remove STATE_DIR

``look`` changes nothing. Both print an object of JSON: ``remove`` has what is (or was) the collection's, in the order in which it goes,
``kept`` what is not, ``holds`` what is still in use, as sentences; then nothing is removed.

Invariant: only names that the modules give are removed, the database last and while no other process can write to it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator

ULID = "[0-9A-HJKMNP-TV-Z]{26}"
# What lies in each directory; those of pools go with their pools.
NAMES = {
    "archives": r"[0-9a-f]{64}.*",
    "spool": rf"{ULID}\..*|\.spool-.*",
    "mnt": rf"{ULID}.*",
    "pools": ULID,
    "backup": r"[A-Za-z0-9][A-Za-z0-9_.-]*",  # those of a pool go with it; what is left is of one that was forgotten
    "log": r"flyd(-\d+)?\.jsonl.*|\.?counters\.json.*",
}
DATABASE = ("flyd.db-journal", "flyd.db-wal", "flyd.db-shm", "flyd.db")
OLDER_DATABASES = r"flyd\.db\.schema-\d+(\.part)?"  # kept when the database was migrated
TABLES = {"pools": "name", "snapshots": "device", "volumes": "ulid", "operations": "subject"}


class Kept(Exception):
    """The database cannot be read or is in use."""


def contents(state_dir: str) -> tuple[list[str], list[str]]:
    """Return the paths that are the collection's, without the database, and those that are not."""
    own, others = [], []
    for name in sorted(os.listdir(state_dir)):
        path = os.path.join(state_dir, name)
        if name in DATABASE:
            continue
        if re.fullmatch(OLDER_DATABASES, name) and os.path.isfile(path) and not os.path.islink(path):
            own.append(path)
            continue
        if name not in NAMES or os.path.islink(path) or not os.path.isdir(path) or is_mounted(path):
            others.append(path)
            continue
        strange = [inner for inner in sorted(os.listdir(path)) if not is_own(path, name, inner)]
        others += [os.path.join(path, inner) for inner in strange]
        own += [os.path.join(path, inner) for inner in sorted(os.listdir(path)) if inner not in strange]
        own += [] if strange else [path]
    return own, others


def is_own(directory: str, kind: str, name: str) -> bool:
    """Whether a module gave that name; a directory of a pool, or a mount point, has to be empty."""
    path = os.path.join(directory, name)
    if not re.fullmatch(NAMES[kind], name) or is_mounted(path):
        return False
    return kind not in ("pools", "mnt") or not os.path.isdir(path) or not os.listdir(path)


def is_mounted(path: str) -> bool:
    """Whether something is mounted on ``path`` itself, a file or a directory.

    os.path.ismount compares device numbers: it takes each file of an overlay for mounted, and misses a bind mount from the same file system.
    """
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) in mount_points()


@functools.lru_cache(maxsize=1)
def mount_points() -> frozenset[str]:
    """Return where anything is mounted; the kernel writes blanks and backslashes in octal (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[4] for line in file]
    return frozenset(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point) for point in points)


def held(connection: sqlite3.Connection) -> Iterator[str]:
    """Say what the database has that is in use."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    for table, column in TABLES.items():
        if table in tables:
            for (name,) in connection.execute(f"SELECT {column} FROM {table} ORDER BY rowid"):  # noqa: S608 - our own names
                yield f"{table[:-1]} {name}"
    if "_busy" in tables:
        for name, boot_id, pid, started in connection.execute("SELECT name, boot_id, pid, started FROM _busy"):
            if is_alive(boot_id, pid, started):
                yield f"process {pid}, which works on {name}"


def is_alive(boot_id: str, pid: int, started: int) -> bool:
    """Whether the holder of a lock runs: its boot, its process, and the start time of that (proc(5), field 22)."""
    with contextlib.suppress(OSError, IndexError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            same_boot = file.read().strip() == boot_id
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return same_boot and int(stat.read().rpartition(b")")[2].split()[19]) == started
    return False


@contextlib.contextmanager
def locked(path: str) -> Iterator[sqlite3.Connection | None]:
    """Keep every other process from writing to the database while inside; ``None`` where there is none."""
    if not os.path.exists(path):
        yield None
        return
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection
    except sqlite3.Error as error:
        raise Kept(f"the database {path} cannot be read or is in use ({error})") from error
    finally:
        connection.close()


def remove(paths: list[str]) -> None:
    """Remove files and directories; none of them is followed through a link."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)


def main() -> None:
    """Entry point."""
    verb, state_dir = sys.argv[1:]
    if not os.path.isdir(state_dir) or os.path.islink(state_dir):
        sys.stdout.write(json.dumps({"remove": [], "kept": [], "holds": []}))
        return
    database = [path for path in (os.path.join(state_dir, name) for name in DATABASE) if os.path.lexists(path)]
    own, others = contents(state_dir)
    holds: list[str] = []
    if verb == "remove":
        try:
            with locked(os.path.join(state_dir, "flyd.db")) as connection:
                holds = list(held(connection)) if connection else []
                if not holds:
                    remove(own)
                    remove(database)
        except Kept as error:
            holds = [str(error)]
    sys.stdout.write(json.dumps({"remove": own + database, "kept": others, "holds": holds}))


if __name__ == "__main__":
    main()
