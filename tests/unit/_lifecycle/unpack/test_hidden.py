# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hidden bases: the lowest layers that images of several keys share, unpacked once; who makes them, and who removes them."""

from __future__ import annotations

from typing import Any

import pytest

from module_utils._errors import NoSpace
from module_utils._lifecycle.prune.options import PruneOptions
from module_utils._lifecycle.prune.prune import prune
from module_utils._lifecycle.report.info import Only, Subject, inform
from module_utils._lifecycle.store.base_record import BaseRecord
from module_utils._lifecycle.store.records import Image, PoolRecord, Volume
from module_utils._lifecycle.unpack import make_base
from module_utils._lifecycle.unpack.options import Reuse
from module_utils._lifecycle.volumes.room import require_room
from module_utils._lifecycle.volumes.volumes import map_thin
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.machine import KEY, LAYERS, OTHER_KEY, OTHER_LAYERS, Machine
from tests.unit.builders import images, tar

THIRD = ObjectKey("images/third.tar")
TREE = {"etc/old": b"gone", "etc/kept": b"kept", "other": b"own"}


@pytest.fixture
def shared(stages: Stages) -> Machine:
    """A host with a base, and the archive of another image that has the same lowest layer."""
    needs_root()
    return stages.at("shared")


@pytest.fixture
def hidden(stages: Stages) -> Machine:
    """The same host when that image is unpacked."""
    needs_root()
    return stages.at("hidden")


@pytest.fixture
def unneeded(stages: Stages) -> Machine:
    """A host whose pool has a hidden base alone."""
    needs_root()
    return stages.at("unneeded")


def volumes(machine: Machine, kind: str) -> list[Volume]:
    return [one for one in machine.records(Volume) if one.kind == kind]


def base_of(machine: Machine, key: ObjectKey) -> Volume:
    image = machine.image(key)
    assert image is not None
    found: Volume = next(one for one in machine.records(Volume) if one.ulid == image.base_ulid)
    return found


