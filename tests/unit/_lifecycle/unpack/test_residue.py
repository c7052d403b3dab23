# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A base of another key as origin: only one that has held nothing but layers that the new image has, too, and has proven to have."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import Untrusted
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.store.base_record import BaseRecord, layers_text, residue_text
from module_utils._lifecycle.store.records import Image, Volume
from module_utils._lifecycle.unpack.inject import Injected
from module_utils._lifecycle.unpack.options import Reuse
from module_utils._lifecycle.unpack.origins import Fresh, refused
from module_utils._lifecycle.volumes.volumes import create_volume
from module_utils._names import ObjectKey
from tests.unit._lifecycle.conftest import Stages, needs_root
from tests.unit._lifecycle.faults.test_crashes import UNPACK_STEPS, VOLUME_STEPS
from tests.unit._lifecycle.machine import KEY, LAYERS, NEXT_LAYERS, Machine
from tests.unit.builders import images, tar

OTHER = ObjectKey("images/other.tar")
THIRD = ObjectKey("images/third.tar")
OWN = tar.tar(tar.file(b"own", b"own"))
TREE = {"etc/kept": b"kept", "redis-server": b"#!", "own": b"own"}


def record(layers: list[str], residue: list[str] | None, origin: BaseRecord | None = None) -> BaseRecord:
    """A base of ``layers`` with further ones in its free blocks; None: as one that is made of ``origin`` has it."""
    text = residue_text(layers, origin) if residue is None else layers_text(residue)
    return BaseRecord("", "", 0, "", 0, 0, "", layers_text(layers), text)


EARLIER_RELEASE = BaseRecord("", "", 0, "", 0, 0, "")
RULE = [
    # what the origin holds, the layers of the new image, the refusal
    (record(["a"], []), ["a"], None),
    (record(["a"], []), ["a", "b"], None),
    (record(["b"], []), ["a", "b"], None),
    (record(["a", "b"], []), ["b", "a"], None),
    (record([], []), ["a"], None),
    (record(["a", "b"], []), ["a"], Fresh.OTHER_LAYERS),
    (record(["a"], ["c"]), ["a", "b"], Fresh.OTHER_LAYERS),
    (record(["a"], ["c"]), ["a", "b", "c"], None),
    (record(["a", ""], []), ["a", "b"], Fresh.OTHER_LAYERS),
    (record(["a", ""], []), ["a", ""], Fresh.OTHER_LAYERS),
    (record(["a"], [""]), ["a", ""], Fresh.OTHER_LAYERS),
    (EARLIER_RELEASE, ["a"], Fresh.UNKNOWN_LAYERS),
    (EARLIER_RELEASE._replace(layers='["a"]'), ["a"], Fresh.UNKNOWN_LAYERS),
    # Bases that are made of others, in a row.
    (record(["a"], None, record(["a"], [])), ["a"], None),
    (record(["a"], None, record(["a", "b"], [])), ["a"], Fresh.OTHER_LAYERS),
    (record(["a"], None, record(["a"], None, record(["a", "b"], []))), ["a"], Fresh.OTHER_LAYERS),
    (record(["a"], None, record(["a"], None, record(["a", "b"], []))), ["a", "b"], None),
    (record(["a"], None, record(["a", ""], [])), ["a"], Fresh.OTHER_LAYERS),
    (record(["a"], None, EARLIER_RELEASE), ["a"], Fresh.UNKNOWN_LAYERS),
    (record(["a"], None, record(["a"], None, EARLIER_RELEASE)), ["a"], Fresh.UNKNOWN_LAYERS),
]


@pytest.mark.parametrize(("origin", "layers", "refusal"), RULE)
def test_the_rule(origin: BaseRecord, layers: list[str], refusal: Fresh | None) -> None:
    assert refused(origin, layers) is refusal


# On the simulated host


@pytest.fixture
def sealed(stages: Stages) -> Machine:
    """A host with the base of an image of ``LAYERS``."""
    needs_root()
    return stages.at("sealed")


def publish(machine: Machine, *layers: bytes, key: ObjectKey = OTHER) -> None:
    """Have the archive of an image of ``layers`` on the host."""
    machine.s3.put(key.value, images.docker_archive(layers))
    machine.fetch(key=key)


