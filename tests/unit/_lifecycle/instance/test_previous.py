# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_instance, states previous and absent."""

from __future__ import annotations

import pytest

from module_utils._errors import OutOfOrder, Unhealthy
from module_utils._lifecycle.store.instance_record import Instance
from tests.unit._lifecycle.instance.machine import NAME, Bound


def test_it_goes_back_once_and_not_twice(bound: Bound) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    second = bound.bind()
    outcome = bound.call("previous")
    assert (outcome.changed, outcome.facts["went_back"]) == (True, True)
    assert (outcome.facts["current"], bound.device) == (first.facts["current"], first.facts["device"])
    assert bound.switched() == [first.facts["device"], second.facts["device"], first.facts["device"]]
    again = bound.call("previous")
    assert (again.changed, again.facts["went_back"]) == (False, False)
    assert bound.machine.left_over() == []


def test_one_that_went_back_automatic_stays_where_it_is(bound: Bound) -> None:
    bound.bind()
    bound.publish_new_generation()
    second = bound.bind()
    bound.publish_new_generation()
    bound.well.unlink()
    with pytest.raises(Unhealthy):
        bound.bind()
    assert not bound.call("previous").changed
    assert bound.device == second.facts["device"]


def test_after_the_next_bind_it_can_go_back_again(bound: Bound) -> None:
    bound.bind()
    bound.publish_new_generation()
    bound.bind()
    bound.call("previous")
    second = bound.bind()
    assert second.changed
    assert bound.call("previous").changed


def test_check_mode_says_where_it_would_go(bound: Bound) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    bound.bind()
    before = bound.machine.everything()
    predicted = bound.call("previous", dry_run=True)
    assert bound.machine.everything() == before
    assert (predicted.changed, predicted.facts["current"]) == (True, first.facts["current"])
    real = bound.call("previous")
    assert predicted.after == real.after
    assert set(predicted.facts) == set(real.facts)


def test_a_digest_means_that_generation_and_no_other(bound: Bound) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    second = bound.bind()
    with pytest.raises(OutOfOrder, match="cannot go back to sha256:0000"):
        bound.call("previous", sha256="0" * 64)
    assert not bound.call("previous", sha256=second.facts["current"]).changed
    assert bound.call("previous", sha256=first.facts["current"]).changed
    assert not bound.call("previous", sha256=first.facts["current"]).changed


def test_without_an_earlier_generation_or_an_instance_it_is_refused(bound: Bound) -> None:
    with pytest.raises(OutOfOrder, match="there is no instance 'web'"):
        bound.call("previous")
    bound.bind()
    with pytest.raises(OutOfOrder, match="the one before is none"):
        bound.call("previous")


def test_a_guest_that_is_not_well_there_is_an_error_and_nothing_changes_again(bound: Bound) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    bound.bind()
    bound.well.unlink()
    with pytest.raises(Unhealthy, match="it has gone back already"):
        bound.call("previous")
    assert bound.device == first.facts["device"]
    assert not bound.call("previous").changed
    assert bound.machine.left_over() == []


def test_absent_removes_the_name_and_the_second_time_nothing(bound: Bound) -> None:
    bound.bind()
    assert bound.call("absent", dry_run=True).facts["removed"] == [f"/run/flyd/instances/{NAME}"]
    assert bound.link.is_symlink()
    outcome = bound.call("absent")
    assert (outcome.changed, outcome.facts["removed"]) == (True, [f"/run/flyd/instances/{NAME}"])
    assert list(bound.link.parent.iterdir()) == []
    assert bound.machine.records(Instance) == []
    assert not bound.call("absent").changed
    assert bound.machine.left_over() == []
