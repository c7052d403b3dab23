# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode in each state of an image: the change and the diff that are predicted are those that the real run then reports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from module_utils._errors import BadInput, FlydError, NoSpace, Untrusted
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.snapshot.device_node import NodeAccess
from module_utils._lifecycle.snapshot.mode import Mode
from module_utils._lifecycle.store.records import Snapshot
from tests.predictions import came_true
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import ARCHIVE, KEY, LAYERS, OTHER_ARCHIVE, Machine
from tests.unit.builders import images

STAGES = ["virgin", "pooled", "fetched", "unpacked", "activated", "second snapshot", "refetched", "two generations"]
UNMAPPED = ["rebooted", "one unmapped"]
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
STEPS: dict[str, Callable[..., Outcome]] = {
    "pool": Machine.pool,
    "pool with another reserve": lambda machine, **mode: machine.pool(min_free_percent=5, **mode),
    "fetch": Machine.fetch,
    "fetch pinned": lambda machine, **mode: machine.fetch(checksum=f"sha256:{SHA256}", **mode),
    "unpack": Machine.unpack,
    "snapshot": Machine.snapshot,
    "snapshot of another name": lambda machine, **mode: machine.snapshot("third", read_only=True, **mode),
    "snapshot for a user": lambda machine, **mode: machine.snapshot(
        access=NodeAccess(uid=123, mode=Mode(0o640)), **mode
    ),
    "unpack the named": lambda machine, **mode: machine.unpack(sha256=SHA256, **mode),
    "snapshot of the named": lambda machine, **mode: machine.snapshot("third", sha256=SHA256, **mode),
    "no snapshot of the named": lambda machine, **mode: machine.remove_snapshot(sha256=SHA256, **mode),
    "no base of the named": lambda machine, **mode: machine.remove_base(force=True, sha256=SHA256, **mode),
    "no named": lambda machine, **mode: machine.remove_archive(force=True, sha256=SHA256, **mode),
    "no snapshot": Machine.remove_snapshot,
    "no base": lambda machine, **mode: machine.remove_base(force=True, **mode),
    "no archive": Machine.remove_archive,
    "no image": Machine.remove_image,
    "prune": Machine.prune,
    "prune but two": lambda machine, **mode: machine.prune(keep=2, **mode),
    "prune but archives": lambda machine, **mode: machine.prune(archives=False, **mode),
    "no pool": lambda machine, **mode: machine.remove_pool(force=True, **mode),
}
# What must have happened before, or else the real run is refused where a dry run supposes a predecessor that was only simulated.
NEEDS = {
    "unpack": "fetched",
    "snapshot": "unpacked",
    "snapshot of another name": "unpacked",
    "snapshot for a user": "unpacked",
    "unpack the named": "fetched",
    "snapshot of the named": "unpacked",
}
REFUSED = {"no archive": ("unpacked", "activated", "second snapshot", "refetched", "two generations")}


def brought_to(stages: Stages, stage: str) -> Machine:
    if stage not in ("virgin", "pooled", "fetched"):
        needs_root()
    machine = stages.at(stage if stage in (*STAGES[:5], "many") else "activated")
    if stage in (*STAGES[5:], *UNMAPPED):
        machine.snapshot("second")
    if stage == "rebooted":
        machine.fake.reboot()
    if stage == "one unmapped":
        machine.fake.dm.remove(machine.records(Snapshot)[1].device.rpartition("/")[2])
    if stage in STAGES[6:]:
        machine.s3.put(KEY.value, OTHER_ARCHIVE)
        machine.fetch()
    if stage in STAGES[7:]:
        machine.unpack()
        machine.snapshot()
    return machine


def possible(stage: str, step: str) -> bool:
    at = STAGES.index(stage)
    if stage == "virgin" and step in ("fetch", "fetch pinned"):
        return True
    if stage == "refetched" and step.startswith("snapshot") and not step.endswith("the named"):
        return False
    return at >= STAGES.index(NEEDS.get(step, "virgin")) and stage not in REFUSED.get(step, ())


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        *((stage, step) for stage in STAGES for step in STEPS if possible(stage, step)),
        *(("many", step) for step in STEPS if step.startswith("prune")),
        *((stage, step) for stage in UNMAPPED for step in ("pool", "pool with another reserve")),
    ],
)
def test_the_real_run_reports_what_check_mode_predicted(stages: Stages, stage: str, step: str) -> None:
    machine = brought_to(stages, stage)
    act = STEPS[step]
    before = machine.everything()
    predicted: Outcome | FlydError
    real: Outcome | FlydError
    try:
        predicted = act(machine, dry_run=True)
    except FlydError as error:
        predicted = error
    assert machine.everything() == before, "check mode wrote"
    if step not in ("fetch", "fetch pinned", "pool", "pool with another reserve") and not step.startswith("no "):
        needs_root()
    try:
        real = act(machine)
    except FlydError as error:
        real = error
    if isinstance(predicted, FlydError) or isinstance(real, FlydError):
        assert (type(predicted), str(predicted)) == (type(real), str(real))
        return
    assert predicted.changed == real.changed
    assert predicted.before == real.before
    assert came_true(predicted.after, real.after), (predicted.after, real.after)
    assert (real.before != real.after) is real.changed, "a change that no diff shows"
    for promised in ("removed", "restored", "kept", "skipped", "errors"):
        assert predicted.facts.get(promised) == real.facts.get(promised)