def unpacked(machine: Machine, *layers: bytes, key: ObjectKey = OTHER, **given: Any) -> dict[str, Any]:
    """The result for the image of ``layers`` under another key."""
    publish(machine, *layers, key=key)
    return unpack_other(machine, key=key, **given).facts


def unpack_other(machine: Machine, *, key: ObjectKey = OTHER, **given: Any) -> Outcome:
    return machine.unpack(**{"size_bytes": 0, "key": key, **given})


def base_of(machine: Machine, key: ObjectKey = OTHER) -> Volume:
    image = machine.image(key)
    assert image is not None
    found: Volume = next(one for one in machine.records(Volume) if one.ulid == image.base_ulid)
    return found


def row_of(machine: Machine, key: ObjectKey = KEY) -> BaseRecord:
    base = base_of(machine, key)
    found: BaseRecord = next(one for one in machine.records(BaseRecord) if one.base_ulid == base.ulid)
    return found


def change_row(machine: Machine, **values: Any) -> None:
    """Change what is recorded of the first base."""
    row = row_of(machine)
    with machine.host() as host, host.store.transaction():
        host.store.put(row._replace(**values))


def test_an_image_that_has_all_its_layers_is_made_of_it(sealed: Machine) -> None:
    facts = unpacked(sealed, *LAYERS, OWN)
    origin = base_of(sealed, KEY)
    assert (facts["origin"], facts["origin_key"], facts["fresh_because"]) == (origin.device_name, KEY.value, None)
    assert (facts["reused_bytes"], facts["written_bytes"]) == (6, 3)
    assert sealed.tree_of(base_of(sealed)) == TREE
    assert sealed.tree_of(origin) == {"etc/kept": b"kept", "redis-server": b"#!"}
    assert sealed.left_over() == []


def test_so_is_the_same_image_under_another_name(sealed: Machine) -> None:
    facts = unpacked(sealed, *LAYERS)
    assert (facts["origin_key"], facts["written_bytes"]) == (KEY.value, 0)


def test_what_it_holds_is_recorded(sealed: Machine) -> None:
    unpacked(sealed, *LAYERS, OWN)
    row = row_of(sealed, OTHER)
    assert row.own_layers == tuple(map(images.sha256, (*LAYERS, OWN)))
    assert (row.held, row.residue) == (frozenset(row.own_layers), "[]")


def test_a_layer_that_the_image_has_not_makes_it_fresh(sealed: Machine) -> None:
    facts = unpacked(sealed, LAYERS[0], OWN)
    assert (facts["fresh_because"], facts["origin"], facts["origin_key"]) == ("other_layers", None, None)
    assert sealed.tree_of(base_of(sealed)) == {"etc/old": b"gone", "etc/kept": b"kept", "own": b"own"}
    assert sealed.left_over() == []


def test_so_does_one_that_was_removed_generations_ago(sealed: Machine) -> None:
    sealed.fetch_next()
    sealed.unpack_onto()
    assert row_of(sealed).held == frozenset(map(images.sha256, (*NEXT_LAYERS, LAYERS[1])))
    assert unpacked(sealed, *NEXT_LAYERS, OWN)["fresh_because"] == "other_layers"
    newest = base_of(sealed, KEY).device_name
    assert unpacked(sealed, *LAYERS, *NEXT_LAYERS[1:], key=THIRD)["origin"] == newest
    assert sealed.tree_of(base_of(sealed, THIRD))["redis-server"] == b"#?"


def test_so_does_a_file_of_the_host(sealed: Machine, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"private")
    injected = Injected(str(tmp_path / "key"), "/etc/key")
    assert unpacked(sealed, *LAYERS, OWN, inject=(injected,))["origin_key"] == KEY.value
    sealed.remove_all()
    facts = unpacked(sealed, *LAYERS, OWN, tar.tar(tar.file(b"more", b"m")), key=THIRD)
    assert (facts["fresh_because"], facts["origin"]) == ("other_layers", None)


def test_so_does_a_layer_that_no_digest_covers(sealed: Machine) -> None:
    layers = ["", *row_of(sealed).own_layers]
    change_row(sealed, layers=layers_text(layers))
    assert unpacked(sealed, *LAYERS, OWN)["fresh_because"] == "other_layers"


def test_a_base_of_an_earlier_release_is_none_for_another_key(sealed: Machine) -> None:
    change_row(sealed, layers="", residue="")
    assert unpacked(sealed, *LAYERS, OWN)["fresh_because"] == "no_earlier_base"


