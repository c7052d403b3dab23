# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock belongs to a process that is alive, or is free."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from module_utils._errors import Busy
from module_utils._host.processes.process import Identity, own_identity
from module_utils._lifecycle.store.lock import dead_locks, held
from module_utils._lifecycle.store.store import Store, open_store
from tests.unit._lifecycle.disk import at_once, beside, gone_pid, in_process, kill_myself

NAME = "image images/redis_latest.tar"
ME = own_identity()


def holders(store: Store) -> list[tuple[object, ...]]:
    return store.rows("SELECT name, boot_id, pid, started FROM _busy")


def row_of(identity: Identity) -> tuple[object, ...]:
    return (NAME, identity.boot_id, identity.pid, identity.started)


def leave_lock(store: Store, identity: Identity) -> None:
    """The row that a run of ``identity`` has left, or holds."""
    with store.transaction():
        store.rows("INSERT INTO _busy VALUES (?, ?, ?, ?)", *row_of(identity))


def another(path: Path) -> Store:
    return open_store(str(path), writable=True, busy_seconds=10)


def test_a_lock_names_its_holder_and_is_gone_afterwards(store: Store) -> None:
    with held(store, NAME, timeout_seconds=0):
        assert holders(store) == [row_of(own_identity())]
    assert holders(store) == []


def test_a_lock_is_gone_after_an_error_which_passes_unchanged(store: Store) -> None:
    def fail() -> None:
        with held(store, NAME, timeout_seconds=0):
            raise KeyError("the first error")

    with pytest.raises(KeyError, match="the first error"):
        fail()
    assert holders(store) == []


def test_a_lock_that_cannot_be_given_back_does_not_hide_what_went_wrong(store_path: Path, store: Store) -> None:
    writer = sqlite3.connect(store_path, isolation_level=None)

    def fail() -> None:
        with held(store, NAME, timeout_seconds=0):
            writer.execute("BEGIN IMMEDIATE")
            raise KeyError("the first error")

    with pytest.raises(KeyError, match="the first error"):
        fail()
    writer.close()
    assert holders(store) == [row_of(ME)]


@pytest.mark.parametrize("how", ["the disk does not let go of it", "a signal comes before it is held"])
def test_a_process_never_waits_for_itself(store_path: Path, store: Store, how: str) -> None:
    if how == "a signal comes before it is held":
        leave_lock(store, ME)
    else:
        writer = sqlite3.connect(store_path, isolation_level=None)
        with pytest.raises(Busy), held(store, NAME, timeout_seconds=0):
            writer.execute("BEGIN IMMEDIATE")
        writer.close()
    assert holders(store) == [row_of(ME)]
    with held(store, NAME, timeout_seconds=0):
        assert holders(store) == [row_of(ME)]
    assert holders(store) == []


def test_a_lock_that_is_held_is_not_taken_twice_by_the_same_process(store_path: Path, store: Store) -> None:
    with held(store, NAME, timeout_seconds=0):
        with pytest.raises(Busy, match=rf"is held by process {os.getpid()};"):
            held(another(store_path), NAME, timeout_seconds=0).__enter__()
        assert holders(store) == [row_of(ME)]
    assert holders(store) == []


def test_locks_of_different_names_do_not_wait_for_each_other(store: Store) -> None:
    with held(store, NAME, timeout_seconds=0), held(store, "pool pool", timeout_seconds=0):
        assert len(holders(store)) == 2
    assert holders(store) == []


@pytest.mark.parametrize(
    "gone",
    [
        ME._replace(boot_id="00000000-0000-4000-8000-000000000000"),
        ME._replace(started=ME.started - 1),
        ME._replace(pid=gone_pid()),
    ],
    ids=["of another boot", "whose pid was given again", "without a process"],
)
def test_the_lock_of_a_holder_that_is_gone_is_taken_over_at_once(store: Store, gone: Identity) -> None:
    leave_lock(store, gone)
    with held(store, NAME, timeout_seconds=0):
        assert holders(store) == [row_of(own_identity())]
    assert holders(store) == []


def test_locks_of_the_dead_go_with_the_next_lock_whatever_its_name(store: Store) -> None:
    leave_lock(store, ME._replace(pid=gone_pid()))
    assert dead_locks(store) == [NAME]
    with held(store, f"not {NAME}", timeout_seconds=0):
        assert [name for name, *_holder in holders(store)] == [f"not {NAME}"]
        assert dead_locks(store) == []


def test_the_lock_of_a_killed_process_is_taken_over_before_it_is_reaped(store_path: Path, store: Store) -> None:
    pid = os.fork()
    if pid == 0:
        with held(another(store_path), NAME, timeout_seconds=0):
            kill_myself()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    [(_, _, holder, _)] = holders(store)
    assert holder == pid
    with held(store, NAME, timeout_seconds=0):
        pass
    os.waitpid(pid, 0)


