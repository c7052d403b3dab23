# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool that an image does not lie in: refused in every state of the image, before anything is made or removed; names that are unknown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from module_utils._errors import BadInput
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.store.records import Volume
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import KEY, OTHER_ARCHIVE, Machine

MODULES: dict[str, Callable[..., Outcome]] = {
    "pool": lambda machine, *, pool, **mode: machine.pool(name=pool, key=KEY.value, **mode),
    "unpack": Machine.unpack,
    "snapshot": Machine.snapshot,
    "snapshot of another name": lambda machine, **mode: machine.snapshot("other", **mode),
    "no snapshot": Machine.remove_snapshot,
    "no base": Machine.remove_all,
    "no image": Machine.remove_image,
}
STATES = ["unpacked", "activated", "rebooted", "base lost"]


def brought_to(stages: Stages, state: str) -> Machine:
    needs_root()
    machine = stages.at("activated" if state == "base lost" else state)
    if state == "base lost":
        base = next(one for one in machine.records(Volume) if one.kind == "base")
        with machine.host() as host:
            host.dm.message("pool", f"delete {base.thin_id}")
        machine.pool()
    return machine


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("state", STATES)
def test_another_pool_than_the_one_that_holds_the_image_is_refused(
    stages: Stages, state: str, module: str, *, exists: bool, dry_run: bool
) -> None:
    machine = brought_to(stages, state)
    if exists:
        machine.pool(name="small")
    before = machine.everything()
    with pytest.raises(BadInput, match="lies in the pool 'pool', not in 'small'") as caught:
        MODULES[module](machine, pool="small", dry_run=dry_run)
    assert "pool: pool)" in caught.value.hint
    assert machine.everything() == before


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("no ")])
def test_a_removal_that_names_no_pool_takes_the_image_from_whatever_pool_holds_it(virgin: Machine, module: str) -> None:
    needs_root()
    virgin.pool(name="fast")
    virgin.fetch()
    virgin.unpack(pool="fast")
    virgin.snapshot(pool="fast")
    assert MODULES[module](virgin).changed
    assert virgin.left_over() == []


def test_a_pool_may_be_made_for_an_image_that_lies_in_none(fetched: Machine) -> None:
    assert fetched.pool(name="small", key=KEY.value).changed
    needs_root()
    assert fetched.unpack(pool="small").changed


def test_a_new_generation_may_go_into_another_pool_and_a_removal_that_names_one_pool_is_refused(
    activated: Machine,
) -> None:
    activated.pool(name="other")
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    activated.fetch()
    activated.unpack(pool="other")
    activated.snapshot(pool="other")
    before = activated.everything()
    for pool in ("pool", "other"):
        with pytest.raises(BadInput, match="nothing was removed"):
            activated.remove_image(pool=pool)
    assert activated.everything() == before
    assert activated.remove_image().changed
    assert activated.left_over() == []


# Names that are not known


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("force", [{}, {"force": True}])
@pytest.mark.parametrize("removal", [Machine.remove_snapshot, Machine.remove_base, Machine.remove_archive])
def test_an_unknown_key_is_no_change_and_a_warning_with_the_nearest(
    fetched: Machine, removal: Callable[..., Outcome], force: dict[str, bool], *, dry_run: bool
) -> None:
    fetched.s3.put("other/thing", OTHER_ARCHIVE)
    fetched.fetch(key=ObjectKey("other/thing"))
    options = {} if removal is Machine.remove_snapshot else force
    outcome = removal(fetched, key=ObjectKey("image/redis_latest.tar"), dry_run=dry_run, **options)
    [warning] = outcome.facts["warnings"]
    assert (outcome.changed, outcome.facts["removed"]) == (False, [])
    assert warning.startswith("there is no image image/redis_latest.tar in ")
    assert warning.endswith(f"the nearest of 2: {KEY}")


def test_an_unknown_name_of_a_snapshot_is_a_warning_with_the_nearest(activated: Machine) -> None:
    activated.snapshot("guest-7")
    outcome = activated.remove_snapshot("guest7")
    assert (outcome.changed, outcome.facts["removed"]) == (False, [])
    [warning] = outcome.facts["warnings"]
    assert warning.endswith("the nearest of 2: guest-7")


def test_an_unknown_pool_is_a_warning(pooled: Machine) -> None:
    outcome = pooled.remove_pool("pol")
    assert (outcome.changed, outcome.facts["removed"]) == (False, [])
    assert outcome.facts["warnings"][0].endswith("the nearest of 1: pool")


def test_what_is_known_and_has_nothing_to_remove_is_no_warning(fetched: Machine) -> None:
    assert fetched.remove_base(force=True).facts["warnings"] == []
    assert fetched.remove_snapshot().facts["warnings"] == []
