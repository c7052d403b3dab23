# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One generation, current or retired, is named by its SHA-256: it is unpacked, activated and removed, and the others stay as they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest

from module_utils._errors import BadInput, Busy, OutOfOrder
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.store.records import Image, RetiredImage, Snapshot, State, Volume
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
MODES = pytest.mark.parametrize("dry_run", [True, False], ids=["check mode", "run"])
REMOVALS: dict[str, Callable[..., Outcome]] = {
    "snapshot": Machine.remove_snapshot,
    "base": lambda machine, **given: machine.remove_base(force=True, **given),
    "archive": lambda machine, **given: machine.remove_archive(force=True, **given),
}


@pytest.fixture
def host(activated: Machine) -> Machine:
    """A host with two generations that are activated; the older one, SHA256, is retired."""
    activated.s3.put(KEY.value, OTHER_ARCHIVE)
    for step in ("fetch", "unpack", "snapshot"):
        getattr(activated, step)()
    return activated


def of(machine: Machine, sha256: str) -> Image:
    [found] = [one for one in machine.generations() if one.sha256 == sha256]
    return found


def snapshots_of(machine: Machine, sha256: str) -> list[Snapshot]:
    return [one for one in machine.records(Snapshot) if one.image_id == of(machine, sha256).id]


def test_a_snapshot_is_made_of_the_named_generation_which_stays_retired(host: Machine) -> None:
    before, current = of(host, SHA256), of(host, OTHER_SHA256)
    made = host.snapshot("guest", sha256=SHA256)
    assert (made.changed, made.facts["image_id"], made.facts["sha256"]) == (True, before.id, SHA256)
    assert made.facts["base_device"] == before.pool_device
    assert [one.name for one in snapshots_of(host, SHA256)] == ["default", "guest"]
    assert [one.id for one in host.records(RetiredImage)] == [before.id]
    assert host.records(Image) == [current]
    state = host.everything()
    assert not host.snapshot("guest", sha256=SHA256).changed
    assert (host.everything(), host.left_over()) == (state, [])


def test_a_retired_generation_is_unpacked_again_of_its_archive(host: Machine) -> None:
    host.remove_base(force=True, sha256=SHA256)
    assert of(host, SHA256).state is State.FETCHED
    made = host.unpack(sha256=SHA256)
    assert (made.changed, made.facts["sha256"], made.facts["layers"]) == (True, SHA256, 2)
    assert host.unpack(sha256=SHA256).changed is False
    assert host.snapshot(sha256=SHA256).changed
    assert [one.sha256 for one in host.records(RetiredImage)] == [SHA256]
    assert of(host, SHA256).state is State.ACTIVATED
    assert host.left_over() == []


@MODES
def test_without_its_archive_it_is_refused_with_what_to_do(host: Machine, dry_run: bool) -> None:
    host.remove_base(force=True, sha256=SHA256)
    os.unlink(host.state / "archives" / SHA256)
    with pytest.raises(OutOfOrder, match="has neither a base nor its archive") as refused:
        host.unpack(sha256=SHA256, dry_run=dry_run)
    assert f"flyd_fetch with checksum: sha256:{SHA256}" in refused.value.hint


def test_a_generation_that_is_not_unpacked_is_refused_and_named(host: Machine) -> None:
    host.remove_base(force=True, sha256=SHA256)
    with pytest.raises(OutOfOrder, match=f"with sha256:{SHA256} is fetched, not yet unpacked"):
        host.snapshot(sha256=SHA256)
    assert host.left_over() == []


@MODES
@pytest.mark.parametrize("step", [Machine.unpack, Machine.snapshot], ids=["unpack", "snapshot"])
def test_an_unknown_generation_is_refused_with_those_that_are_known(
    host: Machine, step: Callable[..., Outcome], dry_run: bool
) -> None:
    with pytest.raises(OutOfOrder) as refused:
        step(host, sha256="0" * 64, dry_run=dry_run)
    assert f"it has sha256:{OTHER_SHA256} (current), sha256:{SHA256} (retired)" in refused.value.msg


def test_in_check_mode_one_that_an_earlier_step_would_have_fetched_is_assumed(host: Machine) -> None:
    predicted = host.unpack(sha256="0" * 64, assume=["generation"], dry_run=True)
    assert (predicted.changed, predicted.facts["sha256"]) == (True, "0" * 64)


def test_without_a_pool_named_it_stays_in_its_own(host: Machine) -> None:
    host.remove_base(force=True, sha256=OTHER_SHA256)
    host.pool(name="second")
    host.unpack(pool="second")
    made = host.snapshot("guest", sha256=SHA256)
    assert made.facts["pool"] == "pool"
    assert host.snapshot("guest").facts["pool"] == "second"


