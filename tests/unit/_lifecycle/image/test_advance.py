# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Order, idempotence, check mode and concurrency: the same for every arrow."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from module_utils._errors import Busy, FlydError, OutOfOrder
from module_utils._lifecycle.fetch.progress import Progress, progress_path
from module_utils._lifecycle.findings import RecoveryKind
from module_utils._lifecycle.store.records import OperationKind, Snapshot, State, Volume
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.disk import at_once, beside
from tests.unit._lifecycle.machine import KEY, Machine
from tests.unit._lifecycle.programs import run_for_real

ARROWS = {"virgin": "pool", "pooled": "fetch", "fetched": "unpack", "unpacked": "snapshot"}
STAGES = [*ARROWS, "activated"]


def state(machine: Machine) -> State:
    image = machine.image()
    return State.NEW if image is None else image.state


def test_the_arrows_lead_from_new_to_activated(virgin: Machine) -> None:
    needs_root()
    assert virgin.pool().changed
    seen = [state(virgin)]
    for arrow in (virgin.fetch, virgin.unpack, virgin.snapshot):
        outcome = arrow()
        assert (outcome.before["state"], outcome.after["state"]) == (seen[-1].value, state(virgin).value)
        seen.append(state(virgin))
    assert seen == list(State)
    assert virgin.left_over() == []


@pytest.mark.parametrize(("arrow", "first"), [("unpack", "flyd_fetch"), ("snapshot", "flyd_unpack")])
def test_a_transition_out_of_order_is_refused_and_the_error_names_what_comes_first(
    pooled: Machine, arrow: str, first: str
) -> None:
    with pytest.raises(OutOfOrder, match=f"^while {arrow} of {KEY}: {KEY} is new, not yet") as caught:
        getattr(pooled, arrow)()
    assert f"run {first} for this key" in caught.value.hint
    assert pooled.left_over() == []


@pytest.mark.parametrize("stage", STAGES[1:])
def test_an_arrow_that_was_taken_is_not_taken_again_and_nothing_is_written(stages: Stages, stage: str) -> None:
    if stage in STAGES[3:]:
        needs_root()
    machine = stages.at(stage)
    before = machine.everything()
    taken = [arrow for at, arrow in ARROWS.items() if STAGES.index(at) < STAGES.index(stage)]
    assert [getattr(machine, arrow)().changed for arrow in taken] == [False] * len(taken)
    assert machine.everything() == before
    assert machine.s3.requests() == [f"HEAD {KEY}"] * ("fetch" in taken), "no body of an object"


