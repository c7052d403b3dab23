"""How long faults are borne: everything ends."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from module_utils._errors import BadInput, Transient
from module_utils._host.retry import Retry
from module_utils._source.download.retry_policy import Patience, StallDetector, Stopped


def quick(waits: list[float], **how: Any) -> Retry:
    return Retry(sleep=waits.append, **{"base_seconds": 0.1, "cap_seconds": 1.0, "deadline_seconds": 10.0, **how})


def test_a_fault_that_passes_is_waited_for_and_counted() -> None:
    waits: list[float] = []
    retry = quick(waits)
    patience = Patience(retry, 60)
    patience.bear(Transient("busy", hint="wait"), 1, time.monotonic(), threading.Event())
    assert patience.repeated == retry.repeated == 1
    assert patience.waited_seconds == retry.waited_seconds == pytest.approx(sum(waits))
    assert 0 <= sum(waits) <= 0.1


def test_a_fault_that_does_not_pass_is_raised_at_once() -> None:
    waits: list[float] = []
    with pytest.raises(BadInput):
        Patience(quick(waits), 60).bear(BadInput("wrong", hint="fix"), 1, time.monotonic(), threading.Event())
    assert waits == []


def test_the_last_attempt_is_not_followed_by_a_wait() -> None:
    waits: list[float] = []
    with pytest.raises(Transient) as caught:
        Patience(quick(waits, attempts=3), 60).bear(Transient("busy", hint=""), 3, time.monotonic(), threading.Event())
    assert (waits, caught.value.details["attempts"]) == ([], 3)


def test_the_error_that_ends_it_reports_how_long_was_waited() -> None:
    waits: list[float] = []
    patience = Patience(quick(waits, attempts=2), 60)
    patience.bear(Transient("busy", hint=""), 1, time.monotonic(), threading.Event())
    with pytest.raises(Transient) as caught:
        patience.bear(Transient("busy", hint=""), 2, time.monotonic(), threading.Event())
    assert caught.value.details == {"attempts": 2, "waited_seconds": pytest.approx(sum(waits), abs=0.001)}


def test_no_wait_goes_beyond_the_deadline_of_the_whole_download() -> None:
    waits: list[float] = []
    asked = Transient("busy", hint="", retry_after_seconds=5)
    with pytest.raises(Transient):
        Patience(quick(waits), 4).bear(asked, 1, time.monotonic(), threading.Event())
    assert waits == []


def test_a_wait_ends_when_another_worker_has_failed() -> None:
    stop, waits = threading.Event(), list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        stop.set()

    with pytest.raises(Stopped):
        Patience(Retry(sleep=sleep), 600).bear(
            Transient("busy", hint="", retry_after_seconds=60), 1, time.monotonic(), stop
        )
    assert len(waits) == 1
    assert waits[0] < 1


def test_time_that_is_up_is_retryable() -> None:
    with pytest.raises(Transient, match=r"within 0 s"):
        Patience(Retry(), 0).check(threading.Event())


def test_a_trickle_is_distinguished_from_a_slow_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("module_utils._source.download.retry_policy.time.monotonic", lambda: now[0])
    pace = StallDetector(least_bytes_per_second=10, window_seconds=5)
    for _ in range(20):  # 10 bytes a second are enough, window after window
        now[0] += 1
        pace.came(10)
    for _ in range(4):
        now[0] += 1
        pace.came(9)
    now[0] += 1
    with pytest.raises(Transient, match="only 45 bytes came in 5 s"):
        pace.came(9)
