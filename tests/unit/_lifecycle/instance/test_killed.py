# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flip that is killed, and what the next run, or the host's next start, makes of it."""

from __future__ import annotations

import pytest

from module_utils._lifecycle.instance.waiting import now_seconds
from module_utils._lifecycle.pool.restore import restore
from module_utils._lifecycle.store.instance_record import Instance
from tests.unit._lifecycle.instance.machine import NAME, Bound

pytestmark = pytest.mark.slow

FORWARD = ("bind:planned", "bind:flipped", "bind:switched", "bind:healthy")


def row(bound: Bound) -> Instance:
    found: Instance
    [found] = bound.machine.records(Instance)
    return found


@pytest.fixture
def other_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host was started again: what was written down before is of another boot."""
    for module in ("back", "waiting"):
        monkeypatch.setattr(f"module_utils._lifecycle.instance.{module}.boot_id", lambda: "another boot")


@pytest.mark.parametrize("label", FORWARD)
def test_the_next_run_of_any_module_goes_back(bound: Bound, label: str) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    bound.machine.killed_at(label, bound.bind)
    outcome = bound.machine.snapshot()
    assert [(one.kind.value, one.subject) for one in outcome.settled] == [("operation_undone", NAME)]
    assert bound.device == first.facts["device"]
    assert bound.switched()[-1] == first.facts["device"]
    assert (row(bound).is_confirmed, row(bound).current_ulid) == (True, first.facts["ulid"])
    assert bound.machine.left_over() == []
    assert bound.bind().changed


@pytest.mark.parametrize("label", FORWARD)
def test_the_first_flip_that_is_killed_leaves_no_name(bound: Bound, label: str) -> None:
    bound.machine.killed_at(label, bound.bind)
    bound.machine.snapshot()
    assert not bound.link.is_symlink()
    assert bound.machine.records(Instance) == []
    assert bound.machine.left_over() == []


@pytest.mark.parametrize("label", FORWARD)
def test_after_a_start_the_old_generation_has_the_name_and_nothing_is_switched(
    bound: Bound, label: str, other_boot: None
) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    bound.machine.killed_at(label, bound.bind)
    before = bound.switched()
    bound.machine.fake.reboot()
    bound.machine.run(restore)
    assert bound.device == first.facts["device"]
    assert bound.switched() == before
    assert bound.machine.left_over() == []


@pytest.mark.parametrize("label", ["back:flipped", "back:switched"])
def test_a_rollback_that_is_killed_is_finished(bound: Bound, label: str) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    bound.bind()
    bound.machine.killed_at(label, lambda: bound.call("previous"))
    bound.machine.snapshot()
    assert bound.device == first.facts["device"]
    assert bound.switched()[-1] == first.facts["device"]
    assert bound.machine.left_over() == []
    assert not bound.call("previous").changed


def test_names_are_made_again_when_the_host_starts(bound: Bound) -> None:
    first = bound.bind()
    bound.machine.fake.reboot()
    assert not bound.link.is_symlink()
    outcome = bound.machine.run(restore)
    assert bound.device == first.facts["device"]
    assert ("link_restored", str(f"/run/flyd/instances/{NAME}")) in [
        (one.kind.value, one.subject) for one in outcome.settled
    ]
    assert not bound.bind().changed


def test_the_next_flyd_pool_makes_names_again_on_a_host_without_restore(bound: Bound) -> None:
    first = bound.bind()
    bound.machine.fake.reboot()
    bound.machine.pool()
    assert bound.device == first.facts["device"]


def test_a_name_that_something_has_removed_is_drift_and_comes_back_with_any_run(bound: Bound) -> None:
    first = bound.bind()
    bound.link.unlink()
    outcome = bound.machine.snapshot(dry_run=True)
    assert [one.kind.value for one in outcome.settled] == ["link_restored"]
    assert not bound.link.is_symlink()
    bound.machine.snapshot()
    assert bound.device == first.facts["device"]


class TestConfirmWithin:
    def waiting(self, bound: Bound) -> tuple[str, str]:
        """The devices before and after of a bind that waits."""
        first = bound.bind()
        bound.publish_new_generation()
        second = bound.bind(confirm_within=600)
        assert (second.facts["confirmed"], second.facts["previous"]) == (False, first.facts["current"])
        return first.facts["device"], second.facts["device"]

    @pytest.fixture(autouse=True)
    def prepared(self, bound: Bound) -> None:
        program = bound.machine.root / "usr/local/lib/flyd-host.py"
        program.parent.mkdir(parents=True)
        program.write_text("# Schema of the database: 99\n")

    def test_it_waits_and_other_runs_leave_it_alone(self, bound: Bound) -> None:
        _old, new = self.waiting(bound)
        assert bound.timers() == [f"flyd-confirm-{NAME}.timer"]
        assert not bound.machine.snapshot().settled
        assert bound.device == new
        again = bound.call()
        assert (again.changed, again.facts["confirmed"]) == (False, False)

    def test_confirmed_in_time(self, bound: Bound) -> None:
        _old, new = self.waiting(bound)
        outcome = bound.call("confirmed")
        assert (outcome.changed, outcome.facts["confirmed"]) == (True, True)
        assert bound.timers() == []
        assert not bound.call("confirmed").changed
        assert bound.device == new
        assert bound.machine.left_over() == []

    def test_not_confirmed_in_time(self, bound: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
        old, _new = self.waiting(bound)
        late = now_seconds() + 700
        monkeypatch.setattr("module_utils._lifecycle.instance.waiting.now_seconds", lambda: late)
        outcome = bound.machine.snapshot()
        assert [one.kind.value for one in outcome.settled] == ["operation_undone"]
        assert bound.device == old
        assert bound.switched()[-1] == old
        with pytest.raises(Exception, match=r"points at .* not at"):
            bound.call("confirmed")

    def test_a_start_of_the_host_goes_back(self, bound: Bound, other_boot: None) -> None:
        old, _new = self.waiting(bound)
        bound.machine.fake.reboot()
        bound.machine.run(restore)
        assert bound.device == old
        assert bound.machine.left_over() == []

    def test_previous_ends_the_wait(self, bound: Bound) -> None:
        old, _new = self.waiting(bound)
        outcome = bound.call("previous")
        assert (outcome.changed, outcome.facts["went_back"]) == (True, True)
        assert (bound.device, bound.timers()) == (old, [])
        assert bound.machine.left_over() == []

    def test_a_newer_bind_replaces_it_and_goes_back_to_what_was_confirmed(self, bound: Bound) -> None:
        old, _new = self.waiting(bound)
        bound.publish_new_generation()
        bound.well.unlink()
        with pytest.raises(Exception, match="went back"):
            bound.bind(confirm_within=0)
        assert bound.device == old
        assert bound.machine.left_over() == []

    def test_one_that_is_killed_before_it_waits_is_undone_at_once(self, bound: Bound) -> None:
        first = bound.bind()
        bound.publish_new_generation()
        bound.machine.killed_at("bind:timed", lambda: bound.bind(confirm_within=600))
        assert bound.timers() == [f"flyd-confirm-{NAME}.timer"]
        bound.machine.snapshot()
        assert bound.device == first.facts["device"]
        assert bound.machine.left_over() == []

    def test_one_that_is_killed_behind_its_confirmation_is_confirmed(self, bound: Bound) -> None:
        _old, new = self.waiting(bound)
        bound.machine.killed_at("confirm:recorded", lambda: bound.call("confirmed"))
        assert not bound.call("confirmed").changed
        assert (bound.device, row(bound).is_confirmed) == (new, True)
        assert bound.machine.left_over() == []

    def test_without_the_program_of_prepare_nothing_is_flipped(self, bound: Bound) -> None:
        (bound.machine.root / "usr/local/lib/flyd-host.py").unlink()
        with pytest.raises(Exception, match="confirm_within needs"):
            bound.bind(confirm_within=600)
        assert bound.machine.records(Instance) == []
