# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a copy of the database where each pool is, at the end of a run that has changed it.

Invariant: a copy is never newer than the database, and a run never fails because a copy cannot be written. The copy is stored with the pool: beside
its files in the state directory, else in the reserved start of its data (head.py), as the operator's device may be all that is left.
"""

from __future__ import annotations

import os

from ..._errors import FlydError
from ..._thin.pool.head import read_head, write_head
from ..run import Run
from ..settings import Settings
from ..store.copies import part_of, write_copy
from ..store.records import PoolRecord
from ..unexpected import as_flyd_error

NAME = "flyd.db"


def copy_beside(settings: Settings, pool: PoolRecord) -> str:
    """Where the copy of the database lies with a pool whose files are in the state directory; empty for any other pool."""
    return "" if pool.has_reserved_start else settings.path("pools", pool.id, NAME)


def copies_beside(settings: Settings, pool: PoolRecord) -> list[str]:
    """The same, with what a killed run may have left of one."""
    path = copy_beside(settings, pool) or _staged(settings, pool)
    return [path, part_of(path)]


def _staged(settings: Settings, pool: PoolRecord) -> str:
    """The file of the state directory from which a copy goes to the reserved start of a device."""
    return settings.path(f"{NAME}.{pool.id}")


def keep_copies(host: Run) -> None:
    """Write the database to every pool that can be reached; what fails is logged, and is drift until it succeeds."""
    if not host.store.has_changed:
        return
    try:
        pools = host.store.all(PoolRecord, "formatted")
        with (
            host.store.transaction()
        ):  # one run at a time, and no change in between: an older copy never replaces a newer one
            for pool in pools:
                _keep(host, pool)
    except FlydError as error:
        _failed(host, "", error)


def _keep(host: Run, pool: PoolRecord) -> None:
    try:
        path = copy_beside(host.settings, pool)
        if path:
            write_copy(host.store.path, path)
        else:
            staged = _staged(host.settings, pool)
            write_copy(host.store.path, staged)
            with open(staged, "rb") as file:
                write_head(pool.data, file.read())
            os.unlink(staged)
    except Exception as error:  # noqa: BLE001 - whatever it is: what was asked for is done, and the copy is drift until it succeeds
        _failed(host, pool.name, as_flyd_error(error, [host]))


def _failed(host: Run, pool: str, error: FlydError) -> None:
    host.log.write("not copied", pool=pool, error_kind=error.kind.value, error=str(error))


def has_copy(settings: Settings, pool: PoolRecord) -> bool:
    """Whether a copy of the database lies with the pool. Raises nothing for a device that cannot be read."""
    path = copy_beside(settings, pool)
    try:
        return os.path.exists(path) if path else read_head(pool.data) is not None
    except (FlydError, OSError):
        return False
