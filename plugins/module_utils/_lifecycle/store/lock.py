# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that name their holder: rows of ``_busy``.

Invariant: a lock belongs to a live process, or is free: a row whose holder is gone (another boot, no such pid, another
start time) is dropped inside the transaction that takes a lock. No clock decides who owns a lock. A row of this process that it no longer
holds (the row could not be deleted, or a signal interrupted that) is free, too: a process never waits for itself.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Callable

from ..._errors import Busy, FlydError
from ..._host.processes.process import Identity, own_identity
from .lock_names import lock_text
from .store import Store

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0

# What this process holds: the store's path and the lock's name.
_held_here: set[tuple[str, str]] = set()


@contextlib.contextmanager
def held(
    store: Store, name: str, *, timeout_seconds: float, describe: Callable[[Identity], str] = str
) -> Iterator[None]:
    """Hold the lock ``name`` while inside; raises ``Busy`` when it is not free in time, with the holder as ``describe`` names it."""
    _acquire(store, name, timeout_seconds, describe)
    try:
        _held_here.add((store.path, name))
        yield
    except BaseException:
        # What went wrong inside matters more than a lock that is free anyway as soon as this process ends.
        with contextlib.suppress(FlydError):
            _release(store, name)
        raise
    _release(store, name)


def _acquire(store: Store, name: str, timeout_seconds: float, describe: Callable[[Identity], str]) -> None:
    until = time.monotonic() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        holder = _try(store, name)
        if holder is None:
            return
        if time.monotonic() >= until:
            if not holder.boot_id:
                raise _held_by_name(store, name, timeout_seconds)
            raise Busy(
                f"{lock_text(name)} is held by {describe(holder)}; waited {timeout_seconds:g} s (lock_timeout)",
                hint="wait for it, or raise lock_timeout: a module keeps running when its play was interrupted (Ctrl-C, a lost connection); "
                f"to stop it, run `kill {holder.pid}` on the host: its work is then undone or resumed",
                pid=holder.pid,
            )
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - waiters should not wake together
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _try(store: Store, name: str) -> Identity | None:
    """Take the lock, or say who has it. Locks of the dead go at the same time, whatever their names."""
    with store.transaction():
        for dead in dead_locks(store):
            store.rows("DELETE FROM _busy WHERE name=?", dead)
        rows = store.rows("SELECT boot_id, pid, started FROM _busy WHERE name=?", name)
        me = own_identity()
        if rows:
            holder = Identity(*rows[0])
            return None if holder == me and (store.path, name) not in _held_here else holder
        store.rows(
            "INSERT INTO _busy(name, boot_id, pid, started) VALUES (?, ?, ?, ?)",
            name,
            me.boot_id,
            me.pid,
            me.started,
        )
    return None


def dead_locks(store: Store) -> list[str]:
    """The names of the locks whose holders are gone."""
    rows = store.rows("SELECT name, boot_id, pid, started FROM _busy")
    return [name for name, *holder in rows if is_dead(Identity(*holder))]


def is_dead(holder: Identity) -> bool:
    """Whether a lock's holder is gone. A row of a name alone, as other programs insert one, is held until they delete it."""
    return bool(holder.boot_id) and not holder.is_alive()


def _held_by_name(store: Store, name: str, timeout_seconds: float) -> Busy:
    import shlex  # late: it is for this hint alone

    statement = "DELETE FROM _busy WHERE name='{}'".format(name.replace("'", "''"))  # noqa: S608 - for an operator to run
    return Busy(
        f"{name} is held by a row of _busy that another program has inserted and that names no process; waited {timeout_seconds:g} s",
        hint=f"let that program finish; if it is gone: sqlite3 {store.path} {shlex.quote(statement)}",
    )


def _release(store: Store, name: str) -> None:
    _held_here.discard((store.path, name))
    me = own_identity()
    with store.transaction():
        store.rows(
            "DELETE FROM _busy WHERE name=? AND boot_id=? AND pid=? AND started=?", name, me.boot_id, me.pid, me.started
        )
