# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report says what is recorded and what is really there, and writes nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import FlydError
from module_utils._host import environment
from module_utils._lifecycle.findings import DriftKind
from module_utils._lifecycle.report import shares
from module_utils._lifecycle.report.info import Only, Subject, inform
from module_utils._lifecycle.store.records import Image, PoolRecord, Snapshot, Volume
from module_utils._lifecycle.store.schema import VERSION
from module_utils._lifecycle.store.store import utc_now
from module_utils._lifecycle.volumes.volumes import map_thin
from module_utils._names import ObjectKey
from module_utils._thin.pool.mappings import Shares, read_shares
from tests.unit._lifecycle.conftest import Stages
from tests.unit._lifecycle.instance.machine import NAME, Bound
from tests.unit._lifecycle.machine import KEY, OTHER_ARCHIVE, POOL_BYTES, Machine
from tests.unit.fakes.kernel import BLOCK_BYTES


def report(machine: Machine, *what: Subject) -> dict[str, Any]:
    """The report, which must be JSON and leave everything as it is."""
    before = machine.everything()
    outcome = machine.run(lambda host: inform(host, frozenset(what)), dry_run=True)
    assert machine.everything() == before
    assert (outcome.changed, outcome.before, outcome.after) == (False, {}, {})
    facts: dict[str, Any] = json.loads(json.dumps(outcome.facts))
    assert (facts.pop("attempts"), facts.pop("waited_seconds")) == (1, 0)
    return facts


def drift(machine: Machine) -> list[dict[str, str]]:
    found: list[dict[str, str]] = report(machine, Subject.DRIFT)["drift"]
    return found


def record(kind: DriftKind, subject: str, text: str) -> dict[str, str]:
    return {"kind": kind.value, "subject": subject, "text": text}


@pytest.mark.parametrize("stage", ["virgin", "pooled", "fetched"])
def test_every_subject_can_be_asked_in_every_state_and_nothing_drifts(stages: Stages, stage: str) -> None:
    assert set(report(stages.at(stage), *Subject)) == {subject.value for subject in Subject}
    assert drift(stages.at(stage)) == []


def test_only_what_is_asked_for_is_reported(pooled: Machine) -> None:
    assert list(report(pooled, Subject.POOLS)) == ["pools"]


def test_an_activated_image_is_reported(activated: Machine) -> None:
    told = report(activated, *Subject)
    [image], [snapshot], [pool] = told["images"], told["snapshots"], told["pools"]
    assert (image["key"], image["state"], image["config"]["Env"]) == (KEY.value, "activated", ["PATH=/bin"])
    assert (snapshot["key"], snapshot["mapped"], snapshot["image_id"]) == (KEY.value, True, image["image_id"])
    assert (pool["name"], pool["active"], pool["status"]) == ("pool", True, "rw")
    assert (pool["needs_check"], pool["held_metadata"], pool["is_low"]) == (False, False, False)
    assert (told["operations"], told["drift"]) == ([], [])


def test_a_pool_that_is_marked_or_nearly_full_is_reported(pooled: Machine) -> None:
    pooled.fake.set_pool("pool", needs_check=True, used_data_blocks=POOL_BYTES >> 16)
    [pool] = report(pooled, Subject.POOLS)["pools"]
    assert (pool["needs_check"], pool["is_low"]) == (True, True)


def test_a_snapshot_of_an_earlier_generation_keeps_its_key(activated: Machine) -> None:
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    activated.fetch()
    [snapshot] = report(activated, Subject.SNAPSHOTS)["snapshots"]
    assert snapshot["key"] == KEY.value


def test_an_intent_that_was_interrupted_is_reported(fetched: Machine) -> None:
    fetched.killed_at("base:planned", fetched.unpack)
    [intent] = report(fetched, Subject.OPERATIONS)["operations"]
    assert (intent["kind"], intent["subject"], intent["abandoned"]) == ("unpack", KEY.value, True)
    [volume] = fetched.records(Volume)
    text = f"the volume base-{volume.ulid} (thin id 1) is planned"
    assert drift(fetched) == [record(DriftKind.VOLUME_UNFINISHED, volume.device_path, text)]


