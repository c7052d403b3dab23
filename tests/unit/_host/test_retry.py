"""Trying again: only what may pass, never for ever."""

from __future__ import annotations

import time
from typing import Any

import pytest

from module_utils._errors import BadInput, FlydError, Transient
from module_utils._host.retry import Retry


class Flaky:
    """Work that fails ``failures`` times before it succeeds."""

    def __init__(self, failures: int, error: FlydError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def transient() -> Transient:
    return Transient("reset", hint="")


def asked_to_wait(seconds: float) -> Transient:
    return Transient("slow down", hint="", retry_after_seconds=seconds)


def retry_that_sleeps(into: list[float], **options: Any) -> Retry:
    return Retry(sleep=into.append, **options)


def test_transient_errors_are_retried() -> None:
    slept: list[float] = []
    retry = retry_that_sleeps(slept)
    assert retry.call(Flaky(2, transient())) == "done"
    assert retry.repeated == 2
    assert retry.waited_seconds == pytest.approx(sum(slept))


def test_what_cannot_pass_is_tried_once() -> None:
    work = Flaky(9, BadInput("wrong", hint=""))
    with pytest.raises(BadInput):
        retry_that_sleeps([]).call(work)
    assert work.calls == 1


def test_the_last_error_is_raised_with_the_number_of_attempts() -> None:
    work, slept = Flaky(9, transient()), list[float]()
    with pytest.raises(Transient) as caught:
        retry_that_sleeps(slept, attempts=4).call(work)
    assert work.calls == 4
    assert caught.value.details["attempts"] == 4
    assert caught.value.details["waited_seconds"] == pytest.approx(sum(slept), abs=0.001)


def test_hosts_that_failed_together_do_not_try_again_together() -> None:
    assert len({Retry().pause_seconds(3, transient()) for _ in range(20)}) > 10


def test_waits_double_with_jitter_up_to_the_cap() -> None:
    slept: list[float] = []
    with pytest.raises(Transient):
        retry_that_sleeps(slept, attempts=6, base_seconds=1.0, cap_seconds=5.0).call(Flaky(9, transient()))
    for pause, step in zip(slept, (1.0, 2.0, 4.0, 5.0, 5.0)):
        assert 0 <= pause <= step


def test_what_the_other_side_asks_for_is_waited() -> None:
    slept: list[float] = []
    retry_that_sleeps(slept).call(Flaky(1, asked_to_wait(7)))
    assert slept == [7.0]


def test_the_deadline_ends_it_before_the_attempts_do() -> None:
    work = Flaky(99, transient())
    with pytest.raises(Transient):
        Retry(attempts=99, base_seconds=0.05, cap_seconds=0.05, deadline_seconds=0.2).call(work)
    assert 2 <= work.calls < 60  # waits are random: of 25 ms on average


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    begun = time.monotonic()
    with pytest.raises(Transient):
        Retry(deadline_seconds=0.5).call(Flaky(9, asked_to_wait(60)))
    assert time.monotonic() - begun < 5


def test_counts_add_up_over_several_calls() -> None:
    retry = retry_that_sleeps([])
    retry.call(Flaky(1, transient()))
    retry.call(Flaky(0, transient()))
    assert retry.repeated == 1
