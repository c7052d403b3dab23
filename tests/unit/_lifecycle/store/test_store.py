# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: all or nothing, on disk, ours alone, and never made again in silence."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import stat
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from module_utils._errors import BadInput, Busy, CommandFailed, CorruptStore, NoSpace, Transient, Unsupported
from module_utils._lifecycle.store.records import (
    Image,
    Operation,
    OperationKind,
    PoolRecord,
    Snapshot,
    State,
    Volume,
    VolumeState,
    from_row,
    to_row,
)
from module_utils._lifecycle.store.store import Store, open_store
from tests.unit._lifecycle.disk import in_process, kill_myself, picture

KEY = "images/redis_latest.tar"
IMAGE = Image(id="1", object_key=KEY, sha256="ab", state=State.UNPACKED, size_bytes=7, base_ulid="B")
POOL = PoolRecord("P", "pool", "/d", "/m", True, 4096, 65536, 128, 3, True, 10, 1 << 62, False)
VOLUME = Volume("B", "P", 1, "base", 2048, VolumeState.LIVE)
SNAPSHOT = Snapshot("B", "1", "default", "/dev/mapper/snap-B", read_only=True)
OPERATION = Operation("O", OperationKind.UNPACK, KEY, "B", "boot", 12, 34)


def put(store: Store, *records: object) -> None:
    with store.transaction():
        for record in records:
            store.put(record)


# What is kept


