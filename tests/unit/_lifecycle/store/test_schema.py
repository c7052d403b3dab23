# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables are those that other programs read, and a store has the schema of one version, whole."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from module_utils._errors import CorruptStore, Unsupported
from module_utils._lifecycle.store import migration, schema
from module_utils._lifecycle.store import store as store_module
from module_utils._lifecycle.store.records import Archive, Image, Operation, PoolRecord, Snapshot, Volume, columns
from module_utils._lifecycle.store.store import Store, open_store
from tests.unit._lifecycle.disk import at_once, in_process, kill_myself, picture

IMAGES = [
    ("id", "TEXT", True),
    ("object_key", "TEXT", False),
    ("sha256", "TEXT", False),
    ("state", "TEXT", False),
    ("pool_device", "TEXT", False),
    ("snap_device", "TEXT", False),
    ("created_at", "DATETIME", False),
    ("updated_at", "DATETIME", False),
]
TABLES = {
    "images": Image,
    "retired_images": Image,
    "snapshots": Snapshot,
    "volumes": Volume,
    "pools": PoolRecord,
    "archives": Archive,
}


def table(connection: sqlite3.Connection, name: str) -> list[tuple[str, str, bool]]:
    """Name, type and "is the primary key" of each column, in order."""
    rows = connection.execute(f"PRAGMA table_info({name})").fetchall()
    return [(row[1], row[2], bool(row[5])) for row in rows]


