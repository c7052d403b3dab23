# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal: what is ours goes, in order; what others still need, and what is not ours, stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from module_utils._errors import Busy, ForeignDevice, OutOfOrder
from module_utils._lifecycle.store.records import Image, Operation, PoolRecord, RetiredImage, Snapshot, State, Volume
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, POOL_BYTES, Machine

pytestmark = pytest.mark.slow

WAY_BACK = ("remove_snapshot", "remove_base", "remove_archive", "remove_pool")


def without_files(machine: Machine) -> dict[str, object]:
    """All that the kernel has: a run that takes a lock writes to the database, whatever it then refuses."""
    return {what: found for what, found in machine.everything().items() if what != "files"}


def test_removal_undoes_everything(activated: Machine) -> None:
    states = []
    for step in WAY_BACK[:-1]:
        assert getattr(activated, step)().changed
        assert activated.left_over() == []
        states.append([image.state for image in activated.records(Image)])
    assert states == [[State.UNPACKED], [State.FETCHED], []]
    assert activated.remove_pool().changed
    assert (activated.fake.devices(), activated.fake.loops()) == ({}, {})
    kept = [path.name for path in activated.state.rglob("*") if path.is_file()]
    assert sorted(kept) == ["counters.json", "flyd.db", "flyd.jsonl"]


@pytest.mark.parametrize("stage", ["virgin", "pooled", "activated"])
@pytest.mark.parametrize("step", WAY_BACK)
def test_check_mode_predicts_each_step_back_and_writes_nothing(stages: Stages, stage: str, step: str) -> None:
    if stage == "activated":
        needs_root()
    machine = stages.at(stage)
    before = machine.everything()
    force = {"force": True} if step in ("remove_base", "remove_pool") else {}
    if (stage, step) == ("activated", "remove_archive"):
        with pytest.raises(OutOfOrder, match="is still unpacked"):
            machine.remove_archive(dry_run=True)
        return
    outcome = getattr(machine, step)(dry_run=True, **force)
    assert machine.everything() == before
    assert outcome.changed == (stage == "activated" or (stage, step) == ("pooled", "remove_pool"))
    real = getattr(machine, step)(**force)
    assert (real.changed, sorted(real.facts["removed"])) == (outcome.changed, sorted(outcome.facts["removed"]))


@pytest.mark.parametrize("step", WAY_BACK)
def test_what_is_gone_already_is_gone(virgin: Machine, step: str) -> None:
    getattr(virgin, step)()
    before = virgin.everything()
    assert not getattr(virgin, step)().changed
    assert virgin.everything() == before


@pytest.mark.parametrize(
    ("step", "needed_by"),
    [("remove_base", "has 1 snapshots"), ("remove_archive", "is still unpacked"), ("remove_pool", "holds 2 volumes")],
)
def test_what_something_else_depends_on_is_refused(activated: Machine, step: str, needed_by: str) -> None:
    before = activated.fake.devices(), activated.fake.thin_ids("pool")
    with pytest.raises(OutOfOrder, match=needed_by):
        getattr(activated, step)()
    assert (activated.fake.devices(), activated.fake.thin_ids("pool")) == before
    assert activated.left_over() == []


@pytest.mark.parametrize("step", ["remove_base", "remove_archive", "remove_pool"])
def test_force_takes_along_what_depends_on_it(activated: Machine, step: str) -> None:
    activated.snapshot("second")
    assert getattr(activated, step)(force=True).changed
    assert (activated.records(Volume), activated.records(Snapshot)) == ([], [])
    assert activated.left_over() == []


def test_one_snapshot_of_several_goes_and_the_others_stay(activated: Machine) -> None:
    activated.snapshot("second")
    activated.remove_snapshot()
    assert [one.name for one in activated.records(Snapshot)] == ["second"]
    [snapshot] = activated.records(Snapshot)
    assert [(one.state, one.snap_device) for one in activated.records(Image)] == [(State.ACTIVATED, snapshot.device)]
    assert activated.left_over() == []


def test_a_snapshot_in_use_is_reported_and_nothing_is_changed(activated: Machine) -> None:
    [snapshot] = activated.records(Snapshot)
    activated.fake.hold(os.path.basename(snapshot.device))
    with pytest.raises(Busy, match="is held by"):
        activated.remove_snapshot()
    assert activated.records(Snapshot) == [snapshot]
    assert activated.left_over() == []
    activated.fake.let_go()
    assert activated.remove_snapshot().changed


