# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: one SQLite file, state_dir/flyd.db.

Invariant: what is committed is on disk before the call returns (rollback journal, synchronous=EXTRA: the journal's directory entry
too), and every change is made inside ``transaction``, which is BEGIN IMMEDIATE.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Iterator
from typing import Any, TypeVar

from ..._errors import CorruptStore, Unsupported
from ..._host.files.durable import check_private_directory, make_private_directory, sync_directory
from .base_record import BaseRecord
from .instance_record import Instance
from .migration import migrate
from .read_only import in_memory, look_at
from .records import (
    Archive,
    Image,
    Operation,
    OperationKind,
    PoolRecord,
    RetiredImage,
    Snapshot,
    State,
    Volume,
    columns,
    from_row,
    to_row,
)
from .schema import VERSION, user_version
from .sqlite_errors import store_errors

R = TypeVar("R")

_TABLES: dict[type, str] = {
    Image: "images",
    RetiredImage: "retired_images",
    Snapshot: "snapshots",
    Volume: "volumes",
    PoolRecord: "pools",
    Operation: "operations",
    Archive: "archives",
    Instance: "instances",
    BaseRecord: "bases",
}


def utc_now() -> str:
    """The time for people to read, such as 2026-01-31T23:59:59Z; nothing is decided by it but the age that flyd_prune may ask for."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """An open store; ``path`` is its file. Made by ``open_store``."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self.path = path
        self.has_changed = False  # whether a record was, since it was opened: locks are none

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside are committed together, or none; raises ``Busy`` when another process holds the file too long."""
        with store_errors(self.path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")  # inside: a signal may come between it and the next line
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk or an I/O error has made SQLite roll back on its own (sqlite.org/lang_transaction.html, 2.3).
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement answers, for the few queries that are no record of their own."""
        with store_errors(self.path):
            return self._connection.execute(sql, values).fetchall()

    def find(self, record: type[R], where: str, *values: Any) -> R | None:
        """The one record of that class for which ``where`` holds, or None."""
        found = self.all(record, where, *values)
        return found[0] if found else None

    def all(self, record: type[R], where: str = "1", *values: Any) -> list[R]:
        """The records of that class for which ``where`` holds, oldest first."""
        sql = f"SELECT {', '.join(columns(record))} FROM {_TABLES[record]} WHERE {where} ORDER BY rowid"  # noqa: S608 - our own names
        rows = self.rows(sql, *values)
        return [made for made in (from_row(record, row) for row in rows) if made is not None]

    def put(self, record: Any) -> None:
        """Insert ``record``, or replace the row that has its key (upsert, so that rows which refer to it stay)."""
        self.has_changed = True
        names = columns(type(record))
        sql = (
            f"INSERT INTO {_TABLES[type(record)]}({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608 - our own names
            f"ON CONFLICT({names[0]}) DO UPDATE SET {', '.join(f'{name}=excluded.{name}' for name in names[1:])}"
        )
        self._connection.execute(sql, to_row(record))

    def change(self, record: Any, **values: Any) -> None:
        """Set columns of the row that has ``record``'s key, and leave the others as another process may have set them."""
        self.has_changed = True
        key = columns(type(record))[0]
        sql = f"UPDATE {_TABLES[type(record)]} SET {', '.join(f'{name}=?' for name in values)} WHERE {key}=?"  # noqa: S608 - our own names
        self._connection.execute(sql, (*values.values(), getattr(record, key)))

    def drop(self, record: Any) -> None:
        """Delete the row that has ``record``'s key."""
        self.has_changed = True
        key = columns(type(record))[0]
        self._connection.execute(f"DELETE FROM {_TABLES[type(record)]} WHERE {key}=?", (getattr(record, key),))  # noqa: S608 - our own names

    def retire(self, image: Image) -> None:
        """Move ``image`` aside: its base and snapshots stay usable, its key is free for the next generation."""
        self.put(RetiredImage(**image._replace(updated_at=utc_now())._asdict()))
        self.drop(image)

    def generations(self, object_key: str) -> list[Image]:
        """All generations of a key: the current one, if any, and those that were retired."""
        return [*self.all(Image, "object_key=?", object_key), *self.all(RetiredImage, "object_key=?", object_key)]

    def generation(self, image_id: str) -> Image | None:
        """The generation of that id, current or retired."""
        return self.find(Image, "id=?", image_id) or self.find(RetiredImage, "id=?", image_id)

    def downloads(self, object_key: str) -> list[Operation]:
        """The open intents to download a key."""
        return self.all(Operation, "kind=? AND subject=?", OperationKind.FETCH.value, object_key)

    def image(self, object_key: str) -> Image | None:
        """The current generation of a key, or None while it is ``new``."""
        return self.find(Image, "object_key=?", object_key)

    def image_or_new(self, object_key: str) -> Image:
        """The current generation, or one in state ``new`` that is nowhere recorded."""
        return self.image(object_key) or Image(id="", object_key=object_key, state=State.NEW)

    def pool(self, name: str) -> PoolRecord | None:
        """The pool of that name, or None."""
        return self.find(PoolRecord, "name=?", name)

    def close(self) -> None:
        """Close the file; locks of SQLite go with it."""
        self._connection.close()


def open_store(path: str, *, writable: bool, busy_seconds: float) -> Store:
    """Open the store, or make it when ``writable`` and its directory is still virgin.

    Read-only, a store that does not exist reads as an empty one, and an older one as it would be after its migration. Errors:
    ``CorruptStore`` for a damaged file and for an empty one beside pools that it should know; ``Unsupported`` for a later version;
    ``BadInput`` for a directory that others may write to.
    """
    with store_errors(path):
        if writable:
            _prepare(path)
            connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
        elif os.path.exists(path):
            check_private_directory(os.path.dirname(path))
            connection = look_at(path, busy_seconds)
        else:
            connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            _set_up(connection, path)
            if not writable and user_version(connection) < VERSION:
                connection = in_memory(connection)
            migrate(connection)
        except BaseException:
            connection.close()
            raise
    return Store(connection, path)


def _prepare(path: str) -> None:
    make_private_directory(os.path.dirname(path))
    if not os.path.lexists(path):
        _refuse_lost(path)
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return
    os.close(fd)
    sync_directory(os.path.dirname(path))


def _set_up(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA foreign_keys=ON")
    version = user_version(connection)
    if version > VERSION:
        raise Unsupported(
            f"the store {path} has schema version {version}; this collection knows up to {VERSION}",
            hint="a later flyd.lite has run on this host: install that version (`ansible-galaxy collection install`), or restore the store from before",
        )
    if version == 0:
        _refuse_lost(path)


def _refuse_lost(path: str) -> None:
    """Raise ``CorruptStore`` when a store that knows nothing stands beside pools."""
    if os.path.isdir(os.path.join(os.path.dirname(path), "pools")):
        raise CorruptStore(
            f"the store {path} is empty, but {os.path.dirname(path)}/pools holds a pool that it should know",
            hint="make it again from the copy that lies with the pool (flyd_pool, state: recovered), or restore flyd.db from a backup; "
            "only if nothing in the pool matters, take its devices down, move the state directory (state_dir) away "
            "and start over: docs/errors.md, corrupt_store, has the commands",
        )