@pytest.mark.parametrize("record", [IMAGE, POOL, OPERATION], ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was_put(store: Store, record: object) -> None:
    put(store, record)
    assert store.all(type(record)) == [record]


@pytest.mark.parametrize("record", [Image, PoolRecord, Snapshot, Volume, Operation])
def test_every_column_comes_back_in_its_own_type(record: type[Any]) -> None:
    kinds = get_type_hints(record)
    first = {kind: next(iter(kind)) for kind in (State, VolumeState, OperationKind)}
    whole = record(**{name: first[kind] if kind in first else kind(1) for name, kind in kinds.items()})
    back = from_row(record, to_row(whole))
    assert back is not None
    assert {name: type(getattr(back, name)) for name in kinds} == kinds


def test_records_that_refer_to_others_come_back_as_they_were_put(store: Store) -> None:
    put(store, POOL, VOLUME, SNAPSHOT)
    assert (store.all(Volume), store.all(Snapshot)) == ([VOLUME], [SNAPSHOT])


def test_putting_again_replaces_a_row_and_keeps_what_refers_to_it(store: Store) -> None:
    put(store, POOL, VOLUME, SNAPSHOT)
    put(store, Volume("B", "P", 1, "base", 4096, VolumeState.DELETING))
    assert store.find(Volume, "ulid=?", "B") == Volume("B", "P", 1, "base", 4096, VolumeState.DELETING)
    assert store.all(Snapshot) == [SNAPSHOT]


def test_a_volume_with_a_snapshot_cannot_be_dropped(store: Store) -> None:
    put(store, POOL, VOLUME, SNAPSHOT)
    with pytest.raises(CorruptStore, match="FOREIGN KEY"), store.transaction():
        store.drop(VOLUME)
    assert store.all(Volume) == [VOLUME]


def test_a_thin_id_is_given_once_in_a_pool(store: Store) -> None:
    put(store, POOL, VOLUME)
    with pytest.raises(CorruptStore, match="UNIQUE"):
        put(store, Volume("C", "P", 1, "snap", 2048, VolumeState.PLANNED))


def test_a_key_that_was_never_seen_is_new_and_nowhere_recorded(store: Store) -> None:
    assert store.image_or_new(KEY) == Image(id="", object_key=KEY, state=State.NEW)
    assert store.all(Image) == []


def test_a_retired_generation_frees_its_key_and_is_kept(store: Store) -> None:
    put(store, IMAGE)
    with store.transaction():
        store.retire(IMAGE)
        store.put(Image(id="2", object_key=KEY))
    assert [image.id for image in store.all(Image)] == ["2"]
    assert store.rows("SELECT id, object_key, sha256, state, base_ulid FROM retired_images") == [
        ("1", KEY, "ab", "unpacked", "B")
    ]


# Transactions


def test_a_transaction_that_fails_changes_nothing(store: Store) -> None:
    def put_and_fail() -> None:
        with store.transaction():
            store.put(IMAGE)
            raise KeyError("x")

    with pytest.raises(KeyError):
        put_and_fail()
    assert store.all(Image) == []


class Interrupted(sqlite3.Connection):
    """A signal's exception comes right behind a statement."""

    after = ""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        result = super().execute(sql, *values)
        if sql == self.after:
            self.after = ""
            raise Transient("stopped by SIGTERM", hint="run again")
        return result


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
def test_a_run_that_is_stopped_where_a_transaction_begins_or_ends_can_still_undo(
    store_path: Path, store: Store, statement: str
) -> None:
    connection = sqlite3.connect(store_path, isolation_level=None, factory=Interrupted)
    stopped = Store(connection, str(store_path))
    connection.after = statement
    with pytest.raises(Transient, match="SIGTERM"), stopped.transaction():
        stopped.put(IMAGE)
    with stopped.transaction():
        stopped.put(POOL)
    assert store.all(PoolRecord) == [POOL]
    stopped.close()


def test_a_process_that_is_killed_in_a_transaction_changes_nothing(store_path: Path, store: Store) -> None:
    def put_and_die() -> None:
        other = open_store(str(store_path), writable=True, busy_seconds=1)
        with other.transaction():
            other.put(IMAGE)
            kill_myself()

    assert in_process(put_and_die) == 9
    assert store.all(Image) == []
    put(store, IMAGE)


def test_what_is_committed_is_there_after_a_kill(store_path: Path) -> None:
    def put_and_die() -> None:
        put(open_store(str(store_path), writable=True, busy_seconds=1), IMAGE)
        kill_myself()

    assert in_process(put_and_die) == 9
    store = open_store(str(store_path), writable=False, busy_seconds=1)
    assert store.all(Image) == [IMAGE]
    store.close()


def test_commits_survive_a_power_cut_by_the_settings_of_sqlite(store: Store) -> None:
    assert store.rows("PRAGMA synchronous") == [(3,)], "EXTRA"
    assert store.rows("PRAGMA journal_mode") == [("delete",)]
    assert store.rows("PRAGMA foreign_keys") == [(1,)]


def test_a_second_writer_gets_an_error_that_may_pass(store_path: Path, store: Store) -> None:
    other = open_store(str(store_path), writable=True, busy_seconds=0.1)
    with store.transaction():
        with pytest.raises(Busy, match="stayed locked") as caught:
            put(other, IMAGE)
        assert caught.value.retryable
        store.put(IMAGE)
    assert other.all(Image) == [IMAGE]
    other.close()


def test_a_reader_that_holds_up_a_commit_is_reported_and_the_store_works_on(store_path: Path, store: Store) -> None:
    reader = sqlite3.connect(store_path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM images").fetchall()
    with pytest.raises(Busy):
        put(store, IMAGE)
    assert store.all(Image) == []
    reader.close()
    put(store, IMAGE)
    assert store.all(Image) == [IMAGE]


def test_a_full_disk_is_no_space_and_the_store_works_on(store: Store) -> None:
    [(pages,)] = store.rows("PRAGMA page_count")
    store.rows(f"PRAGMA max_page_count={pages}")
    with pytest.raises(NoSpace, match="disk is full"):
        put(store, Image(id="2", object_key="large", summary="x" * 1_000_000))
    put(store, IMAGE)
    assert store.all(Image) == [IMAGE]
    assert store.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_disk_that_fails_is_not_reported_as_damage_and_the_store_works_on(store: Store, store_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (store_path.stat().st_size, limits[1]))  # what is written beyond: EFBIG
    try:
        with pytest.raises(CommandFailed, match=r"disk below the store .* fails"):
            put(store, Image(id="2", object_key="large", summary="x" * 1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    put(store, IMAGE)
    assert store.all(Image) == [IMAGE]


# Whose it is


def test_the_store_is_ours_alone(tmp_path: Path) -> None:
    open_store(str(tmp_path / "new" / "state" / "flyd.db"), writable=True, busy_seconds=1).close()
    modes = {name: stat.S_IMODE((tmp_path / "new" / name).stat().st_mode) for name in ("", "state", "state/flyd.db")}
    assert modes == {"": 0o755, "state": 0o700, "state/flyd.db": 0o600}


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_to_is_refused(
    store_path: Path, store: Store, mode: int, writable: bool
) -> None:
    store.close()
    store_path.parent.chmod(mode)
    with pytest.raises(BadInput, match="others could change what is trusted"):
        open_store(str(store_path), writable=writable, busy_seconds=1)


def test_a_link_in_the_place_of_the_directory_is_refused(store_path: Path) -> None:
    link = store_path.parent.parent / "link"
    link.symlink_to(store_path.parent)
    with pytest.raises(BadInput, match="is not a directory"):
        open_store(str(link / "flyd.db"), writable=True, busy_seconds=1)
    assert list(store_path.parent.iterdir()) == []


def test_programs_that_are_started_do_not_inherit_the_store(store: Store) -> None:
    fds = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    ours = [fd for fd in fds if os.path.realpath(f"/proc/self/fd/{fd}") == store.path]
    assert ours
    assert not any(os.get_inheritable(fd) for fd in ours)


# Read-only


def test_looking_at_a_virgin_host_makes_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "state" / "flyd.db"), writable=False, busy_seconds=1)
    assert store.all(Image) == []
    assert list(tmp_path.iterdir()) == []
    store.close()


@pytest.mark.parametrize("name", ["state", "st?ate", "st#ate", "st%41ate"])
def test_looking_at_a_store_writes_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "flyd.db"
    writer = open_store(str(path), writable=True, busy_seconds=1)
    put(writer, IMAGE)
    writer.close()
    before = picture(tmp_path)
    reader = open_store(str(path), writable=False, busy_seconds=1)
    assert reader.all(Image) == [IMAGE]
    with pytest.raises(Unsupported, match="cannot be written"):
        put(reader, Image(id="2", object_key="other"))
    reader.close()
    assert picture(tmp_path) == before


def test_looking_works_after_a_writer_was_killed_in_the_middle_of_a_commit(store_path: Path, store: Store) -> None:
    put(store, IMAGE)

    def write_and_die() -> None:
        connection = sqlite3.connect(store_path, isolation_level=None)
        connection.execute("PRAGMA cache_size=1")  # so that pages reach the file before the commit
        connection.execute("BEGIN IMMEDIATE")
        for number in range(100):
            connection.execute("INSERT INTO images(id, summary) VALUES(?, ?)", (f"n{number}", "x" * 4000))
        kill_myself()

    assert in_process(write_and_die) == 9
    assert os.path.getsize(f"{store_path}-journal") > 0
    before = picture(store_path.parent)
    reader = open_store(str(store_path), writable=False, busy_seconds=1)
    try:
        assert reader.all(Image) == [IMAGE]
    finally:
        reader.close()
    assert picture(store_path.parent) == before


# What is not made again


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("content", [b"somebody's diary" * 1000, b"SQLite format 3\0" + b"\xff" * 8176])
def test_a_file_that_is_no_database_is_refused_and_not_touched(
    store_path: Path, content: bytes, writable: bool
) -> None:
    store_path.write_bytes(content)
    before = picture(store_path.parent)
    with pytest.raises(CorruptStore, match="is damaged") as caught:
        open_store(str(store_path), writable=writable, busy_seconds=1)
    assert "backup" in caught.value.hint
    assert picture(store_path.parent) == before


def test_a_damaged_page_is_reported_when_it_is_met(store_path: Path, store: Store) -> None:
    put(store, IMAGE)
    store.close()
    with open(store_path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(store_path) - 4096))

    def read() -> None:  # it is met when the file is opened, or later
        with contextlib.closing(open_store(str(store_path), writable=False, busy_seconds=1)) as damaged:
            damaged.all(Image)

    with pytest.raises(CorruptStore, match="is damaged"):
        read()


def test_an_empty_file_on_a_virgin_host_reads_as_an_empty_store(store_path: Path) -> None:
    store_path.touch(mode=0o600)
    before = picture(store_path.parent)
    store = open_store(str(store_path), writable=False, busy_seconds=1)
    assert store.all(Image) == []
    store.close()
    assert picture(store_path.parent) == before


def test_an_empty_file_on_a_virgin_host_becomes_a_store(store_path: Path) -> None:
    store_path.touch(mode=0o600)
    open_store(str(store_path), writable=True, busy_seconds=1).close()


@pytest.mark.parametrize("writable", [True, False])
def test_an_empty_file_beside_pools_is_refused_and_not_touched(store_path: Path, writable: bool) -> None:
    store_path.touch(mode=0o600)
    (store_path.parent / "pools").mkdir()
    before = picture(store_path.parent)
    with pytest.raises(CorruptStore, match="is empty, but"):
        open_store(str(store_path), writable=writable, busy_seconds=1)
    assert picture(store_path.parent) == before


@pytest.mark.parametrize("writable", [True, False])
def test_a_missing_file_beside_pools_is_refused_and_not_made(store_path: Path, writable: bool) -> None:
    (store_path.parent / "pools").mkdir()
    before = picture(store_path.parent)
    with pytest.raises(CorruptStore, match="is empty, but"):
        open_store(str(store_path), writable=writable, busy_seconds=1)
    assert picture(store_path.parent) == before
