# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of SQLite as ours, by what they say: its Python module has one class for most of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from ..._errors import Busy, CommandFailed, CorruptStore, FlydError, NoSpace, Unsupported


@contextlib.contextmanager
def store_errors(path: str) -> Iterator[None]:
    """Turn errors of SQLite into ours."""
    try:
        yield
    except FlydError:
        raise
    except sqlite3.DatabaseError as error:
        raise _from_sqlite(error, path) from error


def _from_sqlite(error: sqlite3.DatabaseError, path: str) -> FlydError:
    said = str(error)
    if "locked" in said or "busy" in said:
        return Busy(
            f"the store {path} stayed locked by another program",
            hint=f"see who holds it (`fuser -v {path}`), or raise lock_timeout",
        )
    if "full" in said:
        return NoSpace(
            f"the store {path} cannot grow: its disk is full",
            hint="make room on that file system, then run again; nothing is lost",
        )
    if "readonly" in said or "unable to open" in said:
        return Unsupported(
            f"the store {path} cannot be written or opened: {said}",
            hint="check the mount options, owner and mode of its directory",
        )
    if "disk I/O" in said:
        return CommandFailed(
            f"the disk below the store {path} fails: {said}",
            hint="see `dmesg`; the change was not recorded, and the next run settles what it had begun: run again once the disk is sound",
        )
    return CorruptStore(
        f"the store {path} is damaged: {said}",
        hint=f"look with `sqlite3 {path} 'PRAGMA integrity_check'`; then move the file away (`mv {path} {path}.damaged`) and make it again from the "
        "copy that lies with the pool (flyd_pool, state: recovered), or restore it from a backup",
    )
