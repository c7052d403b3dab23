# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that the first release has left: its database is migrated with a copy kept, and all that it knows still works."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from module_utils._host import host_program
from module_utils._lifecycle.report.drift import drift
from module_utils._lifecycle.store import migration, schema
from tests.unit._lifecycle.machine import Machine


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]


@pytest.fixture
def first_schema(activated: Machine) -> Machine:
    """A host with an activated image whose database has the first schema, as a release with that schema would have written it."""
    path = activated.state / "flyd.db"
    newer = path.with_name("newer.db")
    path.rename(newer)
    path.touch(mode=0o600)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        for statement in schema.MIGRATIONS[0]:
            old.execute(statement)
        old.execute("ATTACH ? AS newer", (str(newer),))
        for (table,) in old.execute("SELECT name FROM main.sqlite_master WHERE type='table'").fetchall():
            names = ", ".join(columns_of(old, table))
            old.execute(f"INSERT INTO main.{table}({names}) SELECT {names} FROM newer.{table}")  # noqa: S608 - names of our own
        old.execute("PRAGMA main.user_version=1")
    newer.unlink()
    return activated


def user_version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return schema.user_version(connection)


def test_a_host_of_the_first_schema_is_migrated_and_finds_its_image(first_schema: Machine) -> None:
    path = first_schema.state / "flyd.db"
    devices = first_schema.fake.devices()
    for step in (first_schema.pool, first_schema.fetch, first_schema.unpack, first_schema.snapshot):
        step(dry_run=True)
        step()
    assert (user_version(path), user_version(Path(migration.copy_path(str(path), 1)))) == (schema.VERSION, 1)
    assert first_schema.fake.devices() == devices
    again = first_schema.everything()
    assert not any(
        step().changed for step in (first_schema.pool, first_schema.fetch, first_schema.unpack, first_schema.snapshot)
    )
    assert first_schema.everything() == again
    assert first_schema.left_over() == []


def test_a_host_of_the_first_schema_comes_up_after_a_reboot(first_schema: Machine) -> None:
    devices = set(first_schema.fake.devices())
    first_schema.fake.reboot()
    assert first_schema.pool().changed
    assert set(first_schema.fake.devices()) == devices
    first_schema.remove_all()
    first_schema.tear_down()
    assert first_schema.left_over() == []


def test_the_copy_of_a_database_brings_the_older_release_back(first_schema: Machine) -> None:
    path = first_schema.state / "flyd.db"
    first_schema.pool()
    Path(migration.copy_path(str(path), 1)).replace(path)
    assert user_version(path) == 1
    assert not first_schema.pool().changed


@pytest.mark.parametrize("head", [b"# Schema of the database: 1\n", b"# installed long ago\n"])
def test_a_program_of_an_older_release_is_a_warning_and_drift(activated: Machine, head: bytes) -> None:
    program = activated.root / host_program.PATH
    program.parent.mkdir(parents=True)
    program.write_bytes(head)
    for dry_run in (True, False):
        [warning] = [line for line in activated.pool(dry_run=dry_run).facts["warnings"] if str(program) in line]
        assert "run the role flyd.lite.prepare" in warning
    with activated.host(dry_run=True) as host:
        [found] = [str(one) for one in drift(host) if str(program) in str(one)]
    assert "run the role flyd.lite.prepare" in found
    program.write_bytes(b"# Schema of the database: %d\n" % schema.VERSION)
    with activated.host(dry_run=True) as host:
        assert not [one for one in drift(host) if str(program) in str(one)]
