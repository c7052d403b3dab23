# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A removal with one device in use: nothing is removed, the user is named, and check mode says the same.

The image has two generations with two snapshots each.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

import pytest

from module_utils._errors import Busy, DamagedPool, FlydError, ForeignDevice, NoSpace, OutOfOrder
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.store.records import Image, Operation, RetiredImage, Snapshot, State, Volume
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import KEY, OTHER_ARCHIVE, Machine

REMOVALS: dict[str, Callable[..., Outcome]] = {
    "snapshot": Machine.remove_snapshot,
    "base": Machine.remove_all,
    "archive": Machine.remove_image,
    "pool": Machine.tear_down,
}
RECORDS = (Image, RetiredImage, Snapshot, Volume, Operation)


@pytest.fixture
def crowded(stages: Stages) -> Machine:
    """Two generations with the snapshots "default" and "second" each."""
    needs_root()
    if "crowded" not in stages._made:
        machine = stages.at("activated")
        machine.snapshot("second")
        machine.s3.put(KEY.value, OTHER_ARCHIVE)
        machine.fetch()
        machine.unpack()
        machine.snapshot()
        machine.snapshot("second")
        machine.save("crowded")
        stages._made.add("crowded")
    return stages.at("crowded")


def there(machine: Machine) -> dict[str, object]:
    """All that a removal takes away: rows, devices, thin ids, archives."""
    found = machine.everything()
    rows = {record.__name__: machine.records(record) for record in RECORDS}
    return {
        **rows,
        **{what: found[what] for what in ("devices", "loops", "thin ids")},
        "archives": machine.files_in("archives"),
    }


def names(machine: Machine, wanted: str = "default") -> list[str]:
    return [os.path.basename(one.device) for one in machine.records(Snapshot) if one.name == wanted]


def failed(machine: Machine, removal: str, *, dry_run: bool) -> tuple[FlydError, list[str]]:
    """The error of a removal, and what the run says it removed."""
    removed: list[str] = []
    inner = machine.run

    def run(work: Callable[..., Outcome], **options: object) -> Outcome:
        def watched(host: object) -> Outcome:
            try:
                return work(host)
            finally:
                removed.extend(host.removed)  # type: ignore[attr-defined]

        return inner(watched, **options)  # type: ignore[arg-type]

    machine.run = run  # type: ignore[method-assign]
    try:
        with pytest.raises(FlydError) as caught:
            REMOVALS[removal](machine, dry_run=dry_run)
    finally:
        del machine.run
    return caught.value, removed


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("held", [0, 1])
def test_one_snapshot_mounted_keeps_all(crowded: Machine, removal: str, held: int, *, dry_run: bool) -> None:
    name = names(crowded)[held]
    crowded.fake.mount(name, "/mnt/guest")
    before = there(crowded)
    error, removed = failed(crowded, removal, dry_run=dry_run)
    assert isinstance(error, Busy)
    assert f"device {name} (snapshot '" in error.msg
    assert f"of {KEY}) is held by a mount on /mnt/guest" in error.msg
    assert (there(crowded), removed) == (before, [])
    assert crowded.left_over() == []
    crowded.fake.let_go()
    assert REMOVALS[removal](crowded).changed


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("removal", REMOVALS)
def test_one_snapshot_below_a_device_of_others_keeps_all(crowded: Machine, removal: str, *, dry_run: bool) -> None:
    name = names(crowded)[1]
    number = f"253:{crowded.fake.devices()[name]['minor']}"
    crowded.fake.make_foreign("theirs", table=f"0 2048 linear {number} 0")
    before = there(crowded)
    error, removed = failed(crowded, removal, dry_run=dry_run)
    assert isinstance(error, Busy)
    assert re.search(rf"device {name} \(.*\) is held by device theirs", error.msg)
    assert (there(crowded), removed) == (before, [])


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("removal", ["base", "archive"])
def test_a_base_that_others_have_mapped_under_their_name_keeps_all(
    crowded: Machine, removal: str, *, dry_run: bool
) -> None:
    base = next(one for one in crowded.records(Volume) if one.kind == "base")
    with crowded.host() as host:
        pool = host.dm.by_name("pool")
        assert pool is not None
    crowded.fake.make_foreign("theirs", table=f"0 2048 thin {pool.number} {base.thin_id}")
    before = there(crowded)
    error, removed = failed(crowded, removal, dry_run=dry_run)
    assert isinstance(error, ForeignDevice)
    assert f"{base.device_name} is also mapped as device theirs" in error.msg
    assert (there(crowded), removed) == (before, [])