def pools(machine: Machine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = machine.run(
        lambda host: inform(host, frozenset({Subject.POOLS}), Only()), dry_run=True
    ).facts["pools"]
    return found


def test_an_image_that_shares_its_lowest_layer_is_made_of_a_hidden_base(shared: Machine) -> None:
    facts = shared.unpack_other().facts
    [hidden] = volumes(shared, "hidden")
    assert (facts["origin"], facts["origin_key"], facts["fresh_because"]) == (hidden.device_name, None, None)
    assert (facts["reused_bytes"], facts["written_bytes"]) == (8, 3)
    assert shared.tree_of(base_of(shared, OTHER_KEY)) == TREE
    assert shared.tree_of(hidden) == {"etc/old": b"gone", "etc/kept": b"kept"}
    assert shared.left_over() == []


def test_it_has_held_nothing_but_those_layers(hidden: Machine) -> None:
    rows = {one.base_ulid: one for one in hidden.records(BaseRecord)}
    [volume] = volumes(hidden, "hidden")
    lowest = (images.sha256(LAYERS[0]),)
    assert (rows[volume.ulid].own_layers, rows[volume.ulid].held) == (lowest, frozenset(lowest))
    assert rows[base_of(hidden, OTHER_KEY).ulid].held == frozenset(map(images.sha256, OTHER_LAYERS))


def test_it_is_no_image_and_is_never_mapped(hidden: Machine) -> None:
    [volume] = volumes(hidden, "hidden")
    assert sorted(image.object_key for image in hidden.records(Image)) == [OTHER_KEY.value, KEY.value]
    assert volume.ulid not in [image.base_ulid for image in hidden.generations()]
    assert volume.device_name not in hidden.fake.devices()
    assert [pool["hidden_bases"] for pool in pools(hidden)] == [1]


def test_a_third_image_is_made_of_the_same(hidden: Machine) -> None:
    hidden.publish_other(LAYERS[0], tar.tar(tar.file(b"third", b"3")), key=THIRD)
    facts = hidden.unpack_other(key=THIRD).facts
    [volume] = volumes(hidden, "hidden")
    assert facts["origin"] == volume.device_name
    assert hidden.left_over() == []


def test_a_shorter_beginning_is_not_worth_it(shared: Machine) -> None:
    facts = shared.unpack_other(least_shared_bytes=32 << 20).facts
    assert (facts["fresh_because"], volumes(shared, "hidden")) == ("other_layers", [])


@pytest.mark.parametrize("reuse", [Reuse.KEY, Reuse.NEVER])
def test_other_values_of_reuse_make_none(shared: Machine, reuse: Reuse) -> None:
    shared.unpack_other(reuse=reuse)
    assert volumes(shared, "hidden") == []


def test_an_image_that_is_the_beginning_of_another_is_made_fresh(shared: Machine) -> None:
    shared.publish_other(LAYERS[0], key=THIRD)
    facts = shared.unpack_other(key=THIRD).facts
    assert (facts["fresh_because"], volumes(shared, "hidden")) == ("other_layers", [])


def test_check_mode_makes_none(shared: Machine) -> None:
    before = shared.everything()
    shared.unpack_other(dry_run=True)
    assert shared.everything() == before


def test_a_pool_without_room_for_it_has_room_for_a_fresh_base(shared: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, what: str, **options: Any) -> None:
        if what == "a hidden base":
            raise NoSpace("no room", hint="")
        require_room(*given, what=what, **options)

    monkeypatch.setattr(make_base, "require_room", full)
    assert shared.unpack_other().facts["fresh_because"] == "other_layers"
    assert [line["image"] for line in shared.log() if line["event"] == "hidden base not made"] == [OTHER_KEY.value]
    assert (volumes(shared, "hidden"), shared.left_over()) == ([], [])


def test_one_whose_manifest_cannot_be_kept_is_not_kept(shared: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be made of it, and each later image would make another."""

    def full(_host: object, base: Volume, _fd: int) -> str:
        if base.kind == "hidden":
            raise NoSpace("the disk is full", hint="")
        return ""

    monkeypatch.setattr("module_utils._lifecycle.unpack.recording.keep_manifest", full)
    assert shared.unpack_other().facts["fresh_because"] == "other_layers"
    assert (volumes(shared, "hidden"), shared.left_over()) == ([], [])


def test_one_that_takes_the_room_of_the_base_goes_again(shared: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(host: Any, *given: Any, **options: Any) -> None:
        if host.store.rows("SELECT 1 FROM volumes WHERE kind='hidden'"):
            raise NoSpace("no room", hint="")
        require_room(host, *given, **options)

    monkeypatch.setattr("module_utils._lifecycle.unpack.base_size.require_room", full)
    assert shared.unpack_other().facts["fresh_because"] == "no_room"
    assert shared.tree_of(base_of(shared, OTHER_KEY)) == TREE
    assert (volumes(shared, "hidden"), shared.left_over()) == ([], [])


# Removal


def test_it_stays_while_a_base_begins_with_it(hidden: Machine) -> None:
    assert hidden.prune().facts["removed"] == []
    hidden.remove_archive(key=OTHER_KEY, force=True)
    assert hidden.prune().facts["removed"] == [], "the first image begins with it as well"
    assert len(volumes(hidden, "hidden")) == 1


def test_prune_removes_one_that_no_base_begins_with(unneeded: Machine) -> None:
    [volume] = volumes(unneeded, "hidden")
    before = unneeded.everything()
    foreseen = unneeded.prune(dry_run=True)
    assert (foreseen.changed, foreseen.facts["removed"]) == (True, [volume.device_path])
    assert foreseen.facts["would_free_bytes"] > 0
    assert unneeded.everything() == before
    outcome = unneeded.prune()
    assert (outcome.changed, outcome.facts["removed"]) == (True, [volume.device_path])
    assert (unneeded.records(Volume), unneeded.files_in("manifests"), unneeded.left_over()) == ([], [], [])
    assert unneeded.prune().changed is False


def test_one_that_is_held_is_a_warning_and_stays(unneeded: Machine) -> None:
    [volume] = volumes(unneeded, "hidden")
    with unneeded.host() as host:
        [pool] = host.store.all(PoolRecord)
        device = map_thin(host, pool, volume, read_only=True)
    unneeded.fake.hold(device.name)
    with unneeded.host() as host:
        outcome = prune(host, PruneOptions(keep=0))
        [warning] = host.warnings
    assert (outcome.changed, outcome.facts["removed"], volumes(unneeded, "hidden")) == (False, [], [volume])
    assert f"nothing needs {volume.device_name} any more" in warning
    unneeded.fake.let_go()
    assert unneeded.prune().facts["removed"] == [volume.device_path]
    assert unneeded.left_over() == []


def test_the_next_run_settles_before_it_looks_for_what_nothing_needs(unneeded: Machine) -> None:
    """A base that was being made when the power went does not keep it; check mode says so beforehand."""
    [volume] = volumes(unneeded, "hidden")
    unneeded.publish_other()
    unneeded.killed_at("unpack:mapped", unneeded.unpack_other)
    unneeded.remove_archive(key=OTHER_KEY, force=True)
    assert unneeded.prune(dry_run=True).facts["removed"] == [volume.device_path]
    assert unneeded.prune().facts["removed"] == [volume.device_path]
    assert unneeded.left_over() == []


def test_the_pool_goes_without_force_when_nothing_else_is_in_it(unneeded: Machine) -> None:
    unneeded.remove_pool()
    assert (unneeded.records(Volume), unneeded.files_in("manifests"), unneeded.left_over()) == ([], [], [])


def test_a_repair_looks_at_it_and_does_not_name_it_among_the_bases(hidden: Machine) -> None:
    bases = {base_of(hidden, key).device_path for key in (KEY, OTHER_KEY)}
    hidden.fake.set_pool("pool", damaged=True, needs_check=True)
    assert set(hidden.repair().facts["bases"]) == bases
    assert sum(line.argv[0] == "e2fsck" for line in hidden.ran) == 3
    assert hidden.left_over() == []


def test_one_that_the_pool_has_lost_is_forgotten(unneeded: Machine) -> None:
    [volume] = volumes(unneeded, "hidden")
    unneeded.fake.set_pool("pool", damaged=True, needs_check=True, lost=[volume.thin_id])
    [lost] = unneeded.repair().facts["lost"]
    assert (lost["kind"], lost["subject"]) == ("volume_missing", volume.device_path)
    assert (unneeded.records(Volume), unneeded.left_over()) == ([], [])


def test_one_whose_file_system_is_damaged_is_removed(unneeded: Machine) -> None:
    [volume] = volumes(unneeded, "hidden")
    unneeded.fake.set_pool("pool", damaged=True, needs_check=True)
    unneeded.fake.refuse("e2fsck -f -n", 5)
    [lost] = unneeded.repair().facts["lost"]
    assert (lost["kind"], lost["subject"]) == ("base_damaged", volume.device_path)
    assert (unneeded.records(Volume), unneeded.left_over()) == ([], [])


def test_a_generation_later_it_is_still_the_own_base_that_counts(hidden: Machine) -> None:
    first = base_of(hidden, OTHER_KEY)
    hidden.publish_other(LAYERS[0], tar.tar(tar.file(b"other", b"new")))
    assert hidden.unpack_other().facts["origin"] == first.device_name