def schema_of(path: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return found


@pytest.fixture
def connection(store: Store, store_path: Path) -> Iterator[sqlite3.Connection]:
    """What another program sees."""
    opened = sqlite3.connect(f"file:{store_path}?mode=ro", uri=True)
    yield opened
    opened.close()


def test_the_images_table_begins_with_the_columns_that_others_read(connection: sqlite3.Connection) -> None:
    assert table(connection, "images")[: len(IMAGES)] == IMAGES


def test_an_object_key_is_there_once(store: Store) -> None:
    with store.transaction():
        store.put(Image(id="1", object_key="images/redis.tar"))
    with pytest.raises(CorruptStore, match=r"UNIQUE.*object_key"), store.transaction():
        store.put(Image(id="2", object_key="images/redis.tar"))


def test_the_busy_table_begins_with_the_name(connection: sqlite3.Connection) -> None:
    assert table(connection, "_busy")[0] == ("name", "TEXT", True)


@pytest.mark.parametrize("name", [*TABLES, "operations"])
def test_every_record_has_the_columns_of_its_table_in_order(connection: sqlite3.Connection, name: str) -> None:
    record = TABLES.get(name, Operation)
    assert [column for column, _, _ in table(connection, name)] == list(columns(record))


def test_a_new_store_has_the_newest_version_and_every_migration_was_one_step(store_path: Path, store: Store) -> None:
    assert store.rows("PRAGMA user_version") == [(schema.VERSION,)]
    assert len(schema.MIGRATIONS) == schema.VERSION


def test_opening_again_migrates_nothing(store_path: Path, store: Store) -> None:
    store.close()
    before = picture(store_path.parent)
    open_store(str(store_path), writable=True, busy_seconds=1).close()
    assert picture(store_path.parent) == before


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later collection that has one migration more."""
    more = ("ALTER TABLE images ADD COLUMN colour TEXT", "CREATE TABLE colours(name TEXT)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, more))
    for module in (schema, store_module):
        monkeypatch.setattr(module, "VERSION", len(schema.MIGRATIONS))


def test_an_older_store_becomes_a_newer_one_and_keeps_its_rows(
    store_path: Path, store: Store, next_version: None
) -> None:
    with store.transaction():
        store.put(Image(id="1", object_key="images/redis.tar"))
    store.close()
    newer = open_store(str(store_path), writable=True, busy_seconds=1)
    assert newer.rows("PRAGMA user_version") == [(schema.VERSION,)]
    assert newer.rows("SELECT object_key, colour FROM images") == [("images/redis.tar", None)]
    newer.close()


def opened_from_version(store_path: Path, version: int, insertion: str) -> Store:
    """A store that a collection of that version has made, with one row, as this one opens it."""
    store_path.parent.chmod(0o700)
    with sqlite3.connect(store_path) as old:
        for statements in schema.MIGRATIONS[:version]:
            for statement in statements:
                old.execute(statement)
        old.execute(f"PRAGMA user_version={version}")
        old.execute(insertion)
    old.close()
    return open_store(str(store_path), writable=True, busy_seconds=1)


def test_a_store_of_the_first_version_gains_members_and_keep_archive(store_path: Path) -> None:
    row = "INSERT INTO images(id, object_key, sha256, state) VALUES ('1', 'redis.tar', 'ab', 'fetched')"
    newer = opened_from_version(store_path, 1, row)
    [image] = newer.all(Image)
    assert (image.digests, image.keep_archive) == (("ab",), True)
    newer.close()


def test_a_pool_of_the_third_version_has_no_identity_yet(store_path: Path) -> None:
    row = "INSERT INTO pools VALUES ('1', 'pool', '/dev/a', '/dev/b', 0, 128, 4096, 128, 1, 1, 10, 7, 1)"
    newer = opened_from_version(store_path, 3, row)
    [pool] = newer.all(PoolRecord)
    assert (pool.formatted, pool.data_identity) == (True, "")
    newer.close()


def test_a_pool_of_the_seventh_version_does_not_grow_automatically(store_path: Path) -> None:
    row = "INSERT INTO pools VALUES ('1', 'pool', '/dev/a', '/dev/b', 0, 128, 4096, 128, 1, 1, 10, 7, 1, '')"
    newer = opened_from_version(store_path, 7, row)
    [pool] = newer.all(PoolRecord)
    assert (pool.policy, pool.grown_from_sectors, pool.grown_from_metadata_bytes) == ("{}", 0, 0)
    newer.close()


def test_an_image_of_the_fourth_version_keeps_its_trust_and_names_no_voucher(store_path: Path) -> None:
    row = (
        "INSERT INTO images(id, object_key, sha256, state, trust) VALUES ('1', 'redis.tar', 'ab', 'fetched', 'sidecar')"
    )
    newer = opened_from_version(store_path, 4, row)
    [image] = newer.all(Image)
    assert (image.trust, image.vouched_by, image.voucher_id, newer.all(Archive)) == ("sidecar", "", "", [])
    newer.close()


def test_looking_at_an_older_store_shows_it_as_the_newer_one_and_writes_nothing(
    store_path: Path, store: Store, next_version: None
) -> None:
    with store.transaction():
        store.put(Image(id="1", object_key="images/redis.tar"))
    store.close()
    before = picture(store_path.parent)
    looking = open_store(str(store_path), writable=False, busy_seconds=1)
    assert looking.rows("SELECT object_key, colour FROM images") == [("images/redis.tar", None)]
    looking.close()
    assert picture(store_path.parent) == before


def test_a_migration_that_fails_half_way_leaves_the_old_schema(
    store_path: Path, store: Store, next_version: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    before = schema_of(store_path)
    broken = (*schema.MIGRATIONS[:-1], (*schema.MIGRATIONS[-1], "CREATE TABLE colours(again TEXT)"))
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    with pytest.raises(CorruptStore, match="already exists"):
        open_store(str(store_path), writable=True, busy_seconds=1)
    assert schema_of(store_path) == before


def test_a_migration_that_is_killed_half_way_leaves_the_old_schema(
    store_path: Path, store: Store, next_version: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    before = schema_of(store_path)

    def migrate_half() -> None:
        connection = sqlite3.connect(store_path, isolation_level=None)
        connection.create_function("kill_myself", 0, kill_myself)
        killing = (*schema.MIGRATIONS[:-1], (schema.MIGRATIONS[-1][0], "SELECT kill_myself()"))
        monkeypatch.setattr(schema, "MIGRATIONS", killing)
        migration.migrate(connection)

    assert in_process(migrate_half) == 9
    assert schema_of(store_path) == before
    open_store(str(store_path), writable=True, busy_seconds=1).close()
    assert schema_of(store_path) != before


def rows_of(path: Path) -> tuple[int, list[tuple[str, ...]]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return schema.user_version(connection), connection.execute("SELECT id, object_key FROM images").fetchall()


def test_what_a_database_was_before_its_migration_is_kept_beside_it(store_path: Path) -> None:
    opened_from_version(store_path, 1, "INSERT INTO images(id, object_key) VALUES ('1', 'redis.tar')").close()
    kept = Path(migration.copy_path(str(store_path), 1))
    assert rows_of(kept) == (1, [("1", "redis.tar")])
    assert kept.stat().st_mode & 0o777 == 0o600
    assert rows_of(store_path)[0] == schema.VERSION
    assert sorted(path.name for path in store_path.parent.iterdir()) == ["flyd.db", "flyd.db.schema-1"]


def test_the_copy_is_whole_before_the_first_statement_of_a_migration(
    store_path: Path, store: Store, next_version: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.transaction():
        store.put(Image(id="1", object_key="images/redis.tar"))
    store.close()
    older = schema.VERSION - 1
    kept = Path(migration.copy_path(str(store_path), older))
    kept.with_name(kept.name + ".part").write_bytes(b"left by a run that was killed")

    def migrate_until_killed() -> None:
        connection = sqlite3.connect(store_path, isolation_level=None)
        connection.create_function("kill_myself", 0, kill_myself)
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS[:-1], ("SELECT kill_myself()",)))
        migration.migrate(connection)

    assert in_process(migrate_until_killed) == 9
    assert rows_of(kept) == rows_of(store_path) == (older, [("1", "images/redis.tar")])
    open_store(str(store_path), writable=True, busy_seconds=1).close()
    assert rows_of(kept)[0] == older


def test_a_new_database_leaves_no_copy(store_path: Path, store: Store) -> None:
    assert [path.name for path in store_path.parent.iterdir()] == ["flyd.db"]


def test_many_processes_may_open_a_virgin_store_at_once(store_path: Path) -> None:
    def open_it() -> None:
        open_store(str(store_path), writable=True, busy_seconds=10).close()

    assert at_once(*[open_it] * 6) == [0] * 6


@pytest.mark.parametrize("writable", [True, False])
def test_a_store_of_a_later_version_is_refused_and_not_touched(store_path: Path, store: Store, writable: bool) -> None:
    store.rows(f"PRAGMA user_version={schema.VERSION + 1}")
    store.close()
    before = picture(store_path.parent)
    with pytest.raises(Unsupported, match=rf"schema version {schema.VERSION + 1}.*knows up to {schema.VERSION}"):
        open_store(str(store_path), writable=writable, busy_seconds=1)
    assert picture(store_path.parent) == before