def test_every_device_in_use_is_named_at_once(crowded: Machine) -> None:
    crowded.fake.hold(*names(crowded))
    with pytest.raises(Busy) as caught:
        crowded.remove_image(dry_run=True)
    assert all(re.search(rf"device {name} \([^;]*\) is held by", caught.value.msg) for name in names(crowded))


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_becomes_busy_after_it_was_asked_has_all_mapped_again(crowded: Machine, removal: str) -> None:
    in_order = [*REMOVALS[removal](crowded, dry_run=True).facts["removed"], *map(str, crowded.records(Volume))]
    first, last = sorted(names(crowded), key=lambda name: next(i for i, one in enumerate(in_order) if name[5:] in one))
    before = there(crowded)
    crowded.fake.hold_after(f"dmsetup remove --verifyudev {first}", last)
    error, removed = failed(crowded, removal, dry_run=False)
    assert (isinstance(error, Busy), removed) == (True, [])
    after = there(crowded)
    assert {name: device["table"] for name, device in after.pop("devices").items()} == {  # type: ignore[attr-defined]
        name: device["table"]
        for name, device in before.pop("devices").items()  # type: ignore[attr-defined]
    }
    assert after == before
    assert crowded.left_over() == []


def test_what_was_removed_before_a_failure_is_said(crowded: Machine) -> None:
    first, last = crowded.remove_snapshot(dry_run=True).facts["removed"]
    second = next(one for one in crowded.records(Volume) if one.device_path == last)
    crowded.fake.refuse(f"dmsetup message pool 0 delete {second.thin_id}", errno.EIO)
    error, removed = failed(crowded, "snapshot", dry_run=False)
    assert (error.kind.value, removed) == ("command_failed", [first, last])
    assert [one.device for one in crowded.records(Snapshot) if one.name == "default"] == []
    assert [one.volume_ulid for one in crowded.records(Operation)] == [second.ulid]  # for the next run to finish


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_teardown_asks_the_device_of_the_pool_too(crowded: Machine, *, dry_run: bool) -> None:
    crowded.fake.hold("pool")
    before = there(crowded)
    error, removed = failed(crowded, "pool", dry_run=dry_run)
    assert isinstance(error, Busy)
    assert "device pool is held by" in error.msg
    assert "device snap-" not in error.msg.partition("held by")[2]
    assert (there(crowded), removed) == (before, [])


def test_a_pool_that_becomes_busy_has_its_snapshots_mapped_again(crowded: Machine) -> None:
    before = there(crowded)
    crowded.fake.hold_after(f"dmsetup remove --verifyudev {names(crowded)[1]}", "pool")
    error, removed = failed(crowded, "pool", dry_run=False)
    assert (isinstance(error, Busy), removed) == (True, [])
    assert set(there(crowded)["devices"]) == set(before["devices"])  # type: ignore[call-overload]
    assert crowded.left_over() == []


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("removal", ["snapshot", "base", "archive"])
@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"mode": "ro"}, DamagedPool),
        ({"mode": "Fail"}, DamagedPool),
        ({"mode": "ro", "used_metadata_blocks": 64}, NoSpace),
    ],
)
def test_a_pool_that_takes_no_changes_keeps_all(
    crowded: Machine, removal: str, facts: dict[str, object], kind: type[FlydError], *, dry_run: bool
) -> None:
    crowded.fake.set_pool("pool", **facts)
    before = there(crowded)
    error, removed = failed(crowded, removal, dry_run=dry_run)
    assert isinstance(error, kind), error
    assert (there(crowded), removed) == (before, [])


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("removal", ["snapshot", "base", "archive"])
def test_a_generation_in_a_pool_that_is_not_active_keeps_all(
    activated: Machine, removal: str, *, dry_run: bool
) -> None:
    activated.pool(name="other")
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    activated.fetch()
    activated.unpack(pool="other")
    activated.snapshot(pool="other")
    with activated.host() as host:
        host.dm.remove(names(activated)[1])
        host.dm.remove("other")
    before = there(activated)
    error, removed = failed(activated, removal, dry_run=dry_run)
    assert isinstance(error, OutOfOrder)
    assert "is not active" in error.msg
    assert (there(activated), removed) == (before, [])


def test_the_state_of_a_generation_follows_each_of_its_snapshots(crowded: Machine) -> None:
    crowded.remove_snapshot()
    left = {(State.ACTIVATED, one.device) for one in crowded.records(Snapshot)}
    assert {(one.state, one.snap_device) for one in crowded.generations()} == left
    crowded.remove_snapshot("second")
    assert [one.state for one in crowded.generations()] == [State.UNPACKED] * 2
    assert crowded.left_over() == []
