# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables, and the statements that bring an older database to the next version; ``migration`` runs them.

``images`` and ``_busy`` keep their first columns and their order in every version: other programs read them.
"""

from __future__ import annotations

import sqlite3

_IMAGE_DETAILS = """
    bucket TEXT NOT NULL DEFAULT '', size_bytes INTEGER NOT NULL DEFAULT 0, etag TEXT NOT NULL DEFAULT '',
    version_id TEXT NOT NULL DEFAULT '', trust TEXT NOT NULL DEFAULT '', base_ulid TEXT NOT NULL DEFAULT '',
    config TEXT NOT NULL DEFAULT '{}', summary TEXT NOT NULL DEFAULT '{}'"""

_VERSION_1: tuple[str, ...] = (
    f"""CREATE TABLE images(
    id TEXT PRIMARY KEY, object_key TEXT UNIQUE, sha256 TEXT, state TEXT, pool_device TEXT, snap_device TEXT,
    created_at DATETIME, updated_at DATETIME,{_IMAGE_DETAILS})""",
    "CREATE TABLE _busy(name TEXT PRIMARY KEY, boot_id TEXT NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL)",
    f"""CREATE TABLE retired_images(
    id TEXT PRIMARY KEY, object_key TEXT, sha256 TEXT, state TEXT, pool_device TEXT, snap_device TEXT,
    created_at DATETIME, updated_at DATETIME,{_IMAGE_DETAILS})""",
    """CREATE TABLE pools(
    id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, data TEXT NOT NULL, metadata TEXT NOT NULL, is_loop INTEGER NOT NULL,
    data_sectors INTEGER NOT NULL, metadata_bytes INTEGER NOT NULL, block_sectors INTEGER NOT NULL,
    low_water_blocks INTEGER NOT NULL, error_if_no_space INTEGER NOT NULL, min_free_percent INTEGER NOT NULL,
    transaction_id INTEGER NOT NULL, formatted INTEGER NOT NULL)""",
    """CREATE TABLE volumes(
    ulid TEXT PRIMARY KEY, pool_id TEXT NOT NULL REFERENCES pools(id), thin_id INTEGER NOT NULL, kind TEXT NOT NULL,
    sectors INTEGER NOT NULL, state TEXT NOT NULL, UNIQUE(pool_id, thin_id))""",
    """CREATE TABLE snapshots(
    ulid TEXT PRIMARY KEY REFERENCES volumes(ulid), image_id TEXT NOT NULL, name TEXT NOT NULL, device TEXT NOT NULL,
    read_only INTEGER NOT NULL, created_at DATETIME, UNIQUE(image_id, name))""",
    """CREATE TABLE operations(
    ulid TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, volume_ulid TEXT NOT NULL, boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL, started INTEGER NOT NULL, begun_at DATETIME)""",
)

# The objects of a family, as JSON; and whether the archive stays on disk when the base is sealed.
_VERSION_2: tuple[str, ...] = tuple(
    f"ALTER TABLE {table} ADD COLUMN {column}"
    for table in ("images", "retired_images")
    for column in ("members TEXT NOT NULL DEFAULT '[]'", "keep_archive INTEGER NOT NULL DEFAULT 1")
)

# Who may open a snapshot's node (-1: as it is), so that it comes back after a reboot as it was.
_VERSION_3: tuple[str, ...] = tuple(
    f"ALTER TABLE snapshots ADD COLUMN {column} INTEGER NOT NULL DEFAULT -1" for column in ("uid", "gid", "mode")
)

# Which disk the data of a pool on devices lies on, as names of devices may change places.
_VERSION_4: tuple[str, ...] = ("ALTER TABLE pools ADD COLUMN data_identity TEXT NOT NULL DEFAULT ''",)

# Who vouched for a generation's bytes, and how an archive looked when it was verified.
_VERSION_5: tuple[str, ...] = (
    *(
        f"ALTER TABLE {table} ADD COLUMN {column} TEXT NOT NULL DEFAULT ''"
        for table in ("images", "retired_images")
        for column in ("vouched_by", "voucher_id", "vouched_digest")
    ),
    """CREATE TABLE archives(
    sha256 TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL)""",
)

# What a base was made with. A lock may be a name alone, as other programs insert one: its holder is unknown then. SQLite cannot give
# columns a default later, so the table is made again with its rows.
_VERSION_6: tuple[str, ...] = (
    *(
        f"ALTER TABLE {table} ADD COLUMN made_with TEXT NOT NULL DEFAULT '{{}}'"
        for table in ("images", "retired_images")
    ),
    """CREATE TABLE _busy_6(
    name TEXT PRIMARY KEY, boot_id TEXT NOT NULL DEFAULT '', pid INTEGER NOT NULL DEFAULT 0, started INTEGER NOT NULL DEFAULT 0)""",
    "INSERT INTO _busy_6 SELECT name, boot_id, pid, started FROM _busy",
    "DROP TABLE _busy",
    "ALTER TABLE _busy_6 RENAME TO _busy",
)

# Names that point at one generation of an image, and when a generation was first confirmed under one.
_VERSION_7: tuple[str, ...] = (
    """CREATE TABLE instances(
    name TEXT PRIMARY KEY, current_id TEXT NOT NULL, current_ulid TEXT NOT NULL, previous_id TEXT NOT NULL DEFAULT '',
    left_id TEXT NOT NULL DEFAULT '', target_id TEXT NOT NULL DEFAULT '', target_ulid TEXT NOT NULL DEFAULT '',
    settings TEXT NOT NULL DEFAULT '{}', target_settings TEXT NOT NULL DEFAULT '{}', deadline_seconds INTEGER NOT NULL DEFAULT 0,
    created_at DATETIME, updated_at DATETIME)""",
    *(
        f"ALTER TABLE {table} ADD COLUMN confirmed_at TEXT NOT NULL DEFAULT ''"
        for table in ("images", "retired_images")
    ),
)

# How a pool grows automatically, and what size it had when it began to.
_VERSION_8: tuple[str, ...] = tuple(
    f"ALTER TABLE pools ADD COLUMN {column}"
    for column in (
        "policy TEXT NOT NULL DEFAULT '{}'",
        "grown_from_sectors INTEGER NOT NULL DEFAULT 0",
        "grown_from_metadata_bytes INTEGER NOT NULL DEFAULT 0",
    )
)

# How a base was made, and its manifest, for bases to be made of it.
_VERSION_9: tuple[str, ...] = (
    """CREATE TABLE bases(
    base_ulid TEXT PRIMARY KEY REFERENCES volumes(ulid) ON DELETE CASCADE, origin_ulid TEXT NOT NULL, depth INTEGER NOT NULL,
    recipe TEXT NOT NULL, inodes INTEGER NOT NULL, volume_blocks INTEGER NOT NULL, manifest_sha256 TEXT NOT NULL)""",
)

# When a snapshot was last seen in use.
_VERSION_10: tuple[str, ...] = ("ALTER TABLE snapshots ADD COLUMN used_at TEXT NOT NULL DEFAULT ''",)

# Which layers a base was made of, and which ones those had that it was made of: whose bytes may lie in it.
_VERSION_11: tuple[str, ...] = tuple(
    f"ALTER TABLE bases ADD COLUMN {column} TEXT NOT NULL DEFAULT ''" for column in ("layers", "residue")
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
    _VERSION_7,
    _VERSION_8,
    _VERSION_9,
    _VERSION_10,
    _VERSION_11,
)
VERSION = len(MIGRATIONS)


def user_version(connection: sqlite3.Connection) -> int:
    """The version of the schema that the store has; 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
