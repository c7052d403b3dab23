# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd.db is lost in each state of an image and made again from the copy that lies with the pool."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import Any

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")

from module_utils._lifecycle.store.records import PoolRecord, Snapshot, Volume
from tests.unit._lifecycle.conftest import Stages
from tests.unit._lifecycle.instance.machine import Bound
from tests.unit._lifecycle.machine import KEY, METADATA_BYTES, POOL_BYTES, Machine
from tests.unit.modules.modules import Modules, Result
from tests.unit.support.reports import OF_A_RUN

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root")
STAGES = ("pooled", "fetched", "unpacked", "activated", "bound", "flipped")


def lose(machine: Machine) -> None:
    (machine.state / "flyd.db").unlink()


def recovered(machine: Machine, options: dict[str, Any] | None = None, *, check: bool = False) -> Result:
    return Modules(machine).run("flyd_pool", {"state": "recovered", **(options or {})}, check=check)


def report(machine: Machine) -> dict[str, Any]:
    found = {name: value for name, value in Modules(machine).run("flyd_info", {}).items() if name not in OF_A_RUN}
    for pool in found["pools"]:
        pool.pop("free_below", None)  # others write to the same file system
    return found


def contents(machine: Machine) -> dict[str, dict[str, bytes]]:
    """What guests have written, by device."""
    return {one.device: machine.tree_of(volume_of(machine, one)) for one in machine.records(Snapshot)}


def volume_of(machine: Machine, snapshot: Snapshot) -> Volume:
    volumes: list[Volume] = machine.records(Volume)
    return next(one for one in volumes if one.ulid == snapshot.ulid)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("is_rebooted", [False, True], ids=["up", "rebooted"])
def test_all_is_as_before(stages: Stages, stage: str, is_rebooted: bool) -> None:
    machine = stages.at(stage)
    before, written = report(machine), contents(machine)
    lose(machine)
    if is_rebooted:
        machine.fake.reboot()
    found = machine.everything()
    predicted = recovered(machine, check=True)
    assert machine.everything() == found, "check mode has written something"
    result = recovered(machine)
    assert (result["changed"], predicted["changed"]) == (True, True), result
    assert (result["recovered"], result["left_out"]) == (predicted["recovered"], [])
    assert report(machine) == before
    assert contents(machine) == written
    assert machine.left_over() == []
    again = recovered(machine)
    assert (again["changed"], again["recovered"]) == (False, None), again


def test_the_next_runs_find_nothing_to_do(stages: Stages) -> None:
    machine = stages.at("bound")
    lose(machine)
    recovered(machine)
    before = machine.everything()
    for arrow in (machine.pool, machine.fetch, machine.unpack, machine.snapshot, Bound(machine).call):
        assert not arrow().changed, arrow
    assert machine.everything() == before


def test_without_it_every_module_refuses_and_says_what_to_do(stages: Stages) -> None:
    machine = stages.at("activated")
    lose(machine)
    result = Modules(machine).run("flyd_snapshot", {"key": KEY.value})
    assert (result["failed"], result["error_kind"]) == (True, "corrupt_store")
    assert "state: recovered" in result["hint"]


def test_what_was_made_by_a_run_that_was_killed_is_not_known(stages: Stages) -> None:
    """The copy is older than the pool: the volume is reported and left alone."""
    machine = stages.at("activated")
    machine.killed_at("snapshot:mapped", lambda: machine.snapshot("second"))
    lose(machine)
    result = recovered(machine)
    assert result["changed"], result
    assert {one.name for one in machine.records(Snapshot)} == {"default"}
    assert "thin_id_unknown" in {one["kind"] for one in report(machine)["drift"]}


def test_a_pool_that_has_grown_since_the_copy_has_its_size(stages: Stages) -> None:
    machine = stages.at("activated")
    machine.killed_at("grow:resized", machine.grow)
    lose(machine)
    machine.fake.reboot()
    assert recovered(machine)["changed"]
    [pool] = machine.records(PoolRecord)
    assert (pool.data_sectors * 512, pool.metadata_bytes) == (2 * POOL_BYTES, 2 * METADATA_BYTES)
    assert machine.left_over() == []
    assert not machine.grow().changed


def test_an_id_that_was_given_to_another_volume_is_not_taken_for_the_old_one(stages: Stages) -> None:
    """Removed and given again since the copy: the name must not come back with another's bytes."""
    machine = stages.at("activated")
    machine.snapshot("old")
    [old] = [one for one in machine.records(Snapshot) if one.name == "old"]
    [pool] = machine.records(PoolRecord)
    kept = (machine.state / "pools" / pool.id / "flyd.db").read_bytes()
    machine.remove_snapshot("old")
    machine.snapshot("new")
    [new] = [one for one in machine.records(Snapshot) if one.name == "new"]
    assert volume_of(machine, new).thin_id == max(one.thin_id for one in machine.records(Volume))
    (machine.state / "pools" / pool.id / "flyd.db").write_bytes(kept)
    lose(machine)
    result = recovered(machine)
    assert result["left_out"] == [old.device]
    assert {one.name for one in machine.records(Snapshot)} == {"default"}