@MODES
@pytest.mark.parametrize("what", REMOVALS)
@pytest.mark.parametrize(("gone", "stays"), [(SHA256, OTHER_SHA256), (OTHER_SHA256, SHA256)])
def test_a_removal_is_of_the_named_generation_alone(
    host: Machine, what: str, gone: str, stays: str, dry_run: bool
) -> None:
    remove, kept, snapshots = REMOVALS[what], of(host, stays), snapshots_of(host, stays)
    before, image = host.everything(), of(host, gone)
    outcome = remove(host, sha256=gone, dry_run=dry_run)
    devices = [image.snap_device, image.pool_device][: 1 if what == "snapshot" else 2]
    archives = [str(host.state / "archives" / gone)] if what == "archive" else []
    assert outcome.facts["removed"] == devices + archives
    if dry_run:
        assert host.everything() == before
        return
    assert (of(host, stays), snapshots_of(host, stays)) == (kept, snapshots)
    assert host.left_over() == []
    state = host.everything()
    assert not remove(host, sha256=gone).changed
    assert host.everything() == state


def test_when_the_current_generation_goes_no_other_takes_its_place_and_the_retired_one_stays_of_use(
    host: Machine,
) -> None:
    device = of(host, SHA256).snap_device
    outcome = host.remove_archive(force=True, sha256=OTHER_SHA256)
    assert (outcome.after["state"], outcome.after["image_id"]) == ("new", None)
    assert list(outcome.after["retired"]) == [of(host, SHA256).id]
    assert host.records(Image) == []
    assert host.snapshot(sha256=SHA256).facts["device"] == device
    with pytest.raises(OutOfOrder, match="is new, not yet unpacked"):
        host.snapshot()
    revived = host.fetch(checksum=f"sha256:{SHA256}")
    assert (revived.facts["revived"], host.snapshot().facts["device"]) == (True, device)
    host.remove_archive(force=True, sha256=SHA256)
    assert (host.generations(), host.records(Volume), host.files_in("archives")) == ([], [], [])
    assert host.left_over() == []


def test_the_retired_generation_that_is_left_is_removed_with_the_key(host: Machine) -> None:
    host.remove_archive(force=True, sha256=OTHER_SHA256)
    assert host.remove_image().changed
    assert (host.generations(), host.records(Volume), host.left_over()) == ([], [], [])


@pytest.mark.parametrize("what", REMOVALS)
def test_removing_an_unknown_generation_changes_nothing_and_names_the_known_ones(host: Machine, what: str) -> None:
    before = host.everything()
    outcome = REMOVALS[what](host, sha256="0" * 64)
    assert (outcome.changed, outcome.facts["removed"]) == (False, [])
    [warning] = outcome.facts["warnings"]
    assert f"there is no generation {'0' * 64} of {KEY}, so nothing is removed" in warning
    assert (SHA256 in warning, OTHER_SHA256 in warning) == (True, True)
    assert host.everything() == before


def test_every_device_of_the_named_generation_is_asked_before_the_first_goes(host: Machine) -> None:
    host.snapshot("guest", sha256=SHA256)
    held = snapshots_of(host, SHA256)[1]
    host.fake.hold(os.path.basename(held.device))
    before = host.fake.devices(), host.fake.thin_ids("pool")
    for remove in (REMOVALS["base"], REMOVALS["archive"]):
        with pytest.raises(Busy):
            remove(host, sha256=SHA256)
        assert (host.fake.devices(), host.fake.thin_ids("pool")) == before
    assert host.remove_archive(force=True, sha256=OTHER_SHA256).changed, "a device of another generation is no matter"
    host.fake.let_go()
    assert REMOVALS["archive"](host, sha256=SHA256).changed
    assert host.left_over() == []


def test_without_force_what_depends_on_it_is_refused(host: Machine) -> None:
    with pytest.raises(OutOfOrder, match="is still unpacked"):
        host.remove_archive(sha256=SHA256)
    with pytest.raises(OutOfOrder, match="has 1 snapshots"):
        host.remove_base(sha256=SHA256)
    host.remove_snapshot(sha256=SHA256)
    assert host.remove_base(sha256=SHA256).changed
    assert host.remove_archive(sha256=SHA256).changed
    assert [one.sha256 for one in host.generations()] == [OTHER_SHA256]


def test_a_pool_that_is_named_must_hold_the_named_generation_only(host: Machine) -> None:
    host.remove_base(force=True, sha256=OTHER_SHA256)
    host.pool(name="second")
    host.unpack(pool="second")
    with pytest.raises(BadInput, match="lies in the pool 'pool', not in 'second'"):
        host.remove_base(force=True, sha256=SHA256, pool="second")
    assert host.remove_base(force=True, sha256=SHA256, pool="pool").changed
    assert of(host, OTHER_SHA256).base_ulid


def test_a_layer_that_another_generation_has_stays(pooled: Machine) -> None:
    """Of one key, as of others."""
    from module_utils._names import ObjectKey
    from tests.unit._lifecycle.machine import LAYERS

    family = ObjectKey("images/layers/")
    try:
        pooled.s3.put(f"{family}1", LAYERS[0])
        old = pooled.fetch(key=family).facts["sha256"]
        pooled.s3.put(f"{family}2", LAYERS[1])
        pooled.fetch(key=family)
        pooled.remove_archive(key=family, sha256=old)
        assert pooled.files_in("archives") == sorted(hashlib.sha256(layer).hexdigest() for layer in LAYERS)
        assert pooled.left_over() == []
    finally:
        for name in "12":
            pooled.s3.delete(f"{family}{name}")