def test_neither_is_one_that_was_made_of_such_a_base(sealed: Machine) -> None:
    change_row(sealed, layers="", residue="")
    sealed.fetch_next()
    assert sealed.unpack_onto().facts["origin"] is not None, "that of its own key may be"
    assert (row_of(sealed).own_layers, row_of(sealed).held) == (tuple(map(images.sha256, NEXT_LAYERS)), None)
    assert unpacked(sealed, *NEXT_LAYERS, OWN)["fresh_because"] == "unknown_layers"


DOUBTS: dict[str, Callable[[Machine], object]] = {
    "no_manifest": lambda machine: (machine.state / "manifests" / base_of(machine, KEY).ulid).unlink(),
    "no_earlier_base": lambda machine: change_row(machine, recipe="xfs 1"),
    "too_few_inodes": lambda machine: change_row(machine, inodes=7),
    "in_use": lambda machine: map_base(machine),
}


def map_base(machine: Machine) -> None:
    from module_utils._lifecycle.store.records import PoolRecord
    from module_utils._lifecycle.volumes.volumes import map_thin

    with machine.host() as host:
        [pool] = host.store.all(PoolRecord)
        map_thin(host, pool, base_of(machine, KEY), read_only=True)


@pytest.mark.parametrize("reason", DOUBTS)
def test_a_doubt_makes_it_fresh(sealed: Machine, reason: str) -> None:
    DOUBTS[reason](sealed)
    facts = unpacked(sealed, *LAYERS, OWN)
    assert (facts["fresh_because"], facts["origin"]) == (reason, None)
    assert sealed.tree_of(base_of(sealed)) == TREE


def test_a_larger_base_than_is_wanted_makes_it_fresh(stages: Stages) -> None:
    needs_root()
    machine = stages.at("roomy")
    machine.fetch()
    machine.unpack_grown()
    assert unpacked(machine, *LAYERS, OWN)["fresh_because"] == "smaller_size"


def test_an_image_that_hides_files_is_made_of_a_base_that_is_a_little_larger(stages: Stages) -> None:
    needs_root()
    machine = stages.at("roomy")
    large = tar.tar(tar.file(b"large", random.Random(3).randbytes(16 << 20)))
    machine.s3.put(KEY.value, images.docker_archive((*LAYERS, large)))
    machine.fetch()
    machine.unpack(size_bytes=0)
    facts = unpacked(machine, *LAYERS, large, tar.tar(tar.file(b".wh.large"), tar.file(b"own", b"own")), size_bytes=0)
    assert (facts["fresh_because"], facts["origin_key"]) == (None, KEY.value)
    assert machine.tree_of(base_of(machine)) == TREE
    assert base_of(machine).sectors == base_of(machine, KEY).sectors


def test_key_and_never_make_it_fresh(sealed: Machine) -> None:
    assert unpacked(sealed, *LAYERS, OWN, reuse=Reuse.KEY)["fresh_because"] == "no_earlier_base"
    assert unpacked(sealed, *LAYERS, OWN, key=THIRD, reuse=Reuse.NEVER)["fresh_because"] == "reuse_never"


def test_a_base_that_was_made_of_another_keys_warns_of_key(sealed: Machine) -> None:
    unpacked(sealed, *LAYERS, OWN)
    outcome = unpack_other(sealed, reuse=Reuse.KEY)
    assert outcome.changed is False
    assert any(f"which is that of {KEY.value}" in text for text in outcome.facts["warnings"])
    assert not any("reuse" in text for text in unpack_other(sealed).facts["warnings"])


def test_check_mode_writes_nothing_and_predicts_nothing_of_it(sealed: Machine) -> None:
    publish(sealed, *LAYERS, OWN)
    before = sealed.everything()
    facts = unpack_other(sealed, dry_run=True).facts
    assert [facts[name] for name in ("origin", "origin_key", "fresh_because")] == [None] * 3
    assert sealed.everything() == before


def test_the_next_generation_is_made_of_its_own_key(sealed: Machine) -> None:
    first = unpacked(sealed, *LAYERS, OWN)["base"]
    facts = unpacked(sealed, *LAYERS, tar.tar(tar.file(b"own", b"new")))
    assert (facts["origin"], facts["origin_key"]) == (first, OTHER.value)