def test_a_pool_that_is_older_than_the_copy_is_refused(stages: Stages) -> None:
    machine = stages.at("activated")
    [pool] = machine.records(PoolRecord)
    copy = machine.state / "pools" / pool.id / "flyd.db"
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE pools SET transaction_id = transaction_id + 5")
    connection.close()
    lose(machine)
    result = recovered(machine)
    assert (result["failed"], result["error_kind"]) == (True, "corrupt_store"), result
    assert "the pool is the older one" in result["msg"]
    assert not (machine.state / "flyd.db").exists()
    assert machine.files_in(".") == sorted(path.name for path in machine.state.iterdir())


@pytest.mark.parametrize("damage", ["empty", "cut", "missing"])
def test_a_copy_that_is_damaged_is_none(stages: Stages, damage: str) -> None:
    machine = stages.at("activated")
    [pool] = machine.records(PoolRecord)
    copy = machine.state / "pools" / pool.id / "flyd.db"
    content = copy.read_bytes()
    if damage == "missing":
        copy.unlink()
    else:
        copy.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    lose(machine)
    before = machine.files_in("."), machine.files_in("pools"), machine.fake.devices()
    result = recovered(machine)
    assert (result["failed"], result["error_kind"]) == (True, "corrupt_store"), result
    assert "there is no copy" in result["msg"]
    assert (machine.files_in("."), machine.files_in("pools"), machine.fake.devices()) == before


def test_a_damaged_database_is_to_be_moved_away_first(stages: Stages) -> None:
    machine = stages.at("activated")
    (machine.state / "flyd.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8176)
    result = recovered(machine)
    assert (result["failed"], result["error_kind"]) == (True, "corrupt_store"), result
    (machine.state / "flyd.db").rename(machine.state / "flyd.db.damaged")
    assert recovered(machine)["changed"]
    (machine.state / "flyd.db.damaged").unlink()
    assert machine.left_over() == []


def test_an_operation_that_was_open_is_recovered_afterwards(stages: Stages) -> None:
    machine = stages.at("unpacked")
    machine.killed_at("snap:planned", machine.snapshot)
    with (
        machine.host() as host
    ):  # a run that is killed writes no copy; one that is at work beside others has its intent in theirs
        host.store.has_changed = True
    lose(machine)
    result = recovered(machine)
    assert result["changed"], result
    machine.snapshot()
    assert machine.left_over() == []


def test_a_name_that_no_pool_has_is_refused(stages: Stages) -> None:
    machine = stages.at("activated")
    lose(machine)
    result = recovered(machine, {"name": "other"})
    assert (result["failed"], result["error_kind"]) == (True, "out_of_order"), result
    assert "it has: pool" in result["hint"]


def test_a_copy_is_written_by_runs_that_change_something_and_by_no_other(stages: Stages) -> None:
    machine = stages.at("activated")
    [pool] = machine.records(PoolRecord)
    copy = machine.state / "pools" / pool.id / "flyd.db"
    before = copy.stat()
    machine.snapshot()
    assert copy.stat().st_ino == before.st_ino
    machine.snapshot("second")
    assert copy.stat().st_ino != before.st_ino
    assert (copy.stat().st_mode & 0o777) == 0o600


def test_a_pool_on_devices_is_recovered_from_the_start_of_its_data(stages: Stages) -> None:
    """All that is left of the host's state directory is nothing at all."""
    machine = stages.at("virgin")
    disks = machine.root / "disks"
    disks.mkdir()
    for name, size_bytes in (("data", POOL_BYTES), ("metadata", METADATA_BYTES)):
        with (disks / name).open("wb") as file:
            file.truncate(size_bytes)
    where = {"data_device": str(disks / "data"), "metadata_device": str(disks / "metadata")}
    machine.pool(is_loop=False, data=where["data_device"], metadata=where["metadata_device"])
    for arrow in (machine.fetch, machine.unpack, machine.snapshot, Bound(machine).call):
        arrow()
    before, written = report(machine), contents(machine)
    shutil.rmtree(machine.state / "log")
    lose(machine)
    result = recovered(machine)
    assert (result["failed"], result["error_kind"]) == (True, "corrupt_store"), (
        "without being named it is not looked for"
    )
    assert "name the pool's data_device" in result["hint"]
    result = recovered(machine, where)
    assert (result["changed"], result["source"]) == (True, where["data_device"]), result
    assert report(machine) == before
    assert contents(machine) == written
    assert machine.left_over() == []
    assert not recovered(machine, where)["changed"]


def test_a_pool_without_a_copy_is_drift_until_something_changes(stages: Stages) -> None:
    machine = stages.at("activated")
    [pool] = machine.records(PoolRecord)
    (machine.state / "pools" / pool.id / "flyd.db").unlink()
    assert [one["kind"] for one in report(machine)["drift"]] == ["database_copy"]
    machine.snapshot("second")
    assert report(machine)["drift"] == []