def test_a_wait_that_times_out_names_the_holder(store_path: Path, store: Store) -> None:
    kept = contextlib.ExitStack()
    with beside(lambda: kept.enter_context(held(another(store_path), NAME, timeout_seconds=0))) as pid:
        before = holders(store)
        begun = time.monotonic()
        with pytest.raises(Busy, match=rf"{NAME} is held by process {pid}; waited 0.1 s") as caught:
            held(store, NAME, timeout_seconds=0.1).__enter__()
        assert time.monotonic() - begun >= 0.1
        assert holders(store) == before
    assert caught.value.retryable
    assert caught.value.details["pid"] == pid


def test_who_waits_gets_the_lock_when_the_holder_ends(store_path: Path, store: Store) -> None:
    def hold_for_a_moment() -> None:
        with held(another(store_path), NAME, timeout_seconds=0):
            (store_path.parent / "taken").touch()
            time.sleep(0.2)

    pid = os.fork()
    if pid == 0:
        hold_for_a_moment()
        os._exit(0)
    while not (store_path.parent / "taken").exists():
        time.sleep(0.005)
    with held(store, NAME, timeout_seconds=10):
        assert holders(store) == [row_of(own_identity())]
    assert os.waitpid(pid, 0)[1] == 0


def test_processes_that_contend_for_a_dead_ones_lock_come_one_after_the_other(store_path: Path, store: Store) -> None:
    leave_lock(store, ME._replace(pid=gone_pid()))
    counter = store_path.parent / "counter"
    counter.write_text("0")

    def count() -> None:
        mine = another(store_path)
        for _ in range(5):
            with held(mine, NAME, timeout_seconds=60):
                seen = int(counter.read_text())
                time.sleep(0.002)
                counter.write_text(str(seen + 1))

    assert at_once(*[count] * 4) == [0] * 4
    assert counter.read_text() == "20"
    assert holders(store) == []


def test_a_child_does_not_inherit_the_lock(store_path: Path, store: Store) -> None:
    def child() -> None:
        with pytest.raises(Busy, match=f"process {os.getppid()};"):
            held(another(store_path), NAME, timeout_seconds=0).__enter__()

    with held(store, NAME, timeout_seconds=0):
        assert in_process(child) == 0
        assert holders(store) == [row_of(own_identity())]


def test_a_child_that_leaves_the_block_does_not_give_the_lock_back(store_path: Path, store: Store) -> None:
    lock = held(store, NAME, timeout_seconds=0)
    lock.__enter__()
    assert in_process(lambda: lock.__exit__(None, None, None)) == 0
    assert holders(store) == [row_of(own_identity())]
    lock.__exit__(None, None, None)
    assert holders(store) == []


def test_a_lock_that_another_program_has_by_now_is_not_given_back(store: Store) -> None:
    other = ME._replace(started=ME.started + 1)
    with held(store, NAME, timeout_seconds=0):
        with store.transaction():
            store.rows("DELETE FROM _busy")
        leave_lock(store, other)
    assert holders(store) == [row_of(other)]


def test_who_looks_while_another_takes_the_lock_sees_it_taken(store_path: Path, store: Store) -> None:
    def take_it_slowly() -> None:
        taker = sqlite3.connect(store_path, isolation_level=None)
        taker.execute("BEGIN IMMEDIATE")
        taker.execute("INSERT INTO _busy VALUES (?, ?, ?, ?)", row_of(own_identity()))
        os.write(write_end, b"!")
        time.sleep(0.3)  # long enough for the other to look
        taker.execute("COMMIT")
        signal.pause()

    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        take_it_slowly()
    try:
        os.read(read_end, 1)
        mine = another(store_path)
        with pytest.raises(Busy, match=f"process {pid};"):
            held(mine, NAME, timeout_seconds=0).__enter__()
        mine.close()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_lock_that_another_program_takes_by_its_name_alone_is_respected_and_is_never_taken_over(store: Store) -> None:
    with store.transaction():
        store.rows("INSERT INTO _busy(name) VALUES ('x')")
    with pytest.raises(Busy, match="another program has inserted") as caught, held(store, "x", timeout_seconds=0.05):
        pass
    assert "DELETE FROM _busy WHERE name=" in caught.value.hint
    assert dead_locks(store) == []
    with store.transaction():
        store.rows("DELETE FROM _busy WHERE name='x'")
    with held(store, "x", timeout_seconds=0.05):
        pass


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("image images/redis.tar", "^image images/redis.tar is held by"),
        ("pool pool", "^the pool 'pool' is held by"),
        ("pool setup fleet", "^the setup of the pool 'fleet' is held by"),
    ],
)
def test_what_is_locked_is_named_without_a_doubled_word(store_path: Path, store: Store, name: str, shown: str) -> None:
    with held(store, name, timeout_seconds=0), pytest.raises(Busy, match=shown):
        held(another(store_path), name, timeout_seconds=0).__enter__()