def test_all_generations_of_a_key_go(activated: Machine) -> None:
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    for step in ("fetch", "unpack", "snapshot", *WAY_BACK[:-1]):
        getattr(activated, step)()
    assert activated.generations() == []
    assert activated.files_in("archives") == []
    assert activated.left_over() == []


def test_an_archive_that_another_key_is_made_of_stays(fetched: Machine) -> None:
    other = ObjectKey("images/same.tar")
    fetched.s3.put(other.value, ARCHIVE)
    fetched.fetch(key=other)
    fetched.remove_archive()
    assert len(fetched.files_in("archives")) == 1
    assert not fetched.fetch(key=other).changed
    fetched.remove_archive(key=other)
    assert fetched.files_in("archives") == []
    assert fetched.records(RetiredImage) == []


def test_an_interrupted_download_goes_with_its_key(pooled: Machine) -> None:
    pooled.killed_at("fetch:downloaded", pooled.fetch)
    assert pooled.remove_archive().changed
    assert pooled.left_over() == []


def test_what_looks_like_ours_is_not_touched(activated: Machine) -> None:
    [pool] = activated.records(PoolRecord)
    activated.fake.make_foreign("snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3", "LVM-somebody")
    with activated.host() as host:
        host.dm.message("pool", "create_thin 77")
    strange = activated.state / "archives" / ("0" * 64)
    strange.write_bytes(b"somebody's")
    for step in WAY_BACK[:-1]:
        getattr(activated, step)()
    assert "snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3" in activated.fake.devices()
    assert activated.fake.thin_ids(pool.name) == {77}
    assert strange.read_bytes() == b"somebody's"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_pool_under_a_device_of_others_is_left_as_it_is(activated: Machine, *, force: bool, dry_run: bool) -> None:
    with activated.host() as host:
        host.dm.message("pool", "create_thin 77")
        device = host.dm.by_name("pool")
        assert device is not None
    activated.fake.make_foreign("theirs", table=f"0 2048 thin {device.number} 77")
    if not force:
        activated.remove_all()
    before, volumes = without_files(activated), activated.records(Volume)
    with pytest.raises(ForeignDevice, match="held by theirs"):
        activated.remove_pool(force=force, dry_run=dry_run)
    assert (without_files(activated), activated.records(Volume), activated.records(Operation)) == (before, volumes, [])


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_thin_id_of_others_stops_a_teardown_unless_it_is_forced(pooled: Machine, *, dry_run: bool) -> None:
    with pooled.host() as host:
        host.dm.message("pool", "create_thin 77")
    before = without_files(pooled)
    with pytest.raises(OutOfOrder, match="does not know: 77"):
        pooled.remove_pool(dry_run=dry_run)
    assert without_files(pooled) == before
    assert pooled.remove_pool(force=True).changed
    assert pooled.left_over() == []


def test_the_bases_of_other_keys_stay(activated: Machine) -> None:
    other = ObjectKey("images/other.tar")
    activated.s3.put(other.value, OTHER_ARCHIVE)
    for step in ("fetch", "unpack", "snapshot"):
        getattr(activated, step)(key=other)
    for step in WAY_BACK[:-1]:
        getattr(activated, step)()
    assert [(image.object_key, image.state) for image in activated.records(Image)] == [(other.value, State.ACTIVATED)]
    assert activated.left_over() == []


# The pool


def test_a_half_removed_pool_is_not_made_again_before_it_is_gone(pooled: Machine) -> None:
    pooled.killed_at("teardown:deactivated", pooled.remove_pool)
    with pytest.raises(OutOfOrder, match="was interrupted"):
        pooled.pool()
    assert pooled.remove_pool().changed
    assert pooled.pool().changed
    assert pooled.left_over() == []


def test_a_half_made_pool_can_be_removed(virgin: Machine) -> None:
    virgin.killed_at("pool:activated", virgin.pool)
    assert virgin.remove_pool().changed
    assert (virgin.fake.devices(), virgin.fake.loops(), virgin.records(PoolRecord)) == ({}, {}, [])
    assert virgin.pool(data_bytes=2 * POOL_BYTES).changed


def test_a_pool_that_is_not_active_is_removed_with_its_files(pooled: Machine) -> None:
    [pool] = pooled.records(PoolRecord)
    pooled.fake.reboot()
    assert pooled.remove_pool().changed
    assert not Path(pool.data).exists()
    assert pooled.left_over() == []


def test_other_pools_stay(pooled: Machine) -> None:
    pooled.pool(name="other")
    pooled.remove_pool()
    assert list(pooled.fake.devices()) == ["other"]
    assert pooled.left_over() == []