def test_after_a_reboot_pool_and_snapshots_are_missed(activated: Machine) -> None:
    [snapshot] = activated.records(Snapshot)
    activated.fake.reboot()
    assert drift(activated) == [
        record(DriftKind.POOL_INACTIVE, "pool pool", "the pool 'pool' is not active"),
        record(DriftKind.SNAPSHOT_UNMAPPED, snapshot.device, f"the snapshot {snapshot.device} is not mapped"),
    ]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda host: host.make_foreign("stray", "FLYD-unknown"), ["the device stray bears our mark (FLYD-unknown)"]),
        (lambda host: host.make_foreign("data", "LVM-somebody"), []),
    ],
    ids=["ours and unknown", "somebody else's"],
)
def test_a_device_with_our_mark_that_no_one_knows_is_reported(
    pooled: Machine, make: Callable[[Any], None], told: list[str]
) -> None:
    make(pooled.fake)
    assert [one["text"].partition(" and is")[0] for one in drift(pooled)] == told
    assert {one["kind"] for one in drift(pooled)} <= {DriftKind.DEVICE_UNKNOWN.value}


def test_a_host_whose_udev_may_read_what_guests_write_is_reported(activated: Machine) -> None:
    (activated.fake.root / "run/udev").mkdir(parents=True)
    (activated.fake.root / "run/udev/control").touch()
    [found] = [one for one in drift(activated) if one["kind"] == DriftKind.UDEV_RULE.value]
    assert found["subject"] == "10-flyd.rules"
    assert found["text"].startswith("the udev rule 10-flyd.rules is missing")


def test_a_pool_of_another_time_than_the_store_is_reported(pooled: Machine) -> None:
    [pool] = pooled.records(PoolRecord)
    pooled.fake.set_pool("pool", transaction_id=pool.transaction_id + 5)
    [found] = drift(pooled)
    assert (found["kind"], found["subject"]) == ("transaction_differs", "pool pool")
    assert found["text"].startswith("the pool 'pool' is at transaction")


@pytest.mark.parametrize("facts", [{"mode": "Fail"}, {"transaction_id": None}], ids=["failed", "in a step"])
def test_a_pool_that_reports_no_number_or_is_in_a_step_does_not_drift(pooled: Machine, facts: dict[str, Any]) -> None:
    [pool] = pooled.records(PoolRecord)
    pooled.fake.set_pool("pool", **{name: value or pool.transaction_id + 1 for name, value in facts.items()})
    assert drift(pooled) == []


def test_a_pool_that_cannot_be_read_is_reported_and_does_not_hide_the_others(activated: Machine) -> None:
    activated.pool(name="other")
    pools = activated.records(PoolRecord)
    with open(pools[0].metadata, "r+b") as file:
        file.seek(BLOCK_BYTES)
        file.write(bytes(BLOCK_BYTES))
    activated.fake.dm.suspend("other")
    told = report(activated, *Subject)
    assert [pool["name"] for pool in told["pools"]] == ["pool", "other"]
    assert [(one["kind"], one["text"][:44]) for one in told["drift"]] == [
        ("pool_unreadable", "the pool 'pool' cannot be looked at: the met"),
        ("device_suspended", "the device other is suspended: its users wai"),
    ]


def test_a_pool_that_cannot_be_asked_is_reported_and_does_not_hide_the_others(pooled: Machine) -> None:
    pooled.pool(name="other")
    pooled.fake.refuse("dmsetup status --noflush pool", errno.EIO, times=2)
    outcome = pooled.run(lambda host: inform(host, frozenset([Subject.POOLS, Subject.DRIFT])), dry_run=True)
    assert [pool["status"] for pool in outcome.facts["pools"]] == ["unknown", "rw"]
    assert [(one["kind"], one["subject"]) for one in outcome.facts["drift"]] == [("pool_unreadable", "pool pool")]


