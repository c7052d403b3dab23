# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit of the bytes per second of a download, by a clock that only waiting moves."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from module_utils._errors import Transient
from module_utils._host.retry import Retry
from module_utils._source.download import retry_policy
from module_utils._source.download.rate import Rate
from module_utils._source.download.retry_policy import Patience, StallDetector, Stopped
from module_utils._source.reuse import paged
from tests.unit._source.download.test_reuse import CONTENT, KIB, PAGE, RIGHT, SHARED, Elsewhere, fetched, here


class Clock:
    """Time that passes when somebody sleeps, or when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rate(clock: Clock, bytes_per_second: int = 1000) -> Rate:
    return Rate(bytes_per_second, clock=clock, sleep=clock.sleep)


def nothing() -> None:
    """Nobody stops the wait."""


def test_bytes_take_as_long_as_the_rate_says(clock: Clock) -> None:
    one = rate(clock)
    waited = [one.wait(count, nothing) for count in (100, 250, 1, 4000)]
    assert waited == pytest.approx([0.1, 0.25, 0.001, 4.0])
    assert clock.now == pytest.approx(100 + 4.351)


def test_without_a_limit_nothing_waits(clock: Clock) -> None:
    one = rate(clock, 0)
    assert (one.wait(1 << 40, nothing), one.chunk_bytes(1 << 20), one.seconds_for(1 << 40)) == (0, 1 << 20, 0)
    assert clock.now == 100


def test_what_was_slow_to_come_is_not_waited_for_again(clock: Clock) -> None:
    one = rate(clock)
    one.wait(100, nothing)
    clock.sleep(0.2)
    assert one.wait(250, nothing) == pytest.approx(0.05)


def test_a_pause_does_not_save_up_for_a_burst(clock: Clock) -> None:
    one = rate(clock)
    one.wait(100, nothing)
    clock.sleep(3600)
    assert one.wait(10_000, nothing) == pytest.approx(9.75)


def test_the_first_bytes_are_waited_for_too(clock: Clock) -> None:
    one = rate(clock)
    clock.sleep(10)
    assert one.wait(100, nothing) == pytest.approx(0.1)


def test_threads_share_it() -> None:
    """By the real clock: never faster, however many."""
    one, begun = Rate(1 << 20), time.monotonic()
    threads = [threading.Thread(target=lambda: [one.wait(4 * KIB, nothing) for _ in range(8)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun >= 8 * 8 * 4 * KIB / (1 << 20)


def test_who_waits_is_stopped(clock: Clock) -> None:
    stop = threading.Event()
    patience = Patience(Retry(), 60, rate=rate(clock, 1))
    stop.set()
    with pytest.raises(Stopped):
        patience.pace(1 << 20, stop)
    assert clock.now == 100


def test_the_deadline_ends_a_wait(clock: Clock) -> None:
    with pytest.raises(Transient, match="did not end within"):
        Patience(Retry(), -1, rate=rate(clock, 1)).pace(1 << 20, threading.Event())


@pytest.mark.parametrize(("bytes_per_second", "chunk_bytes"), [(1, 1024), (100_000, 25_000), (1 << 30, 256 * KIB)])
def test_pieces_are_small_where_the_rate_is(clock: Clock, bytes_per_second: int, chunk_bytes: int) -> None:
    assert rate(clock, bytes_per_second).chunk_bytes(256 * KIB) == chunk_bytes


def test_a_connection_that_waits_for_the_others_has_not_stalled(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(retry_policy, "time", SimpleNamespace(monotonic=clock))
    pace = StallDetector(1024, 30)
    for _ in range(4):
        pace.came(10)
        clock.sleep(29)
        pace.paused(29)
    clock.sleep(31)
    with pytest.raises(Transient):
        pace.came(10)


class Counted(Rate):
    """What was waited for, in bytes."""

    def __init__(self, clock: Clock, bytes_per_second: int = 1 << 20) -> None:
        super().__init__(bytes_per_second, clock=clock, sleep=clock.sleep)
        self.bytes = 0
        self._counting = threading.Lock()

    def wait(self, count: int, check: Callable[[], None]) -> float:
        with self._counting:
            self.bytes += count
        return super().wait(count, check)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    (tmp_path / "object").write_bytes(CONTENT)
    return Elsewhere(tmp_path / "object")


def test_pages_and_ranges_are_waited_for(elsewhere: Elsewhere, tmp_path: Path, clock: Clock) -> None:
    one = Counted(clock)
    copies = here(tmp_path, pages=(0, 8 * PAGE), ahead=(16 * PAGE, len(CONTENT) - PAGE))
    done = fetched(elsewhere, copies, tmp_path, rate=one)
    assert (done.sha256, one.bytes) == (RIGHT.hex, elsewhere.bytes_asked)
    assert done.reused.requests == 4


def test_bytes_that_come_again_are_waited_for_again(elsewhere: Elsewhere, tmp_path: Path, clock: Clock) -> None:
    one, lie = Counted(clock), bytes(SHARED[1] - SHARED[0])
    done = fetched(elsewhere, here(tmp_path, lie, claim=hashlib.sha256(lie).hexdigest()), tmp_path, RIGHT, one)
    assert (done.attempts, one.bytes) == (2, elsewhere.bytes_asked)


def test_a_search_that_is_slow_because_of_the_rate_is_not_given_up(
    elsewhere: Elsewhere, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged, "time", SimpleNamespace(monotonic=clock))
    pages = tuple(number * 2 * PAGE for number in range(10))
    done = fetched(elsewhere, here(tmp_path, pages=pages), tmp_path, rate=rate(clock, KIB))
    assert (done.sha256, done.reused.because) == (RIGHT.hex, None)
