# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A transient error at any step of any transition is retried; what cannot pass is not; and everything ends."""

from __future__ import annotations

import functools
import gc
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import CommandFailed, ErrorKind, FlydError, Transient
from module_utils._host.processes.command import Runner
from module_utils._host.processes.crash import VARIABLE
from module_utils._host.retry import Retry
from module_utils._lifecycle.attempts import DEADLINE_SECONDS, RETRIED, Retried, attempted, may_retry
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.prune.options import PruneOptions
from module_utils._lifecycle.prune.prune import prune
from module_utils._lifecycle.report.info import Subject, inform
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.store.records import Operation, State
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.faults.test_crashes import POINTS
from tests.unit._lifecycle.machine import Machine

ROOT = Path(__file__).parents[4]
KINDS = {cls.kind: cls for cls in FlydError.__subclasses__()}
LATE = functools.partial(CommandFailed.late, "`dmsetup`", 120, "and was killed")
BROKEN = functools.partial(Transient, "the connection broke", hint="run again")
REFUSED = functools.partial(CommandFailed, "`dmsetup` ended with 1", hint="read what it said")


class Faults:
    """Raises ``error()`` at the crash point ``label``, the first ``times`` times that a run comes there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, label: str, error: Callable[[], FlydError], times: int) -> None:
        self.raised = 0
        self._error, self._times, self._kill = error, times, os.kill
        monkeypatch.setenv(VARIABLE, label)
        monkeypatch.setattr(os, "kill", self)

    def __call__(self, pid: int, number: int) -> None:
        if (pid, number) != (os.getpid(), signal.SIGKILL):
            self._kill(pid, number)
        elif self.raised < self._times:
            self.raised += 1
            raise self._error()


Inject = Callable[..., Faults]


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Inject:
    return lambda label, error=BROKEN, times=1: Faults(monkeypatch, label, error, times)


def at(stages: Stages, stage: str) -> Machine:
    if stage not in ("virgin", "pooled", "fetched"):
        needs_root()
    machine = stages.at(stage)
    machine.retries = 4
    return machine


def disturbed(stages: Stages, inject: Inject, stage: str, run: str, label: str) -> tuple[Machine, Outcome]:
    """A run from ``stage`` with an error at ``label`` that passes, and the host after it."""
    needs_root()
    machine = at(stages, stage)
    faults = inject(label, LATE)
    outcome: Outcome = getattr(machine, run)()
    assert faults.raised == 1
    return machine, outcome


# A hidden base that is made is given up, not tried again: the image's base is made fresh.
POINTS_OF_HIDDEN = [point for point in POINTS if point[0] == "shared"]
# That of prune lies between two removals, each of which is retried.
POINTS_RETRIED = [point for point in POINTS if point[2] != "prune:removed" and point not in POINTS_OF_HIDDEN]


@pytest.mark.parametrize(("stage", "run", "label"), POINTS_RETRIED, ids=lambda value: value)
def test_an_error_that_passes_is_retried_at_every_step_and_leaves_nothing(
    stages: Stages, inject: Inject, stage: str, run: str, label: str
) -> None:
    machine, outcome = disturbed(stages, inject, stage, run, label)
    assert (outcome.changed, outcome.facts["attempts"], len(machine.waits)) == (True, 2, 1)
    assert machine.left_over() == []
    [line] = [line for line in machine.log() if line["event"] == "retry"]
    assert (line["what"], line["attempt"], line["attempts"]) == ("transition", 1, 5)
    assert (line["error_kind"], "did not end within 120 s" in line["error"]) == ("command_failed", True)


@pytest.mark.parametrize(("stage", "run", "label"), POINTS_OF_HIDDEN, ids=lambda value: value)
def test_an_error_at_a_hidden_base_fails_nothing(
    stages: Stages, inject: Inject, stage: str, run: str, label: str
) -> None:
    machine, outcome = disturbed(stages, inject, stage, run, label)
    assert outcome.changed
    assert machine.left_over() == []


def test_a_hidden_base_that_cannot_be_removed_is_a_warning_and_left_for_the_next_process(
    stages: Stages, inject: Inject
) -> None:
    needs_root()
    machine = at(stages, "unneeded")
    faults = inject("remove:hidden", LATE, times=99)
    warnings = list[str]()

    def pruned(host: Run) -> Outcome:
        outcome = prune(host, PruneOptions(keep=0))
        warnings.extend(host.warnings)
        return outcome

    machine.run(pruned)
    assert (faults.raised, len(machine.waits)) == (5, 4)
    [warning] = warnings
    assert "nothing needs" in warning
    assert "(attempt 5 of 5)" in warning
    assert [one.kind.value for one in machine.records(Operation)] == ["remove"]


def test_what_an_attempt_has_removed_before_it_failed_is_in_the_result(stages: Stages, inject: Inject) -> None:
    machine = at(stages, "activated")
    inject("remove:planned")
    outcome = machine.remove_snapshot()
    assert (len(outcome.facts["removed"]), outcome.changed, outcome.facts.get("warnings", [])) == (1, True, [])


@pytest.mark.parametrize(
    ("stage", "run", "label"), [("virgin", "pool", "pool:activated"), ("pooled", "fetch", "fetch:downloaded")]
)
def test_an_error_that_cannot_pass_is_tried_once(
    stages: Stages, inject: Inject, stage: str, run: str, label: str
) -> None:
    machine = at(stages, stage)
    faults = inject(label, REFUSED)
    with pytest.raises(CommandFailed) as caught:
        getattr(machine, run)()
    assert (faults.raised, caught.value.details["attempts"], machine.waits) == (1, 1, [])
    assert "attempt" not in caught.value.msg


def test_an_error_that_stays_is_raised_after_all_attempts_and_nothing_is_left(stages: Stages, inject: Inject) -> None:
    needs_root()
    machine = at(stages, "fetched")
    faults = inject("unpack:formatted", LATE, times=99)
    with pytest.raises(CommandFailed, match=r"\(attempt 5 of 5\)$") as caught:
        machine.unpack()
    assert (faults.raised, caught.value.details["attempts"], len(machine.waits)) == (5, 5, 4)
    assert caught.value.details["waited_seconds"] == pytest.approx(sum(machine.waits), abs=1e-3)
    assert machine.left_over() == []


def test_no_lock_is_held_between_attempts(stages: Stages, inject: Inject, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = at(stages, "pooled")
    inject("fetch:downloaded")
    seen: list[Any] = []

    class Looking(list[float]):
        def append(self, seconds: float) -> None:
            with machine.host(dry_run=True) as host:
                seen.append(host.store.rows("SELECT name FROM _busy"))

    monkeypatch.setattr(machine, "waits", Looking())
    machine.fetch()
    assert seen == [[]]


@pytest.mark.parametrize("kind", list(ErrorKind), ids=lambda kind: kind.value)
def test_whether_a_kind_is_retried_is_what_the_guide_says(stages: Stages, inject: Inject, kind: ErrorKind) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+)[^|]* \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    assert rows[kind.value] == {"yes": "yes", "marked": "some", "no": "no"}[RETRIED[kind].value]
    machine = at(stages, "pooled")
    for retryable in (True, False):
        assert may_retry(KINDS[kind]("x", hint="y", retryable=retryable)) is (
            retryable and RETRIED[kind] is not Retried.NO
        )
    faults = inject("fetch:planned", lambda: KINDS[kind]("x", hint="y", retryable=True), times=99)
    with pytest.raises(KINDS[kind]):
        machine.fetch()
    assert faults.raised == (1 if RETRIED[kind] is Retried.NO else 5)


def test_every_kind_is_decided_on() -> None:
    assert set(RETRIED) == set(ErrorKind)


def test_no_attempt_begins_after_the_deadline(fetched: Machine) -> None:
    needs_root()
    fetched.retries = 99
    clock, begun = [0.0], list[float]()

    def work() -> Outcome:
        begun.append(clock[0])
        clock[0] += 50.0
        raise LATE()  # noqa: RSE102 - a partial, not a class

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    with fetched.host() as host:
        host.retry.clock, host.retry.sleep = (lambda: clock[0]), sleep
        with pytest.raises(CommandFailed):
            attempted(host, work, transition="unpack")
    assert 3 <= len(begun) <= 4, "the first failure was after 50 s"
    assert begun[-1] <= 50.0 + DEADLINE_SECONDS


def test_a_program_that_is_killed_for_its_time_is_run_twice() -> None:
    clock = [0.0]

    def work() -> None:
        clock[0] += 120.0
        raise LATE()  # noqa: RSE102 - a partial, not a class

    retry = Retry(5, sleep=lambda seconds: None, clock=lambda: clock[0])
    with pytest.raises(CommandFailed) as caught:
        retry.call(work, may_retry=may_retry, deadline_seconds=DEADLINE_SECONDS)
    assert caught.value.details["attempts"] == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the killed program's pipes go with the exception
@pytest.mark.parametrize(("what", "stuck"), [("pools", 1), ("drift", 1), ("pools", 2), ("drift", 2)])
def test_a_report_asks_again_when_a_program_does_not_end_and_reports_when_it_never_does(
    pooled: Machine, what: str, stuck: int
) -> None:
    pooled.retries = 1
    for _ in range(stuck):
        pooled.fake.stick("dmsetup status --noflush pool")
    with pooled.host(dry_run=True) as host:
        host.dm = pooled.fake.device_mapper(Runner(timeout_seconds=4.0, search=pooled.fake.runner.search))
        facts = inform(host, frozenset([Subject(what)])).facts
    assert (facts["attempts"], len(pooled.waits)) == (2, 1)
    assert facts["waited_seconds"] == pytest.approx(sum(pooled.waits), abs=1e-3)
    told = "'status': 'unknown'" if what == "pools" else "did not end within 4 s and was killed (attempt 2 of 2)"
    assert (told in str(facts[what])) is (stuck == 2), facts
    gc.collect()


def test_check_mode_retries_and_ends(pooled: Machine) -> None:
    pooled.retries = 2
    pooled.s3.fail(503, times=99)
    with pytest.raises(Transient):
        pooled.fetch(dry_run=True)
    assert len(pooled.waits) == 2
    assert not any(line["event"] == "retry" for line in pooled.log())


def test_check_mode_that_is_retried_predicts_the_same(pooled: Machine) -> None:
    pooled.retries = 2
    pooled.s3.fail(503, times=2)
    outcome = pooled.fetch(dry_run=True)
    assert (outcome.changed, outcome.after["state"]) == (True, State.FETCHED.value)


def test_a_request_that_always_fails_is_tried_no_more_often_than_the_options_say(pooled: Machine) -> None:
    pooled.retries = 3
    pooled.s3.fail(503, times=99)
    with pytest.raises(Transient, match=r"\(attempt 4 of 4\)"):
        pooled.fetch()
    assert len(pooled.s3.requests()) <= 1 + 4, (
        "one without boto3, then four: retries of requests and transitions do not multiply"
    )


def test_retried_requests_count_as_attempts(pooled: Machine) -> None:
    pooled.retries = 3
    pooled.s3.fail(503, times=3)
    outcome = pooled.fetch()
    assert outcome.facts["attempts"] == 4
    assert outcome.facts["waited_seconds"] == pytest.approx(sum(pooled.waits), abs=1e-3)


def test_an_unchanged_run_counts_no_attempt(activated: Machine) -> None:
    runs = (activated.pool, activated.fetch, activated.unpack, activated.snapshot)
    assert [run().facts["attempts"] for run in runs] == [0] * 4
