# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of the database whose writer is killed leaves one file, which the next copy replaces."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
from pathlib import Path

import pytest

from module_utils._lifecycle.store.copies import part_of, write_copy

ROWS = 1000
LIMIT = 64 * 1024  # bytes: well below what ROWS take


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "flyd.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE one(text)")
        connection.executemany("INSERT INTO one VALUES(?)", [("x" * 500,)] * ROWS)
        connection.commit()
    return path


def killed_while_it_writes(database: Path, target: Path) -> None:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
        with contextlib.suppress(BaseException):
            write_copy(str(database), str(target))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), "the writer was not killed"


def test_a_killed_writer_leaves_its_part_alone_and_the_next_copy_is_whole(database: Path) -> None:
    target = database.with_name("copy")
    killed_while_it_writes(database, target)
    assert {path.name for path in database.parent.iterdir()} == {"flyd.db", os.path.basename(part_of(str(target)))}
    write_copy(str(database), str(target))
    assert {path.name for path in database.parent.iterdir()} == {"flyd.db", "copy"}
    with contextlib.closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT count(*) FROM one").fetchone() == (ROWS,)
