# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring an older database to the schema of this release, with a copy of it kept beside it.

Invariant: before the first statement changes a database that has rows, ``flyd.db.schema-N`` is on disk, whole, with what it was in version
N. A process that is killed leaves the database at one version and at most a ``.part`` file, which the next migration replaces.
"""

from __future__ import annotations

import sqlite3

from . import schema
from .copies import write_copy


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database from its user_version to ``schema.VERSION``, one transaction a version; nothing to do writes nothing."""
    first = schema.user_version(connection)
    while schema.user_version(connection) < schema.VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again inside: another process may have migrated between the look and the lock.
            version = schema.user_version(connection)
            if version < schema.VERSION:
                if version == first > 0:  # else the copy of the first step is what the older release can open
                    _keep_copy(connection, version)
                for statement in schema.MIGRATIONS[version]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def copy_path(path: str, version: int) -> str:
    """Where the copy of the database at ``path`` is kept that has schema ``version``."""
    return f"{path}.schema-{version}"


def _keep_copy(connection: sqlite3.Connection, version: int) -> None:
    """Copy the database as it was committed last; inside a transaction of ``connection`` that has changed nothing yet.

    A database in memory has nothing to keep.
    """
    path = str(connection.execute("PRAGMA database_list").fetchone()[2])
    if not path:
        return
    write_copy(path, copy_path(path, version))