def test_many_more_files_let_it_grow(sealed: Machine) -> None:
    """Groups that are added to a file system bring inodes."""
    files = tar.tar(*(tar.file(b"f%d" % number) for number in range(5000)))
    before = row_of(sealed).inodes
    facts = unpacked(sealed, *LAYERS, files)
    assert (facts["origin_key"], facts["fresh_because"]) == (KEY.value, None)
    assert row_of(sealed, OTHER).inodes > 5000 > before
    assert facts["size"] > base_of(sealed, KEY).sectors * 512


# Proof

SECRET = tar.tar(tar.file(b"etc/secret", random.Random(1).randbytes(128 << 10)))


@pytest.mark.parametrize("key", [OTHER, KEY])
def test_a_layer_that_the_archive_only_names_is_refused(stages: Stages, key: ObjectKey) -> None:
    """The digest of a layer is no secret. That of the own key is known already, and need not be proven again."""
    needs_root()
    machine = stages.at("roomy")
    machine.s3.put(KEY.value, images.docker_archive((SECRET,)))
    machine.fetch()
    machine.unpack_onto()
    members = images.docker_members((SECRET, OWN))
    [name] = [name for name, content in members.items() if content == SECRET]
    members[name] = tar.tar(tar.file(b"etc/guess", bytes(128 << 10)))
    machine.s3.put(key.value, images.archive(members))
    machine.fetch(key=key)
    if key == KEY:
        assert unpack_other(machine, key=key).facts["origin"] is not None
        return
    with pytest.raises(Untrusted):
        unpack_other(machine)
    assert len(machine.records(Volume)) == 1
    assert machine.left_over() == []


# Removal of the origin


@pytest.mark.parametrize(
    "label",
    [
        *(f"base:{step}" for step in VOLUME_STEPS),
        *(f"unpack:{step}" for step in UNPACK_STEPS if step != "formatted"),
    ],
)
def test_the_origin_may_go_after_a_power_cut_anywhere(sealed: Machine, label: str) -> None:
    publish(sealed, *LAYERS, OWN)
    sealed.killed_at(label, lambda: unpack_other(sealed))
    sealed.remove_all()
    facts = unpack_other(sealed).facts
    assert (facts["fresh_because"], facts["origin"]) == ("no_earlier_base", None)
    assert sealed.tree_of(base_of(sealed)) == TREE
    assert sealed.left_over() == []


def test_it_outlives_the_origin(sealed: Machine) -> None:
    unpacked(sealed, *LAYERS, OWN)
    sealed.remove_image()
    assert sealed.tree_of(base_of(sealed)) == TREE
    assert [row.base_ulid for row in sealed.records(BaseRecord)] == [base_of(sealed).ulid]
    assert sealed.left_over() == []


@pytest.mark.parametrize("is_taken_again", [False, True])
def test_the_origin_goes_between_the_choice_and_the_snapshot(
    sealed: Machine, monkeypatch: pytest.MonkeyPatch, *, is_taken_again: bool
) -> None:
    """Its thin id may be another volume's by then, which must not be taken for it."""
    publish(sealed, *LAYERS, OWN)
    origin = base_of(sealed, KEY)

    def late(*given: Any, **options: Any) -> Volume:
        monkeypatch.undo()
        conftest_replaced(monkeypatch, sealed)
        sealed.remove_image()
        if is_taken_again:
            unpacked(sealed, tar.tar(tar.file(b"stranger", b"s")), key=THIRD, reuse=Reuse.NEVER)
            assert base_of(sealed, THIRD).thin_id == origin.thin_id
        return create_volume(*given, **options)

    monkeypatch.setattr("module_utils._lifecycle.unpack.make_base.create_volume", late)
    facts = unpack_other(sealed).facts
    assert (facts["fresh_because"], facts["origin"]) == ("failed", None)
    assert sealed.tree_of(base_of(sealed)) == TREE
    assert any(line["event"] == "origin not used" and "is being removed" in line["error"] for line in sealed.log())
    assert sealed.left_over() == []


def conftest_replaced(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    from tests.unit._lifecycle.conftest import replace

    replace(monkeypatch, machine)


def test_images_are_as_many_as_before(sealed: Machine) -> None:
    unpacked(sealed, *LAYERS, OWN)
    assert sorted(image.object_key for image in sealed.records(Image)) == [OTHER.value, KEY.value]
    assert os.path.exists(sealed.state / "manifests" / base_of(sealed).ulid)
