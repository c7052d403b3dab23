# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only access to the store, for check mode and flyd_info.

Invariant: the store, its journal and their directory stay as they are, byte by byte, even when a writer was killed in the middle of a commit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile

_IN_MEMORY = ("/dev/shm", "/run")  # noqa: S108 - a directory of our own is made in it
_TRIES = 5


def look_at(path: str, busy_seconds: float) -> sqlite3.Connection:
    """The store at ``path``, read-only.

    A journal whose writer is gone must be rolled back before anything can be read, which SQLite refuses to do read-only
    (SQLITE_READONLY_ROLLBACK): then it is done in a copy.
    """
    connection = sqlite3.connect(
        f"file:{_uri_path(path)}?mode=ro", uri=True, timeout=busy_seconds, isolation_level=None
    )
    try:
        connection.execute("PRAGMA schema_version").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        if ("readonly" not in str(error) and "unable to open" not in str(error)) or not os.path.exists(_journal(path)):
            raise
    except BaseException:
        connection.close()
        raise
    return _rolled_back(path)


def in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A copy of a read-only store, which may be migrated; the original is closed."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(connection):
        connection.backup(copy)
    return copy


def _rolled_back(path: str) -> sqlite3.Connection:
    """What the next writer will find, made in a copy of store and journal that is gone when this returns."""
    place = next((name for name in _IN_MEMORY if os.access(name, os.W_OK)), None)
    with tempfile.TemporaryDirectory(prefix="flyd-", dir=place) as directory:
        copy = os.path.join(directory, os.path.basename(path))
        for _attempt in range(_TRIES):
            before = _stamps(path)
            for source, target in ((path, copy), (_journal(path), _journal(copy))):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(target)
                with contextlib.suppress(FileNotFoundError):  # a journal that a writer has rolled back meanwhile
                    shutil.copyfile(source, target)
            if _stamps(path) == before:
                break
        return in_memory(sqlite3.connect(copy, isolation_level=None))


def _stamps(path: str) -> list[tuple[int, int]]:
    """Equal before and after a copy: no writer was at work meanwhile."""
    return [_stamp(path), _stamp(_journal(path))]


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, -1
    return found.st_mtime_ns, found.st_size


def _journal(path: str) -> str:
    return f"{path}-journal"


def _uri_path(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