@pytest.mark.parametrize("kind", ["pool", "base", "snap"])
def test_a_table_that_is_not_the_stores_is_reported(activated: Machine, kind: str) -> None:
    [pool] = activated.records(PoolRecord)
    if kind == "pool":
        changed: object = pool._replace(low_water_blocks=pool.low_water_blocks + 1)
    else:
        volume = next(one for one in activated.records(Volume) if one.kind == kind)
        with activated.host() as host:
            map_thin(host, pool, volume)
        changed = volume._replace(sectors=volume.sectors + 8)
    assert drift(activated) == []
    with activated.host() as host, host.store.transaction():
        host.store.put(changed)
    [found] = drift(activated)
    assert (found["kind"], kind in found["subject"]) == ("table_differs", True)
    assert found["text"].startswith(f"the device {kind}")
    assert "has the table `0 " in found["text"]


def test_leftovers_in_the_state_directory_are_reported_unless_an_intent_owns_them(pooled: Machine) -> None:
    pooled.killed_at("fetch:downloaded", pooled.fetch)
    assert pooled.files_in("spool") != []
    assert drift(pooled) == []
    part = pooled.state / "spool/01J9Z3M4N5P6Q7R8S9T0V1W2X3.part"
    part.touch()
    assert drift(pooled) == [record(DriftKind.FILE_ORPHANED, str(part), f"{part} belongs to no run")]


def test_thin_ids_of_one_side_only_are_drift_and_stay(activated: Machine) -> None:
    volume = next(one for one in activated.records(Volume) if one.kind == "base")
    activated.fake.dm.message("pool", f"delete {volume.thin_id}")
    activated.fake.dm.message("pool", "create_thin 77")
    before = activated.everything()
    missing = f"the volume {volume.device_name} is lost: the pool 'pool' has no thin id {volume.thin_id}"
    unknown = "the pool 'pool' has thin id 77, which the store does not know; it is left alone"
    expected = [
        record(DriftKind.VOLUME_MISSING, volume.device_path, missing),
        record(DriftKind.THIN_ID_UNKNOWN, "pool pool", unknown),
    ]
    kinds = {one["kind"] for one in expected}
    assert [one for one in drift(activated) if one["kind"] in kinds] == expected
    assert activated.everything() == before


def test_an_environment_that_does_not_work_is_drift(pooled: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "damage", lambda: "the environment is damaged")
    [found] = drift(pooled)
    assert (found["kind"], found["subject"]) == ("environment", "/opt/flyd/venv")
    assert found["text"].startswith("the environment is damaged; run the role flyd.lite.prepare")
    monkeypatch.setattr(environment, "complaint", lambda: "the environment has no interpreter")
    [found] = drift(pooled)
    assert found["text"].startswith("the environment has no interpreter; run the role flyd.lite.prepare")


# The host and its history


def test_the_host_says_what_runs_on_it_and_how_much_room_there_is(activated: Machine) -> None:
    host = activated.run(lambda one: inform(one, frozenset([Subject.HOST])), dry_run=True).facts["host"]
    galaxy = (Path(__file__).parents[4] / "galaxy.yml").read_text()
    [image] = activated.records(Image)
    assert f"\nversion: {host['collection_version']}\n" in galaxy
    assert host["archives"] == [image.sha256]
    assert host["state_dir"]["path"] == str(activated.state)
    assert 0 < host["state_dir"]["free"] < host["state_dir"]["size"]
    assert host["platform"].startswith("linux/")
    assert host["boot_program_schema"] is None
    program = activated.root / "usr/local/lib/flyd-host.py"
    program.parent.mkdir(parents=True)
    program.write_text("# Schema of the database: 4\n")
    host = activated.run(lambda one: inform(one, frozenset([Subject.HOST])), dry_run=True).facts["host"]
    assert (host["boot_program_schema"], host["schema"]) == (4, VERSION)


def test_a_pool_says_what_can_be_taken_of_it_and_of_what_is_below(pooled: Machine) -> None:
    pooled.pool(min_free_percent=25)
    [pool] = pooled.run(lambda one: inform(one, frozenset([Subject.POOLS])), dry_run=True).facts["pools"]
    assert pool["data"]["free"] == POOL_BYTES * 3 // 4 - pool["data"]["used"]
    free = os.statvfs(pooled.state)
    assert 0 < pool["free_below"] < free.f_bavail * free.f_frsize


