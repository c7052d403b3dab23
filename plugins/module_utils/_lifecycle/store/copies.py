# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of the database as whole files: made from a connection of SQLite, published by a rename.

Invariant: a copy is the database as it was committed at one moment, and is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from ..._host.files.durable import sync_directory


def part_of(target: str) -> str:
    """Where a copy is written before it is whole."""
    return f"{target}.part"


def write_copy(database: str, target: str) -> None:
    """Write the file ``target`` (0600) with what ``database`` has committed; in a transaction of the caller, which keeps others out."""
    part = part_of(target)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    # Through connections of SQLite: a plain open and close of the file would drop the locks that this process has on it.
    with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(part)) as copy:
        # No journal: a copy that is not whole is never read, and a killed run would leave a second file.
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=FULL")
        source.backup(copy)
    os.rename(part, target)
    sync_directory(os.path.dirname(target))


def rank_of_copy(path: str) -> tuple[int, str] | None:
    """How new a copy is: the pools' transactions, which only count up, then the time of its last change; None for one that is damaged."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return None
            transactions = connection.execute("SELECT COALESCE(SUM(transaction_id), 0) FROM pools").fetchone()[0]
            changed = connection.execute("SELECT COALESCE(MAX(updated_at), '') FROM images").fetchone()[0]
            return int(transactions), str(changed)
    except sqlite3.DatabaseError:
        return None