def test_the_diff_of_a_chain_names_the_pool_and_every_device(virgin: Machine) -> None:
    needs_root()
    assert virgin.pool().after["device"] == "/dev/mapper/pool"
    virgin.fetch()
    base = virgin.unpack()
    assert (base.before["pool"], base.before["base_device"]) == (None, None)
    assert (base.after["pool"], base.after["base_device"]) == ("/dev/mapper/pool", base.facts["device"])
    snapshot = virgin.snapshot("second", access=NodeAccess(mode=Mode(0o600)))
    assert snapshot.before["snapshots"] == {}
    assert snapshot.after["snapshots"] == {
        "second": {"device": snapshot.facts["device"], "mapped": True, "read_only": False}
    }
    assert (snapshot.before["node"], snapshot.after["node"]) == (None, {"mode": "0600"})


CHAIN: dict[str, Callable[..., Outcome]] = {
    "unpack": Machine.unpack,
    "snapshot": Machine.snapshot,
    "snapshot for a user": STEPS["snapshot for a user"],
}


@pytest.mark.parametrize("checksum", ["", "pinned"])
@pytest.mark.parametrize("stage", ["fetched", "unpacked", "activated", "second snapshot", "two generations"])
@pytest.mark.parametrize("last", ["snapshot", "snapshot for a user"])
def test_check_mode_of_a_chain_predicts_a_republished_object(
    stages: Stages, stage: str, last: str, checksum: str
) -> None:
    """The whole chain in check mode first, then for real: what each step says is the same, and no old device is named."""
    needs_root()
    machine = brought_to(stages, stage)
    archive = images.docker_archive(LAYERS[1:]) if stage == "two generations" else OTHER_ARCHIVE
    machine.s3.put(KEY.value, archive)
    if checksum:
        checksum = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    before = machine.everything()
    fetch = machine.fetch(dry_run=True, checksum=checksum)
    assume = ["generation"] if fetch.facts["new_generation"] else []
    predicted = [fetch, *(CHAIN[step](machine, dry_run=True, assume=assume) for step in ("unpack", last))]
    assert machine.everything() == before, "check mode wrote"
    real = [machine.fetch(checksum=checksum), *(CHAIN[step](machine) for step in ("unpack", last))]
    for said, did in zip(predicted, real):
        assert said.changed is did.changed is True
        for predicted_view, view in ((said.before, did.before), (said.after, did.after)):
            wrong = {
                what: (predicted_view[what], view[what])
                for what in view
                if not came_true(predicted_view[what], view[what])
            }
            assert (wrong, predicted_view.keys()) == ({}, view.keys())
        assert (said.facts.get("device"), said.facts["image_id"]) == (None, None)


@pytest.mark.parametrize("checksum", ["", f"sha256:{SHA256}"])
@pytest.mark.parametrize("without", ["nothing", "base"])
@pytest.mark.parametrize("last", ["snapshot", "snapshot for a user"])
def test_check_mode_of_a_chain_predicts_removal(stages: Stages, last: str, without: str, checksum: str) -> None:
    """The steps after flyd_fetch are given, as by the role activate, the generation that would be current."""
    needs_root()
    machine = brought_to(stages, "two generations")
    if without == "base":
        machine.remove_base(force=True, sha256=SHA256)
    machine.s3.put(KEY.value, ARCHIVE)
    before = machine.everything()
    fetch = machine.fetch(dry_run=True, checksum=checksum)
    assert (fetch.facts["revived"], fetch.facts["sha256"]) == (True, SHA256)
    meant: dict[str, Any] = {"assume": ["generation"], "sha256": SHA256}
    steps = ("unpack", last) if without == "nothing" else ("unpack",)
    predicted = [fetch, *(CHAIN[step](machine, dry_run=True, **meant) for step in steps)]
    assert machine.everything() == before, "check mode wrote"
    real = [machine.fetch(checksum=checksum), *(CHAIN[step](machine) for step in steps)]
    for said, did in zip(predicted, real):
        assert said.changed is did.changed
        assert came_true(differing(said), differing(did)), (said, did)
        if said.facts.get("device"):
            assert (said.facts["device"], said.facts["image_id"]) == (did.facts["device"], did.facts["image_id"])


def differing(outcome: Outcome) -> dict[str, object]:
    """What a diff shows as different."""
    return {name: value for name, value in outcome.after.items() if outcome.before[name] != value}


@pytest.mark.parametrize("step", ["unpack", "snapshot"])
def test_what_is_assumed_counts_in_check_mode_only(activated: Machine, step: str) -> None:
    assert CHAIN[step](activated, assume=["generation", "pool"]).changed is False


@pytest.mark.parametrize(("stage", "step"), [("fetched", "unpack"), ("unpacked", "snapshot")])
def test_check_mode_predicts_a_pool_without_its_reserve(stages: Stages, stage: str, step: str) -> None:
    machine = brought_to(stages, stage)
    machine.pool(min_free_percent=50)
    machine.fake.set_pool("pool", used_data_blocks=40)
    for dry_run in (True, False):
        with pytest.raises(NoSpace, match="less than the 50 % of min_free_percent"):
            CHAIN[step](machine, dry_run=dry_run)
    assert CHAIN[step](machine, dry_run=True, assume=["pool"]).changed  # a flyd_pool before it may have made room


def test_check_mode_finds_a_missing_checksum(pooled: Machine) -> None:
    with pytest.raises(Untrusted, match="checksum_policy is require"):
        pooled.fetch(dry_run=True, policy="require")


def test_check_mode_finds_a_snapshot_that_is_there_and_larger(activated: Machine) -> None:
    activated.snapshot(size_bytes=2 << 20)
    activated.fake.device_mapper(activated.fake.runner).remove(activated.snapshot().facts["device"].rpartition("/")[2])
    with pytest.raises(BadInput, match="exists with size: 2 MiB, and size: 1 MiB is requested"):
        activated.snapshot(dry_run=True, size_bytes=1 << 20)