def test_the_history_is_the_log_from_its_end(activated: Machine) -> None:
    activated.s3.put("other.tar", b"no archive")
    activated.fetch(key=ObjectKey("other.tar"))
    with pytest.raises(FlydError):
        activated.unpack(key=ObjectKey("other.tar"))

    def history(**only: Any) -> list[Any]:
        return list(
            activated.run(lambda one: inform(one, frozenset([Subject.HISTORY]), Only(**only)), dry_run=True).facts[
                "history"
            ]
        )

    found = history()
    assert [(one["transition"], one["outcome"]) for one in found][:2] == [("unpack", "failed"), ("fetch", "ok")]
    assert (found[0]["error_kind"], found[0]["key"]) == ("untrusted", "other.tar")
    assert [one["transition"] for one in history(key=KEY.value)] == ["snapshot", "unpack", "fetch"]
    assert len(history(runs=2)) == 2
    log = activated.state / "log"
    (log / "flyd.jsonl").rename(log / "flyd-000001.jsonl")
    (log / "flyd.jsonl").write_text('not json\n{"event": "end", "transition": "pool", "pool": "pool"}\n[]\n')
    assert [one["transition"] for one in history()][:2] == ["pool", "unpack"]


def test_without_a_log_there_is_no_history(virgin: Machine) -> None:
    assert virgin.run(lambda one: inform(one, frozenset([Subject.HISTORY])), dry_run=True).facts["history"] == []


# Use of snapshots


def used(machine: Machine) -> tuple[bool, str | None]:
    [snapshot] = report(machine, Subject.SNAPSHOTS)["snapshots"]
    return snapshot["in_use"], snapshot["used_at"]


def test_a_snapshot_that_was_never_in_use_has_no_time(activated: Machine) -> None:
    assert used(activated) == (False, None)


def test_an_open_snapshot_is_in_use_now_and_the_daily_service_records_it(activated: Machine) -> None:
    [snapshot] = activated.records(Snapshot)
    activated.fake.hold(os.path.basename(snapshot.device))
    begun = utc_now()
    is_used, at = used(activated)
    assert is_used
    assert begun <= (at or "") <= utc_now()
    activated.dump()
    activated.fake.let_go()
    is_used, at = used(activated)
    assert (is_used, at) == (False, activated.records(Snapshot)[0].used_at)
    assert at


@pytest.mark.parametrize("then", ["absent", "flip"])
def test_an_instance_leaves_the_time_at_which_its_snapshot_was_used(activated: Machine, then: str) -> None:
    bound = Bound(activated)
    bound.call()
    if then == "absent":
        bound.call("absent")
    times = [one["used_at"] for one in report(activated, Subject.SNAPSHOTS)["snapshots"] if one["name"] == NAME]
    assert all(times), times


@pytest.mark.parametrize(
    ("what", "walks"),
    [
        ((Subject.IMAGES, Subject.SNAPSHOTS), 1),
        ((Subject.IMAGES,), 1),
        ((Subject.SNAPSHOTS,), 1),
        ((Subject.POOLS,), 0),
    ],
)
def test_the_metadata_of_a_pool_is_walked_once_in_a_report_and_only_when_it_must(
    activated: Machine, monkeypatch: pytest.MonkeyPatch, what: tuple[Subject, ...], walks: int
) -> None:
    real, walked = read_shares, list[str]()

    def noted(path: str, groups: Sequence[Collection[int]]) -> list[dict[int, Shares]]:
        walked.append(path)
        return real(path, groups)

    monkeypatch.setattr(shares, "read_shares", noted)
    facts = report(activated, *what)
    assert len(walked) == walks
    assert all(one["base_own"] for one in facts.get("images", []))
    assert all(one["exclusive"] for one in facts.get("snapshots", []))


def test_bytes_of_a_snapshot_are_whole_blocks_and_unknown_while_its_pool_is_down(activated: Machine) -> None:
    [snapshot] = report(activated, Subject.SNAPSHOTS)["snapshots"]
    assert 0 < snapshot["exclusive"] <= snapshot["used"]
    assert snapshot["used"] % BLOCK_BYTES == 0
    activated.fake.reboot()
    [snapshot] = report(activated, Subject.SNAPSHOTS)["snapshots"]
    assert (snapshot["used"], snapshot["exclusive"]) == (None, None)