def test_programs_in_separate_processes_answer_the_same(
    virgin: Machine, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()

    def told(machine: Machine) -> list[str]:
        lines = []
        for arrow in ARROWS.values():
            getattr(machine, arrow)()
            lines += machine.ran
        assert machine.left_over() == []
        return [re.sub(r"[0-9A-Z]{26}|[0-9]{10,}", "…", line) for line in lines]

    quickly = told(virgin)
    monkeypatch.setattr("module_utils._host.processes.command._run", run_for_real)
    assert told(stages.at("virgin")) == quickly


# Check mode


@pytest.mark.parametrize("stage", STAGES)
def test_check_mode_predicts_what_the_real_run_reports_and_writes_nothing(stages: Stages, stage: str) -> None:
    if stage in STAGES[3:]:
        needs_root()
    machine = stages.at(stage)
    before = machine.everything()
    predicted = [getattr(machine, arrow)(dry_run=True).changed for arrow in ARROWS.values()]
    assert machine.everything() == before
    assert predicted == [at in STAGES[STAGES.index(stage) :] for at in ARROWS]
    needs_root()
    assert [getattr(machine, arrow)().changed for arrow in ARROWS.values()] == predicted


def test_check_mode_on_a_virgin_host_reports_the_way_of_the_image(virgin: Machine) -> None:
    fetch, unpack, snapshot = virgin.fetch(dry_run=True), virgin.unpack(dry_run=True), virgin.snapshot(dry_run=True)
    assert [one.after["state"] for one in (fetch, unpack, snapshot)] == ["fetched", "unpacked", "activated"]
    assert [one.before["state"] for one in (fetch, unpack, snapshot)] == ["new"] * 3
    assert not virgin.state.exists()


@pytest.mark.parametrize("label", ["base:planned", "base:sent", "base:numbered", "unpack:mapped"])
def test_check_mode_after_a_power_cut_says_what_would_be_settled_and_writes_nothing(
    fetched: Machine, label: str
) -> None:
    needs_root()
    fetched.killed_at(label, fetched.unpack)
    before = fetched.everything()
    outcome = fetched.unpack(dry_run=True)
    [found] = outcome.settled
    assert (found.kind, found.subject) == (RecoveryKind.OPERATION_UNDONE, KEY.value)
    assert found.text.startswith(f"would undo the unpack of {KEY}")
    assert outcome.changed
    assert fetched.everything() == before


# Several at once


def test_several_runs_for_one_key_at_once_make_one_of_everything(virgin: Machine) -> None:
    needs_root()

    def all_of_it() -> None:
        virgin.pool()
        virgin.fetch()
        virgin.unpack()
        virgin.snapshot()

    assert at_once(*[all_of_it] * 3) == [0] * 3
    assert sorted(volume.kind for volume in virgin.records(Volume)) == ["base", "snap"]
    assert virgin.s3.requests().count(f"GET {KEY}") == 1
    assert virgin.left_over() == []


def test_snapshots_made_at_once_are_all_there(unpacked: Machine) -> None:
    assert at_once(*[lambda name=name: unpacked.snapshot(name) for name in ("a", "b", "c")]) == [0] * 3
    assert sorted(snapshot.name for snapshot in unpacked.records(Snapshot)) == ["a", "b", "c"]
    assert unpacked.left_over() == []


@pytest.fixture
def locked(fetched: Machine) -> Iterator[int]:
    """The pid of another run that has the image's lock."""
    runs = contextlib.ExitStack()

    def hold_it() -> None:
        host = runs.enter_context(fetched.host())
        runs.enter_context(host.lock(f"image {KEY}"))

    with beside(hold_it) as pid:
        yield pid


def test_a_lock_time_out_names_the_holder(fetched: Machine, locked: int) -> None:
    fetched.lock_timeout_seconds = 0.1
    with pytest.raises(Busy, match=f"image {KEY} is held by process {locked} "):
        fetched.unpack()


def test_a_lock_time_out_names_the_module_its_begin_and_the_bytes(pooled: Machine) -> None:
    runs = contextlib.ExitStack()

    def fetch_half_of_it() -> None:
        Path("/proc/self/comm").write_text("flyd_fetch")
        host = runs.enter_context(pooled.host())
        runs.enter_context(host.lock(f"image {KEY}"))
        operation = host.begin(OperationKind.FETCH, str(KEY))
        with host.store.transaction():
            host.store.put(operation)
        host.directory("spool")
        Progress(host.log, str(KEY), progress_path(host.settings, operation))(12 << 20, 40 << 20)

    pooled.lock_timeout_seconds = 0.1
    with beside(fetch_half_of_it) as pid, pytest.raises(Busy) as caught:
        pooled.fetch()
    assert re.search(
        rf"image {KEY} is held by flyd_fetch \(process {pid}\), which began at {time.gmtime().tm_year}-\d\d-\d\dT[\d:]+Z and has "
        rf"received 12 MiB of 40 MiB of {KEY}; waited 0.1 s \(lock_timeout\)",
        caught.value.msg,
    )
    assert f"`kill {pid}`" in caught.value.hint


def test_check_mode_needs_no_lock(fetched: Machine, locked: int) -> None:
    assert fetched.unpack(dry_run=True).changed


# The log


def test_the_log_has_each_transition_with_run_attempt_seconds_and_bytes(activated: Machine) -> None:
    lines = activated.log()
    ends = {line["transition"]: line for line in lines if line["event"] == "end"}
    assert [line["transition"] for line in lines if line["event"] == "begin"] == ["pool", "fetch", "unpack", "snapshot"]
    assert list(ends) == ["pool", "fetch", "unpack", "snapshot"]
    for line in ends.values():
        assert len(line["run_id"]) == 26
        assert line["outcome"] == "ok"
        assert line["attempts"] >= 1
        assert line["seconds"] >= 0
    sizes = {"pool": "data_size", "fetch": "size", "unpack": "bytes", "snapshot": "size"}
    assert all(ends[name][size] > 0 for name, size in sizes.items())
    assert ends["fetch"]["key"] == ends["unpack"]["key"] == ends["snapshot"]["key"] == KEY.value
    assert len({line["run_id"] for line in lines}) == 4


def test_the_log_says_how_a_transition_failed(fetched: Machine) -> None:
    (fetched.state / "archives").joinpath(fetched.files_in("archives")[0]).unlink()
    with pytest.raises(FlydError):
        fetched.unpack()
    end = fetched.log()[-1]
    assert (end["event"], end["transition"], end["outcome"]) == ("end", "unpack", "failed")
    assert end["error_kind"] == "out_of_order"
    assert "is gone" in end["error"]


def test_a_run_that_finds_nothing_to_do_logs_nothing(pooled: Machine) -> None:
    before = pooled.log()
    pooled.pool()
    assert pooled.log() == before
