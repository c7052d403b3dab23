# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode in each state of an image: the change and the diff that are predicted are those that the real run then reports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from module_utils._errors import BadInput, FlydError, Untrusted
from module_utils._lifecycle.node import NodeAccess
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.records import Snapshot
from tests.predictions import came_true
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine

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
    "snapshot for a user": lambda machine, **mode: machine.snapshot(access=NodeAccess(uid=123, mode=0o640), **mode),
    "no snapshot": Machine.remove_snapshot,
    "no base": lambda machine, **mode: machine.remove_base(force=True, **mode),
    "no archive": Machine.remove_archive,
    "no image": Machine.remove_image,
    "no pool": lambda machine, **mode: machine.remove_pool(force=True, **mode),
}
# What must have happened before, or else the real run is refused where a dry run supposes a predecessor that was only simulated.
NEEDS = {
    "unpack": "fetched",
    "snapshot": "unpacked",
    "snapshot of another name": "unpacked",
    "snapshot for a user": "unpacked",
}
REFUSED = {"no archive": ("unpacked", "activated", "second snapshot", "refetched", "two generations")}


def brought_to(stages: Stages, stage: str) -> Machine:
    if stage not in ("virgin", "pooled", "fetched"):
        needs_root()
    machine = stages.at(stage if stage in STAGES[:5] else "activated")
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
    if stage == "refetched" and step.startswith("snapshot"):
        return False
    if stage in STAGES[6:] and step == "fetch pinned":
        return False  # that the object is another one by now, only its bytes tell
    return at >= STAGES.index(NEEDS.get(step, "virgin")) and stage not in REFUSED.get(step, ())


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        *((stage, step) for stage in STAGES for step in STEPS if possible(stage, step)),
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
    for promised in ("removed", "restored"):
        assert predicted.facts.get(promised) == real.facts.get(promised)


def test_the_diff_of_a_chain_names_the_pool_and_every_device(virgin: Machine) -> None:
    needs_root()
    assert virgin.pool().after["device"] == "/dev/mapper/pool"
    virgin.fetch()
    base = virgin.unpack()
    assert (base.before["pool"], base.before["base"]) == (None, None)
    assert (base.after["pool"], base.after["base"]) == ("/dev/mapper/pool", base.facts["device"])
    snapshot = virgin.snapshot("second", access=NodeAccess(mode=0o600))
    assert snapshot.before["snapshots"] == {}
    assert snapshot.after["snapshots"] == {
        "second": {"device": snapshot.facts["device"], "mapped": True, "read_only": False}
    }
    assert (snapshot.before["node"], snapshot.after["node"]) == (None, {"mode": "0600"})


def test_check_mode_finds_a_checksum_that_nobody_has(pooled: Machine) -> None:
    with pytest.raises(Untrusted, match="checksum_policy is require"):
        pooled.fetch(dry_run=True, policy="require")


def test_check_mode_finds_a_snapshot_that_is_there_with_another_mode(activated: Machine) -> None:
    activated.fake.device_mapper(activated.fake.runner).remove(activated.snapshot().facts["device"].rpartition("/")[2])
    with pytest.raises(BadInput, match="exists with read_only=False"):
        activated.snapshot(dry_run=True, read_only=True)
